"""DCGAN: images from random numbers by transposed convolutions."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from .blocks import Norm, biased, block, convolution, initialise, normalisation, transposed
from .discriminators import _hidden


class DCGANGenerator(nn.Module):
    """z -> 4 × 4 × 1024 -> 512, 256, 128 channels by transposed 4×4, batch norm, ReLU -> image, tanh.

    Radford, Metz, Chintala, ICLR 2016 (5×5 there).

    latent : numbers in z
    size : side of the image, 4 · 2^k
    base : channels of the finest scale, doubled at each coarser one: 1024 at 4 × 4 for 64² and base 128

    z : (n, latent) -> (n, out_channels, size, size)
    """

    def __init__(
        self,
        latent: int = 100,
        size: int = 64,
        out_channels: int = 1,
        base: int = 128,
        norm: Norm = "batch",
        dim: int = 2,
    ):
        super().__init__()
        steps, bias = _steps("DCGANGenerator", size), biased(norm)
        self.latent, self.dim = latent, dim
        widths = [base << k for k in reversed(range(steps))]
        first = transposed(latent, widths[0], 4, 1, dim=dim, padding=0, bias=bias)
        layers = [first, *normalisation(norm, widths[0], dim), nn.ReLU()]
        for a, b in pairwise(widths):
            layers += [transposed(a, b, dim=dim, bias=bias), *normalisation(norm, b, dim), nn.ReLU()]
        self.layers = nn.Sequential(*layers, transposed(widths[-1], out_channels, dim=dim), nn.Tanh())
        initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z.reshape(*z.shape, *(1,) * self.dim))


class DCGANDiscriminator(nn.Module):
    """The generator mirrored: 4×4 of stride 2, leaky ReLU 0.2, batch norm but in the first; one verdict.

    x : (n, in_channels, size, size) -> (n, 1)
    """

    def __init__(
        self,
        size: int = 64,
        in_channels: int = 1,
        base: int = 128,
        norm: Norm = "batch",
        spectral: bool = False,
        dim: int = 2,
    ):
        super().__init__()
        widths = [base << k for k in range(_steps("DCGANDiscriminator", size))]
        self.blocks = nn.ModuleList(
            block(
                a,
                b,
                4,
                2,
                norm=norm if k else "none",
                activation="leaky",
                dim=dim,
                padding=1,
                spectral=spectral,
            )
            for k, (a, b) in enumerate(zip([in_channels, *widths[:-1]], widths, strict=True))
        )
        self.last = convolution(widths[-1], 1, 4, dim=dim, padding=0)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x)[-1]).flatten(1)

    def features(self, x: Tensor) -> list[Tensor]:
        """The hidden layers, finest first."""
        return _hidden(self.blocks, x)


def _steps(name: str, size: int) -> int:
    steps = (size // 4).bit_length() - 1
    if steps < 1 or size != 4 << steps:
        raise ValueError(f"{name} size: expected 8, 16, 32, 64 …, got {size}")
    return steps
