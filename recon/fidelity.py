"""Data terms: negative log-likelihoods of data, as functionals of z = A x in the range of the operator.

    matching(problem)         of the problem's own noise model and raw data
    poisson(problem)          Poisson law of the counts, electronic noise left out
    shifted_poisson(problem)  Poisson law of the counts plus the variance of the electronic noise
    weighted(problem)         Gaussian, with the variance of every ray
    unweighted(problem)       Gaussian, with one variance per image

The noise is in here, so the weight λ of a prior follows the dose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from operators.noise import Gaussian, LowDose, Poisson
from operators.tensors import spread
from priors import L1, Functional, Huber, SquaredL2
from priors.base import Step

from .counts import KullbackLeibler as KullbackLeibler
from .counts import ShiftedPoisson as ShiftedPoisson
from .counts import TransmissionPoisson as TransmissionPoisson
from .counts import check_positive
from .problem import Problem

Likelihood = Literal["unweighted", "weighted", "matching", "poisson", "shifted-poisson"]


class LeastSquares(SquaredL2):
    """½ Σ mᵢ |zᵢ − yᵢ|² / σ²

    y     data, (*batch, *shape)
    sigma σ > 0, a number or one per image (*batch,)
    ndim  dimensions of the data of one image
    mask  m, where something was measured, bool, broadcasts to y; None: everywhere
    """

    def __init__(self, y: Tensor, sigma: Step = 1.0, ndim: int = 2, mask: Tensor | None = None):
        check_positive("LeastSquares sigma", sigma)
        weight = 1 / spread(sigma, ndim) ** 2
        super().__init__(y, weight if mask is None else weight * mask.to(y.real.dtype), ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        y = torch.linspace(-1, 2, 15).reshape(3, 5)
        return [(cls(y), (3, 5)), (cls(y.flatten(), sigma=0.3, ndim=1), (15,))]


class PWLS(SquaredL2):
    """½ Σ |zᵢ − yᵢ|² / varianceᵢ, penalised weighted least squares (Sauer and Bouman 1993).

    y, variance  data and their variance > 0 (inf: ignore), (*batch, *shape)
    ndim         dimensions of the data of one image
    """

    def __init__(self, y: Tensor, variance: Tensor, ndim: int = 2):
        check_positive("PWLS variance", variance)
        super().__init__(y, 1 / variance, ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        y = torch.linspace(-1, 2, 15).reshape(3, 5)
        return [(cls(y, torch.linspace(0.1, 2, 15).reshape(3, 5)), (3, 5))]


class L1Fidelity(L1):
    """Σ |zᵢ − yᵢ|, up to its scale the likelihood of Laplacian noise: robust to outliers.

    y     data, (*batch, *shape)
    ndim  dimensions of the data of one image
    """

    def __init__(self, y: Tensor, ndim: int = 2):
        super().__init__(y, ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(torch.linspace(-1, 2, 15).reshape(3, 5)), (3, 5))]


class HuberFidelity(Huber):
    """Σ h_δ(|zᵢ − yᵢ|), h_δ(t) = t²/(2δ) for t ≤ δ, t − δ/2 above: quadratic, but for outliers.

    y      data, (*batch, *shape)
    delta  where the square ends, unit of y
    ndim   dimensions of the data of one image
    """

    def __init__(self, y: Tensor, delta: float, ndim: int = 2):
        super().__init__(delta, y, ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(torch.linspace(-1, 2, 15).reshape(3, 5), 0.4), (3, 5))]


def matching(problem: Problem) -> Functional:
    """−ln p(y | z) of the problem's own noise model, up to a constant.

    Gaussian gives `LeastSquares`; complex noise, circular with E|n|² = σ², has σ²/2 in each part. LowDose
    gives `TransmissionPoisson`, with electronic noise `ShiftedPoisson`. Poisson gives `KullbackLeibler`.
    """
    noise = problem.noise
    if isinstance(noise, Gaussian):
        return unweighted(problem)
    if isinstance(noise, LowDose):
        return shifted_poisson(problem) if noise.electronic_sigma > 0 else poisson(problem)
    if isinstance(noise, Poisson):
        return poisson(problem)
    raise ValueError(
        f"matching: no likelihood is known for {noise!r}; use weighted(problem), or a functional of your own"
    )


def poisson(problem: Problem) -> Functional:
    """The Poisson law of counts: `KullbackLeibler` of emission, `TransmissionPoisson` of transmission.

    Electronic noise is left out, and a negative count taken as 0.
    """
    noise, y, ndim = problem.noise, problem.y, len(problem.A.out_shape)
    if isinstance(noise, LowDose):
        return TransmissionPoisson(y.clamp(min=0), noise.i0, noise.background, ndim)
    if isinstance(noise, Poisson):
        return KullbackLeibler(y, noise.background, noise.scale, ndim)
    raise ValueError(f"likelihood 'poisson': expected counts, of LowDose or Poisson noise, got {noise!r}")


def shifted_poisson(problem: Problem) -> ShiftedPoisson:
    """y + σₑ² ~ Poisson(I₀ e^(−z) + b + σₑ²), `ShiftedPoisson`."""
    noise = problem.noise
    if isinstance(noise, LowDose):
        ndim = len(problem.A.out_shape)
        return ShiftedPoisson(problem.y, noise.i0, noise.electronic_sigma, noise.background, ndim)
    raise ValueError(f"likelihood 'shifted-poisson': expected LowDose noise, got {noise!r}; use 'matching'")


def weighted(problem: Problem) -> PWLS:
    """PWLS of the linearised data with their variance, per real number."""
    return PWLS(problem.linear, _variance(problem), len(problem.A.out_shape))


def unweighted(problem: Problem) -> LeastSquares:
    """Least squares of the linearised data; σ² is the mean variance of an image, for E‖noise‖² is right.

    Data of infinite variance, as k-space that was not sampled, do not count.
    """
    ndim = len(problem.A.out_shape)
    variance = _variance(problem)
    known = variance.isfinite()
    if bool(known.all()):
        return LeastSquares(problem.linear, variance.flatten(-ndim).mean(-1).sqrt(), ndim)
    total = torch.where(known, variance, 0).flatten(-ndim).sum(-1)
    sigma = (total / known.flatten(-ndim).sum(-1)).sqrt()
    return LeastSquares(problem.linear, sigma, ndim, known)


LIKELIHOODS: dict[str, Callable[[Problem], Functional]] = {
    "unweighted": unweighted,
    "weighted": weighted,
    "matching": matching,
    "poisson": poisson,
    "shifted-poisson": shifted_poisson,
}


def standardised(d: Functional, z: Tensor) -> Tensor:
    """Residual of z over its standard deviation under the likelihood d, of variance 1 where z is the truth.

    Gaussian √w (y − z), with variance 2 in total for complex data; counts (y − m)/√m of Pearson, whose mean
    square is 1 at any count, which twice the negative log-likelihood is not below some 10 counts.
    """
    if isinstance(d, SquaredL2):
        weight = torch.as_tensor(d.weight, dtype=z.real.dtype, device=z.device)
        return -weight.sqrt() * d.residual(z)
    if isinstance(d, KullbackLeibler | TransmissionPoisson):
        return d.pearson(z)
    raise ValueError(f"standardised: expected a Gaussian or Poisson likelihood, got {d!r}")


def counted(d: Functional, z: Tensor) -> Tensor:
    """Which data say something under d, bool, the shape of z: those whose weight is not zero."""
    weight = torch.as_tensor(d.weight if isinstance(d, SquaredL2) else 1.0, device=z.device)
    return (weight > 0).expand(z.shape)


def count(d: Functional, z: Tensor) -> Tensor:
    """How many real numbers of data each image has under d, (*batch,)."""
    return counted(d, z).flatten(-d.ndim).sum(-1) * (2 if z.is_complex() else 1)


def _variance(problem: Problem) -> Tensor:
    return problem.variance / 2 if problem.y.is_complex() else problem.variance
