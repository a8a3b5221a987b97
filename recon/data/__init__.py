"""Phantoms, real images, simulation, training sets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .brains import Brain as Brain
    from .brains import random_anatomy as random_anatomy
    from .brains import random_brain as random_brain
    from .cfl import from_bart as from_bart
    from .cfl import read_cfl as read_cfl
    from .cfl import to_bart as to_bart
    from .cfl import write_cfl as write_cfl
    from .ct_pd import read_ct_pd as read_ct_pd
    from .dicom import DicomImage as DicomImage
    from .dicom import example_head as example_head
    from .dicom import read_dicom as read_dicom
    from .dicom_series import Series as Series
    from .dicom_series import read_series as read_series
    from .dicom_write import Derived as Derived
    from .dicom_write import anonymise as anonymise
    from .dicom_write import write_dicom as write_dicom
    from .dival import DivalPairs as DivalPairs
    from .dival import dival_problem as dival_problem
    from .ellipses import Ellipse as Ellipse
    from .ellipses import Ellipses as Ellipses
    from .ellipsoids import Ellipsoid as Ellipsoid
    from .ellipsoids import Ellipsoids as Ellipsoids
    from .ellipsoids import shepp_logan_ellipsoids as shepp_logan_ellipsoids
    from .fan_files import read_2detect as read_2detect
    from .fan_files import read_htc as read_htc
    from .fastmri import read_fastmri as read_fastmri
    from .heads import HeadPairs as HeadPairs
    from .heads import cluttered_head as cluttered_head
    from .heads import head_slices as head_slices
    from .heads import random_head as random_head
    from .ismrmrd_files import read_ismrmrd as read_ismrmrd
    from .kspace import KSpace as KSpace
    from .kspace_ellipses import ellipse_kspace as ellipse_kspace
    from .kspace_files import read_kspace as read_kspace
    from .kspace_files import write_kspace as write_kspace
    from .kspace_problem import centre_crop as centre_crop
    from .kspace_problem import mri_problem as mri_problem
    from .lodopab import LoDoPaBPairs as LoDoPaBPairs
    from .lodopab import lodopab_attenuation as lodopab_attenuation
    from .lodopab import lodopab_geometry as lodopab_geometry
    from .lodopab import lodopab_images as lodopab_images
    from .lodopab import lodopab_noise as lodopab_noise
    from .lodopab import lodopab_problem as lodopab_problem
    from .low_contrast import low_contrast_phantom as low_contrast_phantom
    from .low_contrast import lumpy_background as lumpy_background
    from .low_contrast import power_law_background as power_law_background
    from .modalities import mr_pairs as mr_pairs
    from .motion import Motion as Motion
    from .motion import moved_image as moved_image
    from .motion import random_motion as random_motion
    from .motion import shot_order as shot_order
    from .mr_contrast import GradientEcho as GradientEcho
    from .mr_contrast import InversionRecovery as InversionRecovery
    from .mr_contrast import SpinEcho as SpinEcho
    from .mr_contrast import typical_sequence as typical_sequence
    from .mr_examples import example_mr as example_mr
    from .mr_scans import MRScans as MRScans
    from .mr_sets import SyntheticMRI as SyntheticMRI
    from .mr_sets import mr_ellipses as mr_ellipses
    from .mr_simulation import simulate_mri as simulate_mri
    from .multicoil import multicoil_kspace as multicoil_kspace
    from .multicoil import multicoil_samples as multicoil_samples
    from .nifti import read_nifti as read_nifti
    from .nifti import write_nifti as write_nifti
    from .orientations import TurnedPairs as TurnedPairs
    from .phantoms import shepp_logan as shepp_logan
    from .phantoms import shepp_logan_ellipses as shepp_logan_ellipses
    from .projection_files import about_projections as about_projections
    from .projection_files import load_projections as load_projections
    from .projection_files import save_projections as save_projections
    from .projections import CTProjections as CTProjections
    from .random_ellipses import dival_ellipses as dival_ellipses
    from .random_ellipses import random_ellipses_2017 as random_ellipses_2017
    from .random_ellipses import random_ellipses_2018 as random_ellipses_2018
    from .scans import Scan as Scan
    from .scans import noise_level as noise_level
    from .scans import open_scans as open_scans
    from .sets import Measurements as Measurements
    from .sets import PairedData as PairedData
    from .sets import SimulatedPairs as SimulatedPairs
    from .sets import UnpairedData as UnpairedData
    from .simulation import simulate as simulate
    from .simulation import simulate_ellipses as simulate_ellipses
    from .simulation import simulate_ellipsoids as simulate_ellipsoids
    from .smooth_fields import SmoothField as SmoothField
    from .smooth_fields import coil_fields as coil_fields
    from .smooth_fields import random_phase as random_phase
    from .tiff import read_tiff as read_tiff
    from .tiff import read_tiff_scan as read_tiff_scan
    from .translation import Augmentation as Augmentation
    from .translation import PairedImages as PairedImages
    from .translation import UnpairedImages as UnpairedImages
    from .volumes import Volume as Volume
    from .volumes import axial as axial

_EXPORTS = {
    "Augmentation": "translation",
    "Brain": "brains",
    "CTProjections": "projections",
    "Derived": "dicom_write",
    "DicomImage": "dicom",
    "DivalPairs": "dival",
    "Ellipse": "ellipses",
    "Ellipses": "ellipses",
    "Ellipsoid": "ellipsoids",
    "Ellipsoids": "ellipsoids",
    "GradientEcho": "mr_contrast",
    "HeadPairs": "heads",
    "InversionRecovery": "mr_contrast",
    "KSpace": "kspace",
    "LoDoPaBPairs": "lodopab",
    "MRScans": "mr_scans",
    "Measurements": "sets",
    "Motion": "motion",
    "PairedData": "sets",
    "PairedImages": "translation",
    "Scan": "scans",
    "Series": "dicom_series",
    "SimulatedPairs": "sets",
    "SmoothField": "smooth_fields",
    "SpinEcho": "mr_contrast",
    "SyntheticMRI": "mr_sets",
    "TurnedPairs": "orientations",
    "UnpairedData": "sets",
    "UnpairedImages": "translation",
    "Volume": "volumes",
    "about_projections": "projection_files",
    "anonymise": "dicom_write",
    "axial": "volumes",
    "centre_crop": "kspace_problem",
    "cluttered_head": "heads",
    "coil_fields": "smooth_fields",
    "dival_ellipses": "random_ellipses",
    "dival_problem": "dival",
    "ellipse_kspace": "kspace_ellipses",
    "example_head": "dicom",
    "example_mr": "mr_examples",
    "from_bart": "cfl",
    "head_slices": "heads",
    "load_projections": "projection_files",
    "lodopab_attenuation": "lodopab",
    "lodopab_geometry": "lodopab",
    "lodopab_images": "lodopab",
    "lodopab_noise": "lodopab",
    "lodopab_problem": "lodopab",
    "low_contrast_phantom": "low_contrast",
    "lumpy_background": "low_contrast",
    "moved_image": "motion",
    "mr_ellipses": "mr_sets",
    "mr_pairs": "modalities",
    "mri_problem": "kspace_problem",
    "multicoil_kspace": "multicoil",
    "multicoil_samples": "multicoil",
    "noise_level": "scans",
    "open_scans": "scans",
    "power_law_background": "low_contrast",
    "random_anatomy": "brains",
    "random_brain": "brains",
    "random_ellipses_2017": "random_ellipses",
    "random_ellipses_2018": "random_ellipses",
    "random_head": "heads",
    "random_motion": "motion",
    "random_phase": "smooth_fields",
    "read_2detect": "fan_files",
    "read_cfl": "cfl",
    "read_ct_pd": "ct_pd",
    "read_dicom": "dicom",
    "read_fastmri": "fastmri",
    "read_htc": "fan_files",
    "read_ismrmrd": "ismrmrd_files",
    "read_kspace": "kspace_files",
    "read_nifti": "nifti",
    "read_series": "dicom_series",
    "read_tiff": "tiff",
    "read_tiff_scan": "tiff",
    "save_projections": "projection_files",
    "shepp_logan": "phantoms",
    "shepp_logan_ellipses": "phantoms",
    "shepp_logan_ellipsoids": "ellipsoids",
    "shot_order": "motion",
    "simulate": "simulation",
    "simulate_ellipses": "simulation",
    "simulate_ellipsoids": "simulation",
    "simulate_mri": "mr_simulation",
    "to_bart": "cfl",
    "typical_sequence": "mr_contrast",
    "write_cfl": "cfl",
    "write_dicom": "dicom_write",
    "write_kspace": "kspace_files",
    "write_nifti": "nifti",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
