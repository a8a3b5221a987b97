"""Photons per ray and Hounsfield units of noise: one from the other, and from a scan that there is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backprojection import geometry_of
from .base import LinearOperator
from .checks import check_positive
from .fbp_noise import fbp_variance
from .geometry import PlanarGeometry
from .lowdose import LowDose

FEWEST = 50.0  # counts above which no starvation rule acts


def sigma_hu_water(
    A: LinearOperator | PlanarGeometry,
    noise: LowDose,
    diameter: float = 200.0,
    filter: str = "ram-lak",
    frequency_scaling: float = 1.0,
    mu_water: float = 0.0206,
) -> float:
    """σ of `fbp` in the middle of a water cylinder [HU]: √(mean variance over a disc of a quarter of it).

    By exact propagation: the variance of the post-log data by summation (`LowDose.exact`), then through the
    filter, weights and interpolation of our `fbp` (`fbp_variance`). No random number is drawn.

    Parameters
    ----------
    A : geometry, ParallelBeam or FanBeam, or an operator that has one
    noise : of one scan; I₀ per view or per ray (tube current, bowtie) is accounted for
    diameter : of the cylinder about the rotation axis [mm]
    filter, frequency_scaling : of `fbp`
    mu_water : [1/mm]
    """
    p, mask = _cylinder(geometry_of(A), diameter, mu_water)
    return sigma_hu(A, noise, p, mask, filter, frequency_scaling, mu_water)


def sigma_hu(
    A: LinearOperator | PlanarGeometry,
    noise: LowDose,
    p: Tensor,
    mask: Tensor,
    filter: str = "ram-lak",
    frequency_scaling: float = 1.0,
    mu_water: float = 0.0206,
) -> float:
    """√(mean over the mask of var `fbp`) [HU], for noise-free line integrals p of any object, (views, bins).

    mask : a region of the image, (ny, nx), bool
    """
    _check_rule(noise, p)
    variance = fbp_variance(A, noise.exact(p).variance, filter, frequency_scaling, mask=mask)
    return math.sqrt(float(variance.mean())) * 1000 / check_positive("mu_water [1/mm]", mu_water)


def i0_for_sigma(
    A: LinearOperator | PlanarGeometry,
    sigma: float,
    noise: LowDose | None = None,
    p: Tensor | None = None,
    mask: Tensor | None = None,
    diameter: float = 200.0,
    filter: str = "ram-lak",
    frequency_scaling: float = 1.0,
    mu_water: float = 0.0206,
) -> Any:
    """I₀ at which `sigma_hu`, or without p and mask `sigma_hu_water`, is `sigma`: calibration by noise.

    Parameters
    ----------
    sigma : noise to be met [HU], as `region_sigma` measures it in a scan
    noise : its I₀ (a number, or a profile) is scaled, its background with it; electronic noise and floor
        stay. Without it, photons alone
    p, mask : line integrals of the object (views, bins), e.g. A(μ) of the scan, and the region measured
    diameter, filter, frequency_scaling, mu_water : as for `sigma_hu_water`

    Returns
    -------
    I₀ as `noise.i0` is, a number or a tensor. Where σ falls again under starvation, the branch of more
    photons is taken.

    Raises
    ------
    ValueError if no dose is so noisy
    """
    geometry = geometry_of(A)
    target = check_positive("i0_for_sigma sigma [HU]", sigma) * check_positive("mu_water", mu_water) / 1000
    noise = LowDose(1e5) if noise is None else noise
    if (p is None) != (mask is None):
        raise ValueError(
            "i0_for_sigma p, mask: expected both, for an object of your own, or neither, for water"
        )
    if p is None or mask is None:
        p, mask = _cylinder(geometry, diameter, mu_water)
    # the mean variance is linear in those of the rays: its weights once, by differentiation
    rays = torch.zeros(geometry.sinogram_shape, dtype=torch.float64, requires_grad=True)
    mean = fbp_variance(geometry, rays, filter, frequency_scaling, mask=mask).mean()
    weights = torch.autograd.grad(mean, rays)[0]

    def excess(log_dose: float) -> float:
        scaled = noise.scaled(math.exp(log_dose))
        _check_rule(scaled, p)
        return float((weights * scaled.exact(p).variance).sum()) / target**2 - 1

    low, high = _bracket(excess, noise.expected(p) - torch.as_tensor(noise.background), sigma)
    from scipy.optimize import brentq

    return noise.i0 * math.exp(brentq(excess, low, high, xtol=1e-10))


def region_sigma(image: Tensor, mask: Tensor) -> Tensor:
    """σ of the noise in a homogeneous region, the deviation from a polynomial of second order; (*batch,).

    The polynomial takes up cupping and gradients, and six degrees of freedom. The noise of an FBP has little
    power at the low frequencies that it could take up as well.

    image : (*batch, ny, nx), any unit, which σ has as well
    mask : (ny, nx), bool
    """
    if mask.dtype != torch.bool or mask.shape != image.shape[-2:] or int(mask.sum()) < 30:
        raise ValueError(
            f"region_sigma mask: expected a bool tensor of shape {tuple(image.shape[-2:])} with at least 30 "
            f"pixels, got {mask.dtype} {tuple(mask.shape)} with {int(mask.sum())}"
        )
    if not bool(torch.isfinite(image[..., mask]).all()):
        raise ValueError("region_sigma image: expected finite values in the region, got NaN or inf")
    y, x = ((i - i.double().mean()) / max(mask.shape) for i in mask.nonzero(as_tuple=True))
    terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], 1)
    basis = torch.linalg.qr(terms).Q.to(image.device)
    values = image[..., mask].double()
    residual = values - (values @ basis) @ basis.T
    return (residual.square().sum(-1) / (values.shape[-1] - 6)).sqrt().to(image.dtype)


def _cylinder(geometry: PlanarGeometry, diameter: float, mu_water: float) -> tuple[Tensor, Tensor]:
    """Line integrals of a water cylinder at the centre, and a disc of a quarter of its diameter."""
    radius = check_positive("diameter [mm]", diameter) / 2
    source = getattr(geometry, "source_to_centre", math.inf)
    if radius >= source:
        raise ValueError(f"diameter [mm]: a cylinder of {diameter:g} reaches the source at {source:g} mm")
    points, directions = geometry.rays()
    distance = points[..., 0] * directions[..., 1] - points[..., 1] * directions[..., 0]
    chord = 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))
    ny, nx = geometry.image_shape
    y, x = torch.meshgrid(torch.arange(ny) - (ny - 1) / 2, torch.arange(nx) - (nx - 1) / 2, indexing="ij")
    mask = torch.hypot(x, y) * geometry.pixel_size < max(radius / 4, 0.75 * geometry.pixel_size)
    return torch.from_numpy(check_positive("mu_water [1/mm]", mu_water) * chord), mask


def _check_rule(noise: LowDose, p: Tensor) -> None:
    if noise.starvation == "floor":
        return
    fewest = float((noise.expected(p) - torch.as_tensor(noise.background)).min())
    if fewest < FEWEST:
        raise ValueError(
            f"noise: with starvation={noise.starvation!r} rays are correlated where counts are few, which is "
            f"not propagated; {fewest:.3g} counts are left here, {FEWEST:g} are needed, or starvation='floor'"
        )


def _bracket(excess: Callable[[float], float], signal: Tensor, sigma: float) -> tuple[float, float]:
    """Log doses around the last fall of `excess` through 0, from many counts downwards."""
    high = math.log(FEWEST / float(signal.min()))
    while excess(high) > 0:
        high += 0.5
    end = math.log(0.01 / float(signal.max()))  # by then all rays are starved
    low, most = high, excess(high)
    while (value := excess(low)) < 0:
        most, high, low = max(most, value), low, low - 0.1
        if low < end:
            raise ValueError(
                f"i0_for_sigma sigma: no dose makes {sigma:g} HU here, starvation holds it at or below "
                f"{sigma * math.sqrt(1 + most):.3g} HU; is the object or the filter another?"
            )
    return low, high
