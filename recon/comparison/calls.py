"""One call of a method: timed, counted, limited, and never fatal."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..base import Reconstructor
from ..problem import Problem

History = dict[str, list[float | None]]
FOUND = ("weight", "objective", "gap", "residual")


@dataclass(frozen=True)
class Outcome:
    """An image and what it cost, or why there is none.

    iterations, found : what an iterative method says of its solution (weight, objective, gap, residual)
    history : the same for every iterate
    """

    image: Tensor | None = None
    seconds: float | None = None
    forward: int | None = None
    adjoint: int | None = None
    iterations: int | None = None
    found: Mapping[str, float] = field(default_factory=dict)
    history: History = field(default_factory=dict)
    failure: str = ""


class TooLongError(Exception):
    """A call took longer than it was given."""


def call(method: Reconstructor, problem: Problem, timeout: float = math.inf) -> Outcome:
    """x = method(problem) with its seconds and the calls of A and A*; a failure is an outcome as well.

    A method with `solve(problem)` is asked for its whole solution, whose `x` is the image.
    """
    before = problem.A.calls.copy()
    solve = getattr(method, "solve", None)
    start = time.perf_counter()
    try:
        with limit(timeout):
            solution = None if solve is None else solve(problem)
            image = method(problem) if solution is None else solution.x
    except Exception as error:
        return Outcome(seconds=time.perf_counter() - start, failure=reason(error))
    seconds = time.perf_counter() - start
    calls = problem.A.calls - before
    fault = _fault(image, problem.A.in_shape)
    taken = getattr(solution, "iterations", None)
    return Outcome(
        image=None if fault else image.detach().cpu(),
        seconds=seconds,
        forward=calls["forward"],
        adjoint=calls["adjoint"],
        iterations=None if taken is None else int(taken),
        found={k: v for k in FOUND if (v := _number(getattr(solution, k, None))) is not None},
        history=_history(getattr(solution, "history", ())),
        failure=fault,
    )


def _history(steps: Sequence[Sequence[Tensor | None]]) -> History:
    """Residual, objective and gap by iteration, those that the solver knows."""
    columns = zip(*steps, strict=True) if steps else ()
    named = zip(("residual", "objective", "gap"), columns, strict=False)
    history = {name: [_number(value) for value in column] for name, column in named}
    return {name: values for name, values in history.items() if any(v is not None for v in values)}


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _fault(image: Any, shape: tuple[int, ...]) -> str:
    if not isinstance(image, Tensor):
        return f"returned {type(image).__name__}, expected an image"
    if tuple(image.shape) != shape:
        return f"returned shape {tuple(image.shape)}, expected {shape}"
    bad = int((~torch.isfinite(image)).sum())
    return f"{bad} of {image.numel()} values are NaN or inf" if bad else ""


def reason(error: BaseException) -> str:
    """The error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """TooLongError after so many seconds; without effect outside the main thread or without SIGALRM."""
    usable = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if not usable or not math.isfinite(seconds):
        yield
        return

    def stop(*_: Any) -> None:
        raise TooLongError(f"stopped after {seconds:g} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
