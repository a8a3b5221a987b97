"""The generator of cycle-consistent denoising of cardiac CT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import Norm, block, convolution, initialise


class KangGenerator(nn.Module):
    """x + f(x): six modules of three 3×3 convolutions, each bypassed, all their inputs and outputs joined.

    Kang, Koo, Yang, Seo, Ye, Med. Phys. 46 (2019): 128 channels, batch norm, ReLU; the 896 joined channels go
    to 128, to 15, and by a 1×1 convolution to the image.

    x : (n, channels, *shape) -> like x
    """

    def __init__(
        self, channels: int = 1, width: int = 128, modules: int = 6, norm: Norm = "batch", dim: int = 2
    ):
        super().__init__()
        self.first = block(channels, width, dim=dim)
        self.stages = nn.ModuleList(
            nn.Sequential(*(block(width, width, norm=norm, dim=dim) for _ in range(3)))
            for _ in range(modules)
        )
        self.last = nn.Sequential(
            block((modules + 1) * width, width, dim=dim),
            block(width, 15, dim=dim),
            convolution(15, channels, 1, dim=dim),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        hidden = [self.first(x)]
        for stage in self.stages:
            hidden.append(hidden[-1] + stage(hidden[-1]))
        return x + self.last(torch.cat(hidden, 1))
