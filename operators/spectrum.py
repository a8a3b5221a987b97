"""X-ray spectra: photons by energy, filtered, binned, and summed up in a few numbers."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .materials import HIGHEST, LOWEST, Material, attenuation

Array = NDArray[np.float64]
Filters = Sequence[tuple[str | Material, float]]

KVP = (20.0, 300.0)  # for which spekpy's model of a tungsten anode is made
ELECTRON = 510.99895  # rest energy [keV]


@dataclass(frozen=True)
class Spectrum:
    """Photons of each energy.

    energies : of the bins, increasing [keV]
    fluence : photons per bin; of `tube_spectrum` [1/(mAs mm²) at 1 m], by hand in any unit
    """

    energies: tuple[float, ...]
    fluence: tuple[float, ...]

    def __post_init__(self) -> None:
        E, phi = (np.asarray(v, dtype=np.float64) for v in (self.energies, self.fluence))
        if E.ndim != 1 or E.size == 0 or E.shape != phi.shape:
            raise ValueError(
                f"Spectrum: expected one fluence for each of the energies, got {E.shape} and {phi.shape}"
            )
        if not (np.isfinite(E).all() and (np.diff(E) > 0).all() and E[0] >= LOWEST and E[-1] <= HIGHEST):
            raise ValueError(
                f"Spectrum energies [keV]: expected increasing numbers from {LOWEST:g} to {HIGHEST:g}, "
                f"got {_ends(E)}"
            )
        if not (np.isfinite(phi).all() and (phi >= 0).all() and phi.sum() > 0):
            raise ValueError(f"Spectrum fluence: expected finite numbers ≥ 0, some above, got {_ends(phi)}")
        object.__setattr__(self, "energies", tuple(E.tolist()))
        object.__setattr__(self, "fluence", tuple(phi.tolist()))

    def __repr__(self) -> str:
        return (
            f"Spectrum({len(self.energies)} bins, {self.energies[0]:g}…{self.energies[-1]:g} keV, "
            f"{self.total:.4g} photons)"
        )

    @property
    def arrays(self) -> tuple[Array, Array]:
        """Energies [keV] and fluence as arrays."""
        return np.asarray(self.energies), np.asarray(self.fluence)

    @property
    def total(self) -> float:
        """Photons of all energies."""
        return math.fsum(self.fluence)

    @property
    def mean_energy(self) -> float:
        """Σ φ E / Σ φ [keV]."""
        E, phi = self.arrays
        return float(phi @ E / phi.sum())

    def filtered(self, *filters: tuple[str | Material, float]) -> Spectrum:
        """Φ exp(−Σ μ t) behind sheets of (material, thickness [mm])."""
        E, phi = self.arrays
        for material, thickness in filters:
            if not (math.isfinite(thickness) and thickness >= 0):
                raise ValueError(f"filter of {material} [mm]: expected a thickness ≥ 0, got {thickness}")
            phi = phi * np.exp(-attenuation(material, E) * thickness)
        return Spectrum(self.energies, tuple(phi))

    def binned(self, n: int) -> Spectrum:
        """At most `n` bins of equal width, each at the mean energy of its photons.

        Photons and energy are kept. For tube spectra of 60 to 140 kVp behind 2.5 mm Al and up to 500 mm of
        water, −ln of an energy-integrating signal is wrong by at most 3.1e-2 with 10 bins, 8e-3 with 20 (at
        60 kVp; half as much from 100 kVp on).
        """
        if isinstance(n, bool) or int(n) != n or n < 1:
            raise ValueError(f"binned n: expected a whole number of at least 1, got {n!r}")
        E, phi = self.arrays
        E, phi = E[phi > 0], phi[phi > 0]
        edges = np.linspace(E[0], E[-1], int(n) + 1)
        group = np.clip(np.searchsorted(edges, E, side="right") - 1, 0, int(n) - 1)
        photons = np.bincount(group, phi, minlength=int(n))
        energy = np.bincount(group, phi * E, minlength=int(n))
        some = photons > 0
        return Spectrum(tuple(energy[some] / photons[some]), tuple(photons[some]))

    def air_kerma(self) -> float:
        """Σ φ E (μ_tr/ρ)_air [keV/g · photons], the energy given to electrons in air.

        μ_tr = photoelectric absorption + the mean energy a Compton electron takes (Klein and Nishina 1929);
        fluorescence of air is negligible.
        """
        E, phi = self.arrays
        return float(phi @ (E * _transfer_in_air(E)))

    def hvl(self, material: str | Material = "Al") -> float:
        """First half-value layer [mm]: the thickness that halves the air kerma."""
        E, phi = self.arrays
        kerma, mu = phi * E * _transfer_in_air(E), attenuation(material, E)
        low, high = math.log(2) / mu.max(), math.log(2) / mu[phi > 0].min()
        return _bisect(lambda t: float(kerma @ np.exp(-mu * t) - kerma.sum() / 2), high, low)

    def effective_energy(self, material: str | Material = "Al") -> float:
        """Energy of single-energy photons with the same first half-value layer in `material` [keV]."""
        mu = math.log(2) / self.hvl(material)
        return energy_of(material, mu, self.energies[0], self.energies[-1])


def tube_spectrum(
    kvp: float, filters: Filters = (("Al", 2.5),), anode_angle: float = 12.0, width: float = 1.0
) -> Spectrum:
    """Spectrum of a tungsten anode by spekpy: Poludniowski et al., Med. Phys. 48 (2021).

    Fluence in photons per mAs and mm² at 1 m, without air between.

    kvp          tube voltage, 20 to 300 [kV]
    filters      (material, thickness [mm]) in the beam, attenuated by `attenuation`
    anode_angle  2 to 45 [degrees]
    width        of the energy bins, 0.1 to 2 [keV]

    Raises ValueError out of these ranges, ImportError without spekpy and xraydb.
    """
    for name, value, low, high in (
        ("kvp [kV]", kvp, *KVP),
        ("anode_angle [degrees]", anode_angle, 2.0, 45.0),
        ("width [keV]", width, 0.1, 2.0),
    ):
        if not low <= value <= high:
            raise ValueError(f"tube_spectrum {name}: expected {low:g} to {high:g}, got {value}")
    tube = _spekpy().Spek(kvp=float(kvp), th=float(anode_angle), dk=float(width), z=100.0, mas=1.0, targ="W")
    E, per_kev = tube.get_spectrum(edges=False)  # photons per keV and cm²
    fluence = np.nan_to_num(np.asarray(per_kev)) * width / 100
    return Spectrum(tuple(E), tuple(np.clip(fluence, 0, None))).filtered(*filters)


def energy_of(material: str | Material, mu: float, low: float, high: float) -> float:
    """The energy in [low, high] keV at which `material` attenuates by mu [1/mm]; the nearer end if none."""
    return _bisect(lambda E: float(attenuation(material, [E])[0]) - mu, high, low)


def _bisect(f: Any, negative: float, positive: float) -> float:
    """Where f changes its sign."""
    for _ in range(60):
        middle = (negative + positive) / 2
        negative, positive = (middle, positive) if f(middle) < 0 else (negative, middle)
    return (negative + positive) / 2


def _transfer_in_air(E: Array) -> Array:
    """μ_tr/ρ of air up to a constant factor: photoelectric plus Compton energy transfer."""
    photo, compton = (attenuation("air", E, kind=kind) for kind in ("photo", "incoh"))
    return photo + compton * _recoil_fraction(E)


def _recoil_fraction(E: Array) -> Array:
    """Mean fraction of a photon's energy that its Compton electron gets, ∫ (1 − E'/E) dσ_KN / ∫ dσ_KN."""
    cosine, weight = np.polynomial.legendre.leggauss(40)
    ratio = 1 / (1 + E[:, None] / ELECTRON * (1 - cosine))  # E'/E
    sigma = ratio**2 * (ratio + 1 / ratio - (1 - cosine**2)) * weight
    return np.asarray(((1 - ratio) * sigma).sum(1) / sigma.sum(1))


def _spekpy() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("spekpy")
    except ImportError:
        raise ImportError(
            "tube_spectrum needs spekpy: pip install 'hybrid-recon[physics]', or give a Spectrum by hand"
        ) from None


def _ends(values: Array) -> str:
    return f"{values[0]:g}…{values[-1]:g}" if values.size else "none"
