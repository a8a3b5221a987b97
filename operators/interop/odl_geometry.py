"""Geometries of ODL (odl.applications.tomo), to and fro.

ODL's world is ours: at view angle θ the detector axis is (cos θ, sin θ) and the central ray (−sin θ, cos θ).
Its arrays are not: an image is indexed (x, y) with y upwards, a volume (x, y, z), a panel (column, row);
`image_for_odl` and `panel_for_odl` convert, `image_from_odl` and `panel_for_odl` convert back. (ODL 1.0's own
"astra_cpu" ray transform ignores the offset of a 2-D parallel detector; the geometry has it.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import FanBeam, Geometry, ParallelBeam, PlanarGeometry
from ..vectors import ConeVectors, ParallelVectors
from ..volume import ConeBeam, ParallelBeam3D, VolumeGeometry
from .odl import toolbox
from .rounding import neat

Array = NDArray[np.float64]


def to_odl_geometry(geometry: Geometry) -> tuple[Any, Any]:
    """ODL's (partition of the image, geometry), for odl.uniform_discr_frompartition and RayTransform.

    Raises ValueError for per-view vectors and for angles that do not increase, which ODL lacks.
    """
    odl = toolbox()
    if not isinstance(geometry, ParallelBeam | FanBeam | ParallelBeam3D | ConeBeam):
        raise ValueError(f"to_odl_geometry: ODL has no scan by vectors, got {type(geometry).__name__}")
    angles = np.array(geometry.angles)
    if not bool((np.diff(angles) > 0).all()):
        raise ValueError("to_odl_geometry: ODL expects view angles that increase; sort the views first")
    tomo, views = odl.applications.tomo, odl.nonuniform_partition(angles)
    extent, shape = geometry.extent[::-1], geometry.in_shape[::-1]
    grid = odl.uniform_partition([-e / 2 for e in extent], [e / 2 for e in extent], shape)
    panel = _panel(odl, geometry)
    match geometry:
        case ParallelBeam():
            return grid, tomo.Parallel2dGeometry(views, panel)
        case ParallelBeam3D():
            return grid, tomo.Parallel3dAxisGeometry(views, panel)
    D, source = geometry.source_to_detector, geometry.source_to_centre
    distances = (source, neat(D - source))
    if isinstance(geometry, FanBeam):
        radius = None if geometry.detector == "flat" else D
        return grid, tomo.FanBeamGeometry(views, panel, *distances, det_curvature_radius=radius)
    return grid, tomo.ConeBeamGeometry(
        views,
        panel,
        *distances,
        det_curvature_radius=None if geometry.detector == "flat" else (D, None),
        pitch=geometry.pitch,
        offset_along_axis=geometry.start,
    )


def from_odl_geometry(space: Any, geometry: Any) -> Geometry:
    """The geometry of ODL's (space or its partition, geometry); three-dimensional oddities become vectors.

    Raises ValueError for what no geometry here can say: 2-D scans with shifts or off the origin, pixels that
    are not square, spheres, cylinders about another line than the source's.
    """
    grid = getattr(space, "partition", space)
    shape, spacing = tuple(grid.shape)[::-1], tuple(neat(h) for h in grid.cell_sides)[::-1]
    middle = np.asarray(grid.mid_pt, dtype=np.float64)
    middle[np.abs(middle) <= 1e-9 * max(spacing)] = 0.0
    found = _planar(shape, spacing, geometry) if len(shape) == 2 else _circular(shape, spacing, geometry)
    if not middle.any() and _agrees(found, geometry):
        return found
    if isinstance(found, PlanarGeometry):
        raise ValueError(
            "from_odl_geometry: expected a 2-D scan that turns rigidly about the middle of the image; this "
            "one has shifts, a translation, a mirrored detector axis or an image off the origin"
        )
    return _by_vectors(shape, spacing, middle, geometry)


def image_for_odl(x: Tensor) -> Tensor:
    """(*batch, ny, nx) or (*batch, nz, ny, nx), 2 or 3 dimensions in all, indexed as ODL does."""
    return x.flip(-2).permute(*reversed(range(x.ndim)))


def image_from_odl(x: Tensor) -> Tensor:
    """The inverse of `image_for_odl`."""
    return x.permute(*reversed(range(x.ndim))).flip(-2)


def panel_for_odl(y: Tensor) -> Tensor:
    """(*batch, views, rows, columns) as (*batch, views, columns, rows), a view; its own inverse."""
    return y.transpose(-2, -1)


def _panel(odl: Any, geometry: ParallelBeam | FanBeam | ParallelBeam3D | ConeBeam) -> Any:
    """Partition of the detector: columns, and rows in 3-D; angles along an arc."""
    arc = isinstance(geometry, FanBeam | ConeBeam) and geometry.detector == "arc"
    scale = getattr(geometry, "source_to_detector", 1.0) if arc else 1.0
    if isinstance(geometry, ParallelBeam | FanBeam):
        counts, sizes, offsets = [geometry.n_bins], [geometry.bin_size / scale], [geometry.offset / scale]
    else:
        counts = list(geometry.detector_shape[::-1])
        row, column = geometry.detector_pixel_size
        sizes, offsets = [column / scale, row], [geometry.offset[1] / scale, geometry.offset[0]]
    half = [n * size / 2 for n, size in zip(counts, sizes, strict=True)]
    low = [o - h for o, h in zip(offsets, half, strict=True)]
    return odl.uniform_partition(low, [o + h for o, h in zip(offsets, half, strict=True)], counts)


def _turned(geometry: Any) -> tuple[float, ...]:
    """View angles [rad], counted from the detector axis (1, 0)."""
    axis = geometry.det_axis(0.0) if geometry.ndim == 2 else geometry.det_axes(0.0)[0]
    angles = np.asarray(geometry.angles) + float(np.arctan2(axis[1], axis[0]))
    return tuple(angles.tolist())


def _measures(geometry: Any) -> tuple[list[float], list[float], str]:
    """Pitch and middle of the detector, columns first [mm], and its kind."""
    part = geometry.det_partition
    sizes, middle = list(part.cell_sides), list(part.mid_pt)
    radius = getattr(geometry, "det_curvature_radius", None)
    reach = [max(abs(a), abs(b)) for a, b in zip(part.min_pt, part.max_pt, strict=True)]
    if radius is None:
        return [neat(h) for h in sizes], [neat(m, r) for m, r in zip(middle, reach, strict=True)], "flat"
    D = geometry.src_radius + geometry.det_radius
    if np.ndim(radius) or not np.isclose(radius, D, rtol=1e-9):
        raise ValueError(
            f"from_odl_geometry: expected a cylinder about the source, of radius {D:g} mm, got {radius}"
        )
    sizes[0], middle[0], reach[0] = sizes[0] * D, middle[0] * D, reach[0] * D
    return [neat(h) for h in sizes], [neat(m, r) for m, r in zip(middle, reach, strict=True)], "arc"


def _planar(shape: tuple[int, ...], spacing: tuple[float, ...], geometry: Any) -> PlanarGeometry:
    if not np.isclose(spacing[0], spacing[1], rtol=1e-9):
        raise ValueError(f"from_odl_geometry: expected square pixels in 2-D, got {spacing} mm")
    (size,), (offset,), detector = _measures(geometry)
    grid = ((shape[0], shape[1]), spacing[0], _turned(geometry), geometry.det_partition.size, size)
    if not hasattr(geometry, "src_radius"):
        return ParallelBeam(*grid, offset=offset)
    distances = (geometry.src_radius, neat(geometry.src_radius + geometry.det_radius))
    return FanBeam(*grid, *distances, detector=detector, offset=offset)  # type: ignore[arg-type]


def _circular(shape: tuple[int, ...], spacing: tuple[float, ...], geometry: Any) -> VolumeGeometry:
    sizes, (column, row), detector = _measures(geometry)
    grid: dict[str, Any] = {
        "volume_shape": shape,
        "voxel_size": spacing,
        "angles": _turned(geometry),
        "detector_shape": geometry.det_partition.shape[::-1],
        "detector_pixel_size": sizes[::-1],
        "offset": (row, column),
    }
    if not hasattr(geometry, "src_radius"):
        return ParallelBeam3D(**grid)
    return ConeBeam(
        **grid,
        source_to_centre=geometry.src_radius,
        source_to_detector=neat(geometry.src_radius + geometry.det_radius),
        detector=detector,  # type: ignore[arg-type]
        pitch=geometry.pitch,
        start=geometry.offset_along_axis,
    )


def _agrees(found: Geometry, geometry: Any) -> bool:
    """Whether both have the same rays, as lines."""
    points, directions = found.rays()
    views, panel = geometry.angles, geometry.det_partition.meshgrid
    if geometry.ndim == 2:
        pixels = np.stack([geometry.det_point_position(t, panel[0]) for t in views])
    else:
        mesh = [m.T.ravel() for m in np.meshgrid(*(m.ravel() for m in panel), indexing="ij")]
        pixels = np.stack([geometry.det_point_position(np.full(len(mesh[0]), t), mesh) for t in views])
        pixels = pixels.reshape(points.shape)
    if hasattr(geometry, "src_radius"):
        sources = np.stack([geometry.src_position(t) for t in views])
        away = pixels - sources.reshape(len(views), *(1,) * (pixels.ndim - 2), -1)
        away /= np.linalg.norm(away, axis=-1, keepdims=True)
    else:
        middle = geometry.det_partition.mid_pt
        away = np.stack([geometry.det_to_src(t, middle if geometry.ndim == 3 else middle[0]) for t in views])
        away = np.broadcast_to(away.reshape(len(views), *(1,) * (pixels.ndim - 2), -1), pixels.shape)
    apart = pixels - points
    apart = apart - (apart * directions).sum(-1, keepdims=True) * directions
    parallel = np.abs((away * directions).sum(-1))
    return bool(np.abs(apart).max() <= 1e-8 * np.abs(pixels).max() and np.abs(parallel - 1).max() <= 1e-12)


def _by_vectors(shape: tuple[int, ...], spacing: tuple[float, ...], middle: Array, geometry: Any) -> Geometry:
    if getattr(geometry, "det_curvature_radius", None) is not None:
        raise ValueError(
            "from_odl_geometry: expected a flat detector in a scan with shifts, got a curved one"
        )
    views, part = geometry.angles, geometry.det_partition
    centre = geometry.det_point_position(views, part.mid_pt) - middle
    axes = np.stack([geometry.det_axes(t) for t in views])
    u, v = axes[:, 0] * part.cell_sides[0], axes[:, 1] * part.cell_sides[1]
    grid = (shape, spacing, tuple(part.shape)[::-1])
    if hasattr(geometry, "src_radius"):
        source = geometry.src_position(views) - middle
        return ConeVectors(*grid, source, centre, u, v)  # type: ignore[arg-type]
    directions = np.stack([-geometry.det_to_src(t, part.mid_pt) for t in views])
    return ParallelVectors(*grid, directions, centre, u, v)  # type: ignore[arg-type]
