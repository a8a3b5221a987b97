"""Encoder and decoder of planes or volumes, all parts selectable."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from .blocks import (
    Activation,
    Norm,
    PixelShuffle,
    activated,
    block,
    convolution,
    cropped,
    extended,
    pooling,
    transposed,
    upsampling,
)
from .dropout import Dropout

Skip = Literal["concat", "add", "none"]
Down = Literal["stride", "max", "avg"]
Up = Literal["linear", "nearest", "transposed", "shuffle"]


class EncoderDecoder(nn.Module):
    """f(x) or x + f(x): convolutions on several scales, halved down, doubled up, joined where wanted.

    Ronneberger, Fischer, Brox, MICCAI 2015, with the parts that later ones changed. Any size: an image is
    extended by its edge to a multiple of 2^(scales − 1), and the result cropped. `priors.networks.UNet` is a
    fixed choice of these.

    Parameters
    ----------
    in_channels, out_channels : of the image
    channels : width of every scale, finest first
    skips : "concat", "add" or "none", for all scales or one for each but the coarsest, finest first; they
        carry high frequencies, of the truth as of streaks
    norm, activation : "none", "group", "instance", "layer", "batch"; "relu", "leaky", "prelu"
    down : "stride" (of a convolution), "max" or "avg" (pooling)
    up : "linear" or "nearest" and a 1×1 convolution, "transposed" 2×2, which can leave checkerboards,
        "shuffle" (of 1×1)
    convolutions : 3×3 ones on every scale, down and up
    residual : add the input to the result; starts as the identity
    last : activation of the output, before the input is added
    dropout : part of the channels left out inside `dropping`, after the coarsest scale
    dim : 2 for planes, 3 for volumes

    x : (n, in_channels, *shape) -> (n, out_channels, *shape)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        skips: Skip | Sequence[Skip] = "concat",
        norm: Norm = "none",
        activation: Activation = "relu",
        down: Down = "stride",
        up: Up = "linear",
        convolutions: int = 2,
        residual: bool = False,
        last: Activation = "none",
        dropout: float = 0.0,
        dim: int = 2,
    ):
        super().__init__()
        joints = [skips] * (len(channels) - 1) if isinstance(skips, str) else list(skips)
        if not channels or len(joints) != len(channels) - 1 or not set(joints) <= {"concat", "add", "none"}:
            raise ValueError(
                "EncoderDecoder skips: expected 'concat', 'add' or 'none', or one of them for each of "
                f"{len(channels) - 1} scales, got {skips!r}"
            )
        if down not in ("stride", "max", "avg") or convolutions < 1:
            raise ValueError(
                "EncoderDecoder down, convolutions: expected 'stride', 'max' or 'avg', at least 1, got "
                f"{down!r}, {convolutions}"
            )
        if residual and in_channels != out_channels:
            raise ValueError(
                f"EncoderDecoder residual: as many channels out as in, got {out_channels}, {in_channels}"
            )
        self.multiple, self.residual, self.skips = 2 ** (len(channels) - 1), residual, joints
        stages = [(in_channels, channels[0]), *pairwise(channels)]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.dropout = Dropout(dropout)

        def several(inside: int, outside: int, stride: int = 1) -> list[nn.Module]:
            kinds = {"norm": norm, "activation": activation, "dim": dim}
            return [
                block(outside if k else inside, outside, 3, 1 if k else stride, **kinds)  # type: ignore[arg-type]
                for k in range(convolutions)
            ]

        for k, (inside, outside) in enumerate(stages):
            pool = [pooling(down, dim)] if k and down != "stride" else []  # type: ignore[arg-type]
            stride = 2 if k and down == "stride" else 1
            self.encoder.append(nn.Sequential(*pool, *several(inside, outside, stride)))
        # in the order of execution, coarsest first
        for (fine, coarse), skip in reversed(list(zip(pairwise(channels), joints, strict=True))):
            stage = nn.Sequential(*several(fine * (2 if skip == "concat" else 1), fine))
            self.decoder.append(nn.ModuleList([nn.Sequential(*_up(up, coarse, fine, dim)), stage]))
        self.last = nn.Sequential(convolution(channels[0], out_channels, 1, dim=dim), *activated(last))
        if residual:
            nn.init.zeros_(self.last[0].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.last[0].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h, fine = extended(x, self.multiple), list[Tensor]()
        for stage in self.encoder:
            h = stage(h)
            fine.append(h)
        h = self.dropout(fine.pop())
        for parts, skip in zip(self.decoder, reversed(self.skips), strict=True):
            up, stage = list(parts.children())
            h, beside = up(h), fine.pop()
            if skip == "concat":
                h = torch.cat([beside, h], 1)
            elif skip == "add":
                h = beside + h
            h = stage(h)
        h = cropped(self.last(h), x.shape[2:])
        return x + h if self.residual else h


class FBPConvNet(EncoderDecoder):
    """x + U-Net(x): widths 64 … 1024, batch norm, ReLU, maximum pooling, transposed 2×2.

    Jin, McCann, Froustey, Unser, IEEE Trans. Image Process. 26 (2017).
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        norm: Norm = "batch",
        dropout: float = 0.0,
        dim: int = 2,
    ):
        super().__init__(
            channels=channels, norm=norm, down="max", up="transposed", residual=True, dropout=dropout, dim=dim
        )


class VAGANGenerator(EncoderDecoder):
    """M(x), the map that makes a sick image look healthy as x + M(x): a U-Net of volumes, from 16 channels.

    Baumgartner, Koch, Tezcan, Ang, Konukoglu, CVPR 2018.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 128),
        norm: Norm = "batch",
        last: Activation = "none",
        dim: int = 3,
    ):
        super().__init__(channels=channels, norm=norm, down="max", up="transposed", last=last, dim=dim)


def _up(kind: Up, coarse: int, fine: int, dim: int) -> list[nn.Module]:
    match kind:
        case "linear" | "nearest":
            # at half the size the 1×1 costs a quarter, and interpolation does not mind the order
            return [convolution(coarse, fine, 1, dim=dim), upsampling(2, kind, dim)]
        case "transposed":
            return [transposed(coarse, fine, 2, dim=dim, padding=0)]
        case "shuffle":
            return [convolution(coarse, fine * 2**dim, 1, dim=dim), PixelShuffle(2)]
    raise ValueError(
        f"EncoderDecoder up: expected 'linear', 'nearest', 'transposed' or 'shuffle', got {kind!r}"
    )
