"""Losses in the hidden layers of a discriminator: MedGAN's perceptual loss, PAN's margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, relu

from .base import Example, Loss, Reduction, pair, per_image
from .pixel import powered


class Discriminator(Protocol):
    """D with its hidden layers."""

    def features(self, x: Tensor) -> list[Tensor]:
        """Hidden layers, finest first."""
        ...


class DiscriminatorFeatures(Loss):
    """λ_0 mean |x − truth|^p + Σ_i λ_i mean |D_i(x) − D_i(truth)|^p, D_i D's hidden layers.

    MedGAN, Armanious et al., CMIG 79 (2020), with p = 1, where i = 0 is the image itself; SegAN's multi-scale
    loss (Xue et al. 2018) on masked images. A conditional D sees `torch.cat([x, condition], 1)`.

    D is not part of the loss: its weights are not its parameters. In a generator's step turn their gradients
    off (`D.requires_grad_(False)`), and the truth's features cost no graph.

    discriminator : D with `features(x)`; may be given later, `loss.discriminator = D`
    weights : λ_i of the layers, finest first; None: 1 for all
    pixel : λ_0
    p : ≥ 1
    """

    name = "discriminator-features"
    held = ("discriminator",)
    discriminator: Discriminator | None

    def __init__(
        self,
        discriminator: Discriminator | None = None,
        weights: Sequence[float] | None = None,
        pixel: float = 1.0,
        p: float = 1.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(reduction)
        who = type(self).__name__
        if weights is not None and (not len(weights) or min(weights) < 0):
            raise ValueError(f"{who} weights: expected numbers ≥ 0, got {list(weights)}")
        if not 0 <= pixel < math.inf:
            raise ValueError(f"{who} pixel: expected a number ≥ 0, got {pixel!r}")
        if not 1 <= p < math.inf:
            raise ValueError(f"{who} p: expected at least 1, got {p!r}")
        self.weights, self.pixel, self.p = None if weights is None else tuple(weights), pixel, float(p)
        self.discriminator = discriminator

    def forward(  # type: ignore[override]
        self, x: Tensor, truth: Any = None, mask: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        self.check(x, truth, mask)
        return self.reduced(self.distances(x, truth, condition))

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        return self.distances(x, truth)

    def distances(self, x: Tensor, truth: Tensor, condition: Tensor | None = None) -> Tensor:
        """Σ λ_i P_i, one value per image."""
        if self.discriminator is None:
            who = type(self).__name__
            raise ValueError(f"{who}: no discriminator yet; give {who}(D) or set loss.discriminator")
        seen = [a if condition is None else torch.cat([a, condition], 1) for a in (x, truth)]
        layers = [self.discriminator.features(a) for a in seen]
        weights = self.weights or (1.0,) * len(layers[0])
        if len(weights) != len(layers[0]):
            raise ValueError(
                f"{type(self).__name__} weights: expected {len(layers[0])}, one per layer, got {len(weights)}"
            )
        value = self.pixel * per_image(powered(x - truth, self.p))
        for weight, u, v in zip(weights, *layers, strict=True):
            value = value + weight * per_image(powered(u - v, self.p))
        return value

    @classmethod
    def examples(cls) -> list[Example]:
        example = pair(3, 1, 6, 5)
        return [
            Example(cls(ExampleDiscriminator()), *example),
            Example(cls(ExampleDiscriminator(), weights=(2.0, 0.5), pixel=0.3, p=2), *example),
        ]


class FeatureMargin(DiscriminatorFeatures):
    """G: Σ_i λ_i P_i,  D: [m − Σ_i λ_i P_i]₊,  P_i = mean |D_i(x) − D_i(truth)|.

    PAN, Wang et al., IEEE Trans. Image Process. 27 (2018). The discriminator holds the distance above a
    margin, the generator lowers it; called, it is what the generator lowers, `loss.discriminated(x, truth)`
    what D does. The paper's λ = (5, 1.5, 1.5, 1) is recalled, not read.

    discriminator, weights, pixel, p : as in `DiscriminatorFeatures`, without the pixel term
    margin : m > 0
    """

    name = "feature-margin"

    def __init__(
        self,
        discriminator: Discriminator | None = None,
        weights: Sequence[float] | None = None,
        margin: float = 1.0,
        pixel: float = 0.0,
        p: float = 1.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(discriminator, weights, pixel, p, reduction)
        if not 0 < margin < math.inf:
            raise ValueError(f"FeatureMargin margin: expected a positive number, got {margin!r}")
        self.margin = margin

    def discriminated(self, x: Tensor, truth: Tensor, condition: Tensor | None = None) -> Tensor:
        """mean over images of [m − Σ λ_i P_i]₊; x is detached."""
        self.check(x, truth, None)
        return relu(self.margin - self.distances(x.detach(), truth, condition)).mean()

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(ExampleDiscriminator(), weights=(5.0, 1.5)), *pair(3, 1, 6, 5))]


class ExampleDiscriminator:
    """Two layers of fixed weights, for examples and tests; takes any number of channels."""

    def features(self, x: Tensor) -> list[Tensor]:
        found, h = [], x
        for seed in (0, 1):
            generator = torch.Generator().manual_seed(seed)
            kernel = torch.randn(3, h.shape[1], 2, 2, generator=generator, dtype=torch.float64)
            h = leaky_relu(conv2d(h, kernel.to(h)), 0.2)
            found.append(h)
        return found


class Sharpness(Loss):
    """mean (S(x) − S(truth))², S a network that maps how sharp an image is where. Yi & Babyn, SAGAN 2018.

    S is not part of the loss; for S trained on a sharpness map, or any map (n, channels, …) -> (n, …).

    network : S; its output is one tensor, or a list of them, whose terms are added
    """

    name = "sharpness"
    held = ("network",)
    network: nn.Module | None

    def __init__(self, network: nn.Module | None = None, reduction: Reduction = "mean"):
        super().__init__(reduction)
        self.network = network

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        if self.network is None:
            raise ValueError("Sharpness: no network yet; give Sharpness(S) or set loss.network")
        maps = [self.network(a) for a in (x, truth)]
        u, v = ([a] if isinstance(a, Tensor) else a for a in maps)
        return torch.stack([per_image((a - b).square()) for a, b in zip(u, v, strict=True)]).sum(0)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example(cls(LocalSlope()), *pair(3, 1, 5, 4))]


class LocalSlope(nn.Module):
    """S(x) = |∇x|², forward differences, one pixel less a side: a sharpness map without any training."""

    def forward(self, x: Tensor) -> Tensor:
        value = x.new_zeros(())
        for axis in range(2, x.ndim):
            slope = x.diff(dim=axis)
            for other in range(2, x.ndim):
                slope = slope if other == axis else slope.narrow(other, 0, slope.shape[other] - 1)
            value = value + slope.square()
        return value
