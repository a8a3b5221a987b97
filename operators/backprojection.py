"""Filtered back projection of parallel and fan-beam data: filters, redundancy weights, back projection.

    x = Σ_v Δ_v W(v, x) (h ∗ [cos γ · w · y_v])(s(v, x))

with angular cells Δ_v, redundancy weights w that add to 1 over a ray and its conjugate, the ramp h and
the back projection W (`backends/pixel.py`): Kak and Slaney, Principles of Computerized Tomographic Imaging
(1988), ch. 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from .backends import pixel
from .base import LinearOperator
from .geometry import FanBeam, Geometry, ParallelBeam, PlanarGeometry
from .volume import ConeBeam, VolumeGeometry

Array = NDArray[np.float64]

WINDOWS = {
    "ram-lak": lambda r: np.ones_like(r),
    "shepp-logan": lambda r: np.sinc(r / 2),
    "cosine": lambda r: np.cos(math.pi * r / 2),
    "hamming": lambda r: 0.54 + 0.46 * np.cos(math.pi * r),
    "hann": lambda r: 0.5 + 0.5 * np.cos(math.pi * r),
}


class PixelBackprojection(LinearOperator):
    """(B q)(x) = Σ_v W(v, x) q_v(s(v, x)), sinogram to image, linear interpolation between bins.

    W = 1 in parallel beam, (R/ℓ)² for a flat and (R/L)² for an arc detector, where R is source_to_centre, ℓ
    the depth of the pixel along the central ray and L its distance from the source. Its adjoint is its exact
    transpose; it is not itself the adjoint of `XRay`, which integrates along rays.
    """

    def __init__(self, geometry: PlanarGeometry):
        super().__init__()
        self.geometry = geometry
        self.in_shape, self.out_shape = geometry.sinogram_shape, geometry.image_shape

    def _forward(self, x: Tensor) -> Tensor:
        return pixel.backproject(_real(x), self.geometry)

    def _adjoint(self, y: Tensor) -> Tensor:
        return pixel.project(_real(y), self.geometry)

    @classmethod
    def examples(cls) -> list[PixelBackprojection]:
        """Small ones: odd and non-square images, offsets, every kind of detector."""
        angles = tuple(0.3 + 0.7 * k for k in range(9))
        return [
            cls(ParallelBeam((7, 9), 1.3, angles, 11, 1.1)),
            cls(ParallelBeam((8, 5), 0.7, angles[::-1], 12, 0.5, offset=0.4)),
            cls(FanBeam((9, 6), 1.3, angles, 13, 1.7, 30.0, 47.0, "flat", offset=-0.6)),
            cls(FanBeam((6, 9), 1.3, angles, 12, 1.7, 30.0, 47.0, "arc", offset=0.3)),
        ]


def ramp(
    n: int, bin_size: float, filter: str = "ram-lak", frequency_scaling: float = 1.0, arc_step: float = 0.0
) -> Array:
    """H(f) = |f| · window(f / (frequency_scaling · f_N)), f_N = 1 / (2 bin_size); zero beyond the cut-off.

    |f| is the transform of h[0] = 1/(4τ²), h[odd k] = −1/(πkτ)², h[even k] = 0 (Kak and Slaney, ch. 3), not
    a sampled |f|, whose zero at f = 0 lowers the image. Windows of r = f / cut-off: ram-lak 1,
    shepp-logan sin(πr/2)/(πr/2), cosine cos(πr/2), hamming 0.54 + 0.46 cos πr, hann ½ + ½ cos πr.

    Parameters
    ----------
    n : bins of the projections to be filtered
    bin_size : τ [mm]
    filter : "ram-lak", "shepp-logan", "cosine", "hamming" or "hann"
    frequency_scaling : cut-off as a fraction of the Nyquist frequency, in (0, 1]; windows are stretched to it
    arc_step : angle α between bins of an equiangular fan [rad]; h[k] is multiplied by (kα / sin kα)²

    Returns
    -------
    The real response [1/mm] at the rfft frequencies of m ≥ 2n points, (m // 2 + 1,) with m even.
    """
    if filter not in WINDOWS:
        near = get_close_matches(str(filter).lower(), WINDOWS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(WINDOWS)}"
        raise ValueError(f"filter: no filter {filter!r}; {hint}")
    if not 0 < frequency_scaling <= 1:
        raise ValueError(f"frequency_scaling: expected a number in (0, 1], got {frequency_scaling!r}")
    m = 2 * scipy.fft.next_fast_len(max(n, 8), real=True)
    k = np.minimum(np.arange(m), m - np.arange(m))
    h = np.zeros(m)
    h[0] = 1 / (4 * bin_size**2)
    h[k % 2 == 1] = -1 / (math.pi * k[k % 2 == 1] * bin_size) ** 2
    # beyond n − 1 no sample is read; the factor stays constant there, since sin may vanish
    h /= np.sinc(np.minimum(k, n - 1) * arc_step / math.pi) ** 2
    response = np.fft.rfft(h).real * bin_size
    r = np.arange(m // 2 + 1) / (m // 2) / frequency_scaling
    return response * np.where(r <= 1 + 1e-12, WINDOWS[filter](np.minimum(r, 1)), 0)


def fbp(
    A: LinearOperator | Geometry,
    y: Tensor,
    filter: str = "ram-lak",
    frequency_scaling: float = 1.0,
    short_scan: bool | None = None,
) -> Tensor:
    """x = Σ_v Δ_v W(v, x) (h ∗ [cos γ · w · y_v])(s(v, x)), the filtered back projection, in the units of x.

    Linear and differentiable in y, any number of times. Angles may come in any order, begin anywhere and be
    unevenly spaced: a view counts for its Voronoi cell, modulo π in parallel beam, so that [0, π) and [0,
    2π) are both right, and modulo 2π in a full fan-beam scan. A gap more than twice as wide as the next one
    is not filled: that scan is a short one, or a limited-angle one, where rays that were not measured are
    taken as zero.

    A fan-beam scan of less than the full circle gets the weights of Parker (Med. Phys. 9 (1982) 254),
    widened to the range there is (Silver, Med. Phys. 27 (2000) 773). Below π + fan angle, rays without a
    partner count fully, those never measured are missing, and a part of the image has limited-angle
    artefacts. Where a detector off centre measures both of two conjugate rays, they share smoothly, as by
    Wang (Med. Phys. 29 (2002) 1634); with views over the full circle it so sees up to its farther end.

    Parameters
    ----------
    A : an operator with a `geometry` (`XRay`), or the geometry: ParallelBeam or FanBeam; of the geometries
        in three dimensions a helix is reconstructed by `helical_fbp`, every other one by `fdk`
    y : line integrals, after the logarithm, (*batch, views, bins), float32 or float64; of volumes (*batch,
        views, rows, columns)
    filter : "ram-lak", "shepp-logan", "cosine", "hamming" or "hann", see `ramp`
    frequency_scaling : cut-off as a fraction of the Nyquist frequency, in (0, 1]
    short_scan : fan beam: True Parker weights, False every ray measured twice, None as the angles say

    Returns
    -------
    x (*batch, ny, nx) [1/mm], volumes (*batch, nz, ny, nx)

    Raises
    ------
    ValueError : no geometry, wrong shape or dtype, NaN or inf in y, unknown filter
    """
    scan = A if isinstance(A, Geometry) else getattr(A, "geometry", None)
    if isinstance(scan, VolumeGeometry):
        return _volume_fbp(scan, y, filter, frequency_scaling, short_scan)
    geometry = geometry_of(A)
    y = _checked(y, geometry)
    plan = _plan(geometry, filter, frequency_scaling, short_scan)
    wide, before = plan.geometry, plan.before
    m = 2 * (len(plan.response) - 1)
    weighted = y * torch.as_tensor(plan.weights).to(y)
    spectrum = torch.fft.rfft(weighted, n=m) * torch.as_tensor(plan.response).to(y)
    filtered = torch.fft.irfft(spectrum, n=m).roll(before, -1)[..., : wide.n_bins]
    return PixelBackprojection(wide)(filtered)


def _volume_fbp(
    geometry: VolumeGeometry, y: Tensor, filter: str, frequency_scaling: float, short_scan: bool | None
) -> Tensor:
    from .feldkamp import fdk
    from .helical import helical_fbp

    if isinstance(geometry, ConeBeam) and geometry.pitch != 0:
        return helical_fbp(geometry, y, filter, frequency_scaling)
    return fdk(geometry, y, filter, frequency_scaling, short_scan)


def geometry_of(A: LinearOperator | Geometry) -> ParallelBeam | FanBeam:
    """The 2-D scanner geometry of A, or A itself if it is one."""
    geometry = A if isinstance(A, PlanarGeometry) else getattr(A, "geometry", None)
    if not isinstance(geometry, ParallelBeam | FanBeam):
        raise ValueError(
            "fbp A: expected an operator with a ParallelBeam or FanBeam geometry, or a 3-D one, as XRay, "
            f"got {A!r}; for other operators use an iterative method, e.g. CGLS"
        )
    return geometry


def redundancy(geometry: ParallelBeam | FanBeam, short_scan: bool | None = None) -> tuple[Array, Array]:
    """Angular cells Δ (views,) [rad] and weights w (views, bins) with w(ray) + w(conjugate ray) = 1.

    Conjugate to view θ, fan angle γ is view θ + π − 2γ, fan angle −γ. In a fan-beam short scan over a range
    Λ = π + 2Γ a ray at distance β from the range's beginning and β' from its end has

        P = sin²(π/2 · min(1, β / 2(Γ + γ))) · sin²(π/2 · min(1, β' / 2(Γ − γ)))

    (Parker's weights at Γ = half the fan angle; a ray without conjugate has P = 1); over a full circle P = ½.
    On a detector off centre, w = P d(u) / (P d(u) + (1 − P) d(−u)) with d a sin² rise from its nearer end.
    In parallel beam angles count modulo π and w = 1, except for a detector off centre over the full circle.
    """
    d = _taper(geometry)
    if isinstance(geometry, ParallelBeam):
        delta, _, full = _cells(geometry.angles, 2 * math.pi)
        if full and (d != 1).any():
            return delta, np.broadcast_to(_shared(np.array(0.5), d), geometry.sinogram_shape)
        delta, _, _ = _cells(geometry.angles, math.pi)
        return delta, np.ones(geometry.sinogram_shape)
    delta, beta, full = _cells(geometry.angles, 2 * math.pi)
    if short_scan is False or (short_scan is None and full):
        return delta, np.broadcast_to(_shared(np.array(0.5), d), geometry.sinogram_shape)
    if full:
        delta, beta, _ = _cells(geometry.angles, 2 * math.pi, opened=True)
    length = float(delta.sum())
    gamma, spare = geometry.fan_angles(), (length - math.pi) / 2
    P = _rise(beta[:, None], 2 * (spare + gamma)) * _rise(length - beta[:, None], 2 * (spare - gamma))
    return delta, _shared(P, d)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Weights (views, bins), the filter's response, and the wider `geometry`, with `before` bins in front."""

    weights: Array
    response: Array
    geometry: ParallelBeam | FanBeam
    before: int


@lru_cache(maxsize=32)
def _plan(
    geometry: ParallelBeam | FanBeam, filter: str, frequency_scaling: float, short_scan: bool | None
) -> _Plan:
    """What `fbp` does to data of this geometry; remembered."""
    delta, w = redundancy(geometry, short_scan)
    weights = delta[:, None] * w
    tau, alpha = geometry.bin_size, 0.0
    if isinstance(geometry, FanBeam):
        weights = weights * np.cos(geometry.fan_angles())
        tau *= geometry.source_to_centre / geometry.source_to_detector
        alpha = geometry.bin_size / geometry.source_to_detector if geometry.detector == "arc" else 0.0
    wide, before = widened(geometry)
    return _Plan(weights, ramp(wide.n_bins, tau, filter, frequency_scaling, alpha), wide, before)


def widened(geometry: ParallelBeam | FanBeam) -> tuple[ParallelBeam | FanBeam, int]:
    """A detector that sees the whole image, and the bins added before it, at most n_bins a side.

    Filtered projections do not end where the detector does: cut off there, a detector off centre goes wrong.
    """
    reach = math.hypot(*geometry.extent) / 2 / geometry.bin_size
    room = math.inf
    if isinstance(geometry, FanBeam):
        D = geometry.source_to_detector / geometry.bin_size
        gamma = math.asin(math.hypot(*geometry.extent) / 2 / geometry.source_to_centre)
        reach = D * (gamma if geometry.detector == "arc" else math.tan(gamma))
        # the last bin of an arc stays below 90°
        room = math.ceil(D * math.pi / 2) - 1 if geometry.detector == "arc" else math.inf
    u, n = geometry.bins() / geometry.bin_size, geometry.n_bins
    before = int(max(0, min(math.ceil(reach + u[0]), n, room + u[0])))
    after = int(max(0, min(math.ceil(reach - u[-1]), n, room - u[-1])))
    offset = geometry.offset + (after - before) / 2 * geometry.bin_size
    return replace(geometry, n_bins=n + before + after, offset=offset), before


def _cells(angles: tuple[float, ...], period: float, opened: bool = False) -> tuple[Array, Array, bool]:
    """Voronoi cell of every angle on a circle, its distance from the scan's beginning, and whether it closes.

    It does not close where one gap is more than twice the next one; the two views beside it then stand for as
    much on that side as on the other. Views at one angle share its cell. `opened`: it never closes.
    """
    turn = np.asarray(angles) / period
    # 2⁻⁴⁰ turns are one angle
    keys, where, count = np.unique(
        np.round((turn - np.floor(turn)) * 2**40) % 2**40, return_inverse=True, return_counts=True
    )
    position = keys / 2**40 * period
    if len(position) == 1:
        return np.full(len(angles), period / len(angles)), np.full(len(angles), period / 2), True
    gaps = np.diff(position, append=position[0] + period)
    widest = int(gaps.argmax())
    first = (widest + 1) % len(position)
    gaps, position = np.roll(gaps, -first), np.roll(position, -first)
    closed = not opened and gaps[-1] <= 2 * gaps[:-1].max() * (1 + 1e-9)
    before, after = np.roll(gaps, 1), gaps.copy()
    if not closed:
        before[0], after[-1] = after[0], before[-1]
    cell = (before + after) / 2
    begin = np.concatenate([[0.0], np.cumsum(gaps[:-1])]) + before[0] / 2
    where = (where.ravel() - first) % len(position)
    return (cell / np.roll(count, -first))[where], begin[where], closed


def _taper(geometry: ParallelBeam | FanBeam) -> Array:
    """d(u) and d(−u), (2, bins): a sin² rise at the nearer end, over four times the ends' difference."""
    u = geometry.bins()
    low, high = geometry.bin_size / 2 - u[0], geometry.bin_size / 2 + u[-1]
    near, excess = min(low, high), abs(high - low)
    if near <= 0:
        return np.stack([np.ones_like(u), np.zeros_like(u)])
    if excess <= 1e-9 * geometry.bin_size:
        return np.ones((2, len(u)))
    side = u if low < high else -u
    width = min(4 * excess, near)
    return np.stack([_rise(near + side, width), _rise(near - side, width)])


def _rise(distance: Array, width: Array | float) -> Array:
    """sin² from 0 to 1 over `width`; 1 where there is no width, 0 before."""
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(np.asarray(width) > 0, distance / np.asarray(width), 1.0)
    return np.sin(math.pi / 2 * np.clip(fraction, 0, 1)) ** 2


def _shared(P: Array, d: Array) -> Array:
    """P d(u) / (P d(u) + (1 − P) d(−u)), and 1 for a ray whose conjugate is not there."""
    own, other = P * d[0], (1 - P) * d[1]
    return np.where(other > 0, own / np.maximum(own + other, 1e-300), np.where(own > 0, 1.0, P))


def _checked(y: Tensor, geometry: PlanarGeometry) -> Tensor:
    if not isinstance(y, Tensor) or y.dtype not in (torch.float32, torch.float64):
        got = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"fbp y: expected a float32 or float64 tensor, got {got}; convert it")
    if tuple(y.shape[-2:]) != geometry.sinogram_shape:
        views, bins = geometry.sinogram_shape
        raise ValueError(f"fbp y: expected shape (*batch, {views}, {bins}), got {tuple(y.shape)}")
    bad = int((~torch.isfinite(y)).sum())
    if bad:
        raise ValueError(
            f"fbp y: expected finite line integrals, got {bad} NaN or inf values of {y.numel()}; "
            "mend the starved rays first, as LowDose.linearise does"
        )
    return y


def _real(x: Tensor) -> Tensor:
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"PixelBackprojection expects float32 or float64, got {x.dtype}: convert it")
    return x
