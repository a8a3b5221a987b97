"""AUTOMAP: from data to image without a forward model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from operators import LinearOperator
from priors.networks.automap import Automap
from priors.networks.seeds import seeded

from ..data.sets import PairedData, UnpairedData
from ..learned import Learned, TrainedFor
from ..problem import Problem
from ..training import TrainingConfig, within


@dataclass(frozen=True)
class AUTOMAPConfig(TrainingConfig):
    """Zhu et al. 2018: full layers as wide as the image, 64 features, RMSProp 2e-5, batches of 100.

    hidden : width of the first full layer; None for the number of pixels
    features : of the convolutions
    rank : of the full layers; None for full, as in the paper. A small rank keeps the weights of a 64² image
        at 4 MB instead of 56 (float16), and is another, smaller model
    jitter : training data are multiplied by U(1 − jitter, 1 + jitter)
    sparsity : weight of the mean absolute value of the last features
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

    def __post_init__(self) -> None:
        super().__post_init__()
        within("AUTOMAP features", self.features, 1, 10_000)
        for name in ("hidden", "rank"):
            if getattr(self, name) is not None:
                within(f"AUTOMAP {name}", getattr(self, name), 1, 10_000_000)


class AUTOMAP(Learned):
    """x = conv(conv(W₂ tanh(W₁ y))): full layers learn the inversion, convolutions clean up.

    Zhu, Liu, Rosen, Rosen, Nature 555 (2018). Knows nothing of the geometry, so it needs many images and
    serves one scanner only; a baseline. Data are post-log line integrals divided by ‖A‖.
    """

    name = "automap"
    data_kind = "paired"
    Config = AUTOMAPConfig

    def build(self, scanner: TrainedFor) -> None:
        c = self.config
        ny, nx = scanner.in_shape
        with seeded(c.seed):
            self.network = Automap(math.prod(scanner.out_shape), (ny, nx), c.hidden, c.features, c.rank)
        self.trained_for = scanner

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        return self.network(self._scaled(y))[0]

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        scale, c = self.scanner(problem).image_scale, self.config
        y = self._scaled(problem.linear / scale)
        noise = torch.rand(y.shape, generator=generator, dtype=y.dtype).to(y.device)
        x, features = self.network(y * (1 + c.jitter * (2 * noise - 1)))
        return (x - images / scale).square().mean() + c.sparsity * features.abs().mean()

    def after_fit(self, data: PairedData | UnpairedData) -> None:
        """The card says if the full layers are not full."""
        if self.config.rank is not None:
            self.record["model"] = f"full layers of rank {self.config.rank}; the paper's have full rank"

    def _scaled(self, y: Tensor) -> Tensor:
        assert self.trained_for is not None
        return y.flatten(1) / self.trained_for.norm

    @classmethod
    def examples(cls) -> list[AUTOMAP]:
        tiny = {"steps": 2, "batch_size": 2, "features": 4, "hidden": 16}
        return [cls(**tiny), cls(**tiny, rank=3)]
