"""Total generalised variation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from operators.strain import First, Slope, Strain
from priors import L21, Functional
from priors.base import Step

from ..fidelity import Likelihood
from ..problem import Problem
from ..solvers import Iterate, pdhg
from .base import Variational, Weight, pixel_size, spacing


class TotalGeneralisedVariation(Variational):
    """min_{x,w} d(A x) + λ ∫ |∇x − w| + λβ ∫ |E w|, x ≥ 0: edges, and slopes without the stairs of TV.

    Bredies, Kunisch, Pock, SIAM J. Imaging Sci. 3 (2010), second order, E w the symmetrised gradient of the
    field w; by `pdhg` on (x, w). λ in units of 1/([x]·mm) as for `TotalVariation`, which it
    never exceeds (w = 0).

    beta  β [mm], the ratio of second to first order; some 2 pixels of a clinical image
    and the parameters of `Variational`
    """

    degree: ClassVar[int | None] = 1

    def __init__(
        self,
        weight: Weight = None,
        iterations: int = 300,
        tolerance: float = 1e-3,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        beta: float = 1.5,
        upper: float | None = None,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        if not beta > 0:
            raise ValueError(f"TotalGeneralisedVariation beta [mm]: expected a positive number, got {beta}")
        self.beta = beta

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        shape, h = problem.A.in_shape, pixel_size(problem)
        sides = tuple(side / h for side in spacing(problem))  # the field is kept as slope per h
        area = h ** (len(shape) - 1)
        length = L21(-1 - len(shape), 1 + len(shape))
        bounds = self.constraint(problem, x)
        terms = [
            (d, problem.A @ First(shape)),
            ((weight * area) * length, Slope(shape, sides)),
            ((weight * self.beta * area / h) * length, Strain(shape, sides)),
        ]
        field = x.new_zeros(*problem.batch, len(shape), *shape)
        together = torch.cat([x.unsqueeze(-1 - len(shape)), field], -1 - len(shape))
        for found in pdhg(terms, None if bounds is None else _OfImage(bounds), together):
            yield replace(found, x=found.x.select(-1 - len(shape), 0))

    @classmethod
    def examples(cls) -> list[TotalGeneralisedVariation]:
        """λ by the discrepancy, and given, with an upper bound."""
        return [cls(iterations=30), cls(weight=5.0, iterations=30, beta=3.0, upper=1.0)]


class _OfImage(Functional):
    """f of the image x of (x, w), whatever w."""

    def __init__(self, f: Functional):
        super().__init__()
        self.f, self.ndim = f, f.ndim + 1

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x.select(-self.ndim, 0))

    def prox(self, x: Tensor, step: Step) -> Tensor:
        image, field = x.split([1, x.shape[-self.ndim] - 1], -self.ndim)
        return torch.cat(
            [self.f.prox(image.squeeze(-self.ndim), step).unsqueeze(-self.ndim), field], -self.ndim
        )
