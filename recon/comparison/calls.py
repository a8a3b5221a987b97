"""One call of a method: timed, counted, limited, and never fatal."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..base import Reconstructor
from ..problem import Problem

History = dict[str, list[float | None]]


@dataclass(frozen=True)
class Outcome:
    """An image and what it cost, or why there is none."""

    image: Tensor | None = None
    seconds: float | None = None
    forward: int | None = None
    adjoint: int | None = None
    failure: str = ""


class TooLongError(Exception):
    """A call took longer than it was given."""


def call(method: Reconstructor, problem: Problem, timeout: float = math.inf) -> Outcome:
    """X = method(problem) with its seconds and the calls of A and A*; a failure is an outcome as well."""
    before = problem.A.calls.copy()
    start = time.perf_counter()
    try:
        with limit(timeout):
            image = method(problem)
    except Exception as error:
        return Outcome(seconds=time.perf_counter() - start, failure=reason(error))
    seconds = time.perf_counter() - start
    calls = problem.A.calls - before
    fault = _fault(image, problem.A.in_shape)
    return Outcome(
        image=None if fault else image.detach().cpu(),
        seconds=seconds,
        forward=calls["forward"],
        adjoint=calls["adjoint"],
        failure=fault,
    )


def watched(method: Reconstructor, problem: Problem, timeout: float) -> tuple[Outcome, History]:
    """The call before the clock starts, and what its solver said on the way (empty if it has none)."""
    return call(method, problem, timeout), {}


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
