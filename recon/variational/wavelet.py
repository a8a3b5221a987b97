"""Sparse wavelet coefficients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from priors import Functional, WaveletL1

from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, fista, pdhg
from ..solvers.terms import MARGIN
from .base import Variational, Weight, bend, is_gaussian, is_scan, pixel_size


class WaveletReconstruction(Variational):
    """min_x d(A x) + λ h Σ|W x| over the details of an orthonormal wavelet transform W.

    Daubechies, Defrise, De Mol, Comm. Pure Appl. Math. 57 (2004); by `fista`, or by `pdhg` where x is bounded
    besides or the likelihood is not Gaussian.

    wavelet, levels  as in operators.Wavelet; sides of the image are multiples of 2**levels
    and the parameters of `Variational`
    """

    name = "wavelet"
    degree: ClassVar[int | None] = 1

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 500,
        tolerance: float = 3e-4,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        wavelet: str = "db4",
        levels: int | None = None,
        upper: float | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        self.wavelet, self.levels = wavelet, levels

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        A = problem.A
        prior = WaveletL1(A.in_shape, self.wavelet, self.levels, pixel_size(problem), weight)
        constraint = self.constraint(problem, x)
        if constraint is None and is_gaussian(d):
            return fista(d @ A, prior, bend(d, problem) * (MARGIN * A.norm()) ** 2, x)
        return pdhg([d @ A, prior], constraint, x, circulant=is_scan(problem))

    @classmethod
    def examples(cls) -> list[WaveletReconstruction]:
        """On sides that are multiples of 4, bounded and free."""
        return [
            cls(5.0, 30, wavelet="haar", levels=2),
            cls(5.0, 30, positive=False, wavelet="haar", levels=1),
        ]
