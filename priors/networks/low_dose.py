"""Plain convolutions for low-dose CT and MR: CNN10, WGAN-VGG, SMGAN, Wolterink, RED-CNN, RED-WGAN."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from .blocks import Activation, activated, block, convolution, cropped, extended, transposed


class Chain(nn.Sequential):
    """Convolutions one after the other, each with its activation; the size is kept.

    kernels, channels : of the convolutions, of those before the last
    activation, last : between the layers, and behind the last
    dim : 2 for planes, 3 for volumes

    x : (n, in_channels, *shape) -> (n, out_channels, *shape)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernels: Sequence[int],
        channels: Sequence[int],
        activation: Activation = "relu",
        last: Activation = "none",
        dim: int = 2,
    ):
        if len(kernels) != len(channels) + 1:
            raise ValueError(
                f"{type(self).__name__} channels: expected one fewer than the {len(kernels)} kernels, "
                f"got {len(channels)}"
            )
        widths = [in_channels, *channels, out_channels]
        acts = [activation] * len(channels) + [last]
        parts = zip(widths[:-1], widths[1:], kernels, acts, strict=True)
        super().__init__(*(block(a, b, k, activation=act, dim=dim) for a, b, k, act in parts))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, super().forward(x))


class CNN10(Chain):
    """9×9 to 64 channels, 3×3 to 32, 5×5 to 1, ReLU between: Chen et al., Biomed. Opt. Express 8 (2017)."""

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (64, 32),
        last: Activation = "none",
        dim: int = 2,
    ):
        super().__init__(in_channels, out_channels, (9, 3, 5), channels, last=last, dim=dim)


class WGANVGGGenerator(Chain):
    """Eight 3×3 of 32 channels, ReLU after each: Yang et al., IEEE Trans. Med. Imaging 37 (2018).

    last : "relu" as in the paper, for images in [0, 1]; "none" where images may be negative
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        layers: int = 8,
        last: Activation = "relu",
        dim: int = 2,
    ):
        super().__init__(
            in_channels, out_channels, (3,) * layers, (width,) * (layers - 1), last=last, dim=dim
        )


class SMGANGenerator(WGANVGGGenerator):
    """The same of volumes: eight 3×3×3 of 32 channels, You et al., IEEE Access 6 (2018).

    Theirs leave out the edge planes, so that 11 slices give fewer; here the size is kept.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, last: Activation = "relu", dim: int = 3):
        super().__init__(in_channels, out_channels, last=last, dim=dim)


class WolterinkGenerator(Chain):
    """Seven 3×3×3, from 32 to 128 channels, leaky ReLU: Wolterink et al., IEEE Trans. Med. Imaging 36 (2017).

    The widths between are not sure (32, 32, 64, 64, 128, 128). Theirs shrink volumes, this keeps the size.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (32, 32, 64, 64, 128, 128),
        last: Activation = "none",
        dim: int = 3,
    ):
        kernels = (3,) * (len(channels) + 1)
        super().__init__(in_channels, out_channels, kernels, channels, "leaky", last, dim)


class REDCNN(nn.Module):
    """Five 5×5 convolutions that shrink the image, five transposed ones back, every second joined by sum.

    Chen et al., IEEE Trans. Med. Imaging 36 (2017): 96 channels, ReLU after each sum; the input is added
    before the last. Images under 21 pixels a side are extended by their edge, and the result cropped.

    last : "relu" as in the paper, for images in [0, 1]; "none" where images may be negative

    x : (n, channels, *shape) -> like x
    """

    def __init__(self, channels: int = 1, width: int = 96, last: Activation = "relu", dim: int = 2):
        super().__init__()
        self.down = nn.ModuleList(
            block(channels if k == 0 else width, width, 5, padding=0, dim=dim) for k in range(5)
        )
        self.up = nn.ModuleList(
            transposed(width, channels if k == 4 else width, 5, 1, dim=dim, padding=0) for k in range(5)
        )
        self.last = nn.Sequential(*activated(last))

    def forward(self, x: Tensor) -> Tensor:
        big = extended(x, 1, least=21)
        hidden = [big]
        for down in self.down:
            hidden.append(down(hidden[-1]))
        h = torch.relu(self.up[0](hidden[5]) + hidden[4])
        h = torch.relu(self.up[1](h))
        h = torch.relu(self.up[2](h) + hidden[2])
        h = torch.relu(self.up[3](h))
        return cropped(self.last(self.up[4](h) + big), x.shape[2:])


class REDWGANGenerator(nn.Module):
    """3×3×3 of 32, 64, 128, 256 channels and back to 128, 64, 32, 1, batch norm, leaky ReLU, joined by sums.

    Ran et al., Med. Image Anal. 55 (2019). The input is added to the last convolution.

    last : "relu" as in the paper, for images in [0, 1]; "none" where images may be negative

    x : (n, channels, nz, ny, nx) -> like x
    """

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256),
        last: Activation = "relu",
        dim: int = 3,
    ):
        super().__init__()
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(
            block(a, b, norm="batch", activation="leaky", dim=dim) for a, b in [(channels, widths[0]), *pairs]
        )
        # the activation comes after the sum
        self.up = nn.ModuleList(
            block(b, a, norm="batch", activation="none", dim=dim) for a, b in reversed(pairs)
        )
        self.out = convolution(widths[0], channels, dim=dim)
        self.last = nn.Sequential(*activated(last))

    def forward(self, x: Tensor) -> Tensor:
        hidden = [x]
        for down in self.down:
            hidden.append(down(hidden[-1]))
        h = hidden.pop()
        for up in self.up:
            h = nn.functional.leaky_relu(up(h) + hidden.pop(), 0.2)
        return self.last(self.out(h) + x)
