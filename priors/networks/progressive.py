"""Progressive growing: a generator and a discriminator that begin with 4 × 4 pixels."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import pooling


class Equalised(nn.Module):
    """√(2/inputs)·W * x + b, W drawn from N(0, 1): every weight learns at the same rate.

    Karras, Aila, Laine, Lehtinen, ICLR 2018. gain : instead of √2

    x : (n, inside, ny, nx) -> (n, outside, …); kernel 3 keeps the size
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: int = 3,
        padding: int | None = None,
        gain: float = math.sqrt(2),
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outside, inside, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outside))
        self.gain = gain / math.sqrt(inside * kernel**2)
        self.padding = (kernel - 1) // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.gain * self.weight, self.bias, padding=self.padding)


def pixel_norm(h: Tensor) -> Tensor:
    """h / √(mean over channels of h² + 1e-8): every pixel's features have length √channels."""
    return h * (h.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def with_spread(h: Tensor, group: int = 4) -> Tensor:
    """h and one more channel: the mean standard deviation of its values over the images of a group.

    A discriminator sees by it whether images differ. The one place where images of a batch know each other;
    a batch that `group` does not divide is one group.
    """
    group = group if len(h) % group == 0 else len(h)
    grouped = h.unflatten(0, (group, -1))
    spread = (grouped.var(0, unbiased=False) + 1e-8).sqrt().flatten(1).mean(1)
    channel = spread.repeat(group).reshape(-1, 1, 1, 1).expand(len(h), 1, *h.shape[2:])
    return torch.cat([h, channel], 1)


class Growing(nn.Module):
    """What generator and discriminator share: the scale they are at, and how far the newest is faded in.

    size : side of the largest image, 4 · 2^k
    widest, product : channels of a scale of side s are min(widest, product / s)
    """

    def __init__(self, size: int, widest: int, product: int):
        super().__init__()
        self.levels = (size // 4).bit_length()
        if size < 4 or size != 4 << self.levels - 1:
            raise ValueError(f"{type(self).__name__} size: expected 4, 8, 16, 32, 64 …, got {size}")
        self.size, self.level, self.alpha = size, self.levels - 1, 1.0
        self.widths = [max(1, min(widest, product // (4 << k))) for k in range(self.levels)]

    def grown(self, level: int, alpha: float = 1.0) -> None:
        """Work on images of side 4 · 2^level, the newest scale faded in by alpha (1: whole)."""
        if not 0 <= level < self.levels or not 0 <= alpha <= 1:
            raise ValueError(
                f"{type(self).__name__}.grown: expected a level below {self.levels} and alpha in [0, 1], got "
                f"{level}, {alpha}"
            )
        self.level, self.alpha = level, alpha

    @property
    def side(self) -> int:
        """Side of the images now [pixels]."""
        return 4 << self.level


class ProgressiveGenerator(Growing):
    """z -> 4 × 4 -> 8 × 8 … by repetition and two 3×3 with pixel norm; 1×1 to the image.

    Karras, Aila, Laine, Lehtinen, ICLR 2018: 512 channels up to 32², then halved; leaky ReLU 0.2.

    z : (n, latent) -> (n, out_channels, side, side)
    """

    def __init__(
        self,
        latent: int = 512,
        size: int = 256,
        out_channels: int = 1,
        widest: int = 512,
        product: int = 16384,
    ):
        super().__init__(size, widest, product)
        self.latent = latent
        wide = self.widths
        # theirs is a full layer of gain √2/4, the same as a 4×4 convolution of one pixel extended by 3
        self.first = nn.ModuleList([Equalised(latent, wide[0], 4, 3), Equalised(wide[0], wide[0])])
        self.scales = nn.ModuleList(
            nn.ModuleList([Equalised(a, b), Equalised(b, b)]) for a, b in pairwise(wide)
        )
        self.images = nn.ModuleList(Equalised(w, out_channels, 1, gain=1.0) for w in wide)

    def forward(self, z: Tensor) -> Tensor:
        h = _layers(self.first, pixel_norm(z)[..., None, None])
        before = h
        for scale in self.scales[: self.level]:  # type: ignore[union-attr]
            before = h
            h = _layers(scale, _repeated(h))
        x = self.images[self.level](h)
        if self.alpha < 1 and self.level:
            x = torch.lerp(_repeated(self.images[self.level - 1](before)), x, self.alpha)
        return x


class ProgressiveDiscriminator(Growing):
    """The generator mirrored, means for repetition, a channel that tells how images differ; one verdict.

    x : (n, in_channels, side, side) -> (n, 1)
    """

    def __init__(self, size: int = 256, in_channels: int = 1, widest: int = 512, product: int = 16384):
        super().__init__(size, widest, product)
        wide = self.widths
        self.images = nn.ModuleList(Equalised(in_channels, w, 1) for w in wide)
        self.scales = nn.ModuleList(
            nn.ModuleList([Equalised(b, b), Equalised(b, a)]) for a, b in pairwise(wide)
        )
        self.last = nn.ModuleList([Equalised(wide[0] + 1, wide[0]), Equalised(wide[0], wide[0], 4, 0)])
        self.verdict = Equalised(wide[0], 1, 1, gain=1.0)
        self.smaller = pooling("avg")

    def forward(self, x: Tensor) -> Tensor:
        h = with_spread(self.features(x)[-1])
        for layer in self.last:
            h = functional.leaky_relu(layer(h), 0.2)
        return self.verdict(h).flatten(1)

    def features(self, x: Tensor) -> list[Tensor]:
        """What every scale gives, finest first."""
        if x.shape[-2:] != (self.side, self.side):
            raise ValueError(
                f"ProgressiveDiscriminator: expected images of side {self.side}, got {tuple(x.shape[-2:])}"
            )
        h = functional.leaky_relu(self.images[self.level](x), 0.2)
        found = [h]
        for k in reversed(range(self.level)):
            for layer in self.scales[k]:  # type: ignore[union-attr, attr-defined]
                h = functional.leaky_relu(layer(h), 0.2)
            h = self.smaller(h)
            if k == self.level - 1 and self.alpha < 1:
                small = functional.leaky_relu(self.images[k](self.smaller(x)), 0.2)
                h = torch.lerp(small, h, self.alpha)
            found.append(h)
        return found


def _layers(layers: nn.Module, h: Tensor) -> Tensor:
    for layer in layers:  # type: ignore[attr-defined]
        h = pixel_norm(functional.leaky_relu(layer(h), 0.2))
    return h


def _repeated(h: Tensor) -> Tensor:
    return functional.interpolate(h, scale_factor=2, mode="nearest")
