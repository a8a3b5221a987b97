"""The tasks by name, as they are trained and compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .contrast import ContrastPairs
from .ct import LowDosePairs, SparseViewPairs
from .mr import MotionPairs
from .pairs import TaskPairs
from .pet import CountPairs
from .restoration import InpaintingPairs, SuperResolutionPairs
from .synthesis import SynthesisPairs

TASKS: dict[str, Callable[..., TaskPairs]] = {
    "ldct-denoise": LowDosePairs,
    "sparse-view": SparseViewPairs,
    "mr-motion": MotionPairs,
    "pet-quarter": CountPairs,
    "pet-to-ct": partial(ContrastPairs, "pet", "ct"),
    "mr-to-ct": partial(ContrastPairs, "t1", "ct", name="mr-to-ct"),
    "super-resolution-2x": partial(SuperResolutionPairs, 2),
    "super-resolution-4x": partial(SuperResolutionPairs, 4),
    "inpainting": InpaintingPairs,
    "synthesis": SynthesisPairs,
}
