"""Analytic reconstruction of volumes: circular cone beam and parallel beam.

    x = Σ_v Δ_v W(v, x) (h ∗ [cos κ · w · y_v])(row(v, x), column(v, x))

Feldkamp, Davis and Kress, J. Opt. Soc. Am. A 1 (1984) 612: the fan-beam formula of `backprojection.py`, row
by row, with the cosine of the whole angle κ to the central ray, and back projection along the slanted rays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .backends import voxel
from .backprojection import ramp, redundancy, widened
from .base import LinearOperator
from .upright import Resampling, orbit_of
from .volume import ConeBeam, ParallelBeam3D, VolumeGeometry

WORK = 2**26  # [bytes] of filtered projections at one time


class VoxelBackprojection(LinearOperator):
    """(B q)(x) = Σ_v W(v, x) q_v(row, column), projections to volume, linear interpolation between pixels.

    W = 1 in parallel beam, (R/ℓ)² for a flat and (R/L)² for an arc detector, where R is source_to_centre, ℓ
    the depth of the voxel along the central ray and L its distance from the source within its slice. Its
    adjoint is its exact transpose; it is not itself the adjoint of `XRay`, which integrates along rays.

    Parameters
    ----------
    geometry : ParallelBeam3D or ConeBeam, on a circle or a helix; or ConeVectors and ParallelVectors with
        upright detectors
    """

    def __init__(self, geometry: VolumeGeometry):
        super().__init__()
        self.geometry = geometry
        self.orbit, resampling = orbit_of(geometry)
        if resampling is not None:
            raise ValueError(
                "VoxelBackprojection geometry: expected detectors with rows along z that face the axis; "
                "fdk resamples others first"
            )
        self.in_shape, self.out_shape = geometry.out_shape, geometry.in_shape

    def _forward(self, x: Tensor) -> Tensor:
        return voxel.backproject(_real(x, "VoxelBackprojection"), self.orbit)

    def _adjoint(self, y: Tensor) -> Tensor:
        return voxel.project(_real(y, "VoxelBackprojection"), self.orbit)

    @classmethod
    def examples(cls) -> list[VoxelBackprojection]:
        """Small ones: odd and anisotropic volumes, offsets, a helix, one row, every kind of detector."""
        angles = tuple(0.3 + 0.7 * k for k in range(9))
        return [
            cls(ParallelBeam3D((5, 7, 9), (0.9, 1.3, 1.1), angles, (6, 11), (0.8, 1.1), (0.2, 0.3))),
            cls(ConeBeam((6, 9, 6), 1.3, angles, (7, 13), 1.7, 30.0, 47.0, "flat", (0.4, -0.6))),
            cls(ConeBeam((5, 6, 9), (0.7, 1.3, 1.2), angles, (4, 12), (1.2, 1.7), 30.0, 47.0, "arc")),
            cls(ConeBeam((4, 5, 5), 1.0, angles, (1, 9), 1.7, 30.0, 47.0, pitch=2.0, start=-1.0)),
        ]


class Feldkamp(LinearOperator):
    """The map y ↦ x of `fdk`, with its exact transpose; in bounded memory, some views at a time.

    Parameters
    ----------
    geometry : 3-D, circular or nearly so
    filter, frequency_scaling, short_scan, slab : as for `fdk`
    """

    def __init__(
        self,
        geometry: VolumeGeometry,
        filter: str = "ram-lak",
        frequency_scaling: float = 1.0,
        short_scan: bool | None = None,
        slab: tuple[int, int] | None = None,
    ):
        super().__init__()
        _check_circle(geometry)
        nz = geometry.volume_shape[0]
        start, stop = _checked_slab(slab, nz)
        orbit, self.resampling = orbit_of(geometry)
        plane = orbit.plane()
        delta, w = redundancy(plane, short_scan)
        # the pitch at the axis, which the ramp is made for, may differ from view to view
        pitch = orbit.pixel[1] / orbit.magnification
        arc_step = 0.0 if getattr(plane, "detector", "flat") == "flat" else orbit.pixel[1] / orbit.distance[0]
        wide, self._before = widened(plane)
        after = wide.n_bins - plane.n_bins - self._before
        self.weights = (delta * pitch.mean() / pitch)[:, None] * w
        self.response = ramp(wide.n_bins, pitch.mean(), filter, frequency_scaling, arc_step)
        self.rows = slice(*orbit.slab(start, stop).rows_seen())
        self._measured = orbit.with_rows(self.rows.start, self.rows.stop)
        self.orbit = self._measured.slab(start, stop).with_columns(self._before, after)
        self.geometry, self.slab = geometry, (start, stop)
        self.in_shape, self.out_shape = geometry.out_shape, self.orbit.volume_shape

    def _forward(self, x: Tensor) -> Tensor:
        x = _real(x, "fdk")
        volume = x.new_zeros(len(x), *self.out_shape)
        for views in self.chunks(len(x), x.element_size()):
            self.accumulate(volume, x[:, views, self.read], views)
        return volume

    def _adjoint(self, y: Tensor) -> Tensor:
        y = _real(y, "fdk")
        x = y.new_zeros(len(y), *self.in_shape)
        for views in self.chunks(len(y), y.element_size()):
            q = self._filtered_adjoint(voxel.project(y, self.orbit.subset(views)), views)
            if self.resampling is None:
                x[:, views, self.rows] = q
            else:
                rows = q.new_zeros(*q.shape[:2], self.resampling.out_shape[1], q.shape[-1])
                rows[:, :, self.rows] = q
                x[:, views] = self.resampling.some_adjoint(rows, views)
        return x

    @property
    def read(self) -> slice:
        """Rows of the detector that the slab needs."""
        return self.rows if self.resampling is None else slice(None)

    def chunks(self, batch: int, itemsize: int, work: int = WORK) -> list[slice]:
        """Views in groups whose filtering fits into `work` bytes."""
        rows = self.rows.stop - self.rows.start
        # a padded transform, its product and the widened result exist together
        each = batch * rows * 2 * (len(self.response) - 1) * itemsize * 4
        step = max(1, work // each)
        return [slice(k, min(k + step, len(self.orbit))) for k in range(0, len(self.orbit), step)]

    def accumulate(self, volume: Tensor, y: Tensor, views: slice) -> None:
        """Add to the slab what these views, (batch, views, rows `read`, columns), give it."""
        if self.resampling is not None:
            y = self.resampling.some(y, views)[:, :, self.rows]
        voxel.backproject(self._filtered(y, views), self.orbit.subset(views), out=volume)

    def _filtered(self, y: Tensor, views: slice) -> Tensor:
        m = 2 * (len(self.response) - 1)
        spectrum = torch.fft.rfft(y * self._weights(views, y), n=m) * torch.as_tensor(self.response).to(y)
        return torch.fft.irfft(spectrum, n=m).roll(self._before, -1)[..., : self.orbit.detector_shape[1]]

    def _filtered_adjoint(self, q: Tensor, views: slice) -> Tensor:
        m = 2 * (len(self.response) - 1)
        padded = torch.nn.functional.pad(q, (0, m - q.shape[-1])).roll(-self._before, -1)
        y = torch.fft.irfft(torch.fft.rfft(padded) * torch.as_tensor(self.response).to(q), n=m)
        return y[..., : self._measured.detector_shape[1]] * self._weights(views, q)

    def _weights(self, views: slice, like: Tensor) -> Tensor:
        weights = torch.as_tensor(self.weights[views, None]).to(like)
        return weights * torch.as_tensor(self._measured.subset(views).cosines()).to(like)

    @classmethod
    def examples(cls) -> list[Feldkamp]:
        """Full and short scans, every detector, an offset one, a slab, one with tilted detectors."""
        turn, short = (tuple(k * a / 6 for k in range(6)) for a in (6.2831853, 4.5))
        grids = (3, 4, 5), (1.1, 0.9, 1.0)
        return [
            cls(ParallelBeam3D(*grids, short[:4], (4, 7), (1.0, 1.1), (0.1, 0.2)), "hann"),
            cls(ConeBeam(*grids, turn, (5, 8), (1.5, 1.7), 20.0, 35.0, "flat", (0.4, 2.0))),
            cls(ConeBeam(*grids, short, (5, 8), (1.5, 1.7), 20.0, 35.0, "arc"), slab=(1, 3)),
            cls(Resampling.examples()[0].geometry, "cosine", 0.8),
        ]


def fdk(
    A: LinearOperator | VolumeGeometry,
    y: Tensor,
    filter: str = "ram-lak",
    frequency_scaling: float = 1.0,
    short_scan: bool | None = None,
    slab: tuple[int, int] | None = None,
) -> Tensor:
    """x = Σ_v Δ_v W(v, x) (h ∗ [cos κ · w · y_v])(row(v, x), column(v, x)), in the units of x.

    Feldkamp, Davis and Kress (J. Opt. Soc. Am. A 1 (1984) 612) for cones on a circle; the slice-wise filtered
    back projection for parallel beams. Linear and differentiable in y, any number of times. Angles, short
    scans (Parker) and detectors off centre (Wang) are treated as by `fbp`.

    Exact in the plane of the source and for objects that do not change along z; elsewhere a circle does not
    see everything, values fall with the cone angle and level edges blur. A voxel whose shadow leaves the
    detector upwards or downwards at some views misses those views.

    Scans of vectors are taken if their sources are on a circle about z to 2 % of its radius. Detectors that
    are tilted, or look past the axis, are first resampled to upright ones (one linear interpolation).

    Parameters
    ----------
    A : an operator with a `geometry` (`XRay`), or the geometry: ParallelBeam3D, ConeBeam without pitch,
        ParallelVectors or ConeVectors
    y : line integrals, after the logarithm, (*batch, views, rows, columns), float32 or float64
    filter : "ram-lak", "shepp-logan", "cosine", "hamming" or "hann", see `ramp`
    frequency_scaling : cut-off as a fraction of the Nyquist frequency, in (0, 1]
    short_scan : cone beam: True Parker weights, False every ray measured twice, None as the angles say
    slab : (start, stop), reconstruct these slices alone; None all

    Returns
    -------
    x (*batch, nz, ny, nx) [1/mm], of a slab (*batch, stop − start, ny, nx)

    Raises
    ------
    ValueError : no 3-D geometry, a helix, sources off the circle, wrong shape or dtype, NaN or inf in y
    """
    geometry = volume_geometry_of(A)
    return _plan(geometry, filter, frequency_scaling, short_scan, slab)(checked(y, geometry.out_shape, "fdk"))


def fdk_by_slab(
    A: LinearOperator | VolumeGeometry,
    projections: NDArray[Any],
    volume: NDArray[Any],
    filter: str = "ram-lak",
    frequency_scaling: float = 1.0,
    short_scan: bool | None = None,
    memory: int = 2**30,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """volume ← `fdk` of projections, slab by slab, for arrays larger than memory, as np.memmap.

    Of the projections only the rows that a slab needs are read, some views at a time.

    Parameters
    ----------
    A, filter, frequency_scaling, short_scan : as for `fdk`
    projections : line integrals (views, rows, columns), float32 or float64
    volume : written to, (nz, ny, nx), of the same dtype
    memory : work space [bytes], on top of what the system caches of the two files
    progress : called after every slab with (slices done, nz)

    Raises
    ------
    ValueError : as for `fdk`; shapes or dtypes that do not fit; memory too small for one slice and one view
    """
    geometry = volume_geometry_of(A)
    for name, array, shape in (
        ("projections", projections, geometry.out_shape),
        ("volume", volume, geometry.in_shape),
    ):
        if array.shape != shape or array.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"fdk_by_slab {name}: expected a float32 or float64 array {shape}, got {array.dtype} "
                f"{array.shape}"
            )
    nz, itemsize = geometry.volume_shape[0], projections.dtype.itemsize
    slices = memory // (2 * itemsize * geometry.volume_shape[1] * geometry.volume_shape[2])
    if not slices:
        raise ValueError(f"fdk_by_slab memory [bytes]: {memory} is too small for one slice; give more")
    for start in range(0, nz, slices):
        slab = start, min(start + slices, nz)
        plan = Feldkamp(geometry, filter, frequency_scaling, short_scan, slab)
        part = torch.zeros(1, *plan.out_shape, dtype=torch.from_numpy(projections[:1, :1, :1].copy()).dtype)
        for views in plan.chunks(1, itemsize, memory // 4):
            y = torch.from_numpy(np.array(projections[views, plan.read]))
            plan.accumulate(part, checked(y, y.shape, "fdk_by_slab")[None], views)
        volume[slice(*slab)] = part[0].numpy()
        if progress is not None:
            progress(slab[1], nz)


def volume_geometry_of(A: LinearOperator | VolumeGeometry) -> VolumeGeometry:
    """The 3-D scanner geometry of A, or A itself if it is one."""
    geometry = A if isinstance(A, VolumeGeometry) else getattr(A, "geometry", None)
    if not isinstance(geometry, VolumeGeometry):
        raise ValueError(
            f"fdk A: expected an operator with a 3-D geometry (ParallelBeam3D, ConeBeam…), as XRay, got {A!r}"
        )
    return geometry


def checked(y: Tensor, shape: tuple[int, ...], who: str) -> Tensor:
    """y, if it is finite and real and ends in `shape`."""
    if not isinstance(y, Tensor) or y.dtype not in (torch.float32, torch.float64):
        got = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"{who} y: expected a float32 or float64 tensor, got {got}; convert it")
    if tuple(y.shape[y.ndim - len(shape) :]) != tuple(shape):
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{who} y: expected shape (*batch, {wanted}), got {tuple(y.shape)}")
    bad = int((~torch.isfinite(y)).sum())
    if bad:
        raise ValueError(
            f"{who} y: expected finite line integrals, got {bad} NaN or inf values of {y.numel()}; "
            "mend the starved rays first, as LowDose.linearise does"
        )
    return y


@lru_cache(maxsize=8)
def _plan(
    geometry: VolumeGeometry,
    filter: str,
    frequency_scaling: float,
    short_scan: bool | None,
    slab: tuple[int, int] | None,
) -> Feldkamp:
    """Remembered."""
    return Feldkamp(geometry, filter, frequency_scaling, short_scan, slab)


def _check_circle(geometry: VolumeGeometry) -> None:
    if isinstance(geometry, ConeBeam) and geometry.pitch != 0:
        raise ValueError(
            f"fdk A: expected a source on a circle, got a helix of pitch {geometry.pitch:g} mm; use fbp, "
            "which rebins it to fans slice by slice, or an iterative method, e.g. CGLS"
        )


def _checked_slab(slab: tuple[int, int] | None, nz: int) -> tuple[int, int]:
    if slab is None:
        return 0, nz
    start, stop = slab if isinstance(slab, Sequence) and len(slab) == 2 else (-1, -1)
    if not 0 <= start < stop <= nz:
        raise ValueError(f"fdk slab: expected 0 ≤ start < stop ≤ {nz}, got {slab!r}")
    return int(start), int(stop)


def _real(x: Tensor, who: str) -> Tensor:
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{who} expects float32 or float64, got {x.dtype}: convert it")
    return x
