"""The Joseph projector on the CPU: our own numba kernels, both cores, exact adjoint, float32 and float64.

Eight results share one computed position: the lanes of a vector are eight images, or the eight turned and
mirrored copies of one image (`lanes.py`), stored channels-last in rows with a zero border, so that a sample is
two loads without a branch. A thread of the adjoint owns lines of the padded image and scatters into these
only: no atomics, the same sum in the same order whatever the number of threads.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Geometry
from .lanes import Lanes, by_image, by_symmetry
from .rays import ray_table
from .vector import LANES, axpy, load, store, zero

CHUNK = 64  # bins of one piece of work
TILE = 16  # lines of one piece of work


def forward(x, y, copies, image, base, step, count, chunks, start, slope, weight, first, last, lines, width):  # noqa: ANN001, ANN201
    """Y = A x for the images of one pass; `copies` is work space (2, padded pixels, LANES)."""
    for tr in range(2):
        stride = width[tr] + 3
        for j in prange(lines[tr]):
            for i in range(stride):
                r = np.uint64(j * stride + i)
                for lane in range(LANES):
                    copies[tr, r, lane] = 0
            for i in range(width[tr]):
                r = np.uint64(j * stride + i + 1)
                for lane in range(image.shape[0]):
                    copies[tr, r, lane] = x[
                        image[lane, 0] + j * image[lane, 1 + tr] + i * image[lane, 2 - tr]
                    ]
    for c in prange(chunks.shape[0]):
        g, d0, d1, tr = chunks[c]
        stride = width[tr] + 3
        q = copies[tr]
        sums = np.zeros((d1 - d0, LANES), x.dtype)
        for j0 in range(0, lines[tr], TILE):
            for d in range(d0, d1):
                ja, jb = max(j0, first[g, d]), min(j0 + TILE, last[g, d])
                if ja >= jb:
                    continue
                s, m = start[g, d], slope[g, d]
                left, right = load(sums, (d - d0) * LANES), zero(sums)
                for j in range(ja, jb):
                    p = s + x.dtype.type(j) * m
                    i = np.int32(p)
                    f = p - x.dtype.type(i)
                    k = (j * stride + i) * LANES
                    left = axpy(x.dtype.type(1) - f, load(q, k), left)
                    right = axpy(f, load(q, k + LANES), right)
                store(sums, (d - d0) * LANES, axpy(x.dtype.type(1), left, right))
        for lane in range(base.shape[1]):
            for d in range(d0, min(d1, count[g, lane])):
                y[base[g, lane] + d * step[g, lane]] = sums[d - d0, lane] * weight[g, d]


def adjoint(y, x, copies, back, base, step, count, chunks, start, slope, weight, first, last, lines, width):  # noqa: ANN001, ANN201
    """X = A*y for the images of one pass."""
    groups, bins = start.shape
    values = np.empty((groups, bins, LANES), x.dtype)
    for g in prange(groups):
        values[g] = 0
        for lane in range(base.shape[1]):
            for d in range(count[g, lane]):
                values[g, d, lane] = y[base[g, lane] + d * step[g, lane]] * weight[g, d]
    tiles = (max(lines[0], lines[1]) + TILE - 1) // TILE
    for k in prange(2 * tiles):
        tr, j0 = k % 2, k // 2 * TILE
        j1 = min(j0 + TILE, lines[tr])
        stride = width[tr] + 3
        q = copies[tr]
        for r in range(j0 * stride, j1 * stride):
            for lane in range(LANES):
                q[r, lane] = 0
        for c in range(chunks.shape[0]):
            g, d0, d1, kind = chunks[c]
            if kind != tr:
                continue
            for d in range(d0, d1):
                ja, jb = max(j0, first[g, d]), min(j1, last[g, d])
                if ja >= jb:
                    continue
                s, m = start[g, d], slope[g, d]
                v = load(values, (g * bins + d) * LANES)
                for j in range(ja, jb):
                    p = s + x.dtype.type(j) * m
                    i = np.int32(p)
                    f = p - x.dtype.type(i)
                    k = (j * stride + i) * LANES
                    store(q, k, axpy(x.dtype.type(1) - f, v, load(q, k)))
                    store(q, k + LANES, axpy(f, v, load(q, k + LANES)))
    ny, nx = lines
    for image in range(x.shape[0] // (ny * nx)):
        for row in prange(ny):
            for column in range(nx):
                total = x.dtype.type(0)
                for s in range(back.shape[0]):
                    lane = image * back.shape[0] + s
                    r = back[s, 0, 0] + row * back[s, 0, 1] + column * back[s, 0, 2]
                    t = back[s, 1, 0] + row * back[s, 1, 1] + column * back[s, 1, 2]
                    total += copies[0, np.uint64(r), lane] + copies[1, np.uint64(t), lane]
                x[(image * ny + row) * nx + column] = total


def _compiled(function: FunctionType, parallel: bool) -> Any:
    """`function` in machine code, cached on disk under a name of its own."""
    twin = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    twin.__qualname__ = f"{function.__name__}_{'parallel' if parallel else 'serial'}"
    twin.__module__ = function.__module__
    return njit(twin, parallel=parallel, cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")


KERNELS = {
    (f.__name__, parallel): _compiled(f, parallel) for f in (forward, adjoint) for parallel in (True, False)
}
_lock = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _lock, _forked
    _lock, _forked = threading.Lock(), True


os.register_at_fork(after_in_child=_after_fork)


def _call(name: str, *arguments: Any) -> None:
    """Run a kernel on as many threads as torch would use; on one after a fork, which numba's pool does not survive."""
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    if threads == 1 or _forked:
        KERNELS[name, False](*arguments)
        return
    with _lock:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            KERNELS[name, True](*arguments)
        finally:
            numba.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class Plan:
    """Tables of one geometry, one way to deal lanes and one dtype, as the kernels take them."""

    lanes: Lanes
    chunks: NDArray[np.int64]
    tables: tuple[Any, ...]
    back: NDArray[np.int64]
    geometry: Geometry

    @property
    def images(self) -> int:
        """Images of one pass."""
        return LANES // self.lanes.symmetries


def project(x: Tensor, geometry: Geometry) -> Tensor:
    """A x: (batch, ny, nx) -> (batch, views, bins)."""
    plan = _plan(geometry, _best(geometry, len(x)), x.dtype)
    y = torch.empty((len(x), *geometry.sinogram_shape), dtype=x.dtype)
    _passes("forward", plan, x, y)
    return y


def backproject(y: Tensor, geometry: Geometry) -> Tensor:
    """A*y: (batch, views, bins) -> (batch, ny, nx)."""
    plan = _plan(geometry, _best(geometry, len(y)), y.dtype)
    x = torch.empty((len(y), *geometry.image_shape), dtype=y.dtype)
    _passes("adjoint", plan, y, x)
    return x


def _passes(name: str, plan: Plan, source: Tensor, target: Tensor) -> None:
    source_array = source.detach().resolve_neg().contiguous().numpy().reshape(len(source), -1)
    target_array = target.numpy().reshape(len(target), -1)
    ny, nx = plan.geometry.image_shape
    lanes, s = plan.lanes, plan.lanes.symmetries
    for k in range(0, len(source), plan.images):
        n = min(plan.images, len(source) - k)
        of_lane, of_symmetry = np.repeat(np.arange(n), s), np.tile(np.arange(s), n)
        image = lanes.image[of_symmetry] + of_lane[:, None] * np.array([ny * nx, 0, 0])
        base = lanes.base[:, of_symmetry] + of_lane * plan.geometry.views * plan.geometry.n_bins
        copies = np.empty((2, max(ny * (nx + 3), nx * (ny + 3)), LANES), source_array.dtype)
        _call(
            name,
            source_array[k : k + n].ravel(),
            target_array[k : k + n].ravel(),
            copies,
            image if name == "forward" else plan.back,
            np.ascontiguousarray(base),
            np.ascontiguousarray(lanes.step[:, of_symmetry]),
            np.ascontiguousarray(lanes.count[:, of_symmetry]),
            plan.chunks,
            *plan.tables,
        )


def _best(geometry: Geometry, batch: int) -> Lanes:
    """The dealing with the least work for this batch."""
    ways = (by_symmetry(geometry), by_image(geometry))
    return min(ways, key=lambda way: -(-batch * way.symmetries // LANES) * len(way.leader) * way.bins)


@lru_cache(maxsize=32)
def _plan(geometry: Geometry, lanes: Lanes, dtype: torch.dtype) -> Plan:
    table = ray_table(geometry)
    real = torch.empty(0, dtype=dtype).numpy().dtype
    use = (lanes.leader, slice(0, lanes.bins))
    transposed = table.transposed[use]
    chunks = []
    for g in range(len(lanes.leader)):
        edges = np.flatnonzero(np.diff(transposed[g])) + 1
        for a, b in zip([0, *edges], [*edges, lanes.bins], strict=True):
            chunks += [(g, d, min(d + CHUNK, b), int(transposed[g, a])) for d in range(a, b, CHUNK)]
    ny, nx = geometry.image_shape
    tables = (
        (table.start[use] + 1).astype(real),  # the zero border is column 0
        table.slope[use].astype(real),
        table.weight[use].astype(real),
        table.first[use],
        table.last[use],
        np.array([ny, nx]),
        np.array([nx, ny]),
    )
    return Plan(lanes, np.array(chunks), tables, _back(lanes, ny, nx), geometry)


def _back(lanes: Lanes, ny: int, nx: int) -> NDArray[np.int64]:
    """(symmetries, 2, 3): where pixel (row, column) of x lies in the two padded copies, @ (1, row, column)."""
    row, column = np.arange(ny)[:, None], np.arange(nx)
    result = np.empty((lanes.symmetries, 2, 3), np.int64)
    for s, (origin, down, right) in enumerate(lanes.image):
        position = np.empty((2, ny * nx), np.int64)
        of_copy = (origin + row * down + column * right).ravel()
        position[0, of_copy] = (row * (nx + 3) + column + 1).ravel()
        position[1, of_copy] = (column * (ny + 3) + row + 1).ravel()
        position = position.reshape(2, ny, nx)
        result[s, :, 0] = position[:, 0, 0]
        result[s, :, 1] = position[:, 1, 0] - position[:, 0, 0] if ny > 1 else 0
        result[s, :, 2] = position[:, 0, 1] - position[:, 0, 0] if nx > 1 else 0
    return result
