"""numba kernels that keep their threads in order.

The thread pool of numba ends a forked child (GNU OpenMP), and a process in which two Python threads enter it
(workqueue). So a kernel call takes a lock, uses as many threads as torch may, and runs serially after a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import torch

OPTIONS: Any = {"cache": True, "nogil": True, "error_model": "numpy"}

_lock = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _lock, _forked
    _lock, _forked = threading.Lock(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Kernel:
    """A numba function compiled twice, with parallel loops and without, each at its first call."""

    def __init__(self, function: Callable[..., None], **options: Any):
        self.parallel = numba.njit(function, parallel=True, **OPTIONS, **options)
        self.serial = numba.njit(_renamed(function, "_serial"), **OPTIONS, **options)

    def __call__(self, *arguments: Any) -> None:
        threads = 1 if _forked else thread_count()
        if threads == 1:
            self.serial(*arguments)
            return
        with _lock:
            numba.set_num_threads(threads)
            self.parallel(*arguments)


def kernel(**options: Any) -> Callable[[Callable[..., None]], Kernel]:
    """Decorator: `@kernel(fastmath=True)` makes a `Kernel` of a function that loops by `numba.prange`."""
    return lambda function: Kernel(function, **options)


def thread_count() -> int:
    """Threads a kernel may use: what torch may, but no more than numba has."""
    limit: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return max(1, min(torch.get_num_threads(), limit))


def _renamed(function: Callable[..., None], suffix: str) -> FunctionType:
    """A copy under its own name: numba's disk cache tells functions apart by name, not by options."""
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__, function.__globals__, function.__name__ + suffix)
    copy.__qualname__ = function.__qualname__ + suffix
    copy.__module__ = function.__module__
    return copy
