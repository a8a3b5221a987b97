"""Smooth complex fields as few low frequencies: coil sensitivities and phase that keep k-space exact."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SmoothField:
    """S(u) = Σⱼ cⱼ exp(iπ j·u), u the position in units of the field of view, |u| ≤ ½ from its middle.

    A product with an object of spectrum X has Σⱼ cⱼ X(k − κⱼ), κⱼ = π j/n [rad per pixel]: k-space of coils
    and of phase without a grid (Guerquin-Kern, Lejeune, Pruessmann, Unser, IEEE Trans. Med. Imaging 31 (2012)
    626). The period is twice the field of view, so a field need not agree at opposite borders.

    coefficients : (*fields, 2·order_y + 1, 2·order_x + 1), complex128, j = (j_y, j_x) from −order to order,
        y along rows (downwards)
    """

    coefficients: Tensor

    def __post_init__(self) -> None:
        c = self.coefficients
        if not c.is_complex() or c.ndim < 2 or c.shape[-1] % 2 == 0 or c.shape[-2] % 2 == 0:
            raise ValueError(
                "SmoothField coefficients: expected a complex tensor (*fields, odd, odd), got "
                f"{c.dtype} {tuple(c.shape)}"
            )
        object.__setattr__(self, "coefficients", c.to(torch.complex128))

    @property
    def order(self) -> tuple[int, int]:
        return self.coefficients.shape[-2] // 2, self.coefficients.shape[-1] // 2

    def at(self, shape: tuple[int, int]) -> Tensor:
        """Values at the pixel centres of a grid over the field of view, (*fields, ny, nx), complex128."""
        return self.on(*(pixel_centres(n) for n in shape))

    def on(self, u_y: Tensor, u_x: Tensor) -> Tensor:
        """Values on the product grid of two lists of positions, (*fields, len(u_y), len(u_x))."""
        rows, columns = (_waves(u, m) for u, m in zip((u_y, u_x), self.order, strict=True))
        return rows @ self.coefficients @ columns.T

    def __mul__(self, other: SmoothField) -> SmoothField:
        """The product of the fields: their coefficients convolved; `fields` broadcast."""
        a, b = self.coefficients, other.coefficients
        shape = [n + m - 1 for n, m in zip(a.shape[-2:], b.shape[-2:], strict=True)]
        return SmoothField(torch.fft.ifft2(torch.fft.fft2(a, shape) * torch.fft.fft2(b, shape)))

    @classmethod
    def fit(cls, values: Tensor, order: int, threshold: float = 1e-4) -> SmoothField:
        """argmin_c ‖S − values‖ for values at pixel centres over the field of view, (*fields, ny, nx).

        threshold : singular values below this share of the largest are left out. Waves of twice the field of
            view are nearly dependent on it; without it coefficients grow, and with them what lies outside
        """
        if min(values.shape[-2:]) < 2 * order + 1:
            raise ValueError(
                f"SmoothField.fit values: expected at least {2 * order + 1} pixels a side for order {order}, "
                f"got {tuple(values.shape)}"
            )
        rows, columns = (
            torch.linalg.pinv(_waves(pixel_centres(n), order), rtol=threshold) for n in values.shape[-2:]
        )
        return cls(rows @ values.to(torch.complex128) @ columns.T)


def coil_fields(
    coils: int,
    seed: int | None = None,
    order: int = 4,
    distance: float = 0.85,
    radius: float | None = None,
) -> SmoothField:
    """S_c = B_c / √(Σ|B_c|²), B_c = B_x − i B_y of a current loop: receive coils around the field of view.

    Biot and Savart's law for loops that look at the middle, by reciprocity (Hoult, Concepts Magn. Reson. 12
    (2000) 173); then the least-squares sum of (2·order + 1)² waves. Σ|S|² = 1 up to the error of that sum,
    below 0.3 % at the default order (a test measures it), so noise of σ in k-space is noise of σ in the
    combined image of a full scan. Synthetic.

    coils : how many, evenly around
    seed : None for an even ring; else angles, distances and tilts vary by some percent
    order : of the waves, in half cycles over the field of view
    distance : of the loops from the middle, in fields of view (the corners are at 0.71)
    radius : of the loops, in fields of view; by default neighbours touch, 0.35 at most
    """
    if coils < 1 or distance <= 0.75:
        raise ValueError(
            f"coil_fields: expected at least one coil and a distance above 0.75, got {coils}, {distance}"
        )
    values = loop_sensitivities(coils, 48, seed, distance, radius)
    return SmoothField.fit(values / values.abs().square().sum(0).sqrt(), order)


def loop_sensitivities(
    coils: int, size: int, seed: int | None = None, distance: float = 0.85, radius: float | None = None
) -> Tensor:
    """B_x − i B_y of the loops of `coil_fields`, at the pixel centres of size × size, (coils, size, size)."""
    random = np.random.default_rng(seed)
    radius = min(0.35, distance * math.tan(math.pi / max(coils, 3))) if radius is None else radius
    u = pixel_centres(size).numpy()
    x, y = np.meshgrid(u, -u)
    fields = np.empty((coils, size, size), dtype=np.complex128)
    for c in range(coils):
        vary = random.normal(size=3) * (seed is not None)
        angle, away = (c + 0.08 * vary[0]) * 2 * math.pi / coils, distance * (1 + 0.02 * abs(vary[1]))
        fields[c] = _loop(x, y, angle, away, radius, tilt=0.15 * vary[2])
    return torch.from_numpy(fields)


def random_phase(seed: int, strength: float = 1.0, order: int = 3) -> SmoothField:
    """exp(iφ), φ = p₀ + p₁·u + u·P₂ u: the phase that B₀ and the receive chain leave, as `order` waves.

    p₀ is uniform; the linear and quadratic terms together reach up to `strength` [rad] at the border. The
    modulus of the waves is 1 up to their error (a test measures it). Synthetic.
    """
    if not strength >= 0:
        raise ValueError(f"random_phase strength [rad]: expected a non-negative number, got {strength}")
    random = np.random.default_rng(seed)
    u = pixel_centres(32).numpy()
    x, y = np.meshgrid(2 * u, 2 * u)
    share = random.normal(size=5)
    share *= strength * random.uniform(0.3, 1) / np.abs(share).sum()
    phase = share @ np.stack([x, y, x * x, x * y, y * y]).reshape(5, -1) + random.uniform(-math.pi, math.pi)
    return SmoothField.fit(torch.from_numpy(np.exp(1j * phase)).reshape(x.shape), order)


def pixel_centres(n: int) -> Tensor:
    """Pixel centres in fields of view from the middle: (i − (n − 1)/2)/n."""
    return (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / n


def _waves(u: Tensor, order: int) -> Tensor:
    """exp(iπ j u), (len(u), 2·order + 1)."""
    return torch.exp(1j * math.pi * u[:, None] * torch.arange(-order, order + 1, dtype=torch.float64))


def _loop(
    x: np.ndarray, y: np.ndarray, angle: float, distance: float, radius: float, tilt: float
) -> np.ndarray:
    """∮ dl × (r − r')/|r − r'|³ of a loop at `distance` in direction `angle`, in the plane z = 0."""
    t = (np.arange(64) + 0.5) * (2 * math.pi / 64)
    outward = np.array([math.cos(angle), math.sin(angle)])
    side = np.array([-math.sin(angle + tilt), math.cos(angle + tilt)])
    field = np.zeros(x.shape, dtype=np.complex128)
    for s in t:
        in_plane = distance * outward + radius * math.cos(s) * side
        dl = -math.sin(s) * side * radius
        dl_z, z = radius * math.cos(s), radius * math.sin(s)
        rx, ry, rz = x - in_plane[0], y - in_plane[1], -z
        cube = (rx * rx + ry * ry + rz * rz) ** 1.5
        field += ((dl[1] * rz - dl_z * ry) - 1j * (dl_z * rx - dl[0] * rz)) / cube
    return field
