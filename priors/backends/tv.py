"""Total variation in one pass over memory each: dual step, divergence (numba, both cores).

Images of any number of axes, real or complex; complex ones are pairs of real numbers along the last axis,
`width` is 2 then. Arrays are (images, lines, numbers of a line), duals (images, directions, lines, numbers).
A row stays in the first cache from its differences to its projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numba import njit
from torch import Tensor

from operators.backends.fused import Array, empty, reals, row, share_rows
from operators.gradient import BOUNDARIES
from operators.tensors import real_dtype


def dual_step(
    p: Tensor,
    x: Tensor,
    sigma: Tensor,
    radius: Tensor,
    slack: Tensor,
    spacing: tuple[float, ...],
    boundary: str,
    isotropic: bool,
    joint: bool,
) -> Tensor:
    """Q / max(slack, |q| / radius), q = p + sigma ∇x.

    p : (n, D, n₁, …, n_D), x : (n, n₁, …, n_D), both real or both complex; sigma, radius, slack : (n,), real;
    all of one precision, on the CPU.
    """
    shape, width = tuple(x.shape[1:]), 2 if x.is_complex() else 1
    out = empty(p.shape, p.dtype)
    lines, numbers = math.prod(shape[:-1]), shape[-1] * width
    flat_x = reals(x).reshape(-1, lines, numbers)
    flat_p, flat_out = (v.reshape(-1, len(shape), lines, numbers) for v in (reals(p), reals(out)))
    scale = np.array([1 / h for h in spacing], dtype=flat_x.dtype)
    each = tuple(t.detach().numpy() for t in (sigma, radius, slack))
    edge, pairs = BOUNDARIES.index(boundary), width == 2 and joint
    plane = isotropic and len(shape) == 2 and (pairs or width == 1)
    if plane and boundary == "zero":
        flat_x = np.pad(flat_x, ((0, 0), (0, 1), (0, 0)))
    work, arrays = (len(x) * lines, flat_x.size), (flat_p, flat_x, *each, flat_out, scale)
    if plane:
        share_rows(_plane_of_pairs if pairs else _plane_of_reals, *work, *arrays, edge)
    else:
        share_rows(_dual, *work, *arrays, _sides(shape), width, edge, isotropic, pairs)
    return out


def divergence(p: Tensor, spacing: tuple[float, ...], boundary: str) -> Tensor:
    """∇*p = −div p: (n, D, n₁, …, n_D) -> (n, n₁, …, n_D)."""
    shape, width = tuple(p.shape[2:]), 2 if p.is_complex() else 1
    out = empty((len(p), *shape), p.dtype)
    lines, numbers = math.prod(shape[:-1]), shape[-1] * width
    flat_p, flat_out = (
        reals(p).reshape(-1, len(shape), lines, numbers),
        reals(out).reshape(-1, lines, numbers),
    )
    scale = np.array([1 / h for h in spacing], dtype=flat_out.dtype)
    share_rows(
        _divergence, len(p) * lines, flat_out.size,
        flat_p, flat_out, scale, _sides(shape), width, BOUNDARIES.index(boundary),
    )  # fmt: skip
    return out


def _sides(shape: tuple[int, ...]) -> Array:
    """For every axis but the last: how many lines it has, and how many lines lie between neighbours."""
    apart = [math.prod(shape[d + 1 : -1]) for d in range(len(shape) - 1)]
    return np.array([shape[:-1], apart], dtype=np.int64).reshape(2, -1)


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
    sides: Array,
    width: int,
    edge: int,
    isotropic: bool,
    pairs: bool,
) -> None:
    lines, numbers = x.shape[1:]
    axes = len(scale)
    zeros, right, factor = np.zeros(numbers, x.dtype), np.empty(numbers, x.dtype), np.empty(numbers, x.dtype)
    for k in range(first, last):
        b, j = k // lines, k % lines
        here, r, least = x[b, j], radius[b], radius[b] * slack[b]
        _shift(here, width, edge, right)
        if isotropic and axes > 1:
            s0, s1 = sigma[b] * scale[0], sigma[b] * scale[1]
            p0, t0 = p[b, 0, j], _neighbour(x[b], j, sides, 0, edge, zeros, right)
            p1, t1 = p[b, 1, j], _neighbour(x[b], j, sides, 1, edge, zeros, right)
            if axes == 2:
                _factor_of_two(p0, p1, here, t0, t1, s0, s1, r, least, factor)
            else:
                s2 = sigma[b] * scale[2]
                p2, t2 = p[b, 2, j], _neighbour(x[b], j, sides, 2, edge, zeros, right)
                if pairs:
                    _factor_of_three_pairs(p0, p1, p2, here, t0, t1, t2, s0, s1, s2, r, least, factor)
                else:
                    _factor_of_three(p0, p1, p2, here, t0, t1, t2, s0, s1, s2, r, least, factor)
                _project(p2, here, t2, s2, factor, out[b, 2, j])
            _project(p0, here, t0, s0, factor, out[b, 0, j])
            _project(p1, here, t1, s1, factor, out[b, 1, j])
            continue
        for d in range(axes):
            there, s = _neighbour(x[b], j, sides, d, edge, zeros, right), sigma[b] * scale[d]
            if pairs:
                _factor_of_pairs(p[b, d, j], here, there, s, r, least, factor)
                _project(p[b, d, j], here, there, s, factor, out[b, d, j])
            else:
                _clip(p[b, d, j], here, there, s, r, 1 / slack[b], out[b, d, j])


@row
def _shift(here: Array, width: int, edge: int, right: Array) -> None:
    """The next pixel of every one, along the line."""
    inside, there = len(here) - width, here[width:]  # numba doubts the sign of i + width, and stays slow
    for i in range(inside):
        right[i] = there[i]
    for c in range(width):
        right[inside + c] = here[inside + c] if edge == 0 else here[c] if edge == 1 else 0 * here[c]


@row
def _neighbour(x: Array, j: int, sides: Array, d: int, edge: int, zeros: Array, right: Array) -> Array:
    """The next line after line j along axis d."""
    if d == sides.shape[1]:
        return right
    n, apart = sides[0, d], sides[1, d]
    if j // apart % n < n - 1:
        return x[j + apart]
    return x[j] if edge == 0 else x[j - (n - 1) * apart] if edge == 1 else zeros


# LLVM forms vectors by itself only where few arrays are written: one, in each of these


@row
def _two(
    p0: Array, p1: Array, here: Array, below: Array, edge: int, s0: float, s1: float,
    r: float, least: float, q0: Array, q1: Array,
) -> None:  # fmt: skip
    last = len(here) - 1
    for i in range(last):
        u, v = p0[i] + s0 * (below[i] - here[i]), p1[i] + s1 * (here[i + 1] - here[i])
        factor = r / max(np.sqrt(u * u + v * v), least)
        q0[i], q1[i] = u * factor, v * factor
    beyond = here[last] if edge == 0 else here[0] if edge == 1 else s0 - s0
    u, v = p0[last] + s0 * (below[last] - here[last]), p1[last] + s1 * (beyond - here[last])
    factor = r / max(np.sqrt(u * u + v * v), least)
    q0[last], q1[last] = u * factor, v * factor


@row
def _two_pairs(
    p0: Array, p1: Array, here: Array, below: Array, edge: int, s0: float, s1: float,
    r: float, least: float, q0: Array, q1: Array,
) -> None:  # fmt: skip
    last = len(here) // 2 - 1
    for k in range(last):
        i, j = 2 * k, 2 * k + 1
        a, b = p0[i] + s0 * (below[i] - here[i]), p0[j] + s0 * (below[j] - here[j])
        u, v = p1[i] + s1 * (here[i + 2] - here[i]), p1[j] + s1 * (here[j + 2] - here[j])
        factor = r / max(np.sqrt(a * a + b * b + u * u + v * v), least)
        q0[i], q0[j], q1[i], q1[j] = a * factor, b * factor, u * factor, v * factor
    i, j = 2 * last, 2 * last + 1
    x, y = (here[i], here[j]) if edge == 0 else (here[0], here[1]) if edge == 1 else (s0 - s0, s0 - s0)
    a, b = p0[i] + s0 * (below[i] - here[i]), p0[j] + s0 * (below[j] - here[j])
    u, v = p1[i] + s1 * (x - here[i]), p1[j] + s1 * (y - here[j])
    factor = r / max(np.sqrt(a * a + b * b + u * u + v * v), least)
    q0[i], q0[j], q1[i], q1[j] = a * factor, b * factor, u * factor, v * factor


def _plane(step: Callable[..., None]) -> Callable[..., None]:
    """Isotropic, two axes, real or joint. One call, and no choice of arrays: that takes half the time."""

    @row
    def plane(
        first: int, last: int, p: Array, x: Array, sigma: Array, radius: Array, slack: Array, out: Array,
        scale: Array, edge: int,
    ) -> None:  # fmt: skip
        lines = out.shape[2]
        for k in range(first, last):
            b, j = k // lines, k % lines
            below = j + 1 if j < lines - 1 or edge == 2 else j if edge == 0 else 0
            step(
                p[b, 0, j], p[b, 1, j], x[b, j], x[b, below], edge,
                sigma[b] * scale[0], sigma[b] * scale[1], radius[b], radius[b] * slack[b],
                out[b, 0, j], out[b, 1, j],
            )  # fmt: skip

    return plane


_plane_of_reals, _plane_of_pairs = _plane(_two), _plane(_two_pairs)


@row
def _clip(p: Array, here: Array, there: Array, s: float, r: float, inverse: float, q: Array) -> None:
    for i in range(len(here)):
        q[i] = min(max(inverse * (p[i] + s * (there[i] - here[i])), -r), r)


@row
def _project(p: Array, here: Array, there: Array, s: float, factor: Array, q: Array) -> None:
    for i in range(len(here)):
        q[i] = factor[i] * (p[i] + s * (there[i] - here[i]))


@row
def _factor_of_pairs(p: Array, here: Array, there: Array, s: float, r: float, least: float, f: Array) -> None:
    for k in range(len(here) // 2):
        i, j = 2 * k, 2 * k + 1
        u, v = p[i] + s * (there[i] - here[i]), p[j] + s * (there[j] - here[j])
        f[i] = f[j] = r / max(np.sqrt(u * u + v * v), least)


@row
def _factor_of_two(
    p0: Array, p1: Array, here: Array, t0: Array, t1: Array, s0: float, s1: float, r: float, least: float,
    f: Array,
) -> None:  # fmt: skip
    for i in range(len(here)):
        u, v = p0[i] + s0 * (t0[i] - here[i]), p1[i] + s1 * (t1[i] - here[i])
        f[i] = r / max(np.sqrt(u * u + v * v), least)


@row
def _factor_of_three(
    p0: Array, p1: Array, p2: Array, here: Array, t0: Array, t1: Array, t2: Array,
    s0: float, s1: float, s2: float, r: float, least: float, f: Array,
) -> None:  # fmt: skip
    for i in range(len(here)):
        u, v = p0[i] + s0 * (t0[i] - here[i]), p1[i] + s1 * (t1[i] - here[i])
        w = p2[i] + s2 * (t2[i] - here[i])
        f[i] = r / max(np.sqrt(u * u + v * v + w * w), least)


@row
def _factor_of_three_pairs(
    p0: Array, p1: Array, p2: Array, here: Array, t0: Array, t1: Array, t2: Array,
    s0: float, s1: float, s2: float, r: float, least: float, f: Array,
) -> None:  # fmt: skip
    for k in range(len(here) // 2):
        i, j = 2 * k, 2 * k + 1
        a, b = p0[i] + s0 * (t0[i] - here[i]), p0[j] + s0 * (t0[j] - here[j])
        c, d = p1[i] + s1 * (t1[i] - here[i]), p1[j] + s1 * (t1[j] - here[j])
        u, v = p2[i] + s2 * (t2[i] - here[i]), p2[j] + s2 * (t2[j] - here[j])
        f[i] = f[j] = r / max(np.sqrt(a * a + b * b + c * c + d * d + u * u + v * v), least)


@row
def _divergence(
    first: int, last: int, p: Array, out: Array, scale: Array, sides: Array, width: int, edge: int
) -> None:
    lines, axes = out.shape[1], len(scale)
    for k in range(first, last):
        b, j = k // lines, k % lines
        target, along, s = out[b, j], p[b, axes - 1, j], scale[axes - 1]
        if axes == 1:
            _differences(along, along, 0 * s, 0 * s, along, s, width, edge, target)
            continue
        before, up, down = _before(j, sides, 0, scale, edge)
        _differences(p[b, 0, before], p[b, 0, j], up, down, along, s, width, edge, target)
        if axes == 3:
            before, up, down = _before(j, sides, 1, scale, edge)
            _add_difference(p[b, 1, before], p[b, 1, j], up, down, target)


@row
def _before(j: int, sides: Array, d: int, scale: Array, edge: int) -> tuple[int, float, float]:
    """The line before line j along axis d, and what weights that one and line j have."""
    n, apart = sides[0, d], sides[1, d]
    at, s = j // apart % n, scale[d]
    before = j - apart if at > 0 else j + (n - 1) * apart
    return before, s if at > 0 or edge == 1 else 0 * s, s if at < n - 1 or edge > 0 else 0 * s


@row
def _differences(
    above: Array,
    here: Array,
    up: float,
    down: float,
    along: Array,
    s: float,
    width: int,
    edge: int,
    out: Array,
) -> None:
    """Across the line, up · above − down · here, and along it, s · (the one before − this one)."""
    inside = len(out) - width
    a, h, this, target = above[width:], here[width:], along[width:], out[width:]
    for i in range(inside - width):
        target[i] = up * a[i] - down * h[i] + s * (along[i] - this[i])
    for c in range(width):
        i, far = inside + c, s if edge > 0 else 0 * s
        if inside:
            out[c] = up * above[c] - down * here[c] - s * along[c]
            out[i] = up * above[i] - down * here[i] + s * along[i - width] - far * along[i]
        else:
            out[c] = up * above[c] - down * here[c] - far * along[c]
        if edge == 1:
            out[c] += s * along[i]


@row
def _add_difference(above: Array, here: Array, up: float, down: float, out: Array) -> None:
    for i in range(len(out)):
        out[i] += up * above[i] - down * here[i]


def turn(q: Tensor, p: Tensor, old: Tensor) -> Tensor:
    """Re⟨q − p, p − old⟩ per image, all (n, …) -> (n,): whether p moves back from where momentum led it."""
    lines = math.prod(p.shape[1:-1])
    arrays = tuple(reals(v).reshape(len(p), lines, -1) for v in (q, p, old))
    sums = np.zeros((len(p), lines))
    share_rows(_turn, len(p) * lines, arrays[0].size, *arrays, sums)
    return torch.from_numpy(sums.sum(1)).to(real_dtype(p))


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _turn(first: int, last: int, q: Array, p: Array, old: Array, sums: Array) -> None:
    lines = p.shape[1]
    for k in range(first, last):
        b, j = k // lines, k % lines
        here, there, before, total = p[b, j], q[b, j], old[b, j], 0 * p[0, 0, 0]
        for i in range(len(here)):
            total += (there[i] - here[i]) * (here[i] - before[i])
        sums[b, j] = total
