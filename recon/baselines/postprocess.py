"""Filtered back projection, then a U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from operators import LinearOperator, fbp
from priors.networks.dropout import dropping
from priors.networks.seeds import seeded
from priors.networks.unet import UNet

from ..learned import Learned, TrainedFor
from ..problem import Problem
from ..training import TrainingConfig, within


@dataclass(frozen=True)
class FBPUNetConfig(TrainingConfig):
    """Jin et al. 2017 as Adler and Öktem 2018 train it: 64 channels, five scales, no normalisation.

    base, depth : channels of the finest scale, doubled at each of `depth` scales
    norm : "none", "group", "instance" or "batch"
    filter, frequency_scaling : of the filtered back projection
    dropout : part of the channels left out while training, and by `recon.MCDropout`
    """

    base: int = 64
    depth: int = 5
    norm: Literal["none", "group", "instance", "batch"] = "none"
    filter: str = "hann"
    frequency_scaling: float = 1.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        within("FBPUNet base", self.base, 1, 10_000)
        within("FBPUNet depth", self.depth, 1, 12)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"FBPUNet dropout: expected a number from 0 to below 1, got {self.dropout}")


class FBPUNet(Learned):
    """x = x₀ + f(x₀),  x₀ = FBP(y): a U-Net takes the streaks out of the filtered back projection.

    Jin, McCann, Froustey, Unser, IEEE Trans. Image Process. 26 (2017). Trained by the squared error to the
    truth; sees the data only through x₀. Starts as FBP itself.
    """

    data_kind = "paired"
    Config = FBPUNetConfig

    def build(self, scanner: TrainedFor) -> None:
        c = self.config
        with seeded(c.seed):
            widths = [c.base * 2**k for k in range(c.depth)]
            self.network = UNet(channels=widths, norm=c.norm, residual=True, dropout=c.dropout)
        self.trained_for = scanner

    def loss(
        self, problem: Problem, images: Tensor, generator: torch.Generator
    ) -> Tensor | Mapping[str, Tensor]:
        with dropping(self, generator):
            return super().loss(problem, images, generator)

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        x = fbp(A, y, filter=self.config.filter, frequency_scaling=self.config.frequency_scaling)
        return self.network(x[:, None])[:, 0]

    @classmethod
    def examples(cls) -> list[FBPUNet]:
        return [cls(base=4, depth=2, steps=2, batch_size=2)]
