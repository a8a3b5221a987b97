"""DRUNet: a U-Net of residual blocks without bias, told the noise level."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .dncnn import with_noise_map

Activation = Literal["relu", "elu", "softplus"]


class DRUNet(nn.Module):
    """f(x, σ): residual blocks at four scales, strided convolutions down, transposed up, sums across.

    Zhang, Li, Zuo, Zhang, Van Gool, Timofte, IEEE TPAMI 44 (2022). Without bias and with ReLU it is
    homogeneous: f(c x, c σ) = c f(x, σ). For gradient steps (Hurault et al. 2022) two blocks and "elu", which
    has a continuous slope. Any size: extended by its edge to a multiple of 2^(scales − 1), and cropped.

    x (n, channels, ny, nx), σ (n,) -> like x
    """

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: int = 4,
        activation: Activation = "relu",
    ):
        super().__init__()
        widths = tuple(widths)
        if channels < 1 or not widths or min(widths) < 1 or blocks < 1:
            raise ValueError(
                f"DRUNet channels, widths, blocks: expected numbers ≥ 1, got {channels}, {widths}, {blocks}"
            )
        self.channels, self.multiple = channels, 2 ** (len(widths) - 1)

        def stack(width: int) -> list[nn.Module]:
            return [_Residual(width, activation) for _ in range(blocks)]

        self.first = nn.Conv2d(channels + 1, widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(
            nn.Sequential(*stack(fine), nn.Conv2d(fine, coarse, 2, 2, bias=False))
            for fine, coarse in pairwise(widths)
        )
        self.body = nn.Sequential(*stack(widths[-1]))
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(coarse, fine, 2, 2, bias=False), *stack(fine))
            for fine, coarse in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[0], channels, 3, padding=1, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.orthogonal_(layer.weight, gain=0.5)
        self.to(memory_format=torch.channels_last)  # a quarter faster on processors

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        ny, nx = x.shape[-2:]
        pad = (0, -nx % self.multiple, 0, -ny % self.multiple)
        h = self.first(with_noise_map(functional.pad(x, pad, mode="replicate"), sigma))
        scales: list[Tensor] = []
        for down in self.down:
            scales.append(h)
            h = down(h)
        h = self.body(h) + h
        for up, across in zip(reversed(self.up), reversed(scales), strict=True):
            h = up(h) + across
        return self.last(h)[..., :ny, :nx]


class _Residual(nn.Module):
    """h + C₂ φ(C₁ h)."""

    def __init__(self, width: int, activation: Activation):
        super().__init__()
        self.one = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.two = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.act = smooth(activation)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.two(self.act(self.one(h)))


def smooth(activation: Activation) -> nn.Module:
    """The activation of this name."""
    match activation:
        case "relu":
            return nn.ReLU()
        case "elu":
            return nn.ELU()
        case "softplus":
            return nn.Softplus(beta=100.0)
    raise ValueError(f"activation: expected 'relu', 'elu' or 'softplus', got {activation!r}")
