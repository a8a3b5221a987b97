"""Every fourth line of k-space, equispaced with a full middle: 8 coils, a real slice, synthetic brains."""

from __future__ import annotations

from pathlib import Path

from operators import equispaced_mask

from ..mri import lines, mri_task
from ..task import Task

CENTRE = 0.08
METHODS = ("zero-filled", "rss", "cg-sense", "wavelet-l1", "total-variation-admm")


def task(data: Path | None = None) -> Task:
    """The problem `mri-4x`; of real slices, `mri-4x-scans`, with the folder they lie in."""
    return mri_task(
        "mri-4x",
        "MRI, 8 coils, every fourth line",
        lambda grid: {"mask": equispaced_mask(grid[1], 4, CENTRE, seed=1)},
        lambda A: f"{lines(A, CENTRE)}, the others are equispaced as fastMRI's of brains",
        METHODS if data else (*METHODS, "modl"),  # its weights are of the quick problem's grid
        data,
    )
