"""Scans with their own source and detector at every view, brought to upright ones (`orbit.py`).

Where every detector is upright already (its rows along z, its face to the axis, whatever its offset and
distance) nothing is interpolated. Otherwise the projections are read, at every pixel of an upright detector
behind the same source, where that pixel's ray met the real one: exact up to one linear interpolation.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .base import LinearOperator
from .orbit import ARC, FLAT, PARALLEL, Array, Orbit, circular
from .vectors import ConeVectors, ParallelVectors
from .volume import ConeBeam, Frames, ParallelBeam3D, VolumeGeometry

UPRIGHT = 1e-3  # pixels that a detector's pixels may lie off those of an upright one
CIRCLE = 0.02  # of the radius, by which sources may leave the mean circle about z
EDGE = 1e-6  # pixels by which rounding may not move a ray off the detector


class Resampling(LinearOperator):
    """(S y)_v(ray) = y_v, interpolated linearly where the ray meets the real detector; zero beyond its edge.

    From the detector of a geometry to the upright one of an orbit, view by view, along the same rays.
    """

    def __init__(self, geometry: ConeVectors | ParallelVectors, orbit: Orbit):
        super().__init__()
        self.geometry, self.orbit, self._frames = geometry, orbit, geometry.frames()
        self.in_shape, self.out_shape = geometry.out_shape, (len(orbit), *orbit.detector_shape)

    def _forward(self, x: Tensor) -> Tensor:
        return self.some(x, slice(None))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.some_adjoint(y, slice(None))

    def some(self, y: Tensor, views: slice) -> Tensor:
        """S for some views, (batch, views, rows, columns)."""
        parts = []
        for n, v in enumerate(range(len(self.orbit))[views]):
            flat = y[:, n].flatten(1)
            read = [w.flatten() * flat.index_select(1, tap.flatten()) for tap, w in self._taps(v, y)]
            parts.append(torch.stack(read).sum(0).unflatten(-1, self.out_shape[1:]))
        return torch.stack(parts, 1)

    def some_adjoint(self, y: Tensor, views: slice) -> Tensor:
        """S* for some views."""
        chosen = range(len(self.orbit))[views]
        x = y.new_zeros(len(y), len(chosen), math.prod(self.in_shape[1:]))
        for n, v in enumerate(chosen):
            for tap, weight in self._taps(v, y):
                x[:, n].index_add_(1, tap.flatten(), (weight * y[:, n]).flatten(1))
        return x.unflatten(-1, self.in_shape[1:])

    def _taps(self, view: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Four places on the real detector, flattened, and their weights, each (rows, columns)."""
        rows, columns = self.geometry.detector_shape
        row, column = _met(self._frames, self.orbit, view)
        row, column = row + (rows - 1) / 2, column + (columns - 1) / 2
        with np.errstate(invalid="ignore"):
            seen = (np.abs(row - (rows - 1) / 2) <= rows / 2 + EDGE) & (
                np.abs(column - (columns - 1) / 2) <= columns / 2 + EDGE
            )
        row, column = (np.where(seen, a, 0).clip(0, n - 1) for a, n in ((row, rows), (column, columns)))
        r, c = (
            np.minimum(row.astype(int), max(rows - 2, 0)),
            np.minimum(column.astype(int), max(columns - 2, 0)),
        )
        f, g = row - r, column - c
        # in a detector of one row or column the second tap has weight zero
        below, right = columns * (rows > 1), int(columns > 1)
        place = r * columns + c
        taps = [(place, (1 - f) * (1 - g)), (place + right, (1 - f) * g), (place + below, f * (1 - g))]
        taps.append((place + below + right, f * g))
        return [
            (torch.as_tensor(tap, device=like.device), torch.as_tensor(seen * weight).to(like))
            for tap, weight in taps
        ]

    @classmethod
    def examples(cls) -> list[Resampling]:
        """A tilted and a curved detector, and one with its columns reversed; a parallel beam."""
        return [
            cls(geometry, orbit_of(geometry)[0])
            for geometry in (_example(0.1, 0.2, None), _example(-0.2, math.pi, 45.0), _example_parallel())
        ]


def orbit_of(geometry: VolumeGeometry) -> tuple[Orbit, Resampling | None]:
    """The upright scan that this one is or, by the resampling beside it, becomes.

    Raises
    ------
    ValueError : sources more than 2 % of their distance off a circle about z; rays of a parallel beam that
        climb by more than a tenth of a row
    """
    if isinstance(geometry, ParallelBeam3D | ConeBeam):
        return circular(geometry), None
    if not isinstance(geometry, ConeVectors | ParallelVectors):
        raise ValueError(f"fdk A: expected a 3-D geometry of this package, got {type(geometry).__name__}")
    frames = geometry.frames()
    orbit = _parallel(geometry, frames) if frames.parallel else _cone(geometry, frames)
    if _is_upright(frames, orbit):
        return orbit, None
    orbit = _common(orbit, frames, geometry.detector_shape)
    return orbit, Resampling(geometry, orbit)


def _parallel(geometry: ConeVectors | ParallelVectors, frames: Frames) -> Orbit:
    x, y, z = frames.source.T
    climb = float(np.abs(z).max()) * math.hypot(*geometry.extent[1:])
    row = float(np.abs(frames.v[:, 2]).max())
    if climb > 0.1 * row:
        raise ValueError(
            f"fdk A: expected rays in planes of constant z, got some that climb {climb:.3g} mm within the "
            f"volume, rows being {row:.3g} mm high; use an iterative method, e.g. CGLS"
        )
    angles, one = np.arctan2(x, -y), np.ones(len(x))
    along = np.stack([np.cos(angles), np.sin(angles), 0 * one], -1)
    offset = np.stack([frames.centre[:, 2], (frames.centre * along).sum(-1)], -1)
    pixel = row, float(np.abs((frames.u * along).sum(-1)).max())
    grids = geometry.volume_shape, geometry.voxel_size, geometry.detector_shape
    return Orbit(PARALLEL, *grids, pixel, angles, one, one, 0 * one, offset)


def _cone(geometry: ConeVectors | ParallelVectors, frames: Frames) -> Orbit:
    x, y, z = frames.source.T
    radius = np.hypot(x, y)
    mean = float(radius.mean())
    off = max(float(np.abs(radius - mean).max()), float(np.abs(z - z.mean()).max()))
    if off > CIRCLE * mean:
        raise ValueError(
            f"fdk A: expected sources on a circle about the z axis to {CIRCLE:.0%} of its radius, got radii "
            f"of {radius.min():.4g} … {radius.max():.4g} mm and heights of {z.min():.4g} … {z.max():.4g} mm; "
            "use an iterative method, e.g. CGLS"
        )
    angles, one = np.arctan2(x, -y), np.ones(len(x))
    outward, along = _axes(angles)
    away = frames.centre - frames.source
    distance = (away * outward).sum(-1)
    if not (distance > 0).all():
        raise ValueError("fdk A: expected detectors across the axis from their sources, got some behind them")
    offset = np.stack([away[:, 2], (away * along).sum(-1)], -1)
    kind = FLAT
    if frames.radius is not None and np.allclose(np.hypot(distance, offset[:, 1]), frames.radius, rtol=1e-6):
        kind, distance = ARC, frames.radius * one
        offset[:, 1] = frames.radius * np.arctan2(offset[:, 1], (away * outward).sum(-1))
    pixel = float(np.linalg.norm(frames.v, axis=-1).mean()), float(np.linalg.norm(frames.u, axis=-1).mean())
    grids = geometry.volume_shape, geometry.voxel_size, geometry.detector_shape
    return Orbit(kind, *grids, pixel, angles, radius, distance, z, offset)


def _is_upright(frames: Frames, orbit: Orbit) -> bool:
    """Whether the corners and the middles of the edges lie where those of the upright detector do."""
    rows, columns = orbit.detector_shape
    real = _shadow(frames, orbit, rows, columns)
    off = np.stack(
        [
            (real[0] - orbit.coordinates(0)[:, :, None]) / orbit.pixel[0],
            (real[1] - orbit.coordinates(1)[:, None, :]) / orbit.pixel[1],
        ]
    )
    return bool(np.abs(off).max() <= UPRIGHT)


def _common(orbit: Orbit, frames: Frames, shape: tuple[int, int]) -> Orbit:
    """A flat detector for all views, of the mean distance, that all real ones cast their shadow into."""
    one = np.ones(len(orbit))
    cone = orbit.kind != PARALLEL
    distance = one * float(((frames.centre - frames.source) * _axes(orbit.angles)[0]).sum(-1).mean())
    kind = FLAT if cone else PARALLEL
    flat = Orbit(
        kind, orbit.volume_shape, orbit.voxel_size, shape, orbit.pixel, orbit.angles, orbit.radius,
        distance if cone else one, orbit.height, 0 * orbit.offset,
    )  # fmt: skip
    shadow = _shadow(frames, flat, *shape)
    detector, offset = [], []
    for where, pitch in zip(shadow, orbit.pixel, strict=True):
        low, high = float(where.min()), float(where.max())
        detector.append(math.ceil((high - low) / pitch - UPRIGHT) + 1)
        offset.append((low + high) / 2 * one)
    return Orbit(
        kind, orbit.volume_shape, orbit.voxel_size, (detector[0], detector[1]), orbit.pixel, orbit.angles,
        orbit.radius, flat.distance, orbit.height, np.stack(offset, -1),
    )  # fmt: skip


def _shadow(frames: Frames, orbit: Orbit, rows: int, columns: int) -> tuple[Array, Array]:
    """v and u on the orbit's detectors of the rays to the real pixels, each (views, rows, columns) [mm]."""
    pixels = frames.pixels(rows, columns)
    outward, along = (a[:, None, None] for a in _axes(orbit.angles))
    if orbit.kind == PARALLEL:
        return pixels[..., 2], (pixels * along).sum(-1)
    away = pixels - frames.source[:, None, None]
    t, depth = (away * along).sum(-1), (away * outward).sum(-1)
    if not (depth > 0).all():
        raise ValueError("fdk A: expected detectors across the axis from their sources, got some behind them")
    D = orbit.distance[:, None, None]
    if orbit.kind == ARC:
        return D * away[..., 2] / np.hypot(t, depth), D * np.arctan2(t, depth)
    return D * away[..., 2] / depth, D * t / depth


def _met(frames: Frames, orbit: Orbit, view: int) -> tuple[Array, Array]:
    """Row and column from the real detector's middle, NaN where a ray of the upright one misses its plane."""
    outward, along = (a[view] for a in _axes(orbit.angles))
    up = np.array([0.0, 0.0, 1.0])
    v, u = orbit.coordinates(0)[view][:, None, None], orbit.coordinates(1)[view][None, :, None]
    if frames.parallel:
        point, direction = u * along + v * up, np.broadcast_to(frames.source[view], (*u.shape[:2], 3))
    else:
        point, direction = frames.source[view], orbit.distance[view] * outward + u * along + v * up
    U, V, centre = frames.u[view], frames.v[view], frames.centre[view]
    pitch = np.linalg.norm(U), np.linalg.norm(V)
    if frames.radius is not None:
        normal = frames.outward()[view]
        away = point - (centre - frames.radius * normal)
        side = U / pitch[0]
        a, b = (np.stack([w @ side, w @ normal]) for w in (direction, away))
        b = b.reshape(2, *(1,) * (a.ndim - b.ndim), *b.shape[1:])
        # |a s + b| = radius, on the far side
        quadratic, linear = (a * a).sum(0), (a * b).sum(0)
        with np.errstate(invalid="ignore"):
            s = (-linear + np.sqrt(linear**2 - quadratic * ((b * b).sum(0) - frames.radius**2))) / quadratic
        x, y = a * s + b
        height = (point + s[..., None] * direction - centre) @ (V / pitch[1])
        return height / pitch[1], np.arctan2(x, y) * frames.radius / pitch[0]
    normal = np.cross(U, V)
    with np.errstate(divide="ignore", invalid="ignore"):
        s = ((centre - point) @ normal) / (direction @ normal)
        if not frames.parallel:
            s = np.where(s > 0, s, np.nan)
        p = point + s[..., None] * direction - centre
    gram = np.array([[U @ U, U @ V], [U @ V, V @ V]])
    column, row = np.linalg.solve(gram, np.stack([p @ U, p @ V]).reshape(2, -1)).reshape(2, *p.shape[:-1])
    return row, column


def _axes(angles: Array) -> tuple[Array, Array]:
    """w and u of every view, (views, 3)."""
    c, s = np.cos(angles), np.sin(angles)
    return np.stack([-s, c, 0 * c], -1), np.stack([c, s, 0 * c], -1)


def _example(tilt: float, turn: float, radius: float | None) -> ConeVectors:
    """A small circle with detectors turned in their plane and tilted out of it."""
    cone = ConeBeam((3, 4, 5), 1.0, (0.3, 1.8, 3.2, 4.9), (4, 6), (1.5, 2.0), 20.0, 40.0)
    f = cone.frames()
    normal = f.outward()
    u, v = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (f.u, f.v))
    side = math.cos(turn) * u + math.sin(turn) * v
    rise = math.cos(tilt) * np.cross(normal, side) * np.sign((np.cross(normal, u) * v).sum(-1, keepdims=True))
    grids = cone.volume_shape, cone.voxel_size, cone.detector_shape
    return ConeVectors(*grids, f.source, f.centre, 2 * side, 1.5 * (rise + math.sin(tilt) * normal), radius)


def _example_parallel() -> ParallelVectors:
    scan = ParallelBeam3D((3, 4, 5), 1.0, (0.1, 0.9, 2.0), (4, 6), (1.0, 1.2))
    f = scan.frames()
    return ParallelVectors(
        scan.volume_shape, scan.voxel_size, scan.detector_shape, f.source, f.centre + 3 * f.source,
        -f.u + 0.2 * f.v, f.v + 0.1 * f.source,
    )  # fmt: skip
