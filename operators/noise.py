"""Noise models: from clean data to what a scanner records, and back to the range of A."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .tensors import real_dtype, spread

Value = float | Tensor


class NoiseModel(nn.Module, ABC):
    """The law of raw data y given clean data A x.

    noise(clean, seed=0)    raw data, drawn on the CPU, one seed per image
    noise.linearise(y)      data in the range of A, from raw data
    noise.variance(y)       variance of the linearised data, from raw data
    noise.average(clean)    what one bin of several sub-bins (last dimension) would see
    noise.at(clean)         this model with every open parameter fixed for these clean data
    noise.select(index)     this model for one image, or some (slice, indices), of its batch
    noise.check(y)          ValueError if y cannot be raw data of this model
    noise.config()          its parameters as floats, for the record of a result

    The last `data_ndim` dimensions of data are one image: 2 for a sinogram, 3 for cone data or coils.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data_ndim: int = 2) -> None:
        super().__init__()
        self.data_ndim = data_ndim

    @abstractmethod
    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Raw data of one image; `clean` is (*data shape), float64 or complex128, on the CPU."""

    @torch.no_grad()
    def forward(self, clean: Tensor, seed: int | Sequence[int] = 0) -> Tensor:
        """Raw data of `clean`, (*batch, *data shape), on its device and in its dtype.

        Drawn on the CPU in double precision. Image i of the batch has its own seed, made from (seed, i) by
        `image_seeds`; a sequence gives one seed per image. So a draw is the same alone and in a batch.
        """
        self._check_clean(clean)
        model = self.at(clean)
        images = clean.cpu().to(torch.complex128 if clean.is_complex() else torch.float64)
        images = images.reshape(-1, *clean.shape[clean.ndim - self.data_ndim :])
        y = torch.empty_like(images)
        for i, image_seed in enumerate(image_seeds(seed, len(images))):
            generator = torch.Generator().manual_seed(image_seed)
            y[i] = model.select(i).draw(images[i], generator)
        return y.reshape(clean.shape).to(clean.device, clean.dtype)

    def linearise(self, y: Tensor) -> Tensor:
        return y

    @abstractmethod
    def variance(self, y: Tensor) -> Tensor:
        """Variance of `linearise(y)`, shape of y."""

    def average(self, clean: Tensor) -> Tensor:
        return clean.mean(-1)

    def at(self, clean: Tensor) -> NoiseModel:
        return self

    def select(self, index: int | slice | Tensor) -> NoiseModel:
        return self

    def check(self, y: Tensor) -> None:
        """Raise ValueError if y cannot be raw data of this model."""
        self._check_finite("y", y)

    def config(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for name in self.fields:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                values |= {f"{name}_{what}": float(getattr(value, what)()) for what in ("min", "mean", "max")}
            elif value is not None:
                values[name] = float(value)
        return values

    def __repr__(self) -> str:
        arguments = [f"{name}={_show(getattr(self, name))}" for name in self.fields]
        if self.data_ndim != 2:
            arguments.append(f"data_ndim={self.data_ndim}")
        return f"{type(self).__name__}({', '.join(a for a in arguments if not a.endswith('=None'))})"

    def _set(self, name: str, value: Value | Sequence[float] | None) -> None:
        """Keep a number as a float and anything with a shape as a buffer."""
        if value is None or isinstance(value, int | float):
            setattr(self, name, None if value is None else float(value))
            return
        tensor = torch.as_tensor(value).detach()
        tensor = tensor if tensor.is_floating_point() else tensor.double()
        if tensor.ndim == 0:
            setattr(self, name, float(tensor))
        else:
            self.register_buffer(name, tensor)

    def _require(self, name: str, low: float, strict: bool) -> None:
        value = torch.as_tensor(getattr(self, name))
        fine = (value > low if strict else value >= low) & torch.isfinite(value)
        if not bool(fine.all()):
            wanted = "positive" if strict else "non-negative"
            got = _show(getattr(self, name))
            raise ValueError(f"{type(self).__name__} {name}: expected {wanted} finite numbers, got {got}")

    def _selected(self, value: Value, index: int | slice | Tensor) -> Value:
        """The part of a per-ray or per-image value that belongs to some images of the batch."""
        if not isinstance(value, Tensor) or value.ndim <= self.data_ndim:
            return value
        flat = value.reshape(-1, *value.shape[value.ndim - self.data_ndim :])
        return flat[0] if len(flat) == 1 else flat[index]

    def _check_clean(self, clean: Tensor) -> None:
        self._check_finite("clean", clean)
        if clean.ndim < self.data_ndim:
            raise ValueError(
                f"{self!r} clean: expected at least {self.data_ndim} dimensions, got {tuple(clean.shape)}"
            )

    def _check_finite(self, name: str, y: Tensor) -> None:
        if not isinstance(y, Tensor) or not (y.is_floating_point() or y.is_complex()):
            got = y.dtype if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"{self!r} {name}: expected a floating-point tensor, got {got}")
        bad = int((~torch.isfinite(y)).sum())
        if bad:
            raise ValueError(f"{self!r} {name}: expected finite data, got {bad} NaN or inf of {y.numel()}")

    def _check_counts(self, name: str, y: Tensor, negative: bool = False) -> None:
        self._check_finite(name, y)
        if y.is_complex():
            raise ValueError(f"{self!r} {name}: expected real values, got {y.dtype}")
        if not negative and bool((y < 0).any()):
            raise ValueError(
                f"{self!r} {name}: expected no negative values, got {int((y < 0).sum())} of {y.numel()}, "
                f"lowest {float(y.min()):g}; post-log data or an offset are not counts"
            )


class Gaussian(NoiseModel):
    """y = A x + n, n ~ N(0, σ²); for complex data circular with E|n|² = σ² (σ²/2 in each of re and im).

    Give exactly one of

    sigma     standard deviation, unit of the data; one number or one per image (*batch,)
    relative  σ = relative · mean|A x| of each image; fixed by `at(clean)`, which `simulate` does
    """

    fields = ("sigma", "relative")
    sigma: Value | None
    relative: float | None

    def __init__(
        self,
        sigma: Value | Sequence[float] | None = None,
        relative: float | None = None,
        data_ndim: int = 2,
    ):
        super().__init__(data_ndim)
        if (sigma is None) == (relative is None):
            raise ValueError(
                f"Gaussian: expected exactly one of sigma and relative, got {sigma=}, {relative=}"
            )
        self._set("sigma", sigma)
        self._set("relative", relative)
        self._require("relative" if sigma is None else "sigma", 0, strict=True)

    def at(self, clean: Tensor) -> NoiseModel:
        if self.relative is None:
            return self
        mean = clean.detach().abs().double().flatten(clean.ndim - self.data_ndim).mean(-1)
        if not bool((mean > 0).all()):
            raise ValueError(f"{self!r} clean: an image is zero everywhere; give sigma instead of relative")
        return Gaussian(sigma=self.relative * mean, data_ndim=self.data_ndim)

    def select(self, index: int | slice | Tensor) -> NoiseModel:
        if not isinstance(self.sigma, Tensor):
            return self
        return Gaussian(sigma=self.sigma.reshape(-1)[index], data_ndim=self.data_ndim)

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        # torch's complex normal has E|n|² = 1
        noise = torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
        return clean + self._sigma(clean) * noise

    def variance(self, y: Tensor) -> Tensor:
        return torch.ones_like(y.real) * self._sigma(y) ** 2

    def _sigma(self, y: Tensor) -> Value:
        if self.sigma is None:
            raise ValueError(f"{self!r}: σ is not known yet; use noise.at(clean)")
        if isinstance(self.sigma, Tensor) and y.ndim - self.data_ndim != self.sigma.ndim:
            raise ValueError(
                f"{self!r}: sigma has one value per image; expected batch {tuple(self.sigma.shape)} before "
                f"{self.data_ndim} dimensions per image, got {tuple(y.shape)}; see noise.select"
            )
        return spread(_like(self.sigma, y), self.data_ndim)


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

    def _check_clean(self, clean: Tensor) -> None:
        super()._check_clean(clean)
        self._check_counts("clean", clean)


class LowDose(NoiseModel):
    """y = Poisson(I₀ exp(−p) + b) + N(0, σₑ²): photon counts of a CT detector behind line integrals p = A x.

    linearise(y) = −log(max(y − b, floor) / I₀). Where fewer than `floor` counts are left (starvation, and the
    negative values that electronic noise makes) the floor is taken, 0.1 counts as in LoDoPaB-CT (Leuschner et
    al., Sci. Data 2021).

    variance(y): to first order var p̂ = (∂p̂/∂y)² var y with ∂p̂/∂y = −1/(y − b) and var y = E y + σₑ², so
    with y for E y it is (y + σₑ²) / (y − b)², y − b floored in both. Below some 20 counts it is too small.

    Parameters
    ----------
    i0 : photons per ray of the open beam; a number, or (bowtie) a tensor that broadcasts to the sinogram
    electronic_sigma : standard deviation of the electronic noise [counts]
    background : expected scatter [counts]; a number, or a tensor that broadcasts to the sinogram
    floor : fewest counts the logarithm sees [counts]
    """

    fields = ("i0", "electronic_sigma", "background", "floor")
    i0: Value
    background: Value
    electronic_sigma: float
    floor: float

    def __init__(
        self,
        i0: Value,
        electronic_sigma: float = 0.0,
        background: Value = 0.0,
        floor: float = 0.1,
        data_ndim: int = 2,
    ):
        super().__init__(data_ndim)
        self._set("i0", i0)
        self._set("background", background)
        self.electronic_sigma, self.floor = float(electronic_sigma), float(floor)
        self._require("i0", 0, strict=True)
        self._require("electronic_sigma", 0, strict=False)
        self._require("background", 0, strict=False)
        self._require("floor", 0, strict=True)

    def expected(self, p: Tensor) -> Tensor:
        """E y = I₀ exp(−p) + b [counts]."""
        return _like(self.i0, p) * (-p).exp() + _like(self.background, p)

    def select(self, index: int | slice | Tensor) -> NoiseModel:
        i0, background = self._selected(self.i0, index), self._selected(self.background, index)
        return LowDose(i0, self.electronic_sigma, background, self.floor, self.data_ndim)

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        counts = torch.poisson(self.expected(clean), generator=generator)
        electronic = torch.randn(counts.shape, generator=generator, dtype=counts.dtype)
        return counts + self.electronic_sigma * electronic

    def linearise(self, y: Tensor) -> Tensor:
        return -(self._signal(y) / _like(self.i0, y)).log()

    def variance(self, y: Tensor) -> Tensor:
        signal = self._signal(y)
        return (signal + _like(self.background, y) + self.electronic_sigma**2) / signal**2

    def average(self, clean: Tensor) -> Tensor:
        """−log mean exp(−p) over the last dimension: sub-bins add up their intensities."""
        return math.log(clean.shape[-1]) - torch.logsumexp(-clean, -1)

    def check(self, y: Tensor) -> None:
        self._check_counts("y", y, negative=self.electronic_sigma > 0)

    def _signal(self, y: Tensor) -> Tensor:
        return (y - _like(self.background, y)).clamp(min=self.floor)

    def _check_clean(self, clean: Tensor) -> None:
        super()._check_clean(clean)
        self._check_counts("clean", clean, negative=True)


def image_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """One seed per image: those given, or made from (seed, i), independent of `count`."""
    if isinstance(seed, int | np.integer):
        if seed < 0:
            raise ValueError(f"seed: expected a non-negative integer, got {seed}")
        states = (np.random.SeedSequence([int(seed), i]).generate_state(1, np.uint64) for i in range(count))
        return [int(state[0]) >> 1 for state in states]
    seeds = [int(s) for s in seed]
    if len(seeds) != count:
        raise ValueError(f"seed: expected one integer or {count}, one per image, got {len(seeds)}")
    return seeds


def _like(value: Value, y: Tensor) -> Any:
    """A parameter on the device and in the precision of the data."""
    return value.to(y.device, real_dtype(y)) if isinstance(value, Tensor) else value


def _show(value: Value | None) -> str:
    if isinstance(value, Tensor):
        return f"<{tuple(value.shape)}: {float(value.min()):g}…{float(value.max()):g}>"
    return "None" if value is None else f"{value:.12g}"
