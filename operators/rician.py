"""Magnitude MR data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .noise_model import NoiseModel, Value, _like
from .tensors import spread


class Rician(NoiseModel):
    """y = |A x + n|, n circular with E|n|² = σ² (σ²/2 in each of re and im): a magnitude image.

        p(y | z) = (2y/σ²) exp(−(y² + |z|²)/σ²) I₀(2y|z|/σ²),  E y² = |z|² + σ²
        linearise(y) = √max(y² − σ², 0), its variance σ²/2

    Gudbjartsson & Patz, Magn. Reson. Med. 34 (1995) 910, whose σ² is σ²/2 here: σ means the same as in
    `Gaussian` of complex data. y² − σ² has the mean |z|², its root has not: for |z| ≫ σ it is too low by
    σ²/(4|z|), as much as y is too high; at z = 0 its mean is σ √π/(2e) = 0.33 σ, that of y 0.89 σ. Its
    variance is σ²/2 for |z| ≫ σ, 0.26 σ² at z = 0. `mean`, `second_moment` and `log_likelihood` are exact.

    sigma : √E|n|², unit of the data; a number, or one per image (*batch,)
    """

    fields = ("sigma",)
    sigma: Value

    def __init__(self, sigma: Value | Sequence[float], data_ndim: int = 2):
        super().__init__(data_ndim)
        self._set("sigma", sigma)
        self._require("sigma", 0, strict=True)

    def select(self, index: int | slice | Tensor) -> NoiseModel:
        if not isinstance(self.sigma, Tensor):
            return self
        return Rician(self.sigma.reshape(-1)[index], self.data_ndim)

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        real, imaginary = torch.randn((2, *clean.shape), generator=generator, dtype=torch.float64)
        noise = torch.complex(real, imaginary) * (self._sigma(clean) / math.sqrt(2))
        return (clean + noise).abs()

    def forward(self, clean: Tensor, seed: int | Sequence[int] = 0) -> Tensor:
        """Raw data of real or complex `clean`, (*batch, *data shape): real, in its precision."""
        y = super().forward(clean, seed)
        return y.real if y.is_complex() else y

    def linearise(self, y: Tensor) -> Tensor:
        return (y.square() - self._sigma(y) ** 2).clamp_min(0).sqrt()

    def variance(self, y: Tensor) -> Tensor:
        return torch.ones_like(y) * self._sigma(y) ** 2 / 2

    def mean(self, clean: Tensor) -> Tensor:
        """E y = (σ √π/2) L_½(−|z|²/σ²) = (σ √π/2) e^{−h} [(1 + 2h) I₀(h) + 2h I₁(h)], h = |z|²/(2σ²)."""
        sigma = self._sigma(clean)
        h = clean.abs().square() / (2 * sigma**2)
        # i0e and i1e are I₀ and I₁ times e^{−h}
        bessel = (1 + 2 * h) * torch.special.i0e(h) + 2 * h * torch.special.i1e(h)
        return sigma * (math.sqrt(math.pi) / 2) * bessel

    def second_moment(self, clean: Tensor) -> Tensor:
        """E y² = |z|² + σ²."""
        return clean.abs().square() + self._sigma(clean) ** 2

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        """log p(y | z), of every datum; y > 0."""
        sigma, z = self._sigma(y), clean.abs()
        bessel = torch.log(torch.special.i0e(2 * y * z / sigma**2))
        return torch.log(2 * y / sigma**2) - (y - z).square() / sigma**2 + bessel

    def check(self, y: Tensor) -> None:
        self._check_counts("y", y)

    def _sigma(self, y: Tensor) -> Value:
        return spread(_like(self.sigma, y), self.data_ndim)
