"""Learned gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from operators import Gradient, LinearOperator
from priors.networks.channels import Convolutions, on_planes, real_channels

from ..learned import TrainedFor
from ..training import within
from .base import Start, Unrolled, UnrolledConfig, first_image


@dataclass(frozen=True)
class LearnedGradientConfig(UnrolledConfig):
    """Adler and Öktem 2017: ten iterations of one net, five channels of memory, 32 hidden.

    The paper's learning rate decays as 1/(1 + k/500), here by `schedule`; its RMSProp, whose first step is
    ten times as long as the others, kills the net or blows it up, so here it is Adam.

    shared : one net for all iterations
    start : the image to begin with, see `recon.unrolled.base.first_image`
    """

    iterations: int = 10
    memory: int = 5
    hidden: int = 32
    shared: bool = True
    start: Start = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        within("LearnedGradient iterations", self.iterations, 1, 1000)
        within("LearnedGradient memory", self.memory, 0, 10_000)
        within("LearnedGradient hidden", self.hidden, 1, 10_000)


class LearnedGradient(Unrolled):
    """(x, s) ← (x, s) + Λ(x, s, A*(A x − y), ∇*∇x): gradient descent with a learned step and a memory s.

    Adler and Öktem, Inverse Problems 33 (2017) 124007. The last two inputs are the gradients of ½‖A x − y‖²
    and of ½‖∇x‖² (per pixel, scaled to norm 1). Trained by the squared error to the truth.
    """

    Config = LearnedGradientConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        inside, outside = (real_channels(c.memory + k, scanner.complex) for k in (3, 1))
        count = 1 if c.shared else c.iterations
        # a net of zeros first: ten random steps in a row blow the image up
        self.nets = nn.ModuleList(Convolutions(inside, outside, c.hidden, last=0.0) for _ in range(count))

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        x = first_image(A, y, self.config.start)[:, None]
        state = torch.cat([x, x.new_zeros(len(x), self.config.memory, *x.shape[2:])], 1)
        rough = Gradient(A.in_shape[-2:])
        norm = rough.norm()

        def step(net: nn.Module, state: Tensor) -> Tensor:
            x = state[:, :1]
            data = A.adjoint(A(x) - y[:, None])
            smooth = rough.adjoint(rough(x)) / norm**2
            return state + on_planes(net, torch.cat([state, data, smooth], 1))

        for i in range(self.config.iterations):
            state = self.again(step, self.nets[i % len(self.nets)], state)
        return state[:, 0]

    @classmethod
    def examples(cls) -> list[LearnedGradient]:
        small = {"iterations": 2, "memory": 1, "hidden": 4, "steps": 2, "batch_size": 2}
        return [cls(**small), cls(**small, shared=False, start="adjoint", normalise="data", checkpoint=True)]
