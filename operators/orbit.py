"""Upright scans about the z axis: what analytic reconstruction needs to know of a 3-D geometry.

At every view the detector's columns run level and its rows along z, and it faces the axis; source distance,
detector distance, height and offset may differ from view to view. `upright.py` brings other scans to this
form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .geometry import FanBeam, ParallelBeam
from .volume import ConeBeam, ParallelBeam3D

Array = NDArray[np.float64]

PARALLEL, FLAT, ARC = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Orbit:
    """An upright scan.

    kind : PARALLEL, FLAT or ARC
    detector_shape, pixel : (rows, columns), and their pitch [mm], arc length on arcs
    angles : view angles (views,) [rad]
    radius, distance : source to axis and to detector (views,) [mm]; 1 in parallel beam
    height : of source and detector, z of the level plane of the detector's rows (views,) [mm]
    offset : (row, column) of the detector's middle from the central ray (views, 2) [mm]
    """

    kind: int
    volume_shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    detector_shape: tuple[int, int]
    pixel: tuple[float, float]
    angles: Array
    radius: Array
    distance: Array
    height: Array
    offset: Array

    def __len__(self) -> int:
        return len(self.angles)

    @property
    def magnification(self) -> Array:
        """Of a plane through the axis (views,), 1 in parallel beam."""
        return self.distance / self.radius

    def coordinates(self, which: int) -> Array:
        """v of every row (0) or u of every column (1) in every view, (views, n) [mm]."""
        n = self.detector_shape[which]
        return (np.arange(n) - (n - 1) / 2) * self.pixel[which] + self.offset[:, which, None]

    def cosines(self) -> Array:
        """Of the angle between every ray and the central one, (views or 1, rows, columns).

        Flat D / √(D² + u² + v²), arc cos γ · D / √(D² + v²): what turns a slanted ray's integral into that of
        its shadow along w in the plane of the central ray.
        """
        if self.kind == PARALLEL:
            return np.ones((1, 1, 1))
        D, v, u = self.distance, self.coordinates(0), self.coordinates(1)
        if all((a == a[:1]).all() for a in (D, v, u)):
            D, v, u = D[:1], v[:1], u[:1]
        D, v, u = D[:, None, None], v[:, :, None], u[:, None, :]
        if self.kind == FLAT:
            return D / np.sqrt(D**2 + u**2 + v**2)
        return np.cos(u / D) * D / np.hypot(D, v)

    def plane(self) -> ParallelBeam | FanBeam:
        """The mean scan of the plane z = height, around one big pixel."""
        _, ny, nx = (n * h for n, h in zip(self.volume_shape, self.voxel_size, strict=True))
        grid = ((1, 1), math.hypot(ny, nx) / math.sqrt(2))
        angles, offset = tuple(self.angles.tolist()), float(self.offset[:, 1].mean())
        if self.kind == PARALLEL:
            return ParallelBeam(*grid, angles, self.detector_shape[1], self.pixel[1], offset)
        R, D = float(self.radius.mean()), float(self.distance.mean())
        columns, pitch = self.detector_shape[1], self.pixel[1]
        return FanBeam(*grid, angles, columns, pitch, R, D, "flat" if self.kind == FLAT else "arc", offset)

    def subset(self, views: slice) -> Self:
        names = ("angles", "radius", "distance", "height", "offset")
        return replace(self, **{name: getattr(self, name)[views] for name in names})

    def slab(self, start: int, stop: int) -> Self:
        """The same scan of slices start … stop − 1, in whose middle z = 0 now is."""
        (nz, ny, nx), dz = self.volume_shape, self.voxel_size[0]
        middle = ((start + stop - 1) / 2 - (nz - 1) / 2) * dz
        return replace(self, volume_shape=(stop - start, ny, nx), height=self.height - middle)

    def with_rows(self, start: int, stop: int) -> Self:
        """The detector's rows start … stop − 1 alone."""
        return self._cut(0, start, stop)

    def with_columns(self, before: int, after: int) -> Self:
        """So many more columns at the two ends."""
        return self._cut(1, -before, self.detector_shape[1] + after)

    def rows_seen(self) -> tuple[int, int]:
        """Rows start … stop − 1 hold all that voxels read; at least one row."""
        nz, ny, nx = (n * h for n, h in zip(self.volume_shape, self.voxel_size, strict=True))
        z = np.array([-1, 1])[:, None] * (nz - self.voxel_size[0]) / 2 - self.height
        reach = 0 if self.kind == PARALLEL else math.hypot(ny, nx) / 2 / self.radius
        v = np.stack([z * self.magnification / (1 + reach), z * self.magnification / (1 - reach)])
        rows = self.detector_shape[0]
        position = (v - self.offset[:, 0]) / self.pixel[0] + (rows - 1) / 2
        start = min(max(math.floor(position.min()), 0), rows - 1)
        return start, max(start + 1, min(math.ceil(position.max()) + 1, rows))

    @cached_property
    def table(self) -> Array:
        """(views, 11): t and ℓ as t₀ + t_j j + t_i i, the column c + m τ, and the row r + (a + b k) g.

        In slice k, image row j and image column i; t and ℓ in units of the radius. τ = t / ℓ and g = 1 / ℓ
        for flat detectors, τ = atan(t / ℓ) and g = 1 / √(t² + ℓ²) on arcs, τ = t and g = 1 in parallel beam.
        """
        (nz, ny, nx), (dz, dy, dx) = self.volume_shape, self.voxel_size
        (rows, columns), (row, column) = self.detector_shape, self.pixel
        cos, sin, R = np.cos(self.angles), np.sin(self.angles), self.radius
        x, y = -(nx - 1) / 2 * dx, (ny - 1) / 2 * dy
        depth = 0 if self.kind == PARALLEL else R
        t = np.stack([x * cos + y * sin, -dy * sin, dx * cos]) / R
        level = np.stack([depth - x * sin + y * cos, -dy * cos, -dx * sin]) / R
        c = (columns - 1) / 2 - self.offset[:, 1] / column
        r = (rows - 1) / 2 - self.offset[:, 0] / row
        up = self.magnification / row
        a, b = (-(nz - 1) / 2 * dz - self.height) * up, dz * up
        return np.ascontiguousarray(np.concatenate([t, level, [c, self.distance / column, r, a, b]]).T)

    def _cut(self, which: int, start: int, stop: int) -> Self:
        n = self.detector_shape[which]
        shape, offset = list(self.detector_shape), self.offset.copy()
        shape[which] = stop - start
        offset[:, which] += ((start + stop) / 2 - n / 2) * self.pixel[which]
        return replace(self, detector_shape=(shape[0], shape[1]), offset=offset)


def circular(geometry: ParallelBeam3D | ConeBeam) -> Orbit:
    """The upright scan that these geometries are by construction."""
    views = len(geometry.angles)
    one = np.ones(views)
    kind, R, D, height = PARALLEL, 1.0, 1.0, 0 * one
    if isinstance(geometry, ConeBeam):
        kind = FLAT if geometry.detector == "flat" else ARC
        R, D, height = geometry.source_to_centre, geometry.source_to_detector, geometry.heights()
    return Orbit(
        kind=kind,
        volume_shape=geometry.volume_shape,
        voxel_size=geometry.voxel_size,
        detector_shape=geometry.detector_shape,
        pixel=geometry.detector_pixel_size,
        angles=np.asarray(geometry.angles),
        radius=R * one,
        distance=D * one,
        height=height,
        offset=np.tile(np.asarray(geometry.offset), (views, 1)),
    )
