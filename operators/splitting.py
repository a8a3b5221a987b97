"""Scans larger than memory: some slices of the volume and some views of the data at a time.

    A x = Σ over slabs A_slab x_slab,     (A*y)_slab = Σ over blocks of views A_(slab, block)* y_block

Volume and data are arrays that are read and written in parts: np.memmap, or anything that slices like NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backends.pool import available
from .volume import VolumeGeometry
from .xray import XRay

_SLABS, _BLOCKS = 12, 12  # room for six at a time, in solver and projectors, and as much that malloc keeps
_TABLES = 1100  # [bytes] of a detector column in tables and plans, remembered ones included


class Split:
    """The slabs and blocks in which a scan is taken, float32, so that working memory stays below `memory`.

    slabs   : slices of the volume, in order
    blocks  : some views each, an equal step apart, so that turned views stay together (`backends/lanes.py`)

    Parameters
    ----------
    geometry : a scan in three dimensions
    memory : [bytes] that slabs, blocks and projectors may take, besides what the arrays given hold themselves
    views : the views that count, by default all
    backend : of XRay
    """

    def __init__(
        self,
        geometry: VolumeGeometry,
        memory: float,
        views: Iterable[int] | None = None,
        backend: str = "auto",
    ):
        if not isinstance(geometry, VolumeGeometry):
            raise ValueError(
                f"Split geometry: expected a scan in three dimensions, got {type(geometry).__name__}"
            )
        self.geometry, self.backend = geometry, backend
        _, rows, columns = geometry.out_shape
        nz, ny, nx = geometry.volume_shape
        chosen = list(range(geometry.views) if views is None else views)
        slice_, view = 4 * ny * nx, columns * (4 * rows * _BLOCKS + _TABLES)
        # threads pack slices by eights, however few there are
        left = memory - 8 * available() * slice_
        depth, count = int(left // 2 // (_SLABS * slice_)), int(left // 2 // view)
        if min(depth, count) < 1 or not chosen:
            least = 2 * max(_SLABS * slice_, view) + 8 * available() * slice_
            raise ValueError(
                f"Split memory: expected at least {least / 2**20:.1f} MiB for one slice and one view of this "
                f"scan, got {memory / 2**20:.1f} MiB for {len(chosen)} views"
            )
        pieces = math.ceil(nz / min(depth, nz))
        self.slabs = tuple(slice(k * nz // pieces, (k + 1) * nz // pieces) for k in range(pieces))
        steps = math.ceil(len(chosen) / min(count, len(chosen)))
        self.blocks = tuple(tuple(chosen[k::steps]) for k in range(steps))

    def operator(self, slab: slice, block: Sequence[int]) -> XRay:
        """A of some slices and views."""
        return XRay(self.geometry.slab(slab.start, slab.stop).subset(block), self.backend)

    def projected(self, volume: Any, block: Sequence[int]) -> Tensor:
        """A x of the views of a block, the volume read slab by slab."""
        total = torch.zeros(len(block), *self.geometry.out_shape[1:])
        for slab in self.slabs:
            total += self.operator(slab, block)(part(volume, slab))
        return total

    def backprojected(self, data: Any, slab: slice) -> Tensor:
        """A*y of the slices of a slab, the data (all views) read block by block."""
        total = torch.zeros(slab.stop - slab.start, *self.geometry.in_shape[1:])
        for block in self.blocks:
            total += self.operator(slab, block).adjoint(part(data, block))
        return total

    def project(self, volume: Any, data: Any) -> None:
        """data[views] = A volume."""
        _check_shapes(self.geometry, volume, data)
        for block in self.blocks:
            data[list(block)] = self.projected(volume, block).numpy()

    def backproject(self, data: Any, volume: Any) -> None:
        """Volume = A*data[views]."""
        _check_shapes(self.geometry, volume, data)
        for slab in self.slabs:
            volume[slab] = self.backprojected(data, slab).numpy()

    def __repr__(self) -> str:
        return f"Split({len(self.slabs)} slabs, {len(self.blocks)} blocks of {self.geometry!r})"


def part(array: Any, which: slice | Sequence[int]) -> Tensor:
    """Some slices or views of an array, read into memory as float32."""
    found = array[which if isinstance(which, slice) else list(which)]
    return torch.from_numpy(np.array(found, dtype=np.float32, copy=isinstance(which, slice) or None))


def _check_shapes(geometry: VolumeGeometry, volume: Any, data: Any) -> None:
    for what, array, shape in (("volume", volume, geometry.in_shape), ("data", data, geometry.out_shape)):
        if tuple(array.shape) != shape:
            raise ValueError(f"{what}: expected an array of shape {shape}, got {tuple(array.shape)}")
