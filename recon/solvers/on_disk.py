"""SIRT and ordered subsets for volumes and data larger than memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from operators.splitting import Split, part
from operators.volume import VolumeGeometry

from .algebraic import view_order


def sart_on_disk(
    geometry: VolumeGeometry,
    data: Any,
    volume: Any,
    iterations: int,
    memory: float,
    subsets: int = 1,
    relaxation: float = 1.0,
    lower: float | None = None,
    order: Literal["golden", "bit-reversal", "sequential", "random"] = "golden",
    scratch: str | Path | None = None,
    backend: str = "auto",
    callback: Callable[[int, float], None] | None = None,
) -> list[float]:
    """x ← x + ω Cᵢ Aᵢ* Rᵢ (yᵢ − Aᵢ x), clamped to x ≥ lower, over all subsets i in turn, x and y on disk.

    `sirt` for one subset, `sart` for more (Gregor and Benson, IEEE Trans. Med. Imaging 27 (2008); Wang and
    Jiang 2004), in float32, to rounding the same iterates. Every step reads the volume slab by slab and the
    data block by block (`operators.splitting.Split`).

    geometry    a scan in three dimensions
    data        (views, rows, columns) line integrals, np.memmap or anything that slices like NumPy; only read
    volume      (nz, ny, nx) [1/mm], the image to begin with; written, slab by slab
    iterations  passes over all views
    memory      [bytes] of working memory, besides what `data` and `volume` hold themselves
    subsets     subset i has the views i, i + subsets, …
    order       in which subsets are taken, see `view_order`
    scratch     folder for 2 × data + subsets × volume, float32, removed in the end; by default the system's
    callback    callback(k, objective) after pass k

    Returns the objective ½ Σᵢ‖Aᵢ x − yᵢ‖²_R of every pass, each subset's before its own update.
    """
    if not 0 < relaxation < 2:
        raise ValueError(f"sart_on_disk relaxation: expected a number between 0 and 2, got {relaxation}")
    if not 1 <= subsets <= geometry.views:
        raise ValueError(f"sart_on_disk subsets: expected 1 to {geometry.views}, got {subsets}")
    for what, array, shape in (("volume", volume, geometry.in_shape), ("data", data, geometry.out_shape)):
        if tuple(array.shape) != shape:
            raise ValueError(f"sart_on_disk {what}: expected shape {shape}, got {tuple(array.shape)}")
    splits = [
        Split(geometry, memory, range(i, geometry.views, subsets), backend)
        for i in view_order(subsets, order)
    ]
    history = []
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:

        def on_disk(name: str, shape: tuple[int, ...]) -> Any:
            return np.lib.format.open_memmap(Path(folder, f"{name}.npy"), "w+", np.float32, shape)

        rows, residual = on_disk("rows", geometry.out_shape), on_disk("residual", geometry.out_shape)
        columns = [on_disk(f"columns-{i}", geometry.in_shape) for i in range(subsets)]
        for split, sums in zip(splits, columns, strict=True):
            _sum(split, rows, sums)
        pairs = list(zip(splits, columns, strict=True))
        limits = [(_largest(rows, split.blocks), _largest(sums, split.slabs)) for split, sums in pairs]
        for k in range(iterations):
            objective = 0.0
            for (split, sums), (most_r, most_c) in zip(pairs, limits, strict=True):
                for block in split.blocks:
                    r = part(data, block) - split.projected(volume, block)
                    weighted = _inverse(part(rows, block), most_r) * r
                    objective += float((weighted * r).sum(dtype=torch.float64)) / 2
                    residual[list(block)] = weighted.numpy()
                    del r, weighted
                for slab in split.slabs:
                    step = _inverse(part(sums, slab), most_c).mul_(split.backprojected(residual, slab))
                    x = part(volume, slab).add_(step, alpha=relaxation)
                    volume[slab] = (x if lower is None else x.clamp_(min=lower)).numpy()
                    del x, step
            history.append(objective)
            if callback is not None:
                callback(k, objective)
    return history


def _sum(split: Split, rows: Any, columns: Any) -> None:
    """A 1 and A*1, as far as these views and slices go."""
    _, ny, nx = split.geometry.volume_shape
    for block in split.blocks:
        total = torch.zeros(len(block), *split.geometry.out_shape[1:])
        for slab in split.slabs:
            total += split.operator(slab, block)(torch.ones(slab.stop - slab.start, ny, nx))
        rows[list(block)] = total.numpy()
    for slab in split.slabs:
        total = torch.zeros(slab.stop - slab.start, ny, nx)
        for block in split.blocks:
            total += split.operator(slab, block).adjoint(
                torch.ones(len(block), *split.geometry.out_shape[1:])
            )
        columns[slab] = total.numpy()


def _largest(array: Any, parts: Any) -> float:
    return max(float(part(array, p).max()) for p in parts)


def _inverse(sums: Tensor, most: float) -> Tensor:
    """1/sums, zero where a ray or a voxel meets nothing, as in `algebraic`."""
    return torch.where(sums > 1e-6 * most, 1 / sums, 0.0)
