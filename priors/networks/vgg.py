"""VGG: features of images at several scales, for losses and distances that look at more than pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

VGG16 = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
VGG19 = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
SMALL = ((12,) * 2, (24,) * 2, (48,) * 2, (64,) * 2, (64,) * 2)
"""Channels of the convolutions of every block; the last is our own, small enough to ship."""

FIRST = tuple(f"conv{block}_1" for block in range(1, 6))
"""The first convolution of every block: MedGAN's layers (Armanious et al. 2020)."""


class VGG(nn.Module):
    """x -> [φ_l(x)], blocks of 3×3 convolutions and ReLU with 2×2 maxima between them.

    Simonyan & Zisserman, ICLR 2015, without its full layers. Weights have torchvision's names
    (`features.0.weight`, …); nothing below the deepest layer asked for is made.

    Parameters
    ----------
    blocks : channels of the convolutions of every block
    layers : "conv3_2" or "relu3_2", the second convolution of the third block without or with its ReLU; the
        features come in this order
    channels : of the first convolution's input, 1 or 3; images of the other number are repeated or averaged
    mean, std : per channel, of images in [0, 1], as in ImageNet's training

    x : (n, 1 or 3, ny, nx) in [−1, 1], at least 2^(blocks − 1) pixels a side
    """

    def __init__(
        self,
        blocks: Sequence[Sequence[int]] = VGG19,
        layers: Sequence[str] = FIRST,
        channels: int = 3,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ):
        super().__init__()
        places, stack = layer_places(blocks), list[nn.Module]()
        unknown = [layer for layer in layers if layer not in places]
        if unknown or not layers:
            have = ", ".join(name for name in places if name.startswith("conv"))
            raise ValueError(
                f"VGG layers: expected some of {have}, or relu… for the same, got {list(layers)}"
            )
        deepest, inside = max(places[layer] for layer in layers), channels
        for block in blocks:
            for outside in block:
                stack += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU()]
                inside = outside
            stack.append(nn.MaxPool2d(2))
        self.layers, self.places = tuple(layers), tuple(places[layer] for layer in layers)
        self.features = nn.Sequential(*stack[: deepest + 1])
        self.least = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in self.features)
        self.channels = channels
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)

    mean: Tensor
    std: Tensor

    def forward(self, x: Tensor) -> list[Tensor]:
        if x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[-2:]) < self.least:
            raise ValueError(
                f"VGG x: expected (n, 1 or 3, ny, nx) of at least {self.least} pixels a side for "
                f"{', '.join(self.layers)}, got {tuple(x.shape)}"
            )
        if x.shape[1] != self.channels:
            x = x.expand(-1, 3, -1, -1) if self.channels == 3 else x.mean(1, keepdim=True)
        h, found = ((x + 1) / 2 - self.mean) / self.std, dict[int, Tensor]()
        for place, layer in enumerate(self.features):
            h = layer(h)
            if place in self.places:
                found[place] = h
        return [found[place] for place in self.places]


def layer_places(blocks: Sequence[Sequence[int]]) -> dict[str, int]:
    """Index in `features` of every convolution and its ReLU, by name."""
    found, place = dict[str, int](), 0
    for b, block in enumerate(blocks, 1):
        for c in range(1, len(block) + 1):
            found[f"conv{b}_{c}"], found[f"relu{b}_{c}"] = place, place + 1
            place += 2
        place += 1
    return found


class FeatureClassifier(nn.Module):
    """Logits of several tasks from the mean of every feature map: what teaches a feature network.

    trunk : x -> list of features, of these many channels together
    tasks : number of classes by name
    """

    def __init__(self, trunk: VGG, channels: int, tasks: Mapping[str, int]):
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict({name: nn.Linear(channels, n) for name, n in tasks.items()})
        for layer in trunk.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pooled = torch.cat([h.mean((-2, -1)) for h in self.trunk(x)], 1)
        return {name: head(pooled) for name, head in self.heads.items()}
