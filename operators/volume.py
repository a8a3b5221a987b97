"""Three-dimensional scanner geometries in mm and rad: values, equal when they describe the same scanner.

x to the right, y up, z along the rotation axis; a volume is (nz, ny, nx), slice 0 at the lowest z, and inside
a slice row 0 is at the top (+y), as in two dimensions (ASTRA's volumes have it at −y). The middle is the
origin. At view angle θ, counted as ASTRA does, the detector's columns run along u = (cos θ, sin θ, 0) and its
rows along v = (0, 0, 1), row 0 at the lowest z; a cone's source sits at (sin θ, −cos θ, 0)·source_to_centre
and looks along w = (−sin θ, cos θ, 0). The slice z = 0 of a cone is a `FanBeam`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from .checks import check_angles, check_count, check_finite, check_positive, check_sequence
from .geometry import Geometry, Rays

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frames:
    """Where source and detector are at every view, all (views, 3) as (x, y, z) [mm].

    source  of a cone, a point; of a parallel beam, the unit direction of the rays
    centre  middle of the detector
    u, v    from one column to the next, and from one row to the next
    radius  of a detector curved about an axis along v [mm]; None where it is flat
    """

    parallel: bool
    source: Array
    centre: Array
    u: Array
    v: Array
    radius: float | None = None

    def pixels(self, rows: int, columns: int) -> Array:
        """Centres of the detector's pixels, (views, rows, columns, 3) [mm]."""
        row = (np.arange(rows) - (rows - 1) / 2)[None, :, None, None]
        column = (np.arange(columns) - (columns - 1) / 2)[None, None, :, None]
        centre, u, v = (a[:, None, None, :] for a in (self.centre, self.u, self.v))
        if self.radius is None:
            return centre + row * v + column * u
        pitch = np.linalg.norm(u, axis=-1, keepdims=True)
        angle = column * pitch / self.radius
        along, out = u / pitch, self.outward()[:, None, None, :]
        return centre + row * v + self.radius * (np.sin(angle) * along + (np.cos(angle) - 1) * out)

    def outward(self) -> Array:
        """Unit normal of the detector at its middle, away from the source, (views, 3)."""
        normal = np.cross(self.u, self.v)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        towards = self.source if self.parallel else self.centre - self.source
        return normal * np.sign((normal * towards).sum(-1, keepdims=True))


@dataclass(frozen=True)
class VolumeGeometry(Geometry):
    """What every 3-D scan has: voxels, views and a detector of rows and columns.

    Parameters
    ----------
    volume_shape : (nz, ny, nx) voxels
    voxel_size : [mm], a number, or (dz, dy, dx)
    detector_shape : (rows, columns)
    detector_pixel_size : distance of rows and of columns [mm], a number, or (row, column); arc length on arcs
    """

    volume_shape: tuple[int, int, int]
    voxel_size: Any  # a tuple once made; a number is taken, too

    def _check_grids(self) -> None:
        name = type(self).__name__
        self._set(
            volume_shape=counts(f"{name} volume_shape", self.volume_shape, "(nz, ny, nx)"),
            voxel_size=lengths(f"{name} voxel_size [mm]", self.voxel_size, "(dz, dy, dx)"),
        )

    @property
    @abstractmethod
    def detector_grid(self) -> tuple[int, int]:
        """(rows, columns)."""

    @abstractmethod
    def frames(self) -> Frames:
        """Source and detector at every view."""

    @property
    def in_shape(self) -> tuple[int, int, int]:
        return self.volume_shape

    @property
    def out_shape(self) -> tuple[int, int, int]:
        return len(self.frames().source), *self.detector_grid

    @property
    def spacing(self) -> tuple[float, float, float]:
        dz, dy, dx = self.voxel_size
        return dz, dy, dx

    @property
    def extent(self) -> tuple[float, float, float]:
        """Depth, height and width of the volume [mm]."""
        nz, ny, nx = (n * h for n, h in zip(self.volume_shape, self.voxel_size, strict=True))
        return nz, ny, nx

    def slab(self, start: int, stop: int) -> Self:
        """The same scan of the slices start ≤ k < stop alone, in the frame of their own middle.

        Data are sums over slabs that share no slice: A x = Σ A_slab x[start:stop], and A*y of a slab is the
        slab of A*y, with projectors that choose a ray's steps by its direction, as ours do.
        """
        nz, ny, nx = self.volume_shape
        if not 0 <= start < stop <= nz:
            raise ValueError(
                f"{type(self).__name__}.slab: expected 0 ≤ start < stop ≤ {nz} slices, got {start}, {stop}"
            )
        return self._lowered((start + stop - nz) / 2 * self.voxel_size[0], (stop - start, ny, nx))

    @abstractmethod
    def _lowered(self, height: float, volume_shape: tuple[int, int, int]) -> Self:
        """Source and detector lowered by `height` [mm], another number of voxels."""

    @abstractmethod
    def refined(self, volume_shape: tuple[int, int, int], oversampling: int) -> Self:
        """The same scanner on another grid over the same field, detector pixels cut into oversampling²."""

    def rays(self) -> Rays:
        frames = self.frames()
        pixels = frames.pixels(*self.detector_grid)
        source = frames.source[:, None, None, :]
        if frames.parallel:
            return pixels, np.broadcast_to(source, pixels.shape)
        direction = pixels - source
        return np.broadcast_to(source, pixels.shape), direction / np.linalg.norm(
            direction, axis=-1, keepdims=True
        )


@dataclass(frozen=True)
class _Circular(VolumeGeometry):
    """A scan about the z axis by view angles."""

    angles: tuple[float, ...]
    detector_shape: tuple[int, int]
    detector_pixel_size: Any

    def _check_scan(self, offset: Any) -> None:
        self._check_grids()
        name = type(self).__name__
        self._set(
            angles=check_angles(f"{name} angles [rad]", self.angles),
            detector_shape=counts(f"{name} detector_shape", self.detector_shape, "(rows, columns)"),
            detector_pixel_size=lengths(
                f"{name} detector_pixel_size [mm]", self.detector_pixel_size, "(row, column)"
            ),
            offset=_pair(f"{name} offset [mm]", offset),
        )

    @property
    def detector_grid(self) -> tuple[int, int]:
        return self.detector_shape

    @property
    def out_shape(self) -> tuple[int, int, int]:
        return len(self.angles), *self.detector_shape

    def rows(self) -> Array:
        """Detector coordinate v of every row (rows,) [mm]."""
        return self._coordinates(0)

    def columns(self) -> Array:
        """Detector coordinate u of every column (columns,) [mm], arc length on an arc."""
        return self._coordinates(1)

    def subset(self, views: slice | Iterable[int]) -> Self:
        chosen = np.asarray(self.angles)[views if isinstance(views, slice) else list(views)]
        return replace(self, angles=tuple(chosen.tolist()))

    def refined(self, volume_shape: tuple[int, int, int], oversampling: int) -> Self:
        dz, dy, dx = (length / n for length, n in zip(self.extent, volume_shape, strict=True))
        (rows, columns), (row, column) = self.detector_shape, self.detector_pixel_size
        return replace(
            self,
            volume_shape=volume_shape,
            voxel_size=(dz, dy, dx),
            detector_shape=(rows * oversampling, columns * oversampling),
            detector_pixel_size=(row / oversampling, column / oversampling),
        )

    def _coordinates(self, which: int) -> Array:
        offset: tuple[float, float] = getattr(self, "offset", (0.0, 0.0))
        index = np.arange(self.detector_shape[which], dtype=np.float64)
        return (index - (len(index) - 1) / 2) * self.detector_pixel_size[which] + offset[which]

    def _axes(self) -> tuple[Array, Array, Array]:
        """u, w and v of every view, (views, 3)."""
        c, s = np.cos(self.angles), np.sin(self.angles)
        zero = np.zeros_like(c)
        return np.stack([c, s, zero], -1), np.stack([-s, c, zero], -1), np.stack([zero, zero, zero + 1], -1)


@dataclass(frozen=True)
class ParallelBeam3D(_Circular):
    """Parallel beam onto a flat detector: every row is a `ParallelBeam` at its own height.

    Parameters
    ----------
    volume_shape, voxel_size, detector_shape, detector_pixel_size : see `VolumeGeometry`
    angles : view angles [rad]
    offset : (row, column), middle of the detector minus its shadow of the axis, along v and u [mm]
    """

    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self._check_scan(self.offset)

    def _lowered(self, height: float, volume_shape: tuple[int, int, int]) -> Self:
        return replace(self, volume_shape=volume_shape, offset=(self.offset[0] - height, self.offset[1]))

    def frames(self) -> Frames:
        u, w, v = self._axes()
        row, column = self.detector_pixel_size
        centre = self.offset[1] * u + self.offset[0] * v
        return Frames(True, -w, centre, column * u, row * v)


@dataclass(frozen=True)
class ConeBeam(_Circular):
    """Cone beam from a point source, on a circle or a helix, onto a flat detector or a cylinder.

    The source is at height z = start + pitch·θ/2π at view angle θ, and the detector moves with it. Flat:
    pixel (v, u) lies at source + D w + u·(cos θ, sin θ, 0) + v·(0, 0, 1); arc: at the fan angle γ = u / D on
    a cylinder about the line through the source along z; D = source_to_detector, and w = (−sin θ, cos θ, 0)
    is the central ray.

    Parameters
    ----------
    volume_shape, voxel_size, detector_shape, detector_pixel_size : see `VolumeGeometry`
    angles : view angles [rad], over more than one turn on a helix
    source_to_centre, source_to_detector : distances along the central ray [mm]
    detector : "flat" or "arc"
    offset : (row, column), middle of the detector minus the central ray, along v and u (arc length) [mm]
    pitch : height gained in one turn of 2π [mm], 0 on a circle
    start : height of the source at view angle 0 [mm]
    """

    source_to_centre: float
    source_to_detector: float
    detector: Literal["flat", "arc"] = "flat"
    offset: tuple[float, float] = (0.0, 0.0)
    pitch: float = 0.0
    start: float = 0.0

    def __post_init__(self) -> None:
        self._check_scan(self.offset)
        self._set(
            source_to_centre=check_positive("ConeBeam source_to_centre [mm]", self.source_to_centre),
            source_to_detector=check_positive("ConeBeam source_to_detector [mm]", self.source_to_detector),
            pitch=check_finite("ConeBeam pitch [mm per turn]", self.pitch),
            start=check_finite("ConeBeam start [mm]", self.start),
        )
        if self.detector not in ("flat", "arc"):
            raise ValueError(f"ConeBeam detector: expected 'flat' or 'arc', got {self.detector!r}")
        radius = math.hypot(*self.extent[1:]) / 2
        if self.source_to_centre <= radius:
            raise ValueError(
                f"ConeBeam source_to_centre [mm]: the source at {self.source_to_centre:g} mm lies inside "
                f"the object, whose corners reach {radius:g} mm; move it out or make the volume smaller"
            )
        if self.source_to_detector < self.source_to_centre:
            raise ValueError(
                f"ConeBeam source_to_detector [mm]: expected at least "
                f"source_to_centre = {self.source_to_centre:g}, got {self.source_to_detector:g}"
            )
        if self.detector == "arc" and np.abs(self.fan_angles()).max() >= math.pi / 2:
            raise ValueError("ConeBeam detector: the arc reaches fan angles of 90° or more")

    def fan_angles(self) -> Array:
        """Angle γ between each column's rays and the central plane's middle (columns,) [rad]."""
        u = self.columns() / self.source_to_detector
        return u if self.detector == "arc" else np.arctan(u)

    def heights(self) -> Array:
        """Height z of the source at every view (views,) [mm]."""
        return self.start + self.pitch * np.asarray(self.angles) / (2 * math.pi)

    def _lowered(self, height: float, volume_shape: tuple[int, int, int]) -> Self:
        return replace(self, volume_shape=volume_shape, start=self.start - height)

    def frames(self) -> Frames:
        u, w, v = self._axes()
        D, (row_offset, column_offset) = self.source_to_detector, self.offset
        row, column = self.detector_pixel_size
        source = -self.source_to_centre * w + self.heights()[:, None] * v
        if self.detector == "flat":
            centre = source + D * w + column_offset * u + row_offset * v
            return Frames(False, source, centre, column * u, row * v)
        gamma = column_offset / D
        along, out = math.cos(gamma) * u - math.sin(gamma) * w, math.sin(gamma) * u + math.cos(gamma) * w
        return Frames(False, source, source + D * out + row_offset * v, column * along, row * v, radius=D)


def counts(name: str, value: Any, what: str) -> tuple[int, ...]:
    """Whole numbers, as many as `what` names."""
    numbers = tuple(check_count(name, n) for n in check_sequence(name, value))
    if len(numbers) != what.count(",") + 1:
        raise ValueError(f"{name}: expected {what}, got {value!r}")
    return numbers


def lengths(name: str, value: Any, what: str) -> tuple[float, ...]:
    """Positive lengths, as many as `what` names, or one for all."""
    n = what.count(",") + 1
    values = check_sequence(name, value) if isinstance(value, Sequence | np.ndarray) else (value,) * n
    if len(values) != n:
        raise ValueError(f"{name}: expected a number or {what}, got {value!r}")
    return tuple(check_positive(name, length) for length in values)


def _pair(name: str, value: Any) -> tuple[float, float]:
    values = check_sequence(name, value)
    if len(values) != 2:
        raise ValueError(f"{name}: expected (row, column), got {value!r}")
    return check_finite(name, values[0]), check_finite(name, values[1])
