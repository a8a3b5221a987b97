"""Generator and discriminator of DAGAN."""

from __future__ import annotations

from collections.abc import Sequence

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
)


class DAGANGenerator(nn.Module):
    """clip(x + f(x)) to [−1, 1], f a U-Net that goes down to one pixel: refines a zero-filled image.

    Yang G. et al., IEEE Trans. Med. Imaging 37 (2018): 4×4 of stride 2 with 64, 128, 256, 512, 512 … channels
    and leaky ReLU 0.2, back with 512, 1024, 1024, 1024, 256, 128, 64, 64 and ReLU, batch norm, 1×1 and tanh.

    channels : of the image
    down, up : widths; as many up as down
    clip : False leaves values beyond ±1 as they are (and their gradient)

    x : (n, channels, ny, nx), about [−1, 1] -> like x; other sides than multiples of 2^depth are extended
    """

    def __init__(
        self,
        channels: int = 1,
        down: Sequence[int] = (64, 128, 256, 512, 512, 512, 512, 512),
        up: Sequence[int] = (512, 1024, 1024, 1024, 256, 128, 64, 64),
        norm: Norm = "batch",
        last: Activation = "tanh",
        clip: bool = True,
        dim: int = 2,
    ):
        super().__init__()
        if len(down) != len(up) or len(down) < 2:
            raise ValueError(
                f"DAGANGenerator up: expected as many widths as down, from 2, got {len(up)} and {len(down)}"
            )
        self.multiple, self.clip = 2 ** len(down), clip
        self.down = nn.ModuleList(
            block(
                a,
                b,
                4,
                2,
                norm=norm if 0 < k < len(down) - 1 else "none",
                activation="leaky",
                dim=dim,
                padding=1,
            )
            for k, (a, b) in enumerate(zip([channels, *down[:-1]], down, strict=True))
        )
        beside = [0, *reversed(down[:-1])]  # what is joined to what the layer before gives
        inside = [down[-1], *up[:-1]]
        self.up = nn.ModuleList(
            nn.Sequential(
                transposed(a + skip, b, dim=dim, bias=biased(norm)), *normalisation(norm, b, dim), nn.ReLU()
            )
            for a, skip, b in zip(inside, beside, up, strict=True)
        )
        self.last = nn.Sequential(convolution(up[-1], channels, 1, dim=dim), *activated(last))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        h, skips = extended(x, self.multiple), list[Tensor]()
        for down in self.down:
            h = down(h)
            skips.append(h)
        h = self.up[0](skips.pop())
        for up in self.up[1:]:
            h = up(torch.cat([h, skips.pop()], 1))
        x = x + cropped(self.last(h), x.shape[2:])
        return x.clamp(-1, 1) if self.clip else x


class DAGANDiscriminator(nn.Module):
    """D(x), one verdict: 4×4 of stride 2 with 64 … 2048 channels, 1×1 to 1024, 512, a residual block, full.

    Yang G. et al., IEEE Trans. Med. Imaging 37 (2018). Made for images of one shape, by its full layer.

    shape : (ny, nx) of the images, each side at least 2^depth
    base, depth : first width, doubled `depth` times

    x : (n, in_channels, ny, nx) -> (n, 1)
    """

    def __init__(
        self,
        shape: Sequence[int],
        in_channels: int = 1,
        base: int = 64,
        depth: int = 6,
        norm: Norm = "batch",
        dim: int = 2,
    ):
        super().__init__()
        widths = [base << k for k in range(depth)]
        sides = [n >> depth for n in shape]
        if min(sides) < 1:
            raise ValueError(f"DAGANDiscriminator shape: expected sides of at least {2**depth}, got {shape}")
        self.blocks = nn.ModuleList(
            block(a, b, 4, 2, norm=norm if k else "none", activation="leaky", dim=dim, padding=1)
            for k, (a, b) in enumerate(zip([in_channels, *widths[:-1]], widths, strict=True))
        )
        wide, narrow, least = widths[-1] // 2, widths[-1] // 4, max(1, widths[-1] // 16)
        self.narrow = nn.Sequential(
            block(widths[-1], wide, 1, norm=norm, activation="leaky", dim=dim),
            block(wide, narrow, 1, norm=norm, activation="none", dim=dim),
        )
        self.residual = nn.Sequential(
            block(narrow, least, 1, norm=norm, activation="leaky", dim=dim),
            block(least, least, 3, norm=norm, activation="leaky", dim=dim),
            block(least, narrow, 3, norm=norm, activation="none", dim=dim),
        )
        numbers = narrow
        for n in sides:
            numbers *= n
        self.full = nn.Linear(numbers, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.full(self.features(x)[-1].flatten(1))

    def features(self, x: Tensor) -> list[Tensor]:
        """The hidden layers, finest first."""
        found = []
        for part in self.blocks:
            x = part(x)
            found.append(x)
        h = self.narrow(x)
        return [*found, nn.functional.leaky_relu(h + self.residual(h), 0.2)]
