"""A low-contrast phantom for observer studies, like the CCT189, and backgrounds that are not uniform."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from operators.noise import image_seeds

from .ellipses import Ellipses, disc

MU_WATER = 0.0206  # [1/mm] at 60 keV
CCT189 = ((3.0, 14.0), (5.0, 7.0), (7.0, 5.0), (10.0, 3.0))
"""Diameter [mm] and contrast [HU] of the discs."""


def low_contrast_phantom(
    inserts: Iterable[tuple[float, float, tuple[float, float]]] | None = None,
    mu_water: float = MU_WATER,
    diameter: float = 200.0,
    rim: float = 0.0,
) -> Ellipses:
    """Discs of contrast μ_water·HU/1000 in a water cylinder: after the CCT189 of The Phantom Laboratory.

    That body phantom has four discs in 200 mm of water, 3 mm/14 HU, 5/7, 7/5 and 10/3, each 40 mm off the
    middle.

    inserts : (diameter [mm], contrast [HU], centre (x, y) [mm]) each; None for the four; () for the
        signal-absent phantom
    mu_water : attenuation of water [1/mm]
    diameter : of the cylinder, at half height of its rim [mm]
    rim : width over which water falls to air, in 32 steps, so that pixels can describe it [mm]; 0 is sharp
    """
    if not mu_water > 0 or not diameter > 0 or not 0 <= rim < diameter:
        raise ValueError(
            f"low_contrast_phantom: expected positive mu_water and diameter, and 0 ≤ rim < diameter, got "
            f"{mu_water}, {diameter}, {rim}"
        )
    if inserts is None:
        inserts = [(*CCT189[k], place) for k, place in enumerate(ring(4))]
    shares = [(k + 0.5) / 32 - 0.5 for k in range(32)] if rim else [0.0]
    discs = [disc(mu_water / len(shares), diameter / 2 + share * rim) for share in shares]
    for size, contrast, centre in inserts:
        if math.hypot(*centre) + size / 2 > (diameter - rim) / 2:
            raise ValueError(
                f"low_contrast_phantom inserts: the disc of {size:g} mm at {centre} leaves the cylinder of "
                f"{diameter:g} mm"
            )
        discs.append(disc(mu_water * contrast / 1000, size / 2, centre))
    return Ellipses(discs)


def ring(
    count: int, radius: float = 40.0, pixel_size: float | None = None, even: bool = True
) -> list[tuple[float, float]]:
    """`count` places at equal angles on a circle, (x, y) [mm], the first on the x axis.

    radius : [mm]
    pixel_size : move every place to the middle of the nearest pixel of this size [mm]: discs look alike
    even : those pixels belong to an image with an even number of pixels a side, middles at half pixels
    """
    angles = [2 * math.pi * k / count for k in range(count)]
    places = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
    if pixel_size is None:
        return places
    shift = 0.5 if even else 0.0
    return [
        (
            (math.floor(x / pixel_size - shift + 0.5) + shift) * pixel_size,
            (math.floor(y / pixel_size - shift + 0.5) + shift) * pixel_size,
        )
        for x, y in places
    ]


def power_law_background(
    shape: tuple[int, int],
    pixel_size: float,
    sigma: float = 10.0,
    exponent: float = 3.0,
    longest: float = 50.0,
    seed: int | Sequence[int] = 0,
    count: int = 1,
) -> Tensor:
    """Gaussian texture of power spectrum c / (f₀² + f²)^(exponent/2), f₀ = 1/longest: like anatomy, in HU.

    Power laws with exponents near 3 describe breast and abdomen: Burgess, Jacobson, Judy, Med. Phys. 28
    (2001). Periodic over the field, of mean zero in expectation.

    shape : (ny, nx)
    pixel_size : [mm]
    sigma : standard deviation, before pixels smooth it: c makes ∫∫ spectrum over the grid's frequencies σ²
        [HU]
    exponent : β > 0
    longest : scale above which the texture does not grow any more [mm]
    seed, count : one seed for `count` textures, or one seed each

    Returns (count, ny, nx), float64 [HU].
    """
    if min(sigma, exponent, longest, pixel_size) <= 0:
        raise ValueError(
            f"power_law_background: expected positive pixel_size, sigma, exponent and longest, got "
            f"{pixel_size}, {sigma}, {exponent}, {longest}"
        )
    fy, fx = (np.fft.fftfreq(n, pixel_size) for n in shape)
    spectrum = ((1 / longest) ** 2 + fy[:, None] ** 2 + fx[None] ** 2) ** (-exponent / 2)
    amplitude = torch.from_numpy(sigma * np.sqrt(spectrum / spectrum.mean()))
    images = []
    for one in image_seeds(seed, count):
        white = torch.randn(shape, generator=torch.Generator().manual_seed(one), dtype=torch.float64)
        images.append(torch.fft.ifft2(amplitude * torch.fft.fft2(white)).real)
    return torch.stack(images)


def lumpy_background(
    shape: tuple[int, int],
    pixel_size: float,
    density: float = 0.005,
    amplitude: float = 10.0,
    width: float = 6.0,
    seed: int | Sequence[int] = 0,
    count: int = 1,
) -> Tensor:
    """Σ_j amplitude · exp(−|r − r_j|²/(2 width²)), r_j Poisson in number and uniform, minus its mean, in HU.

    Rolland and Barrett, J. Opt. Soc. Am. A 9 (1992). Mean 2π·density·amplitude·width² (taken off), variance
    π·density·amplitude²·width², autocovariance that times exp(−r²/(4 width²)).

    shape : (ny, nx)
    pixel_size : [mm]
    density : lumps per area [1/mm²]
    amplitude : height of a lump [HU], may be negative
    width : its standard deviation [mm]
    seed, count : one seed for `count` textures, or one seed each

    Returns (count, ny, nx), float64 [HU].
    """
    if min(density, width, pixel_size) <= 0:
        raise ValueError(
            f"lumpy_background: expected positive pixel_size, density and width, got {pixel_size}, "
            f"{density}, {width}"
        )
    ny, nx = shape
    margin = 5 * width  # lumps whose middle lies outside reach in
    high, wide = ny * pixel_size + 2 * margin, nx * pixel_size + 2 * margin
    y = (np.arange(ny) + 0.5) * pixel_size + margin
    x = (np.arange(nx) + 0.5) * pixel_size + margin
    mean = 2 * math.pi * density * amplitude * width**2
    images = []
    for one in image_seeds(seed, count):
        random = np.random.default_rng(one)
        lumps = random.poisson(density * high * wide)
        at_y, at_x = random.uniform(0, high, lumps), random.uniform(0, wide, lumps)
        rows = np.exp(-((y[:, None] - at_y) ** 2) / (2 * width**2))
        columns = np.exp(-((x[:, None] - at_x) ** 2) / (2 * width**2))
        images.append(torch.from_numpy(amplitude * (rows @ columns.T) - mean))
    return torch.stack(images)
