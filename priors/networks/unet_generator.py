"""The U-Net of pix2pix, and several of them in a row."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .blocks import (
    Activation,
    Norm,
    activated,
    biased,
    convolution,
    cropped,
    extended,
    initialise,
    normalisation,
    transposed,
)
from .dropout import Dropout


class UNetGenerator(nn.Module):
    """4×4 convolutions of stride 2 down to one pixel, transposed ones back, joined at every scale.

    Isola, Zhu, Zhou, Efros, CVPR 2017 (pix2pix): depth 8 for 256², widths 64, 128, 256, 512 …; leaky ReLU 0.2
    down, ReLU up, no normalisation on the first and the innermost scale. An image whose sides are no multiple
    of 2^depth is extended by its edge, and the result cropped.

    in_channels, out_channels : of the image
    base, depth : width of the first scale, doubled up to eightfold; how often the image is halved
    norm : "batch" as in the paper (which, with a batch of one, is "instance"), "instance", "group", "none"
    dropout : part left out inside `dropping` in the widest decoder scales but the innermost; their noise
    residual : add the input to the output (SAGAN: Yi and Babyn, J. Digit. Imaging 31, 2018)
    last : activation of the output, before the input is added
    dim : 2 for planes, 3 for volumes

    x : (n, in_channels, *shape) -> (n, out_channels, *shape)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        base: int = 64,
        depth: int = 8,
        norm: Norm = "batch",
        dropout: float = 0.5,
        residual: bool = False,
        last: Activation = "tanh",
        dim: int = 2,
    ):
        super().__init__()
        if depth < 2 or base < 1:
            raise ValueError(f"UNetGenerator depth, base: expected at least 2 and 1, got {depth}, {base}")
        if residual and in_channels != out_channels:
            raise ValueError(
                f"UNetGenerator residual: as many channels out as in, got {out_channels}, {in_channels}"
            )
        widths, bias = [base * min(2**k, 8) for k in range(depth)], biased(norm)
        self.multiple, self.residual = 2**depth, residual
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for k, width in enumerate(widths):
            inside = widths[k - 1] if k else in_channels
            layers = activated("leaky") if k else []
            layers.append(convolution(inside, width, 4, 2, dim=dim, padding=1, bias=bias))
            layers += normalisation(norm, width, dim) if 0 < k < depth - 1 else []
            self.down.append(nn.Sequential(*layers))
        for k in reversed(range(depth)):
            inside = widths[k] * (1 if k == depth - 1 else 2)
            outside = widths[k - 1] if k else out_channels
            layers = [nn.ReLU(), transposed(inside, outside, dim=dim, bias=bias or k == 0)]
            layers += normalisation(norm, outside, dim) if k else activated(last)
            if 0 < k < depth - 1 and outside == base * 8:
                layers.append(Dropout(dropout, whole=False))
            self.up.append(nn.Sequential(*layers))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        h, skips = extended(x, self.multiple), list[Tensor]()
        for down in self.down:
            h = down(h)
            skips.append(h)
        h = self.up[0](skips.pop())
        for up in self.up[1:]:
            h = up(torch.cat([skips.pop(), h], 1))
        h = cropped(h, x.shape[2:])
        return x + h if self.residual else h


class CasNet(nn.Sequential):
    """G₆(… G₁(x)): U-Nets of pix2pix end to end, each sees the image of the one before.

    Armanious et al., Comput. Med. Imaging Graph. 79 (2020): 6 U-blocks, no loss between; the text names
    batch, the training section instance normalisation, which is the same with their batches of one.

    blocks : number of U-Nets; the rest are settings of `UNetGenerator`, without dropout

    x : (n, in_channels, *shape) -> (n, out_channels, *shape)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        blocks: int = 6,
        base: int = 64,
        depth: int = 8,
        norm: Norm = "instance",
        dropout: float = 0.0,
        residual: bool = False,
        last: Activation = "tanh",
        dim: int = 2,
    ):
        if blocks < 1:
            raise ValueError(f"CasNet blocks: expected at least 1, got {blocks}")
        super().__init__(
            *(
                UNetGenerator(
                    out_channels if k else in_channels,
                    out_channels,
                    base,
                    depth,
                    norm,
                    dropout,
                    residual,
                    last,
                    dim,
                )
                for k in range(blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, super().forward(x))
