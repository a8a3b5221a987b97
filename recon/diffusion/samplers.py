"""Samplers of the posterior with a diffusion prior: DPS, DDS, DiffPIR, moment matching.

All are written with x = clean + σ·n (variance exploding); those published with x = √ᾱ·clean + √(1 − ᾱ)·n are
the same for σ² = (1 − ᾱ)/ᾱ. Where the exact posterior is known, of Gaussian images, moment matching has its
mean and covariance as the steps grow; DiffPIR (λ = ζ = 1) its mean, with two thirds of its spread; DDS its
mean if the noise is low, with a quarter to two fifths of its spread where data are and nearly all of it where
none are; DPS neither (tests/recon/test_diffusion.py).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from operators.tensors import norm, spread
from priors.denoiser import Denoiser

from ..solvers import cg, run
from .base import Plug, PosteriorSampler, Target, move
from .noise import towards


class DPS(PosteriorSampler):
    """x ← ancestral step of D(x, σ), then x ← x − ζ' ∇ₓ‖y − A D(x, σ)‖: diffusion posterior sampling.

    Chung, Kim, Mccann, Klasky, Ye, ICLR 2023, with the step of their code: ζ times the gradient of the norm,
    not of its square, in units of images in [−1, 1] and of ‖A‖ = 1, which is
    ζ' = ζ·h·(1 + σ²/h²)/‖A‖, h half the size, per 1000 steps. A pass back through the network every step.

    Biased: how strongly the data pull says ζ and not their noise, and the pull of the norm does not vanish as
    the residual does. Its spread is no standard deviation of the posterior; rays of different noise weigh as
    their likelihood says, up to that common factor.

    zeta   ζ, theirs 0.3 … 1; n steps take ζ·1000/n each
    and the parameters of `PosteriorSampler`
    """

    name: ClassVar[str] = "dps"

    def __init__(self, denoiser: Plug, steps: int = 1000, zeta: float = 0.3, **options: Any):
        super().__init__(denoiser, steps, **options)
        if not zeta > 0:
            raise ValueError(f"DPS zeta: expected a positive number, got {zeta}")
        self.zeta, self.gradients = zeta, steps

    def step(self, target: Target, x: Tensor, now: Tensor, after: Tensor, draw: Tensor) -> Tensor:
        half = target.size / 2
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            clean = target.denoise(x, now)
            root, m = target.root.expand(target.problem.y.shape), len(target.problem.A.out_shape)
            largest = root.flatten(root.ndim - m).amax(-1)  # of each image
            total = norm(target.residual(target.bound(clean)) / spread(largest, m), m).sum()
            slope = torch.autograd.grad(total, x)[0]
        slope = torch.where(slope.isfinite(), slope, 0)  # a residual of exactly 0 has no slope
        pull = self.zeta * 1000 / self.steps * half * (1 + (now / half).square()) / target.norm
        x, clean = x.detach(), target.bound(clean.detach())
        return move(target, x, clean, now, after, 1.0, draw) - spread(pull, target.ndim) * slope

    @classmethod
    def examples(cls) -> list[DPS]:
        return [cls(_example(), 6, samples=2)]


class DDS(PosteriorSampler):
    """x̂ = D(x, σ), then a few steps of CG on d(A·) + ½‖· − x̂‖²/r² from x̂: decomposed diffusion sampling.

    Chung, Lee, Ye, ICLR 2024. No pass back through the network, few steps: theirs 50, CG 5, η 0.85. The noise
    of the next level is that of D alone, as there, so that every level pulls with the full weight of the
    data: the more levels, the more noise is fitted, which harms where it is not low. The spread is too small.

    radius      r, how far from D the data may pull, in parts of the size; None: r² = σ²/(1 + σ²/size²), the
                variance that a clean image has given x, of Song et al., ICLR 2023 (ΠGDM); inf: the paper's
                data without noise, where only the few steps of CG hold x near D. With γ the paper's weight of
                noisy data of variance σ_n², radius² = γ σ_n²
    eta         η, the part of the noise that is drawn anew
    iterations  of CG
    and the parameters of `PosteriorSampler`
    """

    name: ClassVar[str] = "dds"

    def __init__(
        self,
        denoiser: Plug,
        steps: int = 50,
        radius: float | None = None,
        eta: float = 0.85,
        iterations: int = 5,
        **options: Any,
    ):
        super().__init__(denoiser, steps, **options)
        if radius is not None and not radius > 0:
            raise ValueError(f"DDS radius: expected a positive number or None, got {radius}")
        if not 0 <= eta <= 1 or iterations < 1:
            raise ValueError(f"DDS eta, iterations: expected 0 … 1 and at least 1, got {eta}, {iterations}")
        self.radius, self.eta, self.inner_iterations = radius, eta, iterations

    def step(self, target: Target, x: Tensor, now: Tensor, after: Tensor, draw: Tensor) -> Tensor:
        guess = target.denoise(x, now)
        known = 1 / now.square() + 1 / target.size.square()
        rho = known if self.radius is None else 1 / (self.radius * target.size).square()
        clean = target.bound(target.data.near(guess, rho, guess))
        t, s = (torch.as_tensor(spread(v, target.ndim)) for v in (now, after))
        return towards(clean, (x - guess) / t, t, s, self.eta, draw)

    @classmethod
    def examples(cls) -> list[DDS]:
        return [
            cls(_example(), 6, samples=2),
            cls(_example(), 6, math.inf, samples=2, likelihood="unweighted"),
        ]


class DiffPIR(PosteriorSampler):
    """x̂ = prox of the data at D(x, σ), weight λ/σ²; x ← x̂ + σ'·(√(1 − ζ)·(x − x̂)/σ + √ζ·n).

    Zhu et al., CVPR workshops 2023: half-quadratic splitting on the clean image, ρ = λσ_n²/σ². Here d carries
    the noise, so the prox is that of d + λ/2σ²‖· − D‖². No pass back through the network.

    λ = 1 is Bayes' rule where clean images given x vary by σ in every pixel, as they do at low noise; theirs
    is 7 (3 … 25), which trusts D more. With ζ = 1 the noise is forgotten at every level and the spread too
    small; neither choice makes the spread a standard deviation: calibrate it (`Conformal`).

    weight      λ
    zeta        ζ, the part of the noise's variance that is drawn anew, theirs 0.1 … 1
    iterations  of CG at most, where there is no closed form
    and the parameters of `PosteriorSampler`
    """

    name: ClassVar[str] = "diffpir"

    def __init__(
        self,
        denoiser: Plug,
        steps: int = 100,
        weight: float = 7.0,
        zeta: float = 0.3,
        iterations: int = 10,
        **options: Any,
    ):
        super().__init__(denoiser, steps, **options)
        if not weight > 0:
            raise ValueError(f"DiffPIR weight: expected a positive number, got {weight}")
        if not 0 <= zeta <= 1 or iterations < 1:
            raise ValueError(
                f"DiffPIR zeta, iterations: expected 0 … 1 and at least 1, got {zeta}, {iterations}"
            )
        self.weight, self.zeta, self.inner_iterations = weight, zeta, iterations

    def step(self, target: Target, x: Tensor, now: Tensor, after: Tensor, draw: Tensor) -> Tensor:
        guess = target.denoise(x, now)
        clean = target.bound(target.data.near(guess, self.weight / now.square(), guess))
        t, s = (spread(v, target.ndim) for v in (now, after))
        return clean + s * (math.sqrt(1 - self.zeta) * (x - clean) / t + math.sqrt(self.zeta) * draw)

    @classmethod
    def examples(cls) -> list[DiffPIR]:
        return [cls(_example(), 6, samples=2)]


class MomentMatching(PosteriorSampler):
    """x̂ = D + V A*(A V A* + Σ)⁻¹(y − A D),  V = σ² ∂D/∂x: the clean image's mean given x and y.

    Rozet, Andry, Lanusse, Louppe, NeurIPS 2024 (MMPS); Boys et al. 2023. σ² ∂D/∂x is the covariance of the
    clean image given x, so that with Gaussian images x̂ is E[clean | x, y] exactly, and the samples have the
    posterior's mean and covariance as the steps grow. In general the clean image given x is taken for normal.
    The system by CG, a pass back through the network each.

    iterations  of CG; 1 to 5 with networks
    and the parameters of `PosteriorSampler`
    """

    name: ClassVar[str] = "moment-matching"

    def __init__(self, denoiser: Plug, steps: int = 100, iterations: int = 3, **options: Any):
        super().__init__(denoiser, steps, **options)
        if iterations < 1:
            raise ValueError(f"MomentMatching iterations: expected at least 1, got {iterations}")
        self.inner_iterations, self.gradients = iterations, steps * (iterations + 1)

    def step(self, target: Target, x: Tensor, now: Tensor, after: Tensor, draw: Tensor) -> Tensor:
        A, root, m = target.problem.A, target.root, len(target.problem.A.out_shape)
        power = spread(now.square(), target.ndim)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            guess = target.denoise(x, now)

        def covariance(v: Tensor) -> Tensor:
            return power * torch.autograd.grad(guess, x, v, retain_graph=True)[0]

        def system(u: Tensor) -> Tensor:
            return u + root * A(covariance(A.adjoint(root * u)))

        r = target.residual(guess.detach())
        u = run(cg(system, r, torch.zeros_like(r), m), self.inner_iterations, 1e-4)
        clean = target.bound(guess.detach() + covariance(A.adjoint(root * u)))
        return move(target, x.detach(), clean, now, after, 1.0, draw)

    @classmethod
    def examples(cls) -> list[MomentMatching]:
        return [cls(_example(), 6, 2, samples=2)]


def _example() -> Denoiser:
    """A small network that has learned nothing."""
    from priors.diffusion import DiffusionPrior

    return DiffusionPrior(widths=(8, 8), embedding=4).eval()
