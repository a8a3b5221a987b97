"""Metrics: metric(image, truth, *, data_range, mask, mu_water, pixel_size) -> one value per image."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calcium import Calcium as Calcium
    from .calcium import agatston_error as agatston_error
    from .calcium import calcium_error_mm3 as calcium_error_mm3
    from .calcium import calcium_score as calcium_score
    from .channels import difference_of_gaussians as difference_of_gaussians
    from .channels import gabor as gabor
    from .channels import laguerre_gauss as laguerre_gauss
    from .contrast import cnr as cnr
    from .contrast import hu_bias as hu_bias
    from .contrast import material_regions as material_regions
    from .contrast import streak_index as streak_index
    from .detectability import auc_of as auc_of
    from .detectability import d_prime as d_prime
    from .detectability import d_prime_of as d_prime_of
    from .detectability import eye_filter as eye_filter
    from .fidelity import magnitude as magnitude
    from .fidelity import nmse as nmse
    from .fidelity import nrmse as nrmse
    from .fidelity import psnr as psnr
    from .fidelity import ssim as ssim
    from .generative import feature_distance as feature_distance
    from .generative import fid as fid
    from .generative import frechet_distance as frechet_distance
    from .generative import inception_score as inception_score
    from .generative import kernel_distance as kernel_distance
    from .generative import kid as kid
    from .hounsfield import body_mask as body_mask
    from .hounsfield import mae_hu as mae_hu
    from .hounsfield import rmse_hu as rmse_hu
    from .metal import metal_band_hu as metal_band_hu
    from .metal import metal_mask as metal_mask
    from .metal import metal_rmse_hu as metal_rmse_hu
    from .noise_power import NoisePower as NoisePower
    from .noise_power import RadialNoisePower as RadialNoisePower
    from .noise_power import noise_power_spectrum as noise_power_spectrum
    from .observers import HotellingDistance as HotellingDistance
    from .observers import Observation as Observation
    from .observers import auc as auc
    from .observers import auc_error as auc_error
    from .observers import channel_outputs as channel_outputs
    from .observers import channelised_hotelling as channelised_hotelling
    from .observers import hanley_mcneil_error as hanley_mcneil_error
    from .observers import hotelling_d_prime as hotelling_d_prime
    from .perceptual import haarpsi as haarpsi
    from .perceptual import ms_ssim as ms_ssim
    from .perceptual import uqi as uqi
    from .perceptual import vifp as vifp
    from .presets import PRESETS as PRESETS
    from .presets import Preset as Preset
    from .presets import preset as preset
    from .registry import METRICS as METRICS
    from .rois import cut as cut
    from .thresholds import foreground as foreground
    from .transfer import Transfer as Transfer
    from .transfer import point_transfer as point_transfer
    from .transfer import task_transfer as task_transfer
    from .transfer import transfer_error as transfer_error

_EXPORTS = {
    "Calcium": "calcium",
    "HotellingDistance": "observers",
    "METRICS": "registry",
    "NoisePower": "noise_power",
    "Observation": "observers",
    "PRESETS": "presets",
    "Preset": "presets",
    "RadialNoisePower": "noise_power",
    "Transfer": "transfer",
    "agatston_error": "calcium",
    "auc": "observers",
    "auc_error": "observers",
    "auc_of": "detectability",
    "body_mask": "hounsfield",
    "calcium_error_mm3": "calcium",
    "calcium_score": "calcium",
    "channel_outputs": "observers",
    "channelised_hotelling": "observers",
    "cnr": "contrast",
    "cut": "rois",
    "d_prime": "detectability",
    "d_prime_of": "detectability",
    "difference_of_gaussians": "channels",
    "eye_filter": "detectability",
    "feature_distance": "generative",
    "fid": "generative",
    "foreground": "thresholds",
    "frechet_distance": "generative",
    "gabor": "channels",
    "haarpsi": "perceptual",
    "hanley_mcneil_error": "observers",
    "hotelling_d_prime": "observers",
    "hu_bias": "contrast",
    "inception_score": "generative",
    "kernel_distance": "generative",
    "kid": "generative",
    "laguerre_gauss": "channels",
    "mae_hu": "hounsfield",
    "magnitude": "fidelity",
    "material_regions": "contrast",
    "metal_band_hu": "metal",
    "metal_mask": "metal",
    "metal_rmse_hu": "metal",
    "ms_ssim": "perceptual",
    "nmse": "fidelity",
    "noise_power_spectrum": "noise_power",
    "nrmse": "fidelity",
    "point_transfer": "transfer",
    "preset": "presets",
    "psnr": "fidelity",
    "rmse_hu": "hounsfield",
    "ssim": "fidelity",
    "streak_index": "contrast",
    "task_transfer": "transfer",
    "transfer_error": "transfer",
    "uqi": "perceptual",
    "vifp": "perceptual",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
