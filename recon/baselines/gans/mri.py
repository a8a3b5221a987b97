"""Adversarial MR reconstruction: DAGAN, RefineGAN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator
from operators.tensors import spread
from priors.networks.dropout import dropping

from ...problem import Problem
from ...training import within
from .base import GAN
from .config import GANConfig, Options

Schedule = Literal["cosine", "constant", "step", "inverse", "linear"]


@dataclass(frozen=True)
class DAGANConfig(GANConfig):
    """Yang G. et al. 2018, by their code: 15·NMSE, 0.1·k-space, 0.0025·VGG (conv4), magnitudes.

    Adam 1e-4 (0.5), batches of 25, the rate halved every five epochs, the best weights in validation.
    """

    generator: str = "DAGANGenerator"
    discriminator: str | None = "DAGANDiscriminator"
    conditional: bool = False
    losses: tuple[Any, ...] = (
        ("nmse", 15.0, {"root": True}),
        ("k-space", 0.1),
        ("content", 0.0025, {"layers": ("conv4_3",)}),
    )
    complex: Literal["channels", "magnitude"] = "magnitude"
    batch_size: int = 25
    learning_rate: float = 1e-4
    schedule: Schedule = "step"
    milestones: tuple[int, ...] = (20_000, 40_000, 60_000, 80_000)
    decay: float = 0.5
    choose: Literal["last", "best"] = "best"


class DAGAN(GAN):
    """G: −log D + 15·NMSE + 0.1·mean (|FG(x₀)| − |Fx|)² + 0.0025·VGG features, G = clip(x₀ + U-Net(x₀)).

    Yang G. et al., IEEE Trans. Med. Imaging 37 (2018). Of magnitudes: the phase of a complex image is that of
    the zero-filled one. Nothing holds the result to the data.
    """

    Config = DAGANConfig
    name = "dagan"
    small: ClassVar[dict[str, Any]] = {
        "generator_options": {"down": (4, 8), "up": (8, 4)},
        "discriminator_options": {"base": 4, "depth": 2},
    }


@dataclass(frozen=True)
class RefineGANConfig(GANConfig):
    """Quan, Nguyen-Duc, Jeong 2018, by their code: two residual networks, WGAN with weights within 0.01.

    stages : networks in a row, each followed by the data
    final, before, frequencies : weights of the last image over 2s, of the images before the data are put in
        over 2s, and of the data over 4s², s the part of k-space that was sampled
    and the settings of `GANConfig`; the cross terms between two images of a batch are left out
    """

    generator: str = "EncoderDecoder"
    generator_options: Options = field(
        default_factory=lambda: {
            "channels": (64, 128, 256, 512), "skips": "add", "norm": "instance", "residual": True,
            "activation": "leaky",
        }
    )  # fmt: skip
    discriminator_options: Options = field(default_factory=lambda: {"norm": "none"})
    conditional: bool = False
    mode: str = "wgan"
    bound: float | None = 0.01
    losses: tuple[Any, ...] = (("tv", 1e-4),)
    stages: int = 2
    final: float = 10.0
    before: float = 1000.0
    frequencies: float = 1.0
    batch_size: int = 2
    learning_rate: float = 1e-4
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        within("RefineGAN stages", self.stages, 1, 100)
        if self.patch is not None:
            raise ValueError(f"RefineGAN patch: the data are those of whole images, got {self.patch}")


class RefineGAN(GAN):
    """x ← x + G_k(x), then x ← x + A*(y − A x)/‖A‖², k = 1, 2: residual networks, each followed by the data.

    Quan, Nguyen-Duc, Jeong, IEEE Trans. Med. Imaging 37 (2018). Of single-coil Cartesian data the second step
    puts the measured frequencies in the place of the network's. Complex images are two channels.
    """

    Config = RefineGANConfig
    name = "refinegan"
    small: ClassVar[dict[str, Any]] = {
        **GAN.small, "generator_options": {"channels": (4, 8), "skips": "add", "residual": True},
    }  # fmt: skip

    def make(self, inside: int, outside: int) -> nn.Module:
        make = super().make
        return nn.ModuleList(make(inside, outside) for _ in range(self.config.stages))

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        return self.stages(A, y)[-1][1]

    def stages(self, A: LinearOperator, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Images before and after the data were put in, from data over the image scale."""
        assert self.trained_for is not None
        x, found = self.first(A, y), list[tuple[Tensor, Tensor]]()
        for part in self.network:  # type: ignore[attr-defined]
            u = self.inward(x, 0)
            before = self.outward(part(u).to(u.dtype), x)
            x = before + A.adjoint(y - A(before)) / self.trained_for.norm**2
            found.append((before, x))
        return found

    def d_loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad(), dropping(self.network, generator):
            y, scale = self.inside(problem)
            fake = self.inward(self.stages(problem.A, y)[-1][1])
            real = self.inward(images / spread(scale, len(problem.A.in_shape)))
        return self.against(self.opponent, real, fake, generator)

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        c = self.config
        y, scale = self.inside(problem)
        truth = images / spread(scale, len(problem.A.in_shape))
        with dropping(self.network, generator):
            stages = self.stages(problem.A, y)
        share = 0.5 / (y != 0).float().mean().clamp(min=1e-6)
        x = stages[-1][1]
        terms = {
            "final": c.final * share * (x - truth).abs().mean(),
            "before": c.before * share * torch.stack([(b - truth).abs().mean() for b, _ in stages]).mean(),
            "frequencies": c.frequencies * share**2 * (problem.A(stages[-1][0]) - y).abs().mean(),
        }
        return terms | self.g_terms(
            self.inward(self.first(problem.A, y), 0), self.inward(truth), self.inward(x)
        )
