"""A network that says how sure it is: mean and variance of every pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from operators.tensors import spread
from priors.networks.dropout import dropping
from priors.networks.seeds import seeded
from priors.networks.unet import UNet

from ..baselines.postprocess import FBPUNet, FBPUNetConfig
from ..learned import TrainedFor
from ..problem import Problem
from .base import Prediction


@dataclass(frozen=True)
class HeteroscedasticConfig(FBPUNetConfig):
    """As `FBPUNet`, with

    first_spread   σ to begin with, in parts of the image's size
    least_spread   σ is never below: a pixel known exactly would have an infinite likelihood

    Images in the plane only, so without `stack`.
    """

    first_spread: float = 0.1
    least_spread: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.least_spread < self.first_spread < math.inf:
            raise ValueError(
                "HeteroscedasticUNet least_spread, first_spread: expected 0 < least < first, got "
                f"{self.least_spread}, {self.first_spread}"
            )
        if self.stack != 1:
            raise ValueError(f"HeteroscedasticUNet stack: expected 1, planes by themselves, got {self.stack}")


class HeteroscedasticUNet(FBPUNet):
    """x ~ N(x₀ + f(x₀), σ²),  x₀ = FBP(y),  f and ln(σ² − least²) from one U-Net.

    Tanno et al., MICCAI 2017 (their intrinsic uncertainty, theirs from a second network); Kendall and Gal,
    NeurIPS 2017. Trained by `gaussian_nll`; called: the mean. The variance is what data and network together
    leave open on images like those of the training (aleatoric); what the network has not seen it does not
    know: `DeepEnsemble` or `MCDropout` of it add that.
    """

    name: ClassVar[str] = "heteroscedastic-unet"
    Config = HeteroscedasticConfig

    def build(self, scanner: TrainedFor) -> None:
        c = self.config
        if scanner.complex or len(scanner.in_shape) != 2:
            kind = "complex" if scanner.complex else "real"
            raise ValueError(
                f"HeteroscedasticUNet.fit data: expected real images (ny, nx), got {kind} {scanner.in_shape}"
            )
        with seeded(c.seed):
            widths = [c.base * 2**k for k in range(c.depth)]
            self.network = UNet(1, 2, channels=widths, norm=c.norm, dropout=c.dropout)
        with torch.no_grad():  # FBP itself and one variance, as FBPUNet begins
            self.network.last.weight.zero_()
        self.trained_for = scanner

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and σ² of images of size 1, from x₀ (n, ny, nx)."""
        c = self.config
        out = self.network(x[:, None])
        # within e^±20 of where it begins, for no data whatever shall overflow
        variance = c.first_spread**2 * out[:, 1].clamp(-20.0, 20.0).exp()
        return x + out[:, 0], variance + c.least_spread**2

    def corrected(self, x: Tensor) -> Tensor:
        """The mean."""
        return self.both(x)[0]

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        y, scale = self.inside(problem)
        truth = images / spread(scale, len(problem.A.in_shape))
        x, truth = self.pieces(self.first(problem.A, y), truth, generator)
        with dropping(self, generator):
            return gaussian_nll(*self.both(x), truth).mean()

    def predict(self, problem: Problem) -> Prediction:
        scanner = self.scanner(problem)
        if problem.y.numel() == 0:
            empty = problem.y.new_zeros(*problem.batch, *scanner.in_shape)
            return Prediction(empty, empty, empty)
        y, scale = self.inside(problem)
        mean, variance = self.both(self.first(problem.A, y))
        unit = spread(scale, len(scanner.in_shape))
        shape = (*problem.batch, *scanner.in_shape)
        x, sigma = ((v * unit).reshape(shape).to(problem.y.dtype) for v in (mean, variance.sqrt()))
        return Prediction(x, sigma, sigma)

    @classmethod
    def examples(cls) -> list[FBPUNet]:
        return [cls(base=4, depth=2, steps=2, batch_size=2)]


def gaussian_nll(mean: Tensor, variance: Tensor, truth: Tensor) -> Tensor:
    """½[(x − μ)²/σ² + ln σ²] at every pixel; least at μ = E x, σ² = E(x − μ)²."""
    return 0.5 * ((truth - mean).square() / variance + variance.log())
