"""Dose in words: photons per ray and rotation, and the noise it makes in an FBP of water."""

from __future__ import annotations

import math

import torch

from operators import LowDose, XRay, fbp
from operators.geometry import PlanarGeometry

from ..data.ellipses import Ellipse, Ellipses


def water_noise_hu(
    geometry: PlanarGeometry, noise: LowDose, mu_water: float, diameter: float = 200.0
) -> float:
    """σ of FBP (Ram-Lak) in the middle of a water cylinder [HU], from the difference of two draws.

    diameter : of the cylinder [mm]; the middle is a disc of a quarter of it
    """
    water = Ellipses([Ellipse(mu_water, (diameter / 2, diameter / 2), (0.0, 0.0), 0.0)])
    clean = torch.as_tensor(water.line_integrals(geometry), dtype=torch.float32)
    counts = noise(clean.expand(2, *clean.shape), seed=0)
    first, second = fbp(XRay(geometry), noise.linearise(counts), filter="ram-lak")
    ny, nx = geometry.image_shape
    y, x = torch.meshgrid(torch.arange(ny) - (ny - 1) / 2, torch.arange(nx) - (nx - 1) / 2, indexing="ij")
    middle = torch.hypot(x, y) * geometry.pixel_size < diameter / 8
    return float((first - second)[middle].std()) / math.sqrt(2) * 1000 / mu_water


def dose_note(geometry: PlanarGeometry, noise: LowDose, mu_water: float) -> str:
    """I0 per ray × views, and what it does to 20 cm of water."""
    i0 = float(torch.as_tensor(noise.i0).max())
    sigma = water_noise_hu(geometry, noise, mu_water)
    return (
        f"{i0:.3g} photons per ray × {geometry.views} views = {i0 * geometry.views:.2g} per detector cell "
        f"and rotation (routine about 1e9); FBP (Ram-Lak) of 20 cm of water has a noise of {sigma:.0f} HU"
    )
