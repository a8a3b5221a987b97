"""Noise of k-space: how much of it, and coils made independent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

EDGE = 0.1  # of the samples, the farthest from the centre: noise, as good as


def radius(grid: Sequence[int]) -> Tensor:
    """Distance from the centre of k-space, relative to the edge of every axis: ([kz,] ky, kx)."""
    squares = [((torch.arange(n) - n // 2) / max(n / 2, 1)).square() for n in grid]
    total = squares[0]
    for s in squares[1:]:
        total = total[..., None] + s
    return total.sqrt()


def edge_sigma(y: Tensor, distance: Tensor, sampled: Tensor | None = None) -> float:
    """σ = √(median |y|² / ln 2) over the tenth of the samples that lies farthest from the centre.

    |n|² of circular Gaussian noise is exponential with mean σ²; signal at the edge makes σ too large.

    y : (…, coils, *distance.shape), of frames (frames, coils, …)
    """
    if sampled is not None and sampled.ndim > distance.ndim:  # frames
        sampled = sampled.unsqueeze(-distance.ndim - 1)
    where = torch.ones_like(distance, dtype=torch.bool) if sampled is None else sampled
    far = distance.expand(where.shape)[where]
    limit = far.kthvalue(max(math.ceil((1 - EDGE) * far.numel()), 1)).values
    values = y[(where & (distance >= limit)).expand(y.shape)].abs().square().double()
    values = values[values > 0]  # lines filled with zeros were not measured
    return math.sqrt(float(values.median()) / math.log(2)) if values.numel() else 1.0


def whitening(noise: Tensor) -> Tensor:
    """L⁻¹ of the noise's covariance Ψ = N N*/n = L L*, (coils, coils)."""
    noise = noise.to(torch.complex128)
    covariance = noise @ noise.mH / noise.shape[1]
    L, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed) or not bool(torch.isfinite(L).all()) or noise.shape[1] < len(noise):
        raise ValueError(
            f"noise: the covariance of {len(noise)} coils from {noise.shape[1]} samples is singular; a coil "
            "is dead, or the noise scan too short"
        )
    return torch.linalg.solve_triangular(L, torch.eye(len(L), dtype=L.dtype), upper=False)


def mixed(matrix: Tensor, data: Tensor, axis: int) -> Tensor:
    """matrix · data along the coils."""
    moved = torch.tensordot(matrix.to(data.dtype), data, dims=([1], [axis]))
    return moved.movedim(0, axis)
