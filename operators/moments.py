"""Exact mean and variance of the logarithm of floored counts: sums over photons, integrals over electronics.

    E ln max(Y + σ ξ − b, floor)  and its variance,  Y ~ Poisson(μ + b),  ξ ~ N(0, 1)

The counts are summed over 8.5 standard deviations and more; away from the floor only every d-th of them, d =
√(μ + b)/4: the sum is then off by the Poisson law's characteristic function at 2π/d, e^{−300}. From 1000
effective counts on, μ² ≥ 1000 var y, the series in the central moments up to the eighth takes its place. Many
rays of one background read a table.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import gammaln, ndtr
from torch import Tensor

Array = NDArray[np.float64]

MANY = 1000.0  # effective counts from which the series is used
TERMS, BLOCK = 1 << 21, 4096  # terms of the sums held at once, and rays
RAYS, STEP = 4096, 1 / 128  # from so many rays on, their moments are read from a table over ln μ
FAR = 40.0  # standard deviations from the floor beyond which the electronic noise enters as a series
FINE = 64  # points per standard deviation of the table below that
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(16)
PANELS = 16


class Moments(NamedTuple):
    """Exact mean and variance of the linearised data, float64, shape of the line integrals."""

    mean: Tensor
    variance: Tensor


def log_moments(mu: Array, b: Array, sigma: float, floor: float) -> tuple[Array, Array]:
    """Mean and variance of ln(max(Y + σ ξ − b, floor) / μ), to about 1e-8 of the variance.

    mu, b  expected signal and background, one-dimensional [counts]
    """
    mean, variance = np.empty_like(mu), np.empty_like(mu)
    many = mu**2 >= MANY * (mu + b + sigma**2)
    few = ~many
    mean[many], variance[many] = _by_series(mu[many], b[many], sigma)
    sums = _by_table if few.sum() > RAYS and np.ptp(b[few]) == 0 else _by_sums
    mean[few], variance[few] = sums(mu[few], b[few], sigma, floor)
    return mean, variance


def _by_table(mu: Array, b: Array, sigma: float, floor: float) -> tuple[Array, Array]:
    """The sums at 128 places per unit of ln μ, and cubic splines of E f and ln var f between them."""
    x = np.log(mu)
    nodes = np.arange(x.min() - STEP, x.max() + 2 * STEP, STEP)
    if len(nodes) > len(mu):
        return _by_sums(mu, b, sigma, floor)
    mean, variance = _by_sums(np.exp(nodes), np.full_like(nodes, b[0]), sigma, floor)
    first, second = CubicSpline(nodes, np.stack([mean, np.log(variance)], -1))(x).T
    return first, np.exp(second)


def _by_sums(mu: Array, b: Array, sigma: float, floor: float) -> tuple[Array, Array]:
    mean, variance = np.empty_like(mu), np.empty_like(mu)
    total = mu + b
    low = np.maximum(np.floor(total - 8.5 * np.sqrt(total)), 0)
    high = np.ceil(total + 8.5 * np.sqrt(total) + 25)
    smooth = low - b > floor + 10 * sigma
    stride = np.where(smooth, np.maximum(np.floor(np.sqrt(total) / 4), 1), 1)
    terms = ((high - low) // stride).astype(int) + 1
    left = np.argsort(terms)  # rays of a block share the longest sum
    electronics = _Electronics(sigma, floor, float((low - b).min(initial=0)))
    near = np.log(np.maximum(mu, floor))  # a value that f takes, lest its square cancel
    while len(left):
        block = max(1, TERMS // int(terms[left[min(len(left), BLOCK) - 1]]))
        part, left = np.split(left, [min(block, BLOCK)])
        k = low[part, None] + stride[part, None] * np.arange(terms[part].max())
        weight = _poisson(k, total[part, None])
        weight /= weight.sum(1, keepdims=True)
        first, second = electronics(k - b[part, None], near[part, None])
        m = (weight * first).sum(1)
        mean[part], variance[part] = m, (weight * (second - 2 * m[:, None] * first)).sum(1) + m**2
    return mean + near - np.log(mu), variance


def _by_series(mu: Array, b: Array, sigma: float) -> tuple[Array, Array]:
    """E ln(1 + δ) = Σ (−1)ⁿ⁺¹ E δⁿ/n and E ln²(1 + δ) = Σ 2 (−1)ⁿ Hₙ₋₁ E δⁿ/n, δ = (Y + σ ξ − b)/μ − 1.

    A Poisson law's cumulants are all its mean; the central moments follow from them.
    """
    k = {n: (mu + b) / mu**n for n in range(2, 9)}
    k[2] = k[2] + (sigma / mu) ** 2
    moment = {
        2: k[2],
        3: k[3],
        4: k[4] + 3 * k[2] ** 2,
        5: k[5] + 10 * k[3] * k[2],
        6: k[6] + 15 * k[4] * k[2] + 10 * k[3] ** 2 + 15 * k[2] ** 3,
        7: k[7] + 21 * k[5] * k[2] + 35 * k[4] * k[3] + 105 * k[3] * k[2] ** 2,
        8: k[8] + 28 * k[6] * k[2] + 56 * k[5] * k[3] + 35 * k[4] ** 2 + 210 * k[4] * k[2] ** 2
        + 280 * k[3] ** 2 * k[2] + 105 * k[2] ** 4,
    }  # fmt: skip
    first, second, harmonic = np.zeros_like(mu), np.zeros_like(mu), 0.0
    for n, m in moment.items():
        harmonic += 1 / (n - 1)
        first -= (-1) ** n * m / n
        second += 2 * (-1) ** n * harmonic * m / n
    return first, second - first**2


class _Electronics:
    """E f and E f², f = ln max(t + σ ξ, floor) − c, over ξ ~ N(0, 1): from a table, far out by a series."""

    def __init__(self, sigma: float, floor: float, lowest: float):
        self.sigma, self.floor, self.far = sigma, floor, floor + FAR * sigma
        self.lowest = max(lowest, floor - 12 * sigma)  # below, all is floored
        if sigma:
            t = np.arange(self.lowest - sigma, self.far + sigma, sigma / FINE)
            self.table = CubicSpline(t, np.stack(_by_quadrature(t, sigma, floor), -1))

    def __call__(self, t: Array, c: Array) -> tuple[Array, Array]:
        log = np.log(np.maximum(t, self.floor)) - c
        if not self.sigma:
            return log, log**2
        e = (self.sigma / np.maximum(t, self.far)) ** 2
        # E ln(1 + δ) and E ln²(1 + δ), δ = σ ξ / t normal, e = σ²/t²
        L = -e * (1 / 2 + e * (3 / 4 + e * (5 / 2 + e * 105 / 8)))
        L2 = e * (1 + e * (11 / 4 + e * (137 / 12 + e * 1089 / 16)))
        first, second = log + L, log**2 + 2 * log * L + L2
        near = t < self.far
        if near.any():
            one, two = self.table(np.maximum(t[near], self.lowest)).T
            c = np.broadcast_to(c, t.shape)[near]
            first[near], second[near] = one - c, two - 2 * c * one + c**2
        return first, second


def _by_quadrature(t: Array, sigma: float, floor: float) -> tuple[Array, Array]:
    """E f and E f², f = ln max(t + σ ξ, floor), by Gauss–Legendre panels in u = ln s above the floor."""
    low, high = np.maximum(t - 10 * sigma, floor), np.maximum(t + 10 * sigma, floor)
    ends = np.log(low) + np.linspace(0, 1, PANELS + 1)[:, None] * (np.log(high) - np.log(low))
    floored = ndtr((floor - t) / sigma)
    first, second = math.log(floor) * floored, math.log(floor) ** 2 * floored
    for a, z in pairwise(ends):
        half = (z - a) / 2
        for node, w in zip(NODES, NODE_WEIGHTS, strict=True):
            u = a + half * (1 + node)
            s = np.exp(u)
            density = (
                w * half * s * np.exp(-((s - t) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
            )
            first, second = first + density * u, second + density * u**2
    return first, second


def _poisson(k: Array, mean: Array) -> Array:
    """Poisson probabilities; at large means by Stirling's formula, free of cancellation, up to a factor."""
    x = (k - mean) / mean
    with np.errstate(divide="ignore", invalid="ignore"):
        saddle = -mean * ((1 + x) * np.log1p(x) - x) - np.log1p(x) / 2 - 1 / (12 * k) + 1 / (360 * k**3)
    exact = k * np.log(mean) - mean - gammaln(k + 1)
    return np.exp(np.where(mean < 1000, exact, saddle - np.log(2 * math.pi * mean) / 2))
