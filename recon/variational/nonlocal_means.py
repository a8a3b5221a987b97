"""Penalised weighted least squares on the graph of similar patches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from operators.tensors import norm
from priors import Functional, NonLocalQuadratic

from ..fidelity import Likelihood
from ..nonlocal_means import FBPNonLocalMeans, deviation
from ..problem import Problem
from ..solvers.iterate import Callback
from .base import Solution, Weight, spacing
from .ordered_subsets import OSSQS, PWLSHuber


class PWLSNonLocalMeans(PWLSHuber):
    """min_x ½ Σ (A x − y)²/variance + ½λ v Σ ŵᵢⱼ (xᵢ − xⱼ)², 0 ≤ x ≤ upper: `priors.NonLocalQuadratic`.

    Zhang et al., Med. Phys. 41 (2014). The similarities ŵ are of an FBP denoised by non-local means, with
    the noise of every pixel known from that of the rays, and stay fixed: the objective is convex, and solved
    by ordered subsets.

    strength       width of the similarities, in σ of the FBP's noise
    patch_radius, search_radius   as in `priors.nonlocal_means.non_local_means`
    and the parameters of `OSSQS`
    """

    name = "pwls-nonlocal-means"

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 60,
        tolerance: float = 1e-5,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        subsets: int = 12,
        strength: float = 0.5,
        patch_radius: int = 1,
        search_radius: int = 3,
        upper: float | None = None,
        _prior: Functional | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, subsets, upper=upper)
        FBPNonLocalMeans(strength, patch_radius, search_radius)  # a wrong value is an error here already
        self.start = FBPNonLocalMeans(None, search_radius=search_radius)
        self.strength, self.patch_radius, self.search_radius = strength, patch_radius, search_radius
        self._prior = _prior

    def solve(self, problem: Problem, callback: Callback | None = None) -> Solution:
        if self._prior is not None:
            return super().solve(problem, callback)
        # the graph is made once, not for every λ tried
        options = (self.iterations, self.tolerance, self.positive, self.likelihood, self.subsets)
        prior = self.graph(problem)
        return PWLSNonLocalMeans(self.weight, *options, upper=self.upper, _prior=prior).solve(
            problem, callback
        )

    @torch.no_grad()
    def graph(self, problem: Problem) -> NonLocalQuadratic:
        """The prior of this problem."""
        n = len(problem.A.in_shape)
        # the reference has lost its noise: its similarities are as wide as strength·σ says, no more
        sigma = self.strength * deviation(self.start.noise(problem, 4), n)
        volume = math.prod(spacing(problem))
        options = (1.0, self.patch_radius, self.search_radius, volume, n)
        return NonLocalQuadratic(self.start(problem), sigma, *options)

    def pull(self, problem: Problem, x: Tensor) -> Tensor:
        n = len(problem.A.in_shape)
        prior = self.graph(problem) if self._prior is None else self._prior
        slope = norm(prior.grad(x), n) / math.sqrt(math.prod(problem.A.in_shape))
        return torch.where(slope > 0, slope, 1.0)

    def penalty(self, problem: Problem, weight: Tensor) -> Functional:
        return weight * (self.graph(problem) if self._prior is None else self._prior)

    @classmethod
    def examples(cls) -> list[OSSQS]:
        """λ by the discrepancy, and given."""
        return [cls(None, 10, subsets=2, search_radius=2), cls(5.0, 10, subsets=3, upper=1.0)]
