"""Metrics by name, all called alike; a name carries the unit.

Of a complex image the magnitude is judged, whatever its phase: |x| takes its place, of image and truth each
on its own, so that a complex reconstruction can meet a root-sum-of-squares truth. For the error of complex
values call `recon.metrics.nrmse` and `psnr` themselves. Errors in HU and of calcium refuse complex images.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from . import fidelity, hounsfield, perceptual
from .calcium import agatston_error, calcium_error_mm3
from .fidelity import Range, magnitude
from .metal import metal_rmse_hu


class Metric(Protocol):
    """metric(image, truth, …) -> one value per image; it takes of the context what it needs.

    data_range : range of the truth, for PSNR, SSIM and the perceptual ones
    mask : the body, for errors in HU
    mu_water : attenuation of water [1/mm], for errors in HU
    pixel_size : [mm], for metrics with a length
    """

    def __call__(
        self,
        image: Tensor,
        truth: Tensor,
        *,
        data_range: Range | None = None,
        mask: Tensor | None = None,
        mu_water: float | None = None,
        pixel_size: float | None = None,
    ) -> Tensor: ...


def psnr_db(image: Tensor, truth: Tensor, *, data_range: Range | None = None, **_: object) -> Tensor:
    """PSNR of the whole image [dB]."""
    return fidelity.psnr(magnitude(image), magnitude(truth), data_range=data_range)


def ssim(image: Tensor, truth: Tensor, *, data_range: Range | None = None, **_: object) -> Tensor:
    """SSIM of the whole image, 7 × 7 uniform window."""
    return fidelity.ssim(magnitude(image), magnitude(truth), data_range=data_range)


def nrmse(image: Tensor, truth: Tensor, **_: object) -> Tensor:
    """‖x − t‖ / ‖t‖ of the whole image."""
    return fidelity.nrmse(magnitude(image), magnitude(truth))


def nmse(image: Tensor, truth: Tensor, **_: object) -> Tensor:
    """‖x − t‖² / ‖t‖² of the whole image."""
    return fidelity.nmse(magnitude(image), magnitude(truth))


def rmse_hu(
    image: Tensor, truth: Tensor, *, mask: Tensor | None = None, mu_water: float | None = None, **_: object
) -> Tensor:
    """RMSE in the mask [HU]."""
    return hounsfield.rmse_hu(image, truth, mu_water=mu_water, mask=mask)


def mae_hu(
    image: Tensor, truth: Tensor, *, mask: Tensor | None = None, mu_water: float | None = None, **_: object
) -> Tensor:
    """Mean absolute error in the mask [HU]."""
    return hounsfield.mae_hu(image, truth, mu_water=mu_water, mask=mask)


def ms_ssim(image: Tensor, truth: Tensor, *, data_range: Range | None = None, **_: object) -> Tensor:
    """MS-SSIM of the whole image, five scales."""
    return perceptual.ms_ssim(magnitude(image), magnitude(truth), data_range=data_range)


def uqi(image: Tensor, truth: Tensor, **_: object) -> Tensor:
    """Universal quality index of the whole image, 8 × 8 windows."""
    return perceptual.uqi(magnitude(image), magnitude(truth))


def vifp(image: Tensor, truth: Tensor, *, data_range: Range | None = None, **_: object) -> Tensor:
    """Visual information fidelity of the whole image, in the pixel domain."""
    return perceptual.vifp(magnitude(image), magnitude(truth), data_range=data_range)


def haarpsi(image: Tensor, truth: Tensor, *, data_range: Range | None = None, **_: object) -> Tensor:
    """HaarPSI of the whole image."""
    return perceptual.haarpsi(magnitude(image), magnitude(truth), data_range=data_range)


METRICS: dict[str, Metric] = {
    "psnr_db": psnr_db,
    "ssim": ssim,
    "nrmse": nrmse,
    "nmse": nmse,
    "rmse_hu": rmse_hu,
    "mae_hu": mae_hu,
    "ms_ssim": ms_ssim,
    "uqi": uqi,
    "vifp": vifp,
    "haarpsi": haarpsi,
    "agatston_error": agatston_error,
    "calcium_error_mm3": calcium_error_mm3,
    "metal_rmse_hu": metal_rmse_hu,
}
