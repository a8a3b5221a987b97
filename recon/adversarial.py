"""Variational reconstruction with a learned, adversarial regulariser."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from operators import LinearOperator, fbp
from operators.backprojection import WINDOWS
from operators.tensors import norm
from priors import AdversarialRegulariser, Functional, NonNegative, SquaredL2
from priors.networks.critic import Critic
from priors.networks.seeds import seeded

from .base import Reconstructor
from .data.sets import PairedData, UnpairedData
from .fidelity import PWLS, count
from .learned import Learned, TrainedFor, squared
from .problem import Problem
from .solvers import Iterate, gradient_descent, nmapg, run
from .training import TrainingConfig, within

COLLAPSED = 0.01
"""A critic whose gap is less than this part of the distance between the images has learned nothing."""


@dataclass(frozen=True)
class CriticConfig(TrainingConfig):
    """What training and using any critic needs; values of Lunz, Öktem, Schönlieb 2018, and their code.

    penalty : weight of the gradient penalty
    detail : size s of what the critic is to see, in image sizes: it is used as s·Ψ(x/s), with the same slope
    rollout : the critic also learns from images that 1 … rollout steps of its own descent have made, a number
        drawn per image; 0: from naive reconstructions only, as the paper
    filter : of the filtered back projection where everything starts
    start_steps : gradient steps on the data term alone, before training and before descent
    weight : λ; None for the estimate mean ‖A*(A x − y)‖ over true images x, made by `fit`
    solver : "descent" with the fixed `step`; "backtracking", which finds the step and whose objective never
        rises; "nmapg", accelerated
    iterations, step : at most so many, of that length. Without a minimum their number decides; no rule sees
        the truth
    tolerance : an image rests when the solver's residual is at most this
    discrepancy : an image rests when ‖(A x − y)/σ‖² has come to this many times the number of data, from
        where it began, above or below; 1 is Morozov's principle, None: never
    nonnegative : project on x ≥ 0
    """

    penalty: float = 20.0
    detail: float = 1.0
    rollout: int = 0
    filter: str = "hann"
    start_steps: int = 10
    weight: float | None = None
    solver: Literal["descent", "backtracking", "nmapg"] = "descent"
    iterations: int = 50
    step: float = 0.7
    tolerance: float = 0.0
    discrepancy: float | None = None
    nonnegative: bool = True
    optimizer: Literal["adam", "rmsprop"] = "rmsprop"
    learning_rate: float = 1e-4
    schedule: Literal["cosine", "constant"] = "constant"
    clip: float | None = None
    batch_size: int = 16
    steps: int = 1400

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__.removesuffix("Config")
        within(f"{name} iterations", self.iterations, 0, 1_000_000)
        within(f"{name} start_steps", self.start_steps, 0, 10_000)
        within(f"{name} rollout", self.rollout, 0, 10_000)
        if self.solver not in ("descent", "backtracking", "nmapg"):
            raise ValueError(
                f"{name} solver: expected 'descent', 'backtracking' or 'nmapg', got {self.solver!r}"
            )
        if self.filter not in WINDOWS:
            raise ValueError(f"{name} filter: expected one of {', '.join(WINDOWS)}, got {self.filter!r}")
        for setting in ("penalty", "tolerance"):
            if not 0 <= getattr(self, setting) < math.inf:
                raise ValueError(f"{name} {setting}: expected at least 0, got {getattr(self, setting)!r}")
        for setting in ("detail", "step", "weight", "discrepancy"):
            value = getattr(self, setting)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} {setting}: expected a positive number, got {value!r}")


@dataclass(frozen=True)
class AdversarialRegularisationConfig(CriticConfig):
    """Lunz, Öktem, Schönlieb 2018, and their code: RMSProp 1e-4, batches of 16, 1 400 critic steps.

    channels, strides, width : of the critic's convolutions and full layer; width None judges patches alike
    and the settings of `CriticConfig`
    """

    channels: tuple[int, ...] = (16, 32, 32, 64, 64, 128)
    strides: tuple[int, ...] = (1, 1, 2, 2, 2, 2)
    width: int | None = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.channels) != len(self.strides) or not 1 <= len(self.channels) <= 30:
            raise ValueError(
                f"AdversarialRegularisation channels, strides: expected one stride each, at most 30, "
                f"got {self.channels} and {self.strides}"
            )
        for value in (*self.channels, *self.strides, self.width or 1):
            within("AdversarialRegularisation channels, strides, width", value, 1, 10_000)


@dataclass(frozen=True)
class Ranking:
    """How a critic tells true images from others.

    share       part of all pairs (true, other) with Ψ(true) < Ψ(other): of different images mostly
    same_image  part of the images with Ψ(true) < Ψ(other) of the same image
    gap         mean Ψ(other) − Ψ(true) over the mean distance ‖other − true‖: at most the slope of Ψ
    """

    share: float
    same_image: float
    gap: float


class CriticRegularisation(Learned):
    """min_x ½‖A x − y‖² + λ Ψ(x) from FBP, ‖A‖ = 1 and x of size 1; a subclass says what Ψ is.

    Lunz, Öktem, Schönlieb, NeurIPS 2018. Ψ is a critic between true images and naive reconstructions of other
    ones: nothing here needs a pair. It is trained to lower

        E Ψ(true) − E Ψ(naive) + penalty E (‖∇Ψ(mix)‖ − 1)₊²,  mix = ε·true + (1 − ε)·naive, ε ~ U(0, 1) each

    With ‖∇Ψ‖ ≈ 1 the two gradients balance at the truth for λ = E‖A*(A x − y)‖ (data term with its ½; the
    paper's code has none, and twice this λ). For white noise of A = identity on N pixels that is
    σ √2 Γ((N + 1)/2)/Γ(N/2).
    """

    data_kind = "unpaired"
    Config = CriticConfig
    prior: Functional
    weight: Tensor

    @abstractmethod
    def critic(self, shape: tuple[int, int]) -> Functional:
        """Ψ for images (ny, nx) of size 1, with weights from the current seed."""

    def build(self, scanner: TrainedFor) -> None:
        ny, nx = scanner.in_shape
        with seeded(self.config.seed):
            self.prior = self.critic((ny, nx))
        self.register_buffer("weight", torch.tensor(self.config.weight or 0.0))
        self.trained_for = scanner

    def before_fit(self, data: PairedData | UnpairedData) -> None:
        """No training without images that can tell anything."""
        assert isinstance(data, UnpairedData)
        _check_images(type(self).__name__, data)

    def after_fit(self, data: PairedData | UnpairedData) -> None:
        """λ, from images and noise of `data`.

        The record, and so the card, gets λ, how the critic ranks naive reconstructions and total variation
        images of the validation data, and a warning where it tells nothing.
        """
        if self.config.weight is None:
            problem, images = next(data.batches(64, torch.Generator().manual_seed(self.config.seed)))
            self.weight.fill_(self.estimated_weight(problem, images))
        self.record["weight"] = float(self.weight)
        rankings = {"naive": self.ranking(data), "total variation": self.ranking(data, "total-variation")}
        self.record["ranks truth below"] = {k: asdict(v) for k, v in rankings.items()}
        if not rankings["naive"].gap > COLLAPSED:
            self.record["warning"] = (
                f"collapsed critic: its gap is {rankings['naive'].gap:.4f} of the distance between true "
                "images and naive reconstructions; train longer, or with another learning rate"
            )

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        """E Ψ(true) − E Ψ(naive) + penalty; the naive reconstructions are of `problem`, the truths not."""
        scale = self.scanner(problem).image_scale
        with torch.no_grad():
            y = self._linear(problem)
            naive = self.start(problem.A, y)
            if self.config.rollout:
                weight = self.config.weight or self.estimated_weight(problem, images)
                naive = self._descended(problem.A, y, naive, weight, generator)
        return critic_loss(self.prior, images / scale, naive, self.config.penalty, generator)

    def score(self, data: PairedData | UnpairedData) -> float:
        """Part of all pairs (true, naive) of the validation images in which Ψ(true) < Ψ(naive)."""
        return self.ranking(data).share

    @torch.no_grad()
    def ranking(
        self,
        data: PairedData | UnpairedData,
        other: Literal["naive", "total-variation"] | Reconstructor | Tensor = "naive",
    ) -> Ranking:
        """How Ψ ranks the validation images of `data` below `other` ones of them.

        other  "naive": where the descent starts; "total-variation", its weight by discrepancy; another
               method; or images (n, ny, nx) in the unit of the validation images
        """
        from .variational import TotalVariation

        problem, truth = data.validation
        scale = self.scanner(problem).image_scale
        if isinstance(other, str) and other == "naive":
            images = self.start(problem.A, self._linear(problem))
        elif isinstance(other, str) and other == "total-variation":
            images = TotalVariation()(problem) / scale
        elif isinstance(other, Reconstructor):
            images = other(problem) / scale
        elif isinstance(other, Tensor) and other.shape[1:] == truth.shape[1:]:
            images = other / scale
        else:
            got = tuple(other.shape) if isinstance(other, Tensor) else repr(other)
            raise ValueError(
                f"{type(self).__name__}.ranking other: expected 'naive', 'total-variation', a method or "
                f"images {tuple(truth.shape)}, got {got}"
            )
        true = truth / scale
        below, above = self.prior(true), self.prior(images)
        same = below < above if len(below) == len(above) else below.new_full((), math.nan)
        apart = norm(images - true, 2).mean() if len(below) == len(above) else norm(images, 2).mean()
        return Ranking(
            float((below[:, None] < above[None]).float().mean()),
            float(same.float().mean()),
            float((above.mean() - below.mean()) / apart.clamp(min=torch.finfo(apart.dtype).tiny)),
        )

    def forward(self, problem: Problem) -> Tensor:
        if self.config.discrepancy is None or problem.y.numel() == 0:
            return super().forward(problem)
        y, scale = self.inside(problem)
        A, shape = problem.A, (-1, *problem.A.out_shape)
        variance = problem.variance.expand_as(problem.linear).reshape(shape)
        d = PWLS(problem.linear.reshape(shape), variance, len(A.out_shape)).to(y)
        misfit = lambda x: 2 * d(scale * A(x)) / count(d, y)  # noqa: E731
        iterates = until(self.iterates(A, y), misfit, self.config.discrepancy)
        x = scale * run(iterates, self.config.iterations, self.config.tolerance)
        return x.reshape(*problem.batch, *A.in_shape).to(problem.y.dtype)

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        return run(self.iterates(A, y), self.config.iterations, self.config.tolerance)

    def iterates(self, A: LinearOperator, y: Tensor) -> Iterator[Iterate]:
        """The solver, from the naive reconstruction of y, over the image scale."""
        c = self.config
        objective = self._data_term(A, y) + float(self.weight) * self.prior
        g, x = NonNegative() if c.nonnegative else None, self.start(A, y)
        if c.solver == "nmapg":
            return nmapg(objective, g, x)
        return gradient_descent(objective, x, c.step if c.solver == "descent" else None, g)

    def start(self, A: LinearOperator, y: Tensor) -> Tensor:
        """The naive reconstruction: FBP, then a few gradient steps on the data term alone."""
        x = fbp(A, y, filter=self.config.filter)
        misfit = self._data_term(A, y)
        for _ in range(self.config.start_steps):
            x = x - misfit.grad(x)
        # else the critic would learn to see negative pixels, which the descent never has
        return x.clamp(min=0) if self.config.nonnegative else x

    def estimated_weight(self, problem: Problem, images: Tensor) -> float:
        """Mean of ‖A*(A x − y)‖ over `images` and fresh noise on them, at ‖A‖ = 1 and image scale 1."""
        scanner = self.scanner(problem)
        clean = problem.A(images)
        noise = problem.noise.at(clean)
        y = noise.linearise(noise(clean, seed=self.config.seed))
        back = problem.A.adjoint(clean - y) / (scanner.norm**2 * scanner.image_scale)
        return float(norm(back, len(scanner.in_shape)).mean())

    def _descended(
        self, A: LinearOperator, y: Tensor, x: Tensor, weight: float, generator: torch.Generator
    ) -> Tensor:
        """x after 0 … rollout steps of descent, drawn per image."""
        c = self.config
        steps = torch.randint(c.rollout + 1, (len(x),), generator=generator).to(x.device)
        objective = self._data_term(A, y) + weight * self.prior
        for k in range(int(steps.max())):
            new = x - c.step * objective.grad(x)
            new = new.clamp(min=0) if c.nonnegative else new
            x = torch.where((steps > k)[:, None, None], new, x)
        return x

    def _data_term(self, A: LinearOperator, y: Tensor) -> Functional:
        assert self.trained_for is not None
        return data_term(A, y, self.trained_for.norm)

    def _linear(self, problem: Problem) -> Tensor:
        return problem.linear / self.scanner(problem).image_scale


class AdversarialRegularisation(CriticRegularisation):
    """min_x ½‖A x − y‖² + λ Ψ(x) by gradient descent from FBP: Ψ a critic of whole images.

    Lunz, Öktem, Schönlieb, NeurIPS 2018; see `CriticRegularisation`. Ψ has no minimum: the number of steps
    matters.
    """

    Config = AdversarialRegularisationConfig

    def critic(self, shape: tuple[int, int]) -> Functional:
        c = self.config
        return AdversarialRegulariser(Critic(shape, c.channels, c.strides, c.width), c.detail)

    @classmethod
    def examples(cls) -> list[AdversarialRegularisation]:
        tiny: dict[str, Any] = {
            "channels": (4,), "strides": (2,), "width": 4, "steps": 2, "batch_size": 2, "iterations": 3,
        }  # fmt: skip
        return [cls(**tiny), cls(**tiny, weight=0.1, nonnegative=False, rollout=2, discrepancy=1.0)]


def data_term(A: LinearOperator, y: Tensor, size: float) -> Functional:
    """½‖A x − y‖² with both divided by `size`, ‖A‖."""
    return SquaredL2(y / size, ndim=len(A.out_shape)) @ ((1 / size) * A)


def critic_loss(
    critic: Callable[[Tensor], Tensor],
    true: Tensor,
    naive: Tensor,
    penalty: float,
    generator: torch.Generator,
) -> Tensor:
    """Mean Ψ(true) − mean Ψ(naive) + penalty · mean (‖∇Ψ(mix)‖ − 1)₊², a number; images (n, ny, nx)."""
    mixture = torch.rand(len(true), 1, 1, generator=generator, dtype=true.real.dtype).to(true.device)
    mix = (mixture * true + (1 - mixture) * naive).detach().requires_grad_()
    slope = torch.autograd.grad(critic(mix).sum(), mix, create_graph=True)[0]
    steepness = squared(slope).flatten(1).sum(1).sqrt()
    excess = (steepness - 1).clamp(min=0)
    return critic(true).mean() - critic(naive).mean() + penalty * excess.square().mean()


def until(
    iterates: Iterator[Iterate], measure: Callable[[Tensor], Tensor], target: float
) -> Iterator[Iterate]:
    """The iterates; an image rests, with residual 0, once measure(x) has passed `target`, either way."""
    start: Tensor | None = None
    for iterate in iterates:
        above = measure(iterate.x) > target
        start = above if start is None else start
        yield replace(iterate, residual=torch.where(above == start, iterate.residual, 0.0))


def _check_images(name: str, data: UnpairedData) -> None:
    """Say what is wrong before anything is built from it."""
    problem, images = next(data.batches(2, torch.Generator().manual_seed(0)))
    if not len(images) or not len(problem.y):
        raise ValueError(
            f"{name}.fit data: no unpaired images: at least two training pairs are needed, half of which "
            f"give images and half data, got {len(data.pairs.train[1])}"
        )
    if tuple(images.shape[1:]) != problem.A.in_shape:
        raise ValueError(
            f"{name}.fit data: expected images {problem.A.in_shape} as {problem.A!r} makes, "
            f"got {tuple(images.shape[1:])}"
        )
    for some in (images, data.validation[1]):
        if not bool(some.isfinite().all()):
            raise ValueError(f"{name}.fit data: NaN or inf in the images")
