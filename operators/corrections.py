"""What is wrong with a real scanner: the axis is not where the detector's middle is, the detector is tilted.

Both are found from the projections alone, and put right by the geometry, never by moving data.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .geometry import FanBeam, ParallelBeam
from .vectors import ConeVectors, ParallelVectors
from .volume import ConeBeam, ParallelBeam3D

Array = NDArray[np.float64]
G = TypeVar("G", ParallelBeam, FanBeam, ParallelBeam3D, ConeBeam)
Method = Literal["auto", "symmetry", "moments"]


def centre_of_rotation(
    sinogram: Tensor,
    geometry: ParallelBeam | FanBeam,
    method: Method = "auto",
    search: float | None = None,
) -> Tensor:
    """The offset for which opposite rays agree: argmin_o Σ (p(ray) − p(same ray, from the other side))².

    "symmetry": the opposite of the ray at (θ, u) is (θ + π, −u), in a fan that at (θ, γ) is (θ + π − 2γ, −γ);
    it needs opposite views, or a full turn of even steps. "moments": the centre of mass of a parallel view
    moves as x cos θ + y sin θ (Helgason and Ludwig); it needs the whole object in every view and background
    zero. "auto": symmetry where it can be had.

    sinogram  line integrals (*batch, views, bins)
    geometry  of the scan; its own offset is where the search begins
    search    how far from it to look [mm]; by default an eighth of the detector

    Returns offsets [mm] as `ParallelBeam` and `FanBeam` take them, (*batch,), float64 on the CPU.
    """
    if not isinstance(geometry, ParallelBeam | FanBeam):
        raise ValueError(
            f"centre_of_rotation geometry: expected ParallelBeam or FanBeam, got {type(geometry).__name__}; "
            "give `recentred` a volume scan"
        )
    shape = geometry.sinogram_shape
    if tuple(sinogram.shape[-2:]) != shape:
        raise ValueError(
            f"centre_of_rotation sinogram: expected (*batch, {shape[0]}, {shape[1]}), got "
            f"{tuple(sinogram.shape)}"
        )
    if method not in ("auto", "symmetry", "moments"):
        raise ValueError(f"centre_of_rotation method: expected auto, symmetry or moments, got {method!r}")
    views = _Opposites.of(geometry)
    fan = isinstance(geometry, FanBeam)
    if method == "moments" and fan:
        raise ValueError(
            "centre_of_rotation method: 'moments' is for parallel beams; use 'symmetry' for fans"
        )
    if views is None and (method == "symmetry" or fan):
        raise ValueError(
            "centre_of_rotation angles: expected opposite views, or a full turn in even steps, to "
            "compare rays with their opposites"
        )
    data = sinogram.detach().to("cpu", torch.float64).reshape(-1, *shape).numpy()
    if not np.isfinite(data).all():
        raise ValueError("centre_of_rotation sinogram: expected finite line integrals, got NaN or inf")
    reach = geometry.n_bins * geometry.bin_size / 8 if search is None else search
    if views is None or method == "moments":
        found = [_by_moments(p, geometry) for p in data]
    else:
        found = [views.offset(p, geometry, reach) for p in data]
    return torch.tensor(found, dtype=torch.float64).reshape(sinogram.shape[:-2])


def recentred(geometry: G, projections: Tensor, method: Method = "auto", search: float | None = None) -> G:
    """The geometry with the offset that `centre_of_rotation` finds in the projections of one object.

    Of a volume scan the middle row is looked at, through which the plane of the source passes.

    projections  line integrals, one scan (*geometry.out_shape)
    """
    if tuple(projections.shape) != geometry.out_shape:
        raise ValueError(
            f"recentred projections: expected {geometry.out_shape}, got {tuple(projections.shape)}"
        )
    if isinstance(geometry, ParallelBeam | FanBeam):
        return replace(geometry, offset=float(centre_of_rotation(projections, geometry, method, search)))
    if isinstance(geometry, ConeBeam) and geometry.pitch:
        raise ValueError("recentred geometry: a helix has no opposite rays in one plane; scan a circle")
    row = int(np.abs(geometry.rows()).argmin())
    found = centre_of_rotation(projections[:, row], _slice(geometry), method, search)
    return replace(geometry, offset=(geometry.offset[0], float(found)))


def tilted(
    geometry: ParallelBeam3D | ConeBeam | ParallelVectors | ConeVectors,
    rotation: float = 0.0,
    tilt: float = 0.0,
    slant: float = 0.0,
) -> ParallelVectors | ConeVectors:
    """The scan with its detector turned about its own middle by R_w(rotation) R_u(tilt) R_v(slant).

    w points away from the source (along parallel rays), u from column to column, v from row to row.

    rotation  in its own plane, about w: u turns towards v [rad]
    tilt      about u: the rows of large v lean away from the source [rad]
    slant     about v: the columns of large u lean away from the source [rad]
    """
    f = geometry.frames()
    w = f.outward()
    basis = np.stack([a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (f.u, f.v, w)], -1)
    c, s = np.cos([rotation, tilt, slant]), np.sin([rotation, tilt, slant])
    in_plane = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
    about_u = np.array([[1, 0, 0], [0, c[1], -s[1]], [0, s[1], c[1]]])
    about_v = np.array([[c[2], 0, -s[2]], [0, 1, 0], [s[2], 0, c[2]]])
    turn = basis @ (in_plane @ about_u @ about_v) @ np.linalg.inv(basis)
    u, v = (turn @ f.u[..., None])[..., 0], (turn @ f.v[..., None])[..., 0]
    grid = (geometry.volume_shape, geometry.voxel_size, geometry.detector_grid)
    if f.parallel:
        return ParallelVectors(*grid, f.source, f.centre, u, v)
    return ConeVectors(*grid, f.source, f.centre, u, v, f.radius)


def detector_rotation(
    projections: Tensor, geometry: ParallelBeam3D, search: float = 0.1
) -> tuple[float, float]:
    """(rotation, offset) for which views mirror their opposites: argmin Σ (p_θ(u, v) − p_θ₊π(−u, v))².

    u and v are level and upright, the pixels of a detector rotated as by `tilted`. For
    tilted(replace(geometry, offset=(…, offset)), rotation=rotation).

    projections  line integrals of one parallel scan (views, rows, columns), some views with opposites
    search       how large a rotation may be [rad]

    Returns the rotation [rad] and the offset at the middle of the detector [mm].
    """
    if not isinstance(geometry, ParallelBeam3D):
        raise ValueError(
            f"detector_rotation geometry: expected ParallelBeam3D, got {type(geometry).__name__}"
        )
    if tuple(projections.shape) != geometry.out_shape or geometry.detector_shape[0] < 2:
        raise ValueError(
            f"detector_rotation projections: expected {geometry.out_shape} with two rows or more, got "
            f"{tuple(projections.shape)}"
        )
    opposites = _Opposites.of(_slice(geometry))
    pairs = [] if opposites is None else opposites.pairs(len(projections))
    if not pairs:
        raise ValueError("detector_rotation angles: expected views half a turn apart")
    from scipy.optimize import minimize

    data = projections.detach().to("cpu", torch.float64).numpy()
    stacks = [_Mirror(data[a], data[b], geometry) for a, b in pairs[:: max(len(pairs) // 12, 1)]]
    start = float(recentred(geometry, projections).offset[1])

    def mismatch(parameters: Array) -> float:
        return sum(
            s.mismatch(float(parameters[0]) * pitch / reach, float(parameters[1]) * pitch) for s in stacks
        )

    pitch, reach = geometry.detector_pixel_size[1], abs(geometry.rows() - geometry.offset[0]).max()
    coarse = [(angle * reach / pitch, start / pitch) for angle in np.linspace(-search, search, 21)]
    best = np.array(min(coarse, key=lambda c: mismatch(np.array(c))))
    simplex = best + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # a pixel at the detector's edge each
    options = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-12}
    found = minimize(mismatch, best, method="Nelder-Mead", options=options).x
    return float(found[0]) * pitch / reach, float(found[1]) * pitch


def _slice(geometry: ParallelBeam3D | ConeBeam) -> ParallelBeam | FanBeam:
    """The scan of the plane z = 0."""
    shape, size = geometry.volume_shape[1:], geometry.voxel_size[2]
    grid = ((shape[0], shape[1]), size, geometry.angles)
    columns = (geometry.detector_shape[1], geometry.detector_pixel_size[1])
    offset = geometry.offset[1]
    if isinstance(geometry, ParallelBeam3D):
        return ParallelBeam(*grid, *columns, offset=offset)
    distances = (geometry.source_to_centre, geometry.source_to_detector)
    return FanBeam(*grid, *columns, *distances, detector=geometry.detector, offset=offset)


class _Opposites:
    """Views to compare, and where among the views their opposites are."""

    def __init__(self, views: list[int], there: Array, step: float):
        self.views, self.there, self.step = np.array(views), there, step

    @classmethod
    def of(cls, geometry: ParallelBeam | FanBeam) -> _Opposites | None:
        """None where the scan has no opposite rays."""
        angles, n = np.asarray(geometry.angles), geometry.views
        step = (angles[-1] - angles[0]) / max(n - 1, 1)
        turn = n > 2 and bool(np.allclose(np.diff(angles), step, rtol=0, atol=1e-4 * abs(step)))
        if turn and math.isclose(abs(step) * n, 2 * math.pi, rel_tol=1e-3):
            views = np.arange(0, n, max(n // 90, 1))
            return cls(views.tolist(), views + math.pi / step, step)
        if isinstance(geometry, FanBeam):
            return None
        apart = np.abs((angles[None] - angles[:, None]) % (2 * math.pi) - math.pi)
        views, there = np.nonzero(apart < 1e-3)  # a thousandth of a radian moves no edge by half a bin
        return cls(views.tolist(), there.astype(np.float64), math.inf) if len(views) else None

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """Views exactly half a turn apart."""
        exact = np.abs(self.there - np.round(self.there)) < 0.01
        found = zip(self.views[exact], np.round(self.there[exact]).astype(int) % n, strict=True)
        return [(int(a), int(b)) for a, b in found]

    def offset(self, p: Array, geometry: ParallelBeam | FanBeam, reach: float) -> float:
        """The offset of least mismatch within ±reach of the geometry's own [mm]."""
        from scipy.ndimage import gaussian_filter1d, spline_filter
        from scipy.optimize import minimize_scalar

        # a blurred sinogram is as symmetric, and interpolating it does not prefer any position
        p = gaussian_filter1d(p, 1.0, axis=1, mode="nearest")
        wrapped = np.concatenate([p[-_PAD:], p, p[:_PAD]])
        spline = spline_filter(wrapped, order=3, mode="nearest")

        def mismatch(offset: float) -> float:
            return self._mismatch(p, spline, geometry, offset)

        pitch = geometry.bin_size
        coarse = geometry.offset + np.arange(-reach, reach + pitch / 4, pitch / 2)
        best = coarse[int(np.argmin([mismatch(o) for o in coarse]))]
        fine = minimize_scalar(
            mismatch, bounds=(best - pitch, best + pitch), method="bounded", options={"xatol": 1e-4 * pitch}
        )
        return float(fine.x)

    def _mismatch(self, p: Array, spline: Array, geometry: ParallelBeam | FanBeam, offset: float) -> float:
        from scipy.ndimage import map_coordinates

        moved = replace(geometry, offset=offset)
        column = (-2 * offset - (moved.bins() - offset)) / geometry.bin_size + (geometry.n_bins - 1) / 2
        view = np.broadcast_to(self.there[:, None], (len(self.views), geometry.n_bins))
        if isinstance(moved, FanBeam):
            view = view - 2 * moved.fan_angles() / self.step
        inside = (column >= 0) & (column <= geometry.n_bins - 1)
        here = p[self.views][:, inside]
        places = np.stack([view % len(p) + _PAD, np.broadcast_to(column, view.shape)])[..., inside]
        there = map_coordinates(spline, places, order=3, mode="nearest", prefilter=False)
        size = float((here**2 + there**2).sum())
        return float(((here - there) ** 2).sum()) / size if size else math.inf


class _Mirror:
    """A parallel view and its opposite, on a detector that may be rotated."""

    def __init__(self, here: Array, there: Array, geometry: ParallelBeam3D):
        from scipy.ndimage import gaussian_filter, spline_filter

        self.here = gaussian_filter(here, 1.0, mode="nearest")
        self.spline = spline_filter(gaussian_filter(there, 1.0, mode="nearest"), order=3, mode="nearest")
        v, u = geometry.rows() - geometry.offset[0], geometry.columns() - geometry.offset[1]
        self.v, self.u = np.meshgrid(v, u, indexing="ij")
        self.pitch = np.array(geometry.detector_pixel_size)[:, None, None]
        self.last = np.array(here.shape)[:, None, None] - 1

    def mismatch(self, rotation: float, offset: float) -> float:
        from scipy.ndimage import map_coordinates

        c, s = math.cos(rotation), math.sin(rotation)
        level, upright = offset + c * self.u - s * self.v, s * self.u + c * self.v
        across = -level - offset
        place = np.stack([c * upright - s * across, c * across + s * upright]) / self.pitch + self.last / 2
        inside = ((place >= 0) & (place <= self.last)).all(0)
        here = self.here[inside]
        there = map_coordinates(self.spline, place[:, inside], order=3, mode="nearest", prefilter=False)
        size = float((here**2 + there**2).sum())
        return float(((here - there) ** 2).sum()) / size if size else math.inf


_PAD = 12  # views repeated at either end, past which a cubic spline forgets


def _by_moments(p: Array, geometry: ParallelBeam | FanBeam) -> float:
    mass = p.sum(1)
    if geometry.views < 3 or not bool((mass > 0).all()):
        raise ValueError(
            "centre_of_rotation sinogram: moments expect three views or more with something in each"
        )
    angles, s = np.asarray(geometry.angles), geometry.bins() - geometry.offset
    system = np.stack([np.cos(angles), np.sin(angles), -np.ones_like(angles)], 1)
    return float(np.linalg.lstsq(system, p @ s / mass, rcond=None)[0][2])
