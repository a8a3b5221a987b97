"""What every unrolled method shares: scale by the data, first images, recomputation instead of memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from operators import LinearOperator, fbp
from operators.geometry import PlanarGeometry
from operators.tensors import spread, squared_norm
from priors.networks.seeds import seeded

from ..learned import Learned, TrainedFor, squared
from ..problem import Problem
from ..scaling import kspace_scale
from ..training import TrainingConfig

Start = Literal["auto", "fbp", "adjoint", "zero"]


@dataclass(frozen=True)
class UnrolledConfig(TrainingConfig):
    """What every unrolled method lets one choose.

    normalise : "training" divides data by the size of the training images; "data" by that of the image behind
        the data at hand, `kspace_scale`, so that rec(c y) = c rec(y) for c > 0
    checkpoint : keep only the iterates while training and compute the rest again: memory for time
    """

    normalise: Literal["training", "data"] = "training"
    checkpoint: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(f"{type(self).__name__} normalise", self.normalise, ("training", "data"))


class Unrolled(Learned):
    """x ← step(x; A / ‖A‖, y / ‖A‖), a fixed number of times: iterations whose parts are learned.

    A subclass makes its layers in `layers` and writes `iterate`, which sees an operator of norm 1 and an
    image of size 1. Real and complex images and data alike; slices, frames and coils are a batch to networks.
    """

    data_kind = "paired"
    any_shape = True

    @abstractmethod
    def layers(self, scanner: TrainedFor) -> None:
        """Make the layers; random numbers are those of the configuration's seed."""

    @abstractmethod
    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        """Images of size 1, (n, *A.in_shape), from data (n, *A.out_shape); ‖A‖ = 1."""

    def build(self, scanner: TrainedFor) -> None:
        with seeded(self.config.seed):
            self.layers(scanner)
        self.trained_for = scanner

    def scale(self, problem: Problem) -> float | Tensor:
        """By `config.normalise`: a number from training, or one per image from the data."""
        if self.config.normalise == "training":
            return super().scale(problem)
        self.scanner(problem)
        value = kspace_scale(problem.A, problem.linear)
        return torch.where(value > 0, value, torch.ones_like(value))

    def alike(self, A: LinearOperator, y: Tensor) -> tuple[LinearOperator, Tensor]:
        """With `any_geometry`, A and y brought to the norm of the operator learned for."""
        assert self.trained_for is not None
        ratio = self.trained_for.norm / self.scanner_like(A).norm
        return (A, y) if ratio == 1 else (ratio * A, ratio * y)

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        assert self.trained_for is not None
        norm = self.trained_for.norm
        return self.iterate((1 / norm) * A, y / norm)

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        """`distance` of the result for `perturbed` data to the truth, at image scale 1."""
        y, scale = self.inside(problem)
        x = self.apply_to(problem.A, self.perturbed(y, generator))
        return self.distance(x, images / spread(scale, len(problem.A.in_shape)))

    def perturbed(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """The data trained on; y itself unless a method says otherwise."""
        return y

    def distance(self, x: Tensor, truth: Tensor) -> Tensor:
        """Mean |x − truth|², a number."""
        return squared(x - truth).mean()

    def again(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """step(*arguments), computed again for its gradient if the configuration says `checkpoint`."""
        if self.config.checkpoint and torch.is_grad_enabled():
            return checkpoint(step, *arguments, use_reentrant=False)
        return step(*arguments)


def first_image(A: LinearOperator, y: Tensor, start: Start = "auto") -> Tensor:
    """x₀ (n, *A.in_shape) to iterate from.

    "fbp" is Hann-filtered back projection, for `XRay` in the plane; "adjoint" is t A*y with the step t of
    steepest descent, per image; "zero" is 0; "auto" is "fbp" where there is one, else "adjoint".
    """
    c, inner = unscaled(A)
    if start == "auto":
        start = "fbp" if has_fbp(A) else "adjoint"
    if start == "fbp":
        return fbp(inner, y, filter="hann") / c
    x = A.adjoint(y)
    if start == "zero":
        return torch.zeros_like(x)
    n = len(A.in_shape)
    length, bend = squared_norm(x, n), squared_norm(A(x), len(A.out_shape))
    one = torch.ones_like(bend)
    return spread(torch.where(bend > 0, length / torch.where(bend > 0, bend, one), 0 * one), n) * x


def has_fbp(A: LinearOperator) -> bool:
    """Whether filtered back projection inverts A, up to a factor."""
    return isinstance(getattr(unscaled(A)[1], "geometry", None), PlanarGeometry)


def unscaled(A: LinearOperator) -> tuple[float, LinearOperator]:
    """(c, B) with A = c B and B not itself a multiple."""
    from operators.base import Scaled

    if isinstance(A, Scaled):
        assert isinstance(A.scale, float | int)
        c, inner = unscaled(A.A)
        return A.scale * c, inner
    return 1.0, A


def data_axes(A: LinearOperator) -> int:
    """Trailing axes of the data that a convolution runs over: 1 for samples of a trajectory, else 2."""
    _, inner = unscaled(A)
    one = isinstance(getattr(inner, "trajectory", None), Tensor) or len(inner.out_shape) < 2
    return 1 if one else 2


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def at_least(name: str, value: object, lowest: float) -> None:
    """Raise ValueError unless `value` is a finite number ≥ `lowest`."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and lowest <= value < float("inf")
    if not ok:
        raise ValueError(f"{name}: expected a number of at least {lowest}, got {value!r}")
