"""Filters of a direct reconstruction: what denoising was before networks, and what these must beat."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from operators.geometry import Geometry
from operators.tensors import spread, squared_norm

from ..base import Reconstructor
from ..emission import smoothed
from ..problem import Problem
from ..unrolled.base import unscaled
from .postprocess_direct import direct

Level = float | Literal["noise", "image"]
"""Where σ comes from: a number, the problem's noise model, the image itself"""


class Filtered(Reconstructor):
    """x = F(x₀; σ),  x₀ = direct(A, y): every plane of the image filtered by itself.

    sigma  standard deviation of the noise in x₀ [its unit], E|n|² = σ² of complex images; one number for an
           image, though the noise of CT differs from pixel to pixel and is correlated. "noise": root mean
           square of what noise as that of the data becomes in x₀, see `noise_level`; "image": from x₀ alone,
           for data of unknown noise, see `level_of_image`
    filter, frequency_scaling  of the filtered back projection, where there is one
    positive  set negative values to zero; None: where the image is attenuation or activity
    """

    def __init__(
        self,
        sigma: Level = "noise",
        filter: str = "hann",
        frequency_scaling: float = 1.0,
        positive: bool | None = None,
    ):
        super().__init__()
        name = type(self).__name__
        if isinstance(sigma, str) and sigma not in ("noise", "image"):
            raise ValueError(f"{name} sigma: expected a number, 'noise' or 'image', got {sigma!r}")
        if not isinstance(sigma, str) and not 0 <= sigma < math.inf:
            raise ValueError(f"{name} sigma: expected a number from 0, got {sigma!r}")
        self.sigma, self.positive = sigma, positive
        self.filter, self.frequency_scaling = filter, frequency_scaling

    @abstractmethod
    def filtered(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Planes (n, ny, nx), real or complex, with noise of σ (n,)."""

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        shape = problem.A.in_shape
        if len(shape) < 2:
            raise ValueError(f"{type(self).__name__}: expected images of two axes or more, got {shape}")
        x = self.first(problem)
        if x.numel() == 0:
            return x
        planes = math.prod(shape[:-2])
        sigma = self.level(problem, x).reshape(-1).repeat_interleave(planes)
        z = self.filtered(x.reshape(-1, *shape[-2:]), sigma).reshape(x.shape)
        positive = _of_rays(problem) and not z.is_complex() if self.positive is None else self.positive
        return z.clamp_min(0) if positive else z

    def first(self, problem: Problem) -> Tensor:
        """x₀."""
        return direct(problem.A, problem.linear, self.filter, self.frequency_scaling)

    def level(self, problem: Problem, x: Tensor) -> Tensor:
        """σ of every image of x₀, (*batch,)."""
        n = len(problem.A.in_shape)
        if self.sigma == "noise":
            return noise_level(problem, x, self.filter, self.frequency_scaling)
        if self.sigma == "image":
            return level_of_image(x, n)
        return torch.full(x.shape[: x.ndim - n], self.sigma, dtype=x.real.dtype, device=x.device)


def noise_level(
    problem: Problem, x: Tensor, filter: str = "hann", frequency_scaling: float = 1.0, draws: int = 2
) -> Tensor:
    """σ = root mean |direct(y + e) − x₀|² over pixels and draws of e, as the noise of y, per image (*batch,).

    The same for an image alone as in a batch.
    """
    A, y, n = problem.A, problem.linear, len(problem.A.in_shape)
    generator = torch.Generator().manual_seed(0)
    power, deviation = torch.zeros(problem.batch).to(y.real), problem.variance.sqrt()
    wide = torch.complex128 if y.is_complex() else torch.float64
    for _ in range(draws):
        e = torch.randn(A.out_shape, generator=generator, dtype=wide)
        moved = direct(A, y + e.to(y) * deviation, filter, frequency_scaling) - x
        power = power + squared_norm(moved, n) / (draws * math.prod(A.in_shape))
    return power.sqrt()


def level_of_image(x: Tensor, ndim: int = 2) -> Tensor:
    """σ = median |d| / 0.6745, d = (a − b − c + e)/2 of 2 × 2 pixels, per image (*batch,).

    Donoho and Johnstone, Biometrika 81 (1994), with the finest diagonal Haar details: right for white noise
    on an image flat in most places; too low for smoothed noise, as that of FBP. Of complex noise
    |d|² has an exponential law, and σ = median |d| / √ln 2.
    """
    d = x[..., :-1, :-1] - x[..., 1:, :-1] - x[..., :-1, 1:] + x[..., 1:, 1:]
    middle = (d.abs() / 2).flatten(x.ndim - ndim).median(-1).values
    return middle / (math.sqrt(math.log(2)) if x.is_complex() else 0.6744897501960817)


class Bilateral(Filtered):
    """x_p = Σ_q w_pq x₀_q / Σ_q w_pq,  w_pq = exp(−|p − q|²/2ρ² − |x₀_p − x₀_q|²/2(sσ)²).

    Tomasi and Manduchi, ICCV 1998: a Gaussian filter that does not mix across edges. Borders are mirrored.

    width  ρ [pixels]; the window reaches 2ρ
    strength  s
    """

    def __init__(
        self,
        width: float = 1.5,
        strength: float = 2.5,
        sigma: Level = "noise",
        filter: str = "hann",
        frequency_scaling: float = 1.0,
        positive: bool | None = None,
    ):
        super().__init__(sigma, filter, frequency_scaling, positive)
        _check_positive("Bilateral width", width)
        _check_positive("Bilateral strength", strength)
        self.width, self.strength = width, strength

    def filtered(self, x: Tensor, sigma: Tensor) -> Tensor:
        reach = math.ceil(2 * self.width)
        (ny, nx), wide = x.shape[-2:], mirrored(x, reach)
        # without noise only equal pixels are mixed
        h = spread((self.strength * sigma).clamp_min(torch.finfo(sigma.dtype).tiny ** 0.25), 2)
        top, bottom = torch.zeros_like(x), torch.zeros_like(x.real)
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                there = wide[:, reach + dy : reach + dy + ny, reach + dx : reach + dx + nx]
                apart = (there - x).abs() / h
                w = (-0.5 * (apart.square() + (dy**2 + dx**2) / self.width**2)).exp()
                top, bottom = top + w * there, bottom + w
        return top / bottom

    @classmethod
    def examples(cls) -> list[Bilateral]:
        """σ from the noise model, from the image, given."""
        return [cls(), cls(1.0, 3.0, "image"), cls(sigma=0.1, positive=False)]


class GaussianFilter(Filtered):
    """x = x₀ ∗ Gaussian: the simplest filter; σ plays no part.

    fwhm  full width at half maximum [pixels]
    """

    def __init__(
        self,
        fwhm: float = 2.0,
        filter: str = "ram-lak",
        frequency_scaling: float = 1.0,
        positive: bool | None = None,
    ):
        super().__init__(0.0, filter, frequency_scaling, positive)
        _check_positive("GaussianFilter fwhm", fwhm)
        self.fwhm = fwhm

    def filtered(self, x: Tensor, sigma: Tensor) -> Tensor:
        if x.is_complex():
            return torch.complex(smoothed(x.real, self.fwhm, 2), smoothed(x.imag, self.fwhm, 2))
        return smoothed(x, self.fwhm, 2)

    @classmethod
    def examples(cls) -> list[GaussianFilter]:
        """As it comes."""
        return [cls()]


class BandFilter(Filtered):
    """x = 𝓕⁻¹ G 𝓕 x₀,  G = exp(−f²s²) (1 − exp(−f²l²)) at f ≠ 0 [cycles per pixel], G(0) = 1.

    A band of frequencies, as the FFT filter of image programs: structures much smaller than s or larger than
    l are taken out, the mean is kept. The image is mirrored at its borders, so that nothing wraps around.

    smallest  s [pixels], 0 keeps the finest
    largest  l [pixels], None keeps the coarsest, which alone is a filter of noise
    """

    def __init__(
        self,
        smallest: float = 2.0,
        largest: float | None = None,
        filter: str = "ram-lak",
        frequency_scaling: float = 1.0,
        positive: bool | None = None,
    ):
        super().__init__(0.0, filter, frequency_scaling, positive)
        if not 0 <= smallest < math.inf:
            raise ValueError(f"BandFilter smallest: expected a number from 0, got {smallest!r}")
        if largest is not None and not smallest < largest < math.inf:
            raise ValueError(f"BandFilter largest: expected above smallest or None, got {largest!r}")
        self.smallest, self.largest = smallest, largest

    def filtered(self, x: Tensor, sigma: Tensor) -> Tensor:
        # even about every border: the spectrum of the mirrored image is real in its own terms
        whole = torch.cat([x, x.flip(-1)], -1)
        whole = torch.cat([whole, whole.flip(-2)], -2)
        fy, fx = (torch.fft.fftfreq(n, dtype=x.real.dtype, device=x.device) for n in whole.shape[-2:])
        power = fy[:, None].square() + fx.square()
        gain = (-power * self.smallest**2).exp()
        if self.largest is not None:
            gain = gain * (1 - (-power * self.largest**2).exp())
            gain[0, 0] = 1
        z = torch.fft.ifft2(gain * torch.fft.fft2(whole))[..., : x.shape[-2], : x.shape[-1]]
        return z if x.is_complex() else z.real

    @classmethod
    def examples(cls) -> list[BandFilter]:
        """A low pass and a band."""
        return [cls(), cls(1.5, 6.0)]


def mirrored(x: Tensor, reach: int | tuple[int, int, int, int]) -> Tensor:
    """Planes (n, ny, nx) and so many pixels around them (left, right, top, bottom), mirrored."""
    sides = (reach,) * 4 if isinstance(reach, int) else reach
    for axis, (before, after) in ((-1, sides[:2]), (-2, sides[2:])):
        n = x.shape[axis]
        at = torch.arange(-before, n + after, device=x.device).remainder(2 * n)
        x = x.index_select(axis, torch.where(at < n, at, 2 * n - 1 - at))
    return x


def _of_rays(problem: Problem) -> bool:
    return isinstance(getattr(unscaled(problem.A)[1], "geometry", None), Geometry)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
