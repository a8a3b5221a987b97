"""A U-Net that is told how much noise there is: the network of a diffusion prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class ScoreUNet(nn.Module):
    """F(x, c): residual blocks at several scales, scaled and shifted in every block by what c says.

    After Dhariwal and Nichol, NeurIPS 2021, and Karras, Aittala, Aila, Laine, NeurIPS 2022, without attention
    and far smaller: with the widths below 0.33 million weights. The last layer is 0 at first. Any size:
    extended by its edge to a multiple of 2^(scales − 1), and cropped.

    Parameters
    ----------
    channels : of the image, 2 for real and imaginary part
    widths : channels of every scale, finest first
    blocks : residual blocks at every scale, on the way down and on the way up
    embedding : numbers that describe c; half of them frequencies

    x (n, channels, ny, nx), c (n,), a number of size 1 -> like x
    """

    frequencies: Tensor

    def __init__(
        self, channels: int = 1, widths: Sequence[int] = (24, 48, 72), blocks: int = 1, embedding: int = 64
    ):
        super().__init__()
        widths = tuple(widths)
        if channels < 1 or not widths or min(widths) < 1 or blocks < 1 or embedding < 2 or embedding % 2:
            raise ValueError(
                "ScoreUNet channels, widths, blocks, embedding: expected numbers ≥ 1 and an even embedding, "
                f"got {channels}, {widths}, {blocks}, {embedding}"
            )
        self.channels, self.multiple = channels, 2 ** (len(widths) - 1)
        # evenly in the logarithm, from 1/16 to 4 turns per unit of c
        self.register_buffer("frequencies", 2 * math.pi * torch.logspace(-4, 2, embedding // 2, base=2.0))
        self.embed = nn.Sequential(
            nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )

        def stack(width: int, first: int | None = None) -> nn.ModuleList:
            inside = [width if first is None else first] + [width] * (blocks - 1)
            return nn.ModuleList(_Block(k, width, embedding) for k in inside)

        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(stack(width) for width in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(widths))
        self.body = stack(widths[-1])
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(stack(width, 2 * width) for width in widths[:-1])
        self.last = nn.Sequential(_norm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], channels, 3, padding=1))
        for p in self.last[-1].parameters():
            nn.init.zeros_(p)
        self.to(memory_format=torch.channels_last)  # up to twice as fast on processors

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        ny, nx = x.shape[-2:]
        h = functional.pad(x, (0, -nx % self.multiple, 0, -ny % self.multiple), mode="replicate")
        turns = c[:, None] * self.frequencies
        e = self.embed(torch.cat([turns.cos(), turns.sin()], 1))
        h = self.first(h)
        scales = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            h = _through(blocks, h, e)
            scales.append(h)
            h = shrink(h)
        h = _through(self.body, h, e)
        for blocks, grow in reversed(list(zip(self.up, self.grow, strict=True))):
            h = grow(functional.interpolate(h, scale_factor=2, mode="nearest"))
            h = _through(blocks, torch.cat([h, scales.pop()], 1), e)
        return self.last(h)[..., :ny, :nx]


class _Block(nn.Module):
    """s(h) + C₂ φ((1 + a(c)) G(C₁ φ(G h)) + b(c)), G group normalisation."""

    def __init__(self, inside: int, outside: int, embedding: int):
        super().__init__()
        self.one = nn.Sequential(_norm(inside), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1))
        self.norm = _norm(outside)
        self.modulate = nn.Linear(embedding, 2 * outside)
        self.two = nn.Conv2d(outside, outside, 3, padding=1)
        self.skip = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        a, b = self.modulate(e)[..., None, None].chunk(2, 1)
        return self.skip(h) + self.two(functional.silu((1 + a) * self.norm(self.one(h)) + b))


def _through(blocks: nn.Module, h: Tensor, e: Tensor) -> Tensor:
    for block in blocks:  # type: ignore[attr-defined]
        h = block(h, e)
    return h


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)
