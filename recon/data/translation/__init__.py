"""Image-to-image data from files: pairs, unpaired images, windows, augmentation, patches, DICOM out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .apply import Translation as Translation
    from .apply import load_method as load_method
    from .augment import Augmentation as Augmentation
    from .folder import Run as Run
    from .kaji import from_kaji as from_kaji
    from .listing import image_files as image_files
    from .listing import listed_files as listed_files
    from .listing import paired_files as paired_files
    from .paired import PairedImages as PairedImages
    from .patches import as_problem as as_problem
    from .patches import patchwise as patchwise
    from .patches import stackwise as stackwise
    from .pictures import Picture as Picture
    from .pictures import read_picture as read_picture
    from .registration import barycentre_shift as barycentre_shift
    from .registration import body_mask as body_mask
    from .registration import phase_shift as phase_shift
    from .registration import register as register
    from .registration import shifted as shifted
    from .slices import Scan as Scan
    from .slices import scans as scans
    from .spacing import resample as resample
    from .split import check_apart as check_apart
    from .split import split_by_patient as split_by_patient
    from .unpaired import UnpairedImages as UnpairedImages
    from .window import GREY as GREY
    from .window import Window as Window

_EXPORTS = {
    "GREY": "window",
    "Augmentation": "augment",
    "PairedImages": "paired",
    "Picture": "pictures",
    "Run": "folder",
    "Scan": "slices",
    "Translation": "apply",
    "UnpairedImages": "unpaired",
    "Window": "window",
    "as_problem": "patches",
    "barycentre_shift": "registration",
    "body_mask": "registration",
    "check_apart": "split",
    "from_kaji": "kaji",
    "image_files": "listing",
    "listed_files": "listing",
    "load_method": "apply",
    "paired_files": "listing",
    "patchwise": "patches",
    "phase_shift": "registration",
    "read_picture": "pictures",
    "register": "registration",
    "resample": "spacing",
    "scans": "slices",
    "shifted": "registration",
    "split_by_patient": "split",
    "stackwise": "patches",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
