"""How an image becomes data: forward operators, geometries, noise."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backprojection import fbp as fbp
    from .base import LinearOperator as LinearOperator
    from .base import Operator as Operator
    from .calibration import normalise as normalise
    from .calibration import photon_gain as photon_gain
    from .dose import Bowtie as Bowtie
    from .dose import attenuation_modulation as attenuation_modulation
    from .dose import exposure as exposure
    from .dose import photons_per_ray as photons_per_ray
    from .dose import sinusoidal_modulation as sinusoidal_modulation
    from .fbp_noise import fbp_variance as fbp_variance
    from .fourier import Fourier as Fourier
    from .geometry import FanBeam as FanBeam
    from .geometry import ParallelBeam as ParallelBeam
    from .gradient import Gradient as Gradient
    from .hounsfield import to_attenuation as to_attenuation
    from .hounsfield import to_hu as to_hu
    from .insertion import insert_dose_into_image as insert_dose_into_image
    from .insertion import insert_into_counts as insert_into_counts
    from .insertion import insert_into_log as insert_into_log
    from .insertion import thin_counts as thin_counts
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
    from .water import i0_for_sigma as i0_for_sigma
    from .water import region_sigma as region_sigma
    from .water import sigma_hu as sigma_hu
    from .water import sigma_hu_water as sigma_hu_water
    from .wavelet import Wavelet as Wavelet
    from .xray import XRay as XRay

_EXPORTS = {
    "Bowtie": "dose",
    "ConeBeam": "volume",
    "ConeVectors": "vectors",
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
    "attenuation_modulation": "dose",
    "exposure": "dose",
    "fbp": "backprojection",
    "fbp_variance": "fbp_noise",
    "i0_for_sigma": "water",
    "insert_dose_into_image": "insertion",
    "insert_into_counts": "insertion",
    "insert_into_log": "insertion",
    "normalise": "calibration",
    "photon_gain": "calibration",
    "photons_per_ray": "dose",
    "region_sigma": "water",
    "sigma_hu": "water",
    "sigma_hu_water": "water",
    "sinusoidal_modulation": "dose",
    "thin_counts": "insertion",
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
