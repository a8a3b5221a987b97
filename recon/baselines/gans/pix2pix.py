"""Paired translation: pix2pix, MedGAN with the rows of its ablation, and those it was compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .base import GAN
from .config import GANConfig, Options
from .modes import UNET

PERCEPTUAL = ("discriminator-features", 20.0, {"pixel": 1.0})
STYLE, CONTENT = ("style", 1e-4), ("content", 1e-4)


@dataclass(frozen=True)
class Pix2PixConfig(GANConfig):
    """Isola et al. 2017: U-Net of 8 scales, 70 × 70 patches, 100·ℓ₁, half the loss for the discriminator.

    Adam 2e-4 (0.5, 0.999), one image a step, the rate falls to 0 in the second half. Dropout is the noise,
    when reconstructing, too. Batch normalisation of batches of one, as theirs, is instance normalisation.
    """

    generator_options: Options = field(default_factory=lambda: {"norm": "instance", "dropout": 0.5})
    mode_options: Options = field(default_factory=lambda: {"scale": 0.5})
    losses: tuple[Any, ...] = (("l1", 100.0),)
    noise_at_test: bool = True


class Pix2Pix(GAN):
    """G: −log D(G(x₀), x₀) + 100·ℓ₁. Isola, Zhu, Zhou, Efros, CVPR 2017."""

    Config = Pix2PixConfig
    name = "pix2pix"


@dataclass(frozen=True)
class ConditionalGANConfig(GANConfig):
    """Armanious et al. 2020, the cGAN row of their ablation: one U-block, 16 × 16 patches, no other loss.

    Spectral normalisation of the discriminator; three generator steps for one of the discriminator.
    """

    generator_options: Options = field(default_factory=lambda: dict(UNET))
    discriminator_options: Options = field(default_factory=lambda: {"layers": 1, "spectral": True})
    g_steps: int = 3
    fresh: bool = True
    schedule: Literal["cosine", "constant", "step", "inverse", "linear"] = "constant"


class ConditionalGAN(GAN):
    """G: −log D(G(x₀), x₀) alone. Mirza, Osindero 2014; the first row of MedGAN's ablation."""

    Config = ConditionalGANConfig
    name = "cgan"


@dataclass(frozen=True)
class PerceptualGANConfig(ConditionalGANConfig):
    """Armanious et al. 2020, their second row: 20 × the distance in the discriminator's layers and pixels."""

    losses: tuple[Any, ...] = (PERCEPTUAL,)


class PerceptualGAN(GAN):
    """G: −log D + 20 Σ_i mean |D_i(G(x₀)) − D_i(truth)|, D_0 the image. A row of MedGAN's ablation."""

    Config = PerceptualGANConfig
    name = "perceptual-gan"


@dataclass(frozen=True)
class StyleContentGANConfig(ConditionalGANConfig):
    """Armanious et al. 2020, their third row: 1e-4 × style and content of a pretrained network's features."""

    losses: tuple[Any, ...] = (STYLE, CONTENT)


class StyleContentGAN(GAN):
    """G: −log D + 1e-4·style + 1e-4·content. A row of MedGAN's ablation."""

    Config = StyleContentGANConfig
    name = "style-content-gan"


@dataclass(frozen=True)
class MedGANOneConfig(ConditionalGANConfig):
    """Armanious et al. 2020, their fourth row: all losses, one U-block."""

    losses: tuple[Any, ...] = (PERCEPTUAL, STYLE, CONTENT)


class MedGANOne(GAN):
    """MedGAN with one U-block instead of six: the row MedGAN-1G of its ablation."""

    Config = MedGANOneConfig
    name = "medgan-1g"


@dataclass(frozen=True)
class MedGANConfig(MedGANOneConfig):
    """Armanious et al. 2020: CasNet of six U-blocks, all losses, Adam 2e-4 (0.5), one image a step.

    The λ of the discriminator's layers are not printed in the paper: 1 here, for both and for the pixels.
    """

    generator: str = "CasNet"
    generator_options: Options = field(default_factory=lambda: {"norm": "instance"})


class MedGAN(GAN):
    """G: −log D + 20·(distance in D's layers) + 1e-4·style + 1e-4·content, G six U-Nets in a row.

    Armanious, Jiang, Fischer, Küstner, Hepp, Nikolaou, Gatidis, Yang, Comput. Med. Imaging Graph. 79 (2020).
    """

    Config = MedGANConfig
    name = "medgan"
    small: ClassVar[dict[str, Any]] = {
        **GAN.small,
        "generator_options": {"base": 4, "depth": 2, "norm": "instance", "blocks": 2},
    }


@dataclass(frozen=True)
class PANConfig(GANConfig):
    """Wang, Xu, Wang, Tao 2018: weights 5, 1.5, 1.5, 1 of D's layers [recalled]; the margin is ours."""

    generator_options: Options = field(default_factory=lambda: dict(UNET))
    losses: tuple[Any, ...] = (("feature-margin", 1.0, {"weights": (5.0, 1.5, 1.5, 1.0), "margin": 1.0}),)


class PAN(GAN):
    """G: −log D + Σ λ_i P_i, D: its loss + [m − Σ λ_i P_i]₊, P_i distances in D's layers; no pixel term.

    Wang, Xu, Wang, Tao, IEEE Trans. Image Process. 27 (2018).
    """

    Config = PANConfig
    name = "pan"
    small: ClassVar[dict[str, Any]] = {
        **GAN.small,
        "losses": (("feature-margin", 1.0, {"weights": (5.0, 1.5), "margin": 1.0}),),
    }


@dataclass(frozen=True)
class IDCGANConfig(GANConfig):
    """Zhang, Sindagi, Patel 2017, by their code: 150·ℓ₂, 150·features, dense blocks."""

    generator: str = "IDCGANGenerator"
    generator_options: Options = field(default_factory=lambda: {"norm": "instance"})
    losses: tuple[Any, ...] = (("l2", 150.0), ("content", 150.0, {"layers": ("relu2_2",)}))


class IDCGAN(GAN):
    """G: −log D + 150·ℓ₂ + 150·feature distance. Zhang, Sindagi, Patel, arXiv 1701.05957."""

    Config = IDCGANConfig
    name = "id-cgan"
    small: ClassVar[dict[str, Any]] = {
        **GAN.small,
        "generator_options": {"base": 4, "growth": 2, "layers": 1, "depth": 1, "norm": "instance"},
    }


@dataclass(frozen=True)
class FilaSGANConfig(GANConfig):
    """Zhao, Li, Cheng 2017: ℓ₁, style, content and TV. The weights are ours; theirs are not known to us."""

    generator: str = "EncoderDecoder"
    generator_options: Options = field(
        default_factory=lambda: {
            "channels": (64, 128, 256, 512),
            "norm": "instance",
            "dropout": 0.5,
            "last": "tanh",
        }
    )
    losses: tuple[Any, ...] = (("l1", 100.0), ("style", 1e-2), ("content", 1.0), ("tv", 1e-2))
    noise_at_test: bool = True


class FilaSGAN(GAN):
    """G: −log D + ℓ₁ + style + content + TV, with noise (dropout) at the coarsest scale.

    Zhao, Li, Cheng, arXiv 1711.00338, "synthesizing filamentary structured images". The style is that of the
    truth here; theirs is of an image of choice, MedGAN's comparison takes the source.
    """

    Config = FilaSGANConfig
    name = "fila-sgan"
    small: ClassVar[dict[str, Any]] = {
        **GAN.small,
        "generator_options": {"channels": (4, 8), "norm": "instance", "dropout": 0.5, "last": "tanh"},
    }
