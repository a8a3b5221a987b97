"""Metrics by name, all called alike; a name carries the unit."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from . import fidelity, hounsfield, perceptual
from .fidelity import Range


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
    return fidelity.psnr(image, truth, data_range=data_range)


def ssim(image: Tensor, truth: Tensor, *, data_range: Range | None = None, **_: object) -> Tensor:
    """SSIM of the whole image, 7 × 7 uniform window."""
    return fidelity.ssim(image, truth, data_range=data_range)


def nrmse(image: Tensor, truth: Tensor, **_: object) -> Tensor:
    """‖x − t‖ / ‖t‖ of the whole image."""
    return fidelity.nrmse(image, truth)


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
    return perceptual.ms_ssim(image, truth, data_range=data_range)


def uqi(image: Tensor, truth: Tensor, **_: object) -> Tensor:
    """Universal quality index of the whole image, 8 × 8 windows."""
    return perceptual.uqi(image, truth)


def vifp(image: Tensor, truth: Tensor, *, data_range: Range | None = None, **_: object) -> Tensor:
    """Visual information fidelity of the whole image, in the pixel domain."""
    return perceptual.vifp(image, truth, data_range=data_range)


def haarpsi(image: Tensor, truth: Tensor, *, data_range: Range | None = None, **_: object) -> Tensor:
    """HaarPSI of the whole image."""
    return perceptual.haarpsi(image, truth, data_range=data_range)


METRICS: dict[str, Metric] = {
    "psnr_db": psnr_db,
    "ssim": ssim,
    "nrmse": nrmse,
    "rmse_hu": rmse_hu,
    "mae_hu": mae_hu,
    "ms_ssim": ms_ssim,
    "uqi": uqi,
    "vifp": vifp,
    "haarpsi": haarpsi,
}
