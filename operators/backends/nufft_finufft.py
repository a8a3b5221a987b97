"""Non-uniform FFT by FINUFFT on the CPU: plans that are kept, threads that are ours.

Barnett, Magland, af Klinteberg, SIAM J. Sci. Comput. 41 (2019). Types 1 and 2 share kernel and grid here, so
the adjoint is exact to rounding whatever the tolerance.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .pool import available, share

_SPLIT_IMAGE = 1 << 22  # kernel evaluations of one image from which FINUFFT's own threads pay
_SPLIT_BATCH = 1 << 19  # the same of a batch, whose images our threads share
_KEPT = 8  # kinds of plan: direction, precision, images at a time
_IMPORTED_BY = os.getpid()


class Plans:
    """Idle plans of one trajectory. A plan serves one call at a time, whatever thread the call comes from.

    Neither copied nor pickled: the copy makes its own. A forked child makes its own too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[tuple[Any, ...], list[Any]] = {}

    def __reduce__(self) -> tuple[type[Plans], tuple[()]]:
        return Plans, ()

    @contextmanager
    def borrow(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Iterator[Any]:
        with self._lock:
            if len(self._idle) >= _KEPT and key not in self._idle:
                del self._idle[next(iter(self._idle))]
            idle = self._idle.setdefault(key, [])
            plan = idle.pop() if idle else None
        plan = plan or make()
        yield plan
        with self._lock:
            idle.append(plan)

    def clear(self) -> None:
        """Forget all plans: the trajectory changed."""
        with self._lock:
            self._idle = {}


def forward(x: Tensor, points: Tensor, tolerance: float, plans: Plans) -> Tensor:
    """y_j = Σ_r x(r) exp(−i k_j·r); (batch, *spatial) -> (batch, samples), complex, contiguous."""
    y = x.new_empty(len(x), len(points))
    _execute(2, x, y, points, tuple(x.shape[1:]), tolerance, plans)
    return y


def adjoint(y: Tensor, points: Tensor, spatial: tuple[int, ...], tolerance: float, plans: Plans) -> Tensor:
    """x(r) = Σ_j y_j exp(i k_j·r); (batch, samples) -> (batch, *spatial), complex, contiguous."""
    x = y.new_empty(len(y), *spatial)
    _execute(1, y, x, points, spatial, tolerance, plans)
    return x


def _execute(
    kind: int,
    given: Tensor,
    out: Tensor,
    points: Tensor,
    spatial: tuple[int, ...],
    tolerance: float,
    plans: Plans,
) -> None:
    single = given.dtype == torch.complex64
    eps, upsampling = _accuracy(tolerance, single, len(points), spatial)
    work = len(points) * _width(eps, upsampling) ** len(spatial)
    threads = available() if len(given) * work >= _SPLIT_BATCH else 1
    each = max(1, threads // len(given)) if work >= _SPLIT_IMAGE and not _forked() else 1
    threads = min(threads, each * len(given))
    # one plan for the whole batch, or images that the threads take as they come
    together = len(given) if threads == 1 else 1
    source, target = given.detach().numpy(), out.numpy()

    def make() -> Any:
        import finufft

        options = {"nthreads": each, "upsampfac": upsampling}
        name = "complex64" if single else "complex128"
        plan = finufft.Plan(kind, spatial, together, eps, -1 if kind == 2 else 1, name, **options)
        plan.setpts(*_axes(points, single))
        return plan

    def one(k: int) -> None:
        part = k if together == 1 else slice(None)
        with plans.borrow((kind, single, each, together, os.getpid()), make) as plan:
            plan.execute(source[part], out=target[part])

    share(one, len(given) // together, threads // each)


def _accuracy(tolerance: float, single: bool, samples: int, spatial: tuple[int, ...]) -> tuple[float, float]:
    """What to ask FINUFFT for, and its upsampling, so that the error is at most the tolerance.

    Measured over 1e-1 to 1e-12: with upsampling 2 and a power of ten the error is up to 0.75 (2-D) or 1.03
    (3-D) of what was asked for, in between up to 1.8. With 1.25 it is up to 1.8, and the smallest tolerances
    are out of reach; its smaller grid is up to twice as fast as long as the grid counts, not the wider kernel
    at many samples. Both directions must take the same.
    """
    dense = samples > (3 if len(spatial) == 2 else 1) * math.prod(spatial)
    if tolerance >= (5e-5 if single else 1e-8) and not dense:
        return tolerance / 2, 1.25
    return attainable(tolerance, single, len(spatial)), 2.0


def attainable(tolerance: float, single: bool, ndim: int) -> float:
    """The power of ten to ask for; FINUFFT refuses less than 1e-6 in single and 1e-14 in double precision."""
    return 10.0 ** -min(
        max(math.ceil(math.log10((0.8 if ndim == 2 else 1.1) / tolerance)), 1), 6 if single else 14
    )


def _axes(points: Tensor, single: bool) -> list[NDArray[Any]]:
    array = points.detach().cpu().numpy()
    return [np.ascontiguousarray(k, np.float32 if single else np.float64) for k in array.T]


def _width(eps: float, upsampling: float) -> int:
    """Grid points along an axis that a sample touches; Barnett et al., section 3."""
    if upsampling == 2:
        return math.ceil(math.log10(10 / eps))
    return math.ceil(math.log(1 / eps) / (math.pi * math.sqrt(1 - 1 / upsampling)))


def _forked() -> bool:
    """OpenMP's threads do not survive a fork, and a child that asks for them hangs."""
    return os.getpid() != _IMPORTED_BY
