"""A critic: one number for an image, low for images as they should be."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class Critic(nn.Module):
    """Ψ(x): 5×5 convolutions, then two full layers, to one number per image.

    Lunz, Öktem, Schönlieb, NeurIPS 2018: widths 16, 32, 32, 64, 64, 128 (the last four but one in each pair
    halve the image: strides 1, 1, 2, 2, 2, 2), leaky ReLU 0.1, full layer of 256.

    Parameters
    ----------
    shape : (ny, nx) of the images, which the full layer is made for
    channels, strides : of the convolutions
    hidden : width of the full layer; None for none: every patch is judged alike, and the verdicts are added
        and divided by √patches, which needs fewer images (local regularisers, Prost et al., SSVM 2021)

    x : (batch, ny, nx) -> (batch,)
    """

    def __init__(
        self,
        shape: tuple[int, int],
        channels: Sequence[int] = (16, 32, 32, 64, 64, 128),
        strides: Sequence[int] = (1, 1, 2, 2, 2, 2),
        hidden: int | None = 256,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        inside, (ny, nx) = 1, shape
        for outside, stride in zip(channels, strides, strict=True):
            layers += [nn.Conv2d(inside, outside, 5, stride, padding=2), nn.LeakyReLU(0.1)]
            inside, ny, nx = outside, math.ceil(ny / stride), math.ceil(nx / stride)
        self.convolutions = nn.Sequential(*layers)
        self.patches = ny * nx
        self.full = nn.Sequential(nn.Linear(inside if hidden is None else inside * ny * nx, hidden or 1))
        if hidden is not None:
            self.full.extend([nn.LeakyReLU(0.1), nn.Linear(hidden, 1)])
        self.local = hidden is None

    def forward(self, x: Tensor) -> Tensor:
        h = self.convolutions(x[:, None])
        if self.local:
            return self.full(h.sum((-2, -1)) / math.sqrt(self.patches))[:, 0]
        return self.full(h.flatten(1))[:, 0]
