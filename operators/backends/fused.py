"""When kernels that make one pass over memory can stand in for torch, and how they share rows (numba)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..tensors import real_dtype
from .pool import available, share

Array = NDArray[Any]

REUSED = 2**25  # bytes: what is larger, malloc gives back to the system and asks for anew, page by page
NUMPY = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
}

SMALL = 2**14  # numbers that one thread has done before a second one has woken

row = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


def fits(*tensors: Tensor | float) -> bool:
    """Whether kernels can stand in: one precision, real or complex, on the CPU, nothing to differentiate.

    Numbers, and tensors of one, are of every precision.
    """
    given = [t for t in tensors if isinstance(t, Tensor)]
    graph = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    precisions = {real_dtype(t) for t in given if t.ndim}
    here = all(t.device.type == "cpu" for t in given)
    return here and not graph and len(precisions) == 1 and precisions <= {torch.float32, torch.float64}


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A new tensor; a large one in numpy's memory, which asks for huge pages and comes twice as fast."""
    small = math.prod(shape) * dtype.itemsize <= REUSED
    return torch.empty(shape, dtype=dtype) if small else torch.from_numpy(np.empty(shape, NUMPY[dtype]))


def reals(x: Tensor) -> Array:
    """The memory of x as real numbers, complex ones as pairs along the last axis; a copy if x is a view."""
    x = x.detach().resolve_conj().resolve_neg().contiguous()
    if x.is_complex():
        x = torch.view_as_real(x).flatten(-2)
    return x.numpy()


def share_rows(step: Callable[..., None], rows: int, numbers: int, *arguments: Any) -> None:
    """step(first, last, …) over all rows, in pieces for the threads there are; `numbers` of work in all."""
    threads = available() if numbers > SMALL else 1
    pieces = 1 if threads == 1 else min(4 * threads, rows)
    share(lambda k: step(k * rows // pieces, (k + 1) * rows // pieces, *arguments), pieces, threads)
