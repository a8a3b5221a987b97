"""ISTA U-Net: sparse coding on several scales."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from operators import LinearOperator
from priors.networks.channels import on_planes, real_channels, unet_widths
from priors.networks.multiscale import MultiscaleDictionary, soft

from ..learned import TrainedFor
from ..training import within
from .base import Start, Unrolled, UnrolledConfig, at_least, first_image


@dataclass(frozen=True)
class ISTAUNetConfig(UnrolledConfig):
    """Liu et al. 2022 (MUSC): 32 to 512 channels, five steps, thresholds 0.1, 0.01, 0, 0, 0, finest first.

    base, depth : channels of the finest scale, doubled at each of `depth` scales
    iterations : steps of ISTA
    thresholds : first λ of every scale, finest first; a scale whose λ is 0, or missing, is never shrunk
    step : first η; the first D has norm 1
    tied : E = D*, so that every step lowers ½‖D γ − x₀‖² + Σ λ|γ| while η‖D‖² ≤ 1
    start : the image that is coded, see `recon.unrolled.base.first_image`
    """

    base: int = 32
    depth: int = 5
    iterations: int = 5
    thresholds: tuple[float, ...] = (0.1, 0.01)
    step: float = 1.0
    tied: bool = False
    start: Start = "auto"
    learning_rate: float = 2e-4
    clip: float | None = 0.01
    batch_size: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        within("ISTAUNet base", self.base, 1, 10_000)
        within("ISTAUNet depth", self.depth, 1, 12)
        within("ISTAUNet iterations", self.iterations, 1, 100_000)
        at_least("ISTAUNet step", self.step, 0.0)
        if not isinstance(self.thresholds, tuple) or len(self.thresholds) > self.depth:
            raise ValueError(
                f"ISTAUNet thresholds: expected at most {self.depth} numbers, got {self.thresholds!r}"
            )
        for value in self.thresholds:
            at_least("ISTAUNet thresholds", value, 0.0)


class ISTAUNet(Unrolled):
    """γ ← S_λη(γ − η E (D γ − x₀)),   x = W γ: the first image x₀, coded sparsely on several scales.

    Liu, Wu, Wolf, Yuan, IEEE Trans. Comput. Imaging 8 (2022). D, E* and W are multiscale convolutional
    dictionaries, the same in all steps; they begin alike and learn apart (E stays D* if `tied`). λ > 0 and
    η > 0 are learned. Sees the data only through x₀, the filtered back projection where there is one. The
    only non-linearity is the threshold.
    """

    Config = ISTAUNetConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        channels, widths = real_channels(1, scanner.complex), unet_widths(c.base, c.depth)
        self.synthesis = MultiscaleDictionary(channels, widths).normalise()
        if not c.tied:
            self.analysis = deepcopy(self.synthesis)
        self.output = deepcopy(self.synthesis)
        self.log_thresholds = nn.Parameter(torch.tensor([t for t in c.thresholds if t > 0]).log())
        self.log_step = nn.Parameter(torch.tensor(c.step).log())

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        x = first_image(A, y, self.config.start)
        return self.again(lambda v: on_planes(self.coded, v[:, None])[:, 0], x)

    @property
    def thresholds(self) -> list[Tensor]:
        """λ of every scale, finest first."""
        learned = iter(self.log_thresholds.exp())
        given = (*self.config.thresholds, *(0.0,) * self.config.depth)[: self.config.depth]
        return [next(learned) if t > 0 else torch.zeros_like(self.log_step) for t in given]

    def codes(self, x: Tensor) -> list[Tensor]:
        """γ, finest first, of planes (n, channels, ny, nx) whose sides the dictionary divides."""
        D = self.synthesis
        E = D if self.config.tied else self.analysis
        step, thresholds = self.log_step.exp(), self.thresholds
        codes = [soft(step * z, step * t) for z, t in zip(E.adjoint(x), thresholds, strict=True)]
        for _ in range(self.config.iterations - 1):
            slopes = E.adjoint(D(codes) - x)
            codes = [
                soft(code - step * slope, step * t)
                for code, slope, t in zip(codes, slopes, thresholds, strict=True)
            ]
        return codes

    def coded(self, x: Tensor) -> Tensor:
        """W γ(x) of real planes of any size."""
        ny, nx = x.shape[-2:]
        m = self.synthesis.multiple
        wide = functional.pad(x, (0, -nx % m, 0, -ny % m), mode="replicate")
        return self.output(self.codes(wide))[..., :ny, :nx]

    @classmethod
    def examples(cls) -> list[ISTAUNet]:
        small = {"base": 4, "depth": 2, "thresholds": (0.01,), "iterations": 3, "steps": 2, "batch_size": 2}
        return [cls(**small), cls(**small, tied=True, checkpoint=True, normalise="data")]
