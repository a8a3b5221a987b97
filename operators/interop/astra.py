"""Geometries as the dictionaries of ASTRA (van Aarle et al., Ultramicroscopy 157 (2015)), to and fro.

Both sides use the same world: mm, angles and vectors as in `operators.geometry`. Only the arrays differ, and
only in three dimensions: row 0 of an ASTRA volume is at −y (ours at +y), and its projections are (rows,
views, columns); `volume_for_astra` and `projections_for_astra` convert both ways. Needs no ASTRA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import FanBeam, Geometry, ParallelBeam, PlanarGeometry
from ..vectors import ConeVectors, ParallelVectors
from ..volume import ConeBeam, Frames, ParallelBeam3D, VolumeGeometry
from .rounding import neat

Array = NDArray[np.float64]
CLOSE = 1e-9  # of the largest vector: float64 vectors that were rotated a few times still agree


class Description(dict[str, Any]):
    """An ASTRA dictionary that remembers the geometry it describes, as long as nobody changes it."""

    geometry: Geometry | None = None


def to_astra(geometry: Geometry) -> tuple[dict[str, Any], dict[str, Any]]:
    """ASTRA's (proj_geom, vol_geom): by angles where those say it all, else by vectors.

    "parallel", "fanflat", "parallel3d" and "cone" are without offsets; "parallel_vec", "fanflat_vec",
    "parallel3d_vec", "cone_vec" and "cyl_cone_vec" say the rest.

    Raises ValueError for a 2-D arc, which ASTRA lacks: a `ConeBeam` of one row is its "cyl_cone_vec".
    """
    projections = Description(_projections(geometry))
    projections.geometry = geometry
    return projections, _volume(geometry)


def from_astra(projections: dict[str, Any], volume: dict[str, Any]) -> Geometry:
    """The geometry of ASTRA's (proj_geom, vol_geom).

    from_astra(*to_astra(geometry)) == geometry. Volumes off the origin become vectors about their middle;
    2-D vectors must be a turning parallel or fan beam.

    Raises ValueError for what no geometry here can say: pixels that are not square, 2-D vectors of another
    kind, cylinders of more than one radius.
    """
    known = getattr(projections, "geometry", None)
    if known is not None and _same(to_astra(known), (projections, volume)):
        return known
    kind = projections["type"]
    if kind not in _READERS:
        raise ValueError(f"ASTRA geometry type: expected one of {', '.join(_READERS)}, got {kind!r}")
    return _READERS[kind](projections, volume)


def volume_for_astra(x: Tensor) -> Tensor:
    """A volume (*batch, nz, ny, nx) with its rows the other way round; its own inverse."""
    return x.flip(-2)


def projections_for_astra(y: Tensor) -> Tensor:
    """(*batch, views, rows, columns) as (*batch, rows, views, columns), a view; its own inverse."""
    return y.transpose(-3, -2)


def vectors(geometry: Geometry) -> Array:
    """ASTRA's vectors of every view: (views, 6) in 2-D, (views, 12), or 13 with the radius of a cylinder."""
    if isinstance(geometry, PlanarGeometry):
        return _planar_vectors(geometry)
    if not isinstance(geometry, VolumeGeometry):
        raise ValueError(f"to_astra geometry: expected one of this package, got {type(geometry).__name__}")
    f: Frames = geometry.frames()
    parts = [f.source, f.centre, f.u, f.v]
    if f.radius is not None:
        parts.append(np.full((len(f.u), 1), f.radius))
    return np.concatenate(parts, 1)


def _projections(geometry: Geometry) -> dict[str, Any]:
    angles = np.array(getattr(geometry, "angles", ()))
    match geometry:
        case ParallelBeam(offset=0.0):
            return {
                "type": "parallel",
                "DetectorWidth": geometry.bin_size,
                "DetectorCount": geometry.n_bins,
                "ProjectionAngles": angles,
            }
        case FanBeam(detector="flat", offset=0.0):
            return {
                "type": "fanflat",
                "DetectorWidth": geometry.bin_size,
                "DetectorCount": geometry.n_bins,
                "ProjectionAngles": angles,
                **_distances(geometry),
            }
        case PlanarGeometry():
            kind = "parallel_vec" if isinstance(geometry, ParallelBeam) else "fanflat_vec"
            return {"type": kind, "DetectorCount": geometry.n_bins, "Vectors": vectors(geometry)}
        case ParallelBeam3D(offset=(0.0, 0.0)):
            return {"type": "parallel3d", **_panel(geometry), "ProjectionAngles": angles}
        case ConeBeam(detector="flat", offset=(0.0, 0.0), pitch=0.0, start=0.0):
            return {
                "type": "cone",
                **_panel(geometry),
                "ProjectionAngles": angles,
                **_distances(geometry),
            }
    table = vectors(geometry)
    assert isinstance(geometry, VolumeGeometry)
    frames = geometry.frames()
    kind = "parallel3d_vec" if frames.parallel else "cone_vec" if frames.radius is None else "cyl_cone_vec"
    rows, columns = geometry.detector_grid
    return {"type": kind, "DetectorRowCount": rows, "DetectorColCount": columns, "Vectors": table}


def _panel(geometry: ParallelBeam3D | ConeBeam) -> dict[str, Any]:
    (rows, columns), (row, column) = geometry.detector_shape, geometry.detector_pixel_size
    return {
        "DetectorSpacingX": column,
        "DetectorSpacingY": row,
        "DetectorRowCount": rows,
        "DetectorColCount": columns,
    }


def _distances(geometry: FanBeam | ConeBeam) -> dict[str, float]:
    return {
        "DistanceOriginSource": geometry.source_to_centre,
        "DistanceOriginDetector": neat(geometry.source_to_detector - geometry.source_to_centre),
    }


def _volume(geometry: Geometry) -> dict[str, Any]:
    names = ("GridSliceCount", "GridRowCount", "GridColCount")[-len(geometry.in_shape) :]
    window: dict[str, float] = {}
    axes = zip("ZYX"[-len(names) :], geometry.in_shape, geometry.spacing, strict=True)
    for axis, count, size in reversed(list(axes)):
        window[f"WindowMin{axis}"], window[f"WindowMax{axis}"] = -count * size / 2, count * size / 2
    return {**dict(zip(names, geometry.in_shape, strict=True)), "option": window}


def _planar_vectors(geometry: PlanarGeometry) -> Array:
    u, w = (axis[:, 0] for axis in geometry._frame())
    offset, step = float(getattr(geometry, "offset", 0.0)), u * geometry.bin_size
    if isinstance(geometry, ParallelBeam):
        return np.concatenate([-w, offset * u, step], 1)
    assert isinstance(geometry, FanBeam)
    if geometry.detector == "arc":
        raise ValueError(
            "to_astra geometry: ASTRA has no arc detector in 2-D; give a ConeBeam(detector='arc') of one row"
        )
    centre = (geometry.source_to_detector - geometry.source_to_centre) * w + offset * u
    return np.concatenate([-geometry.source_to_centre * w, centre, step], 1)


# from ASTRA


def _grid(volume: dict[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...], Array]:
    """Shape and spacing, slices first, and the middle as (x, y) or (x, y, z)."""
    axes = "ZYX" if "GridSliceCount" in volume else "YX"
    counts = {"Z": "GridSliceCount", "Y": "GridRowCount", "X": "GridColCount"}
    shape = tuple(int(volume[counts[axis]]) for axis in axes)
    option = volume.get("option", {})
    low = [float(option.get(f"WindowMin{a}", -n / 2)) for a, n in zip(axes, shape, strict=True)]
    high = [float(option.get(f"WindowMax{a}", n / 2)) for a, n in zip(axes, shape, strict=True)]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        raise ValueError(f"ASTRA vol_geom: expected every WindowMin below its WindowMax, got {option}")
    spacing = tuple(neat((b - a) / n) for a, b, n in zip(low, high, shape, strict=True))
    middle = np.array([(a + b) / 2 for a, b in zip(low, high, strict=True)][::-1])
    middle[np.abs(middle) <= CLOSE * max(spacing)] = 0.0
    return shape, spacing, middle


def _planar_grid(volume: dict[str, Any], kind: str) -> tuple[tuple[int, int], float, Array]:
    shape, spacing, middle = _grid(volume)
    if len(shape) != 2:
        raise ValueError(f"ASTRA vol_geom: {kind!r} expects a 2-D volume, got {shape}")
    if not np.isclose(spacing[0], spacing[1], rtol=CLOSE, atol=0):
        raise ValueError(f"ASTRA vol_geom: expected square pixels in 2-D, got {spacing[0]} × {spacing[1]} mm")
    return (shape[0], shape[1]), spacing[0], middle


def _volume_grid(volume: dict[str, Any], kind: str) -> tuple[dict[str, Any], Array]:
    shape, spacing, middle = _grid(volume)
    if len(shape) != 3:
        raise ValueError(f"ASTRA vol_geom: {kind!r} expects a 3-D volume, got {shape}")
    return {"volume_shape": shape, "voxel_size": spacing}, middle


def _read_parallel(projections: dict[str, Any], volume: dict[str, Any]) -> Geometry:
    shape, size, middle = _planar_grid(volume, "parallel")
    if middle.any():
        return _read_planar_vectors(_as_vectors(projections), volume)
    angles, bins = projections["ProjectionAngles"], projections["DetectorCount"]
    return ParallelBeam(shape, size, angles, bins, projections["DetectorWidth"])


def _read_fan(projections: dict[str, Any], volume: dict[str, Any]) -> Geometry:
    shape, size, middle = _planar_grid(volume, "fanflat")
    if middle.any():
        return _read_planar_vectors(_as_vectors(projections), volume)
    source, detector = projections["DistanceOriginSource"], projections["DistanceOriginDetector"]
    return FanBeam(
        shape,
        size,
        projections["ProjectionAngles"],
        projections["DetectorCount"],
        projections["DetectorWidth"],
        source,
        neat(source + detector),
    )


def _as_vectors(projections: dict[str, Any]) -> dict[str, Any]:
    """A 2-D scan by angles as vectors; the image is of no importance."""
    bins, width = projections["DetectorCount"], projections["DetectorWidth"]
    angles, dot = projections["ProjectionAngles"], ((1, 1), 1e-9)
    if projections["type"] == "parallel":
        table = _planar_vectors(ParallelBeam(*dot, angles, bins, width))
        return {"type": "parallel_vec", "DetectorCount": bins, "Vectors": table}
    source, detector = projections["DistanceOriginSource"], projections["DistanceOriginDetector"]
    table = _planar_vectors(FanBeam(*dot, angles, bins, width, source, source + detector))
    return {"type": "fanflat_vec", "DetectorCount": bins, "Vectors": table}


def _read_planar_vectors(projections: dict[str, Any], volume: dict[str, Any]) -> Geometry:
    """Angle, bin and distances from the first view, then every view compared with what they say."""
    fan, bins = projections["type"] == "fanflat_vec", int(projections["DetectorCount"])
    shape, size, middle = _planar_grid(volume, projections["type"])
    table = np.asarray(projections["Vectors"], dtype=np.float64).copy()
    table[:, 2:4] -= middle
    table[:, :2] -= middle if fan else 0
    step = table[:, 4:6]
    width = neat(float(np.linalg.norm(step[0])))
    angles = tuple(np.arctan2(step[:, 1], step[:, 0]).tolist())
    u, w = step[0] / width, np.array([-step[0, 1], step[0, 0]]) / width
    source, centre = table[0, :2], table[0, 2:4]
    geometry: ParallelBeam | FanBeam
    if fan:
        to_source, to_detector = neat(float(-source @ w)), neat(float((centre - source) @ w))
        if min(to_source, to_detector) <= 0:
            raise ValueError(f"ASTRA fanflat_vec Vectors: {_UNUSUAL} (columns counted against the angle)")
        geometry = FanBeam(
            shape, size, angles, bins, width, to_source, to_detector, offset=neat(float(centre @ u))
        )
    else:
        # a detector may stand anywhere along its rays, and they may run either way
        table[:, 2:4] -= _across(table[:, 2:4], step)
        table[:, :2] /= np.linalg.norm(table[:, :2], axis=1, keepdims=True)
        table[:, :2] *= -np.sign(_cross(step, table[:, :2]))[:, None]
        geometry = ParallelBeam(shape, size, angles, bins, width, offset=neat(float(table[0, 2:4] @ u)))
    if not np.allclose(_planar_vectors(geometry), table, rtol=0, atol=CLOSE * np.abs(table).max()):
        raise ValueError(f"ASTRA {projections['type']} Vectors: {_UNUSUAL}")
    return geometry


_UNUSUAL = (
    "expected a source and a detector that turn rigidly about the middle of the image, as FanBeam and "
    "ParallelBeam do; describe other scans in 3-D with one row and one slice (cone_vec, parallel3d_vec)"
)


def _cross(a: Array, b: Array) -> Array:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _across(points: Array, step: Array) -> Array:
    """The part of every point perpendicular to the detector."""
    u = step / np.linalg.norm(step, axis=1, keepdims=True)
    return points - (points * u).sum(1, keepdims=True) * u


def _read_circular(projections: dict[str, Any], volume: dict[str, Any]) -> Geometry:
    kind = projections["type"]
    grid, middle = _volume_grid(volume, kind)
    panel = {
        "angles": projections["ProjectionAngles"],
        "detector_shape": (projections["DetectorRowCount"], projections["DetectorColCount"]),
        "detector_pixel_size": (projections["DetectorSpacingY"], projections["DetectorSpacingX"]),
    }
    geometry: VolumeGeometry
    if kind == "parallel3d":
        geometry = ParallelBeam3D(**grid, **panel)
    else:
        source = projections["DistanceOriginSource"]
        detector = neat(source + projections["DistanceOriginDetector"])
        geometry = ConeBeam(**grid, **panel, source_to_centre=source, source_to_detector=detector)
    return _moved(geometry, middle) if middle.any() else geometry


def _read_vectors(projections: dict[str, Any], volume: dict[str, Any]) -> Geometry:
    kind = projections["type"]
    grid, middle = _volume_grid(volume, kind)
    table = np.asarray(projections["Vectors"], dtype=np.float64)
    source, centre, u, v = (table[:, k : k + 3] for k in (0, 3, 6, 9))
    grid["detector_shape"] = (int(projections["DetectorRowCount"]), int(projections["DetectorColCount"]))
    if kind == "parallel3d_vec":
        return ParallelVectors(**grid, directions=source, detectors=centre - middle, u=u, v=v)
    radius = None
    if kind == "cyl_cone_vec":
        radius = float(table[0, 12])
        if not np.array_equal(table[:, 12], np.full(len(table), radius)):
            raise ValueError("ASTRA cyl_cone_vec Vectors: expected one radius for all views, got several")
    return ConeVectors(**grid, sources=source - middle, detectors=centre - middle, u=u, v=v, radius=radius)


def _moved(geometry: VolumeGeometry, middle: Array) -> Geometry:
    """The same scan of a volume whose middle is not the origin."""
    f = geometry.frames()
    grid = (geometry.volume_shape, geometry.voxel_size, geometry.detector_grid)
    if f.parallel:
        return ParallelVectors(*grid, f.source, f.centre - middle, f.u, f.v)
    return ConeVectors(*grid, f.source - middle, f.centre - middle, f.u, f.v, f.radius)


_READERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Geometry]] = {
    "parallel": _read_parallel,
    "parallel_vec": _read_planar_vectors,
    "fanflat": _read_fan,
    "fanflat_vec": _read_planar_vectors,
    "parallel3d": _read_circular,
    "cone": _read_circular,
    "parallel3d_vec": _read_vectors,
    "cone_vec": _read_vectors,
    "cyl_cone_vec": _read_vectors,
}


def _same(one: tuple[dict[str, Any], ...], other: tuple[dict[str, Any], ...]) -> bool:
    for a, b in zip(one, other, strict=True):
        if a.keys() != b.keys():
            return False
        if not all(np.array_equal(a[k], b[k]) if k != "option" else a[k] == b[k] for k in a):
            return False
    return True
