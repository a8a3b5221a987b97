"""Priors, denoisers and data fidelities of deepinv (Tachella et al., arXiv 2505.20160) as functionals.

deepinv's TV remembers its last call, its iterations stop by the whole batch, and its Poisson likelihood adds
up the batch; so a copy is made for every call, and every image goes by itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..base import Functional, Step


def from_deepinv_prior(
    prior: Any, *parameters: Any, ndim: int = 2, lipschitz: float = math.inf
) -> Functional:
    """f(x) = prior(x, *parameters), for the explicit priors of deepinv.optim; images have one channel.

    prior       an explicit deepinv Prior, or anything with fn (or g, as in LearnedRegularizers), grad, prox
    parameters  passed on with every call: g_param, such as a noise level
    ndim        dimensions of one image, 2 or 3
    lipschitz   of the gradient, where you know it

    Raises ValueError for priors without a value (PnP, RED): use `from_deepinv_denoiser`.
    """
    if not getattr(prior, "explicit_prior", True):
        raise ValueError(
            f"from_deepinv_prior: {type(prior).__name__} has no value; give its denoiser to "
            "from_deepinv_denoiser"
        )
    return _Prior(prior, parameters, ndim, lipschitz)


def from_deepinv_denoiser(
    denoiser: Callable[..., Tensor],
    sigma: float | None = None,
    data_range: tuple[float, float] = (0.0, 1.0),
    ndim: int = 2,
) -> Functional:
    """prox(x, step) = D(x; σ) and ∇f(x) = x − D(x; σ): a denoiser in the place of a prior (PnP, RED).

    Venkatakrishnan et al., GlobalSIP 2013; Romano, Elad, Milanfar, SIAM J. Imaging Sci. 10 (2017). There is
    in general no f: its value is NaN, and solvers run a fixed number of iterations.

    denoiser    called as D(x, σ) on (batch, 1, *shape) in [0, 1]
    sigma       its noise level in units of the image, fixed; None: √step, what a prox of that step removes
    data_range  values of the image that become 0 and 1
    ndim        dimensions of one image
    """
    low, high = data_range
    if not high > low:
        raise ValueError(f"from_deepinv_denoiser data_range: expected low < high, got {data_range}")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"from_deepinv_denoiser sigma: expected a positive number or None, got {sigma}")
    return _Denoiser(denoiser, sigma, low, high, ndim)


def from_deepinv_fidelity(fidelity: Any, y: Tensor, ndim: int = 2) -> Functional:
    """f(u) = d(u, y), the distance of a deepinv DataFidelity in the space of data; f @ A is the likelihood.

    fidelity  of deepinv.optim, or its distance `d`
    y         data, (*batch, *shape), broadcast against u
    ndim      dimensions of the data of one image
    """
    return _Fidelity(getattr(fidelity, "d", fidelity), y, ndim)


class _Each(Functional):
    """A potential of deepinv, asked for one image after the other."""

    def __init__(self, potential: Any, ndim: int):
        super().__init__()
        self.potential, self.ndim = potential, ndim

    def forward(self, x: Tensor) -> Tensor:
        values = [self._value(z, y).sum() for z, y in self._images(x)]
        batch = x.shape[: x.ndim - self.ndim]
        return torch.stack(values).reshape(batch).to(x.dtype) if values else x.new_zeros(batch)

    def grad(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            return super().grad(x)
        return self._stacked(x, [self._gradient(z, y).detach() for z, y in self._images(x)])

    @torch.no_grad()
    def prox(self, x: Tensor, step: Step) -> Tensor:
        batch = x.shape[: x.ndim - self.ndim]
        steps = torch.as_tensor(step, dtype=torch.float64).expand(batch).reshape(-1).tolist()
        found = [self._prox(z, y, s) for (z, y), s in zip(self._images(x), steps, strict=True)]
        return self._stacked(x, found)

    def _images(self, x: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Every image as (1, 1, *shape), and its data."""
        flat = x.reshape(-1, *x.shape[x.ndim - self.ndim :]) if x.numel() else x.new_zeros(0)
        return [(z[None, None], None) for z in flat]

    def _fresh(self) -> Any:
        """The potential without memories; networks, which are large and have none, are not copied."""
        large = isinstance(self.potential, nn.Module) and any(True for _ in self.potential.parameters())
        return self.potential if large else copy.deepcopy(self.potential)

    def _value(self, z: Tensor, y: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _gradient(self, z: Tensor, y: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _prox(self, z: Tensor, y: Tensor | None, step: float) -> Tensor:
        raise NotImplementedError

    def _stacked(self, x: Tensor, images: list[Tensor]) -> Tensor:
        return torch.cat(images).reshape(x.shape).to(x.dtype) if images else torch.zeros_like(x)

    def __repr__(self) -> str:
        return f"deepinv {type(self.potential).__name__}"


class _Prior(_Each):
    def __init__(self, prior: Any, parameters: tuple[Any, ...], ndim: int, lipschitz: float):
        super().__init__(prior, ndim)
        self.parameters_of_prior, self._lipschitz = parameters, lipschitz

    @property
    def lipschitz(self) -> Step:
        return self._lipschitz

    def _value(self, z: Tensor, y: Tensor | None) -> Tensor:
        prior = self._fresh()
        if hasattr(prior, "g"):  # a prior of LearnedRegularizers
            return prior.g(z)
        return prior.fn(z, *self.parameters_of_prior)

    def _gradient(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self._fresh().grad(z.detach().clone(), *self.parameters_of_prior)

    def _prox(self, z: Tensor, y: Tensor | None, step: float) -> Tensor:
        return self._fresh().prox(z.clone(), *self.parameters_of_prior, gamma=step)


class _Fidelity(_Each):
    y: Tensor

    def __init__(self, distance: Any, y: Tensor, ndim: int):
        super().__init__(distance, ndim)
        self.register_buffer("y", y)

    def _images(self, x: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        data = torch.broadcast_to(self.y, x.shape)
        both = (t.reshape(-1, *x.shape[x.ndim - self.ndim :]) if x.numel() else () for t in (x, data))
        return [(z[None, None], y[None, None]) for z, y in zip(*both, strict=True)]

    def _value(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self._fresh()(z, y)

    def _gradient(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self._fresh().grad(z.detach().clone(), y)

    def _prox(self, z: Tensor, y: Tensor | None, step: float) -> Tensor:
        return self._fresh().prox(z.clone(), y, gamma=step)


class _Denoiser(Functional):
    def __init__(
        self, denoiser: Callable[..., Tensor], sigma: float | None, low: float, high: float, ndim: int
    ):
        super().__init__()
        self.denoiser, self.sigma, self.low, self.width, self.ndim = denoiser, sigma, low, high - low, ndim

    def forward(self, x: Tensor) -> Tensor:
        return x.new_full(x.shape[: x.ndim - self.ndim], math.nan)

    def grad(self, x: Tensor) -> Tensor:
        if self.sigma is None:
            raise ValueError(
                "a denoiser's gradient x − D(x; σ) needs a fixed σ: give sigma to from_deepinv_denoiser"
            )
        return x - self._denoised(x, torch.full(x.shape[: x.ndim - self.ndim], self.sigma))

    def prox(self, x: Tensor, step: Step) -> Tensor:
        batch = x.shape[: x.ndim - self.ndim]
        sigma = torch.as_tensor(step).sqrt() if self.sigma is None else torch.as_tensor(self.sigma)
        return self._denoised(x, sigma.expand(batch))

    def _denoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        shape = x.shape[x.ndim - self.ndim :]
        unit = ((x - self.low) / self.width).reshape(-1, 1, *shape)
        level = (sigma.reshape(-1).to(x) / self.width).to(x.device)
        return self.denoiser(unit, level).reshape(x.shape) * self.width + self.low

    def __repr__(self) -> str:
        return f"denoiser {type(self.denoiser).__name__}"
