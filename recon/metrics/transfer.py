"""Sharpness: the task transfer function of a disc's edge, the MTF of a wire or point."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .noise_power import interpolated
from .rois import distances, positive, radial_frequency, real_images

FINE = 10  # radial bins per pixel


@dataclass(frozen=True)
class Transfer:
    """TTF(f), 1 at f = 0. Call it with frequencies [1/mm] for linear interpolation, constant beyond the ends.

    frequency : [1/mm], (k,), from 0 to Nyquist's of the pixels
    transfer : (k,)
    contrast : height of the edge, or sum over the point [unit, or unit mm²]
    contrast_to_noise : |contrast| over its standard error within what was averaged; below some 15 the curve
        is not to be trusted (Richard et al., Med. Phys. 39 (2012)); inf where the noise is not known
    """

    frequency: Tensor
    transfer: Tensor
    contrast: float
    contrast_to_noise: float = math.inf

    def at(self, level: float) -> float:
        """Lowest frequency where the curve falls to `level` [1/mm]; inf if it does not before Nyquist's."""
        if not 0 < level < 1:
            raise ValueError(f"Transfer.at level: expected a number in (0, 1), got {level}")
        below = (self.transfer <= level).nonzero()
        if not len(below):
            return math.inf
        k = int(below[0])
        high, low = float(self.transfer[k - 1]), float(self.transfer[k])
        step = float(self.frequency[k] - self.frequency[k - 1])
        return float(self.frequency[k - 1]) + step * (high - level) / (high - low)

    @property
    def f50(self) -> float:
        """Frequency of transfer 0.5 [1/mm]."""
        return self.at(0.5)

    @property
    def f10(self) -> float:
        """Frequency of transfer 0.1 [1/mm]."""
        return self.at(0.1)

    def __call__(self, frequency: Tensor) -> Tensor:
        return interpolated(frequency, self.frequency, self.transfer)


def task_transfer(
    image: Tensor, pixel_size: float, centre: tuple[float, float], radius: float, reach: float | None = None
) -> Transfer:
    """TTF = |F[d/dr ESF(r)]| of the edge of a disc, ESF the mean over its circumference and over the batch.

    Richard, Husarik, Yadava, Murphy, Samei, Med. Phys. 39 (2012) 4115. Pixels are sorted by their distance r
    from the centre into bins of a tenth of a pixel; the derivative is tapered (Tukey, flat over the inner
    half of `reach`); the bins' own transfer, sinc², is divided out. A disc is taken for a straight edge:
    with a radius of a few blur widths that is exact to a per cent. A non-linear method has one TTF per
    contrast and dose, so average repeats of the same scan: those are the batch.

    Parameters
    ----------
    image : (*batch, ny, nx), any unit
    pixel_size : [mm]
    centre : (x, y) of the disc from the middle of the image, y upwards [mm]
    radius : of the disc [mm]
    reach : ESF from radius − reach to radius + reach [mm]; by default 0.8 radius, at most 10 pixels
    """
    name = "task_transfer"
    positive(f"{name} pixel_size [mm]", pixel_size)
    radius = positive(f"{name} radius [mm]", radius)
    reach = positive(f"{name} reach [mm]", min(0.8 * radius, 10 * pixel_size) if reach is None else reach)
    images = real_images(f"{name} image", image)
    images = images.reshape(-1, *images.shape[-2:])
    r = distances(images.shape[-2:], pixel_size, centre)
    if reach > radius or reach < 4 * pixel_size:
        raise ValueError(
            f"{name} reach [mm]: expected from 4 pixels ({4 * pixel_size:g}) to the radius ({radius:g}), got "
            f"{reach:g}; the disc may be too small for its pixels"
        )
    border = min(side * pixel_size / 2 - abs(c) for side, c in zip(images.shape[:0:-1], centre, strict=True))
    if radius + reach > border:
        raise ValueError(
            f"{name}: the circle of radius + reach = {radius + reach:g} mm around {centre} leaves the image"
        )
    width = pixel_size / FINE
    count = 2 * int(reach / width)
    index = ((r - radius) / width + count / 2).floor().long()
    near = (index >= 0) & (index < count)
    hits = torch.bincount(index[near], minlength=count)
    edge = torch.zeros(count, dtype=torch.float64).index_add(0, index[near], images.mean(0)[near])
    filled = (hits > 0).nonzero()[:, 0]
    middle = torch.arange(count, dtype=torch.float64)
    edge = interpolated(middle, filled.double(), edge[filled] / hits[filled])
    # inside minus outside, so that the line spread is positive for a positive contrast
    line = -edge.diff()
    contrast, noise = _contrast(images, r, radius, reach)
    if contrast == 0:
        raise ValueError(f"{name}: there is no contrast at {centre}; check the place and the radius")
    frequency = torch.linspace(0, 0.5 / pixel_size, 101, dtype=torch.float64)
    place = (middle[1:] - count / 2) * width
    tapered = line * _tukey(place / reach)
    phase = 2 * math.pi * frequency[:, None] * place
    spectrum = torch.hypot((torch.cos(phase) * tapered).sum(-1), (torch.sin(phase) * tapered).sum(-1))
    spectrum = spectrum / torch.sinc(frequency * width) ** 2
    if not float(spectrum[0]) > 0:
        raise ValueError(f"{name}: the edge at {centre} vanishes in the noise; average more repeats")
    return Transfer(frequency, spectrum / spectrum[0], contrast, abs(contrast) / noise if noise else math.inf)


def point_transfer(
    image: Tensor, pixel_size: float, centre: tuple[float, float] = (0.0, 0.0), size: int = 33
) -> Transfer:
    """MTF = |F[PSF]| / F[PSF](0), the mean over rings of frequency, of a point or a thin wire.

    Boone, Med. Phys. 28 (2001). A square around the point, its background (the mean of its border) taken off;
    the batch is averaged. The wire's own width is not divided out: keep it below a third of a pixel.

    Parameters
    ----------
    image : (*batch, ny, nx), any unit
    pixel_size : [mm]
    centre : (x, y) of the point from the middle of the image, y upwards; the nearest pixel will do [mm]
    size : side of the square [pixels]
    """
    from .rois import cut

    if size < 8:
        raise ValueError(f"point_transfer size: expected at least 8 pixels, got {size}")
    images = real_images("point_transfer image", image)
    square = cut(images.reshape(-1, *images.shape[-2:]), [centre], size, pixel_size)[:, 0].mean(0)
    inner = torch.zeros(square.shape, dtype=torch.bool)
    inner[2:-2, 2:-2] = True
    background = square[~inner]
    square = square - background.mean()
    spectrum = torch.fft.fftshift(torch.fft.fft2(square)).abs()
    frequency = radial_frequency(square.shape, pixel_size)
    step = 1 / (size * pixel_size)
    ring = (frequency / step).round().long()
    inside = ring <= size // 2
    hits = torch.bincount(ring[inside])
    mean = torch.bincount(ring[inside], spectrum[inside]) / hits
    where = torch.bincount(ring[inside], frequency[inside]) / hits
    total = float(square.sum())
    if total == 0:
        raise ValueError(f"point_transfer: there is nothing at {centre}")
    noise = float(background.std()) * size
    return Transfer(where, mean / mean[0], total * pixel_size**2, abs(total) / noise if noise else math.inf)


def transfer_error(transfers: list[Transfer], level: float = 0.5) -> float:
    """Standard error of the frequency at `level` by the jackknife, of curves with one repeat left out each.

    transfers : n curves, each of all repeats but one; √((n − 1)/n Σ (fᵢ − f̄)²) [1/mm]
    """
    if len(transfers) < 2:
        raise ValueError(f"transfer_error transfers: expected at least 2 curves, got {len(transfers)}")
    values = torch.tensor([t.at(level) for t in transfers], dtype=torch.float64)
    n = len(values)
    return float(((n - 1) / n * ((values - values.mean()) ** 2).sum()).sqrt())


def _contrast(images: Tensor, r: Tensor, radius: float, reach: float) -> tuple[float, float]:
    """Mean inside minus mean outside of the edge's reach, and its standard error for white noise."""
    far = min(reach, radius / 2) / 2
    inside, outside = r < radius - far, (r > radius + far) & (r < radius + reach)
    if not bool(inside.any()) or not bool(outside.any()):
        raise ValueError("task_transfer: no pixel lies well inside, or well outside, the disc")
    parts = [images[:, mask] for mask in (inside, outside)]
    contrast = float(parts[0].mean() - parts[1].mean())
    noise = math.sqrt(sum(float(part.var(correction=0)) / part.numel() for part in parts))
    return contrast, noise


def _tukey(t: Tensor) -> Tensor:
    """1 for |t| ≤ ½, falling to 0 at 1 as a raised cosine."""
    return 0.5 + 0.5 * torch.cos(2 * math.pi * (t.abs() - 0.5).clamp(0, 0.5))
