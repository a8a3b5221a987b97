"""Beam-hardening corrections: a polynomial for water, and Joseph and Spital's second pass for bone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .backprojection import fbp
from .beam import Beam
from .polyenergetic import Polyenergetic
from .xray import XRay


@dataclass(frozen=True)
class WaterCorrection:
    """p_w(p) = Σ_i a_i pⁱ: from −ln of a polyenergetic signal to line integrals at the reference energy.

    Above p = `highest`, and below 0, it goes on as a straight line of the same slope.

    coefficients : a_1, a_2, …
    highest : p of the longest path that was fitted
    longest : that path [mm]
    max_error : largest |p_w(p(L)) − μ_ref L| for 0 ≤ L ≤ longest, dimensionless
    max_error_hu : largest error of the mean attenuation along a path, 1000 |p_w/(μ_ref L) − 1|, from
        20 mm on [HU]
    """

    coefficients: tuple[float, ...]
    highest: float
    longest: float
    max_error: float
    max_error_hu: float

    def __call__(self, p: Tensor) -> Tensor:
        """Corrected line integrals, shape of p; differentiable."""
        inside = p.clamp(0, self.highest)
        return self._value(inside) + self._slope(inside) * (p - inside)

    def slope(self, p: Tensor) -> Tensor:
        """dp_w/dp: the corrected data have slope² times the variance."""
        return self._slope(p.clamp(0, self.highest))

    def _value(self, p: Tensor) -> Tensor:
        value = torch.zeros_like(p)
        for a in reversed(self.coefficients):
            value = (value + a) * p
        return value

    def _slope(self, p: Tensor) -> Tensor:
        slope = torch.zeros_like(p)
        for i, a in reversed(list(enumerate(self.coefficients, 1))):
            slope = slope * p + i * a
        return slope


def water_correction(beam: Beam, longest: float = 500.0, degree: int = 5) -> WaterCorrection:
    """The polynomial without constant that fits μ_ref L over p(L), 0 ≤ L ≤ longest, in relative error.

    Herman, Phys. Med. Biol. 24 (1979). The first material of the beam is corrected.

    longest  [mm]
    degree   1 to 8; 4 to 6 are in use

    Raises ValueError where the polynomial is not increasing.
    """
    if not 0 < longest < np.inf:
        raise ValueError(f"water_correction longest [mm]: expected a positive length, got {longest}")
    if isinstance(degree, bool) or degree not in range(1, 9):
        raise ValueError(f"water_correction degree: expected 1 to 8, got {degree!r}")
    # denser at both ends, where polynomials swing
    L = longest / 2 * (1 - np.cos(np.pi * np.arange(1, 401) / 400))
    p = beam.log_signal(beam.alone(torch.from_numpy(L))).numpy()
    wanted = beam.mu_reference[0] * L
    scaled = (p / p[-1])[:, None] ** np.arange(1, degree + 1)
    fit = np.linalg.lstsq(scaled / wanted[:, None], np.ones_like(wanted), rcond=None)[0]
    error, long = scaled @ fit - wanted, min(20.0, longest) <= L
    coefficients = tuple((fit / p[-1] ** np.arange(1, degree + 1)).tolist())
    found = WaterCorrection(
        coefficients,
        float(p[-1]),
        float(longest),
        float(np.abs(error).max()),
        float(1000 * np.abs(error / wanted)[long].max()),
    )
    if not bool((found.slope(torch.linspace(0, found.highest, 2001, dtype=torch.float64)) > 0).all()):
        raise ValueError(
            f"water_correction: the polynomial of degree {degree} up to {longest:g} mm is not increasing; "
            "change the degree or the longest path"
        )
    return found


def bone_correction(
    A: XRay,
    p: Tensor,
    beam: Beam,
    water: WaterCorrection | None = None,
    iterations: int = 1,
    ramp: Sequence[float] = (100.0, 1500.0),
    reconstruct: Callable[[XRay, Tensor], Tensor] = fbp,
) -> Tensor:
    """p_w(p) + [μ_w L_w + μ_b L_b − p_w(p(L_w, L_b))]: line integrals at the reference energy, bone included.

    Joseph and Spital, J. Comput. Assist. Tomogr. 2 (1978): the image of water-corrected data is split into
    water and bone, both are projected, and what the model says the water correction leaves is added. Where
    there is no bone nothing changes. A second iteration splits the corrected image again.

    A            the scan
    p            −ln of the signal, (*batch, *A.out_shape)
    beam         of water and bone
    water        by default `water_correction(beam)`
    ramp         of `split_materials` [HU]
    reconstruct  (A, line integrals) -> image

    Returns corrected line integrals, (*batch, *A.out_shape).
    """
    if iterations < 1:
        raise ValueError(f"bone_correction iterations: expected at least 1, got {iterations}")
    if len(beam.materials) != 2:
        raise ValueError(f"bone_correction beam: expected water and bone, got {', '.join(beam.materials)}")
    model, water = Polyenergetic(A, beam, ramp), water or water_correction(beam)
    first = water(p)
    corrected = first
    for _ in range(iterations):
        paths = model.paths(reconstruct(A, corrected).clamp(min=0))
        corrected = first + beam.mono(paths) - water(beam.log_signal(paths))
    return corrected
