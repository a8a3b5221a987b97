"""Images and volumes at another spacing: linear between voxels, averaged first where it becomes coarser."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..volumes import Volume
from .pictures import Picture


def resample(volume: Volume, spacing: tuple[float, float, float]) -> Volume:
    """The volume on a grid of `spacing` (dz, dy, dx) [mm] over the same field; its middle stays in place.

    Linear interpolation; an axis that becomes coarser is smoothed before by a box of the new spacing, which
    takes the mean where the spacing is a whole multiple. The edge goes on outside.
    """
    old = volume.spacing
    values = _resampled(volume.hu, old, spacing)
    affine = volume.affine.copy()
    for axis, (n, m) in enumerate(zip(volume.hu.shape, values.shape, strict=True)):
        step = affine[:3, 2 - axis].copy()
        affine[:3, 2 - axis] = step * (spacing[axis] / old[axis])
        # the middles of both grids coincide
        affine[:3, 3] += step * (n - 1) / 2 - affine[:3, 2 - axis] * (m - 1) / 2
    return Volume(values, affine)


def to_spacing(picture: Picture, spacing: float) -> Picture:
    """The slices of a picture with square pixels of `spacing` [mm]; slices are left where they lie."""
    if picture.spacing is None:
        raise ValueError(
            f"{picture.path}: its pixel size is unknown, so it cannot be brought to {spacing} mm"
        )
    dz, dy, dx = picture.spacing
    values = _resampled(picture.values, (1.0, dy, dx), (1.0, spacing, spacing))
    if picture.affine is None:
        return replace(picture, values=values, spacing=(dz, spacing, spacing))
    whole = Volume(picture.values, picture.affine)
    moved = resample(whole, (whole.spacing[0], spacing, spacing))
    return replace(picture, values=moved.hu, spacing=(dz, spacing, spacing), affine=np.array(moved.affine))


def _resampled(values: Tensor, old: tuple[float, ...], new: tuple[float, ...]) -> Tensor:
    if len(new) != 3 or not all(isinstance(s, int | float) and math.isfinite(s) and s > 0 for s in new):
        raise ValueError(f"spacing: expected positive lengths (dz, dy, dx) [mm], got {new!r}")
    for axis, (a, b) in enumerate(zip(old, new, strict=True)):
        values = _along(values.movedim(axis, -1), b / a).movedim(-1, axis)
    return values.contiguous()


def _along(values: Tensor, ratio: float) -> Tensor:
    """The last axis with steps `ratio` times as long."""
    n = values.shape[-1]
    m = max(round(n / ratio), 1)
    if math.isclose(ratio, 1, rel_tol=1e-6):
        return values
    # the mean over a box of |ratio| old steps, from the integral of the piecewise constant signal
    place = (torch.arange(m, dtype=torch.float64) - (m - 1) / 2) * ratio + (n - 1) / 2
    if ratio < 1:
        low = place.floor().clamp(0, n - 1)
        part = (place - low).clamp(0, 1).to(values.dtype)
        low = low.long()
        return values[..., low] * (1 - part) + values[..., (low + 1).clamp(max=n - 1)] * part
    padded = functional.pad(values.double().cumsum(-1), (1, 0))

    def integral(at: Tensor) -> Tensor:
        at = (at + 0.5).clamp(0, n)
        low = at.floor().clamp(max=n - 1)
        part = at - low
        return padded[..., low.long()] * (1 - part) + padded[..., low.long() + 1] * part

    first, last = place - ratio / 2, place + ratio / 2
    width = (last + 0.5).clamp(0, n) - (first + 0.5).clamp(0, n)
    return ((integral(last) - integral(first)) / width).to(values.dtype)
