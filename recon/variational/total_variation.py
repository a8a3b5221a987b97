"""Total variation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import Tensor

from priors import TV, Functional

from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, admm, pdhg
from .base import Variational, Weight, is_gaussian, is_scan, quadratic, spacing


class TotalVariation(Variational):
    """min_x d(A x) + λ ∫|∇x|, x ≥ 0: edges cost their height, noise costs more.

    Rudin, Osher, Fatemi, Physica D 60 (1992); of MR images Block, Uecker, Frahm, Magn. Reson. Med. 57 (2007).
    λ in units of 1/([x]·mm).

    isotropic  Euclidean length of the gradient, or the sum of its two moduli
    algorithm  "pdhg", with the gap; or "admm", for Gaussian likelihoods: fewer iterations, of five A*A each
    and the parameters of `Variational`
    """

    degree: ClassVar[int | None] = 1

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 150,
        tolerance: float = 1e-3,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        isotropic: bool = True,
        upper: float | None = None,
        algorithm: Literal["pdhg", "admm"] = "pdhg",
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if algorithm not in ("pdhg", "admm"):
            raise ValueError(f"{type(self).__name__} algorithm: expected 'pdhg' or 'admm', got {algorithm!r}")
        self.isotropic, self.algorithm = isotropic, algorithm

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        prior = TV(problem.A.in_shape, spacing(problem), self.isotropic, weight)
        constraint = self.constraint(problem, x)
        if self.algorithm == "pdhg":
            return pdhg([d @ problem.A, prior], constraint, x, circulant=is_scan(problem))
        if not is_gaussian(d):
            raise ValueError(f"{type(self).__name__} algorithm='admm' needs a Gaussian likelihood, got {d!r}")
        return admm([prior], constraint, x, quadratic=quadratic(d, problem))

    @classmethod
    def examples(cls) -> list[TotalVariation]:
        """λ by the discrepancy, by whiteness, and given, with an upper bound."""
        return [
            cls(iterations=30),
            cls(weight="whiteness", iterations=30),
            cls(weight=5.0, iterations=30, isotropic=False, upper=1.0),
            cls(weight=5.0, iterations=10, algorithm="admm"),
        ]


class PWLSTotalVariation(TotalVariation):
    """min_x ½ Σ (A x − y)²/variance + λ ∫|∇x|, x ≥ 0: a ray is trusted as far as its counts.

    Sauer and Bouman, IEEE Trans. Signal Process. 41 (1993); Sidky and Pan, Phys. Med. Biol. 53 (2008).
    """

    default_likelihood: ClassVar[Likelihood] = "weighted"
