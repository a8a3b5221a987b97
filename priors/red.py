"""Regularisation by denoising: the energy a denoiser was said to have."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.tensors import inner

from .base import Functional, Step
from .denoiser import Denoiser, FunctionDenoiser


class RegularisationByDenoising(Functional):
    """R(x) = ⟨x, x − D(x, σ)⟩ / 2σ², with the gradient (x − D(x, σ)) / σ².

    Romano, Elad, Milanfar, SIAM J. Imaging Sci. 10 (2017). That is the gradient of this R only if D is
    homogeneous with a symmetric Jacobian (Reehorst and Schniter, IEEE Trans. Comput. Imaging 5 (2019)), as
    linear symmetric filters are; for other D there is none, R is a number to watch, and the gradient is what
    `recon.RED` sets to balance the data's. With 1/σ² weights agree with those of ½‖x − z‖²/σ² + R(z).

    denoiser  D
    sigma     σ > 0, a float or one per image
    """

    sigma: Tensor | float

    def __init__(self, denoiser: Denoiser, sigma: Step):
        super().__init__()
        if not bool((torch.as_tensor(sigma) > 0).all()):
            raise ValueError(f"RegularisationByDenoising sigma: expected positive numbers, got {sigma}")
        self.denoiser, self.ndim = denoiser, denoiser.ndim
        if isinstance(sigma, Tensor):
            self.register_buffer("sigma", sigma)
        else:
            self.sigma = float(sigma)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * inner(x, self.grad(x), self.ndim)

    def grad(self, x: Tensor) -> Tensor:
        power = self.sigma**2
        if isinstance(power, Tensor) and power.ndim:
            power = power.reshape(*power.shape, *(1,) * self.ndim)
        return (x - self.denoiser(x, self.sigma)) / power

    def __repr__(self) -> str:
        return f"RegularisationByDenoising({self.denoiser!r}, sigma={self.sigma})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(FunctionDenoiser(_smooth, channel=False), 0.5), (5, 6))]


def _smooth(x: Tensor, sigma: Tensor) -> Tensor:
    """A symmetric periodic filter (½, ¼, ¼) along both axes, weaker for small σ."""
    share = (sigma / (1 + sigma)).reshape(-1, 1, 1)
    for axis in (-2, -1):
        x = (1 - share) * x + share / 2 * (x.roll(1, axis) + x.roll(-1, axis))
    return x
