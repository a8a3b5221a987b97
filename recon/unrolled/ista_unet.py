"""ISTA U-Net: sparse coding on several scales."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators import LinearOperator
from priors.networks.channels import on_planes, real_channels, unet_widths
from priors.networks.multiscale import SparseCoding

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
        at_least("ISTAUNet step", self.step, 1e-12)  # its logarithm is learned
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
        self.network = SparseCoding(channels, widths, c.thresholds, c.iterations, c.step, c.tied)

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        x = first_image(A, y, self.config.start)
        return self.again(lambda v: on_planes(self.network, v[:, None])[:, 0], x)

    @classmethod
    def examples(cls) -> list[ISTAUNet]:
        small = {"base": 4, "depth": 2, "thresholds": (0.01,), "iterations": 3, "steps": 2, "batch_size": 2}
        return [cls(**small), cls(**small, tied=True, checkpoint=True, normalise="data")]
