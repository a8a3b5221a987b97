"""ASTRA's projectors (van Aarle et al., Ultramicroscopy 157 (2015)): float32, CPU or CUDA.

On the CPU parallel beams use 'linear' (Joseph) and fans 'line_fanflat' (intersection lengths), whose back
projection is the transpose; the images of a batch run on several threads. An arc detector, which ASTRA lacks
in 2-D, is a flat one of a single bin for every ray. `astra_cuda` runs them on CUDA.
"""

from __future__ import annotations

import importlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import FanBeam, PlanarGeometry
from .pool import available, share

_PROJECTORS_PER_THREAD = 8
_of_thread = threading.local()


@cache
def toolbox() -> Any:
    """The module `astra`; ImportError with what to do if it is not installed."""
    try:
        import astra
    except ImportError:
        raise ImportError(
            "XRay backend 'astra' needs the ASTRA toolbox: pip install 'hybrid-recon[astra]', "
            "or use backend='numba'"
        ) from None
    return astra


@cache
def usable_on_cuda() -> bool:
    """Whether ASTRA is installed and finds a device; its `has_feature` only says how it was built."""
    try:
        return bool(toolbox().use_cuda())
    except ImportError:
        return False


def _cuda() -> Any:
    return importlib.import_module(".astra_cuda", __package__)


def is_arc(geometry: PlanarGeometry) -> bool:
    """Whether the detector is an arc, which ASTRA does not have on CUDA."""
    return isinstance(geometry, FanBeam) and geometry.detector == "arc"


def project(x: Tensor, geometry: PlanarGeometry) -> Tensor:
    """A x: (batch, ny, nx) -> (batch, views, bins)."""
    x = _checked(x, geometry)
    y = x.new_empty(len(x), *geometry.sinogram_shape)
    if x.is_cuda:
        _cuda().run("direct_FP", x, y, geometry)
    else:
        images, sinograms, forward = x.numpy(), _as_astra(y, geometry), toolbox().projector.direct_FP
        share(lambda k: forward(_projector(geometry), images[k], out=sinograms[k]), len(x), available())
    return y


def backproject(y: Tensor, geometry: PlanarGeometry) -> Tensor:
    """A*y: (batch, views, bins) -> (batch, ny, nx)."""
    y = _checked(y, geometry)
    x = y.new_empty(len(y), *geometry.image_shape)
    if y.is_cuda:
        _cuda().run("direct_BP", y, x, geometry)
    else:
        images, sinograms, back = x.numpy(), _as_astra(y, geometry), toolbox().projector.direct_BP
        share(lambda k: back(_projector(geometry), sinograms[k], out=images[k]), len(y), available())
    return x


def _checked(x: Tensor, geometry: PlanarGeometry) -> Tensor:
    if x.dtype != torch.float32:
        raise ValueError(
            f"XRay backend 'astra' computes in float32, got {x.dtype}: use x.float(), or backend='numba'"
        )
    if x.device.type not in ("cpu", "cuda"):
        raise ValueError(f"XRay backend 'astra' runs on the CPU or on CUDA, got a tensor on {x.device}")
    if x.is_cuda and is_arc(geometry):
        raise ValueError("XRay backend 'astra' has no arc of one row on CUDA: use backend='auto', or x.cpu()")
    if x.is_cuda and not usable_on_cuda():
        raise ValueError("XRay backend 'astra' finds no CUDA device: use backend='sparse', or x.cpu()")
    return x.detach().resolve_neg().contiguous()


def _as_astra(sinograms: Tensor, geometry: PlanarGeometry) -> NDArray[np.float32]:
    rows = (geometry.views * geometry.n_bins, 1) if is_arc(geometry) else geometry.sinogram_shape
    return sinograms.numpy().reshape(len(sinograms), *rows)


class Handle:
    """The id of a projector, deleted with this object."""

    def __init__(self, delete: Callable[[int], None], number: int):
        self.number = number
        weakref.finalize(self, delete, number)


def remembered(key: tuple[Any, ...], create: Callable[[], Handle]) -> int:
    """The projector of this thread for `key`; the least recently used goes when there are too many."""
    handles: OrderedDict[tuple[Any, ...], Handle] = _of_thread.__dict__.setdefault("handles", OrderedDict())
    if key not in handles:
        handles[key] = create()
        if len(handles) > _PROJECTORS_PER_THREAD:
            handles.popitem(last=False)
    handles.move_to_end(key)
    return handles[key].number


def _projector(geometry: PlanarGeometry) -> int:
    return remembered((geometry,), lambda: _create(geometry))


def _create(geometry: PlanarGeometry) -> Handle:
    astra = toolbox()
    fan = isinstance(geometry, FanBeam)
    vectors, bins = _vectors(geometry)
    projections = astra.create_proj_geom("fanflat_vec" if fan else "parallel_vec", bins, vectors)
    volume = astra.create_vol_geom(*geometry.image_shape, *_window(geometry))
    number = astra.create_projector("line_fanflat" if fan else "linear", projections, volume)
    return Handle(astra.projector.delete, number)


def _window(geometry: PlanarGeometry) -> tuple[float, float, float, float]:
    height, width = geometry.extent
    return -width / 2, width / 2, -height / 2, height / 2


def _vectors(geometry: PlanarGeometry) -> tuple[NDArray[np.float64], int]:
    """(source or ray, detector centre, step to the next bin), (views or rays, 6), and the bins of each."""
    u, w = (axis[:, 0] for axis in geometry._frame())
    offset, step = float(getattr(geometry, "offset", 0.0)), u * geometry.bin_size
    if not isinstance(geometry, FanBeam):
        return np.concatenate([-w, offset * u, step], 1), geometry.n_bins
    if not is_arc(geometry):
        centre = (geometry.source_to_detector - geometry.source_to_centre) * w + offset * u
        return np.concatenate([-geometry.source_to_centre * w, centre, step], 1), geometry.n_bins
    source, direction = geometry.rays()
    across = np.stack([direction[..., 1], -direction[..., 0]], -1) * geometry.bin_size
    parts = [source, source + geometry.source_to_detector * direction, across]
    return np.concatenate(parts, -1).reshape(-1, 6), 1
