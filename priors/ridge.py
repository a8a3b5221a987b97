"""Ridge regularisers: learned filters under learned profiles, convex or weakly convex."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Functional, same_precision
from .networks.ridge import Filters, Profiles
from .networks.seeds import seeded


class WeaklyConvexRidge(Functional):
    """R(x) = s² Σᵢ Σ_pixels ψᵢ((W x/s)ᵢ), ‖W‖ ≤ 1, ψᵢ'' ∈ [−ρ, β]: R + ½ρ‖x‖² is convex.

    Goujon, Neumayer, Unser, SIAM J. Imaging Sci. 17 (2024) (WCRR, ρ = 1): ½‖x − z‖² + R(z) is still convex
    for ρ ≤ 1, a denoiser with one answer. 1-4-8-60 filters of 5×5, splines of 101 knots on ±0.1. ∇R is
    max(ρ, β)-Lipschitz. Complex images: real and imaginary part alike, and added.

    channels, kernel   of the filters, see `networks.ridge.Filters`
    knots, reach       of the splines, see `networks.ridge.Profiles`; reach in parts of the scale
    rho                ρ ≥ 0
    scale              size s of an image, in its unit; a float
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (1, 4, 8, 60),
        kernel: int = 5,
        knots: int = 101,
        reach: float = 0.1,
        rho: float = 1.0,
        scale: float = 1.0,
    ):
        super().__init__()
        if not scale > 0:
            raise ValueError(f"{type(self).__name__} scale: expected a positive number, got {scale}")
        self.filters = Filters(channels, kernel)
        self.profiles = Profiles(channels[-1], knots, reach, rho)
        self.scale = float(scale)

    @property
    def rho(self) -> float:
        """ρ: R + ½ρ‖x‖² is convex."""
        return self.profiles.rho

    @property
    def lipschitz(self) -> float:
        """max(ρ, β)."""
        return max(self.rho, float(self.profiles.beta.detach()))

    def forward(self, x: Tensor) -> Tensor:
        parts = self._parts(x)
        value = self.profiles(self.filters(parts.flatten(0, 1)[:, None])).sum((-3, -2, -1))
        return self.scale**2 * value.unflatten(0, parts.shape[:2]).sum(1).reshape(x.shape[:-2])

    def grad(self, x: Tensor) -> Tensor:
        """s Wᵀ ψ'(W x/s); like autograd's, with a graph only where x has one."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            parts, bank = self._parts(x), self.filters.bank()
            h = self.filters(parts.flatten(0, 1)[:, None], bank)
            found = self.filters.transpose(self.profiles.derivative(h), bank)[:, 0].unflatten(
                0, parts.shape[:2]
            )
            found = torch.complex(*found.unbind(1)) if x.is_complex() else found[:, 0]
            return self.scale * found.reshape(x.shape)

    def _parts(self, x: Tensor) -> Tensor:
        """x/s as (n, 1 or 2 for real and imaginary part, ny, nx)."""
        same_precision(self, x)
        u = x.reshape(-1, *x.shape[-2:]) / self.scale
        return torch.stack([u.real, u.imag], 1) if u.is_complex() else u[:, None]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.filters.channels}, scale={self.scale})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        """With profiles that are not of the start, some steeper than ρ."""
        found: list[tuple[Functional, tuple[int, ...]]] = []
        with seeded(0):
            for options, shape in (({"reach": 3.0}, (6, 7)), ({"reach": 1.0, "scale": 0.5}, (4, 4))):
                f = cls((1, 2, 3), 3, 7, **options)
                for p in f.profiles.parameters():
                    p.data += 0.5 * torch.randn(p.shape)
                found.append((f, shape))
        return found


class ConvexRidge(WeaklyConvexRidge):
    """R(x) = s² Σᵢ Σ_pixels ψᵢ((W x/s)ᵢ), ‖W‖ ≤ 1, ψᵢ'' ∈ [0, β]: convex.

    Goujon, Neumayer, Bohra, Ducotterd, Unser, IEEE Trans. Comput. Imaging 9 (2023) (CRR). As
    `WeaklyConvexRidge` with ρ = 0; β is learned.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (1, 4, 8, 60),
        kernel: int = 5,
        knots: int = 101,
        reach: float = 0.1,
        scale: float = 1.0,
    ):
        super().__init__(channels, kernel, knots, reach, 0.0, scale)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return super().examples()
