"""What every variational method shares: likelihood, weight, bounds, and how the solution is told."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from operators import LinearOperator, XRay, fbp
from operators.emission import Emission
from operators.geometry import Geometry, PlanarGeometry
from operators.tensors import norm, real_dtype, spread
from operators.volume import ConeBeam, ParallelBeam3D
from priors import Box, Functional, NonNegative, SquaredL2
from priors.base import Composed, Step

from ..base import Reconstructor
from ..fidelity import LIKELIHOODS, Likelihood
from ..problem import Problem
from ..selection import Criterion, Trial, criterion
from ..solvers import Iterate, cgls, run, trace
from ..solvers.iterate import Callback

Weight = Step | str | Criterion | None


@dataclass(frozen=True)
class Solution:
    """What a variational method found; all but x and history are one value per image, (*batch,).

    weight      λ given or chosen
    objective   d(A x) + λ E(x), gap its distance from the minimum at most, where the solver knows them
    residual    the solver's measure of optimality, iterations how many it took
    history     residual, objective and gap of every iterate
    criterion   the name of what chose λ, score its value there; None if λ was given
    """

    x: Tensor
    weight: Tensor
    objective: Tensor | None
    gap: Tensor | None
    residual: Tensor
    iterations: Tensor
    history: tuple[tuple[Tensor, Tensor | None, Tensor | None], ...]
    criterion: str | None = None
    score: Tensor | None = None


class Variational(Reconstructor):
    """min_x d(A x) + λ E(x), lower ≤ x ≤ upper; a subclass says E by its solver.

    weight      λ > 0, a number or one per image (*batch,); or how to choose it without the truth:
                "discrepancy" (also None), "robust-discrepancy", "gcv", "sure", "whiteness", or a
                `recon.selection.Criterion`, as `recon.scaling.CentreScaled(0.01)` for MRI of unknown noise
    iterations  at most so many
    tolerance   an image stops when the solver's relative residual is at most this
    positive    x ≥ 0, for real images; complex ones are free
    likelihood  d: "unweighted" least squares with one σ per image, "weighted" with the variance of every
                datum, "matching", the noise model's own for raw data; "poisson", "shifted-poisson" of counts
    upper       x ≤ upper, unit of x, or None
    """

    default_likelihood: ClassVar[Likelihood] = "unweighted"
    degree: ClassVar[int | None] = None
    """p, where E(c x) = |c|^p E(x)."""

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 150,
        tolerance: float = 1e-3,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        upper: float | None = None,
    ):
        super().__init__()
        name = type(self).__name__
        if weight is None or isinstance(weight, str | Criterion):
            criterion(weight)  # a wrong name is an error here already
        elif not bool(torch.as_tensor((weight > 0) & (weight < math.inf)).all()):
            raise ValueError(f"{name} weight: expected a positive number or None, got {weight}")
        if iterations < 1:
            raise ValueError(f"{name} iterations: expected at least 1, got {iterations}")
        if likelihood is not None and likelihood not in LIKELIHOODS:
            raise ValueError(f"{name} likelihood: expected one of {list(LIKELIHOODS)}, got {likelihood!r}")
        if upper is not None and not upper > (0 if positive else -math.inf):
            raise ValueError(f"{name} upper: expected a number above the lower bound, got {upper}")
        self.weight, self.iterations, self.tolerance, self.positive = weight, iterations, tolerance, positive
        self.likelihood, self.upper = likelihood or self.default_likelihood, upper

    @abstractmethod
    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        """The solver of min d(A x) + weight·E(x) from x."""

    def forward(self, problem: Problem) -> Tensor:
        return self.solve(problem).x

    @torch.no_grad()
    def solve(self, problem: Problem, callback: Callback | None = None) -> Solution:
        """The image with how it was found; callback(k, iterate) sees the last run."""
        d, x = LIKELIHOODS[self.likelihood](problem), self.initial(problem)
        if self.upper is not None and x.is_complex():
            raise ValueError(f"{type(self).__name__} upper: order needs real numbers, the image is complex")
        name, score = None, None
        if self.weight is None or isinstance(self.weight, str | Criterion):
            chosen = criterion(self.weight)
            name = chosen.name
            weight, x, score = chosen.choose(self._trial(problem, d), self._guess(problem, x), x)
        else:
            weight = torch.as_tensor(self.weight, dtype=real_dtype(x), device=x.device)
            try:
                weight = weight.expand(problem.batch)
            except RuntimeError:
                raise ValueError(
                    f"{type(self).__name__} weight: expected a number or one per image "
                    f"{tuple(problem.batch)}, got {tuple(weight.shape)}"
                ) from None
        found = trace(self.iterates(problem, d, weight, x), self.iterations, self.tolerance, callback)
        last = found.last
        return Solution(
            last.x,
            weight,
            last.objective,
            last.gap,
            last.residual,
            found.iterations,
            found.history,
            name,
            score,
        )

    def pull(self, problem: Problem, x: Tensor) -> Tensor:
        """Typical size of E's slope at one pixel of x, per image: h for a total variation, h² of a volume."""
        return torch.full(problem.batch, self.unit(problem), dtype=real_dtype(x), device=x.device)

    def unit(self, problem: Problem) -> float:
        """E over what it is in units of pixels: h for a total variation, h² of a volume."""
        return pixel_size(problem) ** (len(problem.A.in_shape) - 1)

    def initial(self, problem: Problem) -> Tensor:
        """Where the solver begins, (*batch, *A.in_shape)."""
        return start(problem)

    def bounds(self, x: Tensor) -> tuple[float | None, float | None]:
        """Lower and upper bound of these images."""
        return (0.0 if self.positive and not x.is_complex() else None), self.upper

    def constraint(self, problem: Problem, x: Tensor) -> Functional | None:
        """The indicator of the bounds, or None."""
        lower, upper = self.bounds(x)
        n = len(problem.A.in_shape)
        if upper is not None:
            return Box(-math.inf if lower is None else lower, upper, n)
        return None if lower is None else NonNegative(n)

    def _trial(self, problem: Problem, d: Functional) -> Trial:
        """Short runs choose λ."""
        short = max(self.iterations // 3, 20)

        def solve(likelihood: Functional, weight: Tensor, x: Tensor) -> Tensor:
            return run(self.iterates(problem, likelihood, weight, x), short, self.tolerance)

        return Trial(d, problem.A, solve, problem.A.out_shape, self.degree, self.unit(problem))

    def _guess(self, problem: Problem, x: Tensor) -> Tensor:
        """λ₀: E pulls at a pixel as strongly as noise does, ‖A*(n/σ²)‖ / √N for one n ~ N(0, σ²)."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(problem.A.out_shape, generator=generator, dtype=torch.float64).to(x)
        n = len(problem.A.in_shape)
        slope = norm(problem.A.adjoint(noise * problem.variance.rsqrt()), n) / math.sqrt(
            math.prod(x.shape[-n:])
        )
        return slope / self.pull(problem, x)


def is_scan(problem: Problem) -> bool:
    """A*A is nearly shift-invariant; for cones it is not, and a filter gains nothing over a number."""
    return isinstance(problem.A, XRay) and isinstance(problem.A.geometry, PlanarGeometry)


def _on_a_circle(geometry: Geometry) -> bool:
    helix = isinstance(geometry, ConeBeam) and geometry.pitch != 0
    return isinstance(geometry, PlanarGeometry | ParallelBeam3D | ConeBeam) and not helix


def start(problem: Problem) -> Tensor:
    """A filtered back projection for X-rays on a circle, else a few steps of CGLS from zero."""
    A: LinearOperator = problem.A
    y = problem.linear
    if isinstance(A, Emission):
        y = A.corrected(y)
        A = A.xray
    if isinstance(A, XRay) and _on_a_circle(A.geometry):
        return fbp(A, y)
    return run(cgls(A, y, torch.zeros_like(A.adjoint(y))), 3)


def pixel_size(problem: Problem) -> float:
    """[mm], of a volume the geometric mean of a voxel's sides; 1 for an A without a geometry."""
    return math.prod(spacing(problem)) ** (1 / len(problem.A.in_shape))


def spacing(problem: Problem) -> tuple[float, ...]:
    """Distance of neighbours along every axis of the image [mm]: of A, of its geometry, or 1."""
    ones = (1.0,) * len(problem.A.in_shape)
    scanner = problem.A if hasattr(problem.A, "spacing") else getattr(problem.A, "geometry", None)
    return tuple(getattr(scanner, "spacing", ones))


def is_gaussian(d: Functional) -> bool:
    """Whether d is a weighted sum of squares."""
    return isinstance(d, SquaredL2)


def is_uniform(d: Functional, problem: Problem) -> bool:
    """Whether d gives every datum of an image that A predicts the same weight: A*WA = w A*A."""
    if not isinstance(d, SquaredL2):
        return False
    weight = torch.as_tensor(d.weight).expand(problem.linear.shape)
    most = weight.amax(tuple(range(-len(problem.A.out_shape), 0)), keepdim=True)
    measured = getattr(problem.A, "sampled", None)
    same = weight == most
    return bool((same if measured is None else same | ~measured.to(same.device)).all())


def quadratic(d: Functional, problem: Problem) -> Composed:
    """A Gaussian d @ A, with one weight per image where all z = A x have the same: then A*WA = w A*A."""
    if not is_uniform(d, problem):
        return Composed(d, problem.A)
    n = len(problem.A.out_shape)
    return Composed(SquaredL2(cast(SquaredL2, d).target, spread(bend(d, problem), n), n), problem.A)


def bend(d: Functional, problem: Problem) -> Tensor:
    """The largest curvature of a Gaussian d, per image."""
    weight = torch.as_tensor(cast(SquaredL2, d).weight).expand(problem.linear.shape)
    return weight.flatten(-len(problem.A.out_shape)).amax(-1)
