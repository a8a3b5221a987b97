"""A U-Net of transformers: attention within windows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import cropped, extended


class WindowAttention(nn.Module):
    """softmax(q kᵀ / √d + b) v among the pixels of every window × window square, b by relative position.

    Liu et al., ICCV 2021 (Swin). With `shift` the squares are moved by half their side, cyclically, and
    pixels from opposite edges do not see each other.

    x : (n, ny, nx, channels), sides multiples of the window -> like x
    """

    def __init__(self, channels: int, heads: int, window: int = 8, shift: bool = False):
        super().__init__()
        if channels % heads:
            raise ValueError(f"WindowAttention heads: expected a divisor of {channels} channels, got {heads}")
        self.heads, self.window, self.shift = heads, window, window // 2 if shift else 0
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        n, ny, nx, c = x.shape
        x = x.roll((-self.shift, -self.shift), (1, 2)) if self.shift else x
        squares = self._squares(x)
        q, k, v = self.qkv(squares).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.bias[self._where()].permute(2, 0, 1)[None]
        if self.shift:
            bias = bias + self._apart(x)
        h = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        h = self.out(h.transpose(1, 2).flatten(2))
        w = self.window
        h = h.reshape(n, ny // w, nx // w, w, w, c).transpose(2, 3).reshape(n, ny, nx, c)
        return h.roll((self.shift, self.shift), (1, 2)) if self.shift else h

    def _where(self) -> Tensor:
        """Which entry of the bias two pixels of a window have, (window², window²)."""
        axis = torch.arange(self.window, device=self.bias.device)
        apart = axis[:, None] - axis[None] + self.window - 1
        where = apart[:, None, :, None] * (2 * self.window - 1) + apart[None, :, None, :]
        return where.reshape(self.window**2, self.window**2)

    def _squares(self, x: Tensor) -> Tensor:
        """(n, ny, nx, c) -> (n · windows, window², c)."""
        w, (n, ny, nx, c) = self.window, x.shape
        return x.reshape(n, ny // w, w, nx // w, w, c).transpose(2, 3).reshape(-1, w * w, c)

    def _apart(self, x: Tensor) -> Tensor:
        """−inf between pixels the shift brought together from opposite edges, (n · windows, 1, w², w²)."""
        parts = []
        for side in x.shape[1:3]:
            part = torch.zeros(side, device=x.device, dtype=x.dtype)
            part[side - self.shift :] = 1
            parts.append(part)
        region = parts[0][:, None] * 2 + parts[1][None]
        squares = self._squares(region[None, :, :, None])[..., 0]
        mask = torch.zeros_like(squares[:, :, None] - squares[:, None])
        mask[squares[:, :, None] != squares[:, None]] = -math.inf
        return mask.repeat(len(x), 1, 1)[:, None]


class WindowBlock(nn.Module):
    """x + attention(norm x), then x + f(norm x), f a 1×1, a 3×3 of each channel, a 1×1: sees its neighbours.

    Wang, Cun, Bao, Zhou, Liu, Li, CVPR 2022 (Uformer).

    x : (n, channels, ny, nx) -> like x
    """

    def __init__(self, channels: int, heads: int, window: int, shift: bool):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.attention = WindowAttention(channels, heads, window, shift)
        self.forth, self.back = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.beside = nn.Conv2d(4 * channels, 4 * channels, 3, padding=1, groups=4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        h = x.permute(0, 2, 3, 1)
        h = h + self.attention(self.norms[0](h))
        g = functional.gelu(self.forth(self.norms[1](h)))
        g = functional.gelu(self.beside(g.permute(0, 3, 1, 2)))
        return (h + self.back(g.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class Uformer(nn.Module):
    """x + f(x): window attention on every scale, 4×4 of stride 2 down, transposed 2×2 up, joined.

    Wang, Cun, Bao, Zhou, Liu, Li, CVPR 2022, without their modulators. Every second block of a scale has its
    windows shifted. Sides need be no multiples: the image is extended by its edge and the result cropped.
    Starts as the identity.

    channels : of the image
    base : of the finest scale, doubled at each; a head for every `base` channels
    depths : blocks at each scale going down; going up the same, and the last one the coarsest
    window : side of the squares [pixels]

    x : (n, channels, ny, nx) -> like x
    """

    def __init__(
        self, channels: int = 1, base: int = 32, depths: Sequence[int] = (2, 2, 2, 2, 2), window: int = 8
    ):
        super().__init__()
        if min(base, window, *depths) < 1:
            raise ValueError(
                f"Uformer base, window, depths: expected at least 1, got {base}, {window}, {depths}"
            )
        scales = len(depths) - 1
        self.multiple = window << scales

        def stage(width: int, depth: int) -> nn.Sequential:
            heads = width // base
            return nn.Sequential(*(WindowBlock(width, heads, window, k % 2 == 1) for k in range(depth)))

        self.first = nn.Sequential(nn.Conv2d(channels, base, 3, padding=1), nn.LeakyReLU(0.2))
        self.encoder = nn.ModuleList(stage(base << k, depths[k]) for k in range(scales + 1))
        self.down = nn.ModuleList(nn.Conv2d(base << k, base << k + 1, 4, 2, 1) for k in range(scales))
        # what is joined from the encoder makes the decoder twice as wide
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(base << k + 1 + (k < scales - 1), base << k, 2, 2)
            for k in reversed(range(scales))
        )
        self.decoder = nn.ModuleList(stage(base << k + 1, depths[k]) for k in reversed(range(scales)))
        self.last = nn.Conv2d(2 * base if scales else base, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h, fine = self.first(extended(x, self.multiple)), list[Tensor]()
        for stage, down in zip(self.encoder[:-1], self.down, strict=True):  # type: ignore[arg-type]
            fine.append(stage(h))
            h = down(fine[-1])
        h = self.encoder[-1](h)
        for up, stage in zip(self.up, self.decoder, strict=True):
            h = stage(torch.cat([up(h), fine.pop()], 1))
        return x + cropped(self.last(h), x.shape[2:])

    def chain(self) -> list[nn.Module]:
        """Raises: how far windows reach is not followed (see `receptive_field`)."""
        raise ValueError("receptive_field: attention is not followed")
