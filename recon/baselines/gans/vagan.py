"""VA-GAN: the map that makes an image of the one class one of the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from ...problem import Problem
from .config import Options
from .cycle import UnpairedConfig
from .simgan import SimGAN


@dataclass(frozen=True)
class VAGANConfig(UnpairedConfig):
    """Baumgartner et al. 2018: 3-D U-Net from 16 channels, WGAN-GP, 100 · mean |M|, batches of 2, 6 times.

    d_steps : of the critic; `d_bursts` instead in the first 25 steps and in every hundredth
    """

    generator: str = "VAGANGenerator"
    discriminator: str | None = "ImageDiscriminator"
    discriminator_options: Options = field(
        default_factory=lambda: {
            "channels": (16, 32, 64, 128, 256),
            "strides": (1, 2, 2, 2, 2),
            "hidden": None,
        }
    )
    mode: str = "wgan"
    penalty: float = 10.0
    losses: tuple[Any, ...] = (("self-regularisation", 100.0),)
    d_steps: int = 5
    d_bursts: int = 100
    fresh: bool = True
    pool: int = 0
    dim: int = 3
    batch_size: int = 2
    accumulate: int = 6
    learning_rate: float = 1e-3
    beta1: float = 0.0
    beta2: float = 0.9
    schedule: Literal["cosine", "constant", "step", "inverse", "linear"] = "constant"


class VAGAN(SimGAN):
    """x = x₀ + M(x₀): M is what an image of one class lacks or has too much to be one of the other.

        D:  D(fake) − D(b) + 10 (|∇D| − 1)²
        M:  −D(a + M(a)) + 100 mean |M(a)|

    Baumgartner, Koch, Tezcan, Ang, Konukoglu, CVPR 2018: a sick, b healthy; −M shows the disease
    (`difference`).
    """

    Config = VAGANConfig
    small: ClassVar[dict[str, Any]] = {
        "generator": "EncoderDecoder",
        "generator_options": {"channels": (4, 6), "activation": "leaky"},
        "discriminator_options": {"channels": (2, 3), "hidden": None},
        "dim": 2,
        "accumulate": 1,
        "d_bursts": 2,
        "d_steps": 1,
    }

    def generated(self, u: Tensor) -> Tensor:
        return u + self.network(u).to(u.dtype)

    def difference(self, problem: Problem) -> Tensor:
        """x − x₀ (*batch, *shape), in the unit of images where both have one window."""
        y, scale = self.inside(problem)
        x = self.first(problem.A, y)
        u = self.inward(x, 0)
        change = self.outward(self.generated(u), x) - self.outward(u, x)
        size = scale if isinstance(scale, float) else scale.reshape(-1, *(1,) * (change.ndim - 1))
        return (change * size).reshape(*problem.batch, *problem.A.in_shape)

    def d_times(self, cycle: int) -> int:
        c: Any = self.config
        return c.d_bursts if cycle < 25 or cycle % 100 == 0 else c.d_steps
