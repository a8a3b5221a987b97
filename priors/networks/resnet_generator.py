"""The residual generators of CycleGAN and UNIT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import (
    Activation,
    Norm,
    activated,
    biased,
    block,
    convolution,
    cropped,
    extended,
    initialise,
    normalisation,
    transposed,
    upsampling,
)


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))): two 3×3 convolutions, each normalised, the edge mirrored (`mode`)."""

    def __init__(
        self,
        channels: int,
        norm: Norm = "instance",
        activation: Activation = "relu",
        dim: int = 2,
        mode: str = "reflect",
    ):
        super().__init__()
        self.layers = nn.Sequential(
            *block(channels, channels, norm=norm, activation=activation, dim=dim, mode=mode),
            *block(channels, channels, norm=norm, activation="none", dim=dim, mode=mode),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ResNetGenerator(nn.Module):
    """7×7, two 3×3 of stride 2, residual blocks, two transposed 3×3, 7×7 and tanh; mirrored edges.

    Zhu, Park, Isola, Efros, ICCV 2017 (CycleGAN), after Johnson, Alahi, Fei-Fei, ECCV 2016: 9 blocks for
    256², 6 for 128². Sides need be no multiples of 4: the image is extended by its edge, the result cropped.

    in_channels, out_channels : of the image
    base, blocks, downs : width of the first convolution, residual blocks, how often it is halved
    norm : "instance" without weights, as in the paper; others see `blocks.normalisation`
    residual : add the input to the output
    last : activation of the output, before the input is added
    ends : side of the first and the last kernel, up to 7
    dim : 2 for planes, 3 for volumes

    x : (n, in_channels, *shape) -> (n, out_channels, *shape)
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        base: int = 64,
        blocks: int = 9,
        downs: int = 2,
        norm: Norm = "instance",
        residual: bool = False,
        last: Activation = "tanh",
        ends: int = 7,
        dim: int = 2,
    ):
        super().__init__()
        if min(base, blocks) < 1 or downs < 0:
            raise ValueError(
                f"ResNetGenerator base, blocks, downs: expected ≥ 1, 1, 0, got {base}, {blocks}, {downs}"
            )
        if residual and in_channels != out_channels:
            raise ValueError(
                "ResNetGenerator residual: expected as many channels out as in, got "
                f"{out_channels}, {in_channels}"
            )
        self.downs, self.residual = downs, residual
        layers = [block(in_channels, base, ends, norm=norm, dim=dim, mode="reflect")]
        for k in range(downs):
            layers.append(block(base << k, base << k + 1, 3, 2, norm=norm, dim=dim))
        wide = base << downs
        layers += [nn.Sequential(ResidualBlock(wide, norm, dim=dim)) for _ in range(blocks)]
        for k in reversed(range(downs)):
            up = transposed(base << k + 1, base << k, 3, dim=dim, output_padding=1, bias=biased(norm))
            layers.append(nn.Sequential(up, *normalisation(norm, base << k, dim), nn.ReLU()))
        layers.append(block(base, out_channels, ends, activation=last, dim=dim, mode="reflect"))
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        # a mirror needs more pixels than it repeats: 3 at full size, 1 at the coarsest
        h = self.layers(extended(x, 1 << self.downs, least=max(4, 2 << self.downs)))
        h = cropped(h, x.shape[2:])
        return x + h if self.residual else h


class VAEGenerator(nn.Module):
    """decode(encode(x)): one half of UNIT, an autoencoder whose code is N(encode(x), 1).

    Liu, Breuel, Kautz, NIPS 2017, as in their later code: 7×7 of width 64, two 4×4 of stride 2, 4 residual
    blocks; back by 4 residual blocks, repetition of pixels with 5×5 convolutions, 7×7 and tanh. A translation
    from one domain to another is the decoder of one after the encoder of the other. In training N(0, 1) is
    added to the code; the Kullback–Leibler term is then mean of code².

    x : (n, in_channels, *shape) -> (n, out_channels, *shape); `encode` takes `extended` ones
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        base: int = 64,
        downs: int = 2,
        blocks: int = 4,
        last: Activation = "tanh",
        dim: int = 2,
    ):
        super().__init__()
        self.downs, wide = downs, base << downs
        into = [block(in_channels, base, 7, norm="instance", dim=dim, mode="reflect")]
        for k in range(downs):
            wider = base << k + 1
            into.append(block(base << k, wider, 4, 2, norm="instance", dim=dim, padding=1, mode="reflect"))
        out: list[nn.Module] = [ResidualBlock(wide, dim=dim) for _ in range(blocks)]
        for k in reversed(range(downs)):
            narrower = convolution(base << k + 1, base << k, 5, dim=dim, mode="reflect", bias=False)
            norms = normalisation("layer", base << k, dim)
            out += [upsampling(mode="nearest"), narrower, *norms, nn.ReLU()]
        edge = convolution(base, out_channels, 7, dim=dim, mode="reflect")
        self.encoder = nn.Sequential(*into, *(ResidualBlock(wide, dim=dim) for _ in range(blocks)))
        self.decoder = nn.Sequential(*out, edge, *activated(last))
        initialise(self)

    def encode(self, x: Tensor) -> Tensor:
        """Mean of the code (n, base·2^downs, *shape / 2^downs)."""
        return self.encoder(x)

    def decode(self, code: Tensor) -> Tensor:
        """Image of a code."""
        return self.decoder(code)

    def forward(self, x: Tensor) -> Tensor:
        h = self.decode(self.encode(self.extended(x)))
        return cropped(h, x.shape[2:])

    def extended(self, x: Tensor) -> Tensor:
        """x with sides that `encode` takes."""
        # 5×5 mirrored at half size, 7×7 at full, 3×3 at the coarsest
        return extended(x, 1 << self.downs, least=max(6, 2 << self.downs))


def noisy(code: Tensor, generator: torch.Generator) -> Tensor:
    """A draw of N(code, 1), the noise made on the CPU so that a seed gives the same everywhere."""
    return code + torch.randn(code.shape, generator=generator, dtype=code.dtype).to(code.device)
