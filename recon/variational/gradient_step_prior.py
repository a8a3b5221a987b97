"""Variational reconstruction with the potential of a gradient-step denoiser, trained on images plus noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .learned_prior import LearnedPriorReconstruction, LearnedPriorReconstructionConfig


@dataclass(frozen=True)
class GradientStepPriorConfig(LearnedPriorReconstructionConfig):
    """Hurault, Leclaire, Papadakis, ICLR 2022: a DRUNet with a smooth slope, Adam 1e-4; smaller here.

    The settings are those of `LearnedPriorReconstructionConfig`. Only the weight λ and the scale s are fitted
    to the problem, on few images and by few solves, for every solve asks the network hundreds of times.
    """

    prior: str = "lsr"
    training: Literal["bilevel", "denoising"] = "denoising"
    gradient: Literal["implicit", "jfb", "score"] = "score"
    iterations: int = 200
    tolerance: float = 1e-3
    fit_images: int = 3
    fit_solves: int = 12
    learning_rate: float = 1e-4
    beta2: float = 0.999


class GradientStepPrior(LearnedPriorReconstruction):
    """min_x d(A x) + λ s² ½‖x/s − N(x/s)‖², x ≥ 0: N such that D = I − ∇½‖· − N‖² takes noise away.

    Hurault, Leclaire, Papadakis, ICLR 2022: plug-and-play with an objective, here by nmAPG, which never rises
    above the recent past. The denoiser D learns from images and noise of `sigma` alone, the scanner enters by
    λ and s. `LearnedPriorReconstruction` compares it with other priors; `GradientStepPlugAndPlay` takes a
    denoiser of one's own.
    """

    Config = GradientStepPriorConfig

    @classmethod
    def examples(cls) -> list[LearnedPriorReconstruction]:
        small: dict[str, Any] = {
            "steps": 2,
            "batch_size": 2,
            "iterations": 5,
            "fit_solves": 2,
            "layers": (2, 4),
        }
        return [cls(**small)]
