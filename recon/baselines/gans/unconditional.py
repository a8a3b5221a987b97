"""Images out of random numbers: DCGAN and progressive growing, taught by images alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from priors.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from priors.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from priors.networks.seeds import seeded

from ...checkpoints import beside, read_tensors, write_tensors
from ...data.sets import PairedData, UnpairedData
from ...losses import adversarial_mode, gradient_penalty
from ...problem import Problem
from ...training import Player, Progress, TrainingConfig, train, within

Schedule = Literal["cosine", "constant", "step", "inverse", "linear"]


@dataclass(frozen=True)
class SynthesisConfig(TrainingConfig):
    """How to learn to make images.

    size : side of the images [pixels], 4 · 2^k; that of the training images
    latent : random numbers that make an image
    """

    size: int = 64
    latent: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        within(f"{type(self).__name__} latent", self.latent, 1, 100_000)


class Synthesis(nn.Module):
    """x = G(z), z ~ N(0, 1): images like those of the training data, of nobody. Not a reconstruction.

    D learns to tell them from true images, G to deceive it. `fit(data)` sees the truths of `data`, square
    images of side `config.size`; `sample` gives images in their unit; `save` and `load` keep G.

    config : the class's frozen dataclass; single values may be given as keywords instead
    """

    Config: ClassVar[type[SynthesisConfig]]
    tier: ClassVar[Literal["A", "B", "C"]] = "B"
    window: Tensor

    def __init__(self, config: Any = None, **changes: Any):
        super().__init__()
        unknown = set(changes) - {f.name for f in fields(self.Config)}
        if unknown:
            raise ValueError(f"{type(self).__name__}: no such setting {', '.join(sorted(unknown))}")
        self.config: Any = replace(config or self.Config(), **changes)
        self.record: dict[str, Any] = {}
        with seeded(self.config.seed):
            self.network, judge = self.networks()
        self.retired: dict[str, nn.Module] = {"judge": judge}  # only training needs it
        self.register_buffer("window", torch.tensor([0.0, 0.0]))

    @abstractmethod
    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator, weights from the current seed."""

    @abstractmethod
    def judged(self, yes: Tensor, no: Tensor, real: Tensor, fake: Tensor, g: torch.Generator) -> Any:
        """What D lowers, by name, from its scores of real and fake images."""

    @abstractmethod
    def deceiving(self, scores: Tensor) -> Tensor:
        """What G lowers."""

    def fit(
        self,
        data: PairedData | UnpairedData,
        *,
        minutes: float | None = None,
        checkpoint: str | Path | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Learn from the images of `data`; see `recon.training.train` for the keywords."""
        c, name = self.config, type(self).__name__
        with seeded(c.seed):
            self.network, self.judge = self.networks()
        images = next(data.batches(32, torch.Generator().manual_seed(c.seed)))[1]
        if images.is_complex() or tuple(images.shape[1:]) != (c.size, c.size):
            raise ValueError(
                f"{name}.fit data: expected real images of {c.size} × {c.size}, got {images.dtype} of "
                f"{tuple(images.shape[1:])}; set size, or crop them"
            )
        low, high = float(images.min()), float(images.max())
        if not high > low:
            raise ValueError(f"{name}.fit data: the training images are constant")
        self.window = torch.tensor([low, high])
        self.to(images.device, images.dtype)
        players = [
            Player("discriminator", self.judge, self._d_loss, self.times, replace(c, average=None)),
            Player("generator", self.network, self._g_loss),
        ]
        try:
            progress = train(
                self, players, data, c, minutes=minutes, checkpoint=checkpoint, callback=callback
            )
        finally:
            self.retired = {"judge": cast(nn.Module, self._modules.pop("judge"))}
        self.record = {"data": data.name, "seed": c.seed, "steps": progress.step, "tier": self.tier}
        truth = data.validation[1]
        known, (low, high) = truth[torch.isfinite(truth)], self.window.tolist()
        self.record["window"] = [low, high]
        self.record["truths outside the window"] = (
            float(((known < low) | (known > high)).float().mean()) if known.numel() else None
        )
        self.finish()
        return self

    def times(self, step: int) -> int:
        """Steps of D in this step of training."""
        return 1

    def finish(self) -> None:
        """What is to be done with G when it has learned, or was loaded."""

    def real(self, images: Tensor) -> Tensor:
        """Images (n, ny, nx) as D sees them, (n, 1, …) in [−1, 1]."""
        low, high = self.window
        return 2 * (images[:, None] - low) / (high - low) - 1

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n images (n, size, size), in the unit of the training images; the same for a seed."""
        if not bool(self.window[1] > self.window[0]):
            raise ValueError(f"{type(self).__name__}.sample: nothing learned yet: call fit(data) first")
        self.eval()
        x = self.network(self._z(n, torch.Generator().manual_seed(seed)))[:, 0]
        return self.window[0] + (x + 1) / 2 * (self.window[1] - self.window[0])

    def save(self, path: str | Path) -> Path:
        """Write G and the configuration to `path`.safetensors."""
        if not bool(self.window[1] > self.window[0]):
            raise ValueError(f"{type(self).__name__}.save: nothing learned yet: call fit(data) first")
        file = beside(path, ".safetensors")
        header = {"method": type(self).__name__, "config": asdict(self.config), "training": self.record}
        write_tensors(file, self.state_dict(), header)
        return file

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote."""
        file = beside(path, ".safetensors")
        tensors, header = read_tensors(file)
        if header.get("method") != cls.__name__:
            raise ValueError(f"{file}: expected weights of {cls.__name__}, got {header.get('method')!r}")
        config = {k: tuple(v) if isinstance(v, list) else v for k, v in header["config"].items()}
        made = cls(**config)
        try:
            made.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{file}: weights of another network ({error})") from None
        made.record = header["training"]
        made.finish()
        return made.eval().requires_grad_(False)

    def _z(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.config.latent, generator=generator).to(self.window)

    def _d_loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Any:
        real = self.real(images)
        with torch.no_grad():
            fake = self.network(self._z(len(images), generator))
        return self.judged(self.judge(real), self.judge(fake), real, fake, generator)

    def _g_loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Any:
        return {"adversarial": self.deceiving(self.judge(self.network(self._z(len(images), generator))))}


@dataclass(frozen=True)
class DCGANConfig(SynthesisConfig):
    """Radford, Metz, Chintala 2016: 100 numbers, 1024 channels at 4 × 4, Adam 2e-4 (0.5, 0.999), 128.

    base : channels of the finest hidden scale, doubled at each coarser one
    norm : "batch" as there
    """

    base: int = 128
    norm: Literal["none", "group", "instance", "batch"] = "batch"
    batch_size: int = 128
    steps: int = 100_000
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    schedule: Schedule = "constant"
    clip: float | None = None


class DCGAN(Synthesis):
    """Transposed convolutions, logistic losses: Radford, Metz, Chintala, ICLR 2016."""

    Config = DCGANConfig
    mode = adversarial_mode("gan")

    def networks(self) -> tuple[nn.Module, nn.Module]:
        c = self.config
        return (
            DCGANGenerator(c.latent, c.size, 1, c.base, c.norm),
            DCGANDiscriminator(c.size, 1, c.base, c.norm),
        )

    def judged(self, yes: Tensor, no: Tensor, real: Tensor, fake: Tensor, g: torch.Generator) -> Any:
        return {"real": self.mode.real(yes).mean(), "fake": self.mode.fake(no).mean()}

    def deceiving(self, scores: Tensor) -> Tensor:
        return self.mode.generator(scores)


@dataclass(frozen=True)
class ProgressiveGANConfig(SynthesisConfig):
    """Karras et al. 2018: from 4 × 4, each scale faded in, then kept; WGAN-GP 10, drift 1e-3, average 0.999.

    fade, keep_scale : steps in which a scale is faded in, and kept; the rest of `steps` is of the finest.
        Theirs are 600 000 to 800 000 images each: with 16 a step, 40 000 steps
    widest, product : of the channels, see `priors.networks.ProgressiveGenerator`
    penalty, drift : of the critic
    """

    latent: int = 512
    size: int = 256
    fade: int = 40_000
    keep_scale: int = 40_000
    widest: int = 512
    product: int = 16384
    penalty: float = 10.0
    drift: float = 1e-3
    batch_size: int = 16
    steps: int = 600_000
    learning_rate: float = 1e-3
    beta1: float = 0.0
    beta2: float = 0.99
    average: float | None = 0.999
    schedule: Schedule = "constant"
    clip: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("fade", "keep_scale"):
            within(f"ProgressiveGAN {key}", getattr(self, key), 1, 10**9)


class ProgressiveGAN(Synthesis):
    """Generator and critic grow together from 4 × 4 pixels: Karras, Aila, Laine, Lehtinen, ICLR 2018.

    One trained for fewer steps than it takes to grow up gives images of the side it has come to.
    """

    Config = ProgressiveGANConfig
    network: ProgressiveGenerator
    judge: ProgressiveDiscriminator

    def networks(self) -> tuple[nn.Module, nn.Module]:
        c = self.config
        return (
            ProgressiveGenerator(c.latent, c.size, 1, c.widest, c.product),
            ProgressiveDiscriminator(c.size, 1, c.widest, c.product),
        )

    def stage(self, step: int) -> tuple[int, float]:
        """(level, alpha) in a step of training: the first scale is kept, each after it faded in and kept."""
        c = self.config
        since = step - c.keep_scale
        if since < 0:
            return 0, 1.0
        level, inside = 1 + since // (c.fade + c.keep_scale), since % (c.fade + c.keep_scale)
        if level >= self.network.levels:
            return self.network.levels - 1, 1.0
        return level, min(1.0, (inside + 1) / c.fade)

    def times(self, step: int) -> int:
        for network in (self.network, self.judge):
            network.grown(*self.stage(step))
        return 1

    def finish(self) -> None:
        self.network.grown(*self.stage(max(0, self.record["steps"] - 1)))

    def real(self, images: Tensor) -> Tensor:
        x = super().real(images)
        x = functional.avg_pool2d(x, self.config.size // self.judge.side)
        if self.judge.alpha < 1:
            coarse = functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2, mode="nearest")
            x = torch.lerp(coarse, x, self.judge.alpha)
        return x

    def judged(self, yes: Tensor, no: Tensor, real: Tensor, fake: Tensor, g: torch.Generator) -> Any:
        c = self.config
        mode = adversarial_mode("wgan", drift=c.drift)
        penalty = gradient_penalty(self.judge, real, fake, g, c.penalty)
        return {"real": mode.real(yes).mean(), "fake": mode.fake(no).mean(), "penalty": penalty}

    def deceiving(self, scores: Tensor) -> Tensor:
        return -scores.mean()
