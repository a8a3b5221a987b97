"""A polyenergetic beam in the eyes of a detector: what is left of its signal behind some materials."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .materials import Material, attenuation, material
from .spectrum import Spectrum, energy_of

TYPICAL = 200.0  # mm of the first material for which the default reference energy is right


@dataclass(frozen=True)
class Beam:
    """p(L) = −ln Σ_k w_k exp(−Σ_m μ_m(E_k) L_m), w_k ∝ quanta_k · gain_k.

    Made by `Beam.of(spectrum, materials)`, or by hand:

    energies : E_k [keV]
    quanta : detected photons of the open beam at each energy, any unit; kept as fractions of their sum
    gain : signal of one detected photon, E_k for an energy-integrating detector, 1 for a counting one
    mu : attenuation of each material at each energy, (materials, energies) [1/mm]
    mu_reference : attenuation of each material at the reference energy (materials,) [1/mm]
    reference : the reference energy [keV], for the record
    materials : their names
    """

    energies: tuple[float, ...]
    quanta: tuple[float, ...]
    gain: tuple[float, ...]
    mu: tuple[tuple[float, ...], ...]
    mu_reference: tuple[float, ...]
    reference: float
    materials: tuple[str, ...]

    def __post_init__(self) -> None:
        n, m = len(self.energies), len(self.materials)
        for name, value in (("quanta", self.quanta), ("gain", self.gain), ("energies", self.energies)):
            array = np.asarray(value, dtype=np.float64)
            if array.shape != (n,) or not ((array >= 0).all() and 0 < array.sum() < np.inf):
                raise ValueError(
                    f"Beam {name}: expected {n} finite numbers ≥ 0, one of them above, got {value}"
                )
            object.__setattr__(self, name, tuple(array.tolist()))
        tables: tuple[tuple[str, Any, tuple[int, ...]], ...]
        tables = ("mu", self.mu, (m, n)), ("mu_reference", self.mu_reference, (m,))
        for name, table, shape in tables:
            array = np.asarray(table, dtype=np.float64)
            if m == 0 or array.shape != shape or not (np.isfinite(array).all() and (array > 0).all()):
                raise ValueError(
                    f"Beam {name} [1/mm]: expected positive numbers of shape {shape}, got {array.shape}"
                )
            object.__setattr__(self, name, _nested(array))
        object.__setattr__(self, "quanta", tuple(np.asarray(self.quanta) / math.fsum(self.quanta)))
        object.__setattr__(self, "materials", tuple(self.materials))  # a list, as JSON gives it, has no hash

    def __repr__(self) -> str:
        return (
            f"Beam({len(self.energies)} energies, {self.energies[0]:g}…{self.energies[-1]:g} keV, "
            f"{' + '.join(self.materials)}, reference {self.reference:.4g} keV)"
        )

    @classmethod
    def of(
        cls,
        spectrum: Spectrum,
        materials: Sequence[str | Material] = ("water", "bone"),
        reference: float | None = None,
        detector: Literal["integrating", "counting"] = "integrating",
        efficiency: Callable[[np.ndarray], Any] | Sequence[float] | None = None,
    ) -> Beam:
        """The beam of a spectrum behind `materials`, whose attenuation comes from `attenuation`.

        reference   energy at which images of attenuation are meant [keV]; None: where a single energy is
                    attenuated by 200 mm of the first material as the beam is
        detector    "integrating", gain E, or "counting", gain 1
        efficiency  fraction of photons detected, at each energy or as a function of them [keV]; None: all
        """
        if detector not in ("integrating", "counting"):
            raise ValueError(f"Beam detector: expected 'integrating' or 'counting', got {detector!r}")
        E, fluence = spectrum.arrays
        eta = efficiency(E) if callable(efficiency) else 1.0 if efficiency is None else efficiency
        eta = np.asarray(eta, dtype=np.float64)
        if eta.shape not in ((), E.shape) or not ((eta >= 0) & (eta <= 1)).all():
            raise ValueError(f"Beam efficiency: expected {E.size} numbers from 0 to 1, got {eta.shape}")
        chosen = [material(m) for m in ([materials] if isinstance(materials, str) else materials)]
        mu = np.stack([attenuation(m, E) for m in chosen])
        gain = E if detector == "integrating" else np.ones_like(E)
        if reference is None:
            w = fluence * eta * gain
            p = -math.log(float(np.exp(-mu[0] * TYPICAL) @ w / w.sum()))
            reference = energy_of(chosen[0], p / TYPICAL, float(E[0]), float(E[-1]))
        at_reference = tuple(float(attenuation(m, [reference])[0]) for m in chosen)
        quanta = tuple(fluence * eta)
        names = tuple(m.name for m in chosen)
        return cls(tuple(E), quanta, tuple(gain), _nested(mu), at_reference, float(reference), names)

    @property
    def weights(self) -> tuple[float, ...]:
        """Fraction w_k of the open beam's signal."""
        w = np.asarray(self.quanta) * np.asarray(self.gain)
        return tuple(w / w.sum())

    def log_signal(self, paths: Tensor) -> Tensor:
        """p = −ln Σ_k w_k exp(−Σ_m μ_mk L_m), energy by energy: never more than a few copies of the data.

        paths : L_m, the length of each material on each ray, (materials, *any) [mm]
        """
        self._check(paths)
        p: Tensor = _LogSignal.apply(paths, self.weights, self.mu)
        return p

    def slopes(self, paths: Tensor) -> Tensor:
        """∂p/∂L_m = Σ_k μ_mk w_k e^(−…) / Σ_k w_k e^(−…), attenuation behind L [1/mm], (materials, *any)."""
        self._check(paths)
        return _evaluated(paths, self.weights, self.mu)[1]

    def mono(self, paths: Tensor) -> Tensor:
        """Σ_m μ_m(reference) L_m, what photons of the reference energy alone would see."""
        self._check(paths)
        mu = torch.as_tensor(self.mu_reference, dtype=paths.dtype, device=paths.device)
        return torch.tensordot(mu, paths, 1)

    def alone(self, length: Tensor) -> Tensor:
        """Paths (materials, *any) with `length` [mm] of the first material and nothing of the others."""
        paths = torch.zeros((len(self.materials), *length.shape), dtype=length.dtype, device=length.device)
        paths[0] = length
        return paths

    def path(self, p: Tensor) -> Tensor:
        """L of the first material with log_signal = p [mm]; p may be negative.

        A table, then Newton's method, which converges as p(L) is increasing and concave; differentiable.
        """
        L = _interpolated(p.detach(), *_table(self))
        for _ in range(3):
            value, slope = _evaluated(L[None], self.weights, self.mu[:1])
            L = L + (p - value) / slope[0]
        return L

    def _check(self, paths: Tensor) -> None:
        if paths.ndim < 1 or paths.shape[0] != len(self.materials):
            raise ValueError(
                f"{self!r} paths: expected ({len(self.materials)}, *any), a length per material "
                f"({', '.join(self.materials)}), got {tuple(paths.shape)}"
            )


Numbers = tuple[float, ...]


def _evaluated(paths: Tensor, weights: Numbers, mu: tuple[Numbers, ...]) -> tuple[Tensor, Tensor]:
    """P and its slopes (materials, …); the strongest energy is divided out, so that nothing underflows."""
    columns = [(math.log(w), column) for w, *column in zip(weights, *mu, strict=True) if w > 0]
    least = functools.reduce(torch.minimum, (_line(paths.detach(), column) - w for w, column in columns))
    total = torch.zeros_like(least)
    slopes = [torch.zeros_like(least) for _ in mu]
    for w, column in columns:
        share = (least + w - _line(paths, column)).exp()
        total = total + share
        slopes = [slope + m * share for slope, m in zip(slopes, column, strict=True)]
    return least - total.log(), torch.stack(slopes) / total


def _line(paths: Tensor, mu: Sequence[float]) -> Tensor:
    """Σ_m μ_m L_m."""
    total = mu[0] * paths[0]
    for m, L in zip(mu[1:], paths[1:], strict=True):
        total = total + m * L
    return total


@functools.lru_cache(maxsize=32)
def _table(beam: Beam) -> tuple[Tensor, Tensor]:
    """P of the first material at lengths L, and L: ±1e-6 mm to 10 m in steps of 1.5 %."""
    far = torch.logspace(-6, 4, 1600, dtype=torch.float64)
    L = torch.cat([-far.flip(0), torch.zeros(1, dtype=torch.float64), far])
    return _evaluated(L[None], beam.weights, beam.mu[:1])[0], L


def _interpolated(p: Tensor, table: Tensor, L: Tensor) -> Tensor:
    """L(p), linear between the entries and beyond them."""
    x, y, at = table.to(p.device), L.to(p.device), p.double().contiguous()
    i = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    return (y[i - 1] + (at - x[i - 1]) * (y[i] - y[i - 1]) / (x[i] - x[i - 1])).to(p.dtype)


class _LogSignal(torch.autograd.Function):
    """p(L), which remembers L and p instead of every energy's share."""

    generate_vmap_rule = True

    @staticmethod
    def forward(paths: Tensor, weights: Numbers, mu: tuple[Numbers, ...]) -> Tensor:
        return _evaluated(paths, weights, mu)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        paths, ctx.weights, ctx.mu = inputs
        ctx.save_for_backward(paths)
        ctx.save_for_forward(paths)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (paths,) = ctx.saved_tensors
        return grad * _evaluated(paths, ctx.weights, ctx.mu)[1], None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (paths,) = ctx.saved_tensors
        return (_evaluated(paths, ctx.weights, ctx.mu)[1] * tangent).sum(0)


def _nested(array: np.ndarray) -> Any:
    """Tuples of floats, as deep as the array."""
    return tuple(_nested(row) if row.ndim else float(row) for row in array)
