"""Learned primal–dual hybrid gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator
from priors.networks.channels import Convolutions, on_planes, real_channels

from ..learned import TrainedFor
from ..training import within
from .base import Unrolled, UnrolledConfig, at_least, data_axes, one_of


@dataclass(frozen=True)
class LearnedPDHGConfig(UnrolledConfig):
    """Adler and Öktem 2018, "learned PDHG": ten iterations of two nets, 32 hidden, first steps ½, θ = 1.

    sigma, tau, theta : first values of the learned steps (‖A‖ = 1) and of the extrapolation
    """

    iterations: int = 10
    hidden: int = 32
    sigma: float = 0.5
    tau: float = 0.5
    theta: float = 1.0
    activation: Literal["prelu", "relu"] = "prelu"

    def __post_init__(self) -> None:
        super().__post_init__()
        within("LearnedPDHG iterations", self.iterations, 1, 1000)
        within("LearnedPDHG hidden", self.hidden, 1, 10_000)
        at_least("LearnedPDHG sigma", self.sigma, 0.0)
        at_least("LearnedPDHG tau", self.tau, 0.0)
        at_least("LearnedPDHG theta", self.theta, 0.0)
        one_of("LearnedPDHG activation", self.activation, ("prelu", "relu"))


class LearnedPDHG(Unrolled):
    """h ← P(h + σ A x̄, y),   x⁺ ← Q(x − τ A*h),   x̄ ← x⁺ + θ(x⁺ − x): Chambolle–Pock, proxes learned.

    Adler and Öktem, IEEE Trans. Med. Imaging 37 (2018), sec. III; P(u, y) = u + p(u, y) and Q(v) = v + q(v)
    with nets p and q that all iterations share; σ, τ, θ are learned. Everything starts at zero.
    """

    Config = LearnedPDHGConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        one, two = (real_channels(k, scanner.complex) for k in (1, 2))
        self.dual = Convolutions(two, one, c.hidden, activation=c.activation)
        self.primal = Convolutions(one, one, c.hidden, activation=c.activation)
        self.steps = nn.Parameter(torch.tensor([float(v) for v in (c.sigma, c.tau, c.theta)]))

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        sigma, tau, theta = self.steps
        axes = data_axes(A)

        def step(h: Tensor, x: Tensor, bar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            h = h + sigma * A(bar)
            h = h + on_planes(self.dual, torch.stack([h, y], 1), axes)[:, 0]
            new = x - tau * A.adjoint(h)
            new = new + on_planes(self.primal, new[:, None])[:, 0]
            return h, new, new + theta * (new - x)

        h = torch.zeros_like(y)
        x = bar = y.new_zeros(len(y), *A.in_shape)
        for _ in range(self.config.iterations):
            h, x, bar = self.again(step, h, x, bar)
        return x

    @classmethod
    def examples(cls) -> list[LearnedPDHG]:
        small = {"iterations": 2, "hidden": 4, "steps": 2, "batch_size": 2}
        return [cls(**small), cls(**small, checkpoint=True, normalise="data")]
