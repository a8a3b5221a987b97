"""Losses in k-space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Example, Loss, Reduction, pair, per_image


class KSpace(Loss):
    """mean (|Fx| − |Ft|)², F the orthonormal Fourier transform of every channel. DAGAN, Yang et al. 2018.

    magnitude : compare moduli, blind to shifts; without, mean |Fx − Ft|², which by Parseval is mean |x − t|²
    paired : channels are pairs of real and imaginary part of complex images
    """

    name = "k-space"

    def __init__(self, magnitude: bool = True, paired: bool = False, reduction: Reduction = "mean"):
        super().__init__(reduction)
        self.magnitude, self.paired = magnitude, paired

    def check(self, x: Tensor, truth: Any, mask: Tensor | None) -> None:
        super().check(x, truth, mask)
        if x.ndim < 3 or (self.paired and x.shape[1] % 2):
            even = "an even number of channels" if self.paired else "channels"
            raise ValueError(f"KSpace: expected (n, {even}, *spatial), got {tuple(x.shape)}")

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        a, b = self._spectrum(x), self._spectrum(truth)
        difference = a.abs() - b.abs() if self.magnitude else torch.view_as_real(a - b)
        # both parts of a difference make its square
        return per_image(difference.square()) * (1 if self.magnitude else 2)

    def _spectrum(self, x: Tensor) -> Tensor:
        z = torch.complex(x[:, 0::2], x[:, 1::2]) if self.paired else x
        return torch.fft.fftn(z, dim=tuple(range(2, x.ndim)), norm="ortho")

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls(), *pair(3, 1, 5, 4)),
            Example(cls(paired=True), *pair(2, 2, 3, 4)),
            Example(cls(magnitude=False), *pair(2, 1, 3, 4, 2)),
        ]
