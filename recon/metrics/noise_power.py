"""Noise power spectrum: how strong the noise of an image is at every spatial frequency."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .rois import positive, radial_frequency, real_images

Detrend = Literal["quadratic", "mean", "repeats"]


@dataclass(frozen=True)
class RadialNoisePower:
    """NPS(|f|), the mean over rings of frequency, of every region of interest.

    frequency : mean |f| of each ring [1/mm], (k,)
    curves : NPS of every region, (n, k) [unit² mm²]
    degrees : independent spectra among the n
    Call it with frequencies [1/mm] for linear interpolation, constant beyond the ends.
    """

    frequency: Tensor
    curves: Tensor
    degrees: int

    @property
    def nps(self) -> Tensor:
        """Mean over the regions, (k,) [unit² mm²]."""
        return self.curves.mean(0)

    @property
    def error(self) -> Tensor:
        """Standard error of `nps`, from the spread over regions, (k,); inf for a single one."""
        return _error(self.curves, self.degrees)

    @property
    def peak_frequency(self) -> float:
        """Frequency of the highest ring [1/mm], to the width of a ring."""
        return float(self.frequency[self.nps.argmax()])

    @property
    def mean_frequency(self) -> float:
        """f_av = ∫ f NPS(f) df / ∫ NPS(f) df of the radial curve [1/mm] (AAPM TG-233)."""
        return float((self.frequency * self.nps).sum() / self.nps.sum())

    @property
    def mean_frequency_error(self) -> float:
        """Standard error of `mean_frequency`: linearised in the curves; inf for a single region."""
        influence = self.curves @ (self.frequency - self.mean_frequency) / self.nps.sum()
        return float(_error(influence, self.degrees))

    def __call__(self, frequency: Tensor) -> Tensor:
        return interpolated(frequency, self.frequency, self.nps)


@dataclass(frozen=True)
class NoisePower:
    """NPS(f_y, f_x) on the grid of the centred FFT, f = 0 at (ny // 2, nx // 2).

    spectra : periodogram of every region, (n, ny, nx) [unit² mm²]
    pixel_size : [mm]
    degrees : independent spectra among the n
    """

    spectra: Tensor
    pixel_size: float
    degrees: int

    @property
    def nps(self) -> Tensor:
        """Mean over the regions, (ny, nx) [unit² mm²]."""
        return self.spectra.mean(0)

    @property
    def error(self) -> Tensor:
        """Standard error of `nps`, from the spread over regions, (ny, nx); inf for a single one."""
        return _error(self.spectra, self.degrees)

    @property
    def variance(self) -> float:
        """∫∫ NPS df_y df_x [unit²]: the variance of the detrended regions, by Parseval exactly."""
        ny, nx = self.spectra.shape[-2:]
        return float(self.nps.sum() / (ny * nx * self.pixel_size**2))

    @property
    def frequency(self) -> Tensor:
        """|f| of every entry [1/mm], (ny, nx)."""
        return radial_frequency(self.spectra.shape[-2:], self.pixel_size)

    def radial(self) -> RadialNoisePower:
        """Mean over rings as wide as the frequency grid, from the first one above zero to Nyquist's.

        What detrending takes away is mostly the entry of f = 0, which belongs to no ring.
        """
        frequency = self.frequency
        step = 1 / (min(self.spectra.shape[-2:]) * self.pixel_size)
        ring = (frequency / step).round().long()
        last = min(self.spectra.shape[-2:]) // 2
        if last < 1:
            raise ValueError(f"radial: regions of {tuple(self.spectra.shape[-2:])} pixels have no ring")
        inside = (ring >= 1) & (ring <= last)
        member = torch.nn.functional.one_hot(ring[inside] - 1, last).double()
        member = member / member.sum(0)
        return RadialNoisePower(frequency[inside] @ member, self.spectra[:, inside] @ member, self.degrees)


def noise_power_spectrum(rois: Tensor, pixel_size: float, detrend: Detrend = "quadratic") -> NoisePower:
    """NPS(f) = h²/(ny nx) · mean over regions |DFT(region − trend)|² [unit² mm²].

    Siewerdsen, Cunningham, Jaffray, Med. Phys. 29 (2002); ICRU report 87 (2012). Its integral over f is the
    variance of the detrended pixels. Regions are taken as independent for the errors.

    Parameters
    ----------
    rois : (n, ny, nx), or (repeats, n, ny, nx) for `detrend="repeats"`, in any unit (HU gives HU² mm²)
    pixel_size : h [mm]
    detrend : what is not noise. "quadratic": a polynomial of second order, least squares, per region, which
        also takes 6 of ny·nx degrees of freedom of the noise; "mean": the mean of each region; "repeats": the
        mean over R repeats of the same scan, times √(R/(R − 1)), which for two of them is (a − b)/√2
    """
    positive("noise_power_spectrum pixel_size [mm]", pixel_size)
    x = real_images("noise_power_spectrum rois", rois, least=3)
    degrees = math.prod(x.shape[:-2])
    if detrend == "repeats":
        if x.ndim != 4 or len(x) < 2:
            raise ValueError(
                f"noise_power_spectrum rois: detrend='repeats' expects (repeats ≥ 2, n, ny, nx), got "
                f"{tuple(x.shape)}"
            )
        repeats = len(x)
        x = (x - x.mean(0)) * math.sqrt(repeats / (repeats - 1))
        degrees = degrees // repeats * (repeats - 1)
    elif detrend in ("quadratic", "mean"):
        basis = _polynomials(x.shape[-2:], 2 if detrend == "quadratic" else 0)
        flat = x.flatten(-2)
        x = (flat - (flat @ basis) @ basis.T).unflatten(-1, x.shape[-2:])
    else:
        raise ValueError(
            f"noise_power_spectrum detrend: expected 'quadratic', 'mean' or 'repeats', got {detrend!r}"
        )
    x = x.reshape(-1, *x.shape[-2:])
    spectra = torch.fft.fftshift(torch.fft.fft2(x), (-2, -1)).abs() ** 2 * pixel_size**2 / x[0].numel()
    return NoisePower(spectra, float(pixel_size), degrees)


def interpolated(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear through (x, y), x increasing; constant beyond the ends."""
    at = at.to(x.dtype)
    if len(x) == 1:
        return y[0].expand(at.shape).clone()
    k = torch.searchsorted(x, at.contiguous()).clamp(1, len(x) - 1)
    share = ((at - x[k - 1]) / (x[k] - x[k - 1])).clamp(0, 1)
    return y[k - 1] + share * (y[k] - y[k - 1])


def _polynomials(shape: tuple[int, ...], order: int) -> Tensor:
    """Orthonormal columns that span the polynomials up to `order`: (ny·nx, terms)."""
    y, x = (
        torch.linspace(-1, 1, n, dtype=torch.float64) if n > 1 else torch.zeros(1).double() for n in shape
    )
    terms = [
        (y[:, None] ** i * x[None] ** j).flatten() for i in range(order + 1) for j in range(order + 1 - i)
    ]
    if len(terms) >= math.prod(shape):
        raise ValueError(
            f"noise_power_spectrum rois: a trend of {len(terms)} terms leaves no noise in {shape} pixels"
        )
    return torch.linalg.qr(torch.stack(terms, -1))[0]


def _error(values: Tensor, degrees: int) -> Tensor:
    """Standard error of the mean over dimension 0, `degrees` of them independent."""
    if len(values) < 2 or degrees < 2:
        return torch.full(values.shape[1:], math.inf, dtype=values.dtype)
    return values.std(0) / math.sqrt(degrees)
