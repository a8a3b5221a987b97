"""Every eighth line of k-space, at random with a full middle: eight coils, the images of `mri-4x`."""

from __future__ import annotations

from pathlib import Path

from operators import random_mask

from ..mri import lines, mri_task
from ..task import Task
from .mri_4x import METHODS

CENTRE = 0.04
SEED = 4  # of the masks that have an eighth of 192 lines, not about an eighth, the first


def task(data: Path | None = None) -> Task:
    """The problem `mri-8x`; of real slices, `mri-8x-scans`, with the folder they lie in."""
    return mri_task(
        "mri-8x",
        "MRI, 8 coils, every eighth line",
        lambda grid: {"mask": random_mask(grid[1], 8, CENTRE, seed=SEED)},
        lambda A: f"{lines(A, CENTRE)}, the others are random, as fastMRI's of knees",
        METHODS,
        data,
    )
