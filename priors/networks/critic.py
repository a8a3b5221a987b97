"""Critics: one number for an image, low for images as they should be; and a discriminator of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from . import discriminators


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


class LocalCritic(nn.Module):
    """Ψ(x) = Σ_p ψ(p) / √P over the P patches p of an image, ψ one network for all: a few images teach it.

    Prost, Houdard, Almansa, Papadakis, SSVM 2021. 3×3 convolutions, each but the last followed by SiLU: their
    number n gives patches of 2n + 1 pixels a side. One patch around every pixel; the image is extended by
    zeros. The papers take the mean; divided by √P the slope of Ψ is of the size of ψ's own at any P. Fits
    images of any size.

    channels : widths between the convolutions; six for patches of 15 × 15

    x : (batch, ny, nx) -> (batch,)
    """

    def __init__(self, channels: Sequence[int] = (128, 64, 64, 64, 32, 32)):
        super().__init__()
        layers: list[nn.Module] = []
        inside = 1
        for outside in channels:
            layers += [nn.Conv2d(inside, outside, 3), nn.SiLU()]
            inside = outside
        self.convolutions = nn.Sequential(*layers, nn.Conv2d(inside, 1, 3))
        self.reach = len(channels) + 1

    @property
    def field(self) -> int:
        """Side of a patch [pixels]."""
        return 2 * self.reach + 1

    def forward(self, x: Tensor) -> Tensor:
        verdicts = self.convolutions(functional.pad(x[:, None], (self.reach,) * 4))
        return verdicts.sum((1, 2, 3)) / math.sqrt(x.shape[-2] * x.shape[-1])


class ImagePatchDiscriminator(discriminators.PatchDiscriminator):
    """D(x), a map of verdicts on overlapping patches of an image without channels, or of an iterate.

    The one of `priors.networks`, of stride 2 all through and without its normalisation, which is for images
    whose scale is not known.

    channels : of the convolutions, from 64 doubling in the paper
    detail : size of what it is to see, in the unit of x, by which x is divided

    x : (batch, ny, nx) -> (batch, my, mx)
    """

    def __init__(self, channels: Sequence[int] = (64, 128, 256), detail: float = 1.0):
        super().__init__(norm="none", channels=channels, strides=[2] * len(channels), padding=2)
        self.detail = detail
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()  # torch's start: the one of the GANs is of images in [−1, 1]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, None] / self.detail)[:, 0]
