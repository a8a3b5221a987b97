"""Denoisers that are one gradient step on a potential, and so come with an objective."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from operators.tensors import spread, squared_norm

from .base import Functional, Step
from .denoiser import NetworkDenoiser, per_image
from .networks.drunet import DRUNet
from .networks.seeds import seeded


class GradientStepDenoiser(NetworkDenoiser):
    """D(x, σ) = x − ∇g_σ(x),  g_σ(x) = ½‖x − N(x, σ)‖², with any network N.

    Hurault, Leclaire, Papadakis, ICLR 2022. Where N has a continuous slope (DRUNet with "elu" or "softplus")
    g is differentiable, and plug-and-play with D minimises d(A x) + λ/σ²·g_σ(x). Trained as any denoiser;
    autograd goes through ∇g.

    network, data_range, complex_images   as in `NetworkDenoiser`
    """

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x - self._slope(x, sigma)

    def potential(self, sigma: Step, weight: Step = 1.0, scale: Step = 1.0) -> Functional:
        """weight·s²·g_{σ/s}(x/s), whose gradient is weight·(x − D_s(x, σ)), for images of size s."""
        return GradientStep(self, sigma, weight, scale)

    def value(self, x: Tensor, sigma: Tensor) -> Tensor:
        """g_σ(x), x (n, *shape), σ (n,)."""
        clean = super().denoise(x, sigma)
        return 0.5 * squared_norm(x - clean, self.ndim)

    def _slope(self, x: Tensor, sigma: Tensor) -> Tensor:
        graph = torch.is_grad_enabled() and (x.requires_grad or self._learns())
        with torch.enable_grad():
            z = x if x.requires_grad else x.detach().requires_grad_()
            return torch.autograd.grad(self.value(z, sigma).sum(), z, create_graph=graph)[0]

    def _learns(self) -> bool:
        return any(p.requires_grad for p in self.network.parameters())


class GradientStep(Functional):
    """weight · s² · ½‖u − N(u, σ/s)‖² at u = x/s: the potential of a `GradientStepDenoiser`.

    A functional for every solver that needs a gradient only: `nmapg`, `gradient_descent`. Not convex; its
    gradient has no known Lipschitz constant, so that steps are found by backtracking.

    sigma   σ > 0, unit of x, a float or one per image
    weight  > 0, a float or one per image
    scale   size s of an image, a float or one per image
    """

    def __init__(self, denoiser: GradientStepDenoiser, sigma: Step, weight: Step = 1.0, scale: Step = 1.0):
        super().__init__()
        self.denoiser, self.ndim = denoiser, denoiser.ndim
        for name, value in (("sigma", sigma), ("weight", weight), ("scale", scale)):
            if not bool((torch.as_tensor(value) > 0).all()):
                raise ValueError(f"GradientStep {name}: expected positive numbers, got {value}")
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, float(value))

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.ndim - self.ndim]
        s = torch.as_tensor(self.scale, dtype=x.real.dtype, device=x.device)
        level = per_image("GradientStep sigma", self.sigma / s, x, batch)  # type: ignore[arg-type, operator]
        u = (x / spread(s, self.ndim)).reshape(-1, *x.shape[len(batch) :])
        return self.weight * s.square() * self.denoiser.value(u, level).reshape(batch)  # type: ignore[operator]

    def __repr__(self) -> str:
        return f"GradientStep({self.denoiser!r}, sigma={self.sigma})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        def tiny(channels: int, kind: Literal["parts", "channels"]) -> GradientStepDenoiser:
            with seeded(0):
                net: nn.Module = DRUNet(channels, (4, 6), 1, "softplus")
            return GradientStepDenoiser(net, complex_images=kind).eval()

        return [(cls(tiny(1, "parts"), 0.1), (6, 9)), (cls(tiny(1, "parts"), 0.3, 2.0, 4.0), (5, 4))]
