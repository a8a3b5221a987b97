"""Prior image constrained compressed sensing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from priors import Functional, PriorImageTV

from ..base import Reconstructor
from ..direct import FBP
from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, pdhg
from ..solvers.iterate import Callback
from .base import Solution, Variational, Weight, is_scan, pixel_size


class PICCS(Variational):
    """min_x d(A x) + λ (α TV(x − x_p) + (1 − α) TV(x)), x ≥ 0: much like x_p, an image known before.

    Chen, Tang, Leng, Med. Phys. 35 (2008); of a likelihood Lauzier and Chen, Med. Phys. 40 (2013). By `pdhg`.

    prior_image  x_p: an earlier or averaged scan in the same place, (ny, nx) or one per image; or a method
                 that makes it from the problem
    alpha        α in [0, 1]; 0 is total variation, with which a wrong x_p does no harm
    and the parameters of `Variational`
    """

    default_likelihood: ClassVar[Likelihood] = "weighted"
    prior_image: Tensor | Reconstructor

    def __init__(
        self,
        prior_image: Tensor | Reconstructor,
        weight: Weight = None,
        iterations: int = 300,
        tolerance: float = 1e-3,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        alpha: float = 0.5,
        upper: float | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if not isinstance(prior_image, Tensor | Reconstructor):
            raise ValueError(
                f"PICCS prior_image: expected an image or a method that makes one, got {prior_image!r}"
            )
        if not 0 <= alpha <= 1:
            raise ValueError(f"PICCS alpha: expected a number in [0, 1], got {alpha}")
        if isinstance(prior_image, Tensor):
            self.register_buffer("prior_image", prior_image)
        else:
            self.prior_image = prior_image
        self.alpha = alpha

    def solve(self, problem: Problem, callback: Callback | None = None) -> Solution:
        if isinstance(self.prior_image, Reconstructor):
            # made once, not for every λ tried
            options = (
                self.iterations,
                self.tolerance,
                self.positive,
                self.likelihood,
                self.alpha,
                self.upper,
            )
            return PICCS(self.prior_image(problem), self.weight, *options).solve(problem, callback)
        return super().solve(problem, callback)

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        image, shape = self.prior_image, problem.A.in_shape
        if not isinstance(image, Tensor) or tuple(image.shape) not in (shape, (*problem.batch, *shape)):
            raise ValueError(
                f"PICCS prior_image: expected {shape} or {(*problem.batch, *shape)}, got "
                f"{tuple(image.shape) if isinstance(image, Tensor) else image!r}"
            )
        prior = PriorImageTV(image.to(x), pixel_size(problem), self.alpha)
        terms = [d @ problem.A, *(weight * term for term in prior.terms)]
        return pdhg(terms, self.constraint(problem, x), x, circulant=is_scan(problem))

    @classmethod
    def examples(cls) -> list[PICCS]:
        """With a smooth FBP in the place of the prior image."""
        smooth = FBP("hann", 0.5)
        return [cls(smooth, iterations=30), cls(smooth, 5.0, iterations=30, alpha=1.0, upper=1.0)]
