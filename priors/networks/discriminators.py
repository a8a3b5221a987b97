"""Discriminators: verdicts on patches, on patches of several scales, or one on an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import Norm, block, convolution, initialise
from .spectral import Spectral


class PatchDiscriminator(nn.Module):
    """D(x), a map of verdicts on overlapping patches: 4×4 convolutions, leaky ReLU 0.2, no sigmoid.

    Isola, Zhu, Zhou, Efros, CVPR 2017: widths base, 2 base, … up to 8 base; all of stride 2 but the last two.
    `layers` = 3 judges patches of 70 × 70, 1 of 16 × 16 (MedGAN), 2 of 34 × 34. The first has no norm.

    in_channels : of the images; a conditional one gets image and condition, `torch.cat([x, y], 1)`
    base, layers : first width, and how many convolutions have stride 2
    norm : "instance" (without weights), "batch" as in the paper, "group", "none"
    spectral : spectral normalisation of every convolution
    dim : 2 for planes, 3 for volumes
    channels, strides, padding : of the convolutions, instead of those that follow from `base` and `layers`

    x : (n, in_channels, *shape) -> (n, 1, *map)
    """

    def __init__(
        self,
        in_channels: int = 1,
        base: int = 64,
        layers: int = 3,
        norm: Norm = "instance",
        spectral: bool = False,
        dim: int = 2,
        channels: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        padding: int = 1,
    ):
        super().__init__()
        if layers < 1 or base < 1:
            raise ValueError(f"PatchDiscriminator layers, base: expected at least 1, got {layers}, {base}")
        channels = channels or [base * min(2**k, 8) for k in range(layers + 1)]
        strides = strides or [2] * (len(channels) - 1) + [1]
        self.blocks = nn.ModuleList(
            block(
                inside,
                outside,
                4,
                stride,
                norm="none" if k == 0 else norm,
                activation="leaky",
                dim=dim,
                padding=padding,
                spectral=spectral,
            )
            for k, (inside, outside, stride) in enumerate(
                zip([in_channels, *channels[:-1]], channels, strides, strict=True)
            )
        )
        self.strides, self.padding = [*strides, 1], padding
        last = convolution(channels[-1], 1, 4, dim=dim, padding=padding)
        self.last = Spectral(last) if spectral else last
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x)[-1])

    def features(self, x: Tensor) -> list[Tensor]:
        """The hidden layers, finest first."""
        side = min(x.shape[2:])
        for stride in self.strides:
            side = (side + 2 * self.padding - 4) // stride + 1
        if side < 1:
            raise ValueError(
                f"PatchDiscriminator: images {tuple(x.shape[2:])} are too small for {len(self.strides)} "
                "convolutions; give fewer layers"
            )
        return _hidden(self.blocks, x)


class MultiScaleDiscriminator(nn.Module):
    """Patch discriminators of the image, of its half and of its quarter, all with the same say.

    UNIT's (Liu, Breuel, Kautz, NIPS 2017, in their later code; pix2pixHD alike): at each scale 4 convolutions
    4×4 of stride 2, leaky ReLU 0.2, and a 1×1. The verdicts of coarser scales are repeated to the size of the
    finest, so that a mean over the scores is the mean of the scales' means (nearly, where the maps' sizes are
    no multiples).

    x : (n, in_channels, *shape) -> (n, 1, scales, *map)
    """

    def __init__(
        self,
        in_channels: int = 1,
        base: int = 64,
        layers: int = 4,
        scales: int = 3,
        norm: Norm = "none",
        spectral: bool = False,
        dim: int = 2,
    ):
        super().__init__()
        if min(layers, scales, base) < 1:
            raise ValueError(
                "MultiScaleDiscriminator layers, scales, base: expected at least 1, got "
                f"{layers}, {scales}, {base}"
            )
        widths = [base * 2**k for k in range(layers)]
        self.scales = nn.ModuleList()
        for _ in range(scales):
            blocks: list[nn.Module] = [
                block(
                    inside,
                    outside,
                    4,
                    2,
                    norm="none" if k == 0 else norm,
                    activation="leaky",
                    dim=dim,
                    padding=1,
                    spectral=spectral,
                )
                for k, (inside, outside) in enumerate(zip([in_channels, *widths[:-1]], widths, strict=True))
            ]
            last = convolution(widths[-1], 1, 1, dim=dim)
            self.scales.append(nn.ModuleList([*blocks, Spectral(last) if spectral else last]))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for parts, h in self._scaled(x):
            for part in parts:
                h = part(h)
            maps.append(h if not maps else functional.interpolate(h, maps[0].shape[2:], mode="nearest"))
        return torch.stack(maps, 2)

    def features(self, x: Tensor) -> list[Tensor]:
        """The hidden layers, finest first, of the whole image, then of its half, …"""
        return [h for parts, small in self._scaled(x) for h in _hidden(list(parts)[:-1], small)]

    def chain(self) -> list[nn.Module | tuple[int, int]]:
        """The layers of the coarsest scale, see `receptive_field`."""
        return [(3, 2)] * (len(self.scales) - 1) + [self.scales[-1]]

    def _scaled(self, x: Tensor) -> list[tuple[nn.ModuleList, Tensor]]:
        pool = functional.avg_pool2d if x.ndim == 4 else functional.avg_pool3d
        images = [x]
        for _ in range(len(self.scales) - 1):
            images.append(pool(images[-1], 3, 2, 1, count_include_pad=False))
        if min(images[-1].shape[2:]) < 1 << len(self.scales[0]) - 1:  # type: ignore[arg-type]
            raise ValueError(
                f"MultiScaleDiscriminator: images {tuple(x.shape[2:])} are too small for {len(self.scales)} "
                f"scales of {len(self.scales[0]) - 1} layers; give fewer"  # type: ignore[arg-type]
            )
        return list(zip(self.scales, images, strict=True))  # type: ignore[arg-type]


class ImageDiscriminator(nn.Module):
    """D(x), one verdict for an image: 3×3 convolutions, every second of stride 2, and two full layers.

    Of WGAN-VGG (Yang et al., IEEE Trans. Med. Imaging 37, 2018): widths 64, 64, 128, 128, 256, 256; SRGAN
    (Ledig et al., CVPR 2017) goes on to 512, 512 with batch normalisation. Made for images of one shape, by
    its full layers.

    shape : (ny, nx) or (nz, ny, nx) of the images
    in_channels : of the images, the condition's included
    channels, strides, kernel : of the convolutions; strides None for 1, 2, 1, 2, …
    hidden : width of the first full layer; None for none
    norm : of all but the first convolution; a critic with gradient penalty has none
    spectral : spectral normalisation of every layer

    x : (n, in_channels, *shape) -> (n, 1)
    """

    def __init__(
        self,
        shape: Sequence[int],
        in_channels: int = 1,
        channels: Sequence[int] = (64, 64, 128, 128, 256, 256),
        strides: Sequence[int] | None = None,
        kernel: int = 3,
        hidden: int | None = 1024,
        norm: Norm = "none",
        spectral: bool = False,
    ):
        super().__init__()
        self.shape = tuple(shape)
        strides = [1 + k % 2 for k in range(len(channels))] if strides is None else strides
        sides, padding = self.shape, (kernel - 1) // 2
        self.blocks = nn.ModuleList()
        for k, (inside, outside, stride) in enumerate(
            zip([in_channels, *channels[:-1]], channels, strides, strict=True)
        ):
            self.blocks.append(
                block(
                    inside,
                    outside,
                    kernel,
                    stride,
                    norm="none" if k == 0 else norm,
                    activation="leaky",
                    dim=len(self.shape),
                    spectral=spectral,
                )
            )
            sides = tuple((n + 2 * padding - kernel) // stride + 1 for n in sides)
        if min(sides) < 1:
            raise ValueError(
                f"ImageDiscriminator shape: {self.shape} is too small for {len(channels)} layers"
            )
        numbers = channels[-1] * math.prod(sides)
        full = (
            [nn.Linear(numbers, 1)] if hidden is None else [nn.Linear(numbers, hidden), nn.Linear(hidden, 1)]
        )
        judges: list[nn.Module] = [Spectral(layer) if spectral else layer for layer in full]
        self.full = nn.Sequential(judges[0], *(part for j in judges[1:] for part in (nn.LeakyReLU(0.2), j)))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != self.shape:
            raise ValueError(f"ImageDiscriminator: made for images {self.shape}, got {tuple(x.shape[2:])}")
        return self.full(self.features(x)[-1].flatten(1))

    def features(self, x: Tensor) -> list[Tensor]:
        """The hidden layers, finest first."""
        return _hidden(self.blocks, x)


def _hidden(blocks: Sequence[nn.Module] | nn.ModuleList, h: Tensor) -> list[Tensor]:
    found = []
    for part in blocks:
        h = part(h)
        found.append(h)
    return found
