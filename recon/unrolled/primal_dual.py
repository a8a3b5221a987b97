"""Learned primal–dual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from operators import LinearOperator
from priors.networks.primal_dual import PrimalDual

from ..learned import TrainedFor
from ..training import within
from .base import Unrolled, UnrolledConfig, data_axes, one_of


@dataclass(frozen=True)
class LearnedPrimalDualConfig(UnrolledConfig):
    """Adler and Öktem 2018: ten iterations, five channels, 32 hidden; each batch is used for ten steps.

    shared : the same weights in all iterations, instead of some for each
    primal : nets of the image are three "convolutions", as in the paper, or a "unet" of `depth` scales,
        `hidden` channels at the finest
    """

    iterations: int = 10
    channels: int = 5
    hidden: int = 32
    reuse: int = 10
    shared: bool = False
    primal: Literal["convolutions", "unet"] = "convolutions"
    depth: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        within("LearnedPrimalDual iterations", self.iterations, 1, 1000)
        within("LearnedPrimalDual channels", self.channels, 2, 10_000)
        within("LearnedPrimalDual hidden", self.hidden, 1, 10_000)
        within("LearnedPrimalDual depth", self.depth, 1, 12)
        one_of("LearnedPrimalDual primal", self.primal, ("convolutions", "unet"))


class LearnedPrimalDual(Unrolled):
    """h ← h + Γᵢ(h, A f⁽²⁾, y),   f ← f + Λᵢ(f, A*h⁽¹⁾): primal–dual iterations with learned steps.

    Adler and Öktem, IEEE Trans. Med. Imaging 37 (2018). Trained by the squared error to the truth. Γ works on
    sinograms and on k-space, coil by coil; on samples of a trajectory along their order.
    """

    Config = LearnedPrimalDualConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        self.network = PrimalDual(
            c.iterations, c.channels, c.hidden, c.shared, c.primal, c.depth, scanner.complex, c.checkpoint
        )

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        return self.network(A, y, data_axes(A))

    @classmethod
    def examples(cls) -> list[LearnedPrimalDual]:
        small = {"iterations": 2, "channels": 2, "hidden": 4, "steps": 2, "batch_size": 2}
        return [
            cls(**small),
            cls(**small, shared=True, primal="unet", depth=2, checkpoint=True, normalise="data"),
        ]
