"""Super-resolution: SRCNN after cubic interpolation, ESPCN from the coarse pixels themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from operators import LinearOperator
from priors import networks

from ..learned import TrainedFor
from ..train_config import Optimizer, Schedule
from ..training import within
from ..unrolled.base import unscaled
from .postprocess import (
    PostProcessing,
    PostProcessingConfig,
    beginning,
    crops,
    direct,
    from_channels,
    to_channels,
)


@dataclass(frozen=True)
class SRCNNConfig(PostProcessingConfig):
    """Dong et al. 2016: kernels 9-1-5, pieces of 33², momentum 0.9, rate 1e-4 (1e-5 in their last layer).

    middle : side of the middle kernel; 5 is their larger network
    and the settings of `PostProcessingConfig`
    """

    middle: int = 1
    patch: int | None = 33
    optimizer: Optimizer = "sgd"
    learning_rate: float = 1e-4
    schedule: Schedule = "constant"
    batch_size: int = 128
    steps: int = 1_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        within("SRCNN middle", self.middle, 1, 99)


class SRCNN(PostProcessing):
    """x = f(x₀),  x₀ the coarse image enlarged by cubic interpolation, f three convolutions.

    Dong, Loy, He, Tang, IEEE Trans. Pattern Anal. Mach. Intell. 38 (2016). For `Downsample` problems; of
    other ones x₀ is `direct`'s.
    """

    Config = SRCNNConfig
    name = "srcnn"

    def make(self, inside: int, outside: int) -> nn.Module:
        return networks.SRCNN(inside, outside, self.config.middle, self.config.dim)

    def first(self, A: LinearOperator, y: Tensor) -> Tensor:
        return fine_start(A, y, self.config.filter, self.config.frequency_scaling)

    @classmethod
    def examples(cls) -> list[Any]:
        return [cls(steps=2, batch_size=2, patch=8)]


def fine_start(A: LinearOperator, y: Tensor, filter: str = "hann", frequency_scaling: float = 1.0) -> Tensor:
    """x₀: of coarser images (an operator with a `factor`) these `enlarged`, else as `direct`."""
    c, inner = unscaled(A)
    factor = getattr(inner, "factor", None)
    if not isinstance(factor, int) or len(inner.in_shape) != len(inner.out_shape):
        return direct(A, y, filter, frequency_scaling)
    axes = sum(n != m for n, m in zip(inner.in_shape, inner.out_shape, strict=True))
    return enlarged(y / c, factor, inner.in_shape, max(2, axes))


def enlarged(y: Tensor, factor: int, shape: tuple[int, ...], axes: int = 2) -> Tensor:
    """Pixels (*batch, *coarse) each cut into `factor` along the last two axes by cubic interpolation.

    Of three axes by linear interpolation. What the last blocks have too much is left out: (*batch, *shape).
    """
    channels = to_channels(y, axes)
    mode = "bicubic" if axes == 2 else "trilinear"
    # torch's antialiased cubic is that of Keys, which keeps planes planes; its other one does not
    wide = functional.interpolate(
        channels, scale_factor=factor, mode=mode, align_corners=False, antialias=axes == 2
    )
    fine = from_channels(wide, y, axes, factor)
    return beginning(fine, shape[-axes:])


@dataclass(frozen=True)
class ESPCNConfig(PostProcessingConfig):
    """Shi et al. 2016: pieces of 17² coarse pixels. Adam 1e-3 is ours.

    scale : fine pixels for a coarse one along each axis; None: what the shapes of the data say
    and the settings of `PostProcessingConfig`, `patch` in coarse pixels
    """

    scale: int | None = None
    patch: int | None = 17
    beta2: float = 0.999
    batch_size: int = 64
    steps: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None:
            within("ESPCN scale", self.scale, 1, 64)


class ESPCN(PostProcessing):
    """x = shuffle(f(y)): convolutions of the coarse image, whose last channels become the fine pixels.

    Shi et al., CVPR 2016. For problems whose data are coarser images, `Downsample`.
    """

    Config = ESPCNConfig
    name = "espcn"

    def build(self, scanner: TrainedFor) -> None:
        self.trained_for = scanner
        self._factor = self.factor(scanner)
        super().build(scanner)

    def make(self, inside: int, outside: int) -> nn.Module:
        return networks.ESPCN(inside, outside, self._factor, self.config.dim)

    def factor(self, scanner: TrainedFor) -> int:
        """Fine pixels for a coarse one."""
        fine, coarse, c = scanner.in_shape, scanner.out_shape, self.config
        tried = range(1, max(fine) + 1) if c.scale is None else [c.scale]
        for factor in tried:
            wanted = (*fine[: -c.dim], *(math.ceil(n / factor) for n in fine[-c.dim :]))
            if wanted == coarse:
                return factor
        raise ValueError(
            f"ESPCN: expected data that are images with fewer pixels along the last {c.dim} axes, as by "
            f"Downsample{'' if c.scale is None else f' and scale={c.scale}'}, got {coarse} for {fine}"
        )

    def first(self, A: LinearOperator, y: Tensor) -> Tensor:
        return y / unscaled(A)[0]

    def corrected(self, x: Tensor) -> Tensor:
        c = self.config
        assert self.trained_for is not None
        planes = to_channels(x, c.dim, c.stack)
        out = from_channels(self.network(planes).to(planes.dtype), x, c.dim, self._factor)
        # the last blocks may be smaller
        return beginning(out, self.trained_for.in_shape[-c.dim :])

    def pieces(self, x: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        c, r = self.config, self._factor
        if c.patch is None:
            return x, truth
        whole = [n // r for n in truth.shape[-c.dim :]]
        return crops((beginning(x, whole), truth), c.patch, c.dim, generator, r)

    @classmethod
    def examples(cls) -> list[Any]:
        return [cls(steps=2, batch_size=2, patch=4)]
