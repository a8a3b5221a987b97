"""Geometries and operators of tomosipo (Hendriksen et al., Opt. Express 29 (2021)), to and fro.

Its world is ASTRA's, with vectors as (z, y, x); its arrays are ASTRA's as well: row 0 of a volume is at −y
(ours at +y), projections are (rows, views, columns). tomosipo is not on PyPI.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..geometry import Geometry, PlanarGeometry
from .astra import from_astra, projections_for_astra, to_astra, volume_for_astra
from .foreign import Foreign
from .rounding import neat


@cache
def toolbox() -> Any:
    """The module `tomosipo`; ImportError with what to do if it is not installed."""
    try:
        import tomosipo
    except ImportError:
        raise ImportError(
            "tomosipo is not installed: conda install tomosipo -c aahendriksen -c astra-toolbox, or "
            "pip install git+https://github.com/cicwi/tomosipo.git"
        ) from None
    return tomosipo


def to_tomosipo_geometry(geometry: Geometry) -> tuple[Any, Any]:
    """tomosipo's (volume, projections): ts.parallel and ts.cone where they say it all, else vectors.

    Raises ValueError for 2-D scans and for curved detectors, which tomosipo lacks.
    """
    projections, volume = to_astra(geometry)
    if isinstance(geometry, PlanarGeometry) or projections["type"] == "cyl_cone_vec":
        raise ValueError(
            f"to_tomosipo_geometry: tomosipo has no {projections['type']!r}; it expects a 3-D scan with a "
            "flat detector (one row and one slice make a 2-D scan of it)"
        )
    ts = toolbox()
    return ts.from_astra(volume), ts.from_astra(projections)


def from_tomosipo_geometry(volume: Any, projections: Any) -> Geometry:
    """The geometry of tomosipo's (volume, projections), fixed or by vectors."""
    described = dict(projections.to_astra())
    for key in ("DetectorSpacingX", "DetectorSpacingY", "DistanceOriginSource", "DistanceOriginDetector"):
        if key in described:
            described[key] = neat(described[key])
    return from_astra(described, volume.to_astra())


def from_tomosipo(operator: Any) -> Foreign:
    """tomosipo's operator as ours: (*batch, nz, ny, nx) -> (*batch, views, rows, columns), row 0 at +y.

    In float32, its precision; `adjoint_is_exact` is False, since ASTRA's back projection on CUDA only
    approximates the transpose.

    operator  from ts.operator; needs a CUDA device when it runs
    """
    geometry = from_tomosipo_geometry(operator.astra_compat_vg, operator.astra_compat_pg)
    pair = _Tomosipo(operator)
    return Foreign(pair, geometry.in_shape, geometry.out_shape, (torch.float32,), False, geometry)


class _Tomosipo:
    """A tomosipo operator on batches, one volume after the other, in our layout."""

    def __init__(self, operator: Any):
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        volumes = volume_for_astra(x.detach())
        return torch.stack([projections_for_astra(self.operator(v.contiguous())) for v in volumes])

    def adjoint(self, y: Tensor) -> Tensor:
        stacks = projections_for_astra(y.detach())
        return torch.stack([volume_for_astra(self.operator.T(s.contiguous())) for s in stacks])
