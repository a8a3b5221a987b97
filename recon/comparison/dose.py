"""Dose in words: photons per ray and rotation, and the noise it makes in an FBP of water."""

from __future__ import annotations

from operators import LowDose, exposure, sigma_hu_water
from operators.geometry import PlanarGeometry


def water_noise_hu(
    geometry: PlanarGeometry, noise: LowDose, mu_water: float, diameter: float = 200.0
) -> float:
    """σ of FBP (Ram-Lak) in the middle of a water cylinder [HU], see `operators.sigma_hu_water`.

    diameter : of the cylinder [mm]
    """
    return sigma_hu_water(geometry, noise, diameter, mu_water=mu_water)


def dose_note(geometry: PlanarGeometry, noise: LowDose, mu_water: float) -> str:
    """I0 per ray × views, and what it does to 20 cm of water."""
    spent = exposure(geometry, noise)
    sigma = water_noise_hu(geometry, noise, mu_water)
    return (
        f"{spent.most:.3g} photons per ray × {spent.views} views = {spent.per_cell:.2g} per detector cell "
        f"and rotation (routine about 1e9); FBP (Ram-Lak) of 20 cm of water has a noise of {sigma:.0f} HU"
    )
