"""Orthonormal periodic wavelets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .base import LinearOperator

NAMES = ("haar", *(f"db{n}" for n in range(1, 9)), "sym4", "sym5", "sym6", "sym8")


class Wavelet(LinearOperator):
    """Orthonormal wavelet transform with periodic edges, along every axis: A* = A⁻¹, ‖A‖ = 1.

    On each axis and level, with the scaling filter h of length L and gⱼ = (−1)ʲ h[L−1−j],

        a[k] = Σⱼ hⱼ x[2k + j + 1 − L/2],   d[k] = Σⱼ gⱼ x[2k + j + 1 − L/2]   (indices modulo n).

    Daubechies, Comm. Pure Appl. Math. 41 (1988); Mallat, IEEE PAMI 11 (1989). The coefficients fill the shape
    of the image: on every axis a in the first half, d in the second, the next level in the corner of the a's.
    The same numbers as PyWavelets' `coeffs_to_array(wavedecn(x, wavelet, mode="periodization"))`.

    Parameters
    ----------
    shape : one image, (ny, nx) or any other number of axes; every size a multiple of 2**levels
    wavelet : "haar", "db1" … "db8", "sym4", "sym5", "sym6", "sym8"
    levels : by default the most that fit, at most 4
    """

    def __init__(self, shape: tuple[int, ...], wavelet: str = "db4", levels: int | None = None):
        super().__init__()
        shape = tuple(shape)
        fitting = min((n & -n).bit_length() - 1 for n in shape)
        levels = min(4, fitting) if levels is None else levels
        if not 1 <= levels <= fitting:
            wanted = f"expected sizes that are multiples of 2**levels, with levels={max(levels, 1)}"
            raise ValueError(
                f"Wavelet shape: {wanted}, got {shape}, which fit {fitting} levels; pad or crop the image"
            )
        self.in_shape = self.out_shape = shape
        self.wavelet, self.levels, self._filter = wavelet, levels, scaling_filter(wavelet)

    def _forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        for level in range(self.levels):
            block = self._corner(y, level)
            for axis in range(1, y.ndim):
                block.copy_(_analyse(block, axis, self._filter))
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.clone()
        for level in reversed(range(self.levels)):
            block = self._corner(x, level)
            for axis in range(1, x.ndim):
                block.copy_(_synthesise(block, axis, self._filter))
        return x

    def _corner(self, y: Tensor, level: int) -> Tensor:
        return y[(slice(None), *(slice(n >> level) for n in self.in_shape))]

    def _norm(self, iterations: int = 500) -> float:
        return 1.0

    def __repr__(self) -> str:
        return f"Wavelet({self.in_shape}, wavelet={self.wavelet!r}, levels={self.levels})"

    @classmethod
    def examples(cls) -> list[Wavelet]:
        return [
            cls((8, 4)),
            cls((4, 12), "haar"),
            cls((6, 8), "db8", 1),
            cls((8, 8), "sym4"),
            cls((4, 2, 6), "db2"),
        ]


def _analyse(x: Tensor, axis: int, h: Sequence[float]) -> Tensor:
    n, length = x.shape[axis], len(h)
    start, half = 1 - length // 2, n // 2
    # even and odd samples that filter taps 0 and 1 meet first, continued periodically
    taps = torch.arange(half + length // 2 - 1, device=x.device) * 2 + start
    phases = [x.index_select(axis, (taps + phase) % n) for phase in (0, 1)]
    out = torch.zeros_like(x)
    for k, f in enumerate((h, _mirror(h))):
        part = out.narrow(axis, k * half, half)
        for j in range(length):
            part.add_(phases[j % 2].narrow(axis, j // 2, half), alpha=f[j])
    return out


def _synthesise(y: Tensor, axis: int, h: Sequence[float]) -> Tensor:
    n, length = y.shape[axis], len(h)
    start, half = 1 - length // 2, n // 2
    # x[2i + phase + start] = Σⱼ h[2j + phase] a[i − j] + g[2j + phase] d[i − j]
    taps = (torch.arange(half + length // 2 - 1, device=y.device) - (length // 2 - 1)) % half
    parts = [y.narrow(axis, k * half, half).index_select(axis, taps) for k in (0, 1)]
    phases = [torch.zeros_like(y.narrow(axis, 0, half)) for _ in (0, 1)]
    for part, f in zip(parts, (h, _mirror(h)), strict=True):
        for j in range(length):
            phases[j % 2].add_(part.narrow(axis, length // 2 - 1 - j // 2, half), alpha=f[j])
    out = torch.stack(phases, axis + 1).flatten(axis, axis + 1)
    return out.roll(start, axis)


def _mirror(h: Sequence[float]) -> list[float]:
    return [(-1) ** j * value for j, value in enumerate(reversed(h))]


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
