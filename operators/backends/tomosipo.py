"""tomosipo's operators as a backend: ASTRA on CUDA, float32, 3-D scans with a flat detector; not on PyPI."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import Tensor

from ..interop.tomosipo import from_tomosipo, to_tomosipo_geometry, toolbox
from ..volume import VolumeGeometry
from .astra_cuda import checked


def project(x: Tensor, geometry: VolumeGeometry) -> Tensor:
    """A x: (batch, nz, ny, nx) -> (batch, views, rows, columns)."""
    x = checked(x, "tomosipo")
    return _pair(geometry).forward(x)


def backproject(y: Tensor, geometry: VolumeGeometry) -> Tensor:
    """About A*y: (batch, views, rows, columns) -> (batch, nz, ny, nx)."""
    y = checked(y, "tomosipo")
    return _pair(geometry).adjoint(y)


@lru_cache(maxsize=8)
def _pair(geometry: VolumeGeometry) -> Any:
    volume, projections = to_tomosipo_geometry(geometry)
    return from_tomosipo(toolbox().operator(volume, projections)).pair
