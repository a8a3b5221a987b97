"""Adversarial denoising of CT and MR: WGAN-VGG, SMGAN, SAGAN, Wolterink et al., RED-WGAN."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import nn

from .base import GAN
from .config import GANConfig, Options

Schedule = Literal["cosine", "constant", "step", "inverse", "linear"]
CRITIC: dict[str, Any] = {"discriminator_options": {"channels": (4, 4), "hidden": 4}}


@dataclass(frozen=True)
class WGANVGGConfig(GANConfig):
    """Yang et al. 2018: 0.1·VGG features (16th convolution), no pixel term, WGAN-GP 10, four critic steps.

    128 pieces of 64², Adam 1e-5 (0.5, 0.9), images in [0, 1].
    """

    generator: str = "WGANVGGGenerator"
    discriminator: str | None = "ImageDiscriminator"
    conditional: bool = False
    mode: str = "wgan"
    penalty: float = 10.0
    losses: tuple[Any, ...] = (("vgg", 0.1),)
    d_steps: int = 4
    fresh: bool = True
    span: tuple[float, float] = (0.0, 1.0)
    patch: int | None = 64
    batch_size: int = 128
    learning_rate: float = 1e-5
    beta2: float = 0.9
    schedule: Schedule = "constant"


class WGANVGG(GAN):
    """G: −D(G(x₀)) + 0.1·‖VGG(G(x₀)) − VGG(truth)‖²/size, eight 3×3 convolutions.

    Yang Q. et al., IEEE Trans. Med. Imaging 37 (2018). The last bias starts in the middle of the span: from
    torch's start the last ReLU is 0 nearly everywhere for some seeds, and then nothing is ever learned.
    """

    Config = WGANVGGConfig
    name = "wgan-vgg"

    def make(self, inside: int, outside: int) -> nn.Module:
        network = super().make(inside, outside)
        biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
        if biases and biases[-1] is not None:
            nn.init.constant_(biases[-1], sum(self.config.span) / 2)
        return network

    small: ClassVar[dict[str, Any]] = {
        **CRITIC, "generator_options": {"width": 4, "layers": 3}, "patch": 12,
    }  # fmt: skip


@dataclass(frozen=True)
class SMGANConfig(WGANVGGConfig):
    """You et al. 2018: 0.89·(1 − MS-SSIM) + 0.11·ℓ₁ + 1e-3·adversarial [recalled], volumes of 80 × 80 × 11.

    MS-SSIM compares slices, with windows of one slice; pieces are cubes here, cut at the volume's height.
    """

    generator: str = "SMGANGenerator"
    dim: int = 3
    adversarial: float = 1e-3
    losses: tuple[Any, ...] = (("structural", 1.0, {"data_range": 1.0, "window": (1, 5, 5)}),)
    patch: int | None = 80
    batch_size: int = 4


class SMGAN(WGANVGG):
    """G: τ(1 − MS-SSIM) + (1 − τ)·ℓ₁ − 1e-3·D(G(x₀)), of volumes. You et al., IEEE Access 6 (2018)."""

    Config = SMGANConfig
    name = "smgan"
    small: ClassVar[dict[str, Any]] = {
        **CRITIC,
        "losses": (("structural", 1.0, {"data_range": 1.0, "window": 3, "weights": (0.5, 0.5)}),),
        "dim": 2,
        "patch": 12,
    }


@dataclass(frozen=True)
class SAGANConfig(GANConfig):
    """Yi and Babyn 2018: U-Net plus its input, least squares, 100·ℓ₁, 1e-3·sharpness [recalled]."""

    generator_options: Options = field(
        default_factory=lambda: {"norm": "instance", "dropout": 0.0, "residual": True}
    )
    mode: str = "lsgan"
    mode_options: Options = field(default_factory=lambda: {"scale": 0.5})
    losses: tuple[Any, ...] = (("l1", 100.0), ("sharpness", 1e-3))


class SAGAN(GAN):
    """G: (D − 1)² + 100·ℓ₁ + 1e-3·mean (S(G(x₀)) − S(truth))², S how sharp an image is where.

    Yi, Babyn, J. Digit. Imaging 31 (2018). S is a network there, taught to give a map of local sharpness;
    here it is such a map itself, |∇x|², or what `inject(sharpness=…)` gave.
    """

    Config = SAGANConfig
    name = "sagan"
    small: ClassVar[dict[str, Any]] = {
        **GAN.small, "generator_options": {"base": 4, "depth": 2, "norm": "instance", "residual": True},
    }  # fmt: skip


@dataclass(frozen=True)
class Wolterink2017Config(GANConfig):
    """Wolterink et al. 2017, their G2: ℓ₂ and adversarial loss; widths and weights are recalled or ours.

    G1 is discriminator=None, G3 is losses=().
    """

    generator: str = "WolterinkGenerator"
    discriminator: str | None = "ImageDiscriminator"
    discriminator_options: Options = field(
        default_factory=lambda: {"channels": (32, 64, 128), "strides": (2, 2, 2), "hidden": None}
    )
    conditional: bool = False
    dim: int = 3
    adversarial: float = 1e-2
    losses: tuple[Any, ...] = (("l2", 1.0),)
    patch: int | None = 32
    batch_size: int = 16


class Wolterink2017(GAN):
    """G: ℓ₂ − w·log D(G(x₀)), seven convolutions of volumes against a small discriminator of pieces.

    Wolterink, Leiner, Viergever, Išgum, IEEE Trans. Med. Imaging 36 (2017).
    """

    Config = Wolterink2017Config
    name = "wolterink-2017"
    small: ClassVar[dict[str, Any]] = {
        **CRITIC, "generator_options": {"channels": (4, 4)}, "dim": 2, "patch": 10,
    }  # fmt: skip


@dataclass(frozen=True)
class REDWGANConfig(GANConfig):
    """Ran et al. 2019, by their code: ℓ₂ + 0.1·VGG + 1e-3·adversarial, WGAN-GP 10, five critic steps.

    110 pieces of 32 × 32 × 6, Adam 5e-6 (0.5, 0.9), halved every four of ten epochs. Pieces are cubes here,
    cut at the volume's height; the slope is that of a whole sample, not by channels as in their code.
    """

    generator: str = "REDWGANGenerator"
    discriminator: str | None = "ImageDiscriminator"
    discriminator_options: Options = field(
        default_factory=lambda: {"channels": (32, 64, 128), "strides": (1, 1, 1), "hidden": None}
    )
    conditional: bool = False
    dim: int = 3
    mode: str = "wgan"
    penalty: float = 10.0
    adversarial: float = 1e-3
    losses: tuple[Any, ...] = (("l2", 1.0), ("vgg", 0.1))
    d_steps: int = 5
    fresh: bool = True
    span: tuple[float, float] = (0.0, 1.0)
    patch: int | None = 32
    batch_size: int = 110
    learning_rate: float = 5e-6
    beta2: float = 0.9
    schedule: Schedule = "step"
    milestones: tuple[int, ...] = (40_000, 80_000)
    decay: float = 0.5


class REDWGAN(GAN):
    """G: ℓ₂ + 0.1·VGG features − 1e-3·D(G(x₀)), residual encoder–decoder of volumes.

    Ran et al., Med. Image Anal. 55 (2019). Features are those of slices.
    """

    Config = REDWGANConfig
    name = "red-wgan"
    small: ClassVar[dict[str, Any]] = {
        **CRITIC, "generator_options": {"widths": (4, 8)}, "dim": 2, "patch": 12,
    }  # fmt: skip
