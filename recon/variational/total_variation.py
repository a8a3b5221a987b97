"""Total variation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor

from operators import Fourier, Sense
from operators.tensors import spread
from priors import TV, Functional, SquaredL2
from priors.base import Composed

from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, admm, pdhg
from ..solvers.splitting import Inverse, one_weight
from .base import Variational, Weight, is_gaussian, is_scan, quadratic, spacing


class TotalVariation(Variational):
    """min_x d(A x) + λ ∫|∇x|, x ≥ 0: edges cost their height, noise costs more.

    Rudin, Osher, Fatemi, Physica D 60 (1992); of MR images Block, Uecker, Frahm, Magn. Reson. Med. 57 (2007).
    λ in units of 1/([x]·mm).

    isotropic  Euclidean length of the gradient, or the sum of its two moduli
    boundary   what lies beyond the far edge, as in `priors.TV`: "neumann", "periodic" or "zero"
    joint      modulus of complex images, or the TV of the real plus that of the imaginary part
    algorithm  "pdhg", with the gap; or "admm", for Gaussian likelihoods: fewer iterations, of five A*A each,
               several times faster for many coils, as nothing is kept per coil; or of two FFTs where
               these diagonalise all, for `Sense` of one coil and boundary "periodic"
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
        boundary: Literal["neumann", "periodic", "zero"] = "neumann",
        joint: bool = True,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if algorithm not in ("pdhg", "admm"):
            raise ValueError(f"{type(self).__name__} algorithm: expected 'pdhg' or 'admm', got {algorithm!r}")
        TV((1, 1), isotropic=isotropic, boundary=boundary, joint=joint)  # refuses wrong names
        self.isotropic, self.algorithm, self.boundary, self.joint = isotropic, algorithm, boundary, joint

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        shape, h = problem.A.in_shape, spacing(problem)
        prior = TV(shape, h, self.isotropic, weight, self.boundary, self.joint)
        constraint = self.constraint(problem, x)
        if self.algorithm == "pdhg":
            return pdhg([d @ problem.A, prior], constraint, x, circulant=is_scan(problem))
        if not is_gaussian(d):
            raise ValueError(f"{type(self).__name__} algorithm='admm' needs a Gaussian likelihood, got {d!r}")
        q = quadratic(d, problem)
        inverse = _by_fourier(q, prior, h) if constraint is None else None
        return admm([prior], constraint, x, quadratic=q, inverse=inverse)

    @classmethod
    def examples(cls) -> list[TotalVariation]:
        """λ by the discrepancy, by whiteness, and given, with an upper bound."""
        return [
            cls(iterations=30),
            cls(weight="whiteness", iterations=30),
            cls(weight=5.0, iterations=30, isotropic=False, upper=1.0),
            cls(weight=5.0, iterations=10, algorithm="admm", boundary="periodic"),
        ]


def _by_fourier(q: Composed, prior: TV, spacing: tuple[float, ...]) -> Inverse | None:
    """(w A*A + ρ ∇*∇)⁻¹ of one coil and a periodic gradient, or None for others."""
    A, shape = q.A, q.A.in_shape
    if not isinstance(A, Sense) or A.maps is not None or A.ndim != len(shape) or prior.boundary != "periodic":
        return None
    w = one_weight(cast(SquaredL2, q.f), A.ndim, A.ndim)
    if w is None:
        return None
    F, laplace = Fourier(shape, A.ndim), torch.zeros(shape, dtype=torch.float64)
    for axis, (n, h) in enumerate(zip(shape, spacing, strict=True)):
        k = torch.arange(n, dtype=torch.float64) - n // 2
        slope = 2 * torch.sin(math.pi * k / n) / h
        laplace += slope.square().reshape(*(-1 if d == axis else 1 for d in range(len(shape))))

    def inverse(v: Tensor, rhos: list[Tensor]) -> Tensor:
        power, curve = A.mask.to(v.real).square(), laplace.to(v.real)
        divisor = w * power + spread(rhos[0], A.ndim) * curve
        return F.adjoint(F(v) / torch.where(divisor > 0, divisor, torch.inf))

    return inverse


class PWLSTotalVariation(TotalVariation):
    """min_x ½ Σ (A x − y)²/variance + λ ∫|∇x|, x ≥ 0: a ray is trusted as far as its counts.

    Sauer and Bouman, IEEE Trans. Signal Process. 41 (1993); Sidky and Pan, Phys. Med. Biol. 53 (2008).
    """

    default_likelihood: ClassVar[Likelihood] = "weighted"
