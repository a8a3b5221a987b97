"""Threads of our own for work that releases the GIL.

Neither numba's pool, which does not survive a fork nor (one kind) two Python threads, nor OpenMP's, whose
waiting threads spin and stall a busy machine. Any thread of any process may call this at any time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def available() -> int:
    """Threads worth using: as many as torch would, not more than there are cores."""
    return min(torch.get_num_threads(), os.cpu_count() or 1)


def share(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call work(0) … work(count − 1) on up to `threads` threads, this one included, and wait."""
    todo = deque(range(count))

    def run() -> None:
        while True:
            try:
                k = todo.popleft()
            except IndexError:
                return
            work(k)

    helpers = [_pool(os.getpid()).submit(run) for _ in range(min(threads, count) - 1)]
    try:
        run()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of this process; a forked child, which inherits none, gets its own."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="operators")
