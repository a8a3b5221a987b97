"""Educated deep image prior: the network has seen synthetic images before it meets this one's data."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from operators import LinearOperator
from priors.networks.channels import on_planes, real_channels, to_planes
from priors.networks.hourglass import Hourglass
from priors.networks.seeds import seeded

from .data.sets import PairedData, UnpairedData
from .dip_fit import Generated, Settings, descend, objective_of
from .dip_stopping import rule
from .fidelity import weighted
from .learned import Learned, TrainedFor
from .problem import Problem
from .training import TrainingConfig, within
from .unrolled.base import first_image, one_of


@dataclass(frozen=True)
class EducatedDeepImagePriorConfig(TrainingConfig):
    """Barbano et al. 2022: six scales of 128 channels; 100 epochs of 32 000 pairs; then 10 000 iterations.

    Theirs has a rate that rises and falls (OneCycle to 5e-4) and a weight decay of 1e-5; ours falls as a
    cosine, without decay. Batch norm is of every image alone, see `Hourglass`.

    channels, skips : of the hourglass, finest scale first
    weight : γ of TV while tuning, as in `DeepImagePrior`; with "mean-square" for images of size 1; None, with
        "likelihood": by `balance`
    objective, tv, balance, nonnegative : as in `DeepImagePrior`
    tune_iterations, tune_learning_rate, tune_schedule : of Adam on one image's data; 0: the network alone
    stop : "held-out", "variance", "discrepancy" or None. What is held out is in the network's input, which is
        made of all data as in training, so that this rule may stop late
    """

    steps: int = 100_000
    batch_size: int = 32
    learning_rate: float = 5e-4
    beta2: float = 0.999
    channels: tuple[int, ...] = (128,) * 6
    skips: tuple[int, ...] = (0, 0, 0, 4, 4)
    weight: float | None = 1e-4
    objective: Literal["mean-square", "likelihood"] = "mean-square"
    tv: Literal["huber", "isotropic", "anisotropic"] = "anisotropic"
    balance: float = 1.5
    nonnegative: bool = True
    tune_iterations: int = 10_000
    tune_learning_rate: float = 1e-4
    tune_schedule: Literal["constant", "cosine"] = "constant"
    stop: Literal["held-out", "variance", "discrepancy"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        name = "EducatedDeepImagePrior"
        within(f"{name} tune_iterations", self.tune_iterations, 0, 10**9)
        if self.weight is not None and not 0 <= self.weight < math.inf:
            raise ValueError(f"{name} weight: expected at least 0 or None, got {self.weight!r}")
        if self.weight is None and self.objective == "mean-square":
            raise ValueError(f"{name} weight: expected a number for objective 'mean-square', got None")
        one_of(f"{name} objective", self.objective, ("mean-square", "likelihood"))
        one_of(f"{name} tv", self.tv, ("huber", "isotropic", "anisotropic"))
        one_of(f"{name} tune_schedule", self.tune_schedule, ("constant", "cosine"))
        rule(self.stop)


class EducatedDeepImagePrior(Learned):
    """min_w mean |A f_w(x₀) − y|² + γ TV(f_w(x₀)) from the w that make f_w(FBP) ≈ truth on other images.

    Barbano et al., An educated warm start for deep image prior-based micro CT reconstruction, IEEE Trans.
    Comput. Imaging 8 (2022). `fit` learns w from pairs, by the squared error; a reconstruction starts there,
    with x₀ the filtered back projection (of k-space A*y), and fits a copy of the network to its data alone.
    Faster and steadier than `DeepImagePrior`; where the images are others than those learned from, the fit
    corrects what the data say. Scores on the card and while training are those of the network alone.

    Every image is tuned by itself: time and memory are those of `DeepImagePrior`.
    """

    data_kind = "paired"
    Config = EducatedDeepImagePriorConfig
    tuning = True

    def build(self, scanner: TrainedFor) -> None:
        c, channels = self.config, real_channels(1, scanner.complex)
        with seeded(c.seed):
            self.network = Hourglass(channels, channels, tuple(c.channels), tuple(c.skips))
        self.trained_for = scanner

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        return on_planes(self.network, first_image(A, y)[:, None])[:, 0]

    def scores(self, data: PairedData | UnpairedData) -> dict[str, float]:
        """Of the network alone, before it is tuned: PSNR [dB] and SSIM, see `Learned.scores`."""
        self.tuning = False
        try:
            return super().scores(data)
        finally:
            self.tuning = True

    def forward(self, problem: Problem) -> Tensor:
        if self.training or not self.tuning or not self.config.tune_iterations or not problem.y.numel():
            return super().forward(problem)
        y, scale = self.inside(problem)
        A, count = problem.A, len(y)
        scales = torch.as_tensor(scale).reshape(-1).expand(count)
        raw = problem.y.detach().to(y).reshape(-1, *A.out_shape)
        images = [
            self._tuned(Problem(A, raw[i], problem.noise.select(i)), y[i : i + 1].detach(), float(scales[i]))
            for i in range(count)
        ]
        return torch.stack(images).reshape(*problem.batch, *A.in_shape).to(problem.y.dtype)

    @torch.inference_mode(False)
    def _tuned(self, problem: Problem, y: Tensor, scale: float) -> Tensor:
        """One image, (*A.in_shape); y (1, *A.out_shape) is its linear data over the scale."""
        c, A, y = self.config, problem.A, y.clone()  # data of inference mode have no gradients
        problem = Problem(A, problem.y.clone(), problem.noise)
        network = copy.deepcopy(self.network).requires_grad_(True)
        planes = to_planes(first_image(A, y)[:, None])
        generated = Generated(network, planes, A.in_shape, y.is_complex(), scale, None, c.nonnegative)
        d, stop = weighted(problem), rule(c.stop)
        watch = None if stop is None else stop.begin(problem, d)
        # of images of size 1, in the image's own unit
        squares = c.objective == "mean-square"
        weight = scale * c.weight if squares else c.weight
        first, keep = generated().detach(), None if watch is None else watch.keep
        objective = objective_of(problem, d, first, weight, c.balance, c.objective, c.tv, None, keep)
        if squares:
            objective.unit *= scale**2
        settings = Settings(c.tune_iterations, c.tune_learning_rate, c.tune_schedule, c.clip)
        return descend(generated, objective, settings, watch)

    @classmethod
    def examples(cls) -> list[EducatedDeepImagePrior]:
        small = {"channels": (4, 4), "skips": (2,), "steps": 2, "batch_size": 2, "tune_iterations": 2}
        return [cls(**small), cls(**small, weight=None, objective="likelihood", tv="huber", stop="held-out")]
