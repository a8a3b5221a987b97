"""Orthonormal periodic wavelets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backends.fused import Array, empty, fits, reals
from .backends.wavelet import analyse, mirror, synthesise
from .base import LinearOperator

NAMES = ("haar", *(f"db{n}" for n in range(1, 9)), "sym4", "sym5", "sym6", "sym8")


class Wavelet(LinearOperator):
    """Orthonormal wavelet transform with periodic edges, along every axis: A* = A⁻¹, ‖A‖ = 1.

    On each axis and level, with the scaling filter h of length L and gⱼ = (−1)ʲ h[L−1−j],

        a[k] = Σⱼ hⱼ x[2k + j + 1 − L/2],   d[k] = Σⱼ gⱼ x[2k + j + 1 − L/2]   (indices modulo n).

    Daubechies, Comm. Pure Appl. Math. 41 (1988); Mallat, IEEE PAMI 11 (1989). The coefficients fill the shape
    of the image: on every axis a in the first half, d in the second, the next level in the corner of the a's.
    The same numbers as PyWavelets' `coeffs_to_array(wavedecn(x, wavelet, mode="periodization"))`.

    Any size will do. Where a side is odd at some level, its last sample goes to the next level as it is,
    among the a's, and the others are transformed: still orthonormal, so 230 × 180 pixels need no padding.
    What lies near the far edge is then less sparse; sides that are multiples of 2**levels have no such edge.
    A side that has become 1 stays.

    Parameters
    ----------
    shape : one image, (ny, nx) or any other number of axes
    wavelet : "haar", "db1" … "db8", "sym4", "sym5", "sym6", "sym8"
    levels : by default at most 4, as long as the last two sides keep 4 averages or every side halves evenly
    ndim : how many of the last axes are transformed, by default all; those before, as frames, are not
    """

    def __init__(
        self, shape: tuple[int, ...], wavelet: str = "db4", levels: int | None = None, ndim: int | None = None
    ):
        super().__init__()
        shape = tuple(shape)
        ndim = len(shape) if ndim is None else ndim
        if not 1 <= ndim <= len(shape):
            raise ValueError(f"Wavelet ndim: expected 1 … {len(shape)} for the shape {shape}, got {ndim}")
        sides = shape[-ndim:]
        most = (max(sides) - 1).bit_length()
        levels = default_levels(sides) if levels is None else levels
        if not 1 <= levels <= most:
            possible = f"expected 1 … {most}" if most else "expected a side above 1"
            raise ValueError(f"Wavelet levels: {possible} for the shape {shape}, got {levels}")
        self.in_shape = self.out_shape = shape
        self.wavelet, self.levels, self.ndim = wavelet, levels, ndim
        self._filter = scaling_filter(wavelet)
        # sides of the averages: of the image, after one level, after two …
        self.sides = [tuple(-(-n // 2**level) for n in sides) for level in range(levels + 1)]

    def _forward(self, x: Tensor) -> Tensor:
        if self.ndim == 2 and fits(x):
            return self._fused_forward(x)
        y = x.clone()
        for level in range(self.levels):
            block = self._corner(y, level)
            for axis in range(-self.ndim, 0):
                block.copy_(_analyse(block, block.ndim + axis, self._filter))
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        if self.ndim == 2 and fits(y):
            return self._fused_adjoint(y)
        x = y.clone()
        for level in reversed(range(self.levels)):
            block = self._corner(x, level)
            for axis in range(-self.ndim, 0):
                block.copy_(_synthesise(block, block.ndim + axis, self._filter))
        return x

    def _corner(self, y: Tensor, level: int) -> Tensor:
        corner: tuple[Any, ...] = (..., *(slice(n) for n in self.sides[level]))
        return y[corner]

    def shrunk(self, x: Tensor, threshold: Tensor) -> Tensor:
        """A* S A x, S soft thresholding of the details: an orthonormal prox, in one pass there and one back.

        x         : (n, *in_shape), such as `fits`, ndim = 2
        threshold : (n,), real, of the precision of x
        """
        return self._fused_adjoint(self._fused_forward(x, threshold))

    def _fused_forward(self, x: Tensor, threshold: Tensor | None = None) -> Tensor:
        y, width = empty(x.shape, x.dtype), 2 if x.is_complex() else 1
        source, result = self._images(x, width), self._images(y, width)
        images = len(source)
        limits = None
        if threshold is not None:
            limits = threshold.repeat_interleave(images // max(len(x), 1)).contiguous().numpy()
        for ny, nx in self.sides[1:]:
            low = np.empty((images, ny, nx * width), source.dtype)
            analyse(source, result, low, self._filter, width, limits)
            source = low
        result[:, : source.shape[1], : source.shape[2]] = source
        return y

    def _fused_adjoint(self, y: Tensor) -> Tensor:
        x, width = empty(y.shape, y.dtype), 2 if y.is_complex() else 1
        source, result = self._images(y, width), self._images(x, width)
        ny, nx = self.sides[-1]
        low = source[:, :ny, : nx * width]
        low = np.ascontiguousarray(low)
        for ny, nx in reversed(self.sides[1:-1]):
            block = np.empty((len(source), ny, nx * width), source.dtype)
            synthesise(source, low, block, self._filter, width)
            low = block
        synthesise(source, low, result, self._filter, width)
        return x

    def _images(self, x: Tensor, width: int) -> Array:
        """(images, ny, numbers of a line), the memory of x if it is contiguous."""
        ny, nx = self.sides[0]
        return reals(x).reshape(-1, ny, nx * width)

    def _norm(self, iterations: int = 500) -> float:
        return 1.0

    def __repr__(self) -> str:
        ndim = "" if self.ndim == len(self.in_shape) else f", ndim={self.ndim}"
        return f"Wavelet({self.in_shape}, wavelet={self.wavelet!r}, levels={self.levels}{ndim})"

    @classmethod
    def examples(cls) -> list[Wavelet]:
        return [
            cls((8, 4)),
            cls((4, 12), "haar"),
            cls((6, 8), "db8", 1),
            cls((8, 8), "sym4"),
            cls((4, 2, 6), "db2"),
            cls((7, 5), "db2", 3),
            cls((3, 5, 6), "db3", 2, ndim=2),
        ]


def default_levels(sides: Sequence[int]) -> int:
    """At most 4: as many as halve every side evenly, or as leave 4 averages on the last two."""
    evenly = min((n & -n).bit_length() - 1 for n in sides)
    large = max(level for level in range(5) if level == 0 or min(sides[-2:]) > 3 * 2**level)
    return min(4, max(evenly, large, 1))


def _analyse(x: Tensor, axis: int, h: Sequence[float]) -> Tensor:
    n, length = x.shape[axis] // 2 * 2, len(h)
    if n == 0:
        return x
    start, half, kept = 1 - length // 2, n // 2, x.shape[axis] - n // 2
    # even and odd samples that filter taps 0 and 1 meet first, continued periodically
    taps = torch.arange(half + length // 2 - 1, device=x.device) * 2 + start
    phases = [x.index_select(axis, (taps + phase) % n) for phase in (0, 1)]
    out = torch.zeros_like(x)
    for k, f in enumerate((h, mirror(h))):
        part = out.narrow(axis, k * kept, half)
        for j in range(length):
            part.add_(phases[j % 2].narrow(axis, j // 2, half), alpha=f[j])
    if kept > half:
        out.narrow(axis, half, 1).copy_(x.narrow(axis, n, 1))
    return out


def _synthesise(y: Tensor, axis: int, h: Sequence[float]) -> Tensor:
    n, length = y.shape[axis] // 2 * 2, len(h)
    if n == 0:
        return y
    start, half, kept = 1 - length // 2, n // 2, y.shape[axis] - n // 2
    # x[2i + phase + start] = Σⱼ h[2j + phase] a[i − j] + g[2j + phase] d[i − j]
    taps = (torch.arange(half + length // 2 - 1, device=y.device) - (length // 2 - 1)) % half
    parts = [y.narrow(axis, k * kept, half).index_select(axis, taps) for k in (0, 1)]
    phases = [torch.zeros_like(y.narrow(axis, 0, half)) for _ in (0, 1)]
    for part, f in zip(parts, (h, mirror(h)), strict=True):
        for j in range(length):
            phases[j % 2].add_(part.narrow(axis, length // 2 - 1 - j // 2, half), alpha=f[j])
    out = torch.stack(phases, axis + 1).flatten(axis, axis + 1).roll(start, axis)
    return torch.cat([out, y.narrow(axis, half, 1)], axis) if kept > half else out


@lru_cache(maxsize=32)
def scaling_filter(wavelet: str) -> tuple[float, ...]:
    """H of a Daubechies wavelet (extremal phase, "dbN") or symlet (closest to linear phase, "symN").

    |H(ω)|² = 2 cos²ᴺ(ω/2) P(sin²(ω/2)) with P(y) = Σ_{k<N} C(N−1+k, k) yᵏ: each root y of P gives z and 1/z
    with z + 1/z = 2 − 4y, and H takes one of the two. "dbN" takes those inside the unit circle, "symN" those
    that bring its phase closest to a line (and of h and its mirror image the one that is heavier behind).
    """
    if wavelet not in NAMES:
        raise ValueError(f"wavelet: expected one of {', '.join(NAMES)}, got {wavelet!r}")
    n = 1 if wavelet == "haar" else int(wavelet.lstrip("dbsym"))
    y = np.roots([math.comb(n - 1 + k, k) for k in reversed(range(n))])
    inside = [min(np.roots([1, 4 * root - 2, 1]), key=abs) for root in y if root.imag >= -1e-12]
    choices = [_from_roots(n, inside)]
    if wavelet.startswith("sym"):
        flips = itertools.product((1, -1), repeat=len(inside))
        choices = [_from_roots(n, [z**flip for z, flip in zip(inside, f, strict=True)]) for f in flips]
        choices = [h for h in choices if np.square(h[n:]).sum() > 0.5]
    return tuple(min(choices, key=_phase_error).tolist())


def _from_roots(n: int, roots: Sequence[complex]) -> np.ndarray:
    h = np.poly([-1.0] * n + [z for root in roots for z in ({root, root.conjugate()})]).real
    return h * (math.sqrt(2) / h.sum())


def _phase_error(h: np.ndarray) -> float:
    """How far the phase of H is from a straight line."""
    w = np.linspace(0, math.pi, 257)[1:-1]
    phase = np.unwrap(np.angle(np.exp(-1j * np.outer(w, np.arange(len(h)))) @ h))
    return float(np.square(phase - w * (w @ phase) / (w @ w)).sum())
