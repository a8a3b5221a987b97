"""Ellipsoids: objects whose voxels and line integrals in three dimensions are known exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from operators.volume import VolumeGeometry, lengths

Array = NDArray[np.float64]

_AT_ONCE = 2**20  # rays held while integrating

# value (original, modified), semi-axes, centre, Euler angles [degree], on [−1, 1]³
_SHEPP_LOGAN = (
    (2.00, 1.0, (0.69, 0.92, 0.81), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    (-0.98, -0.8, (0.6624, 0.874, 0.78), (0.0, -0.0184, 0.0), (0.0, 0.0, 0.0)),
    (-0.02, -0.2, (0.11, 0.31, 0.22), (0.22, 0.0, 0.0), (-18.0, 0.0, 10.0)),
    (-0.02, -0.2, (0.16, 0.41, 0.28), (-0.22, 0.0, 0.0), (18.0, 0.0, 10.0)),
    (0.01, 0.1, (0.21, 0.25, 0.41), (0.0, 0.35, -0.15), (0.0, 0.0, 0.0)),
    (0.01, 0.1, (0.046, 0.046, 0.05), (0.0, 0.1, 0.25), (0.0, 0.0, 0.0)),
    (0.01, 0.1, (0.046, 0.046, 0.05), (0.0, -0.1, 0.25), (0.0, 0.0, 0.0)),
    (0.01, 0.1, (0.046, 0.023, 0.05), (-0.08, -0.605, 0.0), (0.0, 0.0, 0.0)),
    (0.01, 0.1, (0.023, 0.023, 0.02), (0.0, -0.606, 0.0), (0.0, 0.0, 0.0)),
    (0.01, 0.1, (0.023, 0.046, 0.02), (0.06, -0.605, 0.0), (0.0, 0.0, 0.0)),
)


@dataclass(frozen=True)
class Ellipsoid:
    """value · 1[ (ξ/a)² + (η/b)² + (ζ/c)² ≤ 1 ], (ξ, η, ζ) the coordinates along the semi-axes.

    value : contrast, added to what lies beneath [1/mm]
    semi_axes : (a, b, c), along x, y, z before turning; three equal ones are a ball [mm]
    centre : (x, y, z), y upwards, z along the rotation axis, from the middle of the volume [mm]
    angles : Euler angles (φ, θ, ψ) of the axes, Rz(φ) Rx(θ) Rz(ψ) [rad]; φ alone turns about z
    """

    value: float
    semi_axes: tuple[float, float, float]
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("semi_axes", "centre", "angles"):
            triple = tuple(float(v) for v in getattr(self, name))
            if len(triple) != 3 or not all(map(math.isfinite, triple)):
                raise ValueError(f"Ellipsoid {name}: expected three finite numbers, got {triple}")
            object.__setattr__(self, name, triple)
        if min(self.semi_axes) <= 0:
            raise ValueError(f"Ellipsoid semi_axes [mm]: expected positive lengths, got {self.semi_axes}")
        if not math.isfinite(self.value):
            raise ValueError(f"Ellipsoid value [1/mm]: expected a finite number, got {self.value}")

    def to_ball(self) -> Array:
        """The matrix that turns and scales the ellipsoid about its centre into the unit ball, (3, 3)."""
        turns = np.eye(3)
        for angle, (i, j) in zip(self.angles, ((0, 1), (1, 2), (0, 1)), strict=True):
            c, s = math.cos(angle), math.sin(angle)
            turn = np.eye(3)
            turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
            turns = turns @ turn
        return turns.T / np.array(self.semi_axes)[:, None]


class Ellipsoids:
    """Σₖ ellipsoidₖ: a phantom as volume and as projections, without a grid of its own."""

    def __init__(self, ellipsoids: Iterable[Ellipsoid]):
        self.ellipsoids = tuple(ellipsoids)

    def __iter__(self) -> Iterator[Ellipsoid]:
        return iter(self.ellipsoids)

    def __len__(self) -> int:
        return len(self.ellipsoids)

    def __add__(self, other: Ellipsoids) -> Ellipsoids:
        return Ellipsoids([*self, *other])

    def __repr__(self) -> str:
        return f"Ellipsoids({list(self.ellipsoids)!r})"

    def rasterise(
        self,
        shape: tuple[int, int, int],
        voxel_size: float | tuple[float, float, float] = 1.0,
        oversampling: int = 4,
    ) -> Tensor:
        """Mean over each voxel: (nz, ny, nx), float64, slice 0 at the lowest z, row 0 at the top (+y).

        Exact along x; along y and z the mean of `oversampling`² chords.

        shape : (nz, ny, nx)
        voxel_size : [mm], a number, or (dz, dy, dx)
        """
        if len(shape) != 3 or min(shape) < 1 or oversampling < 1:
            raise ValueError(
                f"Ellipsoids.rasterise: expected a positive (nz, ny, nx) and oversampling, got {shape}, "
                f"{oversampling}"
            )
        sides = lengths("Ellipsoids.rasterise voxel_size [mm]", voxel_size, "(dz, dy, dx)")
        volume = np.zeros(shape)
        for e in self:
            # the quadratic form and the half height along y and z, in voxels
            form = e.to_ball() * np.array(sides[::-1])
            reach = np.sqrt(np.diag(np.linalg.inv(form.T @ form)))
            centre = np.array(e.centre) / sides[::-1]
            _rasterise(volume, e.value, form.T @ form, centre, reach, oversampling)
        return torch.from_numpy(self._snapped(volume, 1.0))

    def line_integrals(self, geometry: VolumeGeometry) -> Tensor:
        """∫ along the ray of every pixel's centre, (views, rows, columns), float64 [mm · 1/mm].

        A ray point + t·direction meets the ellipsoid turned and scaled to the unit ball at points p + t·q:

            value · 2 √(|q|² − |p × q|²) / |q|²

        Rays are made some views at a time, so that large scans need little more than their result.
        """
        if not isinstance(geometry, VolumeGeometry):
            raise ValueError(
                "Ellipsoids.line_integrals: expected a geometry in three dimensions (ConeBeam…), got "
                f"{type(geometry).__name__}"
            )
        views, rows, columns = geometry.out_shape
        data = np.zeros(geometry.out_shape)
        step = max(1, _AT_ONCE // (rows * columns))
        for first in range(0, views, step):
            part = range(first, min(first + step, views))
            points, directions = geometry.subset(part).rays()
            for e in self:
                to_ball = e.to_ball().T
                p, q = (points - e.centre) @ to_ball, directions @ to_ball
                squared = (q * q).sum(-1)
                # |q|² − |p × q|² is the discriminant without its cancellation
                cross = np.cross(p, q)
                chord = 2 * np.sqrt(np.maximum(squared - (cross * cross).sum(-1), 0)) / squared
                data[first : part.stop] += e.value * chord
        return torch.from_numpy(self._snapped(data, max(geometry.extent)))

    def _snapped(self, values: Array, scale: float) -> Array:
        """Contrasts that cancel leave exactly 0, not −1e-17."""
        values[np.abs(values) < 1e-13 * scale * sum(abs(e.value) for e in self)] = 0
        return values


def ball(value: float, radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Ellipsoid:
    """A ball: value [1/mm], radius and centre (x, y, z) [mm]."""
    return Ellipsoid(value, (radius, radius, radius), centre)


def shepp_logan_ellipsoids(modified: bool = True, field: float = 2.0, scale: float = 1.0) -> Ellipsoids:
    """The ten ellipsoids of Schabel's phantom3d (MATLAB File Exchange 9416), Shepp and Logan's in 3-D.

    modified : the contrasts of Toft (PhD thesis, DTU 1996), in [0, 1], in place of the original ones, where
        the skull is 2, the brain 1.02 and its features differ by 0.01
    field : side of the cube the phantom is drawn in [mm]
    scale : factor of all values; the original with 0.0206 [1/mm] is a head in water
    """
    half = field / 2
    return Ellipsoids(
        Ellipsoid(
            scale * (toft if modified else original),
            (half * axes[0], half * axes[1], half * axes[2]),
            (half * centre[0], half * centre[1], half * centre[2]),
            (math.radians(angles[0]), math.radians(angles[1]), math.radians(angles[2])),
        )
        for original, toft, axes, centre, angles in _SHEPP_LOGAN
    )


def off_centre_solids(half_width: float, value: float = 1.0) -> Ellipsoids:
    """A turned ellipsoid and a ball, off the centre in all directions, in units of half the width.

    No symmetry hides a wrong direction, order or offset: the test object of the projectors in 3-D.
    half_width : of the volume [mm]; value : of each [1/mm]
    """
    h = half_width
    return Ellipsoids(
        [
            Ellipsoid(value, (0.65 * h, 0.45 * h, 0.55 * h), (0.15 * h, -0.1 * h, 0.2 * h), (0.4, 0.3, 0.2)),
            ball(value, 0.4 * h, (-0.2 * h, 0.1 * h, -0.35 * h)),
        ]
    )


@njit(cache=True, nogil=True)
def _rasterise(volume: Array, value: float, form: Array, centre: Array, reach: Array, n: int) -> None:
    """Add one ellipsoid, in voxels, to `volume`: every sub-row its chord."""
    nz, ny, nx = volume.shape
    share = value / n**2
    A = form[0, 0]
    bottom = max(0, int(np.floor(nz / 2 + centre[2] - reach[2])))
    top = min(nz - 1, int(np.floor(nz / 2 + centre[2] + reach[2])))
    first = max(0, int(np.floor(ny / 2 - centre[1] - reach[1])))
    last = min(ny - 1, int(np.floor(ny / 2 - centre[1] + reach[1])))
    for k in range(bottom, top + 1):
        for kk in range(n):
            z = k + (kk + 0.5) / n - nz / 2 - centre[2]
            for i in range(first, last + 1):
                for ii in range(n):
                    y = ny / 2 - i - (ii + 0.5) / n - centre[1]
                    # inside is A x² + 2 B x + C ≤ 1
                    B = form[0, 1] * y + form[0, 2] * z
                    C = form[1, 1] * y * y + 2 * form[1, 2] * y * z + form[2, 2] * z * z
                    root = B * B - A * (C - 1)
                    if root < 0:
                        continue
                    middle, half = centre[0] - B / A + nx / 2, np.sqrt(root) / A
                    left, right = max(0.0, middle - half), min(float(nx), middle + half)
                    if left >= right:
                        continue
                    j0, j1 = int(left), min(nx - 1, int(right))
                    if j0 == j1:
                        volume[k, i, j0] += share * (right - left)
                    else:
                        volume[k, i, j0] += share * (j0 + 1 - left)
                        for j in range(j0 + 1, j1):
                            volume[k, i, j] += share
                        volume[k, i, j1] += share * (right - j1)
