"""Stein's unbiased risk estimate as a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from operators.tensors import spread

from ..learned import squared
from ..problem import Problem
from ..unrolled.base import at_least
from .base import SelfSupervised, SelfSupervisedConfig


@dataclass(frozen=True)
class SURETrainingConfig(SelfSupervisedConfig):
    """The precision is float32: bfloat16 rounds away the difference that the divergence is made of.

    step : of the divergence's difference quotient, in standard deviations of the noise
    """

    step: float = 0.01
    batch_size: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("SURETraining step", self.step, 1e-6)
        exact("SURETraining", self)


class SURETraining(SelfSupervised):
    """min_f E ‖A f(y) − y‖² + 2 Σ σᵢ² ∂(A f)ᵢ/∂yᵢ: the mean squared error in the data, without clean data.

    Stein, Ann. Statist. 9 (1981); the divergence by Ramani, Blu, Unser, IEEE Trans. Image Process. 17 (2008).
    For Gaussian noise of known variance, equal for all rays or not, real or complex; for counts after the
    logarithm as far as they are Gaussian. Says nothing about what A does not see: there an image is what the
    network makes of it by itself.
    """

    name: ClassVar[str] = "sure"
    Config = SURETrainingConfig

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        """The estimate per ray, at ‖A‖ = 1, mean over the batch."""
        y, _ = self.inside(problem)
        risk = stein(
            lambda v: problem.A(self.apply_to(problem.A, v)),
            y,
            self.variance(problem),
            generator,
            self.config.step,
        )
        return risk.mean() / self.scanner(problem).norm ** 2

    @classmethod
    def examples(cls) -> list[SURETraining]:
        few = {"splits": 2, "steps": 2, "batch_size": 2}
        return [
            cls(settings={"base": 4, "depth": 2}, **few),
            cls(method="learned-gradient", settings={"iterations": 2, "hidden": 4}, **few),
        ]


def exact(name: str, config: SelfSupervisedConfig) -> None:
    """Raise ValueError where networks do not tell f(y + τ b) from f(y)."""
    if config.precision != "float32":
        raise ValueError(
            f"{name} precision: expected 'float32', got {config.precision!r}: its rounding is more than the "
            "difference that the estimate of Stein is made of"
        )
    if config.settings.get("dropout"):
        raise ValueError(
            f"{name} settings: expected no dropout, got {config.settings['dropout']!r}: it leaves out other "
            "channels in f(y + τ b) than in f(y), of which the estimate of Stein is made"
        )


def stein(
    predict: Callable[[Tensor], Tensor],
    y: Tensor,
    variance: Tensor,
    generator: torch.Generator,
    step: float = 0.01,
    h: Tensor | None = None,
) -> Tensor:
    """Mean over rays of |h(y) − y|² − σ² + 2 σ² Re b̄ (h(y + τ b) − h(y)) / τ, per image (n,).

    Its expectation over noise and b, as τ → 0, is the mean of E|h(y) − E y|²: Stein's lemma with a Monte
    Carlo divergence. b ~ N(0, 1), circular with E|b|² = 1 where y is complex.

    predict  h, data (n, *shape) -> predicted data; every image by itself
    variance σ² = E|noise|², (n, *shape); inf where nothing was measured, which does not count
    step     τ over the root mean square of σ
    h        h(y), if it is known already
    """
    measured = torch.isfinite(variance)
    sigma2 = torch.where(measured, variance, 0)
    count = measured.flatten(1).sum(1)
    tau = spread(step * (sigma2.flatten(1).sum(1) / count).sqrt(), y.ndim - 1)
    probe = torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device) * measured
    h = predict(y) if h is None else h
    moved = predict(y + tau * probe)
    slope = (probe.conj() * (moved - h)).real / tau
    per_ray = (squared(h - y) - sigma2 + 2 * sigma2 * slope) * measured
    return per_ray.flatten(1).sum(1) / count
