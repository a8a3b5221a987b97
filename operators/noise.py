"""The noise models: Gaussian and Poisson here, `LowDose` in its own file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .lowdose import LowDose as LowDose
from .noise_model import NoiseModel, Value, _like
from .noise_model import image_seeds as image_seeds
from .tensors import spread


class Gaussian(NoiseModel):
    """y = A x + n, n ~ N(0, σ²); for complex data circular with E|n|² = σ² (σ²/2 in each of re and im).

    Give exactly one of

    sigma     standard deviation, unit of the data; one number or one per image (*batch,)
    relative  σ = relative · mean|A x| of each image; fixed by `at(clean)`, which `simulate` does

    mask      where something is measured, bool, broadcasts to the data of one image, as `Sense.sampled`;
              elsewhere y = 0 and its variance is inf: these entries say nothing. None: everywhere
    """

    fields = ("sigma", "relative", "mask")
    sigma: Value | None
    relative: float | None
    mask: Tensor | None

    def __init__(
        self,
        sigma: Value | Sequence[float] | None = None,
        relative: float | None = None,
        data_ndim: int = 2,
        mask: Tensor | None = None,
    ):
        super().__init__(data_ndim)
        if (sigma is None) == (relative is None):
            raise ValueError(
                f"Gaussian: expected exactly one of sigma and relative, got {sigma=}, {relative=}"
            )
        self._set("sigma", sigma)
        self._set("relative", relative)
        self._require("relative" if sigma is None else "sigma", 0, strict=True)
        self.register_buffer("mask", _checked_mask(mask, data_ndim))

    def at(self, clean: Tensor) -> NoiseModel:
        if self.relative is None:
            return self
        size = self._measured(clean.detach().abs().double()).flatten(clean.ndim - self.data_ndim)
        mean = size.sum(-1) / self._measured(torch.ones_like(clean.real)).flatten(-self.data_ndim).sum(-1)
        if not bool((mean > 0).all()):
            raise ValueError(f"{self!r} clean: an image is zero everywhere; give sigma instead of relative")
        return Gaussian(sigma=self.relative * mean, data_ndim=self.data_ndim, mask=self.mask)

    def select(self, index: int | slice | Tensor) -> NoiseModel:
        if not isinstance(self.sigma, Tensor):
            return self
        return Gaussian(sigma=self.sigma.reshape(-1)[index], data_ndim=self.data_ndim, mask=self.mask)

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        # torch's complex normal has E|n|² = 1
        noise = torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
        return self._measured(clean + self._sigma(clean) * noise)

    def variance(self, y: Tensor) -> Tensor:
        variance = torch.ones_like(y.real) * self._sigma(y) ** 2
        return variance if self.mask is None else variance.masked_fill(~self.mask.to(y.device), math.inf)

    def check(self, y: Tensor) -> None:
        super().check(y)
        if self.mask is None:
            return
        self._check_fits("mask", self.mask, y)
        stray = int(((y != 0) & ~self.mask.to(y.device)).sum())
        if stray:
            raise ValueError(f"{self!r} y: expected 0 outside the mask, got {stray} other values")

    def _measured(self, y: Tensor) -> Tensor:
        return y if self.mask is None else y.masked_fill(~self.mask.to(y.device), 0)

    def _sigma(self, y: Tensor) -> Value:
        if self.sigma is None:
            raise ValueError(f"{self!r}: σ is not known yet; use noise.at(clean)")
        if isinstance(self.sigma, Tensor) and y.ndim - self.data_ndim != self.sigma.ndim:
            raise ValueError(
                f"{self!r}: sigma has one value per image; expected batch {tuple(self.sigma.shape)} before "
                f"{self.data_ndim} dimensions per image, got {tuple(y.shape)}; see noise.select"
            )
        return spread(_like(self.sigma, y), self.data_ndim)


def _checked_mask(mask: Tensor | None, data_ndim: int) -> Tensor | None:
    if mask is None:
        return None
    if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.ndim <= data_ndim and bool(mask.any()):
        return mask
    got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
    raise ValueError(
        f"Gaussian mask: expected bool, True somewhere, at most {data_ndim} dimensions, got {got}"
    )


class Poisson(NoiseModel):
    """y ~ Poisson(s·A x + b): counts of emission (PET) or of a photon-limited camera.

    linearise(y) = (y − b) / s; its variance is y / s², where a bin of no counts is given the variance of one.

    scale       counts per unit of A x
    background  expected counts that A x does not explain (randoms, scatter)
    Both a number or a tensor that broadcasts to the data.
    """

    fields = ("scale", "background")
    scale: Value
    background: Value

    def __init__(self, scale: Value = 1.0, background: Value = 0.0, data_ndim: int = 2):
        super().__init__(data_ndim)
        self._set("scale", scale)
        self._set("background", background)
        self._require("scale", 0, strict=True)
        self._require("background", 0, strict=False)

    def expected(self, clean: Tensor) -> Tensor:
        """E y = s·clean + b."""
        return _like(self.scale, clean) * clean + _like(self.background, clean)

    def select(self, index: int | slice | Tensor) -> NoiseModel:
        return Poisson(
            self._selected(self.scale, index), self._selected(self.background, index), self.data_ndim
        )

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.expected(clean), generator=generator)

    def linearise(self, y: Tensor) -> Tensor:
        return (y - _like(self.background, y)) / _like(self.scale, y)

    def variance(self, y: Tensor) -> Tensor:
        return y.clamp(min=1) / _like(self.scale, y) ** 2

    def check(self, y: Tensor) -> None:
        self._check_counts("y", y)
        self._check_fits("scale", self.scale, y)
        self._check_fits("background", self.background, y)

    def _check_clean(self, clean: Tensor) -> None:
        super()._check_clean(clean)
        self._check_counts("clean", clean)
        self._check_fits("scale", self.scale, clean)
        self._check_fits("background", self.background, clean)
