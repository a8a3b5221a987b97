"""Iterations that call a denoiser where a variational method has a prox."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from operators.tensors import inner, norm, spread
from priors import Functional

from .iterate import Iterate, relative
from .lifting import gradient, lift

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(image, σ per image) -> image"""
DataStep = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(v, ρ per image, start) -> argmin_x d(A x) + ρ/2 ‖x − v‖²"""
Schedule = Callable[[int], Tensor]
"""iteration, from 0 -> σ per image"""


def plug_gradient(
    f: Functional, denoise: Denoise, x: Tensor, step: Tensor, sigma: Tensor, accelerated: bool = False
) -> Iterator[Iterate]:
    """x⁺ = D(z − t∇f(z), σ),  z = x, or x extrapolated as by FISTA, with its restart.

    Kamilov, Mansour, Wohlberg, IEEE Signal Process. Lett. 24 (2017). With D = prox_{σ²R} it minimises
    f + (σ²/t) R. residual = ‖x⁺ − z‖/‖x⁺‖. For f = d @ A one A and one A* an iteration.
    """
    n = f.ndim
    z, theta = x, torch.ones_like(norm(x, n))
    yield Iterate(x, torch.full_like(theta, torch.inf))
    while True:
        old, start = x, z
        x = denoise(start - spread(step, n) * gradient(f, lift(f, start)), sigma)
        z = x
        if accelerated:
            uphill = inner(start - x, x - old, n) > 0
            new = (1 + (1 + 4 * theta.square()).sqrt()) / 2
            z = x + spread(torch.where(uphill, 0.0, (theta - 1) / new), n) * (x - old)
            theta = torch.where(uphill, 1.0, new)
        yield Iterate(x, relative(norm(x - start, n), norm(x, n)))


def plug_admm(
    data_step: DataStep, denoise: Denoise, x: Tensor, weight: Tensor, sigmas: Schedule, ndim: int
) -> Iterator[Iterate]:
    """x = argmin d(A x) + ρ/2‖x − z + u‖²,  z = D(x + u, σ),  u ← u + x − z,  ρ = λ/σ².

    Venkatakrishnan, Bouman, Wohlberg, GlobalSIP 2013; with D = prox_{σ²R} it minimises d(A x) + λR(x). The
    iterate is z. residual = max(‖x − z‖, ‖z − z_old‖)/‖z‖.
    """
    z, u = x, torch.zeros_like(x)
    sigma = sigmas(0)
    yield Iterate(z, torch.full_like(sigma, torch.inf))
    k = 0
    while True:
        old, was, sigma = z, sigma, sigmas(k)
        u = spread((sigma / was).square(), ndim) * u  # the multiplier ρu stays
        x = data_step(z - u, weight / sigma.square(), x)
        z = denoise(x + u, sigma)
        u = u + x - z
        k += 1
        apart = torch.maximum(norm(x - z, ndim), norm(z - old, ndim))
        yield Iterate(z, _settled(relative(apart, norm(z, ndim)), sigma, sigmas(k)))


def plug_drs(
    data_step: DataStep, denoise: Denoise, x: Tensor, weight: Tensor, sigmas: Schedule, ndim: int
) -> Iterator[Iterate]:
    """z = D(s, σ),  x = argmin d(A x) + ρ/2‖x − 2z + s‖²,  s ← s + x − z,  ρ = λ/σ²: Douglas–Rachford.

    Lions and Mercier, SIAM J. Numer. Anal. 16 (1979); the fixed points of `plug_admm`. The iterate is z.
    residual = ‖x − z‖/‖z‖.
    """
    s, sigma, k = x, sigmas(0), 0
    yield Iterate(x, torch.full_like(sigma, torch.inf))
    while True:
        sigma = sigmas(k)
        z = denoise(s, sigma)
        x = data_step(2 * z - s, weight / sigma.square(), x)
        s = s + x - z
        k += 1
        # s − z is σ²/λ times the multiplier, which stays when σ changes
        following = sigmas(k)
        s = z + spread((following / sigma).square(), ndim) * (s - z)
        yield Iterate(z, _settled(relative(norm(x - z, ndim), norm(z, ndim)), sigma, following))


def plug_hqs(
    data_step: DataStep, denoise: Denoise, x: Tensor, weight: Tensor, sigmas: Schedule, ndim: int
) -> Iterator[Iterate]:
    """x = argmin d(A x) + ρ/2‖x − z‖²,  z = D(x, σ),  ρ = λ/σ²: half-quadratic splitting.

    Zhang et al., IEEE TPAMI 44 (2022), where σ falls. With D = prox_{σ²R} and one σ it minimises
    d(A x) + ρ/2‖x − z‖² + λR(z), which is the other methods' objective as σ → 0. The iterate is z.
    residual = ‖z − z_old‖/‖z‖.
    """
    z, sigma, k = x, sigmas(0), 0
    yield Iterate(z, torch.full_like(sigma, torch.inf))
    while True:
        old, sigma = z, sigmas(k)
        x = data_step(z, weight / sigma.square(), x)
        z = denoise(x, sigma)
        k += 1
        yield Iterate(z, _settled(relative(norm(z - old, ndim), norm(z, ndim)), sigma, sigmas(k)))


def _settled(residual: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
    """The residual, inf while σ falls (by more than rounding): what is reached is not yet what is sought."""
    return torch.where(sigma <= (1 + 1e-6) * following, residual, torch.inf)


def red_gradient(
    f: Functional, denoise: Denoise, x: Tensor, lipschitz: Tensor, pull: Tensor, sigma: Tensor
) -> Iterator[Iterate]:
    """x⁺ = x − t(∇f(x) + ρ(x − D(x, σ))),  t = 1/(L + ρ): steepest descent of `RED`.

    Romano, Elad, Milanfar, SIAM J. Imaging Sci. 10 (2017). residual = ‖x⁺ − x‖/‖x⁺‖.

    lipschitz, pull   L of ∇f, and ρ; one per image
    """
    n = f.ndim
    yield Iterate(x, torch.full_like(pull, torch.inf))
    while True:
        slope = gradient(f, lift(f, x)) + spread(pull, n) * (x - denoise(x, sigma))
        move = slope / spread(lipschitz + pull, n)
        x = x - move
        yield Iterate(x, relative(norm(move, n), norm(x, n)))


def red_fixed_point(
    data_step: DataStep, denoise: Denoise, x: Tensor, pull: Tensor, sigma: Tensor, ndim: int
) -> Iterator[Iterate]:
    """x⁺ = argmin d(A x) + ρ/2‖x − D(x_old, σ)‖²: ∇d at x⁺ balances ρ(x⁺ − D(x_old)).

    Romano, Elad, Milanfar 2017. residual = ‖x⁺ − x‖/‖x⁺‖.
    """
    yield Iterate(x, torch.full_like(pull, torch.inf))
    while True:
        old = x
        x = data_step(denoise(x, sigma), pull, x)
        yield Iterate(x, relative(norm(x - old, ndim), norm(x, ndim)))


def red_admm(
    data_step: DataStep,
    denoise: Denoise,
    x: Tensor,
    pull: Tensor,
    sigma: Tensor,
    ndim: int,
    inner_iterations: int = 1,
) -> Iterator[Iterate]:
    """x = argmin d(A x) + ρ/2‖x − z + u‖²,  z ← ½(D(z, σ) + x + u) a few times,  u ← u + x − z.

    Romano, Elad, Milanfar 2017, with the penalty equal to the pull ρ. The iterate is z.
    residual = max(‖x − z‖, ‖z − z_old‖)/‖z‖.
    """
    z, u = x, torch.zeros_like(x)
    yield Iterate(z, torch.full_like(pull, torch.inf))
    while True:
        old = z
        x = data_step(z - u, pull, x)
        for _ in range(inner_iterations):
            z = (denoise(z, sigma) + x + u) / 2
        u = u + x - z
        apart = torch.maximum(norm(x - z, ndim), norm(z - old, ndim))
        yield Iterate(z, relative(apart, norm(z, ndim)))
