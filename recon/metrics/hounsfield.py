"""Errors in Hounsfield units, inside the body."""

from __future__ import annotations

import torch
from torch import Tensor

from .fidelity import masked_mean


def rmse_hu(image: Tensor, truth: Tensor, *, mu_water: float | None, mask: Tensor | None = None) -> Tensor:
    """√ mean (1000 (x − t)/μ_water)² [HU] over the mask.

    image, truth : attenuation [1/mm], (*batch, ny, nx)
    mu_water : attenuation of water [1/mm]
    mask : pixels that count, such as `body_mask(truth)`; None for all

    Returns (*batch,), float64.
    """
    return masked_mean(_error("rmse_hu", image, truth, mu_water) ** 2, mask).sqrt()


def mae_hu(image: Tensor, truth: Tensor, *, mu_water: float | None, mask: Tensor | None = None) -> Tensor:
    """Mean |1000 (x − t)/μ_water| [HU] over the mask; arguments as `rmse_hu`."""
    return masked_mean(_error("mae_hu", image, truth, mu_water).abs(), mask)


def body_mask(image: Tensor, mu_water: float = 0.0206, threshold: float = -300.0) -> Tensor:
    """The largest connected region above `threshold` HU, its holes filled: (*batch, ny, nx), bool.

    image : attenuation [1/mm], (*batch, ny, nx)
    mu_water : attenuation of water [1/mm]
    threshold : [HU]; table, clothes and noise in the air are left out, lungs and sinuses are kept
    """
    from scipy import ndimage

    if image.ndim < 2 or image.is_complex():
        raise ValueError(f"body_mask: expected real (*batch, ny, nx), got {image.dtype} {tuple(image.shape)}")
    above = (image.detach() > mu_water * (1 + threshold / 1000)).cpu()
    mask = torch.zeros_like(above)
    for one, out in zip(above.reshape(-1, *image.shape[-2:]), mask.view(-1, *image.shape[-2:]), strict=True):
        labels, count = ndimage.label(one.numpy())
        if count:
            sizes = ndimage.sum_labels(one.numpy(), labels, range(1, count + 1))
            out.copy_(torch.from_numpy(ndimage.binary_fill_holes(labels == 1 + int(sizes.argmax()))))
    return mask.to(image.device)


def _error(name: str, image: Tensor, truth: Tensor, mu_water: float | None) -> Tensor:
    if mu_water is None or not mu_water > 0:
        raise ValueError(
            f"{name} mu_water: expected the attenuation of water in 1/mm (0.0206 at 60 keV), got {mu_water}"
        )
    if image.is_complex() or truth.is_complex():
        raise ValueError(f"{name}: expected real attenuation, got {image.dtype} and {truth.dtype}")
    if image.shape != truth.shape or image.ndim < 2:
        raise ValueError(
            f"{name} image and truth: expected equal shapes (*batch, ny, nx), got {tuple(image.shape)} and "
            f"{tuple(truth.shape)}"
        )
    return 1000 / mu_water * (image.double() - truth.double().to(image.device))
