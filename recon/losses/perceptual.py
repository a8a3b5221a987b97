"""Losses of features: perceptual, content, style, VGG, domain-invariant, and one in LPIPS's manner."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from priors.networks.vgg import FIRST, VGG

from .base import Example, Loss, Reduction, pair
from .features import feature_network
from .pixel import powered


class FeatureLoss(Loss):
    """Σ_l λ_l d(φ_l(x), φ_l(truth)); a subclass says what d is.

    Every channel and every slice of a volume is looked at by itself as a grey image, and their values
    averaged. The network is no part of the loss: it is neither trained nor saved with it, but goes to the
    device and precision of the images. `loss.network.name` belongs on a card.

    network : a module x -> [φ_l(x)], or a name for `feature_network`
    layers : for a name, which; None: those of the paper
    weights : λ_l; None: 1 for all
    window : (low, high) of the images, brought to [−1, 1] for the network
    colour : images have 3 channels, which are one colour image
    """

    held: ClassVar[tuple[str, ...]] = ("network",)
    paper: ClassVar[tuple[str, ...]] = FIRST
    network: nn.Module

    def __init__(
        self,
        network: nn.Module | str = "auto",
        layers: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        window: tuple[float, float] = (-1.0, 1.0),
        colour: bool = False,
        reduction: Reduction = "mean",
    ):
        super().__init__(reduction)
        who = type(self).__name__
        if weights is not None and (not len(weights) or min(weights) < 0):
            raise ValueError(f"{who} weights: expected numbers ≥ 0, got {list(weights)}")
        if not -math.inf < window[0] < window[1] < math.inf:
            raise ValueError(f"{who} window: expected (low, high) with low < high, got {window}")
        if layers is not None and not isinstance(network, str):
            raise ValueError(f"{who} layers: only for a network by name; this one has its own")
        self.network = feature_network(network, layers or self.paper) if isinstance(network, str) else network
        self.weights = None if weights is None else tuple(weights)
        self.window, self.colour = window, colour

    def check(self, x: Tensor, truth: Any, mask: Tensor | None) -> None:
        super().check(x, truth, mask)
        if x.ndim not in (4, 5) or (self.colour and x.shape[1] != 3):
            wanted = "(n, 3, [nz,] ny, nx)" if self.colour else "(n, channels, [nz,] ny, nx)"
            raise ValueError(f"{type(self).__name__}: expected {wanted}, got {tuple(x.shape)}")

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        u, v = self.features(x), self.features(truth)
        weights = self.weights or (1.0,) * len(u)
        if len(weights) != len(u):
            raise ValueError(
                f"{type(self).__name__} weights: expected {len(u)}, one per layer, got {len(weights)}"
            )
        value = x.new_zeros(len(x))
        for weight, a, b in zip(weights, u, v, strict=True):
            value = value + weight * self.distance(a, b).reshape(len(x), -1).mean(1).to(x.dtype)
        return value

    def features(self, x: Tensor) -> list[Tensor]:
        """φ_l of every plane."""
        low, high = self.window
        x = 2 * (x - low) / (high - low) - 1
        x = x if x.ndim == 4 else x.movedim(2, 1).flatten(0, 1)
        x = x if self.colour else x.flatten(0, 1)[:, None]
        weight = next(self.network.parameters(), None)
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        if weight is not None and (weight.device, weight.dtype) != (x.device, x.dtype):
            self.network.to(x.device, x.dtype)
        return self.network(x)

    @abstractmethod
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """d of features (planes, channels, …), one value per plane."""

    @classmethod
    def examples(cls) -> list[Example]:
        network = VGG(((3, 4), (5,)), ("conv1_2", "relu2_1"), 1, (0.5,), (0.5,))
        generator = torch.Generator().manual_seed(0)
        for weight in network.parameters():
            weight.data.copy_(0.4 * torch.randn(weight.shape, generator=generator))
        network.double().requires_grad_(False)
        return [
            Example(cls(network, window=(-1.5, 1.5)), *pair(3, 1, 8, 7)),
            Example(cls(network, weights=(0.5, 2.0)), *pair(2, 2, 2, 6, 6)),
            Example(cls("vgg-small-tissue"), *pair(2, 1, 20, 35)),
        ]


class Perceptual(FeatureLoss):
    """Σ_l λ_l mean |φ_l(x) − φ_l(truth)|^p. Johnson, Alahi, Fei-Fei, ECCV 2016 (p = 2); p = 1 with others.

    p : ≥ 1
    The others are those of `FeatureLoss`. Between input and output it is Kaji's identity-perceptual loss.
    """

    name = "perceptual"

    def __init__(
        self,
        network: nn.Module | str = "auto",
        layers: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        window: tuple[float, float] = (-1.0, 1.0),
        colour: bool = False,
        p: float = 1.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(network, layers, weights, window, colour, reduction)
        if not 1 <= p < math.inf:
            raise ValueError(f"Perceptual p: expected at least 1, got {p!r}")
        self.p = float(p)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return powered(a - b, self.p).flatten(1).mean(1)


class Content(FeatureLoss):
    """Σ_l λ_l ‖φ_l(x) − φ_l(truth)‖² / (h w d). Gatys et al., CVPR 2016; MedGAN with blocks 1 to 4."""

    name = "content"
    paper = FIRST[:4]

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().flatten(1).mean(1)


class VGGLoss(Content):
    """‖φ(x) − φ(truth)‖² / (h w d), φ the last convolution of VGG-19. WGAN-VGG, Yang et al., TMI 37 (2018).

    Without ReLU, as in the published re-implementations; SRGAN's is "relu5_4".
    """

    name = "vgg"
    paper = ("conv5_4",)


class Style(FeatureLoss):
    """Σ_l λ_l s ‖Gr(φ_l(x)) − Gr(φ_l(truth))‖²_F,  Gr(φ)_ij = Σ_p φ_i(p) φ_j(p) / z.

    p runs over the h·w places of d channels.

    scaling : "medgan": z = h w d, s = 1/(4d²) (Armanious et al. 2020, blocks 1 and 5);
        "gatys": z = h w, s = 1/(4d²) (Gatys et al. 2016); "johnson": z = h w d, s = 1 (Johnson et al. 2016)
    The other parameters are those of `FeatureLoss`.
    """

    name = "style"
    paper = (FIRST[0], FIRST[4])

    def __init__(
        self,
        network: nn.Module | str = "auto",
        layers: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        window: tuple[float, float] = (-1.0, 1.0),
        colour: bool = False,
        scaling: Literal["medgan", "gatys", "johnson"] = "medgan",
        reduction: Reduction = "mean",
    ):
        super().__init__(network, layers, weights, window, colour, reduction)
        if scaling not in ("medgan", "gatys", "johnson"):
            raise ValueError(f"Style scaling: expected 'medgan', 'gatys' or 'johnson', got {scaling!r}")
        self.scaling = scaling

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        d = a.shape[1]
        divisor = a[0, 0].numel() * (1 if self.scaling == "gatys" else d)
        factor = 1.0 if self.scaling == "johnson" else 1 / (4 * d**2)
        return factor * ((gram(a) - gram(b)) / divisor).square().sum((1, 2))


class DomainInvariant(FeatureLoss):
    """Σ_l λ_l mean (IN(φ_l(x)) − IN(φ_l(truth)))²: features without the mean and spread of their channels.

    IN(φ) = (φ − mean φ)/√(var φ + 1e-5) over the places of each channel. The code of UNIT and
    MUNIT (Huang et al., ECCV 2018), there with VGG-16 and "relu5_3", for x = G(a), truth = a.
    """

    name = "domain-invariant"
    compares = ("G(a)", "a")
    paper = ("relu5_3",)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        if a[0, 0].numel() < 2:
            raise ValueError(
                "DomainInvariant: features of one place have no mean and spread; give larger images or finer "
                "layers"
            )
        return (standardised(a) - standardised(b)).square().flatten(1).mean(1)


class FeatureDistance(FeatureLoss):
    """Σ_l λ_l mean over places of Σ_c (φ̂_l(x) − φ̂_l(truth))²,  φ̂ = φ/√(Σ_c φ² + 1e-10) at every place.

    The manner of LPIPS (Zhang et al., CVPR 2018), without its learned channel weights and not with its
    networks: not LPIPS, and not comparable with it.
    """

    name = "feature-distance"
    paper = tuple(layer.replace("conv", "relu") for layer in ("conv1_2", "conv2_2", "conv3_2", "conv4_2"))

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = (h / (h.square().sum(1, keepdim=True) + 1e-10).sqrt() for h in (a, b))
        return (a - b).square().sum(1).flatten(1).mean(1)


def gram(a: Tensor) -> Tensor:
    """Σ over places of φ_i φ_j: (n, d, …) -> (n, d, d)."""
    a = a.flatten(2)
    return a @ a.mT


def standardised(a: Tensor) -> Tensor:
    """Every channel of every image with mean 0 and variance 1."""
    places = tuple(range(2, a.ndim))
    mean = a.mean(places, keepdim=True)
    variance = (a - mean).square().mean(places, keepdim=True)
    return (a - mean) / (variance + 1e-5).sqrt()
