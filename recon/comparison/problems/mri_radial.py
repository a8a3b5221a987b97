"""Golden-angle spokes through k-space, non-Cartesian: eight coils, the images of `mri-4x`.

Total variation by ADMM: spokes crowd in the middle, A*A is stiff, and 150 steps of PDHG stop 1.7 dB short.
"zero-filled" is gridding here, with the samples weighted by their Voronoi cells.
"""

from __future__ import annotations

import math
from pathlib import Path

from operators import LinearOperator, radial

from ..mri import mri_task
from ..task import Task

SPOKES = 48


def task(data: Path | None = None) -> Task:
    """The problem `mri-radial`; of real slices, `mri-radial-scans`, with the folder they lie in."""
    return mri_task(
        "mri-radial",
        f"MRI, 8 coils, {SPOKES} golden-angle spokes",
        lambda grid: {"trajectory": radial(SPOKES, 2 * max(grid), "golden")},
        _says,
        ("zero-filled", "cg-sense", "wavelet-l1", "total-variation-admm"),
        data,
    )


def _says(A: LinearOperator) -> str:
    nyquist = math.pi / 2 * max(A.in_shape)
    return (
        f"{SPOKES} spokes of {A.out_shape[-1]} samples, 111.246° apart, where {nyquist:.0f} would leave no "
        f"gaps: acceleration {nyquist / SPOKES:.2f}"
    )
