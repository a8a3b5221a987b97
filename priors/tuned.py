"""A functional whose weight and input scale are learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import Functional, Step
from .norms import Huber


class Tuned(Functional):
    """R(x) = λ s² E(x/s), λ and s learned as logarithms: what carries a prior from one problem to another.

    Hertrich et al., arXiv 2510.01755 (λ and an input scale are all that is fitted there after training on
    denoising). With the factor s² the curvature of R is that of λE: s says at which size of a feature
    E bends.

    prior          E
    weight, scale  first λ, s > 0
    """

    def __init__(self, prior: Functional, weight: float = 1.0, scale: float = 1.0):
        super().__init__()
        for name, value in (("weight", weight), ("scale", scale)):
            if not 0 < value < math.inf:
                raise ValueError(f"Tuned {name}: expected a positive number, got {value}")
        self.prior, self.ndim = prior, prior.ndim
        self.log_weight = nn.Parameter(torch.tensor(math.log(weight)))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    @property
    def weight(self) -> float:
        """λ."""
        return float(self.log_weight.detach().exp())

    @property
    def scale(self) -> float:
        """s, in the unit of the image."""
        return float(self.log_scale.detach().exp())

    @torch.no_grad()
    def set(self, weight: float, scale: float) -> None:
        """Give λ and s other values."""
        self.log_weight.fill_(math.log(weight))
        self.log_scale.fill_(math.log(scale))

    def forward(self, x: Tensor) -> Tensor:
        return (self.log_weight + 2 * self.log_scale).exp() * self.prior(x / self.log_scale.exp())

    def grad(self, x: Tensor) -> Tensor:
        """λ s ∇E(x/s); like autograd's, with a graph only where x has one."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            return (self.log_weight + self.log_scale).exp() * self.prior.grad(x / self.log_scale.exp())

    @property
    def lipschitz(self) -> Step:
        return self.weight * self.prior.lipschitz

    def __repr__(self) -> str:
        return f"Tuned({self.prior!r}, weight={self.weight:.4g}, scale={self.scale:.4g})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(Huber(0.3), 2.0, 0.5), (4, 5))]
