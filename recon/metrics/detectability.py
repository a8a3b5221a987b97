"""Detectability d′ of a known signal in stationary noise, in the frequency domain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from .noise_power import NoisePower
from .rois import positive, radial_frequency, real_images

Curve = Callable[[Tensor], Tensor]


def d_prime(
    signal: Tensor,
    noise_power: NoisePower | Tensor | Curve,
    pixel_size: float,
    observer: Literal["ideal", "npw", "npwe"] = "npw",
    transfer: Curve | None = None,
    eye: Curve | None = None,
) -> Tensor:
    """d′ of an observer who knows signal and noise, with S = W·TTF:

        ideal  d′² = ∫∫ S² / NPS                                 prewhitening, the Hotelling observer
        npw    d′² = (∫∫ S²)² / ∫∫ S² NPS                        a matched filter that ignores the correlation
        npwe   d′² = (∫∫ S² E²)² / ∫∫ S² E⁴ NPS                  the same, seen through an eye filter E

    Myers et al., J. Opt. Soc. Am. A 2 (1985); Burgess, J. Opt. Soc. Am. A 11 (1994); ICRU report 87 (2012).
    The integrals are sums over the grid of the signal's FFT. Non-linear methods: TTF and NPS hold for the
    contrast and the dose they were measured at.

    Parameters
    ----------
    signal : difference that the task is about, W its Fourier transform, (*batch, ny, nx) [unit]
    noise_power : a `NoisePower` or tensor (ny, nx) on the same grid, or a function of |f| [1/mm], such as a
        `RadialNoisePower` [unit² mm²]
    pixel_size : [mm]
    observer : "ideal", "npw" or "npwe"
    transfer : TTF as a function of |f| [1/mm], such as a `Transfer`; None if the signal is blurred already
    eye : E as a function of |f| [1/mm]; `eye_filter` by default, for "npwe" only

    Returns (*batch,), float64.
    """
    positive("d_prime pixel_size [mm]", pixel_size)
    signal = real_images("d_prime signal", signal)
    frequency = radial_frequency(signal.shape[-2:], pixel_size)
    nps = _noise(noise_power, frequency, pixel_size)
    spectrum = torch.fft.fftshift(torch.fft.fft2(signal), (-2, -1)).abs() ** 2 * pixel_size**4
    if transfer is not None:
        spectrum = spectrum * transfer(frequency) ** 2
    cell = 1 / (frequency.numel() * pixel_size**2)
    if eye is not None and observer != "npwe":
        raise ValueError(f"d_prime eye: only observer='npwe' has one, got observer={observer!r}")
    if observer == "ideal":
        if bool((nps == 0).any()):
            raise ValueError(
                "d_prime noise_power: the ideal observer expects positive values, got zeros (such as f = 0 "
                "of detrended regions); give a smooth model, as noise_power_spectrum(...).radial()"
            )
        return (cell * (spectrum / nps).sum((-2, -1))).sqrt()
    if observer not in ("npw", "npwe"):
        raise ValueError(f"d_prime observer: expected 'ideal', 'npw' or 'npwe', got {observer!r}")
    seen = (eye or eye_filter)(frequency) ** 2 if observer == "npwe" else torch.ones_like(frequency)
    passed, noise = (spectrum * seen).sum((-2, -1)), (spectrum * seen**2 * nps).sum((-2, -1))
    found = math.sqrt(cell) * passed / noise.sqrt()
    # no signal, no detectability
    return torch.where(passed > 0, found, 0.0)


def eye_filter(frequency: Tensor, viewing_distance: float = 500.0, magnification: float = 1.0) -> Tensor:
    """E(ρ) = ρ^1.3 exp(−c ρ²), ρ [cycles per degree], largest, 1, at 4: how the eye weighs detail.

    Burgess, Li, Abbey, J. Opt. Soc. Am. A 14 (1997), c = 1.3 / (2·4²).

    frequency : in the image [1/mm]
    viewing_distance : from the eye to the screen [mm]
    magnification : mm on the screen per mm of the image
    """
    positive("eye_filter viewing_distance [mm]", viewing_distance)
    positive("eye_filter magnification", magnification)
    degree = viewing_distance * math.radians(1) / magnification  # mm of the image
    rho, best, power = frequency * degree, 4.0, 1.3
    return (rho / best) ** power * torch.exp(power / 2 * (1 - (rho / best) ** 2))


def auc_of(d_prime: Tensor | float) -> Tensor:
    """AUC = Φ(d′/√2): area under the ROC curve for scores of equal variance and distance d′."""
    return torch.special.ndtr(torch.as_tensor(d_prime, dtype=torch.float64) / math.sqrt(2))


def d_prime_of(auc: Tensor | float) -> Tensor:
    """d′ = √2 Φ⁻¹(AUC), the inverse of `auc_of`; ±inf at 1 and 0."""
    auc = torch.as_tensor(auc, dtype=torch.float64)
    if not bool(((auc >= 0) & (auc <= 1)).all()):
        raise ValueError(f"d_prime_of auc: expected numbers in [0, 1], got {auc}")
    return math.sqrt(2) * torch.special.ndtri(auc)


def _noise(noise_power: NoisePower | Tensor | Curve, frequency: Tensor, pixel_size: float) -> Tensor:
    if isinstance(noise_power, NoisePower):
        if abs(noise_power.pixel_size - pixel_size) > 1e-9 * pixel_size:
            raise ValueError(
                f"d_prime noise_power: measured with pixels of {noise_power.pixel_size:g} mm, the signal "
                f"has {pixel_size:g} mm; give noise_power.radial()"
            )
        nps = noise_power.nps
    else:
        nps = noise_power if isinstance(noise_power, Tensor) else noise_power(frequency)
    nps = real_images("d_prime noise_power", nps)
    if nps.shape != frequency.shape:
        raise ValueError(
            f"d_prime noise_power: expected the signal's grid {tuple(frequency.shape)}, got "
            f"{tuple(nps.shape)}; give noise_power_spectrum(...).radial(), which fits every grid"
        )
    if bool((nps < 0).any()) or not bool((nps > 0).any()):
        raise ValueError("d_prime noise_power: expected non-negative values, some of them positive")
    return nps
