"""The dual step of total variation and the divergence in one pass over memory each (numba, both cores)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.backends.pool import available, share

Array = NDArray[Any]

SMALL = 2**14  # pixels that one thread has done before a second one has woken


def fits(*tensors: Tensor | float) -> bool:
    """Whether the kernels can stand in: one real precision, on the CPU, nothing to differentiate."""
    given = [t for t in tensors if isinstance(t, Tensor)]
    graph = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    kinds = {t.dtype for t in given if t.ndim}
    plain = all(t.device.type == "cpu" and not t.is_neg() for t in given)
    return plain and not graph and len(kinds) == 1 and kinds <= {torch.float32, torch.float64}


def dual_step(p: Tensor, x: Tensor, sigma: Tensor, radius: Tensor, slack: Tensor, isotropic: bool) -> Tensor:
    """Q / max(slack, |q| / radius), q = p + sigma ∇x, ∇ in units of one pixel.

    p : (n, 2, ny, nx), x : (n, ny, nx), sigma, radius, slack : (n,); all of one real dtype, on the CPU.
    """
    p, x = p.contiguous(), x.contiguous()
    out = torch.empty_like(p)
    arrays = tuple(t.detach().numpy() for t in (p, x, sigma, radius, slack, out))
    _share_rows(_isotropic if isotropic else _anisotropic, x, *arrays)
    return out


def divergence(p: Tensor, scale: float) -> Tensor:
    """Scale · ∇*p = −scale · div p, ∇ in units of one pixel: (n, 2, ny, nx) -> (n, ny, nx)."""
    p = p.contiguous()
    out = p.new_empty(p.shape[0], *p.shape[2:])
    values = out.numpy()
    _share_rows(_divergence, out, p.detach().numpy(), values.dtype.type(scale), values)
    return out


def _share_rows(step: Callable[..., None], images: Tensor, *arguments: Any) -> None:
    """step(first, last, …) over all rows of all images, in pieces for the threads there are."""
    rows = images.shape[0] * images.shape[1]
    threads = available() if images.numel() > SMALL else 1
    pieces = 1 if threads == 1 else min(4 * threads, rows)
    share(lambda k: step(k * rows // pieces, (k + 1) * rows // pieces, *arguments), pieces, threads)


row = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})


@row
def _isotropic_row(
    p0: Array, p1: Array, here: Array, below: Array, s: float, r: float, slack: float, q0: Array, q1: Array
) -> None:
    last, least = len(here) - 1, r * slack
    for i in range(last):
        u, v = p0[i] + s * (below[i] - here[i]), p1[i] + s * (here[i + 1] - here[i])
        factor = r / max(np.sqrt(u * u + v * v), least)
        q0[i], q1[i] = u * factor, v * factor
    u, v = p0[last] + s * (below[last] - here[last]), p1[last]
    factor = r / max(np.sqrt(u * u + v * v), least)
    q0[last], q1[last] = u * factor, v * factor


@row
def _anisotropic_row(
    p0: Array, p1: Array, here: Array, below: Array, s: float, r: float, slack: float, q0: Array, q1: Array
) -> None:
    last, inverse = len(here) - 1, 1 / slack
    for i in range(last):
        u, v = p0[i] + s * (below[i] - here[i]), p1[i] + s * (here[i + 1] - here[i])
        q0[i], q1[i] = min(max(inverse * u, -r), r), min(max(inverse * v, -r), r)
    u, v = p0[last] + s * (below[last] - here[last]), p1[last]
    q0[last], q1[last] = min(max(inverse * u, -r), r), min(max(inverse * v, -r), r)


@row
def _divergence_row(
    above: Array, here: Array, across: Array, up: float, down: float, scale: float, out: Array
) -> None:
    last = len(here) - 1
    for i in range(1, last):
        out[i] = up * above[i] - down * here[i] + scale * (across[i - 1] - across[i])
    out[0] = up * above[0] - down * here[0]
    if last:
        out[0] -= scale * across[0]
        out[last] = up * above[last] - down * here[last] + scale * across[last - 1]


@row
def _isotropic(
    first: int, last: int, p: Array, x: Array, sigma: Array, radius: Array, slack: Array, out: Array
) -> None:
    ny = x.shape[1]
    for k in range(first, last):
        b, j = k // ny, k % ny
        _isotropic_row(
            p[b, 0, j], p[b, 1, j], x[b, j], x[b, min(j + 1, ny - 1)],
            sigma[b], radius[b], slack[b], out[b, 0, j], out[b, 1, j],
        )  # fmt: skip


@row
def _anisotropic(
    first: int, last: int, p: Array, x: Array, sigma: Array, radius: Array, slack: Array, out: Array
) -> None:
    ny = x.shape[1]
    for k in range(first, last):
        b, j = k // ny, k % ny
        _anisotropic_row(
            p[b, 0, j], p[b, 1, j], x[b, j], x[b, min(j + 1, ny - 1)],
            sigma[b], radius[b], slack[b], out[b, 0, j], out[b, 1, j],
        )  # fmt: skip


@row
def _divergence(first: int, last: int, p: Array, scale: float, out: Array) -> None:
    ny = out.shape[1]
    for k in range(first, last):
        b, j = k // ny, k % ny
        up, down = scale * (j > 0), scale * (j < ny - 1)
        _divergence_row(p[b, 0, max(j - 1, 0)], p[b, 0, j], p[b, 1, j], up, down, scale, out[b, j])
