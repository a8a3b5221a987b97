"""Denoising by total variation, two-dimensional: a whole iteration in one pass over memory (numba).

Fast gradient projection keeps p, the p before it and the noisy image; everything else, q = p + β(p − old),
z = noisy − ∇*q, the step and its length, lives for two rows, in the first cache. The new p overwrites the old
one. Complex images are two planes, so that no kernel shuffles pairs:

    noisy : (images, rows, planes, columns)
    p, old : (images, rows, directions · planes, columns), all that belongs to a row side by side

A block is some rows of one image. What its first and last row need of its neighbours is copied, its halo,
before any block overwrites anything.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from operators.backends.fused import SMALL, Array, empty, reals, row, share_rows
from operators.backends.pool import available, share
from operators.gradient import BOUNDARIES

BLOCK = 16  # rows, of which two are computed twice

sums = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


class Dual:
    """The dual problem of argmin_z ½‖z − noisy‖² + radius · Σ h_δ(|∇z|), noisy = x − mean, and its iterates.

    x       : (n, ny, nx), real or complex, on the CPU
    mean    : (n,), of the dtype of x
    radius  : (n,), real; the dual lives in balls of it
    slack   : (n,), real: 1 + sigma δ / radius
    sigma   : step of the dual
    spacing : (hy, hx)
    delta   : where Huber's h_δ becomes straight; 0 gives |∇z|
    """

    def __init__(
        self,
        x: Tensor,
        mean: Tensor,
        radius: Tensor,
        slack: Tensor,
        sigma: float,
        spacing: tuple[float, ...],
        boundary: str,
        joint: bool,
        delta: float,
    ):
        n, ny, nx = x.shape
        planes = 2 if x.is_complex() else 1
        self.dtype, self.shape = x.dtype, (n, ny, nx)
        self.mean = reals(mean).reshape(n, planes)
        self.noisy = empty((n, ny, planes, nx), radius.dtype).numpy()
        self.rows = np.zeros((n, ny, 3))
        real = self.noisy.dtype.type
        self.scale = np.array([1 / h for h in spacing], dtype=real)
        self.sigma, self.edge, self.joint = real(sigma), BOUNDARIES.index(boundary), joint or planes == 1
        self.radius, self.slack = radius.numpy(), slack.numpy()
        self.huber = np.array([delta, delta / 2, 0.5 / delta if delta else 0.0], dtype=real)
        self.p, self.old = (np.zeros((n, ny, 2 * planes, nx), dtype=real) for _ in range(2))
        self.t, self.beta = np.ones(n), np.zeros(n, dtype=real)
        self.clean = empty(self.shape, x.dtype)
        flat = reals(x).reshape(n, ny, nx * planes)
        share_rows(_centre, n * ny, flat.size, flat, self.mean, self.noisy, self.rows)

    def size(self) -> tuple[Tensor, Tensor]:
        """Σ|noisy| and ‖noisy‖² of every image."""
        values = torch.from_numpy(self.rows.sum(1))
        return values[:, 0], values[:, 1]

    def iterate(self, images: Tensor, times: int) -> None:
        """So many iterations of these images, each with its own momentum."""
        chosen, ny = images.numpy(), self.shape[1]
        threads = available() if len(chosen) * ny * self.shape[2] > SMALL else 1
        fixed = (
            self.noisy, self.sigma, self.radius, self.slack, self.scale,
            self.edge, self.joint, self.t, self.beta, self.rows,
        )  # fmt: skip
        blocks = 1
        if threads > 1 and (len(chosen) < 4 * threads and len(chosen) % threads):
            blocks = max(min(4 * threads, ny // BLOCK), 1)
        halos = np.empty((len(chosen), blocks, 2, *self.p.shape[2:]), self.p.dtype)
        rounds, each = (1, times) if blocks == 1 else (times, 1)
        for _ in range(rounds):
            arrays = chosen, each, blocks, halos, self.p, self.old, *fixed
            if blocks == 1:  # a thread stays with its image
                share(lambda k, arrays=arrays: _images(k, *arrays), len(chosen), threads)  # type: ignore[misc]
            else:
                for k in range(len(chosen)):
                    _halos(chosen[k], blocks, halos[k], self.p, self.old, self.beta, self.edge)
                share(lambda k, arrays=arrays: _block(k, *arrays), len(chosen) * blocks, threads)  # type: ignore[misc]
                for b in chosen:
                    _momentum(b, self.t, self.beta, self.rows)
            if each % 2:
                self.p, self.old = self.old, self.p

    def gap(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z = noisy − ∇*p of these images goes to `clean`; of every one Σ h_δ(|∇z|), Re⟨p, ∇z⟩ and ‖p‖²."""
        chosen, (_, ny, nx) = images.numpy(), self.shape
        planes = self.noisy.shape[2]
        clean = reals(self.clean).reshape(-1, ny, planes * nx)
        share_rows(
            _certify, len(chosen) * ny, len(chosen) * ny * nx,
            chosen, self.p, self.noisy, self.mean, clean, self.scale, self.edge, self.joint, self.huber,
            self.rows,
        )  # fmt: skip
        slopes, products, lengths = torch.from_numpy(self.rows[chosen].sum(1)).unbind(-1)
        return slopes, products, lengths


@sums
def _centre(first: int, last: int, x: Array, mean: Array, noisy: Array, rows: Array) -> None:
    ny, planes, nx = noisy.shape[1:]
    zero = mean[0, 0] - mean[0, 0]  # of the precision of all
    for k in range(first, last):
        b, j = k // ny, k % ny
        here, real, m, length, squares = x[b, j], noisy[b, j, 0], mean[b, 0], zero, zero
        if planes == 1:
            for i in range(nx):
                a = here[i] - m
                real[i] = a
                length += abs(a)
                squares += a * a
        else:
            imaginary, im = noisy[b, j, 1], mean[b, 1]
            for i in range(nx):
                a, c = here[2 * i] - m, here[2 * i + 1] - im
                real[i], imaginary[i] = a, c
                length += np.sqrt(a * a + c * c)
                squares += a * a + c * c
        rows[b, j, 0], rows[b, j, 1] = length, squares


@row
def _ahead(p: Array, old: Array, beta: float, edge: int, q: Array) -> None:
    """Q = p + β(p − old) of a row; q[:, 0] is what lies before the first column."""
    n = p.shape[1]
    for d in range(len(p)):
        now, before, target = p[d], old[d], q[d, 1:]
        for i in range(n):
            target[i] = now[i] + beta * (now[i] - before[i])
        q[d, 0] = target[n - 1] if edge == 1 else 0 * target[0]


@row
def _image(noisy: Array, above: Array, q: Array, s0: float, s1: float, edge: int, z: Array) -> None:
    """Z = noisy − ∇*q of a row; z[:, n] is what lies beyond the last column."""
    planes, n = noisy.shape
    for c in range(planes):
        source, up, down, along, target = noisy[c], above[c, 1:], q[c, 1:], q[planes + c], z[c]
        for i in range(n):
            target[i] = source[i] - s0 * (up[i] - down[i]) - s1 * (along[i] - along[i + 1])
        target[n] = target[n - 1] if edge == 0 else target[0] if edge == 1 else 0 * target[0]


@row
def _lengths(
    q0: Array, q1: Array, z: Array, below: Array, s0: float, s1: float, r: float, least: float, f: Array
) -> None:
    for i in range(len(f)):
        u, v = q0[i] + s0 * (below[i] - z[i]), q1[i] + s1 * (z[i + 1] - z[i])
        f[i] = r / max(np.sqrt(u * u + v * v), least)


@row
def _squares(q0: Array, q1: Array, z: Array, below: Array, s0: float, s1: float, f: Array) -> None:
    for i in range(len(f)):
        u, v = q0[i] + s0 * (below[i] - z[i]), q1[i] + s1 * (z[i + 1] - z[i])
        f[i] = u * u + v * v


@row
def _joint_lengths(
    q0: Array, q1: Array, z: Array, below: Array, s0: float, s1: float, r: float, least: float, f: Array
) -> None:
    for i in range(len(f)):
        u, v = q0[i] + s0 * (below[i] - z[i]), q1[i] + s1 * (z[i + 1] - z[i])
        f[i] = r / max(np.sqrt(f[i] + (u * u + v * v)), least)


@sums
def _project(q: Array, f: Array, z: Array, there: Array, s: float, p: Array, old: Array) -> float:
    """The new p of one direction over the old one; Re⟨q − new, new − p⟩."""
    back = s - s  # 0, of the same precision
    for i in range(len(f)):
        new = f[i] * (q[i] + s * (there[i] - z[i]))
        back += (q[i] - new) * (new - p[i])
        old[i] = new
    return back


@row
def _step(
    q: Array, z: Array, below: Array, s0: float, s1: float, r: float, least: float, joint: bool,
    f: Array, p: Array, old: Array,
) -> float:  # fmt: skip
    """The dual step of a row, written over `old`; Re⟨q − new, new − p⟩."""
    planes, n, back = len(z), len(f), 0.0
    if planes == 2 and joint:
        _squares(q[0, 1:], q[2, 1:], z[0], below[0], s0, s1, f)
        _joint_lengths(q[1, 1:], q[3, 1:], z[1], below[1], s0, s1, r, least, f)
    for c in range(planes):
        if planes == 1 or not joint:
            _lengths(q[c, 1:], q[planes + c, 1:], z[c], below[c], s0, s1, r, least, f)
        d = planes + c
        back += _project(q[c, 1:], f, z[c, :n], below[c, :n], s0, p[c], old[c])
        back += _project(q[d, 1:], f, z[c, :n], z[c, 1:], s1, p[d], old[d])
    return back


@row
def _sweep(
    b: int, first: int, last: int, halo: Array, p: Array, old: Array, noisy: Array, sigma: float,
    radius: Array, slack: Array, scale: Array, edge: int, joint: bool, beta: Array, rows: Array,
) -> None:  # fmt: skip
    """One iteration of the rows first … last − 1 of image b; halo is q of the row before and after."""
    ny, planes, n = noisy.shape[1:]
    s0, s1, r, m = scale[0], scale[1], radius[b], beta[b]
    t0, t1, least = sigma * s0, sigma * s1, radius[b] * slack[b]
    here, there = np.empty((2 * planes, n + 1), noisy.dtype), np.empty((2 * planes, n + 1), noisy.dtype)
    z, below = np.empty((planes, n + 1), noisy.dtype), np.empty((planes, n + 1), noisy.dtype)
    f = np.empty(n, noisy.dtype)
    _ahead(halo[0], halo[0], m, edge, there)
    _ahead(p[b, first], old[b, first], m, edge, here)
    _image(noisy[b, first], there, here, s0, s1, edge, z)
    for j in range(first, last):
        if j < last - 1:
            _ahead(p[b, j + 1], old[b, j + 1], m, edge, there)
        else:
            _ahead(halo[1], halo[1], m, edge, there)
        if j < ny - 1 or edge == 1:
            _image(noisy[b, (j + 1) % ny], here, there, s0, s1, edge, below)
        elif edge == 0:
            below[:] = z
        else:
            below[:] = 0
        rows[b, j, 0] = _step(here, z, below, t0, t1, r, least, joint, f, p[b, j], old[b, j])
        here, there, z, below = there, here, below, z


@row
def _halo(b: int, first: int, last: int, halo: Array, p: Array, old: Array, m: float, edge: int) -> None:
    ny = p.shape[1]
    inside = first > 0 or edge == 1
    before, after = (first - 1) % ny, last % ny
    for d in range(p.shape[2]):
        a, c, e, g = p[b, before, d], old[b, before, d], p[b, after, d], old[b, after, d]
        for i in range(p.shape[3]):
            halo[0, d, i] = a[i] + m * (a[i] - c[i]) if inside else 0 * a[i]
            halo[1, d, i] = e[i] + m * (e[i] - g[i])


@row
def _momentum(b: int, t: Array, beta: Array, rows: Array) -> None:
    """Of the next iteration, begun anew where p moved back from where momentum led it."""
    back = 0.0
    for j in range(rows.shape[1]):
        back += rows[b, j, 0]
    before = 1.0 if back > 0 else t[b]
    t[b] = (1 + np.sqrt(1 + 4 * before * before)) / 2
    beta[b] = (before - 1) / t[b]


@row
def _images(
    k: int, chosen: Array, times: int, blocks: int, halos: Array, p: Array, old: Array, noisy: Array,
    sigma: float, radius: Array, slack: Array, scale: Array, edge: int, joint: bool,
    t: Array, beta: Array, rows: Array,
) -> None:  # fmt: skip
    b, halo, ny = chosen[k], halos[k, 0], p.shape[1]
    for _ in range(times):
        _halo(b, 0, ny, halo, p, old, beta[b], edge)
        _sweep(
            b, 0, ny, halo, p, old, noisy, sigma, radius, slack, scale, edge, joint, beta, rows,
        )  # fmt: skip
        _momentum(b, t, beta, rows)
        p, old = old, p


@row
def _halos(b: int, blocks: int, halos: Array, p: Array, old: Array, beta: Array, edge: int) -> None:
    ny = p.shape[1]
    for k in range(blocks):
        _halo(b, k * ny // blocks, (k + 1) * ny // blocks, halos[k], p, old, beta[b], edge)


@row
def _block(
    k: int, chosen: Array, times: int, blocks: int, halos: Array, p: Array, old: Array, noisy: Array,
    sigma: float, radius: Array, slack: Array, scale: Array, edge: int, joint: bool,
    t: Array, beta: Array, rows: Array,
) -> None:  # fmt: skip
    a, k, ny = k // blocks, k % blocks, p.shape[1]
    first, last = k * ny // blocks, (k + 1) * ny // blocks
    _sweep(
        chosen[a], first, last, halos[a, k], p, old, noisy, sigma, radius, slack, scale, edge, joint,
        beta, rows,
    )  # fmt: skip


@row
def _row(b: int, j: int, p: Array, noisy: Array, s0: float, s1: float, edge: int, z: Array) -> None:
    """Z = noisy − ∇*p of row j."""
    ny, planes, n = noisy.shape[1:]
    above, here = p[b, (j - 1) % ny], p[b, j]
    s = s0 if j > 0 or edge == 1 else 0 * s0
    for c in range(planes):
        source, up, down, along, target = noisy[b, j, c], above[c], here[c], here[planes + c], z[c]
        for i in range(1, n):
            target[i] = source[i] - (s * up[i] - s0 * down[i]) - s1 * (along[i - 1] - along[i])
        before = along[n - 1] if edge == 1 else 0 * s
        target[0] = source[0] - (s * up[0] - s0 * down[0]) - s1 * (before - along[0])
        target[n] = target[n - 1] if edge == 0 else target[0] if edge == 1 else 0 * s


@sums
def _certificate(
    p: Array, z: Array, below: Array, s0: float, s1: float, joint: bool, huber: Array, row: Array
) -> None:
    """Σ h_δ(|∇z|), Re⟨p, ∇z⟩, ‖p‖² of a row."""
    planes, n = len(z), p.shape[1]
    slope, product, square, nothing = s0 - s0, s0 - s0, s0 - s0, s0 - s0
    delta, half, inverse = huber[0], huber[1], huber[2]
    if planes == 2 and joint:
        q0, q1, q2, q3, x, y, xb, yb = p[0], p[1], p[2], p[3], z[0], z[1], below[0], below[1]
        for i in range(n):
            a, b = s0 * (xb[i] - x[i]), s0 * (yb[i] - y[i])
            u, v = s1 * (x[i + 1] - x[i]), s1 * (y[i + 1] - y[i])
            t = np.sqrt(a * a + b * b + u * u + v * v)
            bend = max(delta - t, nothing)
            slope += t - half + inverse * (bend * bend)
            product += a * q0[i] + b * q1[i] + u * q2[i] + v * q3[i]
            square += q0[i] * q0[i] + q1[i] * q1[i] + q2[i] * q2[i] + q3[i] * q3[i]
    else:
        for c in range(planes):
            q0, q1, x, xb = p[c], p[planes + c], z[c], below[c]
            for i in range(n):
                u, v = s0 * (xb[i] - x[i]), s1 * (x[i + 1] - x[i])
                t = np.sqrt(u * u + v * v)
                bend = max(delta - t, nothing)
                slope += t - half + inverse * (bend * bend)
                product += u * q0[i] + v * q1[i]
                square += q0[i] * q0[i] + q1[i] * q1[i]
    row[0], row[1], row[2] = slope, product, square


@row
def _certify(
    first: int, last: int, chosen: Array, p: Array, noisy: Array, mean: Array, clean: Array,
    scale: Array, edge: int, joint: bool, huber: Array, rows: Array,
) -> None:  # fmt: skip
    ny, planes, n = noisy.shape[1:]
    s0, s1 = scale[0], scale[1]
    z, below = np.empty((planes, n + 1), noisy.dtype), np.empty((planes, n + 1), noisy.dtype)
    fresh = True
    for k in range(first, last):
        b, j = chosen[k // ny], k % ny
        if fresh or j == 0:
            _row(b, j, p, noisy, s0, s1, edge, z)
            fresh = False
        if j < ny - 1 or edge == 1:
            _row(b, (j + 1) % ny, p, noisy, s0, s1, edge, below)
        elif edge == 0:
            below[:] = z
        else:
            below[:] = 0
        _certificate(p[b, j], z, below, s0, s1, joint, huber, rows[b, j])
        target, real, m = clean[b, j], z[0], mean[b, 0]
        if planes == 1:
            for i in range(n):
                target[i] = real[i] + m
        else:
            imaginary, im = z[1], mean[b, 1]
            for i in range(n):
                target[2 * i], target[2 * i + 1] = real[i] + m, imaginary[i] + im
        z, below = below, z
