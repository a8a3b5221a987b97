"""Noise of filtered back projection, by exact linear propagation through the steps of `fbp`.

    var x = Σ_v W² [ (1 − f)² D_v[s] + 2 f (1 − f) E_v[s] + f² D_v[s + 1] ]
    D_v[s] = Σ_k h[s − k]² w_k² var y_vk,   E_v[s] = Σ_k h[s − k] h[s + 1 − k] w_k² var y_vk

Rays are independent; h is the filter, w the weights before it, W the back projection's weight and f the
place of the pixel between the bins s and s + 1 (`backends/pixel.py`). The textbook's σ²π²/(12 N τ²) leaves f
out, by which the deviation is 1.5 times too high.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .backends import pixel
from .backprojection import _Plan, _plan, geometry_of
from .base import LinearOperator
from .geometry import PlanarGeometry


def fbp_variance(
    A: LinearOperator | PlanarGeometry,
    variance: Tensor,
    filter: str = "ram-lak",
    frequency_scaling: float = 1.0,
    short_scan: bool | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Variance of every pixel of `fbp(A, y, …)` of independent data with these variances, float64.

    Linear in `variance`, and differentiable.

    Parameters
    ----------
    A, filter, frequency_scaling, short_scan : as for `fbp`
    variance : of the line integrals, (*batch, views, bins)
    mask : only the pixels where it is True, (ny, nx)

    Returns
    -------
    (*batch, ny, nx) [1/mm²], or (*batch, n) for the n pixels of the mask, in the order of `image[mask]`
    """
    geometry = geometry_of(A)
    if tuple(variance.shape[-2:]) != geometry.sinogram_shape or not bool((variance >= 0).all()):
        raise ValueError(
            f"fbp_variance variance: expected non-negative numbers of shape (*batch, "
            f"{', '.join(map(str, geometry.sinogram_shape))}), got {tuple(variance.shape)}"
        )
    plan = _plan(geometry, filter, frequency_scaling, short_scan)
    wanted = slice(None) if mask is None else _checked(mask, geometry).flatten()
    h = np.fft.irfft(plan.response)
    weighted = variance.double() * torch.as_tensor(plan.weights**2).to(variance.device)
    # padded as the back projection pads, which reads zero outside
    single, cross = (
        F.pad(_convolved(weighted, kernel, plan), (1, 2)) for kernel in (h**2, h * np.roll(h, -1))
    )
    cross[..., plan.geometry.n_bins] = 0  # of the last bin with what lies outside
    total = torch.zeros((), dtype=torch.float64, device=variance.device)
    for view in range(geometry.views):
        s, f, W = (a[wanted] for a in pixel._located(plan.geometry, view, weighted))
        d, e = single[..., view, :], cross[..., view, :]
        spread = (1 - f) ** 2 * d[..., s] + 2 * f * (1 - f) * e[..., s] + f**2 * d[..., s + 1]
        total = total + W**2 * spread
    return total if mask is not None else total.reshape(*variance.shape[:-2], *geometry.image_shape)


def _convolved(x: Tensor, kernel: NDArray[np.float64], plan: _Plan) -> Tensor:
    """As `fbp` filters: a circular convolution onto the wider detector."""
    m = len(kernel)
    spectrum = torch.fft.rfft(x, n=m) * torch.as_tensor(np.fft.rfft(kernel)).to(x.device)
    return torch.fft.irfft(spectrum, n=m).roll(plan.before, -1)[..., : plan.geometry.n_bins]


def _checked(mask: Tensor, geometry: PlanarGeometry) -> Tensor:
    if mask.dtype != torch.bool or tuple(mask.shape) != geometry.image_shape or not bool(mask.any()):
        raise ValueError(
            f"fbp_variance mask: expected a bool tensor of shape {geometry.image_shape} with a True, got "
            f"{mask.dtype} of shape {tuple(mask.shape)}"
        )
    return mask
