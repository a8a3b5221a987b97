"""Noise2Inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from operators import LinearOperator, fbp
from priors.networks.dropout import dropping

from ..baselines.postprocess import FBPUNet
from ..learned import TrainedFor, squared
from ..problem import Problem
from ..unrolled.base import one_of
from .base import Part, SelfSupervised, SelfSupervisedConfig, parts


@dataclass(frozen=True)
class Noise2InverseConfig(SelfSupervisedConfig):
    """Hendriksen, Pelt, Batenburg 2020: four parts, X:1, Adam 1e-3, mean squared error.

    strategy : "X:1" sees all parts but one and predicts that one; "1:X" sees one and predicts the others
    domain : "image" predicts the filtered back projection of the views held out; "data" predicts their rays,
        which also holds for few views, where the filtered back projection of a part is full of streaks
    filter : of the filtered back projection predicted
    """

    strategy: Literal["X:1", "1:X"] = "X:1"
    domain: Literal["image", "data"] = "image"
    filter: str = "ram-lak"
    batch_size: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("Noise2Inverse strategy", self.strategy, ("X:1", "1:X"))
        one_of("Noise2Inverse domain", self.domain, ("image", "data"))


class Noise2Inverse(SelfSupervised):
    """min_f E_j ‖f(y_J) − R_j y_j‖²,   x = mean_J f(y_J): one part of the views predicts the other.

    Hendriksen, Pelt, Batenburg, IEEE Trans. Comput. Imaging 6 (2020). y_J are the parts seen, R_j y_j the
    filtered back projection of those held out (with domain="data": ‖A_j f(y_J) − y_j‖², as Sparse2Inverse).

    Valid where the noise of different views is independent and has mean 0 after linearisation: then
    E‖f(y_J) − R_j y_j‖² = E‖f(y_J) − R_j E[y_j]‖² + a constant, and noise can not be learned. The target is
    the clean *reconstruction*, not the truth: what R_j gets wrong with so few views remains (ring artefacts,
    scatter and beam hardening too, as these are the same in all parts).

    A post-processing network sees the mean of the filtered back projections of its parts, an unrolled one
    their views.
    """

    name: ClassVar[str] = "noise2inverse"
    Config = Noise2InverseConfig

    def build(self, scanner: TrainedFor) -> None:
        super().build(scanner)
        if len(scanner.in_shape) != 2:
            raise ValueError(f"Noise2Inverse: needs a scan in the plane, got images {scanner.in_shape}")

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        """Squared error to what the views held out say; which ones, `generator` decides."""
        y, _ = self.inside(problem)
        j = int(torch.randint(self.config.splits, (), generator=generator))
        with dropping(self, generator):
            return self.prediction_error(problem.A, y, j).mean()

    def prediction_error(self, A: LinearOperator, y: Tensor, j: int) -> Tensor:
        """Mean squared error of predicting what is held out of pair j, per image."""
        x, target = self.predicted(A, y, j), self._chosen(j)[1]
        if self.config.domain == "image":
            return squared(x - self._mean_fbp(A, y, target, self.config.filter)).flatten(1).mean(1)
        assert self.trained_for is not None
        wrong = [squared(p.A(x) - y[:, p.views]).flatten(1) for p in self._some(A, target)]
        return torch.cat(wrong, 1).mean(1) / self.trained_for.norm**2

    def predicted(self, A: LinearOperator, y: Tensor, j: int) -> Tensor:
        """Images of size 1 from the parts seen of pair j."""
        seen, _ = self._chosen(j)
        if isinstance(self.method, FBPUNet):
            c = self.method.config
            x = self._mean_fbp(A, y, seen, c.filter, c.frequency_scaling)
            return self.method.corrected(x)
        part = parts(A, self.config.splits)[j]
        if self.config.strategy == "1:X":
            return self.of_views(part.A, y[:, part.views], len(y[0]))
        return self.of_views(part.others, y[:, part.other_views], len(y[0]))

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        count = self.config.splits
        total = self.predicted(A, y, 0)
        for j in range(1, count):
            total = total + self.predicted(A, y, j)
        return total / count

    @torch.no_grad()
    def held_out(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """As in the base class, every image from the parts that the network sees anyway."""
        y, _ = self.inside(problem)
        size = error = torch.zeros(len(y), dtype=y.dtype, device=y.device)
        for j in range(self.config.splits):
            x = self.predicted(problem.A, y, j)
            for part in self._some(problem.A, self._chosen(j)[1]):
                size = size + squared(y[:, part.views]).flatten(1).sum(1)
                error = error + squared(part.A(x) - y[:, part.views]).flatten(1).sum(1)
        return size, error

    def _chosen(self, j: int) -> tuple[list[int], list[int]]:
        """The parts seen, and those held out."""
        others = [k for k in range(self.config.splits) if k != j]
        return (others, [j]) if self.config.strategy == "X:1" else ([j], others)

    def _some(self, A: LinearOperator, which: list[int]) -> list[Part]:
        every = parts(A, self.config.splits)
        return [every[k] for k in which]

    def _mean_fbp(
        self, A: LinearOperator, y: Tensor, which: list[int], filter: str, scaling: float = 1.0
    ) -> Tensor:
        images = [fbp(p.A, y[:, p.views], filter, scaling) for p in self._some(A, which)]
        return torch.stack(images).mean(0)

    @classmethod
    def examples(cls) -> list[Noise2Inverse]:
        net = {"settings": {"base": 4, "depth": 2}, "splits": 2, "steps": 2, "batch_size": 2}
        unrolled = {"iterations": 2, "hidden": 4}
        return [
            cls(**net),
            cls(**net, domain="data", strategy="1:X"),
            cls(**{**net, "settings": unrolled}, method="learned-primal-dual", domain="data"),
        ]
