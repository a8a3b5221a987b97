"""The dual step of total variation of volumes and the divergence in one pass over memory each, as in `tv`."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.backends.pool import available, share

from .tv import SMALL, row

Array = NDArray[Any]


def dual_step(
    p: Tensor,
    x: Tensor,
    sigma: Tensor,
    radius: Tensor,
    slack: Tensor,
    spacing: tuple[float, ...],
    isotropic: bool,
) -> Tensor:
    """Q / max(slack, |q| / radius), q = p + sigma ∇x.

    p : (n, 3, nz, ny, nx), x : (n, nz, ny, nx), sigma, radius, slack : (n,); one real dtype, on the CPU.
    """
    p, x = p.contiguous(), x.contiguous()
    out = torch.empty_like(p)
    scale = torch.tensor([1 / h for h in spacing], dtype=p.dtype).numpy()
    arrays = tuple(t.detach().numpy() for t in (p, x, sigma, radius, slack, out))
    _share_rows(_dual, x, *arrays, scale, isotropic)
    return out


def divergence(p: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """∇*p = −div p: (n, 3, nz, ny, nx) -> (n, nz, ny, nx)."""
    p = p.contiguous()
    out = p.new_empty(p.shape[0], *p.shape[2:])
    scale = torch.tensor([1 / h for h in spacing], dtype=p.dtype).numpy()
    _share_rows(_divergence, out, p.detach().numpy(), scale, out.numpy())
    return out


def _share_rows(step: Any, volumes: Tensor, *arguments: Any) -> None:
    """step(first, last, …) over all rows of all volumes, in pieces for the threads there are."""
    rows = volumes.shape[0] * volumes.shape[1] * volumes.shape[2]
    threads = available() if volumes.numel() > SMALL else 1
    pieces = 1 if threads == 1 else min(4 * threads, rows)
    share(lambda k: step(k * rows // pieces, (k + 1) * rows // pieces, *arguments), pieces, threads)


@row
def _isotropic_row(
    p: tuple[Array, Array, Array],
    x: tuple[Array, Array, Array],
    steps: tuple[float, float, float],
    r: float,
    least: float,
    q: tuple[Array, Array, Array],
) -> None:
    (p0, p1, p2), (here, above, below), (s0, s1, s2), (q0, q1, q2) = p, x, steps, q
    last = len(here) - 1
    for i in range(last + 1):
        u, v, w = p0[i] + s0 * (above[i] - here[i]), p1[i] + s1 * (below[i] - here[i]), p2[i]
        if i < last:
            w += s2 * (here[i + 1] - here[i])
        factor = r / max((u * u + v * v + w * w) ** 0.5, least)
        q0[i], q1[i], q2[i] = u * factor, v * factor, w * factor


@row
def _anisotropic_row(
    p: tuple[Array, Array, Array],
    x: tuple[Array, Array, Array],
    steps: tuple[float, float, float],
    r: float,
    inverse: float,
    q: tuple[Array, Array, Array],
) -> None:
    (p0, p1, p2), (here, above, below), (s0, s1, s2), (q0, q1, q2) = p, x, steps, q
    last = len(here) - 1
    for i in range(last + 1):
        u, v, w = p0[i] + s0 * (above[i] - here[i]), p1[i] + s1 * (below[i] - here[i]), p2[i]
        if i < last:
            w += s2 * (here[i + 1] - here[i])
        q0[i], q1[i] = min(max(inverse * u, -r), r), min(max(inverse * v, -r), r)
        q2[i] = min(max(inverse * w, -r), r)


@row
def _dual(
    first: int,
    last: int,
    p: Array,
    x: Array,
    sigma: Array,
    radius: Array,
    slack: Array,
    out: Array,
    scale: Array,
    isotropic: bool,
) -> None:
    nz, ny = x.shape[1:3]
    for k in range(first, last):
        b, j, i = k // (nz * ny), k // ny % nz, k % ny
        rows = x[b, j, i], x[b, min(j + 1, nz - 1), i], x[b, j, min(i + 1, ny - 1)]
        steps = sigma[b] * scale[0], sigma[b] * scale[1], sigma[b] * scale[2]
        old = p[b, 0, j, i], p[b, 1, j, i], p[b, 2, j, i]
        new = out[b, 0, j, i], out[b, 1, j, i], out[b, 2, j, i]
        if isotropic:
            _isotropic_row(old, rows, steps, radius[b], radius[b] * slack[b], new)
        else:
            _anisotropic_row(old, rows, steps, radius[b], 1 / slack[b], new)


@row
def _divergence(first: int, last: int, p: Array, scale: Array, out: Array) -> None:
    nz, ny, nx = out.shape[1:]
    for k in range(first, last):
        b, j, i = k // (nz * ny), k // ny % nz, k % ny
        below, deep = scale[0] * (j > 0), scale[0] * (j < nz - 1)
        above, down = scale[1] * (i > 0), scale[1] * (i < ny - 1)
        p0, p1 = p[b, 0, j, i], p[b, 1, j, i]
        before0, before1, p2 = p[b, 0, max(j - 1, 0), i], p[b, 1, j, max(i - 1, 0)], p[b, 2, j, i]
        target = out[b, j, i]
        for c in range(nx):
            target[c] = below * before0[c] - deep * p0[c] + above * before1[c] - down * p1[c]
        for c in range(1, nx):
            target[c] += scale[2] * p2[c - 1]
        for c in range(nx - 1):
            target[c] -= scale[2] * p2[c]
