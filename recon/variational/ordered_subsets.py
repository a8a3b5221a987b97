"""Penalised likelihood by ordered subsets, the field's workhorse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from priors import Functional, HuberTV, SquaredL2

from ..counts import TransmissionPoisson
from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, os_sqs
from ..solvers.sqs import Curvature
from ..subsets import interleaved, subset_of, views_of
from .base import Variational, Weight, spacing


class OSSQS(Variational):
    """min_x d(A x) + λ ∫ h_δ(|∇x|), x ≥ 0, by ordered subsets of separable quadratic surrogates: `os_sqs`.

    Erdogan and Fessler, Phys. Med. Biol. 44 (1999); with momentum Kim, Ramani, Fessler, IEEE Trans. Med.
    Imaging 34 (2015). Some ten passes over the views come close; subsets are merged on the way, so that more
    passes reach the minimum. A subclass with another smooth prior writes `penalty`.

    iterations  passes over all views, at most
    subsets     how many at the start; each has every `subsets`-th view, taken in golden-ratio order
    momentum    Nesterov's, from subset to subset
    halve       passes before subsets are merged in pairs; 0 never
    curvature   of the likelihoods of counts: "optimal" at every pass, or the larger "max" once
    delta       δ [unit of x per mm]
    and the parameters of `Variational`; x ≥ 0 for the likelihoods of counts
    """

    name = "os-sqs"
    default_likelihood: ClassVar[Likelihood] = "matching"

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 60,
        tolerance: float = 1e-5,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        subsets: int = 12,
        momentum: bool = True,
        halve: int = 5,
        curvature: Curvature = "optimal",
        delta: float = 1e-3,
        upper: float | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if subsets < 1:
            raise ValueError(f"{type(self).__name__} subsets: expected at least 1, got {subsets}")
        if curvature not in ("optimal", "max"):
            raise ValueError(
                f"{type(self).__name__} curvature: expected 'optimal' or 'max', got {curvature!r}"
            )
        self.subsets, self.momentum, self.halve, self.curvature = subsets, momentum, halve, curvature
        self.delta = delta

    def penalty(self, problem: Problem, weight: Tensor) -> Functional:
        """λ E, smooth, with `curvatures` or a finite `lipschitz`."""
        return HuberTV(problem.A.in_shape, spacing(problem), self.delta, weight)

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        A = problem.A
        lower, upper = self.bounds(x)
        if lower is None and isinstance(d, TransmissionPoisson):
            raise ValueError("OSSQS positive: expected True for counts, which bend without bound below 0")
        chosen = interleaved(A.out_shape[0], self.subsets)
        terms = [restricted(d, views) @ subset_of(A, views) for views in chosen]
        return os_sqs(
            terms,
            self.penalty(problem, weight),
            x,
            lower,
            upper,
            self.momentum,
            self.curvature,
            self.halve,
        )

    @classmethod
    def examples(cls) -> list[OSSQS]:
        """Counts and Gaussian, with and without momentum."""
        return [
            cls(5.0, 10, likelihood="weighted", subsets=3, delta=1e-2),
            cls(5.0, 10, likelihood="unweighted", subsets=2, momentum=False, delta=1e-2, upper=1.0),
        ]


class PWLSHuber(OSSQS):
    """min_x ½ Σ (A x − y)²/variance + λ ∫ h_δ(|∇x|), x ≥ 0: penalised weighted least squares.

    Sauer and Bouman, IEEE Trans. Signal Process. 41 (1993); Thibault et al., Med. Phys. 34 (2007); `OSSQS`.
    """

    name = "pwls-huber"
    default_likelihood: ClassVar[Likelihood] = "weighted"


def restricted(d: Functional, views: list[int]) -> Functional:
    """The likelihood of some of the views; d is Gaussian or `TransmissionPoisson`."""
    if isinstance(d, SquaredL2):
        target, weight = views_of(d.target, views, d.ndim), views_of(d.weight, views, d.ndim)
        return SquaredL2(target, weight, d.ndim)
    if isinstance(d, TransmissionPoisson):
        y, i0, r = (views_of(value, views, d.ndim) for value in (d.y, d.i0, d.r))
        return TransmissionPoisson(y, i0, r, d.ndim)
    raise ValueError(
        f"OSSQS: expected a Gaussian or transmission likelihood, got {d!r}; for emission use OSEM"
    )
