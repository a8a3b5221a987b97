"""The Joseph projector as a cached sparse matrix: any device, float32 and float64, exact adjoint.

A and A* are both stored by rows, so that neither direction scatters. Matrices are remembered up to
`LIMIT` bytes in all; the least recently used go first.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import PlanarGeometry
from .rays import RayTable, ray_table

LIMIT = 2 * 2**30  # [bytes] of all remembered matrices together
_AT_ONCE = 2**18  # samples held while building

_remembered: OrderedDict[tuple[PlanarGeometry, torch.dtype, torch.device], tuple[Any, Any]] = OrderedDict()
_lock = threading.RLock()


def project(x: Tensor, geometry: PlanarGeometry) -> Tensor:
    """A x: (batch, ny, nx) -> (batch, views, bins)."""
    A, _ = _matrices(geometry, x.dtype, x.device)
    return _times(A, x.flatten(1)).reshape(len(x), *geometry.sinogram_shape)


def backproject(y: Tensor, geometry: PlanarGeometry) -> Tensor:
    """A*y: (batch, views, bins) -> (batch, ny, nx)."""
    _, adjoint = _matrices(geometry, y.dtype, y.device)
    return _times(adjoint, y.flatten(1)).reshape(len(y), *geometry.image_shape)


def nbytes(geometry: PlanarGeometry, dtype: torch.dtype) -> int:
    """Bytes that A and A* will take at most, without building them."""
    entries = 2 * ray_table(geometry).samples
    rows = math.prod(geometry.image_shape) + math.prod(geometry.sinogram_shape)
    return 2 * entries * (4 + dtype.itemsize) + 4 * (rows + 2)


def matrix(geometry: PlanarGeometry, dtype: type = np.float64) -> scipy.sparse.csr_array:
    """A as a CSR matrix, (views·bins, ny·nx)."""
    table = ray_table(geometry)
    views, bins = geometry.sinogram_shape
    columns = np.empty(2 * table.samples, np.int32)
    values: NDArray[Any] = np.empty(2 * table.samples, dtype)
    ends = np.zeros(views * bins + 1, np.int64)
    filled = 0
    step = max(1, _AT_ONCE // (bins * max(geometry.image_shape)))
    for view in range(0, views, step):
        of_ray, column, value = _entries(table, slice(view, view + step))
        columns[filled : filled + len(column)] = column
        values[filled : filled + len(value)] = value
        filled += len(column)
        rays = slice(view * bins + 1, min(view + step, views) * bins + 1)
        ends[rays] = np.bincount(of_ray, minlength=rays.stop - rays.start)
    ends = np.cumsum(ends).astype(np.int32 if filled < 2**31 else np.int64)
    shape = (views * bins, math.prod(geometry.image_shape))
    A = scipy.sparse.csr_array((values[:filled], columns[:filled], ends), shape=shape)
    A.sort_indices()
    return A


def _entries(table: RayTable, views: slice) -> tuple[Any, Any, Any]:
    """Ray (counted from the first of these views), pixel and value of every entry, ray by ray."""
    _, nx = table.image_shape
    first, last = table.first[views].ravel()[:, None], table.last[views].ravel()[:, None]
    line = np.arange(max(table.image_shape))
    ray, line = np.nonzero((line >= first) & (line < last))

    def of_ray(values: Any) -> Any:
        return values[views].ravel()[ray, None]

    position = of_ray(table.start) + of_ray(table.slope) * line[:, None]
    left = np.floor(position)
    across = (left + np.array([0, 1])).astype(np.int64)
    value = of_ray(table.weight) * np.abs([1, 0] - (position - left))
    transposed = of_ray(table.transposed)
    width = np.where(transposed, table.image_shape[0], nx)
    pixel = np.where(transposed, across * nx + line[:, None], line[:, None] * nx + across)
    inside = (across >= 0) & (across < width) & (value > 0)
    return np.broadcast_to(ray[:, None], inside.shape)[inside], pixel[inside], value[inside]


def _matrices(geometry: PlanarGeometry, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    """(A, A*), both by rows: scipy's on the CPU, torch's elsewhere."""
    key = (geometry, dtype, device)
    with _lock:
        if key not in _remembered:
            needed = nbytes(geometry, dtype)
            if needed > LIMIT:
                raise ValueError(
                    f"XRay backend 'sparse': the matrix of this geometry needs {needed / 2**30:.1f} GiB, "
                    f"the limit is {LIMIT / 2**30:.1f} GiB; use backend='numba' on the CPU"
                )
            A = matrix(geometry, torch.empty(0, dtype=dtype).numpy().dtype.type)
            pair = (A, A.T.tocsr())
            while _remembered and sum(nbytes(g, d) for g, d, _ in _remembered) + needed > LIMIT:
                _remembered.popitem(last=False)
            _remembered[key] = pair if device.type == "cpu" else (_on(device, pair[0]), _on(device, pair[1]))
        _remembered.move_to_end(key)
        return _remembered[key]


def _on(device: torch.device, A: scipy.sparse.csr_array) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        ends, columns, values = (torch.from_numpy(part).to(device) for part in (A.indptr, A.indices, A.data))
        return torch.sparse_csr_tensor(ends, columns, values, A.shape)


def _times(A: Any, x: Tensor) -> Tensor:
    """A applied to every row of x."""
    if isinstance(A, Tensor):
        return (A @ x.T.contiguous()).T
    array = x.detach().resolve_neg().numpy()
    product = A @ array[0] if len(array) == 1 else A @ np.ascontiguousarray(array.T)
    return torch.from_numpy(np.ascontiguousarray(product.T)).reshape(len(x), -1)
