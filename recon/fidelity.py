"""Data terms: negative log-likelihoods of data, as functionals of z = A x in the range of the operator.

    matching(problem)    of the problem's own noise model and raw data
    weighted(problem)    Gaussian, with the variance of every ray
    unweighted(problem)  Gaussian, with one variance per image

The noise is in here, so the weight λ of a prior follows the dose.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from operators.noise import Gaussian, LowDose, Poisson
from operators.tensors import spread, total
from priors import L1, Functional, Huber, SquaredL2
from priors.base import Step

from .problem import Problem


class LeastSquares(SquaredL2):
    """½ Σ |zᵢ − yᵢ|² / σ²

    y     data, (*batch, *shape)
    sigma σ > 0, a number or one per image (*batch,)
    ndim  dimensions of the data of one image
    """

    def __init__(self, y: Tensor, sigma: Step = 1.0, ndim: int = 2):
        _positive("LeastSquares sigma", sigma)
        super().__init__(y, 1 / spread(sigma, ndim) ** 2, ndim)

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
        _positive("PWLS variance", variance)
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


class KullbackLeibler(Functional):
    """Σ mᵢ − yᵢ + yᵢ ln(yᵢ/mᵢ), m = s z + b: Poisson counts y of emission, −ln p up to a constant.

    inf if m < 0. With t = step, v = p/s:

        prox       z = (m − b)/s with m² − q m − t s² y = 0, q = b + s x − t s²
        conjugate  −Σ v b + y ln(1 − v)

    y           counts ≥ 0, (*batch, *shape)
    background  b ≥ 0, expected counts beside those of z; a number or a tensor that broadcasts to y
    scale       s > 0, counts per unit of z; likewise
    ndim        dimensions of the data of one image
    """

    y: Tensor
    b: Tensor
    s: Tensor

    def __init__(self, y: Tensor, background: Step = 0.0, scale: Step = 1.0, ndim: int = 2):
        super().__init__()
        _counts("KullbackLeibler y", y)
        _positive("KullbackLeibler scale", scale)
        self.ndim = ndim
        self.register_buffer("y", y)
        self.register_buffer("b", torch.as_tensor(background, dtype=y.dtype, device=y.device))
        self.register_buffer("s", torch.as_tensor(scale, dtype=y.dtype, device=y.device))

    def forward(self, z: Tensor) -> Tensor:
        m = self.s * z + self.b
        terms = m - self.y + torch.xlogy(self.y, self.y) - torch.xlogy(self.y, m.clamp(min=0))
        return total(torch.where(m >= 0, terms, math.inf), self.ndim)

    def grad(self, z: Tensor) -> Tensor:
        return self.s * (1 - torch.where(self.y > 0, self.y / (self.s * z + self.b), 0.0))

    def prox(self, z: Tensor, step: Step) -> Tensor:
        t = spread(step, self.ndim) * self.s**2
        q = self.b + self.s * z - t
        root = (q**2 + 4 * t * self.y).sqrt()
        # of the two forms of the positive root the one that does not cancel
        m = torch.where(
            q > 0, (q + root) / 2, 2 * t * self.y / (root - q).clamp(min=torch.finfo(q.dtype).tiny)
        )
        return (m - self.b) / self.s

    def conjugate(self, p: Tensor) -> Tensor:
        v = p / self.s
        inside = (v < 1) | ((v <= 1) & (self.y == 0))
        terms = -v * self.b - torch.xlogy(self.y, (1 - v).clamp(min=0))
        return total(torch.where(inside, terms, math.inf), self.ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        y = torch.tensor([[0.0, 3.0, 1.0], [7.0, 0.0, 20.0]])
        return [(cls(y), (2, 3)), (cls(y, background=0.5, scale=2.0), (2, 3))]


class TransmissionPoisson(Functional):
    """Σ mᵢ − yᵢ + yᵢ ln(yᵢ/mᵢ), m = I₀ e^(−z) + r: counts y behind line integrals z.

    −ln p of a Poisson law, up to a constant. Convex if r = 0; its slope changes by at most max(I₀) per unit
    of z where z ≥ 0 (Erdogan and Fessler, Phys. Med. Biol. 44 (1999)). With t = step, d = y − p ≥ 0:

        prox       z = x − t y + W(t I₀ e^(t y − x)), Lambert's W; if r > 0 a stationary point by Newton steps
                   held in a bracket
        conjugate  Σ d ln(d/I₀) − d − y ln(y/I₀) + y; not known if r > 0

    y           counts, (*batch, *shape), ≥ 0
    i0          I₀ > 0, counts of the open beam; a number or a tensor that broadcasts to y
    background  r ≥ 0, expected scatter; likewise
    ndim        dimensions of the data of one image
    """

    y: Tensor
    i0: Tensor
    r: Tensor

    def __init__(self, y: Tensor, i0: Step, background: Step = 0.0, ndim: int = 2):
        super().__init__()
        _counts("TransmissionPoisson y", y)
        _positive("TransmissionPoisson i0", i0)
        self.ndim = ndim
        self.register_buffer("y", y)
        self.register_buffer("i0", torch.as_tensor(i0, dtype=y.dtype, device=y.device))
        self.register_buffer("r", torch.as_tensor(background, dtype=y.dtype, device=y.device))
        self.convex = not bool((self.r > 0).any())

    @property
    def curvature(self) -> float:
        """Bound of the slope's change per unit of z, where z ≥ 0."""
        return float(self.i0.max())

    def forward(self, z: Tensor) -> Tensor:
        y, e = self.y, self.i0 * (-z).exp()
        log_m = self.i0.log() - z if self.convex else (e + self.r).log()
        return total(e + self.r - y + torch.xlogy(y, y) - y * log_m, self.ndim)

    def grad(self, z: Tensor) -> Tensor:
        e = self.i0 * (-z).exp()
        return self.y - e if self.convex else e * (self.y / (e + self.r) - 1)

    def prox(self, z: Tensor, step: Step) -> Tensor:
        t = spread(step, self.ndim)
        c = z - t * self.y
        log_t_i0 = (t * self.i0).log()
        root = c + _lambert(log_t_i0 - c)
        if self.convex:
            return root
        low, high = c, z + _lambert(log_t_i0 - z)
        for _ in range(50):
            e = self.i0 * (-root).exp()
            m = e + self.r
            slope = root - z - t * e * (1 - self.y / m)
            low, high = torch.where(slope < 0, root, low), torch.where(slope < 0, high, root)
            newton = root - slope / (1 + t * e * (1 - self.y * self.r / m**2))
            root = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
        return root

    def conjugate(self, p: Tensor) -> Tensor:
        if not self.convex:
            return super().conjugate(p)
        y, d = self.y, self.y - p
        rest = y - torch.xlogy(y, y / self.i0)
        terms = torch.xlogy(d.clamp(min=0), d.clamp(min=0) / self.i0) - d + rest
        return total(torch.where(d >= 0, terms, math.inf), self.ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        y = torch.tensor([[0.0, 3.0, 1.0], [7.0, 60.0, 20.0]])
        return [(cls(y, i0=50.0), (2, 3)), (cls(y, i0=torch.linspace(20, 90, 6).reshape(2, 3)), (2, 3))]


def matching(problem: Problem) -> Functional:
    """−ln p(y | z) of the problem's own noise model, up to a constant.

    Gaussian gives `LeastSquares`; complex noise, circular with E|n|² = σ², has σ²/2 in each part. LowDose
    gives `TransmissionPoisson`, with electronic noise by the shifted Poisson model (Yavuz and Fessler 1998):
    counts y + σₑ², at least 0, of mean m + σₑ². Poisson gives `KullbackLeibler`.
    """
    noise, y, ndim = problem.noise, problem.y, len(problem.A.out_shape)
    if isinstance(noise, Gaussian):
        return unweighted(problem)
    if isinstance(noise, LowDose):
        shift = noise.electronic_sigma**2
        return TransmissionPoisson((y + shift).clamp(min=0), noise.i0, noise.background + shift, ndim)
    if isinstance(noise, Poisson):
        return KullbackLeibler(y, noise.background, noise.scale, ndim)
    raise ValueError(
        f"matching: no likelihood is known for {noise!r}; use weighted(problem), or a functional of your own"
    )


def weighted(problem: Problem) -> PWLS:
    """PWLS of the linearised data with their variance, per real number."""
    return PWLS(problem.linear, _variance(problem), len(problem.A.out_shape))


def unweighted(problem: Problem) -> LeastSquares:
    """Least squares of the linearised data; σ² is the mean variance of an image, for E‖noise‖² is right."""
    ndim = len(problem.A.out_shape)
    sigma = _variance(problem).flatten(-ndim).mean(-1).sqrt()
    return LeastSquares(problem.linear, sigma, ndim)


def _variance(problem: Problem) -> Tensor:
    return problem.variance / 2 if problem.y.is_complex() else problem.variance


def _lambert(log_a: Tensor) -> Tensor:
    """W(a), w e^w = a, from log a: Newton on w + ln w = log a from the left, where it is monotone."""
    a = log_a.clamp(max=1).exp()
    w = torch.where(log_a > 1, log_a - log_a.clamp(min=1).log(), a / (1 + a))
    for _ in range(6):
        w = w * (1 + log_a - w.log()) / (1 + w)
    return torch.where(log_a < -50, log_a.exp(), w)


def _positive(name: str, value: Step) -> None:
    if not bool(torch.as_tensor(value > 0).all()):
        raise ValueError(f"{name}: expected positive numbers, got a zero, a negative one or NaN")


def _counts(name: str, y: Tensor) -> None:
    if y.is_complex() or not bool((y >= 0).all()):
        low = float(y.real.min())
        raise ValueError(f"{name}: expected real counts ≥ 0, got {y.dtype} down to {low:g}; see matching")
