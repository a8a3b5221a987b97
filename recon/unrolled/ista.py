"""ISTA-Net."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from operators import LinearOperator
from operators.tensors import spread
from priors.networks.channels import on_planes, to_planes
from priors.networks.shrinkage import Shrinkage

from ..learned import TrainedFor
from ..problem import Problem
from ..training import within
from .base import Start, Unrolled, UnrolledConfig, at_least, first_image


@dataclass(frozen=True)
class ISTANetConfig(UnrolledConfig):
    """Zhang and Ghanem 2018: nine phases of 32 features, first step and threshold 0.1, batches of 64.

    plus : ISTA-Net⁺, which shrinks what is missing from r, instead of r
    symmetry : weight of the loss that makes H̃ the inverse of H
    step, threshold : first values, one of each learned in every phase
    start : the image to begin with, see `recon.unrolled.base.first_image`
    """

    phases: int = 9
    features: int = 32
    plus: bool = True
    symmetry: float = 0.01
    step: float = 0.1
    threshold: float = 0.1
    start: Start = "auto"
    learning_rate: float = 1e-4
    batch_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        within("ISTANet phases", self.phases, 1, 1000)
        within("ISTANet features", self.features, 1, 10_000)
        for name in ("symmetry", "step", "threshold"):
            at_least(f"ISTANet {name}", getattr(self, name), 0.0)


class ISTANet(Unrolled):
    """r = x − ρ A*(A x − y),   x ← r + G H̃ S_θ(H D r): proximal gradient with a learned sparse transform.

    Zhang and Ghanem, CVPR 2018 (ISTA-Net⁺; x ← H̃ S_θ(H r) without `plus`). The loss is the mean of
    (x − truth)² + symmetry · (H̃ H D r − D r)² over the phases.
    """

    Config = ISTANetConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        channels = 2 if scanner.complex else 1
        self.shrinkage = nn.ModuleList(
            Shrinkage(channels, c.features, c.threshold, c.plus) for _ in range(c.phases)
        )
        self.steps = nn.Parameter(torch.full((c.phases,), float(c.step)))

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        return self.phases(A, y)[0]

    def phases(self, A: LinearOperator, y: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and the mean asymmetry of all phases."""

        def phase(net: Shrinkage, step: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            r = (x - step * A.adjoint(A(x) - y))[:, None]
            return on_planes(net, r)[:, 0], net.asymmetry(to_planes(r))

        x = first_image(A, y, self.config.start)
        total = torch.zeros((), dtype=self.steps.dtype, device=y.device)
        for net, step in zip(self.shrinkage, self.steps, strict=True):
            x, value = self.again(phase, net, step, x)
            total = total + value
        return x, total / len(self.steps)

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        y, scale = self.inside(problem)
        norm = self.scanner(problem).norm
        x, asymmetry = self.phases((1 / norm) * problem.A, y / norm)
        truth = images / spread(scale, len(problem.A.in_shape))
        return self.distance(x, truth) + self.config.symmetry * asymmetry

    @classmethod
    def examples(cls) -> list[ISTANet]:
        small = {"phases": 2, "features": 4, "steps": 2, "batch_size": 2}
        return [cls(**small), cls(**small, plus=False, checkpoint=True, normalise="data")]
