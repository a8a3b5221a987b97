"""Tasks whose truth is simulated: restoration and translation between images, from seeds or real slices."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contrast import ContrastPairs as ContrastPairs
    from .contrast import Modality as Modality
    from .contrast import ambiguous as ambiguous
    from .ct import LowDosePairs as LowDosePairs
    from .ct import SparseViewPairs as SparseViewPairs
    from .ct import task_geometry as task_geometry
    from .mr import MotionPairs as MotionPairs
    from .named import TASKS as TASKS
    from .pairs import TaskPairs as TaskPairs
    from .pet import CountPairs as CountPairs
    from .restoration import InpaintingPairs as InpaintingPairs
    from .restoration import SuperResolutionPairs as SuperResolutionPairs
    from .restoration import holes as holes
    from .slices import PatientSlices as PatientSlices
    from .slices import random_heads as random_heads
    from .slices import shipped_heads as shipped_heads
    from .slices import stored_slices as stored_slices
    from .synthesis import SynthesisPairs as SynthesisPairs

_EXPORTS = {
    "ContrastPairs": "contrast",
    "CountPairs": "pet",
    "InpaintingPairs": "restoration",
    "LowDosePairs": "ct",
    "Modality": "contrast",
    "MotionPairs": "mr",
    "PatientSlices": "slices",
    "SparseViewPairs": "ct",
    "SuperResolutionPairs": "restoration",
    "SynthesisPairs": "synthesis",
    "TASKS": "named",
    "TaskPairs": "pairs",
    "ambiguous": "contrast",
    "holes": "restoration",
    "random_heads": "slices",
    "shipped_heads": "slices",
    "stored_slices": "slices",
    "task_geometry": "ct",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
