"""Variational network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from operators import LinearOperator
from priors.networks.channels import on_planes, real_channels
from priors.networks.experts import Experts

from ..learned import TrainedFor
from ..training import within
from .base import Start, Unrolled, UnrolledConfig, at_least, first_image


@dataclass(frozen=True)
class VariationalNetworkConfig(UnrolledConfig):
    """Hammernik et al. 2018: ten stages of 11×11 filters, 31 Gaussians each; 24 filters as in their code.

    The paper has 48 filters and a proximal optimiser (IIPG), here it is Adam.

    filters, size, nodes : of the experts of a stage
    reach : activations are learned for filter responses in [−reach, reach], the image being of size 1
    weight : first λ of every stage
    start : the image to begin with, see `recon.unrolled.base.first_image`
    """

    stages: int = 10
    filters: int = 24
    size: int = 11
    nodes: int = 31
    reach: float = 1.0
    weight: float = 0.5
    start: Start = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        within("VariationalNetwork stages", self.stages, 1, 1000)
        within("VariationalNetwork filters", self.filters, 1, 10_000)
        within("VariationalNetwork size", self.size, 1, 101)
        within("VariationalNetwork nodes", self.nodes, 2, 10_000)
        if self.size % 2 == 0:
            raise ValueError(f"VariationalNetwork size: expected an odd number, got {self.size}")
        at_least("VariationalNetwork reach", self.reach, 1e-12)
        at_least("VariationalNetwork weight", self.weight, 0.0)


class VariationalNetwork(Unrolled):
    """x ← x − Σᵢ Kᵢᵀ φᵢ'(Kᵢ x) − λ A*(A x − y): gradient descent, its filters and potentials learned.

    Hammernik et al., Magn. Reson. Med. 79 (2018) 3055. Every stage has its own filters, potentials and λ.
    """

    Config = VariationalNetworkConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        channels = real_channels(1, scanner.complex)
        self.experts = nn.ModuleList(
            Experts(channels, c.filters, c.size, c.nodes, c.reach) for _ in range(c.stages)
        )
        self.weights = nn.Parameter(torch.full((c.stages,), float(c.weight)))

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        def stage(experts: Experts, weight: Tensor, x: Tensor) -> Tensor:
            return x - on_planes(experts, x[:, None])[:, 0] - weight * A.adjoint(A(x) - y)

        x = first_image(A, y, self.config.start)
        for experts, weight in zip(self.experts, self.weights, strict=True):
            x = self.again(stage, experts, weight, x)
        return x

    @classmethod
    def examples(cls) -> list[VariationalNetwork]:
        small = {"stages": 2, "filters": 3, "size": 5, "nodes": 7, "steps": 2, "batch_size": 2}
        return [cls(**small), cls(**small, start="zero", checkpoint=True, normalise="data")]
