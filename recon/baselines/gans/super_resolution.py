"""Adversarial super-resolution: SRGAN."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator

from ...learned import TrainedFor
from ...unrolled.base import unscaled
from ..postprocess import crops
from .base import GAN
from .config import GANConfig, Options, network


@dataclass(frozen=True)
class SRGANConfig(GANConfig):
    """Ledig et al. 2017: VGG features, 1e-3·adversarial; SRResNet learns alone first, by ℓ₂. [recalled]

    16 pieces of 96² fine pixels, which are 24² coarse ones at four times; `patch` is in coarse pixels. Rate
    1e-4, a tenth of it after half of the 200 000 steps, after 1 000 000 of ℓ₂ alone (here 100 000 in all).
    """

    generator: str = "SRResNet"
    generator_options: Options = field(default_factory=lambda: {"last": "tanh"})
    discriminator: str | None = "ImageDiscriminator"
    discriminator_options: Options = field(
        default_factory=lambda: {"channels": (64, 64, 128, 128, 256, 256, 512, 512), "norm": "batch"}
    )
    conditional: bool = False
    adversarial: float = 1e-3
    losses: tuple[Any, ...] = (("vgg", 0.006, {"layers": ("relu5_4",)}),)
    pretrain: int = 50_000
    patch: int | None = 24
    batch_size: int = 16
    learning_rate: float = 1e-4
    beta1: float = 0.9
    schedule: Literal["cosine", "constant", "step", "inverse", "linear"] = "step"
    milestones: tuple[int, ...] = (75_000,)


class SRGAN(GAN):
    """x = G(y), a residual network that makes r fine pixels a side of a coarse one; features and adversary.

    Ledig et al., CVPR 2017; of volumes with dim=3, Sánchez and Vilaplana 2018 (with mode="lsgan"). For
    `Downsample` problems r is what their shapes say; of others x = G(x₀), x₀ = direct(A, y), and r = 1.
    """

    Config = SRGANConfig
    name = "srgan"
    small: ClassVar[dict[str, Any]] = {
        "generator_options": {"base": 4, "blocks": 1, "last": "tanh"},
        "discriminator_options": {"channels": (4, 4), "hidden": 4, "norm": "batch"},
        "patch": 12,
        "pretrain": 1,
    }

    def build(self, scanner: TrainedFor) -> None:
        self._factor = self.factor(scanner.in_shape, scanner.out_shape)
        super().build(scanner)

    def make(self, inside: int, outside: int) -> nn.Module:
        c = self.config
        options = {"scale": self._factor, **c.generator_options}
        return network("SRGAN generator", c.generator, options, inside, outside, c.dim, ())

    def factor(self, fine: tuple[int, ...], coarse: tuple[int, ...]) -> int:
        """Fine pixels for a coarse one along each axis; 1 where the data are no coarser images."""
        dim = self.config.dim
        for r in range(2, 17):
            if (*fine[:-dim], *(math.ceil(n / r) for n in fine[-dim:])) == coarse:
                return r
        return 1

    def first(self, A: LinearOperator, y: Tensor) -> Tensor:
        return super().first(A, y) if self._factor == 1 else y / unscaled(A)[0]

    def scanner_of(self, problem: Any, images: Tensor) -> TrainedFor:
        self._factor = self.factor(problem.A.in_shape, problem.A.out_shape)
        return super().scanner_of(problem, images)

    def pieces(self, x: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        c, r = self.config, self._factor
        whole = [n // r for n in truth.shape[-c.dim :]]
        index: tuple[Any, ...] = (..., *(slice(n) for n in whole))
        x = x[index]
        side = c.patch or max(whole)
        return crops((x, truth), side, c.dim, generator, r)

    def corrected(self, x: Tensor) -> Tensor:
        assert self.trained_for is not None
        fine = self.trained_for.in_shape[-self.config.dim :]
        out = self.outward(self.generated(self.inward(x, 0)), x, times=self._factor)
        # the last blocks may be smaller
        index: tuple[Any, ...] = (..., *(slice(n) for n in fine))
        return out[index]

    @property
    def plane(self) -> tuple[int, ...]:
        assert self.trained_for is not None
        c, r = self.config, self._factor
        whole = [n // r for n in self.trained_for.in_shape[-c.dim :]]
        return tuple(r * min(n, c.patch or n) for n in whole)
