"""An encoder to features of an image, and a decoder back."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class Encoder(nn.Module):
    """E(x): 3×3 convolutions, CELU between them, none after the last.

    channels : of each convolution; the last are the features
    strides  : of each; None for ones, which keep the size. A side n becomes ⌈n / stride⌉

    x : (n, 1, ny, nx) -> (n, features, my, mx)
    """

    def __init__(self, channels: Sequence[int] = (64,) * 6, strides: Sequence[int] | None = None):
        super().__init__()
        self.strides = tuple(strides) if strides is not None else (1,) * len(channels)
        if not channels or len(self.strides) != len(channels):
            raise ValueError(
                f"Encoder strides: expected one for each of {len(channels)} channels, got {strides}"
            )
        layers: list[nn.Module] = []
        for inside, outside, stride in zip((1, *channels[:-1]), channels, self.strides, strict=True):
            layers += [nn.Conv2d(inside, outside, 3, stride, padding=1), nn.CELU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def shape(self, image: tuple[int, int]) -> tuple[int, int]:
        """(my, mx) of the features of an image (ny, nx)."""
        ny, nx = image
        for stride in self.strides:
            ny, nx = math.ceil(ny / stride), math.ceil(nx / stride)
        return ny, nx


class Decoder(nn.Module):
    """D(h): the encoder's way back, bilinear where it had a stride, with a 3×3 convolution on every scale.

    channels, strides : of the `Encoder`
    bias : without, D(0) = 0

    h : (n, features, my, mx) -> (n, 1, ny, nx), for an image (ny, nx) said with every call
    """

    def __init__(
        self, channels: Sequence[int] = (64,) * 6, strides: Sequence[int] | None = None, bias: bool = True
    ):
        super().__init__()
        self.strides = tuple(strides) if strides is not None else (1,) * len(channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(inside, outside, 3, padding=1, bias=bias)
            for outside, inside in reversed(list(zip((1, *channels[:-1]), channels, strict=True)))
        )

    def forward(self, h: Tensor, image: tuple[int, int]) -> Tensor:
        shapes = [image]
        for stride in self.strides[:-1]:
            shapes.append((math.ceil(shapes[-1][0] / stride), math.ceil(shapes[-1][1] / stride)))
        for k, layer in enumerate(self.layers):
            shape = shapes[-1 - k]
            if h.shape[-2:] != shape:
                h = functional.interpolate(h, shape, mode="bilinear", align_corners=False)
            h = layer(h)
            if k < len(self.layers) - 1:
                h = functional.celu(h)
        return h
