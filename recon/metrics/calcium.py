"""Calcium in CT: Agatston score and volume, and how far off an image is in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

THRESHOLD = 130.0  # HU
THICKNESS = 3.0  # mm, of the slices of the electron-beam scanner that the score was made on


@dataclass(frozen=True)
class Calcium:
    """What was found, one value per image, (*batch,), float64.

    agatston : Σ area [mm²] · density factor · slice thickness / 3 mm
    volume_mm3 : Σ area · slice thickness
    regions : their number
    """

    agatston: Tensor
    volume_mm3: Tensor
    regions: Tensor


def calcium_score(
    image: Tensor,
    *,
    mu_water: float | None,
    pixel_size: float | None,
    slice_thickness: float = THICKNESS,
    minimum_area: float = 1.0,
    threshold: float = THRESHOLD,
    mask: Tensor | None = None,
    ndim: int = 2,
) -> Calcium:
    """Σ over regions above 130 HU of area · w(max HU): w = 1, 2, 3, 4 from 130, 200, 300, 400 HU on.

    Agatston et al., J. Am. Coll. Cardiol. 15 (1990), slice by slice; scaled by slice thickness / 3 mm, so
    that thinner contiguous slices give about the same. A region is connected over edges and corners in its
    slice. Everything in the mask counts: bone and metal must be kept out of it.

    image : attenuation [1/mm], (*batch, ny, nx), or with ndim=3 (*batch, nz, ny, nx), the slices summed up
    mu_water : attenuation of water [1/mm]
    pixel_size : [mm]
    slice_thickness : distance of the slices [mm]
    minimum_area : smaller regions are noise [mm²]
    threshold : [HU]; the steps of w stay
    mask : where to look, bool, broadcasts to the image; None: everywhere
    """
    from scipy import ndimage

    hu = _hounsfield("calcium_score", image, mu_water)
    for name, value in (("pixel_size [mm]", pixel_size), ("slice_thickness [mm]", slice_thickness)):
        if value is None or not (math.isfinite(value) and value > 0):
            raise ValueError(f"calcium_score {name}: expected a positive number, got {value!r}")
    if not minimum_area >= 0 or ndim not in (2, 3) or image.ndim < ndim:
        raise ValueError(
            f"calcium_score: expected minimum_area ≥ 0, ndim 2 or 3 and as many dimensions, got "
            f"{minimum_area!r}, {ndim!r} and {tuple(image.shape)}"
        )
    assert pixel_size is not None
    above = (hu > threshold) if mask is None else (hu > threshold) & mask.to(hu.device).expand(hu.shape)
    batch, pixel = image.shape[: image.ndim - ndim], pixel_size**2
    planes = math.prod(image.shape[image.ndim - ndim : -2])
    found = torch.zeros(math.prod(batch), planes, 3, dtype=torch.float64)
    values = hu.cpu().reshape(-1, planes, *image.shape[-2:]).numpy()
    where = above.cpu().reshape(values.shape).numpy()
    for i, k in np.ndindex(values.shape[:2]):
        labels, count = ndimage.label(where[i, k], np.ones((3, 3)))
        if not count:
            continue
        every = range(1, count + 1)
        areas = pixel * np.asarray(ndimage.sum_labels(where[i, k], labels, every))
        peaks = np.asarray(ndimage.maximum(values[i, k], labels, every))
        large = areas >= minimum_area * (1 - 1e-9)
        factors = 1 + sum((peaks >= step).astype(float) for step in (200, 300, 400))
        found[i, k] = torch.tensor(
            [(areas * factors)[large].sum() / THICKNESS, areas[large].sum(), float(large.sum())]
        )
    sums = found.sum(1)
    agatston, volume, regions = (sums[:, j].reshape(batch).to(image.device) for j in range(3))
    return Calcium(slice_thickness * agatston, slice_thickness * volume, regions)


def agatston_error(
    image: Tensor,
    truth: Tensor,
    *,
    mask: Tensor | None = None,
    mu_water: float | None = None,
    pixel_size: float | None = None,
    **_: object,
) -> Tensor:
    """|Agatston score of x − of t| of single slices of 3 mm; arguments as in `calcium_score`."""
    return _apart("agatston_error", image, truth, mask, mu_water, pixel_size, "agatston")


def calcium_error_mm3(
    image: Tensor,
    truth: Tensor,
    *,
    mask: Tensor | None = None,
    mu_water: float | None = None,
    pixel_size: float | None = None,
    **_: object,
) -> Tensor:
    """|volume above 130 HU of x − of t| [mm³] of single slices of 3 mm; arguments as in `calcium_score`."""
    return _apart("calcium_error_mm3", image, truth, mask, mu_water, pixel_size, "volume_mm3")


def _apart(
    name: str,
    image: Tensor,
    truth: Tensor,
    mask: Tensor | None,
    mu_water: float | None,
    pixel_size: float | None,
    what: str,
) -> Tensor:
    if image.is_complex() or truth.is_complex():
        raise ValueError(f"{name}: expected real attenuation, got {image.dtype} and {truth.dtype}")
    if image.shape != truth.shape:
        raise ValueError(f"{name}: expected equal shapes, got {tuple(image.shape)} and {tuple(truth.shape)}")
    x, t = (calcium_score(a, mu_water=mu_water, pixel_size=pixel_size, mask=mask) for a in (image, truth))
    return (getattr(x, what) - getattr(t, what).to(image.device)).abs()


def _hounsfield(name: str, image: Tensor, mu_water: float | None) -> Tensor:
    """Of attenuation [1/mm], float64."""
    if mu_water is None or not mu_water > 0:
        raise ValueError(
            f"{name} mu_water: expected the attenuation of water in 1/mm (0.0206 at 60 keV), got {mu_water}"
        )
    if image.is_complex() or image.ndim < 2:
        raise ValueError(
            f"{name}: expected real attenuation (*batch, ny, nx), got {image.dtype} {tuple(image.shape)}"
        )
    hu = 1000 * (image.detach().double() / mu_water - 1)
    # a step of the threshold is a number that images are made of: 0.02 · 1.2 is 199.99999999999997 HU
    return (hu * 1e6).round() / 1e6
