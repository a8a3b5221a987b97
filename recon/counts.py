"""Negative log-likelihoods of photon counts, as functionals of z = A x in the range of the operator.

KullbackLeibler       emission,     y ~ Poisson(s z + b)
TransmissionPoisson   transmission, y ~ Poisson(I₀ e^(−z) + r)
ShiftedPoisson        transmission with electronic noise, y + σ² ~ Poisson(I₀ e^(−z) + r + σ²)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from operators.tensors import spread, total
from priors import Functional
from priors.base import Step


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
        check_counts("KullbackLeibler y", y)
        check_positive("KullbackLeibler scale", scale)
        self.ndim = ndim
        self.register_buffer("y", y)
        self.register_buffer("b", torch.as_tensor(background, dtype=y.dtype, device=y.device))
        self.register_buffer("s", torch.as_tensor(scale, dtype=y.dtype, device=y.device))

    def forward(self, z: Tensor) -> Tensor:
        m = self.s * z + self.b
        terms = _deviance(self.y, m, _log_ratio(m.clamp(min=0), self.y))
        return total(torch.where(m >= 0, terms, math.inf), self.ndim)

    def grad(self, z: Tensor) -> Tensor:
        return self.s * (1 - torch.where(self.y > 0, self.y / (self.s * z + self.b), 0.0))

    def pearson(self, z: Tensor) -> Tensor:
        """(y − m)/√m per datum, of mean 0 and variance 1 where z is the truth, at any count."""
        m = (self.s * z + self.b).clamp(min=TINY)
        return (self.y - m) / m.sqrt()

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

    −ln p of a Poisson law, up to a constant. Its second derivative is e (1 − y r/m²), e = I₀ e^(−z): convex
    on a ray without background or with y ≤ r; with 0 < r < y it bends downwards where m² < y r, behind much
    matter (Erdogan and Fessler, IEEE Trans. Med. Imaging 18 (1999)). With t = step, d = y − p ≥ 0:

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
        name = type(self).__name__
        check_counts(f"{name} y", y)
        check_positive(f"{name} i0", i0)
        if not bool(torch.as_tensor(background >= 0).all()):
            raise ValueError(f"{name} background: expected numbers ≥ 0, got a negative one or NaN")
        self.ndim = ndim
        self.register_buffer("y", y)
        self.register_buffer("i0", torch.as_tensor(i0, dtype=y.dtype, device=y.device))
        self.register_buffer("r", torch.as_tensor(background, dtype=y.dtype, device=y.device))
        self.pure = not bool((self.r > 0).any())

    @property
    def convex(self) -> bool:
        """Whether it is convex on every ray: r = 0 or y ≤ r."""
        return bool(((self.r == 0) | (self.y <= self.r)).all())

    def forward(self, z: Tensor) -> Tensor:
        y, m = self.y, self.i0 * (-z).exp() + self.r
        u = _log_ratio(self.i0, y) - z if self.pure else _log_ratio(m, y)
        return total(_deviance(y, m, u), self.ndim)

    def grad(self, z: Tensor) -> Tensor:
        e = self.i0 * (-z).exp()
        return self.y - e if self.pure else e * (self.y / (e + self.r) - 1)

    def pearson(self, z: Tensor) -> Tensor:
        """(y − m)/√m per datum, of mean 0 and variance 1 where z is the truth, at any count."""
        m = (self.i0 * (-z).exp() + self.r).clamp(min=TINY)
        return (self.y - m) / m.sqrt()

    def curvatures(self, z: Tensor | None = None) -> Tensor:
        """c per datum with f(v) ≤ f(z) + f'(z)(v − z) + ½ c (v − z)² for all v ≥ 0, z ≥ 0, shape of the data.

        At z the least one, 2 (f(0) − f(z) + z f'(z)) / z² (the optimal paraboloidal surrogate of Erdogan and
        Fessler, IEEE Trans. Med. Imaging 18 (1999)); without z the largest second derivative over z ≥ 0,
        which is the one at 0.
        """
        y, i0, r = torch.broadcast_tensors(self.y, self.i0, self.r)
        most = (i0 * (1 - y * r / (i0 + r) ** 2)).clamp(min=0)
        if z is None:
            return most
        # closer to 0 the difference drowns in rounding, and the bound is as good
        near = z < 2 * torch.finfo(z.dtype).eps ** 0.25
        z = torch.where(near, 1.0, z)
        fade = (-z).exp()
        bow = i0 * (-torch.expm1(-z) - z * fade)
        if not self.pure:
            # y (z e/m − ln(m₀/m)), nothing where r = 0
            share, drop = fade / (fade + r / i0), -torch.expm1(-z) / (fade + r / i0)
            bow = bow + torch.where(r > 0, y * (share * z - drop.log1p()), 0.0)
        return torch.where(near, most, (2 * bow / z**2).clamp(min=0))

    def prox(self, z: Tensor, step: Step) -> Tensor:
        t = spread(step, self.ndim)
        c = z - t * self.y
        log_t_i0 = (t * self.i0).log()
        root = c + _lambert(log_t_i0 - c)
        if self.pure:
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
        if not self.pure:
            return super().conjugate(p)
        y, d = self.y, self.y - p
        rest = y - torch.xlogy(y, y / self.i0)
        terms = torch.xlogy(d.clamp(min=0), d.clamp(min=0) / self.i0) - d + rest
        return total(torch.where(d >= 0, terms, math.inf), self.ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        y = torch.tensor([[0.0, 3.0, 1.0], [7.0, 60.0, 20.0]])
        return [(cls(y, i0=50.0), (2, 3)), (cls(y, i0=torch.linspace(20, 90, 6).reshape(2, 3)), (2, 3))]


class ShiftedPoisson(TransmissionPoisson):
    """Σ mᵢ − ȳᵢ + ȳᵢ ln(ȳᵢ/mᵢ), ȳ = max(y + σ², 0), m = I₀ e^(−z) + r + σ²: counts with electronic noise.

    A Poisson photon count plus N(0, σ²), shifted by σ², has mean and variance m (Snyder, Hammoud, White, J.
    Opt. Soc. Am. A 10 (1993); Yavuz and Fessler, Med. Image Anal. 2 (1998)); y + σ² < 0 is taken as 0. The
    shift acts as a background: see `TransmissionPoisson` for where it is convex.

    y           counts, negative ones allowed, (*batch, *shape)
    i0          I₀ > 0, counts of the open beam; a number or a tensor that broadcasts to y
    sigma       σ ≥ 0 of the electronic noise [counts]; likewise
    background  r ≥ 0, expected scatter; likewise
    ndim        dimensions of the data of one image
    """

    def __init__(self, y: Tensor, i0: Step, sigma: Step, background: Step = 0.0, ndim: int = 2):
        if y.is_complex() or not bool(torch.isfinite(y).all()):
            raise ValueError("ShiftedPoisson y: expected finite real counts, got complex, NaN or inf")
        if not bool(torch.as_tensor(sigma >= 0).all()):
            raise ValueError(f"ShiftedPoisson sigma: expected numbers ≥ 0, got {sigma}")
        shift = torch.as_tensor(sigma, dtype=y.dtype, device=y.device) ** 2
        super().__init__((y + shift).clamp(min=0), i0, background + shift, ndim)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        y = torch.tensor([[-2.0, 3.0, 1.0], [7.0, 60.0, 20.0]])
        return [(cls(y, i0=50.0, sigma=0.0), (2, 3)), (cls(y, i0=50.0, sigma=2.0, background=0.5), (2, 3))]


TINY = 1e-30
"""A mean of no counts, for a quotient."""


def _log_ratio(m: Tensor, y: Tensor) -> Tensor:
    """ln(m/y), 0 where there are no counts."""
    some = y > 0
    return torch.where(some, m / torch.where(some, y, 1.0), 1.0).log()


def _deviance(y: Tensor, m: Tensor, u: Tensor) -> Tensor:
    """m − y + y ln(y/m) = y (e^u − 1 − u), u = ln(m/y): of large terms a small sum, which would cancel."""
    return torch.where(y > 0, y * (u.expm1() - u), m)


def _lambert(log_a: Tensor) -> Tensor:
    """W(a), w e^w = a, from log a: Newton on w + ln w = log a from the left, where it is monotone."""
    a = log_a.clamp(max=1).exp()
    w = torch.where(log_a > 1, log_a - log_a.clamp(min=1).log(), a / (1 + a))
    for _ in range(6):
        w = w * (1 + log_a - w.log()) / (1 + w)
    return torch.where(log_a < -50, log_a.exp(), w)


def check_positive(name: str, value: Step) -> None:
    """ValueError unless all of `value` is positive."""
    if not bool(torch.as_tensor(value > 0).all()):
        raise ValueError(f"{name}: expected positive numbers, got a zero, a negative one or NaN")


def check_counts(name: str, y: Tensor) -> None:
    """ValueError unless y can be counts."""
    if y.is_complex() or not bool((y >= 0).all()):
        low = float(y.real.min())
        raise ValueError(f"{name}: expected real counts ≥ 0, got {y.dtype} down to {low:g}; see matching")
