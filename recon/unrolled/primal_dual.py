"""Learned primal–dual."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators import LinearOperator
from priors.networks.primal_dual import PrimalDual
from priors.networks.seeds import seeded

from ..learned import Learned, TrainedFor
from ..training import TrainingConfig, within


@dataclass(frozen=True)
class LearnedPrimalDualConfig(TrainingConfig):
    """Adler and Öktem 2018: ten iterations, five channels, 32 hidden; each batch is used for ten steps."""

    iterations: int = 10
    channels: int = 5
    hidden: int = 32
    reuse: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        within("LearnedPrimalDual iterations", self.iterations, 1, 1000)
        within("LearnedPrimalDual channels", self.channels, 2, 10_000)
        within("LearnedPrimalDual hidden", self.hidden, 1, 10_000)


class LearnedPrimalDual(Learned):
    """h ← h + Γᵢ(h, A f⁽²⁾, y),   f ← f + Λᵢ(f, A*h⁽¹⁾): primal–dual iterations with learned steps.

    Adler and Öktem, IEEE Trans. Med. Imaging 37 (2018). Trained by the squared error to the truth.
    """

    data_kind = "paired"
    Config = LearnedPrimalDualConfig

    def build(self, scanner: TrainedFor) -> None:
        c = self.config
        with seeded(c.seed):
            self.network = PrimalDual(c.iterations, c.channels, c.hidden)
        self.trained_for = scanner

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        assert self.trained_for is not None
        norm = self.trained_for.norm
        return self.network((1 / norm) * A, y / norm)

    @classmethod
    def examples(cls) -> list[LearnedPrimalDual]:
        return [cls(iterations=2, channels=2, hidden=4, steps=2, batch_size=2)]
