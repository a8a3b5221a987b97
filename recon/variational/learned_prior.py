"""Variational reconstruction with a learned prior, trained by bilevel optimisation or on denoising."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor

from priors import (
    AdversarialRegulariser,
    ConvexRegulariser,
    ConvexRidge,
    Functional,
    GradientStepDenoiser,
    SquaredL2,
    TotalDeepVariation,
    WeaklyConvexRidge,
)
from priors.networks.critic import Critic
from priors.networks.drunet import DRUNet
from priors.networks.icnn import InputConvexNetwork
from priors.networks.seeds import seeded
from priors.tuned import Tuned

from ..bilevel import LowerLevel, Tally, denoised, starting_weight
from ..data.sets import PairedData, UnpairedData, selected
from ..denoising import noisy
from ..fidelity import LIKELIHOODS, Likelihood
from ..learned import Learned, TrainedFor, squared
from ..metrics import psnr
from ..metrics.fidelity import magnitude
from ..problem import Problem
from ..solvers import Trace
from ..training import TrainingConfig, within
from .base import start

Layers = tuple[int, ...]
Name = Literal["crr", "wcrr", "tdv", "convex", "lsr", "critic"]


def _convex(layers: Layers, shape: tuple[int, int], is_complex: bool) -> Functional:
    # rounded, for a Hessian is asked for
    network = InputConvexNetwork(1 + is_complex, layers[0], layers[1], 5, smooth=0.05)
    return ConvexRegulariser(network, rounding=0.01)


def _deep_variation(layers: Layers, shape: tuple[int, int], is_complex: bool) -> Functional:
    features, scales, blocks = layers
    return TotalDeepVariation(features, scales, blocks)


def _least_squares_residual(layers: Layers, shape: tuple[int, int], is_complex: bool) -> Functional:
    return GradientStepDenoiser(DRUNet(1, layers, 2, "softplus")).potential(0.1)


def _critic(layers: Layers, shape: tuple[int, int], is_complex: bool) -> Functional:
    strides = [1 + k % 2 for k in range(len(layers))]
    return AdversarialRegulariser(Critic(shape, layers, strides, None))


PRIORS: dict[str, tuple[Layers, Callable[[Layers, tuple[int, int], bool], Functional]]] = {
    "crr": ((1, 4, 8, 60), lambda layers, shape, is_complex: ConvexRidge(layers)),
    "wcrr": ((1, 4, 8, 60), lambda layers, shape, is_complex: WeaklyConvexRidge(layers)),
    "tdv": ((32, 3, 3), _deep_variation),
    "convex": ((10, 48), _convex),
    "lsr": ((32, 64, 128), _least_squares_residual),
    "critic": ((16, 32, 32, 64, 64, 128), _critic),
}
"""By name: the published size, and the prior of (size, image shape, complex)."""


@dataclass(frozen=True)
class LearnedPriorReconstructionConfig(TrainingConfig):
    """Hertrich et al., arXiv 2510.01755: nmAPG, 1000 iterations, 1e-4; trained at noise 0.1.

    prior : "crr", "wcrr" ridges (`ConvexRidge`, `WeaklyConvexRidge`); "tdv" (`TotalDeepVariation`); "convex"
        (`ConvexRegulariser`); "lsr" ½‖x − N(x)‖², N a DRUNet (`GradientStep`); "critic" of patches
        (`AdversarialRegulariser`); or a name added to `PRIORS`
    layers : its size: ridges and critic channels, "tdv" (features, scales, blocks), "convex" (layers, width),
        "lsr" widths; None: as published
    training : "bilevel", for the data at hand; or "denoising", on images plus noise of `sigma`, after which
        only λ and s are fitted to the data, on `fit_images` training pairs by at most `fit_solves` solves
    gradient : "implicit", "jfb" (see `recon.bilevel.LowerLevel`), or for denoising "score": one gradient
        step instead of a minimiser
    sigma : of the training noise, in parts of the images' size
    likelihood : d, one with a Gaussian form: "unweighted" or "weighted"
    nonnegative : x ≥ 0, for real images
    iterations, tolerance : of nmAPG, in use and in training
    linear_iterations, linear_tolerance : of MINRES in training
    warm_start : steps of training on one batch (`reuse`) begin at the last minimiser of that batch, which no
        checkpoint holds: resumed between them, a training is the unbroken one up to `tolerance` only
    """

    prior: str = "crr"
    layers: Layers | None = None
    training: Literal["bilevel", "denoising"] = "bilevel"
    gradient: Literal["implicit", "jfb", "score"] = "implicit"
    sigma: float = 0.1
    likelihood: Likelihood = "unweighted"
    nonnegative: bool = True
    iterations: int = 1000
    tolerance: float = 1e-4
    linear_iterations: int = 100
    linear_tolerance: float = 1e-3
    warm_start: bool = True
    fit_images: int = 5
    fit_solves: int = 30
    steps: int = 2000
    batch_size: int = 8
    learning_rate: float = 5e-3
    validate_every: int = 200
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        name = "LearnedPriorReconstruction"
        for what, value, known in (
            ("prior", self.prior, tuple(PRIORS)),
            ("training", self.training, ("bilevel", "denoising")),
            ("gradient", self.gradient, ("implicit", "jfb", "score")),
            ("likelihood", self.likelihood, ("unweighted", "weighted")),
        ):
            if value not in known:
                raise ValueError(f"{name} {what}: expected one of {', '.join(known)}, got {value!r}")
        if self.gradient == "score" and self.training != "denoising":
            raise ValueError(f"{name} gradient='score': only for training='denoising', got {self.training!r}")
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"{name} sigma: expected a positive number, got {self.sigma}")
        for width in self.layers or ():
            within(f"{name} layers", width, 1, 10_000)
        within(f"{name} fit_images", self.fit_images, 1, 10_000)
        within(f"{name} fit_solves", self.fit_solves, 0, 10_000)
        self.lower(False)

    def lower(self, denoising: bool) -> LowerLevel:
        """How minimisers are found and differentiated; denoising has no bound."""
        return LowerLevel(
            self.iterations,
            self.tolerance,
            "jfb" if self.gradient == "jfb" else "implicit",
            "minres",
            self.linear_iterations,
            self.linear_tolerance,
            self.nonnegative and not denoising,
        )


class LearnedPriorReconstruction(Learned):
    """min_x d(A x) + λ s² E(x/s), x ≥ 0: E, λ and s learned, by nmAPG from FBP (or CGLS) to a stated end.

    Hertrich et al., arXiv 2510.01755 (learned regularisers compared), with the priors of their papers. d
    holds the noise, so λ follows the dose. Bilevel training lowers ‖x* − truth‖² over E, λ and s through the
    minimiser x*; training on denoising needs images only, and of pairs a few, for λ and s. Neither sees a
    truth in use. Images have size 1 inside. How many minimisations did not converge, in training and in the
    fit of λ and s, is in `record` (of a resumed training since then); `solve` tells it of every image.
    """

    data_kind = "paired"
    Config: ClassVar[type[TrainingConfig]] = LearnedPriorReconstructionConfig
    prior: Tuned
    unit: Tensor

    def __init__(self, config: LearnedPriorReconstructionConfig | None = None, **changes: object):
        super().__init__(config, **changes)
        self.tally = Tally()
        self._last: tuple[Problem | None, Tensor | None] = None, None

    def build(self, scanner: TrainedFor) -> None:
        if len(scanner.in_shape) != 2:
            raise ValueError(
                f"LearnedPriorReconstruction.fit data: expected images (ny, nx), got {scanner.in_shape}"
            )
        published, make = PRIORS[self.config.prior]
        layers = self.config.layers or published
        if self.config.prior == "critic" and scanner.complex:
            raise ValueError("LearnedPriorReconstruction prior='critic': for real images; use 'crr' or 'tdv'")
        ny, nx = scanner.in_shape
        with seeded(self.config.seed):
            try:
                self.prior = Tuned(make(layers, (ny, nx), scanner.complex))
            except (ValueError, IndexError) as error:
                raise ValueError(
                    f"LearnedPriorReconstruction layers: expected as many numbers as {published} for prior="
                    f"{self.config.prior!r}, got {layers} ({error})"
                ) from error
        # λ in units of what the first batch says; 0: not yet said
        self.register_buffer("unit", torch.zeros(()))
        self.trained_for = scanner

    def before_fit(self, data: PairedData | UnpairedData) -> None:
        """Count anew."""
        self.tally = Tally()

    def after_fit(self, data: PairedData | UnpairedData) -> None:
        """λ and s, if they are not learned yet; and what was, for the card."""
        self._last = None, None
        self.record["lower_level"] = self.tally.summary()
        if self.config.training == "denoising" and self.config.fit_solves:
            self.fit_weight(cast(PairedData, data))
        self.record |= {"weight": self.prior.weight * float(self.unit), "scale": self.prior.scale}

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        c, scale = self.config, self.scanner(problem).image_scale
        truth = images / scale
        if c.training == "denoising":
            y, sigma = noisy(truth, c.sigma, c.sigma, generator)
            if not self.unit:
                self._begin(truth, (truth - y) / c.sigma**2)
            lower = None if c.gradient == "score" else c.lower(True)
            x = denoised(self.weighted(), y, sigma, lower, self.tally)
        else:
            d = self.data_term(problem)
            if not self.unit:
                self._begin(truth, d.grad(truth))
            again = c.warm_start and self._last[0] is problem
            begin = cast(Tensor, self._last[1]) if again else self.initial(problem)
            x = c.lower(False).solve(d, self.weighted(), begin, self.tally)
            self._last = problem, x.detach()
        return squared(x - truth).mean()

    def score(self, data: PairedData | UnpairedData) -> float:
        """PSNR [dB] of the validation images; in training on denoising that of denoising, at a range of 1."""
        c = self.config
        if c.training == "bilevel":
            return super().score(data)
        problem, truth = data.validation
        truth = truth / self.scanner(problem).image_scale
        y, sigma = noisy(truth, c.sigma, c.sigma, torch.Generator().manual_seed(c.seed))
        x = denoised(self.weighted(), y, sigma, None if c.gradient == "score" else c.lower(True)).detach()
        return float(-10 * squared(x - truth).mean().log10())

    def apply_to(self, A: object, y: Tensor) -> Tensor:
        raise NotImplementedError("the noise is needed: call the method on a problem")

    def forward(self, problem: Problem) -> Tensor:
        scanner, real = self.scanner(problem), problem.linear.real.dtype
        dtype = real.to_complex() if scanner.complex else real
        if problem.y.numel() == 0:
            return torch.zeros(*problem.batch, *scanner.in_shape, dtype=dtype, device=problem.y.device)
        return (self.solve(problem).last.x * scanner.image_scale).to(dtype)

    def solve(self, problem: Problem, tally: Tally | None = None) -> Trace:
        """How the minimisation ended, per image: its last iterate (at image scale 1), iterations, history."""
        lower = self.config.lower(False)
        return lower.minimise(self.data_term(problem), self.weighted(), self.initial(problem), tally)

    def weighted(self) -> Functional:
        """λ s² E(·/s) of images of size 1."""
        return float(self.unit) * self.prior

    def data_term(self, problem: Problem) -> Functional:
        """d(s A u) of images u of size 1, s their scale."""
        scanner = self.scanner(problem)
        if problem.linear.is_complex() and not scanner.complex:
            raise ValueError(f"{type(self).__name__}: trained for real data, got {problem.linear.dtype}")
        d, s, n = LIKELIHOODS[self.config.likelihood](problem), scanner.image_scale, len(scanner.out_shape)
        d = cast(SquaredL2, d)
        real = next(self.parameters()).dtype
        y = (problem.linear / s).to(real.to_complex() if scanner.complex else real)
        return SquaredL2(y, (torch.as_tensor(d.weight) * s**2).to(real), n) @ problem.A

    def initial(self, problem: Problem) -> Tensor:
        """The start, at image scale 1: FBP, or a few steps of CGLS."""
        scanner = self.scanner(problem)
        x = start(problem) / scanner.image_scale
        real = next(self.parameters()).dtype
        return x.to(real.to_complex() if scanner.complex else real)

    def fit_weight(self, data: PairedData) -> None:
        """λ and s of the highest mean PSNR over a few training pairs, by `compass` in their logarithms."""
        c, tally = self.config, Tally()
        problem, truth = data.train
        index = torch.arange(min(c.fit_images, len(truth)))
        problem, truth = selected(problem, index), truth[index]
        reference = magnitude(truth)
        span = reference.flatten(1).amax(1)

        def quality(at: tuple[float, float]) -> float:
            self.prior.set(*(math.exp(v) for v in at))
            x = self.solve(problem, tally).last.x * self.scanner(problem).image_scale
            return float(psnr(x, truth, data_range=span).mean())

        first = math.log(self.prior.weight), math.log(self.prior.scale)
        best, value, solves = compass(quality, first, math.log(4.0), c.fit_solves)
        self.prior.set(*(math.exp(v) for v in best))
        self.record["fitted"] = {
            "images": len(index),
            "solves": solves,
            "psnr_db_range_truth_max": value,
            "lower_level": tally.summary(),
        }

    @torch.no_grad()
    def _begin(self, truth: Tensor, data_slope: Tensor) -> None:
        self.unit.fill_(starting_weight(self.prior, truth, data_slope))

    @classmethod
    def examples(cls) -> list[LearnedPriorReconstruction]:
        small: dict[str, Any] = {
            "steps": 2,
            "batch_size": 2,
            "iterations": 10,
            "linear_iterations": 5,
            "fit_solves": 3,
        }
        return [
            cls(**small, layers=(1, 2, 3)),
            cls(**small, prior="tdv", layers=(2, 2, 1), training="denoising", gradient="score"),
            cls(**small, prior="convex", layers=(2, 3), gradient="jfb", nonnegative=False),
        ]


def compass(
    value: Callable[[tuple[float, float]], float], start: tuple[float, float], step: float, solves: int
) -> tuple[tuple[float, float], float, int]:
    """The highest value of a function of two numbers: to the better of four neighbours, else half the step.

    Returns where, the value there, and how often it was asked: at most `solves`, or until the step is a
    sixteenth of the first.
    """
    best, asked, least = start, 1, step / 16
    highest, seen = value(start), {start}
    while step >= least and asked < solves:
        moved = False
        for da, db in ((step, 0.0), (-step, 0.0), (0.0, step), (0.0, -step)):
            at = best[0] + da, best[1] + db
            if at in seen or asked >= solves:
                continue
            seen.add(at)
            asked += 1
            found = value(at)
            if found > highest:
                best, highest, moved = at, found, True
                break
        step = step if moved else step / 2
    return best, highest, asked
