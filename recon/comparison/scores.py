"""Scores of one image, by the keys of `recon.metrics.METRICS`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..metrics import METRICS

if TYPE_CHECKING:
    from .task import Task

HIGHER_IS_BETTER = frozenset({"psnr_db", "ssim", "ms_ssim", "uqi", "vifp", "haarpsi"})


def scores(task: Task, image: Tensor, truth: Tensor) -> tuple[dict[str, float], str]:
    """Every metric of the task, and why one is missing, or ""."""
    image, truth = task.seen(image), task.seen(truth)
    context: dict[str, Any] = {
        "data_range": task.data_range,
        "mask": None if task.mask is None else task.mask(truth),
        "mu_water": task.mu_water,
        "pixel_size": task.pixel_size,
    }
    values = {key: float(METRICS[key](image, truth, **context)) for key in task.metrics}
    bad = [key for key, value in values.items() if not math.isfinite(value)]
    if bad:
        return {}, f"not finite: {', '.join(bad)}"
    return values, ""


def better(metric: str) -> int:
    """+1 if more is better, −1 if less is."""
    return 1 if metric in HIGHER_IS_BETTER else -1


def decimals(metric: str) -> int:
    """Digits after the point in a table."""
    return 4 if metric in ("ssim", "nrmse", "nmse", "ms_ssim", "uqi", "vifp", "haarpsi") else 2


def label(metric: str) -> str:
    """psnr_db -> PSNR [dB]."""
    return {
        "psnr_db": "PSNR [dB]",
        "ssim": "SSIM",
        "rmse_hu": "RMSE [HU]",
        "mae_hu": "MAE [HU]",
        "nrmse": "NRMSE",
        "nmse": "NMSE",
        "ms_ssim": "MS-SSIM",
        "uqi": "UQI",
        "vifp": "VIFp",
        "haarpsi": "HaarPSI",
    }.get(metric, metric)
