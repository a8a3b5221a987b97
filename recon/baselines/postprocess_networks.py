"""Published networks after a direct reconstruction, each with its paper's values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from priors import networks
from priors.networks.blocks import Norm
from priors.networks.centred import Centred

from ..train_config import Optimizer, Schedule
from ..training import within
from .postprocess import PostProcessing, PostProcessingConfig


@dataclass(frozen=True)
class FBPConvNetConfig(PostProcessingConfig):
    """Jin et al. 2017: 64 … 1024 channels, batch norm; momentum 0.99, rate 0.01 falling, one image a step.

    Their rate falls to 0.001 in a logarithmic ramp, here by cosine to 0; their bound of 0.01 on every value
    of the gradient is one on its norm.

    base, depth : channels of the finest scale, doubled at each of `depth` scales
    norm : "none", "group", "instance", "layer" or "batch"
    down, up : "stride", "max" or "avg"; "linear", "nearest", "transposed" or "shuffle"
    skips : "concat", "add" or "none"
    and the settings of `PostProcessingConfig`
    """

    base: int = 64
    depth: int = 5
    norm: Norm = "batch"
    down: Literal["stride", "max", "avg"] = "max"
    up: Literal["linear", "nearest", "transposed", "shuffle"] = "transposed"
    skips: Literal["concat", "add", "none"] = "concat"
    dropout: float = 0.0
    filter: str = "ram-lak"
    optimizer: Optimizer = "sgd"
    learning_rate: float = 1e-2
    beta1: float = 0.99
    clip: float | None = 1e-2
    batch_size: int = 1
    steps: int = 48_000

    def __post_init__(self) -> None:
        super().__post_init__()
        within("FBPConvNet base", self.base, 1, 10_000)
        within("FBPConvNet depth", self.depth, 1, 12)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"FBPConvNet dropout: expected a number from 0 to below 1, got {self.dropout}")


class FBPConvNet(PostProcessing):
    """x = x₀ + f(x₀),  x₀ = FBP(y), f a U-Net with batch norm and maximum pooling.

    Jin, McCann, Froustey, Unser, IEEE Trans. Image Process. 26 (2017). Planes, neighbouring slices or volumes
    (`dim`), and every part of the U-Net by a setting: see `priors.networks.EncoderDecoder`.
    """

    Config = FBPConvNetConfig
    residual = True
    name = "fbpconvnet"

    def make(self, inside: int, outside: int) -> nn.Module:
        c = self.config
        widths = [c.base * 2**k for k in range(c.depth)]
        network = networks.EncoderDecoder(
            inside, outside, widths, c.skips, c.norm, down=c.down, up=c.up, dropout=c.dropout, dim=c.dim
        )
        nn.init.zeros_(network.last[0].weight)  # type: ignore[arg-type]
        nn.init.zeros_(network.last[0].bias)  # type: ignore[arg-type]
        return network

    @classmethod
    def examples(cls) -> list[Any]:
        tiny = {"base": 4, "depth": 2, "steps": 2, "batch_size": 2}
        return [cls(**tiny), cls(**tiny, norm="none", down="avg", up="shuffle", skips="add")]


@dataclass(frozen=True)
class ZeroFilledUNetConfig(FBPConvNetConfig):
    """Zbontar et al. 2018 (fastMRI): 32 channels, four times halved, instance norm, RMSProp 1e-3, ℓ₁.

    Theirs sees magnitudes, here complex images are two channels. The rate falls to a tenth at step 80 000.
    """

    base: int = 32
    norm: Norm = "instance"
    down: Literal["stride", "max", "avg"] = "avg"
    optimizer: Optimizer = "rmsprop"
    learning_rate: float = 1e-3
    beta1: float = 0.9
    clip: float | None = None
    schedule: Schedule = "step"
    milestones: tuple[int, ...] = (80_000,)
    steps: int = 100_000


class ZeroFilledUNet(FBPConvNet):
    """x = x₀ + m + s f((x₀ − m)/s),  x₀ zero-filled, f a U-Net; m and s the mean and spread of every channel.

    Zbontar et al., arXiv 1811.08839 (the baseline of fastMRI), with x₀ added to what the network says. Starts
    as zero filling; the result scales with the data. Trained by mean |x − truth|.
    """

    Config = ZeroFilledUNetConfig
    name = "zero-filled-unet"

    def make(self, inside: int, outside: int) -> nn.Module:
        # the spread of several channels cannot be given back to fewer
        network = super().make(inside, outside)
        return Centred(network, outside)

    def distance(self, x: Tensor, truth: Tensor) -> Tensor:
        return (x - truth).abs().mean()


@dataclass(frozen=True)
class REDCNNConfig(PostProcessingConfig):
    """Chen et al. 2017: 96 channels, pieces of 55², Adam 1e-4 falling to 1e-5 (here by cosine to 0).

    width : channels of every layer
    and the settings of `PostProcessingConfig`
    """

    width: int = 96
    patch: int | None = 55
    learning_rate: float = 1e-4
    beta2: float = 0.999
    clip: float | None = None
    batch_size: int = 64
    steps: int = 93_000

    def __post_init__(self) -> None:
        super().__post_init__()
        within("REDCNN width", self.width, 1, 10_000)
        _alone("REDCNN", self)


class REDCNN(PostProcessing):
    """x = f(x₀),  x₀ = FBP(y): convolutions that shrink the image and transposed ones back, joined by sums.

    Chen et al., IEEE Trans. Med. Imaging 36 (2017), without the last rectifier where images may be negative.
    """

    Config = REDCNNConfig
    name = "red-cnn"

    def make(self, inside: int, outside: int) -> nn.Module:
        return networks.REDCNN(outside, self.config.width, last="none", dim=self.config.dim)

    @classmethod
    def examples(cls) -> list[Any]:
        return [cls(width=4, steps=2, batch_size=2, patch=8)]


@dataclass(frozen=True)
class CNN10Config(PostProcessingConfig):
    """Chen et al. 2017, as Eulig et al. 2024 tune it: pieces of 92², batches of 68, rate 1.58e-4.

    channels : of the two hidden layers
    and the settings of `PostProcessingConfig`
    """

    channels: tuple[int, int] = (64, 32)
    patch: int | None = 92
    learning_rate: float = 1.58e-4
    beta2: float = 0.999
    clip: float | None = None
    batch_size: int = 68
    steps: int = 86_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.channels, tuple) or len(self.channels) != 2:
            raise ValueError(f"CNN10 channels: expected two numbers, got {self.channels!r}")
        for value in self.channels:
            within("CNN10 channels", value, 1, 10_000)


class CNN10(PostProcessing):
    """x = f(x₀),  x₀ = FBP(y): three convolutions. Chen et al., Biomed. Opt. Express 8 (2017)."""

    Config = CNN10Config
    name = "cnn-10"

    def make(self, inside: int, outside: int) -> nn.Module:
        return networks.CNN10(inside, outside, self.config.channels, dim=self.config.dim)

    @classmethod
    def examples(cls) -> list[Any]:
        return [cls(channels=(4, 3), steps=2, batch_size=2, patch=8)]


@dataclass(frozen=True)
class ResNetConfig(PostProcessingConfig):
    """The residual generator of Johnson et al. 2016 and Zhu et al. 2017 as a regression: no discriminator.

    Training values are ours, those of RED-CNN.

    base, blocks, downs : width, residual blocks, and how often the image is halved
    norm : "none", "group", "instance", "layer" or "batch"; the paper's "instance" takes the brightness out of
        an image, which for attenuation is what one wants to know
    and the settings of `PostProcessingConfig`
    """

    base: int = 64
    blocks: int = 9
    downs: int = 2
    norm: Norm = "none"
    patch: int | None = 64
    learning_rate: float = 1e-4
    beta2: float = 0.999
    clip: float | None = 1.0
    batch_size: int = 16
    steps: int = 90_000

    def __post_init__(self) -> None:
        super().__post_init__()
        within("ResNet base", self.base, 1, 10_000)
        within("ResNet blocks", self.blocks, 1, 1000)
        within("ResNet downs", self.downs, 0, 8)


class ResNet(PostProcessing):
    """x = x₀ + f(x₀),  x₀ = FBP(y), f nine residual blocks at a quarter of the resolution."""

    Config = ResNetConfig
    residual = True
    name = "resnet"

    def make(self, inside: int, outside: int) -> nn.Module:
        c = self.config
        return networks.ResNetGenerator(
            inside, outside, c.base, c.blocks, c.downs, c.norm, last="none", dim=c.dim
        )

    @classmethod
    def examples(cls) -> list[Any]:
        return [cls(base=4, blocks=1, downs=1, steps=2, batch_size=2)]


@dataclass(frozen=True)
class UformerConfig(PostProcessingConfig):
    """Wang et al. 2022: base 32, windows of 8², pieces of 128², AdamW 2e-4, weight decay 0.02.

    base, depths, window : width of the finest scale, blocks at every scale, side of the windows
    and the settings of `PostProcessingConfig`
    """

    base: int = 32
    depths: tuple[int, ...] = (2, 2, 2, 2, 2)
    window: int = 8
    patch: int | None = 128
    optimizer: Optimizer = "adamw"
    learning_rate: float = 2e-4
    beta2: float = 0.999
    weight_decay: float = 0.02
    batch_size: int = 32
    steps: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for value in (self.base, self.window, len(self.depths), *self.depths):
            within("Uformer base, window, depths", value, 1, 10_000)
        _alone("Uformer", self)
        if self.dim != 2:
            raise ValueError(f"Uformer dim: its windows are of planes, expected 2, got {self.dim}")


class Uformer(PostProcessing):
    """x = x₀ + f(x₀),  x₀ = FBP(y), f a U-Net of attention within windows.

    Wang, Cun, Bao, Zhou, Liu, Li, CVPR 2022. Starts as FBP.
    """

    Config = UformerConfig
    name = "uformer"

    def make(self, inside: int, outside: int) -> nn.Module:
        c = self.config
        return networks.Uformer(outside, c.base, c.depths, c.window)

    @classmethod
    def examples(cls) -> list[Any]:
        return [cls(base=4, depths=(1, 1), window=4, steps=2, batch_size=2)]


def _alone(name: str, config: PostProcessingConfig) -> None:
    if config.stack > 1:
        raise ValueError(f"{name} stack: it adds its input by itself, expected 1, got {config.stack}")
