"""Metrics: metric(image, truth, *, data_range, mask, mu_water, pixel_size) -> one value per image."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fidelity import nrmse as nrmse
    from .fidelity import psnr as psnr
    from .fidelity import ssim as ssim
    from .hounsfield import body_mask as body_mask
    from .hounsfield import mae_hu as mae_hu
    from .hounsfield import rmse_hu as rmse_hu
    from .registry import METRICS as METRICS

_EXPORTS = {
    "METRICS": "registry",
    "body_mask": "hounsfield",
    "mae_hu": "hounsfield",
    "nrmse": "fidelity",
    "psnr": "fidelity",
    "rmse_hu": "hounsfield",
    "ssim": "fidelity",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
