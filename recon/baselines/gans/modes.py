"""A U-Net of pix2pix against each kind of opponent, all else alike: what the adversarial mode does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .base import GAN
from .config import GANConfig, Options

UNET: Options = {"norm": "instance", "dropout": 0.0}
"""U-Net of pix2pix, whose batch normalisation is instance normalisation with its batches of one."""


@dataclass(frozen=True)
class LSGANConfig(GANConfig):
    """Mao et al. 2017: squared distance of the scores to 1 and 0, half of it for the discriminator."""

    generator_options: Options = field(default_factory=lambda: dict(UNET))
    mode: str = "lsgan"
    mode_options: Options = field(default_factory=lambda: {"scale": 0.5})
    losses: tuple[Any, ...] = (("l1", 100.0),)


class LSGAN(GAN):
    """G: (D(G(x₀)) − 1)² + 100·ℓ₁. Mao, Li, Xie, Lau, Wang, Smolley, ICCV 2017, for paired images."""

    Config = LSGANConfig
    name = "lsgan"


@dataclass(frozen=True)
class WGANConfig(GANConfig):
    """Arjovsky, Chintala, Bottou 2017: weights within 0.01, five critic steps, RMSProp 5e-5."""

    generator_options: Options = field(default_factory=lambda: dict(UNET))
    discriminator_options: Options = field(default_factory=lambda: {"norm": "none"})
    mode: str = "wgan"
    bound: float | None = 0.01
    d_steps: int = 5
    fresh: bool = True
    losses: tuple[Any, ...] = (("l1", 100.0),)
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "rmsprop"
    learning_rate: float = 5e-5
    beta2: float = 0.99
    schedule: Literal["cosine", "constant", "step", "inverse", "linear"] = "constant"


class WGAN(GAN):
    """G: −D(G(x₀)) + 100·ℓ₁, D bounded by its weights. Arjovsky, Chintala, Bottou, ICML 2017, for pairs."""

    Config = WGANConfig
    name = "wgan"


@dataclass(frozen=True)
class WGANGPConfig(WGANConfig):
    """Gulrajani et al. 2017: gradient penalty 10, five critic steps, Adam 1e-4 (0, 0.9)."""

    bound: float | None = None
    penalty: float = 10.0
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    learning_rate: float = 1e-4
    beta1: float = 0.0
    beta2: float = 0.9


class WGANGP(GAN):
    """G: −D(G(x₀)) + 100·ℓ₁, D of slope 1. Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, NeurIPS 2017."""

    Config = WGANGPConfig
    name = "wgan-gp"


@dataclass(frozen=True)
class HingeGANConfig(GANConfig):
    """Miyato et al. 2018: spectral normalisation and the hinge, five critic steps, Adam 2e-4 (0, 0.9)."""

    generator_options: Options = field(default_factory=lambda: dict(UNET))
    discriminator_options: Options = field(default_factory=lambda: {"norm": "none", "spectral": True})
    mode: str = "hinge"
    d_steps: int = 5
    fresh: bool = True
    losses: tuple[Any, ...] = (("l1", 100.0),)
    beta1: float = 0.0
    beta2: float = 0.9


class HingeGAN(GAN):
    """G: −D(G(x₀)) + 100·ℓ₁, D: [1 − D]₊ + [1 + D]₊, spectral norm. Miyato et al., ICLR 2018, for pairs."""

    Config = HingeGANConfig
    name = "hinge-gan"


@dataclass(frozen=True)
class SpectralGANConfig(GANConfig):
    """Miyato et al. 2018: spectral normalisation with the loss of the first GAN."""

    generator_options: Options = field(default_factory=lambda: dict(UNET))
    discriminator_options: Options = field(default_factory=lambda: {"norm": "none", "spectral": True})
    losses: tuple[Any, ...] = (("l1", 100.0),)


class SpectralGAN(GAN):
    """G: −log D(G(x₀)) + 100·ℓ₁, D of slope 1 by spectral norm. Miyato et al., ICLR 2018."""

    Config = SpectralGANConfig
    name = "spectral-gan"


@dataclass(frozen=True)
class EnergyGANConfig(GANConfig):
    """Zhao, Mathieu, LeCun 2017: the discriminator is an autoencoder, and its error the energy."""

    generator_options: Options = field(default_factory=lambda: dict(UNET))
    discriminator: str | None = "EncoderDecoder"
    discriminator_options: Options = field(
        default_factory=lambda: {"channels": (32, 64, 128, 256), "skips": "none", "activation": "leaky"}
    )
    mode: str = "energy"
    mode_options: Options = field(default_factory=lambda: {"margin": 0.1})
    losses: tuple[Any, ...] = (("l1", 100.0),)


class EnergyGAN(GAN):
    """G: E(G(x₀)) + 100·ℓ₁, D: E(truth) + [m − E(G(x₀))]₊, E an autoencoder's error. Zhao et al., ICLR 2017.

    Widths and margin are ours.
    """

    Config = EnergyGANConfig
    name = "energy-gan"
    small: ClassVar[dict[str, Any]] = {
        **GAN.small,
        "discriminator_options": {"channels": (4, 8), "skips": "none"},
    }
