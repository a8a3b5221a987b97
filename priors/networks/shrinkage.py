"""Learned transforms with shrinkage between: the layers of ISTA-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Shrinkage(nn.Module):
    """r + G H̃ S_θ(H D r)  (plus), or H̃ S_θ(H r): sparse in a learned, non-linear transform H.

    Zhang and Ghanem, CVPR 2018. H and its left inverse H̃ are two 3×3 convolutions with a rectifier between,
    D and G one; none has a bias. S_θ is the soft threshold, θ learned.

    channels : of the image (2 for complex ones)
    features : of the transform
    threshold : first θ
    """

    def __init__(self, channels: int = 1, features: int = 32, threshold: float = 0.1, plus: bool = True):
        super().__init__()
        first = features if plus else channels
        self.plus = plus
        self.into = _conv(channels, features) if plus else nn.Identity()
        self.forth = nn.Sequential(_conv(first, features), nn.ReLU(), _conv(features, features))
        self.back = nn.Sequential(_conv(features, features), nn.ReLU(), _conv(features, first))
        self.out = _conv(features, channels) if plus else nn.Identity()
        self.threshold = nn.Parameter(torch.tensor(float(threshold)))

    def forward(self, r: Tensor) -> Tensor:
        d = self.into(r)
        z = self.forth(d)
        z = z.sign() * functional.relu(z.abs() - self.threshold)
        x = self.out(self.back(z))
        return r + x if self.plus else x

    def asymmetry(self, r: Tensor) -> Tensor:
        """Mean (H̃ H d − d)², d = D r: how far H̃ is from the inverse of H; a number."""
        d = self.into(r)
        return (self.back(self.forth(d)) - d).square().mean()


def _conv(inside: int, outside: int) -> nn.Conv2d:
    layer = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
    nn.init.xavier_normal_(layer.weight)
    return layer
