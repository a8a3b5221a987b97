"""Hourglass: the network of the deep image prior's papers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .conv_decoder import each_alone


class Hourglass(nn.Module):
    """Convolve and halve at every scale, double and convolve back, with thin joints or none across.

    Ulyanov, Vedaldi, Lempitsky, CVPR 2018, as Baguer, Leuschner, Schmidt, Inverse Problems 36 (2020) have it:
    one convolution at the full size, two (the first strided) at every scale below, bilinear doubling with
    aligned corners, a normalisation of what is joined, two convolutions; leaky ReLU of slope 0.2. Every
    channel of every image is normalised by itself, which is their batch norm for one image. The input may
    have any size: it is extended by its edge to a multiple of 2^(scales − 1) and the result cropped.

    in_channels, out_channels : of the image
    channels : width of every scale, finest first; their number is the depth
    skips : channels joined across at every scale but the coarsest, 0 for none
    padding : beyond the border, "zeros" (Baguer) or "reflect" (Ulyanov)

    x : (batch, in_channels, ny, nx) -> (batch, out_channels, ny, nx)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (128,) * 5,
        skips: Sequence[int] | None = None,
        padding: Literal["zeros", "reflect"] = "zeros",
    ):
        super().__init__()
        channels = tuple(channels)
        skips = (0,) * (len(channels) - 1) if skips is None else tuple(skips)
        if not channels or len(skips) != len(channels) - 1:
            raise ValueError(
                f"Hourglass skips: expected one number for each of {len(channels) - 1} joints, got {skips}"
            )
        if padding not in ("zeros", "reflect"):
            raise ValueError(f"Hourglass padding: expected 'zeros' or 'reflect', got {padding!r}")
        self.skips, self.multiple, self.padding = skips, 2 ** (len(channels) - 1), padding

        def layer(inside: int, outside: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
            convolution = nn.Conv2d(inside, outside, size, stride, size // 2, padding_mode=padding)
            return [convolution, each_alone(outside), nn.LeakyReLU(0.2)]

        self.first = nn.Sequential(*layer(in_channels, channels[0]))
        self.down = nn.ModuleList(
            nn.Sequential(*layer(fine, coarse, stride=2), *layer(coarse, coarse))
            for fine, coarse in pairwise(channels)
        )
        self.joints = nn.ModuleList(
            nn.Sequential(*(layer(fine, k, 1) if k else []))
            for fine, k in zip(channels[:-1], skips, strict=True)
        )
        self.up = nn.ModuleList(
            nn.Sequential(each_alone(coarse + k), *layer(coarse + k, fine), *layer(fine, fine))
            for fine, coarse, k in zip(channels[:-1], channels[1:], skips, strict=True)
        )
        self.last = nn.Conv2d(channels[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        ny, nx = x.shape[-2:]
        # a mirrored border needs a neighbour at the coarsest scale too
        least = 2 * self.multiple if self.padding == "reflect" else self.multiple
        bottom, right = max(-ny % self.multiple, least - ny), max(-nx % self.multiple, least - nx)
        scales = [self.first(functional.pad(x, (0, right, 0, bottom), mode="replicate"))]
        for down in self.down:
            scales.append(down(scales[-1]))
        h = scales.pop()
        for up, joint, k in reversed(list(zip(self.up, self.joints, self.skips, strict=True))):
            h = functional.interpolate(h, scale_factor=2, mode="bilinear", align_corners=True)
            fine = scales.pop()
            h = up(torch.cat([h, joint(fine)], 1) if k else h)
        return self.last(h)[..., :ny, :nx]
