"""The densely connected generator of ID-CGAN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import Activation, Norm, activated, block, convolution, cropped, extended, initialise, upsampling


class DenseBlock(nn.Module):
    """Every 3×3 convolution sees what all before it gave: Huang, Liu, van der Maaten, Weinberger, CVPR 2017.

    x : (n, inside, *shape) -> (n, inside + layers·growth, *shape)
    """

    def __init__(self, inside: int, growth: int, layers: int, norm: Norm, dim: int):
        super().__init__()
        self.layers = nn.ModuleList(
            block(inside + k * growth, growth, norm=norm, activation="leaky", dim=dim) for k in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class IDCGANGenerator(nn.Module):
    """Dense blocks down and up again, joined at every scale, tanh: the generator of ID-CGAN, in small.

    Zhang, Sindagi, Patel (arXiv 1701.05957) build theirs of dense blocks with 3×3 convolutions, down and up,
    and of several hundred channels; their widths are settings here, the defaults are small.

    base, growth, layers : first width, channels each convolution of a block adds, and how many those are
    depth : how often the image is halved

    x : (n, in_channels, *shape) -> (n, out_channels, *shape)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        base: int = 64,
        growth: int = 16,
        layers: int = 4,
        depth: int = 3,
        norm: Norm = "batch",
        last: Activation = "tanh",
        dim: int = 2,
    ):
        super().__init__()
        self.multiple, wide = 2**depth, base + layers * growth
        self.first = block(in_channels, base, activation="leaky", dim=dim)
        self.dense = nn.ModuleList(DenseBlock(base, growth, layers, norm, dim) for _ in range(depth + 1))
        # a transition brings the width back to `base` as it halves or doubles the image
        self.down = nn.ModuleList(
            block(wide, base, 4, 2, norm=norm, activation="leaky", dim=dim, padding=1) for _ in range(depth)
        )
        self.up = nn.ModuleList(
            nn.Sequential(upsampling(2, dim=dim), *block(wide if k == 0 else base, base, norm=norm, dim=dim))
            for k in range(depth)
        )
        self.joint = nn.ModuleList(block(wide + base, base, norm=norm, dim=dim) for _ in range(depth))
        self.last = nn.Sequential(convolution(base, out_channels, dim=dim), *activated(last))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        h, skips = self.first(extended(x, self.multiple)), list[Tensor]()
        for dense, down in zip(self.dense[:-1], self.down, strict=True):  # type: ignore[arg-type]
            skips.append(dense(h))
            h = down(skips[-1])
        h = self.dense[-1](h)
        for up, joint in zip(self.up, self.joint, strict=True):
            h = joint(torch.cat([skips.pop(), up(h)], 1))
        return cropped(self.last(h), x.shape[2:])

    def chain(self) -> list[nn.Module]:
        """The layers of the longest way from input to output, see `receptive_field`."""
        down = [part for pair in zip(self.dense, self.down, strict=False) for part in pair]
        up = [part for pair in zip(self.up, self.joint, strict=True) for part in pair]
        return [self.first, *down, self.dense[-1], *up, self.last]
