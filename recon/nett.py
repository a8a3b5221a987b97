"""Variational reconstruction with the features of a learned encoder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from operators import LinearOperator, fbp
from operators.tensors import norm
from priors import NETTRegulariser, NonNegative
from priors.networks.autoencoder import Decoder, Encoder
from priors.networks.seeds import seeded

from .adversarial import data_term
from .data.sets import PairedData, UnpairedData
from .learned import Learned, TrainedFor
from .problem import Problem
from .solvers import Iterate, nmapg, run
from .training import TrainingConfig, within


@dataclass(frozen=True)
class NETTConfig(TrainingConfig):
    """Hertrich et al. 2025: six convolutions of 64 either way, β = 0.01, half of the images degraded.

    channels, strides : of the encoder; strides None for none
    sparsity : β of the L1 part of R
    degraded : share of the training images that have artefacts
    shrink : weight of R(clean) over R(degraded) while it learns, ours: else D could undo what E says of clean
        images, and R tell nothing
    filter : of the filtered back projection, whose artefacts are learned and where the solver starts
    weight : λ; None: tried on 16 training pairs by `fit`, in factors of 4
    iterations, tolerance : of `nmapg`
    nonnegative : x ≥ 0
    """

    channels: tuple[int, ...] = (64,) * 6
    strides: tuple[int, ...] | None = None
    sparsity: float = 0.01
    degraded: float = 0.5
    shrink: float = 0.01
    filter: str = "hann"
    weight: float | None = None
    iterations: int = 200
    tolerance: float = 1e-3
    nonnegative: bool = True
    batch_size: int = 8
    steps: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        for value in (len(self.channels), *self.channels, *(self.strides or ())):
            within("NETT channels, strides", value, 1, 10_000)
        within("NETT iterations", self.iterations, 0, 1_000_000)
        if not 0 < self.degraded <= 1:
            raise ValueError(f"NETT degraded: expected above 0 and at most 1, got {self.degraded!r}")
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise ValueError(f"NETT weight: expected a positive number or None, got {self.weight!r}")


class NETT(Learned):
    """min_x ½‖A x − y‖² + λ R(x), x ≥ 0, R of an encoder that has learned what artefacts are; ‖A‖ = 1.

    Li, Schwab, Antholzer, Haltmeier, Inverse Problems 36 (2020); R is `NETTRegulariser`. The network learns

        E mean (D(E(v)) − (v − x))² + shrink · R(x)/R(FBP),    v = x (clean) or FBP of its data (degraded)

    and the objective is minimised by `nmapg` from FBP, which needs no convexity.
    """

    data_kind = "paired"
    Config = NETTConfig
    prior: NETTRegulariser
    weight: Tensor

    def build(self, scanner: TrainedFor) -> None:
        c = self.config
        with seeded(c.seed):
            decoder = Decoder(c.channels, c.strides, bias=False)
            self.prior = NETTRegulariser(Encoder(c.channels, c.strides), decoder, sparsity=c.sparsity)
        self.register_buffer("weight", torch.tensor(c.weight or 0.0))
        self.trained_for = scanner

    def after_fit(self, data: PairedData | UnpairedData) -> None:
        """λ, from 16 training pairs."""
        if self.config.weight is None:
            problem, images = next(data.batches(16, torch.Generator().manual_seed(self.config.seed)))
            self.weight.fill_(self._tried(problem, images))
        self.record["weight"] = float(self.weight)

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mean (D(E(v)) − artefacts of v)² over clean and degraded v, and R(clean) over R(degraded)."""
        scale, c = self.scanner(problem).image_scale, self.config
        clean = images / scale
        with torch.no_grad():
            spoilt = self.start(problem.A, problem.linear / scale)
        chosen = torch.rand(len(clean), generator=generator, dtype=torch.float64) < c.degraded
        v = torch.where(chosen.to(clean.device)[:, None, None], spoilt, clean)
        error = (self.prior.artefacts(v) - (v - clean)).square().mean()
        return error + c.shrink * self.prior(clean).mean() / self.prior(spoilt).mean()

    def score(self, data: PairedData | UnpairedData) -> float:
        """PSNR [dB], at a range of 1, of the validation FBPs after what the network sees is taken away."""
        problem, truth = data.validation
        scale = self.scanner(problem).image_scale
        x = self.start(problem.A, problem.linear / scale)
        return float(-10 * (x - self.prior.artefacts(x) - truth / scale).square().mean().log10())

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        iterates = self.iterates(A, y, float(self.weight))
        return run(iterates, self.config.iterations, self.config.tolerance)

    def iterates(self, A: LinearOperator, y: Tensor, weight: float) -> Iterator[Iterate]:
        """The solver, from FBP of y, over the image scale."""
        assert self.trained_for is not None
        objective = data_term(A, y, self.trained_for.norm) + weight * self.prior
        return nmapg(objective, NonNegative() if self.config.nonnegative else None, self.start(A, y))

    def start(self, A: LinearOperator, y: Tensor) -> Tensor:
        """FBP."""
        x = fbp(A, y, filter=self.config.filter)
        return x.clamp(min=0) if self.config.nonnegative else x

    @torch.no_grad()
    def _tried(self, problem: Problem, images: Tensor) -> float:
        """The λ of least mean squared error on these pairs, 4^k times where both gradients balance."""
        scale, c = self.scanner(problem).image_scale, self.config
        A, y = problem.A, problem.linear / scale
        x = self.start(A, y)
        # the noise pushed back, as in adversarial regularisation, against the slope of R at the start
        pull = norm(data_term(A, y, self.scanner(problem).norm).grad(images / scale), 2).mean()
        balance = float(pull / norm(self.prior.grad(x), 2).mean().clamp(min=1e-12))
        errors: dict[int, float] = {}
        reach = list(range(-2, 3))
        while reach:
            for k in reach:
                found = run(self.iterates(A, y, balance * 4.0**k), c.iterations, c.tolerance)
                errors[k] = float((found - images / scale).square().mean())
            best = min(errors, key=errors.__getitem__)
            # the best is not the last tried, or the search goes on to that side
            reach = [k for k in (best - 1, best + 1) if k not in errors and abs(k) <= 8]
        return balance * 4.0**best

    @classmethod
    def examples(cls) -> list[NETT]:
        tiny: dict[str, Any] = {"channels": (3, 4), "steps": 2, "batch_size": 2, "iterations": 3}
        return [cls(**tiny), cls(**tiny, strides=(2, 1), weight=0.1, nonnegative=False)]
