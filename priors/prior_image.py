"""Priors that know an image much like the one that is sought."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.gradient import Gradient
from operators.tensors import inner

from .base import Composed, Functional, Step
from .norms import L21
from .tv import TV


class Shifted(Functional):
    """g(x) = f(x − target)

    f      : any functional
    target : one image, or one per image of the batch
    """

    target: Tensor

    def __init__(self, f: Functional, target: Tensor):
        super().__init__()
        self.f, self.ndim = f, f.ndim
        self.register_buffer("target", target)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x - self.target)

    def grad(self, x: Tensor) -> Tensor:
        return self.f.grad(x - self.target)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        return self.target + self.f.prox(x - self.target, step)

    def conjugate(self, y: Tensor) -> Tensor:
        target = self.target.expand(torch.broadcast_shapes(y.shape, self.target.shape))
        return self.f.conjugate(y) + inner(y, target, self.ndim)

    @property
    def lipschitz(self) -> Step:
        return self.f.lipschitz

    def __repr__(self) -> str:
        return f"Shifted({self.f!r}, target={tuple(self.target.shape)})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(L21(), torch.linspace(-1, 1, 30).reshape(2, 3, 5)), (2, 3, 5))]


class PriorImageTV(Functional):
    """E(x) = α TV(x − x_p) + (1 − α) TV(x), TV = ∫|∇·|: few edges, and few that x_p does not have.

    Prior image constrained compressed sensing, PICCS: Chen, Tang, Leng, Med. Phys. 35 (2008). Neither smooth
    nor with a closed prox: `terms` is what `pdhg` and `admm` take.

    prior_image : x_p, (ny, nx), or one per image, unit of x
    pixel_size  : h [mm]
    alpha       : α in [0, 1]; 0 is TV, 1 trusts x_p wholly

    x : (*batch, ny, nx), batch that of x_p if it has one
    """

    prior_image: Tensor

    def __init__(self, prior_image: Tensor, pixel_size: float = 1.0, alpha: float = 0.5):
        super().__init__()
        if prior_image.ndim < 2:
            raise ValueError(f"PriorImageTV prior_image: expected (*batch, ny, nx), got {prior_image.shape}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"PriorImageTV alpha: expected a number in [0, 1], got {alpha}")
        self.register_buffer("prior_image", prior_image)
        self.alpha, self.pixel_size = float(alpha), float(pixel_size)
        self.tv = TV(prior_image.shape[-2:], pixel_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * self.tv(x - self.prior_image) + (1 - self.alpha) * self.tv(x)

    def grad(self, x: Tensor) -> Tensor:
        return self.tv.grad(x)  # says that there is none

    @property
    def terms(self) -> list[Composed]:
        """Functionals f @ ∇ that sum up to E."""
        G = Gradient(tuple(self.prior_image.shape[-2:]), self.pixel_size)
        found: list[Composed] = []
        if self.alpha > 0:
            length = (self.alpha * self.pixel_size**2) * L21()
            found.append(Composed(Shifted(length, G(self.prior_image)), G))
        if self.alpha < 1:
            found.append((1 - self.alpha) * self.tv)
        return found

    def __repr__(self) -> str:
        shape = tuple(self.prior_image.shape)
        return f"PriorImageTV({shape}, pixel_size={self.tv.pixel_size}, alpha={self.alpha})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        image = torch.linspace(-1, 1, 20).square().reshape(5, 4)
        return [(cls(image, 0.5), (5, 4)), (cls(image, alpha=1.0), (5, 4)), (cls(image, alpha=0.0), (5, 4))]
