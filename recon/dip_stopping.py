"""When to stop a deep image prior, without the truth: held-out data, variance of the outputs, discrepancy.

A network left to itself fits the noise in the end. What a rule watches:

    HeldOut            the likelihood of data that the fit does not see     least
    WindowedVariance   how much the last images differ from their mean      least
    Discrepancy        ‖(A x − y)/σ‖² / number of data                      at most 1

A rule is a description; `begin` makes what watches one image.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from operators import Fourier, LinearOperator, Mask, NonUniformFourier, NonUniformSense, Sense
from operators.base import Composition, Scaled
from operators.tensors import squared_norm
from priors import Functional

from .fidelity import counted, standardised
from .problem import Problem
from .training import within


class Watch:
    """What looks at the images of one fit.

    keep   the data to fit, bool, of the shape of one image's data; None: all
    image  the image to return, or None: nothing to say, and the one of lowest objective is taken
    at     its iteration
    """

    keep: Tensor | None = None
    image: Tensor | None = None
    at: int | None = None

    def done(self, k: int, x: Tensor, z: Tensor) -> bool:
        """Whether to stop at iteration k with the image x and z = A x."""
        return False

    def take(self, k: int, x: Tensor) -> None:
        self.at, self.image = k, x.clone()


class Stopping(ABC):
    """A rule for when a fit ends and which of its images is the result."""

    @abstractmethod
    def begin(self, problem: Problem, d: Functional) -> Watch:
        """What watches the fit to `problem`, one image; d is its likelihood of z = A x."""


class _Least(Watch):
    """Keeps the image of the least score, and stops when there was none lower for `patience` iterations."""

    def __init__(self, patience: int):
        self.patience, self.lowest = patience, math.inf

    def judge(self, k: int, score: float, x: Tensor) -> bool:
        if score < self.lowest:
            self.lowest = score
            self.take(k, x)
        return self.at is not None and k - self.at >= self.patience


@dataclass(frozen=True)
class HeldOut(Stopping):
    """The image that best predicts data it was not fitted to: d over a random share held out, at its minimum.

    Noise is independent from datum to datum, so that what is learned of the noise in the others does not
    help. In k-space a position is held out in all coils at once, and DC and its neighbours never are: of
    `Sense`, `Fourier` and trajectories, also after `Coils` and behind a `Mask`.

    share     of the data that say anything, held out; they enter the result by the choice of its iteration
              alone, in `DeepImagePrior` without `start`
    patience  iterations without a lower minimum before the fit stops
    seed      of the choice
    """

    share: float = 0.1
    patience: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"HeldOut share: expected a fraction between 0 and 1, got {self.share!r}")
        within("HeldOut patience", self.patience, 1, 10**9)

    def begin(self, problem: Problem, d: Functional) -> Watch:
        return _HeldOutWatch(self, problem, d)


class _HeldOutWatch(_Least):
    def __init__(self, rule: HeldOut, problem: Problem, d: Functional):
        super().__init__(rule.patience)
        held = held_out(problem, d, rule.share, rule.seed)
        self.d, self.held, self.keep, self.data = d, held, ~held, problem.linear.detach()

    def done(self, k: int, x: Tensor, z: Tensor) -> bool:
        # data not held out are given as they are: their part of d is a constant
        return self.judge(k, float(self.d(torch.where(self.held, z, self.data))), x)


def held_out(problem: Problem, d: Functional, share: float, seed: int = 0) -> Tensor:
    """A random `share` of what says something under d, bool, the shape of the data of one image."""
    A, useful = problem.A, informative(problem, d)
    axis, shape = _coils(problem), list(useful.shape)
    if axis is not None:
        shape[axis] = 1
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(useful.device) < share
    seen = next((part for part in _factors(A) if not isinstance(part, Mask)), A)
    if isinstance(seen, Sense | Fourier):
        middle = [slice(max(n // 2 - 2, 0), n // 2 + 2) for n in seen.in_shape[-seen.ndim :]]
        where: tuple[Any, ...] = (..., *middle)
        drawn[where] = False
    elif isinstance(seen, NonUniformFourier | NonUniformSense):
        k = seen.trajectory.detach().to(drawn.device)
        sides = k.new_tensor(seen.in_shape[-seen.ndim :])
        near = (k.abs() * sides < 4 * math.pi).all(-1)  # within two steps of the grid
        drawn &= ~(near.unsqueeze(axis) if axis is not None and near.ndim == drawn.ndim - 1 else near)
    held = drawn & useful
    if not bool(held.any()) or not bool((useful & ~held).any()):
        raise ValueError(
            f"HeldOut share={share}: of {int(useful.sum())} data this holds out {int(held.sum())}; choose "
            "another"
        )
    return held


def informative(problem: Problem, d: Functional) -> Tensor:
    """Which data say something: their weight under d is not zero, and they were sampled; bool."""
    useful, sampled = counted(d, problem.linear), getattr(problem.A, "sampled", None)
    return useful & sampled.to(useful.device) if isinstance(sampled, Tensor) else useful


def numbers(problem: Problem, d: Functional) -> int:
    """How many real numbers of data one image has."""
    return int(informative(problem, d).sum()) * (2 if problem.linear.is_complex() else 1)


def _factors(A: LinearOperator) -> list[LinearOperator]:
    """What A is the product of, the last first, without numbers."""
    if isinstance(A, Composition):
        return [*_factors(A.A), *_factors(A.B)]
    return _factors(A.A) if isinstance(A, Scaled) else [A]


def _coils(problem: Problem) -> int | None:
    """The axis of the data along which coils lie, if there is one."""
    every = (getattr(part, "maps", None) for part in _factors(problem.A))
    maps = next((m for m in every if isinstance(m, Tensor)), None)
    # data are (*frames, coils, …), images (*frames, *spatial), maps (coils, *spatial)
    return None if maps is None else len(problem.A.in_shape) - (maps.ndim - 1)


@dataclass(frozen=True)
class WindowedVariance(Stopping):
    """The image at the end of the `window` outputs that differ least: mean ‖x − mean x‖²/n over them, least.

    Wang et al., Early Stopping for Deep Image Prior, TMLR (2023), ES-WMV: outputs move while structure comes,
    rest for a while, and move again while noise comes. Their 100 and 1000 are for 5000 iterations of Adam at
    a constant rate 0.01; a rate that falls to zero brings everything to rest and tells the rule nothing.

    window    outputs looked at, all kept in memory
    patience  iterations without a lower minimum before the fit stops
    """

    window: int = 100
    patience: int = 1000

    def __post_init__(self) -> None:
        within("WindowedVariance window", self.window, 2, 10**6)
        within("WindowedVariance patience", self.patience, 1, 10**9)

    def begin(self, problem: Problem, d: Functional) -> Watch:
        return _VarianceWatch(self)


class _VarianceWatch(_Least):
    def __init__(self, rule: WindowedVariance):
        super().__init__(rule.patience)
        self.window, self.last = rule.window, deque[Tensor]()
        self.sum: Tensor | float = 0.0
        self.squares = 0.0

    def done(self, k: int, x: Tensor, z: Tensor) -> bool:
        self.last.append(x.clone())
        self._add(x, 1)
        if len(self.last) > self.window:
            self._add(self.last.popleft(), -1)
        if len(self.last) < self.window:
            return False
        mean = torch.as_tensor(self.sum) / self.window
        variance = self.squares / self.window - float(squared_norm(mean, x.ndim))
        return self.judge(k, variance / x.numel(), x)

    def _add(self, x: Tensor, sign: int) -> None:
        # in double precision, for the difference of two sums is small
        x = x.to(torch.complex128 if x.is_complex() else torch.float64)
        self.sum, self.squares = self.sum + sign * x, self.squares + sign * float(squared_norm(x, x.ndim))


@dataclass(frozen=True)
class Discrepancy(Stopping):
    """The first image with ‖(A x − y)/σ‖² ≤ factor · number of data: the misfit is that of the noise.

    Never reached, it says nothing, and the image of lowest objective is the result. Counts are weighed by
    Pearson's residual.

    factor  1 if the noise is known and the model exact
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"Discrepancy factor: expected a positive number, got {self.factor!r}")

    def begin(self, problem: Problem, d: Functional) -> Watch:
        return _DiscrepancyWatch(self.factor * numbers(problem, d), d)


class _DiscrepancyWatch(Watch):
    def __init__(self, allowed: float, d: Functional):
        self.allowed, self.d = allowed, d

    def done(self, k: int, x: Tensor, z: Tensor) -> bool:
        if float(squared_norm(standardised(self.d, z), self.d.ndim)) <= self.allowed:
            self.take(k, x)
        return self.image is not None


RULES: dict[str, type[Stopping]] = {
    "held-out": HeldOut,
    "variance": WindowedVariance,
    "discrepancy": Discrepancy,
}


def rule(stop: str | Stopping | None) -> Stopping | None:
    """The rule of that name, or as it is."""
    if stop is None or isinstance(stop, Stopping):
        return stop
    if stop not in RULES:
        raise ValueError(f"stop: expected {', '.join(map(repr, RULES))}, a Stopping or None, got {stop!r}")
    return RULES[stop]()
