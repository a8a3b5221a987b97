"""Denoise the projections by what is known of their noise, then filtered back projection."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from operators import Gradient, LowDose, fbp
from operators.tensors import spread, total
from priors import L21
from priors.base import Step

from .direct import FBP
from .fidelity import PWLS
from .problem import Problem
from .selection import least
from .solvers import cg, pdhg, run

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(data, variance, strength per image) -> data"""


class SinogramDenoisedFBP(FBP):
    """x = fbp(D(y)), D a denoiser of the projections that knows the variance of every ray.

        pwls       argmin_p ½ Σ (p − p̂)²/var + ½β Σ|∇p|²; Wang et al., IEEE Trans. Med. Imaging 25 (2006)
        tv         argmin_p ½ Σ (p − p̂)²/var + β Σ|∇p|
        bilateral  means of neighbours, weighted by distance and by (p̂ᵢ − p̂ⱼ)² / (β²(varᵢ + varⱼ));
                   Manduca et al., Med. Phys. 36 (2009)

    with ∇ from view to view and bin to bin. In the domain "log" p̂ are line integrals; in "anscombe" they are
    2√(y + 3/8 + σₑ²), of variance 1 where there are a few counts, and are taken back without bias: Mäkitalo
    and Foi, IEEE Trans. Image Process. 22 (2013). That one needs no logarithm of a starved ray.

    smoother  as above
    domain    "log" or "anscombe"
    strength  β > 0, a number or one per image; None: where Stein's estimate of the error of the image, the
              discretisation aside, is least (in the domain "log" without rays of about a count or less)
    filter, frequency_scaling, short_scan, positive   as in `FBP`
    """

    name = "sinogram-denoised-fbp"

    def __init__(
        self,
        smoother: Literal["pwls", "tv", "bilateral"] = "pwls",
        domain: Literal["log", "anscombe"] = "log",
        strength: Step | None = None,
        filter: str = "ram-lak",
        frequency_scaling: float = 1.0,
        short_scan: bool | None = None,
        positive: bool = True,
    ):
        super().__init__(filter, frequency_scaling, short_scan, positive)
        if smoother not in SMOOTHERS:
            raise ValueError(
                f"SinogramDenoisedFBP smoother: expected one of {list(SMOOTHERS)}, got {smoother!r}"
            )
        if domain not in ("log", "anscombe"):
            raise ValueError(f"SinogramDenoisedFBP domain: expected 'log' or 'anscombe', got {domain!r}")
        if strength is not None and not bool(torch.as_tensor(strength > 0).all()):
            raise ValueError(
                f"SinogramDenoisedFBP strength: expected a positive number or None, got {strength}"
            )
        self.smoother, self.domain, self.strength = smoother, domain, strength

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        x = fbp(problem.A, self.denoised(problem), self.filter, self.frequency_scaling, self.short_scan)
        return x.clamp_min(0) if self.positive else x

    @torch.no_grad()
    def denoised(self, problem: Problem) -> Tensor:
        """The line integrals, (*batch, views, bins)."""
        noise, y = problem.noise, problem.y
        if y.is_complex():
            raise ValueError(f"SinogramDenoisedFBP problem: expected projections, got {problem.A!r}")
        if self.domain == "log":
            trusted = (problem.variance <= 1).to(y)
            return self._smooth(problem.linear, problem.variance, trusted, len(problem.A.out_shape))
        if not isinstance(noise, LowDose):
            raise ValueError(
                f"SinogramDenoisedFBP domain='anscombe' needs counts, LowDose noise, got {noise!r}"
            )
        sigma = noise.electronic_sigma
        stable = self._smooth(
            anscombe(y, sigma), torch.ones_like(y), problem.variance.clamp(max=1), len(problem.A.out_shape)
        )
        return noise.linearise(inverse_anscombe(stable, sigma))

    def _smooth(self, data: Tensor, variance: Tensor, importance: Tensor, n: int) -> Tensor:
        """D(data), with the strength given or that of least E‖H(D(data) − truth)‖², H = √|f| · √importance.

        By the slice theorem the error of the image is that of the projections filtered by √|f|. Stein's
        estimate of it, less what does not depend on D: ‖H(D(y) − y)‖² + 2⟨Hσb, H(D(y + εσb) − D(y))⟩/ε, with
        b = ±1.
        """
        denoise = SMOOTHERS[self.smoother]
        batch = data.shape[: data.ndim - n]
        if self.strength is not None:
            strength = torch.as_tensor(self.strength, dtype=data.dtype, device=data.device).expand(batch)
            return denoise(data, variance, strength)
        generator = torch.Generator().manual_seed(0)
        b = torch.randint(0, 2, data.shape[data.ndim - n :], generator=generator).to(data) * 2 - 1
        sigma, epsilon = variance.sqrt(), 0.1

        def evaluate(strength: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            found = denoise(data, variance, strength)
            answer = denoise(data + epsilon * sigma * b, variance, strength) - found
            root = importance.sqrt()
            risk = half_ramp(root * (found - data)) ** 2
            risk = risk + 2 / epsilon * half_ramp(root * sigma * b) * half_ramp(root * answer)
            return total(risk, n), found

        # a typical strength: smoothing that pulls as hard as the data
        mean = total(importance, n) / total(importance * variance, n).clamp(min=1e-12)
        guess = {"pwls": mean, "tv": mean.sqrt(), "bilateral": torch.ones_like(mean)}[self.smoother]
        return least(evaluate, guess.where(guess > 0, torch.ones_like(guess)), data)[1]

    @classmethod
    def examples(cls) -> list[FBP]:
        """Every smoother, both domains."""
        return [cls(), cls("tv", strength=3.0), cls("bilateral", "anscombe", strength=1.0, filter="hann")]


def smooth_pwls(data: Tensor, variance: Tensor, strength: Tensor, iterations: int = 60) -> Tensor:
    """argmin_p ½ Σ (p − data)²/variance + ½ strength Σ|∇p|², by scaled conjugate gradients."""
    shape = data.shape[strength.ndim :]
    n = len(shape)
    G, beta = Gradient(tuple(shape)), spread(strength, n)
    scale = (1 / variance + 2 * n * beta).rsqrt()

    def normal(q: Tensor) -> Tensor:
        p = scale * q
        return scale * (p / variance + beta * G.gram(p))

    q = run(cg(normal, scale * data / variance, data / scale, ndim=n), iterations, 1e-5)
    return scale * q


def smooth_tv(data: Tensor, variance: Tensor, strength: Tensor, iterations: int = 100) -> Tensor:
    """argmin_p ½ Σ (p − data)²/variance + strength Σ|∇p|, by `pdhg`."""
    shape = data.shape[strength.ndim :]
    n = len(shape)
    variation = strength * L21(dim=-n - 1, ndim=n + 1) @ Gradient(tuple(shape))
    return run(pdhg([variation], PWLS(data, variance, n), data), iterations, 1e-4)


def smooth_bilateral(data: Tensor, variance: Tensor, strength: Tensor, reach: int = 2) -> Tensor:
    """Σⱼ wᵢⱼ dataⱼ / Σⱼ wᵢⱼ, −ln wᵢⱼ = |i − j|²/2 + (dataᵢ − dataⱼ)² / (2 strength² (varianceᵢ + varianceⱼ)).

    Over offsets of at most `reach` in each dimension, inside the data.
    """
    n = data.ndim - strength.ndim
    beta2 = spread(strength, n) ** 2
    result, weights = data.clone(), torch.ones_like(data)
    for offset in itertools.product(range(-reach, reach + 1), repeat=n):
        if not any(offset) or any(abs(o) >= data.shape[o_axis - n] for o_axis, o in enumerate(offset)):
            continue
        here = (..., *[slice(max(-o, 0), -o if o > 0 else None) for o in offset])
        there = (..., *[slice(max(o, 0), o if o < 0 else None) for o in offset])
        apart = (data[here] - data[there]) ** 2 / (2 * beta2 * (variance[here] + variance[there]))
        w = (-apart).exp() * math.exp(-sum(o * o for o in offset) / 2)
        result[here] += w * data[there]
        weights[here] += w
    return result / weights


def half_ramp(y: Tensor) -> Tensor:
    """y filtered by √|f| along the bins."""
    size = 2 * y.shape[-1]
    f = torch.arange(size // 2 + 1, dtype=y.dtype, device=y.device) / size
    return torch.fft.irfft(torch.fft.rfft(y, size) * f.sqrt(), size)[..., : y.shape[-1]]


SMOOTHERS: dict[str, Denoise] = {"pwls": smooth_pwls, "tv": smooth_tv, "bilateral": smooth_bilateral}


def anscombe(y: Tensor, sigma: float = 0.0) -> Tensor:
    """2√max(y + 3/8 + σ², 0): variance near 1 for counts of a few and more, with electronic noise σ.

    Anscombe, Biometrika 35 (1948); Murtagh, Starck, Bijaoui, Astron. Astrophys. Suppl. 112 (1995).
    """
    return 2 * (y + 0.375 + sigma**2).clamp(min=0).sqrt()


def inverse_anscombe(f: Tensor, sigma: float = 0.0) -> Tensor:
    """The mean count whose E[2√(y + 3/8 + σ²)] is f, at least 0: f²/4 + c/f − 11/(8f²) + 5c/(2f³) − 1/8 − σ².

    c = √(3/2)/4; the closed form of Mäkitalo and Foi, IEEE Trans. Image Process. 20 (2011) 2697; below
    f = 2√(3/8) no count is expected.
    """
    c = math.sqrt(1.5) / 4
    least_f = 2 * math.sqrt(0.375)
    g = f.clamp(min=least_f)
    return (g**2 / 4 + c / g - 11 / 8 / g**2 + 5 * c / 2 / g**3 - 1 / 8 - sigma**2).clamp(min=0)
