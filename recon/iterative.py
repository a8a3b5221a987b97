"""Iterative methods: regularised by when they stop."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import spread

from .base import Reconstructor
from .fidelity import unweighted
from .problem import Problem
from .solvers import Iterate, cgls, run, sart, sirt, view_order


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


class SIRT(Iterative):
    """x⁺ = x + ω C A* R (y − A x), projected onto x ≥ 0: `sirt`.

    relaxation  0 < ω < 2
    positive    x ≥ 0
    """

    def __init__(
        self,
        iterations: int | None = None,
        relaxation: float = 1.9,
        positive: bool = True,
        most: int = 1000,
    ):
        super().__init__(iterations, most)
        self.relaxation, self.lower = relaxation, 0.0 if positive else None

    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        return sirt(problem.A, problem.linear, x, self.relaxation, self.lower)


class OSSART(Iterative):
    """`sart` over subsets of views, interleaved and taken in golden-ratio order, x ≥ 0.

    iterations  passes over all views
    subsets     how many; each has every `subsets`-th view
    relaxation  0 < ω < 2; smaller follows noise less
    """

    def __init__(
        self,
        iterations: int | None = None,
        subsets: int = 10,
        relaxation: float = 0.25,
        positive: bool = True,
        most: int = 100,
    ):
        super().__init__(iterations, most)
        self.subsets, self.relaxation, self.lower = subsets, relaxation, 0.0 if positive else None

    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        views = problem.A.out_shape[0]
        count = min(self.subsets, views)
        chosen = [list(range(k, views, count)) for k in view_order(count)]
        parts = [_subset(problem.A, part) for part in chosen]
        data = [problem.linear[..., part, :] for part in chosen]
        return sart(parts, data, x, self.relaxation, self.lower)


class SART(OSSART):
    """`OSSART` with one view a subset (Andersen and Kak 1984)."""

    def __init__(
        self,
        iterations: int | None = None,
        relaxation: float = 0.2,
        positive: bool = True,
        most: int = 50,
    ):
        super().__init__(iterations, 10**9, relaxation, positive, most)


def _subset(A: LinearOperator, views: list[int]) -> LinearOperator:
    subset: Callable[[list[int]], LinearOperator] | None = getattr(A, "subset", None)
    if subset is None:
        raise ValueError(
            f"SART and OSSART need an operator with views, A.subset(views); {A!r} has none: use SIRT"
        )
    return subset(views)


def _until_noise(iterates: Iterator[Iterate], problem: Problem, most: int) -> Tensor:
    """Per image the first iterate whose χ²/m is at most 1."""
    d = unweighted(problem)
    count = math.prod(problem.A.out_shape) * (2 if problem.y.is_complex() else 1)
    x = next(iterates).x
    done = torch.zeros(problem.batch, dtype=torch.bool, device=x.device)
    for _ in range(most):
        new = next(iterates).x
        x = torch.where(torch.as_tensor(spread(done, x.ndim - done.ndim)), x, new)
        done = done | (2 * d(problem.A(x)) <= count)
        if bool(done.all()):
            break
    return x
