"""Smooth priors: Huber's total variation, Tikhonov."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from operators.gradient import Gradient
from operators.tensors import norm, spread
from priors import Functional, HuberTV, SquaredL2

from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, cg, fista, lbfgs
from ..solvers.terms import MARGIN
from .base import Variational, Weight, bend, is_gaussian, is_uniform, pixel_size, spacing


class HuberTotalVariation(Variational):
    """min_x d(A x) + λ ∫ h_δ(|∇x|), x ≥ 0: total variation that is quadratic for slopes below δ.

    By `fista`, or, for the likelihoods of counts, whose slope has no useful bound, by `lbfgs`.

    delta   δ [unit of x per mm]; the default is some 50 HU a millimetre
    solver  "fista", "lbfgs", or None: as said above; for ordered subsets see `OSSQS`
    and the parameters of `Variational`
    """

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 300,
        tolerance: float = 1e-6,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        delta: float = 1e-3,
        upper: float | None = None,
        solver: Literal["fista", "lbfgs"] | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if solver not in (None, "fista", "lbfgs"):
            raise ValueError(
                f"{type(self).__name__} solver: expected 'fista', 'lbfgs' or None, got {solver!r}"
            )
        self.delta, self.solver = delta, solver

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        A, h = problem.A, spacing(problem)
        prior = HuberTV(A.in_shape, h, self.delta, weight)
        if self.solver == "lbfgs" or (self.solver is None and not is_gaussian(d)):
            return lbfgs(d @ A + prior, x, *self.bounds(x))
        if not is_gaussian(d):
            raise ValueError(f"HuberTotalVariation solver='fista' needs a Gaussian likelihood, got {d!r}")
        L = (
            bend(d, problem) * (MARGIN * A.norm()) ** 2
            + weight * math.prod(h) * prior.A.norm() ** 2 / self.delta
        )
        return fista(d @ A + prior, self.constraint(problem, x), L, x)

    @classmethod
    def examples(cls) -> list[HuberTotalVariation]:
        """λ by GCV, and L-BFGS between bounds."""
        return [
            cls("gcv", iterations=30, delta=1e-2),
            cls(5.0, iterations=30, delta=1e-2, upper=1.0, solver="lbfgs"),
        ]


class Tikhonov(Variational):
    """min_x d(A x) + ½λ ∫|x|² or ½λ ∫|∇x|², x ≥ 0.

    Tikhonov 1963; by `cg` on the normal equations without bounds, else by `fista`, and for the likelihoods of
    counts by `lbfgs`.

    penalty  "identity" |x|², or "gradient" |∇x|²
    and the parameters of `Variational`
    """

    degree: ClassVar[int | None] = 2

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 300,
        tolerance: float = 1e-6,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        penalty: Literal["identity", "gradient"] = "gradient",
        upper: float | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if penalty not in ("identity", "gradient"):
            raise ValueError(f"Tikhonov penalty: expected 'identity' or 'gradient', got {penalty!r}")
        self.penalty = penalty

    def pull(self, problem: Problem, x: Tensor) -> Tensor:
        n = len(problem.A.in_shape)
        slope = norm(self._penalise(problem, x), n) / math.sqrt(math.prod(problem.A.in_shape))
        return torch.where(slope > 0, slope, 1.0)

    def unit(self, problem: Problem) -> float:
        h = spacing(problem)
        return math.prod(h) if self.penalty == "identity" else math.prod(h) / pixel_size(problem) ** 2

    def _penalise(self, problem: Problem, x: Tensor) -> Tensor:
        """∇E(x) = h² x or h² ∇*∇x, h² a pixel's area or a voxel's volume."""
        h = spacing(problem)
        if self.penalty == "identity":
            return math.prod(h) * x
        return math.prod(h) * Gradient(problem.A.in_shape, spacing=h).gram(x)

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        A, h, n = problem.A, spacing(problem), len(problem.A.in_shape)
        cell = math.prod(h)
        constraint, gaussian = self.constraint(problem, x), is_gaussian(d)
        if constraint is None and gaussian:
            at_zero = d.grad(torch.zeros_like(problem.linear))
            w = spread(bend(d, problem), n)
            # a gram may have a form of its own, as Toeplitz of non-uniform Fourier transforms
            gram = A.gram if is_uniform(d, problem) else None

            def normal(v: Tensor) -> Tensor:
                bent = A.adjoint(d.grad(A(v)) - at_zero) if gram is None else w * gram(v)
                return bent + spread(weight, n) * self._penalise(problem, v)

            return cg(normal, -A.adjoint(at_zero), x, ndim=n)
        energy: Functional = (weight * cell) * SquaredL2(ndim=n)
        bound = weight * cell
        if self.penalty == "gradient":
            slopes = Gradient(A.in_shape, spacing=h)
            energy = (weight * cell) * SquaredL2(ndim=n + 1) @ slopes
            bound = bound * slopes.norm() ** 2
        if not gaussian:
            return lbfgs(d @ A + energy, x, *self.bounds(x))
        return fista(d @ A + energy, constraint, bend(d, problem) * (MARGIN * A.norm()) ** 2 + bound, x)

    @classmethod
    def examples(cls) -> list[Tikhonov]:
        """λ by SURE, and given without bounds."""
        return [cls("sure", iterations=30), cls(5.0, iterations=30, positive=False, penalty="identity")]
