"""How an image becomes data: forward operators, geometries, noise."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .autocalibration import EspiritMaps as EspiritMaps
    from .autocalibration import espirit as espirit
    from .backprojection import fbp as fbp
    from .base import LinearOperator as LinearOperator
    from .base import Operator as Operator
    from .beam import Beam as Beam
    from .beam_hardening import bone_correction as bone_correction
    from .beam_hardening import water_correction as water_correction
    from .calibration import normalise as normalise
    from .calibration import photon_gain as photon_gain
    from .coil_compression import compress_coils as compress_coils
    from .coil_compression import compress_coils_along as compress_coils_along
    from .coil_compression import mix_coils as mix_coils
    from .coils import birdcage as birdcage
    from .coils import combine as combine
    from .coils import low_frequency_maps as low_frequency_maps
    from .coils import normalised as normalised
    from .coils import root_sum_of_squares as root_sum_of_squares
    from .coils import walsh as walsh
    from .corrections import centre_of_rotation as centre_of_rotation
    from .corrections import detector_rotation as detector_rotation
    from .corrections import recentred as recentred
    from .corrections import tilted as tilted
    from .density import density_compensated_adjoint as density_compensated_adjoint
    from .density import pipe_menon as pipe_menon
    from .density import radial_ramp as radial_ramp
    from .density import voronoi as voronoi
    from .detector import DetectorBlur as DetectorBlur
    from .detector import Lag as Lag
    from .detector import Scatter as Scatter
    from .detector import crosstalk as crosstalk
    from .detector import focal_spot_blur as focal_spot_blur
    from .dose import Bowtie as Bowtie
    from .dose import attenuation_modulation as attenuation_modulation
    from .dose import exposure as exposure
    from .dose import photons_per_ray as photons_per_ray
    from .dose import sinusoidal_modulation as sinusoidal_modulation
    from .drawing import plot as plot
    from .emission import Emission as Emission
    from .energy_integrating import EnergyIntegrating as EnergyIntegrating
    from .fbp_noise import fbp_variance as fbp_variance
    from .feldkamp import fdk as fdk
    from .feldkamp import fdk_by_slab as fdk_by_slab
    from .fourier import Fourier as Fourier
    from .geometry import FanBeam as FanBeam
    from .geometry import ParallelBeam as ParallelBeam
    from .gradient import Gradient as Gradient
    from .helical import helical_fbp as helical_fbp
    from .helical import helical_to_fan as helical_to_fan
    from .hounsfield import to_attenuation as to_attenuation
    from .hounsfield import to_hu as to_hu
    from .insertion import insert_dose_into_image as insert_dose_into_image
    from .insertion import insert_into_counts as insert_into_counts
    from .insertion import insert_into_log as insert_into_log
    from .insertion import thin_counts as thin_counts
    from .masks import acceleration as acceleration
    from .masks import equispaced_mask as equispaced_mask
    from .masks import gaussian_mask as gaussian_mask
    from .masks import kt_mask as kt_mask
    from .masks import nested_masks as nested_masks
    from .masks import random_mask as random_mask
    from .masks import seed_of as seed_of
    from .masks_2d import grid_mask as grid_mask
    from .masks_2d import poisson_disc as poisson_disc
    from .masks_2d import radial_mask as radial_mask
    from .materials import attenuation as attenuation
    from .materials import split_materials as split_materials
    from .noise import Gaussian as Gaussian
    from .noise import LowDose as LowDose
    from .noise import NoiseModel as NoiseModel
    from .noise import Poisson as Poisson
    from .noise_amplification import g_factor as g_factor
    from .nonuniform_sense import NonUniformSense as NonUniformSense
    from .nufft import NonUniformFourier as NonUniformFourier
    from .off_resonance import OffResonance as OffResonance
    from .polyenergetic import Polyenergetic as Polyenergetic
    from .prewhitening import Prewhitening as Prewhitening
    from .prewhitening import noise_covariance as noise_covariance
    from .prewhitening import noise_from_border as noise_from_border
    from .prewhitening import noise_from_corners as noise_from_corners
    from .prewhitening import prewhiten as prewhiten
    from .resample import Downsample as Downsample
    from .rician import Rician as Rician
    from .rings import gain_errors as gain_errors
    from .rings import remove_rings as remove_rings
    from .sense import Coils as Coils
    from .sense import Sense as Sense
    from .simple import Identity as Identity
    from .simple import Mask as Mask
    from .simple import Select as Select
    from .simple import Transmission as Transmission
    from .spectrum import Spectrum as Spectrum
    from .spectrum import tube_spectrum as tube_spectrum
    from .toeplitz import Toeplitz as Toeplitz
    from .trajectories import cartesian as cartesian
    from .trajectories import golden_angles as golden_angles
    from .trajectories import koosh_ball as koosh_ball
    from .trajectories import radial as radial
    from .trajectories import rosette as rosette
    from .trajectories import spiral as spiral
    from .trajectories import stack_of_stars as stack_of_stars
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
    "Beam": "beam",
    "Bowtie": "dose",
    "Coils": "sense",
    "ConeBeam": "volume",
    "ConeVectors": "vectors",
    "DetectorBlur": "detector",
    "Downsample": "resample",
    "Emission": "emission",
    "EnergyIntegrating": "energy_integrating",
    "EspiritMaps": "autocalibration",
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
    "NonUniformFourier": "nufft",
    "NonUniformSense": "nonuniform_sense",
    "OffResonance": "off_resonance",
    "Operator": "base",
    "ParallelBeam": "geometry",
    "ParallelBeam3D": "volume",
    "ParallelVectors": "vectors",
    "Poisson": "noise",
    "Polyenergetic": "polyenergetic",
    "Prewhitening": "prewhitening",
    "Rician": "rician",
    "Scatter": "detector",
    "Select": "simple",
    "Sense": "sense",
    "Spectrum": "spectrum",
    "Toeplitz": "toeplitz",
    "Transmission": "simple",
    "Wavelet": "wavelet",
    "XRay": "xray",
    "acceleration": "masks",
    "attenuation": "materials",
    "attenuation_modulation": "dose",
    "birdcage": "coils",
    "bone_correction": "beam_hardening",
    "cartesian": "trajectories",
    "centre_of_rotation": "corrections",
    "combine": "coils",
    "compress_coils": "coil_compression",
    "compress_coils_along": "coil_compression",
    "crosstalk": "detector",
    "density_compensated_adjoint": "density",
    "detector_rotation": "corrections",
    "equispaced_mask": "masks",
    "espirit": "autocalibration",
    "exposure": "dose",
    "fbp": "backprojection",
    "fbp_variance": "fbp_noise",
    "fdk": "feldkamp",
    "fdk_by_slab": "feldkamp",
    "focal_spot_blur": "detector",
    "g_factor": "noise_amplification",
    "gain_errors": "rings",
    "gaussian_mask": "masks",
    "golden_angles": "trajectories",
    "grid_mask": "masks_2d",
    "helical_fbp": "helical",
    "helical_to_fan": "helical",
    "i0_for_sigma": "water",
    "insert_dose_into_image": "insertion",
    "insert_into_counts": "insertion",
    "insert_into_log": "insertion",
    "koosh_ball": "trajectories",
    "kt_mask": "masks",
    "low_frequency_maps": "coils",
    "mix_coils": "coil_compression",
    "nested_masks": "masks",
    "noise_covariance": "prewhitening",
    "noise_from_border": "prewhitening",
    "noise_from_corners": "prewhitening",
    "normalise": "calibration",
    "normalised": "coils",
    "photon_gain": "calibration",
    "photons_per_ray": "dose",
    "pipe_menon": "density",
    "plot": "drawing",
    "poisson_disc": "masks_2d",
    "prewhiten": "prewhitening",
    "radial": "trajectories",
    "radial_mask": "masks_2d",
    "radial_ramp": "density",
    "random_mask": "masks",
    "recentred": "corrections",
    "region_sigma": "water",
    "remove_rings": "rings",
    "root_sum_of_squares": "coils",
    "rosette": "trajectories",
    "seed_of": "masks",
    "sigma_hu": "water",
    "sigma_hu_water": "water",
    "sinusoidal_modulation": "dose",
    "spiral": "trajectories",
    "split_materials": "materials",
    "stack_of_stars": "trajectories",
    "thin_counts": "insertion",
    "tilted": "corrections",
    "to_attenuation": "hounsfield",
    "to_hu": "hounsfield",
    "tube_spectrum": "spectrum",
    "voronoi": "density",
    "walsh": "coils",
    "water_correction": "beam_hardening",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
