"""From FBP of few photons to the object: denoising in the image, of heads or of a folder's real slices."""

from __future__ import annotations

from pathlib import Path

from ...data.heads import MU_WATER
from ...data.tasks import LowDosePairs, stored_slices
from ..task import Task
from ..translation import FROM_IMAGE, ct_dose, translation_task

SIZE, FIELD = 128, 500.0


def task(data: Path | None = None) -> Task:
    """The problem `ldct-denoise`; of real slices `ldct-denoise-scans`, with the folder they lie in."""
    pairs = LowDosePairs() if data is None else _real(data)
    where = "four of a real head (one slice), the others random heads" if data is None else "of one patient"
    return translation_task(
        pairs,
        "Low-dose CT, image to image",
        2.5 * MU_WATER,  # −1000 to 1500 HU
        mu_water=MU_WATER,
        methods=FROM_IMAGE,
        notes={
            "test": f"{pairs.test_size} images {where}; no method has learned from them",
            "dose": ct_dose(pairs.geometry, pairs.noise, MU_WATER),  # type: ignore[arg-type]
        },
        suffix="" if data is None else "-scans",
    )


def _real(folder: Path) -> LowDosePairs:
    slices = stored_slices(folder, SIZE, FIELD)
    return LowDosePairs(slices, SIZE, FIELD, views=240, mu_water=MU_WATER, **slices.sizes)
