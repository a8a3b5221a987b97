"""Adversarial regularisers that look at patches, or are convex."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from priors import AdversarialRegulariser, ConvexRegulariser, Functional
from priors.networks.critic import LocalCritic
from priors.networks.icnn import InputConvexNetwork

from .adversarial import CriticConfig, CriticRegularisation
from .training import within


@dataclass(frozen=True)
class LocalAdversarialRegularisationConfig(CriticConfig):
    """Widths of the comparative study of Hertrich et al. 2025; training as Lunz et al. 2018.

    channels : between the 3×3 convolutions; six for patches of 15 × 15
    and the settings of `CriticConfig`
    """

    channels: tuple[int, ...] = (128, 64, 64, 64, 32, 32)

    def __post_init__(self) -> None:
        super().__post_init__()
        for value in (len(self.channels), *self.channels):
            within("LocalAdversarialRegularisation channels", value, 1, 10_000)


class LocalAdversarialRegularisation(CriticRegularisation):
    """min_x ½‖A x − y‖² + λ Σ_p ψ(p)/√P by gradient descent from FBP: a critic of patches p.

    Prost, Houdard, Almansa, Papadakis, SSVM 2021 (LAR), trained as Lunz et al. 2018; see
    `CriticRegularisation`. Every image holds as many examples as pixels, so that a few images teach it.
    """

    Config = LocalAdversarialRegularisationConfig

    def critic(self, shape: tuple[int, int]) -> Functional:
        return AdversarialRegulariser(LocalCritic(self.config.channels), self.config.detail)

    @classmethod
    def examples(cls) -> list[LocalAdversarialRegularisation]:
        tiny: dict[str, Any] = {"channels": (4,), "steps": 2, "batch_size": 2, "iterations": 3}
        return [cls(**tiny), cls(**tiny, weight=0.1, solver="backtracking", detail=0.1)]


@dataclass(frozen=True)
class ConvexAdversarialRegularisationConfig(CriticConfig):
    """Mukherjee et al. 2020: Adam 2e-5 (0.5, 0.99), gradient penalty 5, some 400 iterations.

    layers, width, kernel : of the input-convex network
    filters, bank : number and side of the filters under L1
    sparsity, square : of the L1 and the squared term at the start of training; both are learned
    smooth : what leaky ReLU and L1 are rounded over, for a gradient that is steady; their network has corners
    filter : by default none but the ramp: a convex Ψ falls towards one image, so that it can tell noise but
        not blur, of which a true image has less
    and the settings of `CriticConfig`; the solver is run to its tolerance
    """

    layers: int = 10
    width: int = 48
    kernel: int = 5
    filters: int = 32
    bank: int = 7
    sparsity: float = 6.14e-6
    square: float = 1.234e-4
    smooth: float = 0.01
    penalty: float = 5.0
    filter: str = "ram-lak"
    solver: Literal["descent", "backtracking", "nmapg"] = "nmapg"
    iterations: int = 400
    tolerance: float = 1e-4
    optimizer: Literal["adam", "rmsprop"] = "adam"
    learning_rate: float = 2e-5
    beta1: float = 0.5
    beta2: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        name = "ConvexAdversarialRegularisation"
        for setting in ("layers", "width", "kernel", "filters", "bank"):
            within(f"{name} {setting}", getattr(self, setting), 0 if setting == "filters" else 1, 10_000)
        for setting in ("sparsity", "square", "smooth"):
            if not 0 < getattr(self, setting) < math.inf:
                raise ValueError(
                    f"{name} {setting}: expected a positive number, got {getattr(self, setting)!r}"
                )


class ConvexAdversarialRegularisation(CriticRegularisation):
    """min_x ½‖A x − y‖² + λ Ψ(x), Ψ convex by its form: one minimiser, found from any start.

    Mukherjee, Dittmer, Shumaylov, Lunz, Öktem, Schönlieb, arXiv 2008.02839 (ACR); `ConvexRegulariser` trained
    as a critic, see `CriticRegularisation`. The result depends continuously on the data and not on how many
    steps are made; it is less sharp than what a critic without the constraint gives.
    """

    Config = ConvexAdversarialRegularisationConfig

    def critic(self, shape: tuple[int, int]) -> Functional:
        c = self.config
        network = InputConvexNetwork(1, c.layers, c.width, c.kernel, c.smooth)
        prior = ConvexRegulariser(network, c.detail, c.filters, c.bank, rounding=c.smooth)
        # softplus⁻¹(t) = log(eᵗ − 1), that large t do not overflow
        t = torch.tensor([c.sparsity, c.square])
        prior.weights.data = t + (-torch.expm1(-t)).log()
        return prior

    @classmethod
    def examples(cls) -> list[ConvexAdversarialRegularisation]:
        tiny: dict[str, Any] = {
            "layers": 2, "width": 3, "kernel": 3, "filters": 2, "bank": 3, "steps": 2, "batch_size": 2,
            "iterations": 5,
        }  # fmt: skip
        return [cls(**tiny), cls(**tiny, solver="backtracking", sparsity=1.0)]
