"""Errors that metal casts around itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .hounsfield import _error

METAL = 2500.0  # HU; cortical bone and enamel stay below
MARGIN = 2  # pixels around metal that its own blur fills


def metal_mask(truth: Tensor, *, mu_water: float, threshold: float = METAL, margin: int = 0) -> Tensor:
    """Where the truth is above `threshold` HU, and `margin` pixels around: bool, (*batch, ny, nx).

    truth : attenuation [1/mm]
    """
    if not mu_water > 0 or margin < 0:
        raise ValueError(f"metal_mask: expected mu_water > 0 and margin ≥ 0, got {mu_water!r} and {margin!r}")
    metal = truth > mu_water * (1 + threshold / 1000)
    if margin and metal.numel():
        grown = F.max_pool2d(
            metal.double().reshape(-1, 1, *truth.shape[-2:]), 2 * margin + 1, stride=1, padding=margin
        )
        metal = (grown > 0).reshape(truth.shape)
    return metal


def metal_rmse_hu(
    image: Tensor,
    truth: Tensor,
    *,
    mask: Tensor | None = None,
    mu_water: float | None = None,
    threshold: float = METAL,
    margin: int = MARGIN,
    reach: int = 32,
    **_: object,
) -> Tensor:
    """√ mean (1000 (x − t)/μ_water)² [HU] within `reach` pixels of metal, the metal and its edge left out.

    image, truth : attenuation [1/mm], (*batch, ny, nx); metal is what is above `threshold` HU in the truth
    mask : pixels that may count, as the body; None for all
    margin : pixels around the metal left out
    reach : side length of the square about a metal pixel is 2·reach + 1

    Returns (*batch,), float64; NaN without metal.
    """
    error = _error("metal_rmse_hu", image, truth, mu_water)
    assert mu_water is not None
    t = truth.to(image.device)
    near, metal = (metal_mask(t, mu_water=mu_water, threshold=threshold, margin=m) for m in (reach, margin))
    counted = near & ~metal
    if mask is not None:
        counted = counted & mask.to(image.device)
    return _mean(error.square(), counted).sqrt()


def metal_band_hu(
    image: Tensor, truth: Tensor, *, mu_water: float, threshold: float = METAL, margin: int = MARGIN
) -> Tensor:
    """Mean of x − t [HU] between metals: pixels with metal left and right of them, or above and below.

    Beam hardening and starvation leave a dark band there, below 0. Arguments as in `metal_rmse_hu`.

    Returns (*batch,), float64; NaN where nothing lies between metals.
    """
    t = truth.to(image.device)
    metal = metal_mask(t, mu_water=mu_water, threshold=threshold)
    edged = metal_mask(t, mu_water=mu_water, threshold=threshold, margin=margin)
    m = metal.int()
    left, right = m.cummax(-1).values, m.flip(-1).cummax(-1).values.flip(-1)
    up, down = m.cummax(-2).values, m.flip(-2).cummax(-2).values.flip(-2)
    between = ((left * right + up * down) > 0) & ~edged
    return _mean(1000 / mu_water * (image.double() - t.double()), between)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over the mask, NaN where it is empty."""
    return torch.where(mask, values, 0).sum((-2, -1)) / mask.sum((-2, -1))
