"""Iterative methods: regularised by when they stop."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from operators.tensors import spread

from .base import Reconstructor
from .fidelity import count, unweighted
from .problem import Problem
from .solvers import Iterate, cgls, lsqr, run, sart, sirt
from .subsets import interleaved, subset_of, views_of


class Iterative(Reconstructor):
    """x after a number of iterations from zero; None: the first with ‖A x − y‖² ≤ ‖σ‖², the discrepancy.

    iterations      so many, or None: per image, as soon as the misfit is that of the noise (Morozov 1966)
    most            at most so many when `iterations` is None
    """

    def __init__(self, iterations: int | None, most: int = 200):
        super().__init__()
        if iterations is not None and iterations < 1:
            raise ValueError(
                f"{type(self).__name__} iterations: expected at least 1 or None, got {iterations}"
            )
        self.iterations, self.most = iterations, most

    @abstractmethod
    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        """The solver from x."""

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        x = torch.zeros_like(problem.A.adjoint(problem.linear))
        iterates = self.iterates(problem, x)
        if self.iterations is not None:
            return run(iterates, self.iterations)
        return _until_noise(iterates, problem, self.most)


class CGLS(Iterative):
    """min_x ½‖A x − y‖² by a few conjugate-gradient steps, which fit smooth parts first.

    x may be negative: the steps live in a linear space. Parameters of `Iterative`.
    """

    def __init__(self, iterations: int | None = None, most: int = 200):
        super().__init__(iterations, most)

    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        return cgls(problem.A, problem.linear, x)


class LSQR(Iterative):
    """min_x ½‖A x − y‖² + ½δ‖x‖² by a few steps of `lsqr`, Paige and Saunders' form of `CGLS`.

    damping  δ ≥ 0, unit of y² per unit of x²
    and the parameters of `Iterative`; x may be negative
    """

    def __init__(self, iterations: int | None = None, damping: float = 0.0, most: int = 200):
        super().__init__(iterations, most)
        if not 0 <= damping < math.inf:
            raise ValueError(f"LSQR damping: expected a number ≥ 0, got {damping}")
        self.damping = damping

    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        return lsqr(problem.A, problem.linear, x, self.damping)

    @classmethod
    def examples(cls) -> list[LSQR]:
        """Stopped by the noise, and damped."""
        return [cls(most=30), cls(iterations=5, damping=0.1)]


class SIRT(Iterative):
    """x⁺ = x + ω C A* R (y − A x), projected onto x ≥ 0: `sirt`.

    relaxation  0 < ω < 2
    positive    x ≥ 0
    upper       x ≤ upper, or None
    """

    def __init__(
        self,
        iterations: int | None = None,
        relaxation: float = 1.9,
        positive: bool = True,
        most: int = 1000,
        upper: float | None = None,
    ):
        super().__init__(iterations, most)
        self.relaxation, self.lower, self.upper = relaxation, 0.0 if positive else None, upper

    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        return sirt(problem.A, problem.linear, x, self.relaxation, self.lower, self.upper)


class OSSART(Iterative):
    """`sart` over subsets of views, interleaved and taken in golden-ratio order, x ≥ 0.

    iterations  passes over all views
    subsets     how many; each has every `subsets`-th view
    relaxation  0 < ω < 2; smaller follows noise less
    positive    x ≥ 0
    upper       x ≤ upper, or None
    """

    def __init__(
        self,
        iterations: int | None = None,
        subsets: int = 10,
        relaxation: float = 0.25,
        positive: bool = True,
        most: int = 100,
        upper: float | None = None,
    ):
        super().__init__(iterations, most)
        self.subsets, self.relaxation = subsets, relaxation
        self.lower, self.upper = 0.0 if positive else None, upper

    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        chosen = interleaved(problem.A.out_shape[0], self.subsets)
        parts = [subset_of(problem.A, views) for views in chosen]
        data = [views_of(problem.linear, views, len(problem.A.out_shape)) for views in chosen]
        return sart(parts, data, x, self.relaxation, self.lower, self.upper)


class SART(OSSART):
    """`OSSART` with one view a subset (Andersen and Kak 1984)."""

    def __init__(
        self,
        iterations: int | None = None,
        relaxation: float = 0.2,
        positive: bool = True,
        most: int = 50,
        upper: float | None = None,
    ):
        super().__init__(iterations, 10**9, relaxation, positive, most, upper)


def _until_noise(iterates: Iterator[Iterate], problem: Problem, most: int) -> Tensor:
    """Per image the first iterate whose χ²/m is at most 1."""
    d = unweighted(problem)
    enough = count(d, problem.linear)
    x = next(iterates).x
    done = torch.zeros(problem.batch, dtype=torch.bool, device=x.device)
    for _ in range(most):
        new = next(iterates).x
        x = torch.where(torch.as_tensor(spread(done, x.ndim - done.ndim)), x, new)
        done = done | (2 * d(problem.A(x)) <= enough)
        if bool(done.all()):
            break
    return x
