"""Three-dimensional scans with their own source and detector at every view, in mm; frame as in `volume`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from .checks import check_positive
from .volume import Frames, VolumeGeometry, counts

Vectors = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class _Vectors(VolumeGeometry):
    """A scan with its own source and detector at every view."""

    detector_shape: tuple[int, int]
    _fields: ClassVar[tuple[str, ...]] = ("detectors", "u", "v")

    def _check_vectors(self) -> None:
        self._check_grids()
        name = type(self).__name__
        self._set(detector_shape=counts(f"{name} detector_shape", self.detector_shape, "(rows, columns)"))
        lengths = {}
        for field in self._fields:
            value = _vectors(f"{name} {field}", getattr(self, field))
            self._set(**{field: value})
            lengths[field] = len(value)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{name}: expected as many vectors of every kind, got {lengths}")
        frames = self.frames()
        cross = np.linalg.norm(np.cross(frames.u, frames.v), axis=-1)
        if not bool((cross > 0).all()):
            raise ValueError(f"{name} u, v: expected vectors that span a plane, got parallel ones")

    @property
    def detector_grid(self) -> tuple[int, int]:
        return self.detector_shape

    def subset(self, views: slice | Iterable[int]) -> Self:
        index = views if isinstance(views, slice) else list(views)
        chosen: dict[str, Any] = {name: np.asarray(getattr(self, name))[index] for name in self._fields}
        return replace(self, **chosen)

    def refined(self, volume_shape: tuple[int, int, int], oversampling: int) -> Self:
        dz, dy, dx = (length / n for length, n in zip(self.extent, volume_shape, strict=True))
        rows, columns = self.detector_shape
        finer: dict[str, Any] = {name: np.asarray(getattr(self, name)) / oversampling for name in ("u", "v")}
        return replace(
            self,
            volume_shape=volume_shape,
            voxel_size=(dz, dy, dx),
            detector_shape=(rows * oversampling, columns * oversampling),
            **finer,
        )

    def _lowered(self, height: float, volume_shape: tuple[int, int, int]) -> Self:
        places = [name for name in ("sources", "detectors") if name in self._fields]
        lowered: dict[str, Any] = {name: np.asarray(getattr(self, name)) - [0, 0, height] for name in places}
        return replace(self, volume_shape=volume_shape, **lowered)


@dataclass(frozen=True)
class ParallelVectors(_Vectors):
    """Parallel beams by their own direction and detector at every view (ASTRA's parallel3d_vec).

    Parameters
    ----------
    volume_shape, voxel_size, detector_shape : see `VolumeGeometry`
    directions : of the rays, any length, (views, 3) as (x, y, z)
    detectors : middle of the detector [mm], (views, 3)
    u, v : from a column to the next, from a row to the next [mm], (views, 3)
    """

    _fields = ("directions", "detectors", "u", "v")
    directions: Any  # `Vectors` once made; lists, arrays and tensors are taken, too
    detectors: Any
    u: Any
    v: Any

    def __post_init__(self) -> None:
        self._check_vectors()
        if not bool((np.linalg.norm(self.directions, axis=-1) > 0).all()):
            raise ValueError("ParallelVectors directions: expected vectors longer than zero")

    def frames(self) -> Frames:
        direction, centre, u, v = (np.asarray(a) for a in (self.directions, self.detectors, self.u, self.v))
        return Frames(True, direction / np.linalg.norm(direction, axis=-1, keepdims=True), centre, u, v)


@dataclass(frozen=True)
class ConeVectors(_Vectors):
    """Cone beams by their own source and detector at every view (ASTRA's cone_vec and cyl_cone_vec).

    Parameters
    ----------
    volume_shape, voxel_size, detector_shape : see `VolumeGeometry`
    sources : of the rays [mm], (views, 3) as (x, y, z)
    detectors : middle of the detector [mm], (views, 3)
    u, v : from a column to the next, on a curved detector at its middle, and from a row to the next [mm],
        (views, 3)
    radius : of a detector curved about an axis along v, on the side of the source [mm]; None where it is flat
    """

    _fields = ("sources", "detectors", "u", "v")
    sources: Any  # `Vectors` once made; lists, arrays and tensors are taken, too
    detectors: Any
    u: Any
    v: Any
    radius: float | None = None

    def __post_init__(self) -> None:
        self._check_vectors()
        if self.radius is not None:
            self._set(radius=check_positive("ConeVectors radius [mm]", self.radius))
        source = np.asarray(self.sources)[:, ::-1]
        inside = (np.abs(source) < np.asarray(self.extent) / 2).all(-1)
        if inside.any():
            raise ValueError(
                f"ConeVectors sources: {int(inside.sum())} of {len(source)} lie inside the volume"
            )

    def frames(self) -> Frames:
        source, centre, u, v = (np.asarray(a) for a in (self.sources, self.detectors, self.u, self.v))
        return Frames(False, source, centre, u, v, self.radius)


def _vectors(name: str, value: Any) -> Vectors:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    vectors = np.asarray(value, dtype=np.float64)
    if vectors.ndim != 2 or vectors.shape[1] != 3 or not len(vectors):
        raise ValueError(f"{name}: expected (views, 3) as (x, y, z), got shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or inf")
    return tuple((float(x), float(y), float(z)) for x, y, z in vectors)
