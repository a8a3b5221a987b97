"""The Joseph projector on CUDA, in Triton: batched, the discretisation of the "numba" backend, exact adjoint.

    (A x)ᵣ = weightᵣ Σⱼ Σ hat(p(j) − i) hat(z(j) − k) x[k, j, i],    hat(t) = max(0, 1 − |t|)
    (A*y)[k, j, i] = Σ_views Σ hat(p(j) − i) hat(z(j) − k) weightᵣ yᵣ    over the few rays that pass near

A* gathers the very coefficients that A has, so it is the transpose to rounding, without atomics and the same
in every run. Parallel beams, fans, and in 3-D parallel beams and cones, on a circle or a helix, whose
detector columns run along z. On the current stream; the tables of a geometry go to a device once. With
TRITON_INTERPRET=1 it runs on the CPU, slowly.
"""

from __future__ import annotations

import importlib
import math
import os
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import FanBeam, Geometry, ParallelBeam
from ..volume import VolumeGeometry
from .rays import ray_table
from .upright import upright_table

Array = NDArray[np.float64]
PARALLEL, FLAT, ARC = 0, 1, 2


def available() -> bool:
    """Whether Triton is installed and has a device, or its interpreter is on."""
    try:
        importlib.import_module("triton")
    except ImportError:
        return False
    return torch.cuda.is_available() or interpreted()


def interpreted() -> bool:
    """Whether Triton was told to interpret its kernels, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def supports(geometry: Geometry) -> bool:
    """Whether this backend has it: every planar one; in 3-D columns along z, and arcs about the source."""
    if not isinstance(geometry, VolumeGeometry):
        return True
    if upright_table(geometry) is None:
        return False
    f = geometry.frames()
    return f.radius is None or bool(
        np.allclose(np.hypot(*(f.centre - f.source)[:, :2].T), f.radius, rtol=1e-9)
    )


def project(x: Tensor, geometry: Geometry) -> Tensor:
    """A x: (batch, *in_shape) -> (batch, *out_shape)."""
    x = _checked(x, geometry)
    y = x.new_empty(len(x), *geometry.out_shape)
    if not y.numel():
        return y
    table = _table(geometry, x.device, x.dtype)
    images, rows, columns, (nz, ny, nx) = _sizes(geometry, len(x))
    tile, block = (64, 4) if isinstance(geometry, VolumeGeometry) else (128, _power(min(len(x), 8)))
    tile, block = (64, 16) if interpreted() else (tile, block)
    grid = (geometry.views * math.ceil(columns / tile), math.ceil(rows / block), images)
    _kernels().project[grid](
        x, y, table.ray, table.view, table.span(tile), geometry.views, rows, columns, nz, ny, nx,
        VOLUME=isinstance(geometry, VolumeGeometry), COLUMNS=tile, ROWS=block,
    )  # fmt: skip
    return y


def backproject(y: Tensor, geometry: Geometry) -> Tensor:
    """A*y: (batch, *out_shape) -> (batch, *in_shape)."""
    y = _checked(y, geometry)
    x = y.new_empty(len(y), *geometry.in_shape)
    if not x.numel():
        return x
    table = _table(geometry, y.device, y.dtype)
    images, rows, columns, (nz, ny, nx) = _sizes(geometry, len(y))
    volume = isinstance(geometry, VolumeGeometry)
    tile, block = (32, _power(min(nz, 8))) if volume else (128, _power(min(nz, 8)))
    tile, block = (64, 16) if interpreted() else (tile, block)
    grid = (math.ceil(ny * nx / tile), math.ceil(nz / block), images)
    (u0, u1), (v0, v1) = table.columns, table.rows
    _kernels().backproject[grid](
        y, x, table.ray, table.view, geometry.views, rows, columns, nz, ny, nx, *geometry.spacing[-2:],
        VOLUME=volume, KIND=table.kind, U0=u0, U1=u1, V0=v0, V1=v1, PIXELS=tile, ROWS=block,
    )  # fmt: skip
    return x


@cache
def _kernels() -> Any:
    try:
        return importlib.import_module(".triton_kernels", __package__)
    except ImportError:
        raise ImportError(
            "XRay backend 'triton' needs Triton, which comes with PyTorch for CUDA; use backend='auto'"
        ) from None


def _sizes(geometry: Geometry, batch: int) -> tuple[int, int, int, tuple[int, int, int]]:
    """Images, rows, columns and grid as the kernels see them: planar images are slices of one volume."""
    if isinstance(geometry, VolumeGeometry):
        _, rows, columns = geometry.out_shape
        return batch, rows, columns, geometry.volume_shape
    ny, nx = geometry.in_shape
    return 1, batch, geometry.out_shape[1], (batch, ny, nx)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _checked(x: Tensor, geometry: Geometry) -> Tensor:
    if not supports(geometry):
        raise ValueError(
            f"XRay backend 'triton' cannot do this {type(geometry).__name__}: it needs detector columns "
            "along z, rays that climb less than a slice a line, and arcs about the source; use backend='auto'"
        )
    if not (x.is_cuda or (interpreted() and x.device.type == "cpu")):
        raise ValueError(f"XRay backend 'triton' runs on CUDA, got a tensor on {x.device}: use x.cuda()")
    return x.detach().resolve_neg().contiguous()


@dataclass(frozen=True, eq=False)
class _Table:
    """What the kernels read, on a device.

    ray, view      see `triton_kernels`
    lines          first and last line that a ray meets, (2, views, columns)
    columns, rows  offsets from a pixel's own shadow between which the rays lie that pass near it
    """

    kind: int
    ray: Tensor
    view: Tensor
    lines: Array
    columns: tuple[int, int]
    rows: tuple[int, int]

    @lru_cache(maxsize=4)  # noqa: B019 - tables are remembered as long
    def span(self, tile: int) -> Tensor:
        """First and last line of every tile of columns, (views, tiles, 2)."""
        first, last = self.lines
        edges = np.arange(0, first.shape[1], tile)
        empty = first >= last
        low = np.minimum.reduceat(np.where(empty, 2**30, first), edges, axis=1)
        high = np.maximum.reduceat(np.where(empty, 0, last), edges, axis=1)
        spans = np.stack([np.minimum(low, high), high], -1).astype(np.int32)
        return torch.from_numpy(spans).to(self.ray.device)


@lru_cache(maxsize=32)
def _table(geometry: Geometry, device: torch.device, dtype: torch.dtype) -> _Table:
    volume = isinstance(geometry, VolumeGeometry)
    plane = _of_volume(geometry) if isinstance(geometry, VolumeGeometry) else _of_image(geometry)
    start, slope, weight, turned, first, last = plane.table
    zero = np.zeros_like(start)
    a, b = plane.depth if volume else (zero, zero)
    ray = np.stack([start, slope, weight, turned, a, b])
    on_device = [torch.from_numpy(np.ascontiguousarray(t)).to(device, dtype) for t in (ray, plane.view)]
    near = _nearby(start, slope, turned, first, last)
    rows = (0, 0)
    if volume:
        depth = np.stack([a + b * first, a + b * np.maximum(last - 1, first)])
        met = np.broadcast_to(first < last, depth.shape)
        rows = _offsets(1 / (depth[met].min() * np.abs(plane.view[:, 2]).min())) if met.any() else (0, 0)
    return _Table(plane.kind, on_device[0], on_device[1], np.stack([first, last]), near, rows)


@dataclass(frozen=True, eq=False)
class _Plane:
    """A scan seen along z: the rays of its columns in a plane, how far on their way each line lies, views."""

    kind: int
    table: tuple[NDArray[Any], ...]
    depth: tuple[Array, Array]
    view: Array


def _of_image(geometry: Geometry) -> _Plane:
    assert isinstance(geometry, ParallelBeam | FanBeam)
    t = ray_table(geometry)
    c, s = np.cos(geometry.angles), np.sin(geometry.angles)
    u, w = np.stack([c, s], -1), np.stack([-s, c], -1)
    kind, radius, offset = PARALLEL, 0.0, geometry.offset
    source, centre = -w, offset * u
    if isinstance(geometry, FanBeam):
        radius, source = geometry.source_to_detector, -geometry.source_to_centre * w
        kind, centre = FLAT, source + radius * w + offset * u
        if geometry.detector == "arc":
            turn = offset / radius
            centre = source + radius * (math.sin(turn) * u + math.cos(turn) * w)
            kind, u = ARC, math.cos(turn) * u - math.sin(turn) * w
    rest = np.broadcast_to([0.0, 0.0, 1.0, 1.0], (len(c), 4))
    middle = np.broadcast_to([(geometry.n_bins - 1) / 2, radius], (len(c), 2))
    view = np.concatenate([rest, source, centre, geometry.bin_size * u, middle], 1)
    table = (t.start, t.slope, t.weight, t.transposed, t.first, t.last)
    return _Plane(kind, table, (t.start, t.start), view)


def _of_volume(geometry: VolumeGeometry) -> _Plane:
    t, f = upright_table(geometry), geometry.frames()
    assert t is not None
    nz, dz = geometry.volume_shape[0], geometry.spacing[0]
    _, rows, columns = geometry.out_shape
    height = 0.0 if f.parallel else f.source[:, 2]
    view = np.zeros((geometry.views, 12))
    view[:, 0] = height / dz + (nz - 1) / 2
    view[:, 1] = (f.centre[:, 2] - (rows - 1) / 2 * f.v[:, 2] - height) / dz
    view[:, 2], view[:, 3] = f.v[:, 2] / dz, dz
    view[:, 4:10] = np.concatenate([f.source[:, :2], f.centre[:, :2], f.u[:, :2]], 1)
    view[:, 10:] = (columns - 1) / 2, f.radius or 0.0
    a, b = np.moveaxis(t.climb[..., 2:] / view[:, 2, None, None], -1, 0)
    kind = PARALLEL if f.parallel else FLAT if f.radius is None else ARC
    return _Plane(kind, (t.start, t.slope, t.weight, t.transposed, t.first, t.last), (a, b), view)


def _nearby(start: Array, slope: Array, turned: Array, first: Array, last: Array) -> tuple[int, int]:
    """From the closest that neighbouring rays come to each other on a line that both meet."""
    if start.shape[1] == 1:
        return _offsets(1.0)
    low, high = np.maximum(first[:, 1:], first[:, :-1]), np.minimum(last[:, 1:], last[:, :-1]) - 1
    both = (low <= high) & (turned[:, 1:] == turned[:, :-1])
    step = np.diff(start, axis=1) + np.stack([low, high]) * np.diff(slope, axis=1)
    closest = np.abs(step)[np.broadcast_to(both, step.shape)]
    return _offsets(1 / closest.min() if closest.size else 1.0)


def _offsets(reach: float) -> tuple[int, int]:
    """Whole offsets t from ⌊u⌋ with |⌊u⌋ + t − u| < reach for some u, with room for rounding."""
    whole = math.floor(reach * 1.01 + 0.02)
    return -whole, whole + 1
