"""Channels of model observers: what a channelised observer sees of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .rois import distances, positive


def laguerre_gauss(shape: Sequence[int], pixel_size: float, width: float, count: int = 5) -> Tensor:
    """u_j(r) = (√2/a) exp(−π r²/a²) L_j(2π r²/a²), j = 0 … count − 1: orthonormal, for centred round signals.

    Gallas and Barrett, J. Opt. Soc. Am. A 20 (2003).

    shape : (ny, nx) of the regions
    pixel_size : [mm]
    width : a [mm]; about two thirds to one times the diameter of the signal
    count : channels

    Returns (count, ny, nx), float64; Σ u_i u_j h² → δ_ij as the region grows.
    """
    _shape("laguerre_gauss", shape, count)
    positive("laguerre_gauss pixel_size [mm]", pixel_size)
    a = positive("laguerre_gauss width [mm]", width)
    t = 2 * math.pi * (_centred(shape, pixel_size) / a) ** 2
    previous, current = torch.zeros_like(t), torch.ones_like(t)
    polynomials = []
    for j in range(count):
        polynomials.append(current)
        previous, current = current, ((2 * j + 1 - t) * current - j * previous) / (j + 1)
    return math.sqrt(2) / a * torch.exp(-t / 2) * torch.stack(polynomials)


DENSE = {"first": 0.005, "ratio": 1.4, "bandwidth": 1.67, "count": 10}
SPARSE = {"first": 0.015, "ratio": 2.0, "bandwidth": 2.0, "count": 3}
"""Abbey and Barrett's two sets, frequencies in cycles per pixel."""


def difference_of_gaussians(
    shape: Sequence[int],
    first: float = 0.005,
    ratio: float = 1.4,
    bandwidth: float = 1.67,
    count: int = 10,
) -> Tensor:
    """C_j(ρ) = exp(−½ (ρ/(Q σ_j))²) − exp(−½ (ρ/σ_j)²), σ_j = σ₀ α^j, j = 1 … count: radial bands.

    Abbey and Barrett, J. Opt. Soc. Am. A 18 (2001); `**DENSE`, the default, or `**SPARSE`.

    shape : (ny, nx) of the regions
    first, ratio, bandwidth, count : σ₀ [cycles per pixel], α, Q and the number of channels

    Returns (count, ny, nx), float64: the channels in space, centred on the middle of the region.
    """
    name = "difference_of_gaussians"
    _shape(name, shape, count)
    positive(f"{name} first", first)
    if not (ratio > 1 and bandwidth > 1):
        raise ValueError(f"{name}: expected ratio and bandwidth above 1, got {ratio} and {bandwidth}")
    # the inverse transform of exp(−½ (ρ/σ)²) in two dimensions is 2πσ² exp(−2π²σ²r²)
    r2 = _centred(shape, 1.0) ** 2

    def gaussian(sigma: float) -> Tensor:
        return 2 * math.pi * sigma**2 * torch.exp(-2 * (math.pi * sigma) ** 2 * r2)

    sigmas = [first * ratio**j for j in range(1, count + 1)]
    return torch.stack([gaussian(bandwidth * s) - gaussian(s) for s in sigmas])


def gabor(
    shape: Sequence[int],
    bands: Sequence[tuple[float, float]] = (
        (1 / 64, 1 / 32),
        (1 / 32, 1 / 16),
        (1 / 16, 1 / 8),
        (1 / 8, 1 / 4),
    ),
    orientations: int = 5,
    phases: Sequence[float] = (0.0, math.pi / 2),
) -> Tensor:
    """exp(−4 ln2 r²/ω²) cos(2π f (x cos θ + y sin θ) + β), one per band, orientation and phase.

    Eckstein and Whiting, J. Opt. Soc. Am. A 13 (1996); as used for CT by Yu et al., Med. Phys. 40 (2013).

    shape : (ny, nx) of the regions
    bands : pass bands (f₁, f₂) [cycles per pixel]; f is their middle, ω = 4 ln2 / (π (f₂ − f₁)) gives the
        band its full width at half maximum
    orientations : θ = kπ/orientations
    phases : β [rad]

    Returns (len(bands)·orientations·len(phases), ny, nx), float64.
    """
    _shape("gabor", shape, orientations)
    if not bands or not phases or not all(0 <= low < high for low, high in bands):
        raise ValueError(f"gabor: expected bands with 0 ≤ f₁ < f₂ and some phases, got {bands}, {phases}")
    ny, nx = shape
    y = (ny - 1) / 2 - torch.arange(ny, dtype=torch.float64)[:, None]
    x = torch.arange(nx, dtype=torch.float64)[None] - (nx - 1) / 2
    channels = []
    for low, high in bands:
        omega = 4 * math.log(2) / (math.pi * (high - low))
        window = torch.exp(-4 * math.log(2) * (x**2 + y**2) / omega**2)
        for k in range(orientations):
            theta = math.pi * k / orientations
            along = math.pi * (low + high) * (x * math.cos(theta) + y * math.sin(theta))
            channels += [window * torch.cos(along + beta) for beta in phases]
    return torch.stack(channels)


def _centred(shape: Sequence[int], pixel_size: float) -> Tensor:
    return distances(shape, pixel_size)


def _shape(name: str, shape: Sequence[int], count: int) -> None:
    if len(shape) != 2 or min(shape) < 1 or count < 1:
        raise ValueError(f"{name}: expected a shape (ny, nx) and at least one channel, got {shape}, {count}")
