"""Non-local means: pixels are alike if what surrounds them is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.backends.fused import fits
from operators.tensors import spread, total

from .backends.patches import patch_distance
from .base import Functional, Step
from .markov import overlap


def non_local_means(
    x: Tensor,
    sigma: Step,
    strength: Step = 1.0,
    patch_radius: int = 2,
    search_radius: int = 5,
    ndim: int = 2,
) -> Tensor:
    """z_i = Σ_j w_ij x_j / Σ_j w_ij,  w_ij = exp(−max(0, d_ij − s_ij) / (½ strength² s_ij)).

    Buades, Coll, Morel, CVPR 2005. d_ij is the mean squared difference of the patches around i and j under a
    Gaussian window, s_ij = σᵢ² + σⱼ² what noise adds to it; where σ is one number the width is
    h = strength·σ. With a map of σ it follows the noise of CT: Li et al., Med. Phys. 41 (2014).

    x              (*batch, *shape), real, 2-D or 3-D images; mirrored at the border for patches
    sigma          σ of the noise, unit of x: a number, one per image, or a map (*batch or none, *shape)
    strength       > 0, a number or one per image
    patch_radius   patches have 2·patch_radius + 1 pixels a side, and a window of deviation patch_radius / 2
    search_radius  the farthest j, in pixels along every axis
    """
    if x.is_complex() or not x.is_floating_point():
        raise ValueError(f"non_local_means expects a real image, got {x.dtype}")
    value, weight = x.clone(), torch.ones_like(x)
    for offset, w in similarities(x, sigma, strength, patch_radius, search_radius, ndim):
        here, there = overlap(offset)
        value[here] += w * x[there]
        value[there] += w * x[here]
        weight[here] += w
        weight[there] += w
    return value / weight


def similarities(
    x: Tensor, sigma: Step, strength: Step, patch_radius: int, search_radius: int, ndim: int
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Offset o, one of every two opposite ones, and w_{i, i + o} where both are in the image."""
    shape = x.shape[x.ndim - ndim :]
    if patch_radius < 0 or search_radius < 1 or min(shape) <= patch_radius:
        raise ValueError(
            f"non_local_means: expected patch_radius ≥ 0 below the sides {tuple(shape)}, search_radius ≥ 1, "
            f"got {patch_radius} and {search_radius}"
        )
    if not bool((torch.as_tensor(sigma) > 0).all() and (torch.as_tensor(strength) > 0).all()):
        raise ValueError("non_local_means sigma, strength: expected positive numbers")
    variance = _as_map(sigma, x, ndim).square()
    flat = x.reshape(-1, 1, *shape)
    padded = F.pad(flat, (patch_radius,) * (2 * ndim), mode="reflect").reshape(
        *x.shape[: x.ndim - ndim], *(n + 2 * patch_radius for n in shape)
    )
    window = _window(patch_radius)
    width = torch.as_tensor(spread(0.5 * strength**2, ndim), dtype=x.dtype, device=x.device)
    for offset in itertools.product(range(-search_radius, search_radius + 1), repeat=ndim):
        if offset <= (0,) * ndim or any(abs(o) >= n for o, n in zip(offset, shape, strict=True)):
            continue
        here, there = overlap(offset)
        if ndim == 2 and fits(padded) and not padded.is_complex():
            taps = torch.tensor(window, dtype=x.dtype)
            d = patch_distance(padded.reshape(-1, *padded.shape[-2:]), taps, *offset)
            d = d.reshape(*x.shape[:-2], *d.shape[-2:])
        else:
            d = (padded[there] - padded[here]).square()
            for axis in range(-ndim, 0):
                d = _windowed(d, window, axis)
        s = variance[here] + variance[there]
        yield offset, (-(d - s).clamp(min=0) / (width * s)).exp()


class NonLocalQuadratic(Functional):
    """E(x) = ½ v Σ_{pairs} ŵᵢⱼ (xᵢ − xⱼ)², with the similarities of another image.

    Gilboa and Osher, Multiscale Model. Simul. 6 (2007); in CT Zhang et al., Med. Phys. 41 (2014). ŵ are those
    of `non_local_means` of the reference, over √(sᵢ sⱼ), s their sums, 1 for itself included: a pixel
    without any like it is left alone. The reference is fixed, so E is convex.

    reference  an image with the structures of x, (*batch or none, *shape)
    sigma, strength, patch_radius, search_radius  as in `non_local_means`
    volume     v of a pixel, [mm²] or [mm³], so that E is an integral
    """

    weights: Tensor

    def __init__(
        self,
        reference: Tensor,
        sigma: Step,
        strength: Step = 1.0,
        patch_radius: int = 2,
        search_radius: int = 5,
        volume: float = 1.0,
        ndim: int = 2,
    ):
        super().__init__()
        if not 0 < volume < math.inf:
            raise ValueError(f"NonLocalQuadratic volume: expected a positive number, got {volume}")
        self.ndim, self.volume = ndim, float(volume)
        found = list(similarities(reference, sigma, strength, patch_radius, search_radius, ndim))
        self.offsets = [offset for offset, _ in found]
        sums = torch.ones_like(reference)
        for offset, w in found:
            for part in overlap(offset):
                sums[part] += w
        root = sums.rsqrt()
        weights = reference.new_zeros(
            *reference.shape[: reference.ndim - ndim], len(found), *reference.shape[reference.ndim - ndim :]
        )
        for k, (offset, w) in enumerate(found):
            here, there = overlap(offset)
            weights.select(-1 - ndim, k)[here] = w * root[here] * root[there]
        self.register_buffer("weights", weights)

    def _pairs(self, x: Tensor) -> Iterator[tuple[Any, Any, Tensor]]:
        if x.is_complex():
            raise ValueError(f"{type(self).__name__} expects a real image, got {x.dtype}")
        for k, offset in enumerate(self.offsets):
            here, there = overlap(offset)
            yield here, there, self.volume * self.weights.select(-1 - self.ndim, k)[here]

    def forward(self, x: Tensor) -> Tensor:
        value = torch.zeros((), dtype=x.dtype, device=x.device)
        for here, there, w in self._pairs(x):
            value = value + 0.5 * total(w * (x[there] - x[here]).square(), self.ndim)
        return value.expand(x.shape[: x.ndim - self.ndim])

    def grad(self, x: Tensor) -> Tensor:
        result = torch.zeros_like(x)
        for here, there, w in self._pairs(x):
            slope = w * (x[there] - x[here])
            result[there] += slope
            result[here] -= slope
        return result

    def curvatures(self, x: Tensor | None = None) -> Tensor:
        """D with E(v) ≤ E(x) + ⟨∇E(x), v − x⟩ + ½ Σ D (v − x)², of every pixel."""
        result = torch.zeros_like(self.weights.select(-1 - self.ndim, 0))
        for here, there, w in self._pairs(result):
            result[there] += 2 * w
            result[here] += 2 * w
        return result

    @property
    def lipschitz(self) -> float:
        return float(self.curvatures().max())

    def __repr__(self) -> str:
        return f"NonLocalQuadratic({tuple(self.weights.shape)}, volume={self.volume})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        image = torch.linspace(-1, 1, 30).square().reshape(5, 6)
        solid = torch.linspace(0, 1, 36).square().reshape(3, 4, 3)
        return [
            (cls(image, 0.2, patch_radius=1, search_radius=2), (5, 6)),
            (cls(solid, 0.1, patch_radius=1, search_radius=1, volume=0.5, ndim=3), (3, 4, 3)),
        ]


def _as_map(sigma: Step, x: Tensor, ndim: int) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if sigma.ndim < ndim or sigma.shape[sigma.ndim - ndim :] != x.shape[x.ndim - ndim :]:
        sigma = torch.as_tensor(spread(sigma, ndim))
    return sigma.expand(x.shape)


def _window(radius: int) -> list[float]:
    """Gaussian of deviation radius / 2 (1 in the limit of radius 0), sum 1."""
    values = [math.exp(-2 * (k / max(radius, 1)) ** 2) for k in range(-radius, radius + 1)]
    return [v / sum(values) for v in values]


def _windowed(d: Tensor, window: list[float], axis: int) -> Tensor:
    """Σ_k window[k] d[i + k] along one axis, where all of the window is inside."""
    size = d.shape[axis] - len(window) + 1
    parts = [value * d.narrow(axis, k, size) for k, value in enumerate(window)]
    return torch.stack(parts).sum(0)
