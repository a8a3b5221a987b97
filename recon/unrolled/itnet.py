"""ItNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from operators import LinearOperator, fbp
from operators.tensors import norm, spread
from priors.networks.channels import on_planes, real_channels, unet_widths
from priors.networks.unet import UNet

from ..learned import TrainedFor
from ..training import within
from .base import Start, Unrolled, UnrolledConfig, at_least, first_image, has_fbp, one_of, unscaled


@dataclass(frozen=True)
class ItNetConfig(UnrolledConfig):
    """Genzel, Macdonald, März 2022: four U-Nets of base 36, each followed by a step on the data.

    data_steps : first values of the learned steps; their number is that of the iterations
    inverse : what brings the residual back, "fbp", "adjoint", or "auto": "fbp" where there is one
    base, depth, norm : of the U-Net
    shared : one U-Net for all iterations
    jitter : noise added to the data while training, its level drawn evenly from 0 … jitter · rms(y) per image
    start : the image to begin with, see `recon.unrolled.base.first_image`
    """

    data_steps: tuple[float, ...] = (1.1183, 1.3568, 1.4271, 0.0808)
    inverse: Literal["auto", "fbp", "adjoint"] = "auto"
    base: int = 36
    depth: int = 5
    norm: Literal["none", "group", "instance", "batch"] = "group"
    shared: bool = True
    jitter: float = 0.0
    start: Start = "auto"
    learning_rate: float = 2e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.data_steps, tuple) or not self.data_steps:
            raise ValueError(f"ItNet data_steps: expected numbers, one an iteration, got {self.data_steps!r}")
        for step in self.data_steps:
            at_least("ItNet data_steps", step, -1e6)
        within("ItNet iterations", len(self.data_steps), 1, 1000)
        within("ItNet base", self.base, 1, 10_000)
        within("ItNet depth", self.depth, 1, 12)
        at_least("ItNet jitter", self.jitter, 0.0)
        one_of("ItNet inverse", self.inverse, ("auto", "fbp", "adjoint"))
        one_of("ItNet norm", self.norm, ("none", "group", "instance", "batch"))


class ItNet(Unrolled):
    """v = U(x),   x ← v − λₖ A†(A v − y): a U-Net, then a step on the data, a few times.

    Genzel, Macdonald, März, IEEE Trans. Pattern Anal. Mach. Intell. 45 (2023); Genzel, Gühring, Macdonald,
    März, ICML 2022. A† is filtered back projection in CT and the adjoint elsewhere. U starts as the identity.
    """

    Config = ItNetConfig

    def layers(self, scanner: TrainedFor) -> None:
        c = self.config
        channels, widths = real_channels(1, scanner.complex), unet_widths(c.base, c.depth)
        count = 1 if c.shared else len(c.data_steps)
        self.nets = nn.ModuleList(
            UNet(channels, channels, widths, norm=c.norm, residual=True) for _ in range(count)
        )
        self.data_steps = nn.Parameter(torch.tensor([float(v) for v in c.data_steps]))

    def iterate(self, A: LinearOperator, y: Tensor) -> Tensor:
        c, inner = unscaled(A)
        filtered = self.config.inverse == "fbp" or (self.config.inverse == "auto" and has_fbp(A))

        def step(net: nn.Module, size: Tensor, x: Tensor) -> Tensor:
            v = on_planes(net, x[:, None])[:, 0]
            residual = A(v) - y
            return v - size * (fbp(inner, residual) / c if filtered else A.adjoint(residual))

        x = first_image(A, y, self.config.start)
        for k, size in enumerate(self.data_steps):
            x = self.again(step, self.nets[k % len(self.nets)], size, x)
        return x

    def perturbed(self, y: Tensor, generator: torch.Generator) -> Tensor:
        """Y with the configuration's jitter."""
        if not self.config.jitter:
            return y
        n = y.ndim - 1
        level = self.config.jitter * torch.rand(len(y), generator=generator, dtype=y.real.dtype).to(y.device)
        noise = torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)
        rms = norm(y, n) / y[0].numel() ** 0.5
        # where k-space holds zeros for what was not measured, nothing is added
        return y + spread(level * rms, n) * noise * (y != 0)

    @classmethod
    def examples(cls) -> list[ItNet]:
        small = {"base": 4, "depth": 2, "steps": 2, "batch_size": 2, "data_steps": (1.0, 0.5)}
        return [cls(**small), cls(**small, shared=False, jitter=0.1, checkpoint=True, normalise="data")]
