"""Ellipses: objects whose pixels, line integrals and k-space are known exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from operators.geometry import PlanarGeometry

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ellipse:
    """value · 1[ (ξ/a)² + (η/b)² ≤ 1 ], (ξ, η) the coordinates along the semi-axes a and b.

    value : contrast, added to what lies beneath [1/mm]
    semi_axes : (a, b), a first; two equal ones are a disc [mm]
    centre : (x, y), y upwards from the middle of the image [mm]
    angle : of the axis a, counter-clockwise from x [rad]
    """

    value: float
    semi_axes: tuple[float, float]
    centre: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0

    def __post_init__(self) -> None:
        for name in ("semi_axes", "centre"):
            pair = tuple(float(v) for v in getattr(self, name))
            if len(pair) != 2 or not all(map(math.isfinite, pair)):
                raise ValueError(f"Ellipse {name} [mm]: expected two finite numbers, got {pair}")
            object.__setattr__(self, name, pair)
        if min(self.semi_axes) <= 0:
            raise ValueError(f"Ellipse semi_axes [mm]: expected positive lengths, got {self.semi_axes}")
        if not math.isfinite(self.value + self.angle):
            raise ValueError(f"Ellipse: expected a finite value and angle, got {self.value}, {self.angle}")


class Ellipses:
    """Σₖ ellipseₖ: a phantom as image, sinogram and k-space, without a grid of its own."""

    def __init__(self, ellipses: Iterable[Ellipse]):
        self.ellipses = tuple(ellipses)

    def __iter__(self) -> Iterator[Ellipse]:
        return iter(self.ellipses)

    def __len__(self) -> int:
        return len(self.ellipses)

    def __add__(self, other: Ellipses) -> Ellipses:
        return Ellipses([*self, *other])

    def __repr__(self) -> str:
        return f"Ellipses({list(self.ellipses)!r})"

    def rasterise(self, shape: tuple[int, int], pixel_size: float, oversampling: int = 8) -> Tensor:
        """Mean over each pixel: (ny, nx), float64, row 0 at the top (+y).

        Exact along x; along y the mean of `oversampling` chords per row.
        """
        if oversampling < 1 or min(shape) < 1 or not pixel_size > 0:
            raise ValueError(
                f"Ellipses.rasterise: expected a positive shape, pixel_size and oversampling, got {shape}, "
                f"{pixel_size}, {oversampling}"
            )
        image = np.zeros(shape)
        _rasterise(self._table() / [1, *[pixel_size] * 4, 1], image, oversampling)
        return torch.from_numpy(self._snapped(image, 1.0))

    def line_integrals(self, geometry: PlanarGeometry) -> Tensor:
        """∫ along the ray of every bin's centre, (views, bins), float64 [mm · 1/mm].

        A ray point + t·direction meets the ellipse scaled to the unit disc at points p + t·q:

            value · 2 √((p·q)² − |q|²(|p|² − 1)) / |q|²
        """
        points, directions = geometry.rays()
        sinogram = np.zeros(geometry.sinogram_shape)
        rays = (points.reshape(-1, 2), directions.reshape(-1, 2))
        _line_integrals(self._table(), *rays, sinogram.reshape(-1))
        return torch.from_numpy(self._snapped(sinogram, max(geometry.extent)))

    def fourier(self, shape: tuple[int, int], pixel_size: float) -> Tensor:
        """Exact k-space on the grid of the centred orthonormal FFT, (ny, nx), complex128.

            F(k) = value · a b · J₁(2πq)/q · exp(−2πi k·centre) · √(ny nx)/(field_y field_x),
            q = |(a k_ξ, b k_η)|, J₁(2πq)/q → π at q = 0; k [1/mm]

        The Fourier integral of the object, scaled as `operators.Fourier` of its image is; the two differ by
        what the pixels and aliasing change. The origin is that of `Fourier`, the pixel (ny // 2, nx // 2).
        """
        from scipy.special import j1

        ny, nx = shape
        # image rows run downwards: row frequency f means k_y = −f
        ky = -(np.arange(ny) - ny // 2)[:, None] / (ny * pixel_size)
        kx = (np.arange(nx) - nx // 2)[None] / (nx * pixel_size)
        # the middle of the image is the corner of pixel (ny // 2, nx // 2) if a side is even
        shift_x = -((nx // 2) - (nx - 1) / 2) * pixel_size
        shift_y = ((ny // 2) - (ny - 1) / 2) * pixel_size
        spectrum = np.zeros(shape, dtype=np.complex128)
        for value, a, b, x, y, angle in self._table():
            c, s = math.cos(angle), math.sin(angle)
            q = np.hypot(a * (c * kx + s * ky), b * (c * ky - s * kx))
            safe = np.where(q == 0, 1, q)
            disc = np.where(q == 0, np.pi, j1(2 * np.pi * safe) / safe)
            phase = np.exp(-2j * np.pi * (kx * (x + shift_x) + ky * (y + shift_y)))
            spectrum += value * a * b * disc * phase
        return torch.from_numpy(spectrum / (math.sqrt(ny * nx) * pixel_size**2))

    def _snapped(self, values: Array, scale: float) -> Array:
        """Contrasts that cancel leave exactly 0, not −1e-17."""
        values[np.abs(values) < 1e-13 * scale * sum(abs(e.value) for e in self.ellipses)] = 0
        return values

    def _table(self) -> Array:
        rows = [(e.value, *e.semi_axes, *e.centre, e.angle) for e in self.ellipses]
        return np.array(rows, dtype=np.float64).reshape(-1, 6)


def disc(value: float, radius: float, centre: tuple[float, float] = (0.0, 0.0)) -> Ellipse:
    """A disc: value [1/mm], radius and centre (x, y) [mm]."""
    return Ellipse(value, (radius, radius), centre)


@njit(cache=True, nogil=True)
def _line_integrals(table: Array, points: Array, directions: Array, sinogram: Array) -> None:
    """Every ray's chords; `directions` are unit vectors."""
    cosine, sine = np.cos(table[:, 5]), np.sin(table[:, 5])
    for i in range(len(sinogram)):
        dx, dy, total = directions[i, 0], directions[i, 1], 0.0
        for e in range(len(table)):
            a, b, c, s = table[e, 1], table[e, 2], cosine[e], sine[e]
            x, y = points[i, 0] - table[e, 3], points[i, 1] - table[e, 4]
            if abs(x * dy - y * dx) > a and abs(x * dy - y * dx) > b:
                continue
            p, q = (c * x + s * y) / a, (c * y - s * x) / b
            u, v = (c * dx + s * dy) / a, (c * dy - s * dx) / b
            squared, cross = u * u + v * v, p * v - q * u
            # |q|² − (p × q)² is the discriminant without its cancellation
            if squared > cross * cross:
                total += 2 * table[e, 0] * np.sqrt(squared - cross * cross) / squared
        sinogram[i] = total


@njit(cache=True, nogil=True)
def _rasterise(table: Array, image: Array, oversampling: int) -> None:
    """Add ellipses, in pixels, to `image`: every sub-row its chord."""
    ny, nx = image.shape
    step = 1.0 / oversampling
    for e in range(len(table)):
        value, a, b, x0, y0, angle = table[e]
        c, s = np.cos(angle), np.sin(angle)
        half_y = np.sqrt((a * s) ** 2 + (b * c) ** 2)
        # inside is the quadratic form A x² + 2 B x y + C y² ≤ 1
        A = (c / a) ** 2 + (s / b) ** 2
        B = c * s * (1 / a**2 - 1 / b**2)
        C = (s / a) ** 2 + (c / b) ** 2
        top = max(0, int(np.floor(ny / 2 - y0 - half_y)))
        bottom = min(ny - 1, int(np.floor(ny / 2 - y0 + half_y)))
        for i in range(top, bottom + 1):
            for k in range(oversampling):
                y = ny / 2 - i - (k + 0.5) * step - y0
                root = (B * y) ** 2 - A * (C * y * y - 1)
                if root < 0:
                    continue
                middle, half = x0 - B * y / A + nx / 2, np.sqrt(root) / A
                left, right = max(0.0, middle - half), min(float(nx), middle + half)
                if left >= right:
                    continue
                j0, j1 = int(left), min(nx - 1, int(right))
                if j0 == j1:
                    image[i, j0] += value * step * (right - left)
                else:
                    image[i, j0] += value * step * (j0 + 1 - left)
                    for j in range(j0 + 1, j1):
                        image[i, j] += value * step
                    image[i, j1] += value * step * (right - j1)
