"""Helical scans, slice by slice: rebinned to the fan beam that would have seen the slice alone.

Single-slice rebinning (Noo, Defrise and Clackdoyle, Phys. Med. Biol. 44 (1999) 561) for detectors of many
rows; 360° and 180° linear interpolation along z (Crawford and King, Med. Phys. 17 (1990) 967) for one row.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .backprojection import fbp
from .base import LinearOperator
from .feldkamp import checked, volume_geometry_of
from .geometry import FanBeam
from .volume import ConeBeam, VolumeGeometry

Array = NDArray[np.float64]
Method = Literal["single-slice", "360li", "180li"]
METHODS = ("single-slice", "360li", "180li")
EDGE = 1e-6  # rows, and radians, by which rounding may not move a ray off the scan


def helical_fbp(
    A: LinearOperator | VolumeGeometry,
    y: Tensor,
    filter: str = "ram-lak",
    frequency_scaling: float = 1.0,
    method: Method = "single-slice",
) -> Tensor:
    """Every slice by `fbp` of its `helical_to_fan`: linear and differentiable in y.

    Exact for objects that do not change along z; otherwise each ray stands for its slice although it crosses
    others, by up to half the height the source gains while it sees the slice: pitch · (π + fan) / 4π at the
    object's border for "single-slice".

    Parameters
    ----------
    A : an operator with a `geometry` (`XRay`), or the geometry: ConeBeam with a pitch and square pixels
    y : line integrals, after the logarithm, (*batch, views, rows, columns), float32 or float64
    filter, frequency_scaling : as for `fbp`
    method : as for `helical_to_fan`

    Returns
    -------
    x (*batch, nz, ny, nx) [1/mm]

    Raises
    ------
    ValueError : as `helical_to_fan`, for a volume that reaches beyond the covered slices as well
    """
    geometry = _helix(A)
    y = checked(y, geometry.out_shape, "helical_fbp")
    nz, dz = geometry.volume_shape[0], geometry.voxel_size[0]
    slices = []
    for k in range(nz):
        fan, sinogram = _rebin(geometry, y, (k - (nz - 1) / 2) * dz, method)
        slices.append(fbp(fan, sinogram, filter, frequency_scaling, short_scan=method == "single-slice"))
    return torch.stack(slices, -3)


def helical_to_fan(
    geometry: ConeBeam, y: Tensor, z: float, method: Method = "single-slice"
) -> tuple[FanBeam, Tensor]:
    """The fan beam and sinogram that one slice would have given.

    "single-slice" takes, from the views nearest to the slice over π + fan angle, for every fan ray the
    measured ray above or below it that crosses the slice half way, where it is nearest to the axis: at height
    v = Δz (u² + D²) / (R D) on a flat and Δz D / (R cos γ) on an arc detector, Δz from the source to the
    slice, times the cosine of its inclination. A short scan, for `fbp(…, short_scan=True)`.

    "360li" interpolates along z between the same rays one turn apart, "180li" between a ray and the nearest
    opposite one, both in the source's plane alone: full scans, for `fbp(…, short_scan=False)`.

    Parameters
    ----------
    geometry : ConeBeam with a pitch and square pixels
    y : line integrals (*batch, views, rows, columns), float32 or float64
    z : height of the slice from the middle of the volume [mm]
    method : "single-slice", "360li" or "180li"

    Returns
    -------
    FanBeam of the slice, sinogram (*batch, views, bins)

    Raises
    ------
    ValueError : no helix; a slice that the helix does not cover; a pitch too large for the detector (for
        "single-slice" rows that would be read are missing; samples along z lie farther apart than a row is
        high, at the axis, for "360li" if the pitch is more than that, for "180li" more than twice)
    """
    geometry = _helix(geometry)
    return _rebin(geometry, checked(y, geometry.out_shape, "helical_to_fan"), z, method)


def covered(geometry: ConeBeam, method: Method = "single-slice") -> tuple[float, float]:
    """Lowest and highest slice that `helical_to_fan` can give [mm]."""
    geometry = _helix(geometry)
    reach = _reach(geometry, method)
    angles = min(geometry.angles) + reach, max(geometry.angles) - reach
    ends = sorted(geometry.start + geometry.pitch * a / (2 * math.pi) for a in angles)
    return ends[0], ends[1]


def _rebin(geometry: ConeBeam, y: Tensor, z: float, method: Method) -> tuple[FanBeam, Tensor]:
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(map(repr, METHODS))}, got {method!r}")
    order = np.argsort(geometry.angles, kind="stable")
    angles = np.asarray(geometry.angles)[order]
    middle = (z - geometry.start) * 2 * math.pi / geometry.pitch
    reach = _reach(geometry, method)
    if middle - reach < angles[0] - EDGE or middle + reach > angles[-1] + EDGE:
        low, high = covered(geometry, method)
        has = f"covers {low:.4g} … {high:.4g}" if np.ptp(angles) >= 2 * reach else "covers no slice"
        raise ValueError(
            f"z [mm]: the slice at {z:g} needs views of {reach:.3g} rad on both sides of it for {method!r}; "
            f"this helix of {np.ptp(angles) / 2 / math.pi:.2f} turns {has}"
        )
    rebin = {"single-slice": _single_slice, "360li": _full_turn, "180li": _half_turn}[method]
    views, sinogram = rebin(geometry, angles, y, order, middle)
    return _fan(geometry, tuple(views.tolist())), sinogram


def _single_slice(
    geometry: ConeBeam, angles: Array, y: Tensor, order: NDArray[np.int64], middle: float
) -> tuple[Array, Tensor]:
    reach = _reach(geometry, "single-slice")
    first = max(int(np.searchsorted(angles, middle - reach + EDGE, "right")) - 1, 0)
    last = min(int(np.searchsorted(angles, middle + reach - EDGE, "left")), len(angles) - 1)
    chosen = np.arange(first, last + 1)
    climb = geometry.pitch / (2 * math.pi) * (middle - angles[chosen])
    R, D = geometry.source_to_centre, geometry.source_to_detector
    u, gamma = geometry.columns(), geometry.fan_angles()
    per_height = (u**2 + D**2) / (R * D) if geometry.detector == "flat" else D / (R * np.cos(gamma))
    rows = geometry.detector_shape[0]
    v = climb[:, None] * per_height - geometry.offset[0]
    row = v / geometry.detector_pixel_size[0] + (rows - 1) / 2
    through = np.abs(R * np.sin(gamma)) <= math.hypot(*geometry.extent[1:]) / 2
    _check_rows(geometry, row[:, through])
    row = row.clip(0, rows - 1)
    low = np.minimum(row.astype(int), max(rows - 2, 0))
    high = np.minimum(low + 1, rows - 1)
    level = _level(geometry)
    column = np.arange(len(u))
    fraction = row - low
    parts = []
    for r, share in ((low, 1 - fraction), (high, fraction)):
        weight = torch.as_tensor(share * level[r, column]).to(y)
        parts.append(weight * _picked(y, order[chosen][:, None], r, column))
    return angles[chosen], parts[0] + parts[1]


def _full_turn(
    geometry: ConeBeam, angles: Array, y: Tensor, order: NDArray[np.int64], middle: float
) -> tuple[Array, Tensor]:
    _check_pitch(geometry, 1)
    views = angles[(angles > middle - 2 * math.pi + EDGE) & (angles <= middle + EDGE)]
    column = np.arange(geometry.detector_shape[1], dtype=float)
    share = torch.as_tensor((middle - views) / (2 * math.pi)).to(y)[:, None]
    plane = _plane(geometry, y, order)
    before, after = (_read(plane, angles, views[:, None] + turn, column) for turn in (0.0, 2 * math.pi))
    return views, torch.lerp(before, after, share)


def _half_turn(
    geometry: ConeBeam, angles: Array, y: Tensor, order: NDArray[np.int64], middle: float
) -> tuple[Array, Tensor]:
    _check_pitch(geometry, 2)
    views = angles[(angles > middle - math.pi + EDGE) & (angles <= middle + math.pi + EDGE)]
    n = geometry.detector_shape[1]
    column = np.broadcast_to(np.arange(n, dtype=float), (len(views), n))
    # the opposite ray has −γ, so −u
    mirrored = (n - 1) - column - 2 * geometry.offset[1] / geometry.detector_pixel_size[1]
    direct = np.broadcast_to(views[:, None], column.shape)
    opposite = direct + math.pi - 2 * geometry.fan_angles()
    # each kind: the last one at or before the middle; the next is a turn later
    direct, opposite = (
        a - np.ceil((a - middle - EDGE) / (2 * math.pi)) * 2 * math.pi for a in (direct, opposite)
    )
    later = direct >= opposite
    lower = np.where(later, direct, opposite), np.where(later, column, mirrored)
    upper = np.where(later, opposite, direct) + 2 * math.pi, np.where(later, mirrored, column)
    share = torch.as_tensor((middle - lower[0]) / (upper[0] - lower[0])).to(y)
    plane = _plane(geometry, y, order)
    return views, torch.lerp(_read(plane, angles, *lower), _read(plane, angles, *upper), share)


def _plane(geometry: ConeBeam, y: Tensor, order: NDArray[np.int64]) -> Tensor:
    """What is measured in the plane of the source, views by angle, (*batch, views, columns)."""
    rows, height = geometry.detector_shape[0], geometry.detector_pixel_size[0]
    row = (rows - 1) / 2 - geometry.offset[0] / height
    if not -0.5 - EDGE <= row <= rows - 0.5 + EDGE:
        raise ValueError(
            f"helical_to_fan: the detector's offset of {geometry.offset[0]:g} mm along its rows leaves none "
            "in the plane of the source; use method='single-slice'"
        )
    row = min(max(row, 0.0), rows - 1.0)
    low = min(int(row), max(rows - 2, 0))
    high, level = min(low + 1, rows - 1), torch.as_tensor(_level(geometry)).to(y)
    y = y[..., torch.as_tensor(order, device=y.device), :, :]
    return (low + 1 - row) * level[low] * y[..., low, :] + (row - low) * level[high] * y[..., high, :]


def _read(plane: Tensor, angles: Array, angle: Array, column: Array) -> Tensor:
    """Linear between views and between columns; the outermost columns reach half a column farther."""
    views, columns = plane.shape[-2:]
    view, column = np.broadcast_arrays(np.interp(angle, angles, np.arange(views, dtype=float)), column)
    seen = torch.as_tensor((column >= -0.5 - EDGE) & (column <= columns - 0.5 + EDGE)).to(plane)
    column = column.clip(0, columns - 1)
    v, c = np.minimum(view.astype(int), views - 2), np.minimum(column.astype(int), max(columns - 2, 0))
    f, g = torch.as_tensor(view - v).to(plane), torch.as_tensor(column - c).to(plane)
    right = np.minimum(c + 1, columns - 1)
    first, second = (torch.lerp(_picked(plane, w, c), _picked(plane, w, right), g) for w in (v, v + 1))
    return seen * torch.lerp(first, second, f)


def _picked(y: Tensor, *indices: NDArray[np.int64]) -> Tensor:
    """y[..., i, j, …] for indices that broadcast."""
    shape = y.shape[-len(indices) :]
    place = torch.as_tensor(np.ravel_multi_index(np.broadcast_arrays(*indices), shape), device=y.device)
    return y.flatten(-len(indices)).index_select(-1, place.flatten()).unflatten(-1, place.shape)


def _level(geometry: ConeBeam) -> Array:
    """Cosine of every ray's inclination to the plane of its source, (rows, columns)."""
    v, u, D = geometry.rows()[:, None], geometry.columns()[None, :], geometry.source_to_detector
    across = np.hypot(u, D) if geometry.detector == "flat" else np.full_like(u, D)
    return across / np.hypot(across, v)


def _reach(geometry: ConeBeam, method: Method) -> float:
    """Views needed on each side of the one whose source is in the slice [rad]."""
    fan = 2 * float(np.abs(geometry.fan_angles()).max())
    return {"single-slice": (math.pi + fan) / 2, "360li": 2 * math.pi, "180li": math.pi + fan}[method]


def _fan(geometry: ConeBeam, angles: tuple[float, ...]) -> FanBeam:
    (_, ny, nx), (_, dy, dx) = geometry.volume_shape, geometry.voxel_size
    if not math.isclose(dy, dx, rel_tol=1e-9):
        raise ValueError(
            f"helical_to_fan geometry: expected square pixels in a slice, got {dy:g} × {dx:g} mm"
        )
    return FanBeam(
        (ny, nx), dx, angles, geometry.detector_shape[1], geometry.detector_pixel_size[1],
        geometry.source_to_centre, geometry.source_to_detector, geometry.detector, geometry.offset[1],
    )  # fmt: skip


def _check_rows(geometry: ConeBeam, row: Array) -> None:
    """The rows that are read are on the detector, half a row beyond the outermost ones included."""
    rows = geometry.detector_shape[0]
    low, high = float(row.min(initial=math.inf)), float(row.max(initial=-math.inf))
    if low >= -0.5 - EDGE and high <= rows - 0.5 + EDGE:
        return
    source = (rows - 1) / 2 - geometry.offset[0] / geometry.detector_pixel_size[0]
    # rows move away from the source's plane as the pitch grows
    room = min((rows - 0.5 - source) / max(high - source, 1e-300), (source + 0.5) / max(source - low, 1e-300))
    raise ValueError(
        f"helical_to_fan geometry: a pitch of {geometry.pitch:g} mm is too large for the detector, whose "
        f"{rows} rows would have to reach from row {low:.1f} to {high:.1f}; "
        + (f"it allows {room * abs(geometry.pitch):.4g} mm" if room > 0 else "it misses the source's plane")
    )


def _check_pitch(geometry: ConeBeam, rows: int) -> None:
    height = geometry.detector_pixel_size[0] * geometry.source_to_centre / geometry.source_to_detector
    if abs(geometry.pitch) > rows * height * (1 + EDGE):
        raise ValueError(
            f"helical_to_fan geometry: a pitch of {geometry.pitch:g} mm leaves gaps along z for "
            f"'{360 // rows}li', which allows {rows * height:.4g} mm, {rows} × a row's height at the axis; "
            "use method='single-slice' with a detector of many rows"
        )


def _helix(A: LinearOperator | VolumeGeometry) -> ConeBeam:
    geometry = volume_geometry_of(A)
    if not isinstance(geometry, ConeBeam) or geometry.pitch == 0:
        raise ValueError(
            f"helical geometry: expected a ConeBeam with a pitch, got {type(geometry).__name__} without; "
            "use fdk, or an iterative method, e.g. CGLS"
        )
    return geometry
