"""Markov random fields: potentials of the slopes between neighbouring pixels."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from operators.tensors import total

from .base import Functional


class MarkovRandomField(Functional):
    """E(x) = (D/K) v Σ_{pairs} ρ(tᵢⱼ),  tᵢⱼ = (xᵢ − xⱼ)/|i − j|, ρ(t) = t²/(2δ) near 0: an integral over mm.

    Geman and Geman, IEEE Trans. Pattern Anal. Mach. Intell. 6 (1984). D dimensions, K directions of
    neighbours, v [mm^D] of a pixel; every direction counts the same, so a pair's absolute difference has the
    usual weight 1/|i − j|, and with a quadratic ρ and square pixels E is ½∫|∇x|²/δ whatever the pixel size.
    No pair crosses the border. A subclass says ρ.

    shape      : (ny, nx) or (nz, ny, nx)
    pixel_size : [mm], a number or one for each axis
    delta      : δ, the slope where ρ leaves the parabola, > 0 [unit of x per mm]; 10 HU between pixels
                 0.7 mm apart are 10 / 1000 · μ_water / 0.7 mm = 2.9e-4 / mm²
    diagonals  : neighbours over corners too, 8 in the plane and 26 in a volume, or 4 and 6

    x : (*batch, *shape), real -> (*batch,)
    """

    def __init__(
        self,
        shape: Sequence[int],
        pixel_size: float | Sequence[float] = 1.0,
        delta: float = 1.0,
        diagonals: bool = True,
    ):
        super().__init__()
        name = type(self).__name__
        self.shape, self.ndim = tuple(shape), len(shape)
        spacing = (pixel_size,) * self.ndim if isinstance(pixel_size, int | float) else tuple(pixel_size)
        if len(spacing) != self.ndim or not all(0 < h < math.inf for h in spacing):
            raise ValueError(
                f"{name} pixel_size: expected a positive length [mm], or {self.ndim}, got {pixel_size}"
            )
        if not 0 < delta < math.inf:
            raise ValueError(f"{name} delta: expected a positive number, got {delta}")
        self.pixel_size, self.delta, self.diagonals = spacing, float(delta), diagonals

    @abstractmethod
    def potential(self, t: Tensor) -> Tensor:
        """ρ(t)"""

    @abstractmethod
    def bend(self, t: Tensor) -> Tensor:
        """ρ′(t)/t: with it, ρ lies below the parabola that touches it at ±t (Huber 1981), ρ concave in t²."""

    def forward(self, x: Tensor) -> Tensor:
        value = torch.zeros((), dtype=x.dtype, device=x.device)
        for here, there, distance, share in self._pairs(x):
            value = value + share * total(self.potential((x[there] - x[here]) / distance), self.ndim)
        return value.expand(x.shape[: x.ndim - self.ndim])

    def grad(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return super().grad(x)
        result = torch.zeros_like(x)
        for here, there, distance, share in self._pairs(x):
            t = (x[there] - x[here]) / distance
            slope = self.bend(t).mul_(t).mul_(share / distance)
            result[there] += slope
            result[here] -= slope
        return result

    def curvatures(self, x: Tensor) -> Tensor:
        """D with E(v) ≤ E(x) + ⟨∇E(x), v − x⟩ + ½ Σ D (v − x)², of every pixel; shape of x."""
        result = torch.zeros_like(x)
        for here, there, distance, share in self._pairs(x):
            bend = self.bend((x[there] - x[here]) / distance).mul_(2 * share / distance**2)
            result[there] += bend
            result[here] += bend
        return result

    @property
    def lipschitz(self) -> float:
        """Of an interior pixel, whose neighbours bend it most: D ≤ 4 Σ share/distance² · max ρ″."""
        return 4 / self.delta * sum(share / distance**2 for _, distance, share in self._directions)

    @cached_property
    def _directions(self) -> list[tuple[tuple[int, ...], float, float]]:
        """Offset, its length [mm] and the factor of its pairs; one of every two opposite directions."""
        every = list(itertools.product((-1, 0, 1), repeat=self.ndim))
        half = [o for o in every if o > (0,) * self.ndim and (self.diagonals or sum(map(abs, o)) == 1)]
        share = self.ndim / len(half) * math.prod(self.pixel_size)
        return [
            (o, math.hypot(*(s * h for s, h in zip(o, self.pixel_size, strict=True))), share) for o in half
        ]

    def _pairs(self, x: Tensor) -> Iterator[tuple[Any, Any, float, float]]:
        if x.is_complex():
            raise ValueError(f"{type(self).__name__} expects a real image, got {x.dtype}")
        if tuple(x.shape[-self.ndim :]) != self.shape:
            raise ValueError(f"{self!r} expects images (*batch, *{self.shape}), got {tuple(x.shape)}")
        for offset, distance, share in self._directions:
            here, there = overlap(offset)
            yield here, there, distance, share

    def __repr__(self) -> str:
        options = f"delta={self.delta}, diagonals={self.diagonals}"
        return f"{type(self).__name__}({self.shape}, pixel_size={self.pixel_size}, {options})"


class QuadraticMRF(MarkovRandomField):
    """ρ(t) = t²/(2δ): smooths noise and edges alike."""

    def potential(self, t: Tensor) -> Tensor:
        return t.square() / (2 * self.delta)

    def bend(self, t: Tensor) -> Tensor:
        return torch.full_like(t, 1 / self.delta)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls((5, 4), 0.5, 0.3), (5, 4)), (cls((2, 3, 4), (2.0, 1.0, 0.5)), (2, 3, 4))]


class HuberMRF(MarkovRandomField):
    """ρ(t) = t²/(2δ) for |t| ≤ δ, |t| − δ/2 above (Huber, Ann. Math. Stat. 35 (1964))."""

    def potential(self, t: Tensor) -> Tensor:
        size = t.abs()
        return torch.where(size <= self.delta, t * t / (2 * self.delta), size - self.delta / 2)

    def bend(self, t: Tensor) -> Tensor:
        return t.abs().clamp(min=self.delta).reciprocal()

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls((5, 4), 0.5, 0.3), (5, 4)),
            (cls((2, 3, 4), (2.0, 1.0, 0.5)), (2, 3, 4)),
            (cls((4, 1), diagonals=False), (4, 1)),
        ]


class FairMRF(MarkovRandomField):
    """ρ(t) = |t| − δ ln(1 + |t|/δ): between parabola and modulus, with a slope that bends nowhere abruptly.

    Fair, J. Res. Natl. Bur. Stand. B 78 (1974); Lange, IEEE Trans. Med. Imaging 9 (1990).
    """

    def potential(self, t: Tensor) -> Tensor:
        # near 0 the series, for r and ln(1 + r) cancel there
        r = t.abs() / self.delta
        near = r.square() * (0.5 - r / 3 + r.square() / 4)
        return self.delta * torch.where(r < 1e-3, near, r - r.log1p())

    def bend(self, t: Tensor) -> Tensor:
        return t.abs().add_(self.delta).reciprocal_()

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls((5, 4), 0.5, 0.3), (5, 4)), (cls((2, 3, 4), (2.0, 1.0, 0.5)), (2, 3, 4))]


class QGGMRF(MarkovRandomField):
    """ρ(t) = (c/2) r² / (1 + r^(2−q)), r = |t|/c: a parabola below c, growing as |t|^q above.

    The q-generalised Gaussian field of Thibault, Sauer, Bouman, Hsieh, Med. Phys. 34 (2007) with p = 2, which
    alone bends finitely at 0. For 1 ≤ q ≤ 2 convex; q = 1.2 and c of some 10 HU between neighbours are
    theirs, q = 1 comes close to TV, q = 2 is quadratic.

    c : [unit of x per mm], the δ of `MarkovRandomField`, see there for HU
    q : in [1, 2]
    and the other parameters of `MarkovRandomField`
    """

    def __init__(
        self,
        shape: Sequence[int],
        pixel_size: float | Sequence[float] = 1.0,
        c: float = 1.0,
        q: float = 1.2,
        diagonals: bool = True,
    ):
        super().__init__(shape, pixel_size, c, diagonals)
        if not 1 <= q <= 2:
            raise ValueError(f"QGGMRF q: expected a number in [1, 2], where the prior is convex, got {q}")
        self.q = float(q)

    def _powers(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """R and r^(2−q); not quite 0, where the power's slope is infinite."""
        r = (t.abs() / self.delta).clamp(min=1e-12)
        return r, r ** (2 - self.q)

    def potential(self, t: Tensor) -> Tensor:
        r, grown = self._powers(t)
        return 0.5 * self.delta * r * r / (1 + grown)

    def bend(self, t: Tensor) -> Tensor:
        _, grown = self._powers(t)
        return (1 + 0.5 * self.q * grown) / (self.delta * (1 + grown).square())

    def __repr__(self) -> str:
        options = f"c={self.delta}, q={self.q}, diagonals={self.diagonals}"
        return f"QGGMRF({self.shape}, pixel_size={self.pixel_size}, {options})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls((5, 4), 0.5, 0.3), (5, 4)),
            (cls((2, 3, 4), (2.0, 1.0, 0.5), q=1.0), (2, 3, 4)),
            (cls((4, 3), q=2.0, diagonals=False), (4, 3)),
        ]


def overlap(offset: Sequence[int]) -> tuple[Any, Any]:
    """Indices of all pixels i, and of i + offset, for which both are in the image."""
    here = (..., *(slice(max(-o, 0), -o if o > 0 else None) for o in offset))
    there = (..., *(slice(max(o, 0), o if o < 0 else None) for o in offset))
    return here, there
