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

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}

_lock = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _lock, _forked
    _lock, _forked = threading.Lock(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Kernel:
    """A numba function compiled twice, with parallel loops and without, each at its first call."""

    def __init__(self, function: FunctionType, **options: Any):
        self.parallel = numba.njit(function, parallel=True, **OPTIONS, **options)
        self.serial = numba.njit(_renamed(function, "_serial"), **OPTIONS, **options)

    def __call__(self, *arguments: Any) -> Any:
        threads = 1 if _forked else thread_count()
        if threads == 1:
            return self.serial(*arguments)
        with _lock:
            numba.set_num_threads(threads)
            return self.parallel(*arguments)


def kernel(**options: Any) -> Callable[[FunctionType], Kernel]:
    """Decorator: `@kernel(fastmath=True)` compiles a function of arrays, with `numba.prange`, into a `Kernel`."""
    return lambda function: Kernel(function, **options)


def thread_count() -> int:
    """Threads a kernel may use: what torch may, but no more than numba has."""
    return max(1, min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


def _renamed(function: FunctionType, suffix: str) -> FunctionType:
    """A copy under its own name: numba's disk cache tells functions apart by name, not by options."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__ + suffix)
    copy.__qualname__ = function.__qualname__ + suffix
    copy.__module__ = function.__module__
    return copy
