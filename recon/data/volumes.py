"""A volume in the patient's coordinates: values and where each of them lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators import to_attenuation

from .dicom import MU_WATER

Affine = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Volume:
    """hu[k, j, i] lies at affine · (i, j, k, 1) in mm, x to the patient's left, y to the back, z to the head.

    hu      values, of a CT in HU, (nz, ny, nx), float32
    affine  (4, 4), DICOM's coordinates (LPS); its columns are the steps of a column, a row and a slice [mm].
            A gantry tilt shows as a third column that is not along the normal of the slices.
    """

    hu: Tensor
    affine: Affine

    def __post_init__(self) -> None:
        if not isinstance(self.hu, Tensor) or self.hu.ndim != 3 or not self.hu.numel():
            got = tuple(self.hu.shape) if isinstance(self.hu, Tensor) else type(self.hu).__name__
            raise ValueError(f"Volume hu: expected a tensor (nz, ny, nx), got {got}")
        object.__setattr__(self, "affine", checked_affine(self.affine))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring slices (along their normal), rows and columns (dz, dy, dx) [mm]."""
        column, row = (float(np.linalg.norm(self.affine[:3, n])) for n in (0, 1))
        return abs(float(self.affine[:3, 2] @ self.normal)), row, column

    @property
    def normal(self) -> Affine:
        """Unit normal of the slices, (3,): the way the rows turn into the columns, right-handed."""
        n = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        return n / np.linalg.norm(n)

    @property
    def tilt(self) -> float:
        """Angle between the way the slices are stacked and their normal [degrees]; 0 without gantry tilt."""
        step = self.affine[:3, 2]
        along = abs(float(step @ self.normal))
        return math.degrees(math.atan2(float(np.linalg.norm(np.cross(step, self.normal))), along))

    def like(self, hu: Tensor) -> Volume:
        """Other values in the same place."""
        return Volume(hu.reshape(self.hu.shape).float(), self.affine)

    def attenuation(self, mu_water: float = MU_WATER) -> Tensor:
        """μ = μ_water (1 + HU/1000) [1/mm], not below 0; shape of `hu`."""
        return to_attenuation(self.hu, mu_water, clip=True)


def axial(
    hu: Tensor,
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float] | None = None,
) -> Volume:
    """A volume of axial slices, feet first in the array, head to the higher index.

    hu : (nz, ny, nx), or (ny, nx) for one slice
    spacing : (dz, dy, dx) [mm]
    origin : of the first value, LPS [mm]; None puts the middle of the volume at 0
    """
    hu = hu[None] if hu.ndim == 2 else hu
    dz, dy, dx = _positive(spacing)
    if origin is None:
        nz, ny, nx = hu.shape
        origin = (-(nx - 1) / 2 * dx, -(ny - 1) / 2 * dy, -(nz - 1) / 2 * dz)
    affine = np.diag([dx, dy, dz, 1.0])
    affine[:3, 3] = origin
    return Volume(hu.float(), affine)


def checked_affine(value: Affine) -> Affine:
    """A finite (4, 4) map whose rows and columns are at right angles and whose slices do not coincide."""
    affine = np.array(value, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError(f"affine: expected finite numbers (4, 4), got {affine!r}")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (lengths > 0).all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise ValueError("affine: its columns [mm] do not span space; two directions are parallel or zero")
    if abs(affine[:3, 0] @ affine[:3, 1]) > 1e-3 * lengths[0] * lengths[1]:
        raise ValueError("affine: rows and columns of a slice are not at right angles")
    return affine


def _positive(spacing: tuple[float, float, float]) -> tuple[float, ...]:
    values = tuple(float(s) for s in spacing) if hasattr(spacing, "__iter__") else ()
    if len(values) != 3 or not all(math.isfinite(s) and s > 0 for s in values):
        raise ValueError(f"spacing: expected three positive lengths (dz, dy, dx) [mm], got {spacing!r}")
    return values


def finite(name: str, values: Tensor) -> Tensor:
    """`values`, or a ValueError that counts its NaN and inf."""
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).sum())
        raise ValueError(f"{name}: expected finite values, got {bad} NaN or inf of {values.numel()}")
    return values
