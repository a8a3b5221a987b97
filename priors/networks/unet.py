"""U-Net: an encoder and a decoder joined at every scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .dropout import Dropout

Norm = Literal["none", "group", "instance", "batch"]


class UNet(nn.Module):
    """x + f(x), or f(x): two 3×3 convolutions at each of several scales, halved down, doubled up, joined.

    Ronneberger, Fischer, Brox, MICCAI 2015; same padding, strided convolutions down and bilinear up, which
    leave no checkerboard. The input may have any size: it is extended by its edge to a multiple of
    2^(scales − 1) and the result cropped.

    Parameters
    ----------
    in_channels, out_channels : of the image
    channels : width of every scale, finest first; their number is the depth
    skips : channels joined across at every scale but the coarsest, 0 for none; None for all of the scale
    norm : "none", "group", "instance" or "batch"; only "batch" makes an image depend on others while training
    dropout : part of the channels left out inside `dropping`, after every scale but the finest; 0 for none
    residual : add the input to the result (out_channels = in_channels); starts as the identity

    x : (batch, in_channels, ny, nx) -> (batch, out_channels, ny, nx)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        skips: Sequence[int] | None = None,
        norm: Norm = "none",
        residual: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        channels = tuple(channels)
        skips = channels[:-1] if skips is None else tuple(skips)
        if not channels or len(skips) != len(channels) - 1:
            raise ValueError(
                f"UNet skips: expected one number for each of the {len(channels) - 1} joints, got {skips}"
            )
        if residual and in_channels != out_channels:
            raise ValueError(
                f"UNet residual: needs out_channels = in_channels, got {out_channels} and {in_channels}"
            )
        self.residual, self.multiple = residual, 2 ** (len(channels) - 1)
        self.dropout = Dropout(dropout)
        self.first = _double(in_channels, channels[0], norm)
        self.down = nn.ModuleList(
            _double(fine, coarse, norm, stride=2) for fine, coarse in pairwise(channels)
        )
        self.joints = nn.ModuleList(
            nn.Identity() if k == c else nn.Conv2d(c, k, 1) if k else nn.Module()
            for c, k in zip(channels[:-1], skips, strict=True)
        )
        self.up = nn.ModuleList(
            _double(coarse + k, fine, norm)
            for fine, coarse, k in zip(channels[:-1], channels[1:], skips, strict=True)
        )
        self.skips = skips
        self.last = nn.Conv2d(channels[0], out_channels, 1)
        if residual:
            nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        if norm == "none":
            self.to(memory_format=torch.channels_last)  # a quarter faster; slower with groups

    def forward(self, x: Tensor) -> Tensor:
        ny, nx = x.shape[-2:]
        h = functional.pad(x, (0, -nx % self.multiple, 0, -ny % self.multiple), mode="replicate")
        scales = [self.first(h)]
        for down in self.down:
            scales.append(self.dropout(down(scales[-1])))
        h = scales.pop()
        for up, joint, k in reversed(list(zip(self.up, self.joints, self.skips, strict=True))):
            h = functional.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
            fine = scales.pop()
            h = up(torch.cat([h, joint(fine)], 1) if k else h)
            h = self.dropout(h) if scales else h
        h = self.last(h)[..., :ny, :nx]
        return x + h if self.residual else h

    def chain(self) -> list[nn.Module]:
        """The layers of the longest way from input to output, see `receptive_field`."""
        up: list[nn.Module] = []
        for stage in reversed(self.up):
            up += [nn.Upsample(scale_factor=2, mode="bilinear"), stage]
        return [self.first, *self.down, *up, self.last]


def _double(inside: int, outside: int, norm: Norm, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*_single(inside, outside, norm, stride), *_single(outside, outside, norm, 1))


def _single(inside: int, outside: int, norm: Norm, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inside, outside, 3, stride, padding=1)
    nn.init.kaiming_normal_(convolution.weight, a=0.2)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return [convolution, *norms(norm, outside), nn.LeakyReLU(0.2)]


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that keeps no integer: weights on disk are floating-point numbers."""

    # torch's own would ask for the integer
    _load_from_state_dict = nn.Module._load_from_state_dict

    def __init__(self, channels: int):
        super().__init__(channels)
        self.num_batches_tracked = None


def norms(norm: Norm, channels: int) -> list[nn.Module]:
    """The normalisation of that name, or none."""
    match norm:
        case "none":
            return []
        case "group":
            return [nn.GroupNorm(math.gcd(8, channels), channels)]
        case "instance":
            return [nn.InstanceNorm2d(channels, affine=True)]
        case "batch":
            return [BatchNorm(channels)]
    raise ValueError(
        f"UNet or Convolutions norm: expected 'none', 'group', 'instance' or 'batch', got {norm!r}"
    )
