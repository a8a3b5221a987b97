"""Scanner geometries in mm and rad: values that are equal when they describe the same scanner.

Common frame, as ASTRA's: image row 0 is at the top (+y), column 0 at the left (−x), the rotation centre is
the middle of the image. At view angle θ the detector axis is u = (cos θ, sin θ); a parallel ray runs along
(sin θ, −cos θ); a fan's source sits at (sin θ, −cos θ)·source_to_centre and looks along (−sin θ, cos θ).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from .checks import check_angles, check_count, check_finite, check_positive, check_sequence

Rays = tuple[NDArray[np.float64], NDArray[np.float64]]


class Geometry(ABC):
    """What every scan has: a grid of pixels or voxels, views, and a detector.

    Frozen values: `PlanarGeometry` in two dimensions, `operators.volume.VolumeGeometry` in three.
    """

    @property
    @abstractmethod
    def in_shape(self) -> tuple[int, ...]:
        """Shape of the image or volume."""

    @property
    @abstractmethod
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the projections, views first."""

    @property
    @abstractmethod
    def spacing(self) -> tuple[float, ...]:
        """Distance of neighbouring samples along each dimension of the image [mm]."""

    @property
    def views(self) -> int:
        """Number of views."""
        return self.out_shape[0]

    @abstractmethod
    def rays(self) -> Rays:
        """A point [mm] on every ray and its unit direction, (*out_shape, 2 or 3) as (x, y) or (x, y, z)."""

    @abstractmethod
    def subset(self, views: slice | Iterable[int]) -> Self:
        """The same scanner with some of its views."""

    def _set(self, **values: Any) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)


@dataclass(frozen=True)
class PlanarGeometry(Geometry):
    """What every 2-D scan has: an image grid, view angles and a row of detector bins.

    Parameters
    ----------
    image_shape : (ny, nx) pixels
    pixel_size : side of a square pixel [mm]
    angles : view angles, list, array or tensor [rad]; stored as a tuple of float
    n_bins : detector bins
    bin_size : bin pitch on the detector, arc length on an arc [mm]
    offset : middle of the detector minus central ray, along +u (arc length on an arc) [mm]
    """

    image_shape: tuple[int, int]
    pixel_size: float
    angles: tuple[float, ...]
    n_bins: int
    bin_size: float

    def __post_init__(self) -> None:
        name = type(self).__name__
        shape = tuple(
            check_count(f"{name} image_shape", n)
            for n in check_sequence(f"{name} image_shape", self.image_shape)
        )
        if len(shape) != 2:
            raise ValueError(f"{name} image_shape: expected (ny, nx), got {self.image_shape!r}")
        self._set(
            image_shape=shape,
            pixel_size=check_positive(f"{name} pixel_size [mm]", self.pixel_size),
            angles=check_angles(f"{name} angles [rad]", self.angles),
            n_bins=check_count(f"{name} n_bins", self.n_bins),
            bin_size=check_positive(f"{name} bin_size [mm]", self.bin_size),
        )

    @property
    def in_shape(self) -> tuple[int, int]:
        return self.image_shape

    @property
    def out_shape(self) -> tuple[int, int]:
        return self.sinogram_shape

    @property
    def spacing(self) -> tuple[float, float]:
        return self.pixel_size, self.pixel_size

    @property
    def sinogram_shape(self) -> tuple[int, int]:
        """(views, bins)."""
        return len(self.angles), self.n_bins

    @property
    def extent(self) -> tuple[float, float]:
        """Height and width of the image [mm]."""
        return self.image_shape[0] * self.pixel_size, self.image_shape[1] * self.pixel_size

    def bins(self) -> NDArray[np.float64]:
        """Detector coordinate u of every bin centre (n_bins,) [mm]."""
        offset: float = getattr(self, "offset", 0.0)
        index = np.arange(self.n_bins, dtype=np.float64)
        return (index - (self.n_bins - 1) / 2) * self.bin_size + offset

    def subset(self, views: slice | Iterable[int]) -> Self:
        chosen = np.asarray(self.angles)[views if isinstance(views, slice) else list(views)]
        return replace(self, angles=tuple(chosen.tolist()))

    def refined(self, image_shape: tuple[int, int], oversampling: int) -> Self:
        """The same scanner on another grid over the same field, with every bin cut into `oversampling`."""
        pixel_size = self.extent[1] / image_shape[1]
        if not math.isclose(pixel_size * image_shape[0], self.extent[0], rel_tol=1e-9):
            raise ValueError(
                f"image_shape {image_shape} does not cover {self.image_shape} with square pixels"
            )
        return replace(
            self,
            image_shape=image_shape,
            pixel_size=pixel_size,
            n_bins=self.n_bins * oversampling,
            bin_size=self.bin_size / oversampling,
        )

    def _frame(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Unit vectors u = (cos θ, sin θ) and w = (−sin θ, cos θ), each (views, 1, 2)."""
        c, s = np.cos(self.angles), np.sin(self.angles)
        return np.stack([c, s], -1)[:, None], np.stack([-s, c], -1)[:, None]


@dataclass(frozen=True)
class ParallelBeam(PlanarGeometry):
    """Parallel beam: bin u of view θ sees the line x cos θ + y sin θ = u."""

    offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(offset=check_finite("ParallelBeam offset [mm]", self.offset))

    def rays(self) -> Rays:
        u, w = self._frame()
        points = self.bins()[None, :, None] * u
        return points, np.broadcast_to(-w, points.shape)


@dataclass(frozen=True)
class FanBeam(PlanarGeometry):
    """Fan beam from a point source onto a flat detector or onto an arc centred on the source.

    Flat: bin u lies at source + D w + u·(cos θ, sin θ); arc: at the fan angle γ = u / D, where
    D = source_to_detector and w = (−sin θ, cos θ) is the central ray.

    Parameters
    ----------
    source_to_centre, source_to_detector : distances along the central ray [mm]
    detector : "flat" or "arc"
    """

    source_to_centre: float
    source_to_detector: float
    detector: Literal["flat", "arc"] = "flat"
    offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(
            source_to_centre=check_positive("FanBeam source_to_centre [mm]", self.source_to_centre),
            source_to_detector=check_positive("FanBeam source_to_detector [mm]", self.source_to_detector),
            offset=check_finite("FanBeam offset [mm]", self.offset),
        )
        if self.detector not in ("flat", "arc"):
            raise ValueError(f"FanBeam detector: expected 'flat' or 'arc', got {self.detector!r}")
        radius = math.hypot(*self.extent) / 2
        if self.source_to_centre <= radius:
            raise ValueError(
                f"FanBeam source_to_centre [mm]: the source at {self.source_to_centre:g} mm lies inside "
                f"the object, whose corners reach {radius:g} mm; move it out or make the image smaller"
            )
        if self.source_to_detector < self.source_to_centre:
            raise ValueError(
                f"FanBeam source_to_detector [mm]: expected at least "
                f"source_to_centre = {self.source_to_centre:g}, got {self.source_to_detector:g}"
            )
        if self.detector == "arc" and np.abs(self.fan_angles()).max() >= math.pi / 2:
            raise ValueError("FanBeam n_bins × bin_size: the arc reaches fan angles of 90° or more")

    def fan_angles(self) -> NDArray[np.float64]:
        """Angle γ between each bin's ray and the central ray (n_bins,) [rad]."""
        u = self.bins() / self.source_to_detector
        return u if self.detector == "arc" else np.arctan(u)

    def rays(self) -> Rays:
        u, w = self._frame()
        gamma = self.fan_angles()[None, :, None]
        direction = np.cos(gamma) * w + np.sin(gamma) * u
        return np.broadcast_to(-self.source_to_centre * w, direction.shape), direction
