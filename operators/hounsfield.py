"""Hounsfield units and attenuation."""

from __future__ import annotations

import math

from torch import Tensor


def to_attenuation(hu: Tensor, mu_water: float = 0.0206, clip: bool = False) -> Tensor:
    """μ = μ_water (1 + HU/1000) [1/mm].

    hu        any shape [HU]
    mu_water  attenuation of water at the effective energy [1/mm]; 0.0206 is near 60 keV
    clip      set what lies below −1000 HU to 0, as nothing attenuates less than vacuum
    """
    mu = _positive(mu_water) * (1 + hu / 1000)
    return mu.clamp(min=0) if clip else mu


def to_hu(mu: Tensor, mu_water: float = 0.0206) -> Tensor:
    """HU = 1000 (μ − μ_water) / μ_water; inverse of `to_attenuation`.

    mu        any shape [1/mm]
    mu_water  attenuation of water [1/mm], as it was given to `to_attenuation`
    """
    return 1000 * (mu / _positive(mu_water) - 1)


def _positive(mu_water: float) -> float:
    if not (math.isfinite(mu_water) and mu_water > 0):
        raise ValueError(f"mu_water [1/mm]: expected a positive number, got {mu_water!r}")
    return mu_water
