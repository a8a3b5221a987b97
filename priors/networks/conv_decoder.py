"""ConvDecoder: an image grown from a small array of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConvDecoder(nn.Sequential):
    """Upsample, 3×3 convolution, ReLU, normalise, again and again; no skips, so little noise gets through.

    Darestani and Heckel, IEEE Trans. Comput. Imaging 7 (2021). Sizes grow evenly in their logarithm from
    `start` to `shape`, by the nearest neighbour; a last 3×3 layer keeps the size, and a 1×1 convolution ends.
    Every channel of every image is normalised by itself, which is their batch norm for one image.

    shape : (ny, nx) of the image
    out_channels : of the image
    channels, layers : of the hidden layers and how many
    start : (height, width) of the input

    z : (batch, channels, *start) -> (batch, out_channels, ny, nx)
    """

    def __init__(
        self,
        shape: Sequence[int],
        out_channels: int = 1,
        channels: int = 256,
        layers: int = 7,
        start: Sequence[int] = (4, 4),
    ):
        if layers < 2 or channels < 1 or min(*shape, *start) < 1:
            raise ValueError(
                f"ConvDecoder: expected at least 2 layers, 1 channel and sizes of 1, got {layers=}, "
                f"{channels=}, shape={tuple(shape)}, start={tuple(start)}"
            )
        self.start, self.channels = (start[0], start[1]), channels
        sizes = [
            tuple(math.ceil((n / s) ** (k / (layers - 1)) * s) for n, s in zip(shape, start, strict=True))
            for k in range(1, layers - 1)
        ]
        stack: list[nn.Module] = []
        for size in [*sizes, tuple(shape), None]:
            if size is not None:
                stack.append(nn.Upsample(size=size, mode="nearest"))
            stack += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), each_alone(channels)]
        super().__init__(*stack, nn.Conv2d(channels, out_channels, 1))

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z)


class EachAlone(nn.GroupNorm):
    """Every channel of every image to mean 0 and variance 1, then scaled and shifted; 1 × 1 images too."""

    def forward(self, x: Tensor) -> Tensor:
        # neither of them through nn.functional, which refuses one image of 1 × 1
        if len(x) == 1:
            # the same for one image, and several times faster with the channels last
            args = self.weight, self.bias, None, None, True, 0.0, self.eps, True
            return torch.batch_norm(x, *args)
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def each_alone(channels: int) -> nn.Module:
    """A normalisation of every channel of every image by itself."""
    return EachAlone(channels, channels)
