"""Model-based deep learning: a denoiser and the exact solution of the data term, in turns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator
from priors.networks.channels import Convolutions, on_planes, real_channels

from ..learned import TrainedFor
from ..training import within
from .base import Start, Unrolled, UnrolledConfig, at_least, first_image, one_of
from .implicit import cg_solve


@dataclass(frozen=True)
class MoDLConfig(UnrolledConfig):
    """Aggarwal, Mani, Jacob 2019: ten iterations of one denoiser, five convolutions of 64 with batch norm.

    weight : first λ, for ‖A‖ = 1 and images of size 1; learned, positive
    cg_iterations, tolerance : of conjugate gradients
    norm : "batch" as in the paper; with "none", "group" or "instance" an image never depends on its batch,
        also while training; `checkpoint` counts every batch twice in the averages that "batch" keeps
    start : the image to begin with, see `recon.unrolled.base.first_image`
    """

    iterations: int = 10
    layers: int = 5
    hidden: int = 64
    norm: Literal["none", "group", "instance", "batch"] = "batch"
    weight: float = 0.05
    cg_iterations: int = 10
    tolerance: float = 1e-5
    start: Start = "adjoint"
    batch_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        within("MoDL iterations", self.iterations, 1, 1000)
        within("MoDL layers", self.layers, 2, 100)
        within("MoDL hidden", self.hidden, 1, 10_000)
        within("MoDL cg_iterations", self.cg_iterations, 1, 100_000)
        at_least("MoDL weight", self.weight, 1e-12)
        at_least("MoDL tolerance", self.tolerance, 0.0)
        one_of("MoDL norm", self.norm, ("none", "group", "instance", "batch"))


class MoDL(Unrolled):
    """x ← (A*A + λ I)⁻¹ (A*y + λ D(x)),   D(x) = x + net(x): denoise, then fit the data.

    Aggarwal, Mani, Jacob, IEEE Trans. Med. Imaging 38 (2019). One denoiser for all iterations, λ learned,
    the linear system by conjugate gradients with `A.gram`, differentiated implicitly (`cg_solve`).
    """

    name: ClassVar[str] = "modl"
    Config = MoDLConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        channels = real_channels(1, scanner.complex)
        self.denoiser = Convolutions(channels, channels, c.hidden, c.layers, norm=c.norm)
        self.log_weight = nn.Parameter(torch.tensor(math.log(c.weight)))

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        c, weight, gram = self.config, self.log_weight.exp(), A.gram
        back = A.adjoint(y)

        def step(x: Tensor) -> Tensor:
            z = x + on_planes(self.denoiser, x[:, None])[:, 0]
            return cg_solve(gram, back + weight * z, weight, c.cg_iterations, c.tolerance)

        x = first_image(A, y, c.start)
        for _ in range(c.iterations):
            x = self.again(step, x)
        return x

    @classmethod
    def examples(cls) -> list[MoDL]:
        small = {"iterations": 2, "layers": 2, "hidden": 4, "steps": 2, "batch_size": 2}
        return [cls(**small, norm="none"), cls(**small, norm="batch", normalise="data")]
