"""Kin of CycleGAN: each a configuration of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .config import Options
from .cycle import CycleGAN, CycleGANConfig

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]
Schedule = Literal["cosine", "constant", "step", "inverse", "linear"]
Losses = tuple[Any, ...]


@dataclass(frozen=True)
class DiscoGANConfig(CycleGANConfig):
    """Kim et al. 2017: autoencoders without skips, logistic losses, squared cycle, feature matching.

    The weights of the three terms are recalled, not read.
    """

    generator: str = "EncoderDecoder"
    generator_options: Options = field(
        default_factory=lambda: {
            "channels": (64, 128, 256, 512),
            "skips": "none",
            "norm": "batch",
            "activation": "leaky",
            "up": "transposed",
            "convolutions": 1,
            "last": "tanh",
        }
    )
    discriminator_options: Options = field(default_factory=lambda: {"norm": "batch"})
    mode: str = "gan"
    mode_options: Options = field(default_factory=dict)
    losses: Losses = (("cycle", 1.0, {"p": 2.0}),)
    matching: float = 0.9
    pool: int = 0
    batch_size: int = 64
    weight_decay: float = 1e-5
    schedule: Schedule = "constant"


class DiscoGAN(CycleGAN):
    """CycleGAN with bottlenecks, logistic losses, squared cycles and feature matching.

    Kim, Cha, Kim, Lee, Kim, ICML 2017.
    """

    Config = DiscoGANConfig
    small: ClassVar[dict[str, Any]] = {
        "generator_options": {"channels": (2, 3), "skips": "none", "last": "tanh"},
        "discriminator_options": {"base": 2, "layers": 1},
    }


@dataclass(frozen=True)
class DualGANConfig(CycleGANConfig):
    """Yi et al. 2017: U-Nets with dropout, Wasserstein critics with bounded weights, L1 cycle.

    The weight of the cycle (100 to 1000 there) and the critic's steps are recalled, not read.
    """

    generator: str = "UNetGenerator"
    discriminator_options: Options = field(default_factory=lambda: {"norm": "batch"})
    mode: str = "wgan"
    mode_options: Options = field(default_factory=dict)
    bound: float | None = 0.01
    losses: Losses = (("cycle", 500.0),)
    pool: int = 0
    d_steps: int = 3
    fresh: bool = True
    optimizer: Optimizer = "rmsprop"
    learning_rate: float = 5e-5
    beta2: float = 0.9
    schedule: Schedule = "constant"


class DualGAN(CycleGAN):
    """CycleGAN with Wasserstein critics: Yi, Zhang, Tan, Gong, ICCV 2017."""

    Config = DualGANConfig
    small: ClassVar[dict[str, Any]] = {
        "generator_options": {"base": 1, "depth": 2},
        "discriminator_options": {"base": 2, "layers": 1},
    }


@dataclass(frozen=True)
class Kang2019Config(CycleGANConfig):
    """Kang et al. 2019: dense modules of 128 channels, identity 5, patches of 56², batches of 10.

    The discriminator has four 4×4 convolutions and a full layer, made for these patches.
    """

    generator: str = "KangGenerator"
    discriminator: str | None = "ImageDiscriminator"
    discriminator_options: Options = field(
        default_factory=lambda: {
            "channels": (64, 128, 256, 512),
            "strides": (2, 2, 2, 2),
            "kernel": 4,
            "hidden": None,
        }
    )
    losses: Losses = (("cycle", 10.0), ("identity", 5.0))
    patch: int | None = 56
    batch_size: int = 10


class Kang2019(CycleGAN):
    """CycleGAN between phases of different dose, whose identity term keeps it from inventing.

    Kang, Koo, Yang, Seo, Ye, Med. Phys. 46 (2019).
    """

    Config = Kang2019Config
    small: ClassVar[dict[str, Any]] = {
        "generator_options": {"width": 2, "modules": 2},
        "discriminator_options": {"channels": (2, 3), "strides": (2, 2), "kernel": 4, "hidden": None},
        "patch": 8,
    }


@dataclass(frozen=True)
class Hiasa2018Config(CycleGANConfig):
    """Hiasa et al. 2018: a gradient-consistency term, in both directions; weights 3 and 0.3 are recalled."""

    losses: Losses = (("cycle", 3.0), ("gradient-consistency", 0.3))


class Hiasa2018(CycleGAN):
    """CycleGAN whose edges stay: Hiasa et al., SASHIMI 2018."""

    Config = Hiasa2018Config


@dataclass(frozen=True)
class Kida2020Config(CycleGANConfig):
    """Kaji's UnpairedImageTranslation as for cone-beam CT: cycle 10, domain 0.1, air 1, rate 2e-4, β₁ 0.1.

    Its code-wise autoencoding and perceptual identity terms are not among the defaults; add the latter by
    name to `losses`. `window` is theirs for CBCT with the lowest value −600 HU and a range of 1000, where
    images are in HU; None takes that of the training images.
    """

    generator_options: Options = field(default_factory=lambda: {"base": 32})
    losses: Losses = (("cycle", 10.0), ("domain", 0.1), ("air", 1.0))
    mode_options: Options = field(default_factory=lambda: {"scale": 0.5})
    label_jitter: float = 0.2
    beta1: float = 0.1
    d_learning_rate: float | None = 1e-4


class Kida2020(CycleGAN):
    """CycleGAN from cone-beam to planning CT, air kept: Kida, Kaji et al., Med. Phys. 47 (2020)."""

    Config = Kida2020Config


@dataclass(frozen=True)
class Zhang2018Config(CycleGANConfig):
    """Zhang, Yang, Zheng 2018: volumes, cycle 10, shape 1 (recalled); the method needs `segmentors`."""

    generator: str = "UNetGenerator"
    generator_options: Options = field(default_factory=lambda: {"depth": 4, "norm": "instance"})
    losses: Losses = (("cycle", 10.0), ("shape", 1.0))
    dim: int = 3


class Zhang2018(CycleGAN):
    """CycleGAN of volumes that segment alike before and after: Zhang, Yang, Zheng, CVPR 2018.

    Their segmentors learn along, on true and translated volumes, from labels of both sides; here they are
    given, trained (see `CycleGAN`).
    """

    Config = Zhang2018Config

    @classmethod
    def examples(cls) -> list[Any]:
        """None: it cannot be fitted without segmentors."""
        return []
