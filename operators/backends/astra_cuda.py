"""ASTRA's projectors on CUDA, through DLPack: tensors never leave the device. float32.

Everything runs as ASTRA's 3-D: a batch of parallel-beam images is a stack of slices, without a transposition;
fans are one-row cones, image after image; volumes come one after the other, and their projections, which
ASTRA keeps as (rows, views, columns), are transposed once a call. ASTRA's y runs the other way than ours in a
volume, so its geometries are mirrored. Its back projection only approximates the transpose, except for
detectors on an arc.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import FanBeam, Geometry, ParallelBeam, PlanarGeometry
from ..vectors import ConeVectors
from ..volume import ConeBeam, Frames, VolumeGeometry
from .astra import Handle, remembered, toolbox, usable_on_cuda

MIRROR = np.array([1.0, -1.0, 1.0])


def project(x: Tensor, geometry: VolumeGeometry) -> Tensor:
    """A x: (batch, nz, ny, nx) -> (batch, views, rows, columns)."""
    x = checked(x)
    y = x.new_empty(len(x), *geometry.out_shape)
    views, rows, columns = geometry.out_shape
    for volume, projections in zip(x, y, strict=True):
        if rows == 1:
            _call("direct_FP", volume, projections.view(1, views, columns), geometry, 1)
            continue
        turned = x.new_empty(rows, views, columns)
        _call("direct_FP", volume, turned, geometry, 1)
        projections.copy_(turned.transpose(0, 1))
    return y


def backproject(y: Tensor, geometry: VolumeGeometry) -> Tensor:
    """About A*y: (batch, views, rows, columns) -> (batch, nz, ny, nx)."""
    y = checked(y)
    x = y.new_empty(len(y), *geometry.in_shape)
    for projections, volume in zip(y, x, strict=True):
        _call("direct_BP", projections.transpose(0, 1).contiguous(), volume, geometry, 1)
    return x


def run(direction: str, source: Tensor, target: Tensor, geometry: PlanarGeometry) -> None:
    """One of "direct_FP" and "direct_BP" for a batch of images or sinograms on the device."""
    slices = len(source) if isinstance(geometry, ParallelBeam) else 1
    for k in range(0, len(source), slices):
        _call(direction, source[k : k + slices], target[k : k + slices], geometry, slices)


def checked(x: Tensor, backend: str = "astra") -> Tensor:
    """`x` as ASTRA can take it from the device."""
    who = f"XRay backend {backend!r}"
    if not x.is_cuda:
        raise ValueError(f"{who} has volumes on CUDA only, got a tensor on {x.device}: use backend='auto'")
    if x.dtype != torch.float32:
        raise ValueError(f"{who} computes in float32, got {x.dtype}: use x.float()")
    if not usable_on_cuda():  # without a device ASTRA's 3-D ends the interpreter
        raise ValueError(f"{who} finds no CUDA device: use backend='auto', or x.cpu()")
    return x.detach().resolve_neg().contiguous()


def _call(direction: str, source: Tensor, target: Tensor, geometry: Geometry, slices: int) -> None:
    astra, device = toolbox(), source.device
    astra.set_gpu_index(device.index)
    if torch.cuda.current_stream(device) != torch.cuda.default_stream(device):
        torch.cuda.current_stream(device).synchronize()  # ASTRA knows the default stream only
    # a failed call says nothing and writes nothing: one corner tells
    mark = target.view(-1)[:1].fill_(torch.nan)
    number = remembered((geometry, slices, device.index), lambda: _create(geometry, slices, device.index))
    getattr(astra.projector3d, direction)(number, source, out=target)
    if bool(mark.isnan()) and not bool(source.isnan().any()):
        raise RuntimeError(f"ASTRA left the result of {direction} on {device} unwritten (out of memory?)")


def _create(geometry: Geometry, slices: int, gpu: int) -> Handle:
    astra = toolbox()
    projections, volume, kernel = scene(geometry, slices)
    settings = astra.astra_dict("cuda3d")
    settings["ProjectionGeometry"], settings["VolumeGeometry"] = projections, volume
    settings["option"] = {"GPUIndex": gpu, **({"ProjectionKernel": kernel} if kernel else {})}
    return Handle(astra.projector3d.delete, astra.projector3d.create(settings))


def scene(geometry: Geometry, slices: int) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """ASTRA's projection and volume geometry and its kernel; `slices` planar images as one volume."""
    astra = toolbox()
    frames = geometry.frames() if isinstance(geometry, VolumeGeometry) else _planar_frames(geometry)
    vectors = np.concatenate([MIRROR * a for a in (frames.source, frames.centre, frames.u, frames.v)], 1)
    if isinstance(geometry, VolumeGeometry):
        _, rows, columns = geometry.out_shape
        (nz, ny, nx), (depth, height, width) = geometry.volume_shape, geometry.extent
    else:
        rows, columns = slices, geometry.out_shape[1]
        (ny, nx), nz, depth = geometry.in_shape, slices, float(slices)
        height, width = geometry.in_shape[0] * geometry.spacing[0], geometry.in_shape[1] * geometry.spacing[1]
    kind = "parallel3d_vec" if frames.parallel else "cone_vec"
    kernel = "2d_weighting" if isinstance(geometry, FanBeam) else None
    if frames.radius is not None:
        kind, kernel = "cyl_cone_vec", "matched_bp"
        vectors = np.concatenate([vectors, np.full((len(vectors), 1), frames.radius)], 1)
    return (
        astra.create_proj_geom(kind, rows, columns, vectors),
        astra.create_vol_geom(
            ny, nx, nz, -width / 2, width / 2, -height / 2, height / 2, -depth / 2, depth / 2
        ),
        kernel,
    )


def has_exact_adjoint(geometry: Geometry) -> bool:
    """Whether ASTRA's back projection is the transpose of its projection: for arcs alone."""
    arc = isinstance(geometry, ConeBeam) and geometry.detector == "arc"
    return arc or (isinstance(geometry, ConeVectors) and geometry.radius is not None)


def _planar_frames(geometry: Geometry) -> Frames:
    """A planar scan as one of slices 1 mm thick."""

    def lifted(a: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([a, np.zeros((len(a), 1))], 1)

    assert isinstance(geometry, ParallelBeam | FanBeam)
    c, s = np.cos(geometry.angles), np.sin(geometry.angles)
    u, w = lifted(np.stack([c, s], -1)), lifted(np.stack([-s, c], -1))
    v = lifted(0 * u[:, :2])
    v[:, 2] = 1
    if isinstance(geometry, ParallelBeam):
        return Frames(True, -w, geometry.offset * u, geometry.bin_size * u, v)
    source = -geometry.source_to_centre * w
    centre = source + geometry.source_to_detector * w + geometry.offset * u
    return Frames(False, source, centre, geometry.bin_size * u, v)
