"""What every noise model is: from clean data to what a scanner records, and back to the range of A."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .tensors import real_dtype

Value = float | Tensor

LOWEST = -20.0  # line integral of rays that would be 5e8 times brighter than the open beam


class NoiseModel(nn.Module, ABC):
    """The law of raw data y given clean data A x.

    noise(clean, seed=0)    raw data, drawn on the CPU, one seed per image
    noise.linearise(y)      data in the range of A, from raw data
    noise.variance(y)       variance of the linearised data, from raw data
    noise.average(clean)    what one bin of several sub-bins (last dimension) would see
    noise.at(clean)         this model with every open parameter fixed for these clean data
    noise.select(index)     this model for one image, or some (slice, indices), of its batch
    noise.check(y)          ValueError if y cannot be raw data of this model
    noise.config()          its parameters as floats and words, for the record of a result

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

    def config(self) -> dict[str, float | str]:
        values: dict[str, float | str] = {}
        for name in self.fields:
            value = getattr(self, name)
            if isinstance(value, str):
                values[name] = value
            elif isinstance(value, Tensor):
                known = value.double()
                values |= {f"{name}_{what}": float(getattr(known, what)()) for what in ("min", "mean", "max")}
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

    def _check_fits(self, name: str, value: Value, y: Tensor) -> None:
        """A parameter broadcasts to the data, and does not widen them."""
        if not isinstance(value, Tensor):
            return
        data, own = tuple(y.shape), tuple(value.shape)
        padded = (1,) * (len(data) - len(own)) + own
        if len(own) > len(data) or any(n not in (1, m) for n, m in zip(padded, data, strict=True)):
            raise ValueError(
                f"{type(self).__name__} {name}: shape {own} does not broadcast to data of shape {data}; "
                "see noise.select for some images of a batch"
            )

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

    def _check_integrals(self, clean: Tensor) -> None:
        """Noise makes line integrals a little negative; HU, and signs that were lost, go far beyond."""
        if clean.numel() and float(clean.min()) < LOWEST:
            raise ValueError(
                f"{self!r} clean: expected line integrals A x of attenuation [1/mm], got "
                f"{float(clean.min()):g}; HU are not attenuation, see operators.to_attenuation"
            )

    def _check_counts(self, name: str, y: Tensor, negative: bool = False) -> None:
        self._check_finite(name, y)
        if y.is_complex():
            raise ValueError(f"{self!r} {name}: expected real values, got {y.dtype}")
        if not negative and bool((y < 0).any()):
            raise ValueError(
                f"{self!r} {name}: expected no negative values, got {int((y < 0).sum())} of {y.numel()}, "
                f"lowest {float(y.min()):g}; post-log data or an offset are not counts"
            )


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


def draw_images(
    data: Tensor, ndim: int, seed: int | Sequence[int], draw: Callable[[int, Tensor, torch.Generator], Tensor]
) -> Tensor:
    """`draw(i, image, generator)` for every image of `data`, on the CPU in double precision, one seed each.

    data  (*batch, *shape) with `ndim` dimensions in shape; the result has its shape, device and dtype
    seed  one for all, from which `image_seeds` makes one per image, or one per image
    """
    images = data.cpu().to(torch.complex128 if data.is_complex() else torch.float64)
    images = images.reshape(-1, *data.shape[data.ndim - ndim :])
    y = torch.empty_like(images)
    for i, image_seed in enumerate(image_seeds(seed, len(images))):
        y[i] = draw(i, images[i], torch.Generator().manual_seed(image_seed))
    return y.reshape(data.shape).to(data.device, data.dtype)


def _like(value: Value, y: Tensor) -> Any:
    """A parameter on the device and in the precision of the data."""
    return value.to(y.device, real_dtype(y)) if isinstance(value, Tensor) else value


def _show(value: Value | str | None) -> str:
    """A parameter as `repr` prints it."""
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, Tensor):
        return f"<{tuple(value.shape)}: {float(value.min()):g}…{float(value.max()):g}>"
    return "None" if value is None else f"{value:.12g}"
