"""From a synthetic head by PET to the same by CT, by a table of tissues: image to image."""

from __future__ import annotations

from ...data.heads import MU_WATER
from ...data.tasks import TASKS
from ..task import Task
from ..translation import contrast_notes, translation_task


def task() -> Task:
    """The problem `pet-to-ct`."""
    pairs = TASKS["pet-to-ct"]()
    return translation_task(
        pairs,
        "PET-like to CT-like",
        2.5 * MU_WATER,  # −1000 to 1500 HU
        metrics=("psnr_db", "ssim", "vifp", "uqi"),
        methods=("zero-filled",),
        mu_water=MU_WATER,
        notes=contrast_notes(pairs),
    )
