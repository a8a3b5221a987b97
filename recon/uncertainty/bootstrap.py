"""Parametric bootstrap: how an image would differ had the noise been another."""

from __future__ import annotations

import math

import torch

from operators import Gaussian, Poisson

from ..base import Reconstructor
from ..problem import Problem
from .base import Moments, Prediction, Probabilistic, own_seed


class ParametricBootstrap(Probabilistic):
    """spread² = Σ_k |x_k − x̄|²/(K − 1),  x_k = method(noise(A x̂)),  x̂ = method(y), which is the mean.

    Efron, Ann. Stat. 7 (1979); Efron and Tibshirani 1993, chapter 6. For any method and noise. It knows the
    variance of the method and nothing of its bias: what a prior flattens is flat in every replica, with no
    spread. Its intervals therefore hold too little where the method is wrong; `Conformal` mends that.

    method    any; a weight that it chooses without the truth is chosen anew in every replica
    replicas  K ≥ 2
    seed      of the noise, the same draws for all images of a batch; no draw that data were made with
    """

    def __init__(self, method: Reconstructor, replicas: int = 16, seed: int = 0):
        super().__init__()
        if not isinstance(method, Reconstructor):
            raise ValueError(f"ParametricBootstrap method: expected a Reconstructor, got {method!r}")
        if replicas < 2:
            raise ValueError(f"ParametricBootstrap replicas: expected at least 2, got {replicas}")
        self.method, self.replicas, self.seed = method, replicas, seed

    @torch.no_grad()
    def predict(self, problem: Problem) -> Prediction:
        if isinstance(problem.noise, Gaussian) and problem.noise.sigma is None:
            raise ValueError("ParametricBootstrap problem: the noise's σ is not known; use noise.at(clean)")
        x = self.method(problem)
        clean, count = problem.A(x), math.prod(problem.batch)
        if isinstance(problem.noise, Poisson):
            clean = clean.clamp(min=0)  # no count has a mean below zero, as an image may ask for
        moments = Moments()
        for k in range(self.replicas):
            y = problem.noise(clean, seed=[own_seed(0xB007, self.seed, k)] * count)
            moments.add(self.method(Problem(problem.A, y, problem.noise)))
        return Prediction(x, moments.spread)

    def forward(self, problem: Problem) -> torch.Tensor:
        return self.method(problem)

    @classmethod
    def examples(cls) -> list[ParametricBootstrap]:
        from ..iterative import CGLS

        return [cls(CGLS(iterations=3), 2)]
