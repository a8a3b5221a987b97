"""Filters with learned activations: fields of experts, the regulariser of variational networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Experts(nn.Module):
    """Σᵢ Kᵢᵀ φᵢ'(Kᵢ x), the gradient of Σᵢ Σ φᵢ(Kᵢ x): linear filters Kᵢ, learned potentials φᵢ.

    Roth and Black, CVPR 2005; Hammernik et al., Magn. Reson. Med. 79 (2018). φᵢ'(z) = Σⱼ wᵢⱼ exp(−(z − μⱼ)² /
    2 s²) with nodes μⱼ evenly in [−reach, reach], s their distance. Filters have mean 0 in every channel and
    norm 1 in all, whatever their weights; they see zeros beyond the edge, and Kᵀ is their exact adjoint.

    channels : of the image (2 for complex ones, whose parts one expert sees together)
    filters, size : how many, of how many pixels a side (odd)
    nodes, reach : of the activations
    slope : φᵢ'(z) ≈ slope · z at first
    """

    def __init__(
        self,
        channels: int = 1,
        filters: int = 24,
        size: int = 11,
        nodes: int = 31,
        reach: float = 1.0,
        slope: float = 0.04,
    ):
        super().__init__()
        self.size, self.reach = size, reach
        self.weight = nn.Parameter(torch.empty(filters, channels, size, size))
        nn.init.normal_(self.weight)
        centres = torch.linspace(-reach, reach, nodes)
        # Gaussians one node distance wide sum to √(2π) everywhere inside
        self.activation = nn.Parameter((slope * centres / (2 * torch.pi) ** 0.5).repeat(filters, 1))

    @property
    def filters(self) -> Tensor:
        """The filters, (filters, channels, size, size), of mean 0 and norm 1."""
        w = self.weight - self.weight.mean((-2, -1), keepdim=True)
        norm = w.square().sum((1, 2, 3), keepdim=True).sqrt()
        return w / (norm + torch.finfo(w.dtype).tiny ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        w, edge = self.filters, self.size // 2
        z = functional.conv2d(x, w, padding=edge)
        return functional.conv_transpose2d(self.slope(z), w, padding=edge)

    def slope(self, z: Tensor) -> Tensor:
        """Φᵢ'(z), for z (n, filters, ny, nx)."""
        nodes = self.activation.shape[1]
        distance = 2 * self.reach / (nodes - 1)
        total = torch.zeros_like(z)
        for j in range(nodes):
            bump = torch.exp(-0.5 * ((z + self.reach) / distance - j) ** 2)
            total = total + self.activation[:, j, None, None] * bump
        return total

    def energy(self, x: Tensor) -> Tensor:
        """Σᵢ Σ φᵢ(Kᵢ x) up to a constant, one value per image: what `forward` is the gradient of."""
        z = functional.conv2d(x, self.filters, padding=self.size // 2)
        nodes = self.activation.shape[1]
        distance = 2 * self.reach / (nodes - 1)
        total = torch.zeros_like(z)
        for j in range(nodes):
            u = ((z + self.reach) / distance - j) / 2**0.5
            total = total + self.activation[:, j, None, None] * torch.erf(u)
        return total.sum((1, 2, 3)) * distance * (torch.pi / 2) ** 0.5
