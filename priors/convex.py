"""Convex learned regularisers by input-convex networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from operators.tensors import squared_norm

from .base import Functional, same_precision
from .networks.icnn import InputConvexNetwork
from .networks.seeds import seeded


def as_real(x: Tensor) -> Tensor:
    """(n, channels, ny, nx) of real numbers from images (*batch, ny, nx): one channel, or re and im."""
    flat = x.reshape(-1, *x.shape[-2:])
    return torch.stack([flat.real, flat.imag], 1) if x.is_complex() else flat[:, None]


class ConvexRegulariser(Functional):
    """E(x) = s·(Ψ(u) + ε Σ_pixels mean_k h_τ(F_k u) + ½μ‖u‖²) at u = x/s, Ψ convex: μ/s-strongly convex.

    Mukherjee et al., arXiv 2008.02839 (ACR): the network, a bank of filters under (rounded) L1, and a square,
    with ε = softplus(…), μ = softplus(…) learned from −12 and −9. Trained as a critic, low on clean images.
    Its minimisers are unique and depend continuously on the data.

    network  an `InputConvexNetwork` of one channel, or of two for complex images
    scale    size s of an image, in its unit
    filters, kernel   of the bank; 0 filters for none
    rounding τ of h_τ(t) = √(t² + τ²) − τ
    """

    def __init__(
        self,
        network: InputConvexNetwork,
        scale: float = 1.0,
        filters: int = 32,
        kernel: int = 7,
        rounding: float = 1e-3,
    ):
        super().__init__()
        if not scale > 0 or not rounding > 0:
            raise ValueError(
                f"ConvexRegulariser scale, rounding: expected positive numbers, got {scale}, {rounding}"
            )
        self.network, self.scale, self.rounding = network, float(scale), float(rounding)
        self.filters = (
            nn.Conv2d(network.channels, filters, kernel, padding=kernel // 2, bias=False) if filters else None
        )
        self.weights = nn.Parameter(torch.tensor([-12.0, -9.0]))

    def forward(self, x: Tensor) -> Tensor:
        same_precision(self, x)
        u = as_real(x / self.scale)
        if u.shape[1] != self.network.channels:
            kind = "a real image" if self.network.channels == 1 else "a complex image"
            raise ValueError(f"{type(self).__name__} expects {kind}, got {x.dtype}")
        sparse, square = nn.functional.softplus(self.weights)
        value = self.network(u) + 0.5 * square * squared_norm(u, 3)
        if self.filters is not None:
            response = self.filters(u)
            rounded = (response.square() + self.rounding**2).sqrt() - self.rounding
            value = value + sparse * rounded.mean(1).sum((-2, -1))
        return self.scale * value.reshape(x.shape[:-2])

    @property
    def strong_convexity(self) -> float:
        """μ/s: E − ½(μ/s)‖x‖² is convex too."""
        return float(nn.functional.softplus(self.weights[1].detach())) / self.scale

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        with seeded(0):
            return [
                (cls(InputConvexNetwork(1, 3, 4, 3, smooth=0.1), filters=2, kernel=3, rounding=0.1), (6, 9)),
                (cls(InputConvexNetwork(1, 2, 3, 3, smooth=0.1), scale=0.5, filters=0), (5, 5)),
            ]
