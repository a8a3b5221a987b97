"""A head that moved while its k-space was measured: magnitude to magnitude."""

from __future__ import annotations

from ...data.tasks import MotionPairs
from ..task import Task
from ..translation import translation_task


def task() -> Task:
    """The problem `mr-motion`."""
    return translation_task(
        MotionPairs(),
        "MR motion, image to image",
        0.6,  # T1 brains reach from 0 to about 0.6 of the proton density of water
        notes={
            "motion": "steps, drifts and periodic motion, up to 5 mm and 0.08 rad, 8 blocks of lines",
            "truth": "the head where it was in the middle of the scan, "
            "from all of the same k-space without noise, synthetic",
        },
    )
