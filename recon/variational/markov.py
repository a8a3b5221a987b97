"""Penalised weighted least squares with Markov random fields."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from priors import QGGMRF, FairMRF, Functional

from ..fidelity import Likelihood
from ..problem import Problem
from .base import Weight, spacing
from .ordered_subsets import OSSQS, PWLSHuber


class PWLSQGGMRF(PWLSHuber):
    """min_x ½ Σ (A x − y)²/variance + λ Σ ρ_qc(slopes to all neighbours), 0 ≤ x ≤ upper: `priors.QGGMRF`.

    Thibault, Sauer, Bouman, Hsieh, Med. Phys. 34 (2007), the prior of the first clinical model-based
    reconstruction; by ordered subsets with momentum, for images and volumes.

    c, q  of the potential; c [unit of x per mm], some 10 HU between pixels 0.7 mm apart by default
    and the parameters of `OSSQS`
    """

    name = "pwls-qggmrf"

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 60,
        tolerance: float = 1e-5,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        subsets: int = 12,
        c: float = 3e-4,
        q: float = 1.2,
        upper: float | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, subsets, delta=c, upper=upper)
        QGGMRF((1, 1), 1.0, c, q)  # a wrong potential is an error here already
        self.q = q

    def pull(self, problem: Problem, x: Tensor) -> Tensor:
        size = spacing(problem)
        return torch.full_like(super().pull(problem, x), math.prod(size) / (sum(size) / len(size)))

    def penalty(self, problem: Problem, weight: Tensor) -> Functional:
        return weight * QGGMRF(problem.A.in_shape, spacing(problem), self.delta, self.q)

    @classmethod
    def examples(cls) -> list[OSSQS]:
        """λ by whiteness, and given for counts, with an upper bound."""
        return [
            cls("whiteness", 10, subsets=2, c=1e-2),
            cls(5.0, 10, likelihood="matching", subsets=3, c=1e-2, q=1.0, upper=1.0),
        ]


class PWLSFair(PWLSQGGMRF):
    """min_x ½ Σ (A x − y)²/variance + λ Σ ρ_δ(slopes to all neighbours), 0 ≤ x ≤ upper: `priors.FairMRF`.

    delta  δ of the potential [unit of x per mm]
    and the parameters of `OSSQS`
    """

    name = "pwls-fair"

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 60,
        tolerance: float = 1e-5,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        subsets: int = 12,
        delta: float = 3e-4,
        upper: float | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, subsets, delta, upper=upper)

    def penalty(self, problem: Problem, weight: Tensor) -> Functional:
        return weight * FairMRF(problem.A.in_shape, spacing(problem), self.delta)

    @classmethod
    def examples(cls) -> list[OSSQS]:
        """With a given λ."""
        return [cls(5.0, 10, subsets=3, delta=1e-2)]
