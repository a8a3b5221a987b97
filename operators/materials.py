"""Materials: what they consist of, how strongly they attenuate X-rays, and how an image is split into two."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Array = NDArray[np.float64]

LOWEST, HIGHEST = 1.0, 800.0  # keV: where the tables of Elam et al. are reliable


@dataclass(frozen=True)
class Material:
    """A homogeneous material.

    name : how it is called
    density : [g/cm³]
    composition : a chemical formula, or pairs (element symbol, mass fraction) that add to 1
    """

    name: str
    density: float
    composition: str | tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.density) and self.density > 0):
            raise ValueError(
                f"Material {self.name} density [g/cm³]: expected a positive number, got {self.density}"
            )
        if isinstance(self.composition, str):
            return
        object.__setattr__(self, "composition", tuple((str(e), float(w)) for e, w in self.composition))
        total = sum(w for _, w in self.composition)
        if not abs(total - 1) < 1e-3 or any(w < 0 for _, w in self.composition):
            raise ValueError(
                f"Material {self.name} composition: expected mass fractions ≥ 0 that add to 1, got {total:g}"
            )

    def fractions(self) -> dict[str, float]:
        """Mass fraction of every element."""
        if not isinstance(self.composition, str):
            return dict(self.composition)
        xraydb = _xraydb()
        try:
            atoms = xraydb.chemparse(self.composition)
        except ValueError:
            raise ValueError(
                f"material {self.name!r}: neither one of {', '.join(MATERIALS)} nor a chemical formula"
            ) from None
        masses = {element: n * xraydb.atomic_mass(element) for element, n in atoms.items()}
        return {element: mass / sum(masses.values()) for element, mass in masses.items()}


# ICRU Report 44 for bone; dry air near sea level; PMMA's two names
_BONE = (
    ("H", 0.034),
    ("C", 0.155),
    ("N", 0.042),
    ("O", 0.435),
    ("Na", 0.001),
    ("Mg", 0.002),
    ("P", 0.103),
    ("S", 0.003),
    ("Ca", 0.225),
)
_AIR = (("C", 0.000124), ("N", 0.755268), ("O", 0.231781), ("Ar", 0.012827))
MATERIALS = {
    m.name: m
    for m in (
        Material("water", 1.0, "H2O"),
        Material("bone", 1.92, _BONE),
        Material("air", 1.205e-3, _AIR),
        Material("pmma", 1.19, "C5H8O2"),
        Material("acrylic", 1.19, "C5H8O2"),
        Material("iodine", 4.93, "I"),
        Material("Al", 2.699, "Al"),
        Material("Ti", 4.54, "Ti"),
        Material("Cu", 8.96, "Cu"),
        Material("Sn", 7.31, "Sn"),
        Material("W", 19.3, "W"),
        Material("Gd2O2S", 7.44, "Gd2O2S"),
        Material("CsI", 4.51, "CsI"),
    )
}


def material(of: str | Material, density: float | None = None) -> Material:
    """The material of that name, or of a chemical formula and a density [g/cm³]; a Material as it is.

    `density` replaces the material's own: iodine of 0.01 g/cm³ is what 10 mg/ml adds to water.
    """
    if isinstance(of, Material):
        return of if density is None else Material(of.name, density, of.composition)
    if of in MATERIALS:
        return material(MATERIALS[of], density)
    if density is None:
        raise ValueError(
            f"material {of!r}: expected one of {', '.join(MATERIALS)}, or a chemical formula with a density"
        )
    return Material(of, density, of)


def attenuation(
    of: str | Material, energies: ArrayLike, density: float | None = None, kind: str = "total"
) -> Array:
    """μ(E) = ρ Σ wᵢ (μ/ρ)ᵢ(E) of a material [1/mm].

    Tables of Elam, Ravel and Sieber, Radiat. Phys. Chem. 63 (2002), through xraydb.

    of        a name in MATERIALS, a chemical formula with its density, or a Material
    energies  [keV], 1 to 800, any shape
    density   [g/cm³], in place of the material's own
    kind      "total" (coherent scatter included), "photo", "coh" or "incoh"

    Raises ValueError for energies out of range and unknown materials, ImportError without xraydb.
    """
    E = np.asarray(energies, dtype=np.float64)
    if E.size == 0 or not bool(((E >= LOWEST) & (E <= HIGHEST)).all()):
        got = "none" if E.size == 0 else f"{E.min():g} to {E.max():g}"
        raise ValueError(f"attenuation energies [keV]: expected {LOWEST:g} to {HIGHEST:g}, got {got}")
    chosen, xraydb = material(of, density), _xraydb()
    per_mass = sum(
        w * xraydb.mu_elam(element, 1e3 * E.ravel(), kind=kind) for element, w in chosen.fractions().items()
    )
    return np.asarray(per_mass * chosen.density / 10).reshape(E.shape)  # 1/cm -> 1/mm


def split_materials(
    x: Tensor, mu_water: float, mu_bone: float, ramp: Sequence[float] = (100.0, 1500.0)
) -> tuple[Tensor, Tensor]:
    """(1 − f) x/μ_w and f x/μ_b: how much of water and of bone is in every pixel, 1 for the pure material.

    f rises linearly in HU from 0 to 1 over `ramp`, so soft tissue and air are water of some density, dense
    bone is bone of some density, and what lies between is a mixture: the soft two-material split in use since
    Joseph and Spital, J. Comput. Assist. Tomogr. 2 (1978). At the reference energy the two add up to x.

    x                  attenuation at the reference energy [1/mm], any shape
    mu_water, mu_bone  those of water and bone at that energy [1/mm]
    ramp               where f begins to rise and reaches 1 [HU]
    """
    f = _fraction(x, mu_water, ramp)
    return (1 - f) * x / mu_water, f * x / mu_bone


def split_slopes(
    x: Tensor, mu_water: float, mu_bone: float, ramp: Sequence[float] = (100.0, 1500.0)
) -> tuple[Tensor, Tensor]:
    """Derivatives of the two `split_materials` by x [mm]."""
    f = _fraction(x, mu_water, ramp)
    inside = (f > 0) & (f < 1)
    xf = torch.where(inside, x * 1000 / (mu_water * (ramp[1] - ramp[0])), 0.0)  # x f'
    return (1 - f - xf) / mu_water, (f + xf) / mu_bone


def check_ramp(ramp: Sequence[float]) -> tuple[float, float]:
    """(low, high) [HU], low < high."""
    low, high = (float(v) for v in ramp)
    if not -1000 <= low < high < math.inf:
        raise ValueError(f"ramp [HU]: expected −1000 ≤ low < high, got {tuple(ramp)}")
    return low, high


def _fraction(x: Tensor, mu_water: float, ramp: Sequence[float]) -> Tensor:
    hu = 1000 * (x / mu_water - 1)
    return ((hu - ramp[0]) / (ramp[1] - ramp[0])).clamp(0, 1)


def _xraydb() -> Any:
    try:
        return importlib.import_module("xraydb")
    except ImportError:
        raise ImportError(
            "attenuation of materials needs xraydb: pip install 'hybrid-recon[physics]'"
        ) from None
