"""How an image becomes data: forward operators, geometries, noise."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backprojection import fbp as fbp
    from .base import LinearOperator as LinearOperator
    from .base import Operator as Operator
    from .emission import Emission as Emission
    from .fourier import Fourier as Fourier
    from .geometry import FanBeam as FanBeam
    from .geometry import ParallelBeam as ParallelBeam
    from .gradient import Gradient as Gradient
    from .hounsfield import to_attenuation as to_attenuation
    from .hounsfield import to_hu as to_hu
    from .noise import Gaussian as Gaussian
    from .noise import LowDose as LowDose
    from .noise import NoiseModel as NoiseModel
    from .noise import Poisson as Poisson
    from .simple import Identity as Identity
    from .simple import Mask as Mask
    from .simple import Select as Select
    from .simple import Transmission as Transmission
    from .vectors import ConeVectors as ConeVectors
    from .vectors import ParallelVectors as ParallelVectors
    from .volume import ConeBeam as ConeBeam
    from .volume import ParallelBeam3D as ParallelBeam3D
    from .wavelet import Wavelet as Wavelet
    from .xray import XRay as XRay

_EXPORTS = {
    "ConeBeam": "volume",
    "ConeVectors": "vectors",
    "Emission": "emission",
    "FanBeam": "geometry",
    "Fourier": "fourier",
    "Gaussian": "noise",
    "Gradient": "gradient",
    "Identity": "simple",
    "LinearOperator": "base",
    "LowDose": "noise",
    "Mask": "simple",
    "NoiseModel": "noise",
    "Operator": "base",
    "ParallelBeam": "geometry",
    "ParallelBeam3D": "volume",
    "ParallelVectors": "vectors",
    "Poisson": "noise",
    "Select": "simple",
    "Transmission": "simple",
    "Wavelet": "wavelet",
    "XRay": "xray",
    "fbp": "backprojection",
    "to_attenuation": "hounsfield",
    "to_hu": "hounsfield",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
