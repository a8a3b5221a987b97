"""Pixels 2 times as small: A = Downsample, synthetic T1 brains."""

from __future__ import annotations

from ...data.tasks import TASKS
from ..task import Task
from ..translation import translation_task


def task() -> Task:
    """The problem `super-resolution-2x`."""
    return translation_task(
        TASKS["super-resolution-2x"](),
        "Super-resolution ×2",
        0.6,  # T1 brains reach from 0 to about 0.6 of the proton density of water
        methods=("cgls", "total-variation", "wavelet-l1"),
    )
