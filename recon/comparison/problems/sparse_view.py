"""From few views: streaks to be taken out, A = XRay, so every CT method takes part."""

from __future__ import annotations

from pathlib import Path

from ...data.heads import MU_WATER
from ...data.tasks import SparseViewPairs, stored_slices
from ..task import Task
from ..translation import ct_dose, translation_task
from .ldct_denoise import FIELD, SIZE


def task(data: Path | None = None) -> Task:
    """The problem `sparse-view`; of real slices `sparse-view-scans`, with the folder they lie in."""
    pairs = SparseViewPairs() if data is None else _real(data)
    return translation_task(
        pairs,
        f"CT from {pairs.geometry.views} views",
        2.5 * MU_WATER,  # −1000 to 1500 HU
        mu_water=MU_WATER,
        methods=("fbp", "cgls", "sirt", "total-variation", "pwls-total-variation"),
        notes={
            "dose": ct_dose(pairs.geometry, pairs.noise, MU_WATER),  # type: ignore[arg-type]
            "views": "photons per ray are kept, so the dose falls with the number of views",
        },
        suffix="" if data is None else "-scans",
    )


def _real(folder: Path) -> SparseViewPairs:
    slices = stored_slices(folder, SIZE, FIELD)
    return SparseViewPairs(slices, SIZE, FIELD, views=61, mu_water=MU_WATER, **slices.sizes)
