"""A fifth of the image is missing, in boxes: A = Mask, synthetic T1 brains."""

from __future__ import annotations

from ...data.tasks import InpaintingPairs
from ..task import Task
from ..translation import translation_task


def task() -> Task:
    """The problem `inpainting`."""
    return translation_task(
        InpaintingPairs(),
        "Inpainting",
        0.6,  # T1 brains reach from 0 to about 0.6 of the proton density of water
        methods=("zero-filled", "total-variation", "wavelet-l1"),
    )
