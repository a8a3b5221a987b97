"""A direct reconstruction, then a network: the base of all post-processing, and the U-Net after FBP."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator
from operators.backprojection import ramp
from operators.tensors import spread
from priors.networks.dropout import dropping
from priors.networks.seeds import seeded
from priors.networks.unet import UNet

from ..learned import Learned, TrainedFor, squared
from ..problem import Problem
from ..training import TrainingConfig, within
from .postprocess_direct import direct as direct


@dataclass(frozen=True)
class PostProcessingConfig(TrainingConfig):
    """What every network after a direct reconstruction lets one choose.

    filter, frequency_scaling : of the filtered back projection, where there is one
    dim : 2, the network sees planes; or 3, volumes
    stack : slices that a plane is seen with, itself in the middle (2.5-D), odd; the last ones are repeated
        beyond the ends of the volume
    patch : trained on pieces of so many pixels a side, one at a random place of every image of a batch (all
        of an image that is smaller); None for whole images. What is reconstructed is always whole
    """

    filter: str = "hann"
    frequency_scaling: float = 1.0
    dim: int = 2
    stack: int = 1
    patch: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__.removesuffix("Config")
        ramp(1, 1.0, self.filter, self.frequency_scaling)  # says what is wrong with them
        within(f"{name} dim", self.dim, 2, 3)
        within(f"{name} stack", self.stack, 1, 999)
        if self.stack % 2 == 0 or (self.stack > 1 and self.dim == 3):
            raise ValueError(f"{name} stack: expected an odd number, and 1 with dim=3, got {self.stack}")
        if self.patch is not None:
            within(f"{name} patch", self.patch, 1, 100_000)


class PostProcessing(Learned):
    """x = f(x₀), or x₀ + f(x₀),  x₀ = direct(A, y): a network between images.

    `direct` is FBP, zero filling, or the data themselves where A is `Identity` (translation). A subclass
    makes the network f in `make`. Complex images are two channels, real and imaginary; slices and frames of
    an image are a batch to a network of planes. Sees the data through x₀ alone.
    """

    data_kind = "paired"
    Config: ClassVar[type[TrainingConfig]] = PostProcessingConfig
    tier: ClassVar[Literal["A", "B", "C"]] = "B"
    residual: ClassVar[bool] = False
    """Whether x₀ is added to what the network says; one that adds it by itself says False."""

    @abstractmethod
    def make(self, inside: int, outside: int) -> nn.Module:
        """The network (n, inside, *plane) -> (n, outside, *plane), weights from the current seed."""

    any_shape = True

    def build(self, scanner: TrainedFor) -> None:
        c, name = self.config, type(self).__name__
        needed = 3 if c.dim == 3 or c.stack > 1 else 2
        if len(scanner.in_shape) < needed:
            raise ValueError(
                f"{name}.fit data: dim={c.dim}, stack={c.stack} needs images of {needed} axes or more, got "
                f"{scanner.in_shape}"
            )
        parts = 1 + scanner.complex
        with seeded(c.seed):
            self.network = self.make(parts * c.stack, parts)
        self.trained_for = scanner

    def loss(
        self, problem: Problem, images: Tensor, generator: torch.Generator
    ) -> Tensor | Mapping[str, Tensor]:
        """`distance` between x and the truth, or between pieces of them, at image scale 1."""
        y, scale = self.inside(problem)
        truth = images / spread(scale, len(problem.A.in_shape))
        x, truth = self.pieces(self.first(problem.A, y), truth, generator)
        with dropping(self, generator):
            return self.distance(self.corrected(x), truth)

    def distance(self, x: Tensor, truth: Tensor) -> Tensor:
        """Mean |x − truth|², a number."""
        return squared(x - truth).mean()

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        return self.corrected(self.first(A, y))

    def first(self, A: LinearOperator, y: Tensor) -> Tensor:
        """x₀."""
        return direct(A, y, self.config.filter, self.config.frequency_scaling)

    def corrected(self, x: Tensor) -> Tensor:
        """What the network makes of x₀ (n, *shape)."""
        c = self.config
        planes = to_channels(x, c.dim, c.stack)
        out = from_channels(self.network(planes).to(planes.dtype), x, c.dim)
        return x + out if self.residual else out

    def pieces(self, x: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What is trained on, of whole images x₀ and truth."""
        if self.config.patch is None:
            return x, truth
        return crops((x, truth), self.config.patch, self.config.dim, generator)


def to_channels(x: Tensor, dim: int = 2, stack: int = 1) -> Tensor:
    """(n, …, *plane), real or complex, as real (m, channels, *plane), planes of `dim` axes.

    Channels: real parts of the `stack` slices around a plane, then their imaginary parts.
    """
    slices = [x]
    if stack > 1:
        reach, axis = stack // 2, x.ndim - dim - 1
        at = torch.arange(x.shape[axis], device=x.device)
        last = x.shape[axis] - 1
        slices = [x.index_select(axis, (at + k).clamp(0, last)) for k in range(-reach, reach + 1)]
    seen = torch.stack(slices, -dim - 1)
    if x.is_complex():
        seen = torch.cat([seen.real, seen.imag], -dim - 1)
    return seen.flatten(0, -dim - 2)


def from_channels(planes: Tensor, like: Tensor, dim: int = 2, times: int = 1) -> Tensor:
    """Back to the shape of `like`, planes `times` as wide; complex if it is, from two channels."""
    half = planes.shape[1] // 2
    if like.is_complex():
        planes = torch.complex(planes[:, :half].contiguous(), planes[:, half:].contiguous())
    plane = [times * n for n in like.shape[-dim:]]
    return planes[:, 0].reshape(*like.shape[:-dim], *plane)


def beginning(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The first values along each of the last axes, at most so many as `shape` says."""
    for axis, n in zip(range(-len(shape), 0), shape, strict=True):
        x = x.narrow(axis, 0, min(n, x.shape[axis]))
    return x


def crops(
    pair: tuple[Tensor, Tensor], side: int, dim: int, generator: torch.Generator, times: int = 1
) -> tuple[Tensor, Tensor]:
    """Of every image of a batch one piece at a random place, the same of both; the second's `times` as wide.

    Slices and frames of an image are cut at the same place.
    """
    first, second = pair
    shape = first.shape[-dim:]
    size = [min(side, n) for n in shape]
    mine, others = [], []
    for a, b in zip(first, second, strict=True):
        corner = [
            int(torch.randint(n - s + 1, (), generator=generator)) for n, s in zip(shape, size, strict=True)
        ]
        mine.append(a[(..., *(slice(k, k + s) for k, s in zip(corner, size, strict=True)))])
        wide = (slice(times * k, times * (k + s)) for k, s in zip(corner, size, strict=True))
        others.append(b[(..., *wide)])
    return torch.stack(mine), torch.stack(others)


@dataclass(frozen=True)
class FBPUNetConfig(PostProcessingConfig):
    """Jin et al. 2017 as Adler and Öktem 2018 train it: 64 channels, five scales, no normalisation.

    base, depth : channels of the finest scale, doubled at each of `depth` scales
    norm : "none", "group", "instance" or "batch"
    dropout : part of the channels left out while training, and by `recon.MCDropout`
    and the settings of `PostProcessingConfig`
    """

    base: int = 64
    depth: int = 5
    norm: Literal["none", "group", "instance", "batch"] = "none"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        within("FBPUNet base", self.base, 1, 10_000)
        within("FBPUNet depth", self.depth, 1, 12)
        if self.dim != 2:
            raise ValueError(f"FBPUNet dim: expected 2, for volumes take FBPConvNet, got {self.dim}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"FBPUNet dropout: expected a number from 0 to below 1, got {self.dropout}")


class FBPUNet(PostProcessing):
    """x = x₀ + f(x₀),  x₀ = FBP(y): a U-Net takes the streaks out of the filtered back projection.

    Jin, McCann, Froustey, Unser, IEEE Trans. Image Process. 26 (2017). Trained by the squared error to the
    truth; sees the data only through x₀. Starts as FBP itself. `FBPConvNet` is it with their settings.
    """

    Config = FBPUNetConfig
    residual = True

    def make(self, inside: int, outside: int) -> nn.Module:
        c = self.config
        widths = [c.base * 2**k for k in range(c.depth)]
        network = UNet(inside, outside, widths, norm=c.norm, dropout=c.dropout)
        nn.init.zeros_(network.last.weight)
        return network

    @classmethod
    def examples(cls) -> list[Any]:
        tiny = {"base": 4, "depth": 2, "steps": 2, "batch_size": 2}
        return [cls(**tiny), cls(**tiny, patch=7)]
