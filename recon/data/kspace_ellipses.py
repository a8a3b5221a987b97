"""K-space of ellipses: exact, at any frequency, so that data and reconstruction never share a grid."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from .ellipses import Ellipses

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]


def ellipse_kspace(ellipses: Ellipses, k: Tensor, shape: tuple[int, int], pixel_size: float = 1.0) -> Tensor:
    """X(k) = n^(−½) Σ v · 2π a b · J₁(q)/q · exp(−i k·c), q = |(a k·ξ, b k·η)|, J₁(q)/q → ½ at q = 0.

    The Fourier integral n^(−½) ∫ f(r) exp(−i k·r) dr of the object itself, r in pixels from the centre of
    pixel (ny // 2, nx // 2), rows downwards: scaled as `operators.Fourier` is. The FFT of its raster differs
    by what pixels and aliasing change. Koay, Sarlls, Özarslan, Magn. Reson. Med. 58 (2007) 430, there in 3-D.

    ellipses : the object [mm]; a, b semi-axes along ξ, η, c centre, v value
    k : (*, 2), (k_y, k_x) [rad per pixel], as trajectories are
    shape : (ny, nx) of the reconstruction, n = ny · nx
    pixel_size : [mm]

    Returns (*), complex128.
    """
    if k.shape[-1:] != (2,) or not k.is_floating_point():
        raise ValueError(
            f"ellipse_kspace k: expected (*, 2) real [rad per pixel], got {k.dtype} {tuple(k.shape)}"
        )
    ky, kx = k.detach().cpu().double().numpy().reshape(-1, 2).T
    sum_ = np.zeros(len(ky), dtype=np.complex128)
    for weight, row, column, along, across in _in_pixels(ellipses, shape, pixel_size):
        q = np.hypot(along[0] * ky + along[1] * kx, across[0] * ky + across[1] * kx)
        sum_ += weight * _jinc(q) * np.exp(-1j * (ky * row + kx * column))
    return torch.from_numpy(sum_.reshape(k.shape[:-1]))


def half_step_kspace(
    ellipses: Ellipses, shape: tuple[int, int], half: tuple[int, int], pixel_size: float = 1.0
) -> Complex:
    """X(π m_y/ny, π m_x/nx), m = −half … half: twice as fine as the grid, (2·half_y + 1, 2·half_x + 1).

    Real objects have X(−k) = conj X(k), so half of it is computed. Arguments as in `ellipse_kspace`.
    """
    ky: Array = np.arange(half[0] + 1, dtype=np.float64) * (math.pi / shape[0])
    kx: Array = np.arange(-half[1], half[1] + 1, dtype=np.float64) * (math.pi / shape[1])
    upper = np.zeros((len(ky), len(kx)), dtype=np.complex128)
    placed = _in_pixels(ellipses, shape, pixel_size)
    # |q| ≤ |k| · the longer semi-axis, and one step of the table beyond
    reach = max((max(math.hypot(*along), math.hypot(*across)) for *_, along, across in placed), default=0.0)
    table = _jinc_table(2 ** math.ceil(math.log2(reach * math.hypot(ky[-1], kx[-1]) + 2)))
    for weight, row, column, along, across in placed:
        # the shift is separable: one phase a row and one a column
        rows, columns = weight * np.exp(-1j * row * ky), np.exp(-1j * column * kx)
        _add(upper, rows, columns, along[0] * ky, along[1] * kx, across[0] * ky, across[1] * kx, table)
    return np.concatenate([upper[:0:-1, ::-1].conj(), upper])


def modulated_kspace(
    ellipses: Ellipses,
    k: Tensor,
    kappa: Tensor,
    weights: Tensor,
    shape: tuple[int, int],
    pixel_size: float = 1.0,
) -> Tensor:
    """Σⱼ a_cj X(k − κⱼ): `ellipse_kspace` at every shift at once, J₁(q)/q from a table.

    k (samples, 2), κ (shifts, 2) [rad per pixel], a (fields, shifts) complex; the rest as `ellipse_kspace`.

    Returns (fields, samples), complex128.
    """
    total = np.zeros((len(weights), len(k)), dtype=np.complex128)
    placed = _in_pixels(ellipses, shape, pixel_size)
    if not placed or not len(k):
        return torch.from_numpy(total)
    value, centre, along, across = (
        np.array(part) for part in zip(*((w, (r, c), a, b) for w, r, c, a, b in placed), strict=True)
    )
    shifts = kappa.numpy()
    longest = max(np.hypot(*along.T).max(), np.hypot(*across.T).max())
    farthest = np.hypot(*k.numpy().T).max() + np.hypot(*shifts.T).max()
    table = _jinc_table(2 ** math.ceil(math.log2(longest * farthest + 2)))
    # exp(−i (k − κ)·c) is a phase per sample times one per shift
    turns = np.exp(1j * centre @ shifts.T)
    size = along @ shifts.T, across @ shifts.T
    _add_shifted(total, k.numpy(), weights.numpy(), value, centre, along, across, turns, *size, table)
    return torch.from_numpy(total)


def _in_pixels(
    ellipses: Ellipses, shape: tuple[int, int], pixel_size: float
) -> list[tuple[float, float, float, tuple[float, float], tuple[float, float]]]:
    """(n^(−½) v 2π a b, row, column, a ξ, b η) of every ellipse, (row, column) from pixel n // 2."""
    if len(shape) != 2 or min(shape) < 1 or not pixel_size > 0:
        raise ValueError(
            f"k-space of ellipses: expected a shape (ny, nx) and a positive pixel_size [mm], got {shape}, "
            f"{pixel_size}"
        )
    middle = [(n - 1) / 2 - n // 2 for n in shape]
    rows = []
    for e in ellipses:
        a, b = (s / pixel_size for s in e.semi_axes)
        c, s = math.cos(e.angle), math.sin(e.angle)
        weight = e.value * 2 * math.pi * a * b / math.sqrt(math.prod(shape))
        row, column = middle[0] - e.centre[1] / pixel_size, middle[1] + e.centre[0] / pixel_size
        rows.append((weight, row, column, (-a * s, a * c), (-b * c, -b * s)))
    return rows


def _jinc(q: Array) -> Array:
    """J₁(q)/q."""
    from scipy.special import j1  # torch.special.bessel_j1 errs by 5e-7 around 5, in float64 too

    safe = np.maximum(q, 1e-9)  # J₁(q)/q = ½ − q²/16 + …
    return j1(safe) / safe


STEPS = 128  # of the table, per unit of q: cubic Hermite errs by (1/128)⁴/384 · max|f⁗| = 6e-13


@lru_cache(maxsize=4)
def _jinc_table(end: int) -> Array:
    """J₁(q)/q and its derivative −J₂(q)/q, at q = 0 … end, times the step, (end · STEPS + 1, 2)."""
    from scipy.special import jv

    q = np.maximum(np.arange(end * STEPS + 1) / STEPS, 1e-9)
    return np.stack([_jinc(q), -jv(2, q) / q / STEPS], -1)


@njit(cache=True, nogil=True, inline="always")
def _looked_up(q: float, table: Array) -> float:
    """J₁(q)/q, cubic between the table's values and slopes."""
    place = q * STEPS
    n = int(place)
    t = place - n
    f0, d0, f1, d1 = table[n, 0], table[n, 1], table[n + 1, 0], table[n + 1, 1]
    rise = f1 - f0
    return f0 + t * (d0 + t * (3 * rise - 2 * d0 - d1 + t * (d0 + d1 - 2 * rise)))  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _add(
    total: Complex,
    rows: Complex,
    columns: Complex,
    along_y: Array,
    along_x: Array,
    across_y: Array,
    across_x: Array,
    table: Array,
) -> None:
    """total += J₁(q)/q · rows ⊗ columns, q = |(along_y + along_x, across_y + across_x)|, from the table."""
    for i in range(len(rows)):
        for j in range(len(columns)):
            u, v = along_y[i] + along_x[j], across_y[i] + across_x[j]
            total[i, j] += _looked_up(np.sqrt(u * u + v * v), table) * rows[i] * columns[j]


@njit(cache=True, nogil=True)
def _add_shifted(
    total: Complex,
    k: Array,
    weights: Complex,
    value: Array,
    centre: Array,
    along: Array,
    across: Array,
    turns: Complex,
    shift_u: Array,
    shift_v: Array,
    table: Array,
) -> None:
    """total[c, i] += Σⱼ weights[c, j] Σₑ value J₁(q)/q exp(−i (kᵢ − κⱼ)·centre), q at kᵢ − κⱼ."""
    spectrum = np.empty(turns.shape[1], dtype=np.complex128)
    for i in range(len(k)):
        ky, kx = k[i]
        spectrum[:] = 0
        for e in range(len(value)):
            phase = value[e] * np.exp(-1j * (ky * centre[e, 0] + kx * centre[e, 1]))
            u0, v0 = along[e, 0] * ky + along[e, 1] * kx, across[e, 0] * ky + across[e, 1] * kx
            for j in range(len(spectrum)):
                u, v = u0 - shift_u[e, j], v0 - shift_v[e, j]
                spectrum[j] += _looked_up(np.sqrt(u * u + v * v), table) * (phase * turns[e, j])
        for c in range(len(weights)):
            for j in range(len(spectrum)):
                total[c, i] += weights[c, j] * spectrum[j]
