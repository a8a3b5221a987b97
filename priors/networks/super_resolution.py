"""Super-resolution: SRCNN, ESPCN and the generator of SRGAN."""

from __future__ import annotations

import math
from typing import cast

from torch import Tensor, nn

from .blocks import Activation, Norm, PixelShuffle, activated, block, convolution, initialise
from .low_dose import Chain
from .resnet_generator import ResidualBlock


class SRCNN(Chain):
    """9×9 to 64 channels, 1×1 to 32, 5×5 to 1, ReLU between, of an image already enlarged.

    Dong, Loy, He, Tang, IEEE Trans. Pattern Anal. Mach. Intell. 38 (2016).

    middle : side of the middle kernel; 5 is the paper's larger variant

    x : (n, in_channels, *shape) -> (n, out_channels, *shape)
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, middle: int = 1, dim: int = 2):
        super().__init__(in_channels, out_channels, (9, middle, 5), (64, 32), dim=dim)


class ESPCN(nn.Sequential):
    """5×5 to 64, 3×3 to 32 channels, tanh, 3×3 to r² and those to pixels: works at low resolution throughout.

    Shi et al., CVPR 2016; with dim = 3 as in Tanno et al., MICCAI 2017 (r³ channels).

    scale : r, how many times as many pixels a side the result has

    x : (n, in_channels, *shape) -> (n, out_channels, *(r·shape))
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, scale: int = 3, dim: int = 2):
        super().__init__(
            Chain(in_channels, out_channels * scale**dim, (5, 3, 3), (64, 32), activation="tanh", dim=dim),
            PixelShuffle(scale),
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, super().forward(x))


class SRResNet(nn.Module):
    """9×9, 16 residual blocks bypassed as a whole, enlarged by pixel shuffles, 9×9: the generator of SRGAN.

    Ledig et al., CVPR 2017: 64 channels, batch norm, parametric ReLU; one pixel shuffle for every factor of 2
    (or of 3). With dim = 3 as Sánchez and Vilaplana, MIDL 2018.

    scale : 1, 3, or a power of 2; 1 keeps the size, for images already enlarged
    last : activation of the output, "tanh" for images in [−1, 1]

    x : (n, in_channels, *shape) -> (n, out_channels, *(scale·shape))
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int = 4,
        base: int = 64,
        blocks: int = 16,
        norm: Norm = "batch",
        last: Activation = "none",
        dim: int = 2,
    ):
        super().__init__()
        if scale != 3 and (scale < 1 or scale & scale - 1):
            raise ValueError(f"SRResNet scale: expected 1, 3 or a power of 2, got {scale}")
        factor = 3 if scale == 3 else 2
        self.first = block(in_channels, base, 9, activation="prelu", dim=dim)
        self.blocks = nn.Sequential(
            *(ResidualBlock(base, norm, "prelu", dim, mode="zeros") for _ in range(blocks)),
            *block(base, base, norm=norm, activation="none", dim=dim),
        )
        self.up = nn.Sequential()
        for _ in range(round(math.log(scale, factor))):
            self.up.extend([convolution(base, base * factor**dim, dim=dim), PixelShuffle(factor), nn.PReLU()])
        self.last = nn.Sequential(convolution(base, out_channels, 9, dim=dim), *activated(last))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(self.up(h + self.blocks(h)))
