"""Paths through k-space [rad per pixel], in the order of the axes: (ky, kx) or (kz, ky, kx), within [−π, π].

Every one comes in shots, (shots, readout, 2|3), float64, as `NonUniformFourier` takes it. Samples closer than
2π/n alias nothing in an image of n pixels a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_ROUNDING = 1e-4  # how far over π, relatively, a trajectory may reach


def golden_angles(count: int, order: int = 1) -> Tensor:
    """θ_s = s π / (τ + N − 1) mod π, τ = (1 + √5)/2, [rad]: golden (N = 1, 111.246°) and tiny golden angles.

    Winkelmann, Schaeffter, Koehler, Eggers, Doessel, IEEE Trans. Med. Imaging 26 (2007); tiny ones, as
    23.628° for N = 7, Wundrak et al., IEEE Trans. Med. Imaging 34 (2015). Returns (count,).
    """
    _positive("golden_angles", count=count, order=order)
    step = math.pi / ((1 + math.sqrt(5)) / 2 + order - 1)
    return torch.arange(count, dtype=torch.float64) * step % math.pi


def radial(spokes: int, readout: int, angles: str | Sequence[float] | Tensor = "uniform") -> Tensor:
    """k(s, t) = 2π (t − m // 2)/m · (sin θ_s, cos θ_s): full spokes through the centre, m = readout.

    Nyquist: π/2 · n spokes for an image of n pixels a side, and readout = n; 2 n is usual.

    angles  [rad] from the kx axis towards ky: "uniform", θ_s = π s / spokes, "golden", 111.246° apart, or
            one per spoke, as `golden_angles(spokes, order=7)`

    Returns (spokes, readout, 2).
    """
    _positive("radial", spokes=spokes, readout=readout)
    theta = _angles("radial", spokes, angles)
    direction = torch.stack([theta.sin(), theta.cos()], -1)
    return _line(readout)[:, None] * direction[:, None]


def spiral(interleaves: int, readout: int, turns: float, power: float = 1.0) -> Tensor:
    """k = π (θ/Θ)^p exp(i θ), θ from 0 to Θ = 2π·turns, sampled at equal distances along the path.

    Archimedean for p = 1; p > 1 is denser at the centre (variable density, as Kim, Adalsteinsson, Spielman,
    Magn. Reson. Med. 50, 2003). Interleaves are turned by 2π / interleaves.
    Nyquist for p = 1: turns · interleaves ≥ n/2, and readout ≥ n/2 · π · turns.

    turns  of one interleaf from the centre to π
    power  p ≥ 1

    Returns (interleaves, readout, 2).
    """
    _positive("spiral", interleaves=interleaves, readout=readout, turns=turns)
    if power < 1:
        raise ValueError(f"spiral power: expected 1 or more, got {power}")
    t = torch.linspace(0, 1, 64 * readout + 1, dtype=torch.float64)
    path = math.pi * t**power * torch.exp(2j * math.pi * turns * t)
    length = torch.cat([t.new_zeros(1), path.diff().abs().cumsum(0)])
    wanted = torch.arange(readout, dtype=torch.float64) / readout * length[-1]
    at = torch.searchsorted(length, wanted).clamp(1, len(t) - 1)
    part = (wanted - length[at - 1]) / (length[at] - length[at - 1])
    t = t[at - 1] + part * (t[at] - t[at - 1])
    turn = 2 * math.pi * torch.arange(interleaves, dtype=torch.float64)[:, None] / interleaves
    return _polar(math.pi * t**power, 2 * math.pi * turns * t + turn)


def rosette(shots: int, readout: int, petals: float = 8.0) -> Tensor:
    """k = π sin(2π p t) exp(i (2π t + φ_s)), t from 0 to 1: p = petals, φ_s = π s / (p · shots).

    Crosses the centre 2 p times a shot. Noll, IEEE Trans. Med. Imaging 16 (1997).

    Returns (shots, readout, 2).
    """
    _positive("rosette", shots=shots, readout=readout, petals=petals)
    t = torch.arange(readout, dtype=torch.float64) / readout
    turn = math.pi * torch.arange(shots, dtype=torch.float64)[:, None] / (petals * shots)
    return _polar(math.pi * torch.sin(2 * math.pi * petals * t), 2 * math.pi * t + turn)


def stack_of_stars(
    spokes: int, readout: int, partitions: int, angles: str | Sequence[float] | Tensor = "uniform"
) -> Tensor:
    """Radial in (ky, kx), Cartesian in kz = 2π (p − P // 2)/P; partition by partition.

    Nyquist: π/2 · n spokes a partition, P = nz partitions. Returns (partitions · spokes, readout, 3).
    """
    star = radial(spokes, readout, angles)
    _positive("stack_of_stars", partitions=partitions)
    kz = _line(partitions)[:, None, None, None].expand(partitions, spokes, readout, 1)
    return torch.cat([kz, star.expand(partitions, *star.shape)], -1).flatten(0, 1)


def koosh_ball(spokes: int, readout: int) -> Tensor:
    """Full spokes through the centre of a ball, k_z/|k| = s·b² mod 1, azimuth = 2π s·b, b³ + b = 1.

    The two-dimensional golden means b² = 0.4656, b = 0.6823: any number of successive spokes covers the ball
    evenly. Chan, Ramsay, Cheung, Plewes, Magn. Reson. Med. 61 (2009).
    Nyquist: π/2 · n² spokes for n pixels a side. Returns (spokes, readout, 3).
    """
    _positive("koosh_ball", spokes=spokes, readout=readout)
    root = math.sqrt(1 / 4 + 1 / 27)
    b = (0.5 + root) ** (1 / 3) - (root - 0.5) ** (1 / 3)  # Cardano
    s = torch.arange(spokes, dtype=torch.float64)
    z, azimuth = s * b**2 % 1, 2 * math.pi * (s * b % 1)
    flat = (1 - z**2).sqrt()
    direction = torch.stack([z, flat * azimuth.sin(), flat * azimuth.cos()], -1)
    return _line(readout)[:, None] * direction[:, None]


def cartesian(mask: Tensor) -> Tensor:
    """k = 2π (j − n_d // 2)/n_d where the mask is not zero, row by row; mask (ny, nx) or (nz, ny, nx).

    `NonUniformFourier(mask.shape, cartesian(mask))` is the sampled part of `Fourier`. Returns (samples, 2|3).
    """
    if mask.ndim not in (2, 3) or not bool((mask != 0).any()):
        raise ValueError(
            f"cartesian mask: expected (ny, nx) or (nz, ny, nx), not 0 somewhere, got {tuple(mask.shape)}"
        )
    sizes = torch.tensor(mask.shape, device=mask.device)
    return 2 * math.pi * (torch.nonzero(mask) - sizes // 2).double() / sizes


def check_trajectory(name: str, k: Tensor) -> None:
    """A trajectory is real, finite, ([shots,] samples, 2|3), and stays within [−π, π]."""
    if not isinstance(k, Tensor) or not k.is_floating_point():
        got = k.dtype if isinstance(k, Tensor) else type(k).__name__
        raise ValueError(f"{name}: expected a floating-point tensor [rad per pixel], got {got}")
    if k.ndim not in (2, 3) or k.shape[-1] not in (2, 3) or not k.numel():
        raise ValueError(
            f"{name}: expected (samples, 2|3) or (shots, samples, 2|3), got {tuple(k.shape)}; "
            "components go last, in the order of the image's axes"
        )
    largest = float(k.detach().abs().max())
    if not math.isfinite(largest):
        raise ValueError(f"{name}: expected finite values, got NaN or inf")
    if largest > math.pi * (1 + _ROUNDING):
        raise ValueError(
            f"{name}: expected [rad per pixel] within [−π, π], the largest value is {largest:.6g}; it is "
            "cycles per pixel × 2π, or cycles per field of view × 2π / n"
        )


def _line(n: int) -> Tensor:
    return 2 * math.pi * (torch.arange(n, dtype=torch.float64) - n // 2) / n


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.sin(), radius * angle.cos()], -1)


def _angles(name: str, spokes: int, angles: str | Sequence[float] | Tensor) -> Tensor:
    if isinstance(angles, str):
        if angles not in ("uniform", "golden"):
            raise ValueError(f"{name} angles: expected 'uniform', 'golden' or one per spoke, got {angles!r}")
        if angles == "golden":
            return golden_angles(spokes)
        return math.pi * torch.arange(spokes, dtype=torch.float64) / spokes
    theta = torch.as_tensor(angles, dtype=torch.float64)
    if theta.shape != (spokes,) or not bool(torch.isfinite(theta).all()):
        raise ValueError(f"{name} angles: expected {spokes} finite numbers, got {tuple(theta.shape)}")
    return theta


def _positive(name: str, **values: float) -> None:
    for key, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} {key}: expected more than 0, got {value}")
