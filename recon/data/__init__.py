"""Phantoms, real images, simulation, training sets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dicom import DicomImage as DicomImage
    from .dicom import example_head as example_head
    from .dicom import read_dicom as read_dicom
    from .dival import dival_problem as dival_problem
    from .ellipses import Ellipse as Ellipse
    from .ellipses import Ellipses as Ellipses
    from .ellipsoids import Ellipsoid as Ellipsoid
    from .ellipsoids import Ellipsoids as Ellipsoids
    from .ellipsoids import shepp_logan_ellipsoids as shepp_logan_ellipsoids
    from .heads import random_head as random_head
    from .low_contrast import low_contrast_phantom as low_contrast_phantom
    from .low_contrast import lumpy_background as lumpy_background
    from .low_contrast import power_law_background as power_law_background
    from .phantoms import shepp_logan as shepp_logan
    from .phantoms import shepp_logan_ellipses as shepp_logan_ellipses
    from .random_ellipses import dival_ellipses as dival_ellipses
    from .random_ellipses import random_ellipses_2017 as random_ellipses_2017
    from .random_ellipses import random_ellipses_2018 as random_ellipses_2018
    from .sets import PairedData as PairedData
    from .sets import SimulatedPairs as SimulatedPairs
    from .sets import UnpairedData as UnpairedData
    from .simulation import simulate as simulate
    from .simulation import simulate_ellipses as simulate_ellipses

_EXPORTS = {
    "DicomImage": "dicom",
    "Ellipse": "ellipses",
    "Ellipses": "ellipses",
    "Ellipsoid": "ellipsoids",
    "Ellipsoids": "ellipsoids",
    "PairedData": "sets",
    "SimulatedPairs": "sets",
    "UnpairedData": "sets",
    "dival_ellipses": "random_ellipses",
    "dival_problem": "dival",
    "example_head": "dicom",
    "low_contrast_phantom": "low_contrast",
    "lumpy_background": "low_contrast",
    "power_law_background": "low_contrast",
    "random_ellipses_2017": "random_ellipses",
    "random_ellipses_2018": "random_ellipses",
    "random_head": "heads",
    "read_dicom": "dicom",
    "shepp_logan": "phantoms",
    "shepp_logan_ellipses": "phantoms",
    "shepp_logan_ellipsoids": "ellipsoids",
    "simulate": "simulation",
    "simulate_ellipses": "simulation",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
