"""UNIT: two autoencoders with one space of codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from priors.networks.blocks import cropped
from priors.networks.resnet_generator import VAEGenerator, noisy

from .config import Options, _nonnegative
from .cycle import CycleGAN, CycleGANConfig, weighted


@dataclass(frozen=True)
class UNITConfig(CycleGANConfig):
    """Liu, Breuel, Kautz 2017, in their later code: 10 for both reconstructions, 0.01 for both codes.

    reconstruction, cycle : weights of |decode(encode(a)) − a| and of a there and back
    code, cycle_code : weights of mean code², of a and of G(a)
    losses : further ones by name, as in `CycleGANConfig`; theirs compares G(a) and a in normalised features
    """

    generator: str = "VAEGenerator"
    discriminator: str | None = "MultiScaleDiscriminator"
    mode_options: Options = field(default_factory=dict)
    losses: tuple[Any, ...] = (("domain-invariant", 1.0),)
    reconstruction: float = 10.0
    cycle: float = 10.0
    code: float = 0.01
    cycle_code: float = 0.01
    pool: int = 0
    steps: int = 1_000_000
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "constant", "step", "inverse", "linear"] = "step"
    milestones: tuple[int, ...] = tuple(range(100_000, 1_000_000, 100_000))
    decay: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("reconstruction", "cycle", "code", "cycle_code"):
            _nonnegative(f"UNIT {key}", getattr(self, key))
        if self.generator != "VAEGenerator":
            raise ValueError(
                f"UNIT generator: expected 'VAEGenerator', which has codes, got {self.generator!r}"
            )


class UNIT(CycleGAN):
    """x = decode_B(encode_A(x₀)): an autoencoder for each side, whose codes mean the same.

        code ~ N(encode(a), 1);  there = decode_B(code);  again = decode_A(N(encode_B(there), 1))
        mode(D_B(there)) + 10 |decode_A(code) − a| + 10 |again − a| + 0.01 mean encode(a)² + …

    Liu, Breuel, Kautz, NIPS 2017. As in their later code no weights are shared; both sides share what codes
    are drawn from. Without noise outside training.
    """

    Config = UNITConfig
    small: ClassVar[dict[str, Any]] = {
        "generator_options": {"base": 2, "blocks": 1, "downs": 1},
        "discriminator_options": {"base": 2, "layers": 1, "scales": 2},
        "losses": (),
    }
    network: VAEGenerator
    back: VAEGenerator

    def generated(self, u: Tensor) -> Tensor:
        return self._translated(u, self.network, self.back)

    def returned(self, u: Tensor) -> Tensor:
        return self._translated(u, self.back, self.network)

    def fakes(self, a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return (
            self._translated(a, self.network, self.back, generator),
            self._translated(b, self.back, self.network, generator),
        )

    def loss(self, problem: Any, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        a, b = self.pair(problem, images, generator)
        forth = self.autoencoding(a, b, self.network, self.back, "there", generator)
        back = self.autoencoding(b, a, self.back, self.network, "back", generator)
        return {f"there {k}": v for k, v in forth.items()} | {f"back {k}": v for k, v in back.items()}

    def autoencoding(
        self,
        a: Tensor,
        b: Tensor,
        mine: VAEGenerator,
        other: VAEGenerator,
        way: str,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """What both autoencoders lower for images a of one side, as b are of the other."""
        c, sides = self.config, a.shape[2:]
        mean = mine.encode(mine.extended(a))
        code = noisy(mean, generator)
        there = cropped(other.decode(code), sides)
        mean_there = other.encode(other.extended(there))
        again = cropped(mine.decode(noisy(mean_there, generator)), sides)
        terms = {
            "reconstruction": c.reconstruction * (cropped(mine.decode(code), sides) - a).abs().mean(),
            "code": c.code * mean.square().mean(),
            "cycle": c.cycle * (again - a).abs().mean(),
            "cycle code": c.cycle_code * mean_there.square().mean(),
        }
        criteria = self.criteria if way == "there" else self.back_criteria
        G = self.generated if way == "there" else self.returned
        images = {"F(G(a))": lambda: again, "G(b)": lambda: G(b), "G(G(a))": lambda: G(there)}
        return terms | self.deceiving(there, b, way) | weighted(criteria, there, a, b, images)

    def _translated(
        self, u: Tensor, mine: VAEGenerator, other: VAEGenerator, generator: torch.Generator | None = None
    ) -> Tensor:
        code = mine.encode(mine.extended(u))
        code = code if generator is None else noisy(code, generator)
        return cropped(other.decode(code), u.shape[2:]).to(u.dtype)
