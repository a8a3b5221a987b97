"""Exact mean and variance of the logarithm of floored counts: sums over photons, integrals over electronics.

    E ln max(Y + σ ξ − b, floor)  and its variance,  Y ~ Poisson(μ + b),  ξ ~ N(0, 1)

The counts are summed over ten and more standard deviations; where that is smooth only every d-th count, with
d = √(μ + b)/4, by which the sum is off by the Poisson law's characteristic function at 2π/d, e^{−300}.
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

TERMS = 1 << 21  # terms of a sum held at once
FAR = 40.0  # standard deviations from the floor beyond which the electronic noise enters as a series
FINE = 64  # points per standard deviation of the table below that
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(16)
PANELS = 16


class Moments(NamedTuple):
    """Exact mean and variance of the linearised data, float64, shape of the line integrals."""

    mean: Tensor
    variance: Tensor


def log_moments(mu: Array, b: Array, sigma: float, floor: float) -> tuple[Array, Array]:
    """Mean and variance of ln(max(Y + σ ξ − b, floor) / μ), to about 1e-9 of the variance.

    mu, b  expected signal and background, one-dimensional [counts]
    """
    mean, variance = np.empty_like(mu), np.empty_like(mu)
    total = mu + b
    low = np.maximum(np.floor(total - 12 * np.sqrt(total) - 20), 0)
    high = np.ceil(total + 12 * np.sqrt(total) + 40)
    smooth = low - b > floor + 12 * sigma
    stride = np.where(smooth, np.maximum(np.floor(np.sqrt(total) / 4), 1), 1)
    terms = ((high - low) // stride).astype(int) + 1
    electronics = _Electronics(sigma, floor, float((low - b).min(initial=0)))
    order = np.argsort(terms)
    start = 0
    while start < len(order):
        # rays of a block share the longest sum; sorted, so that little is in vain
        stop = start + max(1, TERMS // int(terms[order[min(len(order) - 1, start + 4096)]]))
        part = order[start : min(stop, start + 4096, len(order))]
        k = low[part, None] + stride[part, None] * np.arange(terms[part].max())
        weight = _poisson(k, total[part, None])
        weight /= weight.sum(1, keepdims=True)
        first, second = electronics(k - b[part, None], np.log(mu[part, None]))
        m = (weight * first).sum(1)
        mean[part], variance[part] = m, (weight * (second - 2 * m[:, None] * first)).sum(1) + m**2
        start += len(part)
    return mean, variance


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
