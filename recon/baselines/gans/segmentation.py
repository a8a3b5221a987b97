"""SegAN: a segmentor whose critic compares the masked images on many scales."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from priors.networks.dropout import dropping

from ...data.sets import PairedData, UnpairedData
from ...losses import LOSSES
from ...problem import Problem
from .base import GAN
from .config import GANConfig, Options


@dataclass(frozen=True)
class SegANConfig(GANConfig):
    """Xue et al. 2018: weights of the critic in ±0.05, soft Dice beside it, the rate halved every 25 epochs.

    The epochs are those of 1000 steps here.

    losses : of probabilities ("logits" in their names) against labels
    """

    generator: str = "EncoderDecoder"
    generator_options: Options = field(
        default_factory=lambda: {
            "channels": (64, 128, 256, 512),
            "norm": "batch",
            "activation": "leaky",
            "last": "sigmoid",
        }
    )
    discriminator_options: Options = field(default_factory=lambda: {"norm": "batch"})
    conditional: bool = False
    losses: tuple[Any, ...] = (("dice", 1.0, {"probabilities": True, "background": False}),)
    bound: float | None = 0.05
    span: tuple[float, float] = (0.0, 1.0)
    window: tuple[float, float] | None = (0.0, 1.0)
    batch_size: int = 36
    schedule: Literal["cosine", "constant", "step", "inverse", "linear"] = "step"
    milestones: tuple[int, ...] = (25_000, 50_000, 75_000)
    decay: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discriminator is None or self.conditional or self.penalty or self.mispair or self.pretrain:
            raise ValueError(
                "SegAN: expected a discriminator, and no conditional, penalty, mispair or pretrain; its "
                "critic compares masked images"
            )


class SegAN(GAN):
    """m = S(x₀), a mask in [0, 1]: the critic learns features in which x₀·m and x₀·truth differ, S undoes it.

        D:  −Σ_i mean |D_i(x₀·m) − D_i(x₀·truth)|            i = 0 are the masked images
        S:  +Σ_i … + Dice(m, truth)

    Xue, Xu, Zhang, Long, Huang, Neuroinformatics 16 (2018). Truths are masks of 0 and 1; the data of an image
    at hand are of A = `Identity`. `scores` has the Dice overlap of m > ½.
    """

    name = "segan"
    Config = SegANConfig
    small: ClassVar[dict[str, Any]] = {
        "generator_options": {"channels": (4, 6), "activation": "leaky", "last": "sigmoid"},
        "discriminator_options": {"base": 2, "layers": 1, "norm": "none"},
    }

    def before_fit(self, data: PairedData | UnpairedData) -> None:
        """Truths must be masks."""
        super().before_fit(data)
        truth = data.validation[1]
        if not bool(((truth == 0) | (truth == 1)).all()):
            raise ValueError(
                "SegAN.fit data: expected masks of 0 and 1 as truths, got values from "
                f"{float(truth.min()):.4g} to {float(truth.max()):.4g}"
            )

    def d_loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        u, truth = self.pair(problem, images, generator)
        with torch.no_grad(), dropping(self.network, generator):
            fake = self.generated(u)
        return {"distance": -self.distance_in(self.opponent["discriminator"], u * fake, u * truth)}

    def g_terms(self, u: Tensor, truth: Tensor, fake: Tensor) -> dict[str, Tensor]:
        judge, c = self.opponent["discriminator"], self.config
        terms = {"distance": c.adversarial * self.distance_in(judge, u * fake, u * truth)}
        images = {"logits": lambda: fake, "labels": lambda: truth, "G(a)": lambda: fake, "b": lambda: truth}
        return terms | self.lowered(images, u)

    @staticmethod
    def distance_in(judge: nn.Module, x: Tensor, truth: Tensor) -> Tensor:
        """Σ_i mean |D_i(x) − D_i(truth)| over the images and the hidden layers."""
        layers = zip([x, *judge.features(x)], [truth, *judge.features(truth)], strict=True)  # type: ignore[operator]
        return torch.stack([(a - b).abs().mean() for a, b in layers]).sum()

    def score(self, data: PairedData | UnpairedData) -> float:
        return self.scores(data)["dice"]

    def scores(self, data: PairedData | UnpairedData) -> dict[str, float]:
        """Mean Dice overlap of m > ½ with the truths of the validation images."""
        problem, truth = data.validation
        mask = (self(problem) > 0.5).to(truth)[:, None]
        lost = LOSSES["dice"](background=False, probabilities=True)  # type: ignore[call-arg]
        return {"dice": 1 - float(lost(mask, truth[:, None]))}
