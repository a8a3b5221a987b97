"""How an image becomes data: forward operators, geometries, noise."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backprojection import fbp as fbp
    from .base import LinearOperator as LinearOperator
    from .base import Operator as Operator
    from .beam import Beam as Beam
    from .beam_hardening import bone_correction as bone_correction
    from .beam_hardening import water_correction as water_correction
    from .detector import DetectorBlur as DetectorBlur
    from .detector import Lag as Lag
    from .detector import Scatter as Scatter
    from .detector import crosstalk as crosstalk
    from .detector import focal_spot_blur as focal_spot_blur
    from .energy_integrating import EnergyIntegrating as EnergyIntegrating
    from .fourier import Fourier as Fourier
    from .geometry import FanBeam as FanBeam
    from .geometry import ParallelBeam as ParallelBeam
    from .gradient import Gradient as Gradient
    from .hounsfield import to_attenuation as to_attenuation
    from .hounsfield import to_hu as to_hu
    from .materials import attenuation as attenuation
    from .materials import split_materials as split_materials
    from .noise import Gaussian as Gaussian
    from .noise import LowDose as LowDose
    from .noise import NoiseModel as NoiseModel
    from .noise import Poisson as Poisson
    from .polyenergetic import Polyenergetic as Polyenergetic
    from .rings import gain_errors as gain_errors
    from .rings import remove_rings as remove_rings
    from .simple import Identity as Identity
    from .simple import Mask as Mask
    from .simple import Select as Select
    from .simple import Transmission as Transmission
    from .spectrum import Spectrum as Spectrum
    from .spectrum import tube_spectrum as tube_spectrum
    from .vectors import ConeVectors as ConeVectors
    from .vectors import ParallelVectors as ParallelVectors
    from .volume import ConeBeam as ConeBeam
    from .volume import ParallelBeam3D as ParallelBeam3D
    from .wavelet import Wavelet as Wavelet
    from .xray import XRay as XRay

_EXPORTS = {
    "Beam": "beam",
    "ConeBeam": "volume",
    "ConeVectors": "vectors",
    "DetectorBlur": "detector",
    "EnergyIntegrating": "energy_integrating",
    "FanBeam": "geometry",
    "Fourier": "fourier",
    "Gaussian": "noise",
    "Gradient": "gradient",
    "Identity": "simple",
    "Lag": "detector",
    "LinearOperator": "base",
    "LowDose": "noise",
    "Mask": "simple",
    "NoiseModel": "noise",
    "Operator": "base",
    "ParallelBeam": "geometry",
    "ParallelBeam3D": "volume",
    "ParallelVectors": "vectors",
    "Poisson": "noise",
    "Polyenergetic": "polyenergetic",
    "Scatter": "detector",
    "Select": "simple",
    "Spectrum": "spectrum",
    "Transmission": "simple",
    "Wavelet": "wavelet",
    "XRay": "xray",
    "attenuation": "materials",
    "bone_correction": "beam_hardening",
    "crosstalk": "detector",
    "fbp": "backprojection",
    "focal_spot_blur": "detector",
    "gain_errors": "rings",
    "remove_rings": "rings",
    "split_materials": "materials",
    "to_attenuation": "hounsfield",
    "to_hu": "hounsfield",
    "tube_spectrum": "spectrum",
    "water_correction": "beam_hardening",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
