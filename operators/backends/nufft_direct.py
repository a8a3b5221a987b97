"""The non-uniform Fourier sums as they are written: exact, any device, differentiable in everything."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CHUNK = 1 << 22  # complex numbers held at once


def forward(x: Tensor, points: Tensor) -> Tensor:
    """y_j = Σ_r x(r) exp(−i k_j·r), r counted from n // 2; (batch, *spatial) -> (batch, samples).

    points : k [rad per pixel], (samples, dimensions)
    """
    return torch.cat([_forward(x, _phases(x, part)) for part in _chunks(x.shape, points)], -1)


def adjoint(y: Tensor, points: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """x(r) = Σ_j y_j exp(i k_j·r); (batch, samples) -> (batch, *spatial)."""
    x, start = y.new_zeros(len(y), *spatial), 0
    for part in _chunks((len(y), *spatial), points):
        phases = [e.conj() for e in _phases(y, part, spatial)]
        x = x + _adjoint(y[:, start : start + len(part)], phases)
        start += len(part)
    return x


def _forward(x: Tensor, phases: list[Tensor]) -> Tensor:
    y = x @ phases[-1].mT
    for e in reversed(phases[:-1]):
        y = (y * e.mT).sum(-2)
    return y


def _adjoint(y: Tensor, phases: list[Tensor]) -> Tensor:
    for e in phases[:-1]:
        y = y.unsqueeze(-2) * e.mT
    return y @ phases[-1]


def _phases(like: Tensor, points: Tensor, spatial: tuple[int, ...] | None = None) -> list[Tensor]:
    """exp(−i k_d r) for every axis d, (samples, n_d); computed in double precision."""
    phases = []
    for d, n in enumerate(spatial or like.shape[1:]):
        r = torch.arange(n, device=points.device, dtype=torch.float64) - n // 2
        angle = points[:, d, None].double() * r
        phases.append(torch.polar(torch.ones_like(angle), -angle).to(like.dtype))
    return phases


def _chunks(shape: tuple[int, ...], points: Tensor) -> tuple[Tensor, ...]:
    """Samples in pieces, such that the sums over the last axis, (batch, n₁, …, samples), stay small."""
    return points.split(max(1, _CHUNK // max(1, math.prod(shape[:-1]), shape[-1])))
