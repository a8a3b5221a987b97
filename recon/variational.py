"""Variational methods: a likelihood, a prior, a solver.

All minimise d(A x) + λ E(x) with d = −ln p(y | A x), so λ follows the dose, and E an integral over mm, so it
keeps its meaning when the pixel size changes. λ = None is chosen by the discrepancy principle.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from operators import XRay, fbp
from operators.gradient import Gradient
from operators.tensors import norm, real_dtype, spread
from priors import TV, Functional, HuberTV, NonNegative, SquaredL2, WaveletL1
from priors.base import Step

from .base import Reconstructor
from .discrepancy import discrepancy
from .fidelity import matching, unweighted, weighted
from .problem import Problem
from .solvers import Iterate, cg, cgls, fista, pdhg, run, trace
from .solvers.iterate import Callback
from .solvers.terms import MARGIN

LIKELIHOODS: dict[str, Callable[[Problem], Functional]] = {
    "unweighted": unweighted,
    "weighted": weighted,
    "matching": matching,
}


@dataclass(frozen=True)
class Solution:
    """What a variational method found; all but x and history are one value per image, (*batch,).

    weight      λ given or chosen
    objective   d(A x) + λ E(x), gap its distance from the minimum at most, where the solver knows them
    residual    the solver's measure of optimality, iterations how many it took
    history     residual, objective and gap of every iterate
    """

    x: Tensor
    weight: Tensor
    objective: Tensor | None
    gap: Tensor | None
    residual: Tensor
    iterations: Tensor
    history: tuple[tuple[Tensor, Tensor | None, Tensor | None], ...]


class Variational(Reconstructor):
    """min_x d(A x) + λ E(x), x ≥ 0 if `positive`; a subclass says E by its solver.

    weight      λ > 0, a number or one per image (*batch,); None: χ²(λ)/m = 1, without the truth
    iterations  at most so many
    tolerance   an image stops when the solver's relative residual is at most this
    positive    x ≥ 0, for real images; complex ones are free
    likelihood  d: "unweighted" least squares with one σ per image, "weighted" with the variance of every
                datum, or "matching", the noise model's own for raw data
    """

    default_likelihood: ClassVar[Literal["unweighted", "weighted", "matching"]] = "unweighted"

    def __init__(
        self,
        weight: Step | None = None,
        iterations: int = 150,
        tolerance: float = 1e-3,
        positive: bool = True,
        likelihood: Literal["unweighted", "weighted", "matching"] | None = None,
    ):
        super().__init__()
        name = type(self).__name__
        if weight is not None and not bool(torch.as_tensor(weight > 0).all()):
            raise ValueError(f"{name} weight: expected a positive number or None, got {weight}")
        if iterations < 1:
            raise ValueError(f"{name} iterations: expected at least 1, got {iterations}")
        if likelihood is not None and likelihood not in LIKELIHOODS:
            raise ValueError(f"{name} likelihood: expected one of {list(LIKELIHOODS)}, got {likelihood!r}")
        self.weight, self.iterations, self.tolerance, self.positive = weight, iterations, tolerance, positive
        self.likelihood = likelihood or self.default_likelihood

    @abstractmethod
    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        """The solver of min d(A x) + weight·E(x) from x."""

    def forward(self, problem: Problem) -> Tensor:
        return self.solve(problem).x

    @torch.no_grad()
    def solve(self, problem: Problem, callback: Callback | None = None) -> Solution:
        """The image with how it was found; callback(k, iterate) sees the last run."""
        d, x = LIKELIHOODS[self.likelihood](problem), _start(problem)
        if self.weight is None:
            weight, x = self._chosen(problem, d, x)
        else:
            weight = torch.as_tensor(self.weight, dtype=real_dtype(x), device=x.device).expand(problem.batch)
        found = trace(self.iterates(problem, d, weight, x), self.iterations, self.tolerance, callback)
        last = found.last
        return Solution(
            last.x, weight, last.objective, last.gap, last.residual, found.iterations, found.history
        )

    def pull(self, problem: Problem, x: Tensor) -> Tensor:
        """Typical size of E's slope at one pixel of x, per image: h for a total variation."""
        return torch.full(problem.batch, _pixel_size(problem), dtype=real_dtype(x), device=x.device)

    def _chosen(self, problem: Problem, d: Functional, x: Tensor) -> tuple[Tensor, Tensor]:
        """λ by the discrepancy principle, from short runs."""
        short = max(self.iterations // 3, 20)
        count = math.prod(problem.A.out_shape) * (2 if problem.y.is_complex() else 1)

        def solve(weight: Tensor, start: Tensor) -> Tensor:
            return run(self.iterates(problem, d, weight, start), short, self.tolerance)

        def misfit(image: Tensor) -> Tensor:
            return 2 * d(problem.A(image)) / count

        return discrepancy(solve, misfit, self._guess(problem, x), x)

    def _guess(self, problem: Problem, x: Tensor) -> Tensor:
        """λ₀: E pulls at a pixel as strongly as noise does, ‖A*(n/σ²)‖ / √N for one n ~ N(0, σ²)."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(problem.A.out_shape, generator=generator, dtype=torch.float64).to(x)
        n = len(problem.A.in_shape)
        slope = norm(problem.A.adjoint(noise * problem.variance.rsqrt()), n) / math.sqrt(
            math.prod(x.shape[-n:])
        )
        return slope / self.pull(problem, x)

    def _positivity(self, problem: Problem, x: Tensor) -> Functional | None:
        return NonNegative(len(problem.A.in_shape)) if self.positive and not x.is_complex() else None


class TotalVariation(Variational):
    """min_x d(A x) + λ ∫|∇x|, x ≥ 0: edges cost their height, noise costs more.

    Rudin, Osher, Fatemi, Physica D 60 (1992); by `pdhg`, with the gap. λ in units of 1/([x]·mm).

    isotropic  Euclidean length of the gradient, or the sum of its two moduli
    and the parameters of `Variational`
    """

    def __init__(
        self,
        weight: Step | None = None,
        iterations: int = 150,
        tolerance: float = 1e-3,
        positive: bool = True,
        likelihood: Literal["unweighted", "weighted", "matching"] | None = None,
        isotropic: bool = True,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood)
        self.isotropic = isotropic

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        prior = TV(problem.A.in_shape, _pixel_size(problem), self.isotropic, weight)
        return pdhg([d @ problem.A, prior], self._positivity(problem, x), x, circulant=_is_scan(problem))


class PWLSTotalVariation(TotalVariation):
    """min_x ½ Σ (A x − y)²/variance + λ ∫|∇x|, x ≥ 0: a ray is trusted as far as its counts.

    Sauer and Bouman, IEEE Trans. Signal Process. 41 (1993); Sidky and Pan, Phys. Med. Biol. 53 (2008).
    """

    default_likelihood = "weighted"


class HuberTotalVariation(Variational):
    """min_x d(A x) + λ ∫ h_δ(|∇x|), x ≥ 0: total variation that is quadratic for slopes below δ; by `fista`.

    delta  δ [unit of x per mm]; the default is some 50 HU a millimetre
    and the parameters of `Variational`; the likelihood is a Gaussian one
    """

    def __init__(
        self,
        weight: Step | None = None,
        iterations: int = 300,
        tolerance: float = 1e-6,
        positive: bool = True,
        likelihood: Literal["unweighted", "weighted"] | None = None,
        delta: float = 1e-3,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood)
        self.delta = delta

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        A, h = problem.A, _pixel_size(problem)
        prior = HuberTV(A.in_shape, h, self.delta, weight)
        L = _bend(d, problem) * (MARGIN * A.norm()) ** 2 + weight * h**2 * prior.A.norm() ** 2 / self.delta
        return fista(d @ A + prior, self._positivity(problem, x), L, x)


class Tikhonov(Variational):
    """min_x d(A x) + ½λ ∫|x|² or ½λ ∫|∇x|², x ≥ 0.

    Tikhonov 1963; by `cg` on the normal equations without positivity, else by `fista`.

    penalty  "identity" |x|², or "gradient" |∇x|²
    and the parameters of `Variational`; the likelihood is a Gaussian one
    """

    def __init__(
        self,
        weight: Step | None = None,
        iterations: int = 300,
        tolerance: float = 1e-6,
        positive: bool = True,
        likelihood: Literal["unweighted", "weighted"] | None = None,
        penalty: Literal["identity", "gradient"] = "gradient",
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood)
        if penalty not in ("identity", "gradient"):
            raise ValueError(f"Tikhonov penalty: expected 'identity' or 'gradient', got {penalty!r}")
        self.penalty = penalty

    def pull(self, problem: Problem, x: Tensor) -> Tensor:
        n = len(problem.A.in_shape)
        slope = norm(self._penalise(problem, x), n) / math.sqrt(math.prod(problem.A.in_shape))
        return torch.where(slope > 0, slope, 1.0)

    def _penalise(self, problem: Problem, x: Tensor) -> Tensor:
        """∇E(x) = h² x or h² ∇*∇x."""
        h = _pixel_size(problem)
        if self.penalty == "identity":
            return h**2 * x
        return h**2 * Gradient(problem.A.in_shape, spacing=h).gram(x)

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        A, h, n = problem.A, _pixel_size(problem), len(problem.A.in_shape)
        positive = self._positivity(problem, x)
        if positive is None:
            data_slope = A.adjoint(d.grad(torch.zeros_like(problem.linear)))

            def normal(v: Tensor) -> Tensor:
                bend = d.grad(A(v)) - d.grad(torch.zeros_like(problem.linear))
                return A.adjoint(bend) + spread(weight, n) * self._penalise(problem, v)

            return cg(normal, -data_slope, x, ndim=n)
        energy: Functional = (weight * h**2) * SquaredL2(ndim=n)
        bound = weight * h**2
        if self.penalty == "gradient":
            slopes = Gradient(A.in_shape, spacing=h)
            energy = (weight * h**2) * SquaredL2(ndim=n + 1) @ slopes
            bound = bound * slopes.norm() ** 2
        return fista(d @ A + energy, positive, _bend(d, problem) * (MARGIN * A.norm()) ** 2 + bound, x)


class WaveletReconstruction(Variational):
    """min_x d(A x) + λ h Σ|W x| over the details of an orthonormal wavelet transform W.

    Daubechies, Defrise, De Mol, Comm. Pure Appl. Math. 57 (2004); by `fista`, or by `pdhg` where x ≥ 0 is
    asked for besides.

    wavelet, levels  as in operators.Wavelet; sides of the image are multiples of 2**levels
    and the parameters of `Variational`; the likelihood is a Gaussian one
    """

    name = "wavelet"

    def __init__(
        self,
        weight: Step | None = None,
        iterations: int = 500,
        tolerance: float = 3e-4,
        positive: bool = True,
        likelihood: Literal["unweighted", "weighted"] | None = None,
        wavelet: str = "db4",
        levels: int | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood)
        self.wavelet, self.levels = wavelet, levels

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        A = problem.A
        prior = WaveletL1(A.in_shape, self.wavelet, self.levels, _pixel_size(problem), weight)
        positive = self._positivity(problem, x)
        if positive is None:
            return fista(d @ A, prior, _bend(d, problem) * (MARGIN * A.norm()) ** 2, x)
        return pdhg([d @ A, prior], positive, x, circulant=_is_scan(problem))


def _is_scan(problem: Problem) -> bool:
    """A*A is nearly shift-invariant."""
    return isinstance(problem.A, XRay)


def _start(problem: Problem) -> Tensor:
    """A filtered back projection for an X-ray transform, else a few steps of CGLS from zero."""
    if isinstance(problem.A, XRay):
        return fbp(problem.A, problem.linear)
    return run(cgls(problem.A, problem.linear, torch.zeros_like(problem.A.adjoint(problem.linear))), 3)


def _pixel_size(problem: Problem) -> float:
    """[mm], 1 for an A without a geometry."""
    return float(getattr(getattr(problem.A, "geometry", None), "pixel_size", 1.0))


def _bend(d: Any, problem: Problem) -> Tensor:
    """The largest curvature of a Gaussian d, per image."""
    weight = torch.as_tensor(d.weight).expand(problem.linear.shape)
    return weight.flatten(-len(problem.A.out_shape)).amax(-1)
