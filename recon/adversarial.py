"""Variational reconstruction with a learned, adversarial regulariser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from operators import LinearOperator, fbp
from operators.tensors import norm
from priors import AdversarialRegulariser, Functional, NonNegative, SquaredL2
from priors.networks.critic import Critic
from priors.networks.seeds import seeded

from .data.sets import PairedData, UnpairedData
from .learned import Learned, TrainedFor
from .problem import Problem
from .solvers import gradient_descent, run
from .training import Progress, TrainingConfig, within


@dataclass(frozen=True)
class AdversarialRegularisationConfig(TrainingConfig):
    """Lunz, Öktem, Schönlieb 2018, and their code: RMSProp 1e-4, batches of 16, 1 400 critic steps.

    channels, strides, width : of the critic's convolutions and full layer; width None judges patches alike
    penalty : weight of the gradient penalty
    filter : of the filtered back projection where everything starts
    start_steps : gradient steps on the data term alone, before training and before descent
    weight : λ; None for the estimate mean ‖A*(A x − y)‖ over true images x, made by `fit`
    iterations, step : of the descent; fixed, for the objective has no minimum and no rule sees the truth
    nonnegative : project on x ≥ 0
    """

    channels: tuple[int, ...] = (16, 32, 32, 64, 64, 128)
    strides: tuple[int, ...] = (1, 1, 2, 2, 2, 2)
    width: int | None = 256
    penalty: float = 20.0
    filter: str = "hann"
    start_steps: int = 10
    weight: float | None = None
    iterations: int = 50
    step: float = 0.7
    nonnegative: bool = True
    optimizer: Literal["adam", "rmsprop"] = "rmsprop"
    learning_rate: float = 1e-4
    schedule: Literal["cosine", "constant"] = "constant"
    clip: float | None = None
    batch_size: int = 16
    steps: int = 1400

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.channels) != len(self.strides) or not 1 <= len(self.channels) <= 30:
            raise ValueError(
                f"AdversarialRegularisation channels, strides: expected one stride each, at most 30, "
                f"got {self.channels} and {self.strides}"
            )
        for value in (*self.channels, *self.strides, self.width or 1):
            within("AdversarialRegularisation channels, strides, width", value, 1, 10_000)
        within("AdversarialRegularisation iterations", self.iterations, 0, 1_000_000)
        within("AdversarialRegularisation start_steps", self.start_steps, 0, 10_000)


class AdversarialRegularisation(Learned):
    """min_x ½‖A x − y‖² + λ Ψ(x) by gradient descent from FBP, ‖A‖ = 1 and x of size 1.

    Lunz, Öktem, Schönlieb, NeurIPS 2018. Ψ is a critic between true images and naive reconstructions of other
    ones: nothing here needs a pair. It is trained to lower

        E Ψ(true) − E Ψ(naive) + 20 E (‖∇Ψ(mix)‖ − 1)₊²,   mix = ε·true + (1 − ε)·naive, ε ~ U(0, 1) per image

    With ‖∇Ψ‖ ≈ 1 the two gradients balance at the truth for λ = E‖A*(A x − y)‖ (data term with its ½; the
    paper's code has none, and twice this λ).
    """

    data_kind = "unpaired"
    Config = AdversarialRegularisationConfig
    prior: AdversarialRegulariser
    weight: Tensor

    def build(self, scanner: TrainedFor) -> None:
        c = self.config
        ny, nx = scanner.in_shape
        with seeded(c.seed):
            self.prior = AdversarialRegulariser(Critic((ny, nx), c.channels, c.strides, c.width))
        self.register_buffer("weight", torch.tensor(c.weight or 0.0))
        self.trained_for = scanner

    def fit(
        self,
        data: PairedData | UnpairedData,
        *,
        minutes: float | None = None,
        checkpoint: str | Path | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Learn the critic from `data`, then λ from its images and noise; see `recon.training.train`."""
        super().fit(data, minutes=minutes, checkpoint=checkpoint, callback=callback)
        if self.config.weight is None:
            problem, images = next(data.batches(64, torch.Generator().manual_seed(self.config.seed)))
            self.weight.fill_(self.estimated_weight(problem, images))
        self.record["weight"] = float(self.weight)
        return self

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        """E Ψ(true) − E Ψ(naive) + penalty; the naive reconstructions are of `problem`, the truths not."""
        scale = self.scanner(problem).image_scale
        with torch.no_grad():
            naive = self.start(problem.A, self._linear(problem))
        return critic_loss(self.prior, images / scale, naive, self.config.penalty, generator)

    def score(self, data: PairedData | UnpairedData) -> float:
        """Part of all pairs (true, naive) of the validation images in which Ψ(true) < Ψ(naive)."""
        problem, truth = data.validation
        true = self.prior(truth / self.scanner(problem).image_scale)
        naive = self.prior(self.start(problem.A, self._linear(problem)))
        return float((true[:, None] < naive[None]).float().mean())

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        objective = self._data_term(A, y) + float(self.weight) * self.prior
        g = NonNegative() if self.config.nonnegative else None
        descent = gradient_descent(objective, self.start(A, y), self.config.step, g)
        return run(descent, self.config.iterations)

    def start(self, A: LinearOperator, y: Tensor) -> Tensor:
        """The naive reconstruction: FBP, then a few gradient steps on the data term alone."""
        x = fbp(A, y, filter=self.config.filter)
        data_term = self._data_term(A, y)
        for _ in range(self.config.start_steps):
            x = x - data_term.grad(x)
        return x

    def estimated_weight(self, problem: Problem, images: Tensor) -> float:
        """Mean of ‖A*(A x − y)‖ over `images` and fresh noise on them, at ‖A‖ = 1 and image scale 1."""
        scanner = self.scanner(problem)
        clean = problem.A(images)
        noise = problem.noise.at(clean)
        y = noise.linearise(noise(clean, seed=self.config.seed))
        back = problem.A.adjoint(clean - y) / (scanner.norm**2 * scanner.image_scale)
        return float(norm(back, len(scanner.in_shape)).mean())

    def _data_term(self, A: LinearOperator, y: Tensor) -> Functional:
        """½‖A x − y‖² at ‖A‖ = 1."""
        assert self.trained_for is not None
        size = self.trained_for.norm
        return SquaredL2(y / size, ndim=len(A.out_shape)) @ ((1 / size) * A)

    def _linear(self, problem: Problem) -> Tensor:
        return problem.linear / self.scanner(problem).image_scale

    @classmethod
    def examples(cls) -> list[AdversarialRegularisation]:
        tiny = {"channels": (4,), "strides": (2,), "width": 4, "steps": 2, "batch_size": 2, "iterations": 3}
        return [cls(**tiny), cls(**tiny, weight=0.1, nonnegative=False)]


def critic_loss(
    critic: Callable[[Tensor], Tensor],
    true: Tensor,
    naive: Tensor,
    penalty: float,
    generator: torch.Generator,
) -> Tensor:
    """Mean Ψ(true) − mean Ψ(naive) + penalty · mean (‖∇Ψ(mix)‖ − 1)₊², a number; images (n, ny, nx)."""
    mixture = torch.rand(len(true), 1, 1, generator=generator, dtype=true.dtype).to(true.device)
    mix = (mixture * true + (1 - mixture) * naive).detach().requires_grad_()
    slope = torch.autograd.grad(critic(mix).sum(), mix, create_graph=True)[0]
    steepness = slope.flatten(1).square().sum(1).sqrt()
    excess = (steepness - 1).clamp(min=0)
    return critic(true).mean() - critic(naive).mean() + penalty * excess.square().mean()
