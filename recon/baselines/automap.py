"""AUTOMAP: from data to image without a forward model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import spread
from priors.networks.automap import Automap, weights
from priors.networks.seeds import seeded

from ..data.sets import PairedData, UnpairedData
from ..learned import Learned, TrainedFor, squared
from ..problem import Problem
from ..training import TrainingConfig, within

MOMENTS = {"adam": 2, "adamw": 2, "rmsprop": 1, "sgd": 1}
"""Numbers that an optimiser keeps for every weight"""


@dataclass(frozen=True)
class AUTOMAPConfig(TrainingConfig):
    """Zhu et al. 2018: full layers as wide as the image, 64 features, RMSProp 2e-5, batches of 100.

    hidden : width of the first full layer; None for the number of pixels
    features : of the convolutions
    rank : of the full layers; None for full, as in the paper. A small rank keeps the weights of a 64² image
        at 4 MB instead of 56 (float16), and is another, smaller model
    output : "image", complex where the training images are, as two channels (the paper trains a network for
        each); or "magnitude", |x| of complex images, with phase zero
    jitter : training data are multiplied by U(1 − jitter, 1 + jitter)
    sparsity : weight of the mean absolute value of the last features
    memory_limit : bytes that weights, their gradients and the optimiser may take together; more is an error
        before anything is allocated. The paper's network for 128² needs 9.7e9
    """

    hidden: int | None = None
    features: int = 64
    rank: int | None = None
    jitter: float = 0.01
    sparsity: float = 1e-4
    optimizer: Literal["adam", "rmsprop"] = "rmsprop"
    learning_rate: float = 2e-5
    beta2: float = 0.9
    batch_size: int = 100
    steps: int = 50_000
    output: Literal["image", "magnitude"] = "image"
    memory_limit: float = 4e9

    def __post_init__(self) -> None:
        super().__post_init__()
        within("AUTOMAP features", self.features, 1, 10_000)
        for name in ("hidden", "rank"):
            if getattr(self, name) is not None:
                within(f"AUTOMAP {name}", getattr(self, name), 1, 10_000_000)
        if self.output not in ("image", "magnitude"):
            raise ValueError(f"AUTOMAP output: expected 'image' or 'magnitude', got {self.output!r}")
        for name, value, least in (("jitter", self.jitter, 0), ("sparsity", self.sparsity, 0)):
            if not isinstance(value, int | float) or not least <= value < math.inf:
                raise ValueError(f"AUTOMAP {name}: expected a number from {least}, got {value!r}")
        if not isinstance(self.memory_limit, int | float) or not self.memory_limit > 0:
            raise ValueError(f"AUTOMAP memory_limit: expected bytes above 0, got {self.memory_limit!r}")


class AUTOMAP(Learned):
    """x = conv(conv(W₂ tanh(W₁ y))): full layers learn the inversion, convolutions clean up.

    Zhu, Liu, Rosen, Rosen, Nature 555 (2018). Knows nothing of the geometry, so it needs many images and
    serves one scanner only; a baseline, alike for CT (post-log line integrals), PET (counts as their noise
    model linearises them) and MR: complex data are their real and imaginary parts, all of k-space, with zeros
    where nothing was measured, in which weights are wasted. Data are divided by ‖A‖. Planar images only.
    """

    name = "automap"
    data_kind = "paired"
    tier = "B"
    Config = AUTOMAPConfig

    def build(self, scanner: TrainedFor) -> None:
        c = self.config
        if len(scanner.in_shape) != 2:
            raise ValueError(f"AUTOMAP.fit data: expected images (ny, nx), got {scanner.in_shape}")
        ny, nx = scanner.in_shape
        parts = 1 + scanner.complex
        inside, outside = parts * math.prod(scanner.out_shape), parts if c.output == "image" else 1
        self._check_memory(inside, ny * nx, outside)
        with seeded(c.seed):
            self.network = Automap(inside, (ny, nx), c.hidden, c.features, c.rank, outside)
        self.trained_for = scanner

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        return self._images(self._seen(y))[0]

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        c = self.config
        y, scale = self.inside(problem)
        y = self._seen(y)
        noise = torch.rand(y.shape, generator=generator, dtype=y.dtype).to(y.device)
        x, features = self._images(y * (1 + c.jitter * (2 * noise - 1)))
        truth = images / spread(scale, 2)
        truth = truth.abs() if c.output == "magnitude" else truth
        return squared(x - truth).mean() + c.sparsity * features.abs().mean()

    def after_fit(self, data: PairedData | UnpairedData) -> None:
        """The card says if the full layers are not full."""
        if self.config.rank is not None:
            self.record["model"] = f"full layers of rank {self.config.rank}; the paper's have full rank"

    def _seen(self, y: Tensor) -> Tensor:
        """What the network sees, (n, numbers): real parts, then imaginary ones."""
        assert self.trained_for is not None
        y = y.flatten(1) / self.trained_for.norm
        return torch.cat([y.real, y.imag], 1) if y.is_complex() else y

    def _images(self, y: Tensor) -> tuple[Tensor, Tensor]:
        x, features = self.network(y)
        if x.ndim == 4:
            x = torch.complex(x[:, 0].contiguous(), x[:, 1].contiguous())
        return x, features

    def _check_memory(self, inside: int, pixels: int, outside: int) -> None:
        c = self.config
        hidden = c.hidden or pixels
        numbers = weights(inside, pixels, hidden, c.rank, outside)
        copies = 2 + MOMENTS[c.optimizer] + (c.average is not None) + (c.choose == "best")
        needed = 4 * copies * numbers
        if needed <= c.memory_limit:
            return
        rank = max(1, min(128, pixels // 8)) if c.rank is None else max(1, c.rank // 2)
        less = 4 * copies * weights(inside, pixels, hidden, rank, outside)
        raise ValueError(
            f"AUTOMAP: {inside} numbers in and {outside * pixels} out make {numbers:,} weights, and to train "
            f"them takes {needed / 1e9:.3g} GB (weights, gradients, {c.optimizer}), more than memory_limit = "
            f"{c.memory_limit:.3g} bytes; with rank={rank} it is {less / 1e9:.3g} GB, for a smaller model; "
            "or give fewer pixels, a smaller `hidden`, or a higher memory_limit"
        )

    @classmethod
    def examples(cls) -> list[Any]:
        tiny = {"steps": 2, "batch_size": 2, "features": 4, "hidden": 16}
        return [cls(**tiny), cls(**tiny, rank=3)]
