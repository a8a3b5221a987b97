"""Image series that are low rank in every block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from torch import Tensor

from operators.simple import Identity
from priors import Functional, LocallyLowRank

from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, fista, pdhg
from ..solvers.terms import MARGIN
from .base import Variational, Weight, bend, is_gaussian


class LocallyLowRankReconstruction(Variational):
    """min_x d(A x) + λ Σ_b ‖C_b x‖_*: series whose pixels evolve alike within a block.

    Trzasko and Manduca, Asilomar (2011); Zhang, Pauly, Levesque, Magn. Reson. Med. 73 (2015). The prior is
    `priors.LocallyLowRank`; by `fista`, or by `pdhg` where x is bounded besides or the likelihood is not
    Gaussian. Images are (frames, ny, nx) or (frames, nz, ny, nx). λ in units of 1/[x]: singular values are of
    pixels as they are, not per mm.

    block   side of a block [pixels], a number or one for every spatial axis; None: the whole series is one
    shifts  where grids of blocks begin [pixels]: with several, E is their mean, whose blocks show less, by
            `pdhg`
    and the parameters of `Variational`
    """

    name = "locally-low-rank"
    degree: ClassVar[int | None] = 1

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 100,
        tolerance: float = 1e-4,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        block: int | Sequence[int] | None = 8,
        shifts: Sequence[int] = (0,),
        upper: float | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if not shifts:
            raise ValueError("LocallyLowRankReconstruction shifts: expected at least one, as (0,)")
        self.block, self.shifts = block, tuple(shifts)

    def unit(self, problem: Problem) -> float:
        return 1.0

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        A, shape = problem.A, problem.A.in_shape
        share = weight / len(self.shifts)
        priors = [LocallyLowRank(shape, self.block, share, shift) for shift in self.shifts]
        constraint = self.constraint(problem, x)
        if len(priors) == 1 and constraint is None and is_gaussian(d):
            return fista(d @ A, priors[0], bend(d, problem) * (MARGIN * A.norm()) ** 2, x)
        return pdhg([d @ A, *(prior @ Identity(shape) for prior in priors)], constraint, x)

    @classmethod
    def examples(cls) -> list[LocallyLowRankReconstruction]:
        """One grid of blocks, and the mean of two."""
        return [cls(5.0, 20, block=4), cls(5.0, 20, block=4, shifts=(0, 2))]
