"""What methods share that learn without truth: any network inside, and a score that no truth enters."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from operators import LinearOperator, XRay
from operators.geometry import PlanarGeometry
from operators.tensors import spread

from ..base import METHODS
from ..baselines.postprocess import FBPUNet
from ..data.sets import Measurements, PairedData, UnpairedData
from ..learned import Learned, TrainedFor, squared
from ..problem import Problem
from ..training import TrainingConfig, within
from ..unrolled.base import Unrolled, first_image, has_fbp


@dataclass(frozen=True)
class SelfSupervisedConfig(TrainingConfig):
    """Which network learns, and how many parts the views are put into.

    method : name in `METHODS` of the network: "fbp-unet" or an unrolled one, as "learned-primal-dual"
    settings : changes to that method's configuration, as {"base": 24, "depth": 4}; what concerns its training
        has no effect
    splits : every `splits`-th view makes a part; at least 2
    """

    method: str = "fbp-unet"
    settings: Mapping[str, Any] = field(default_factory=dict)
    splits: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        within(f"{type(self).__name__} splits", self.splits, 2, 10_000)
        if not isinstance(self.settings, Mapping):
            raise ValueError(
                f"{type(self).__name__} settings: expected a dictionary of changes, got {self.settings!r}"
            )


class SelfSupervised(Learned):
    """x = f(y), f any post-processing or unrolled network, trained on problems whose truth nobody knows.

    `fit` takes `Measurements`, as `pairs.measurements()` or `Measurements.of(problem)`. A subclass writes
    `loss`, whose images are NaN. `score`, which validates, looks at data only; the PSNR on a card is an
    oracle's remark by which nothing was chosen.
    """

    data_kind = "measurements"
    Config = SelfSupervisedConfig
    method: Learned

    def build(self, scanner: TrainedFor) -> None:
        c = self.config
        cls = METHODS.get(c.method)
        if cls is None or not issubclass(cls, FBPUNet | Unrolled):
            raise ValueError(
                f"{type(self).__name__} method: expected 'fbp-unet' or an unrolled method, got {c.method!r}"
            )
        # JSON knows no tuples
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in c.settings.items()}
        self.method = cls(**{"seed": c.seed, **settings})
        self.method.build(scanner)
        self.trained_for = scanner

    @abstractmethod
    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        """What `fit` lowers, from the data of `problem` alone."""

    def scanner_of(self, problem: Problem, images: Tensor) -> TrainedFor:
        """Images are as large as a linear reconstruction of the data says."""
        return super().scanner_of(problem, first_image(problem.A, problem.linear))

    def scale(self, problem: Problem) -> float | Tensor:
        self.scanner(problem)
        self.method.any_geometry = self.any_geometry
        return self.method.scale(problem)

    def apply_to(self, A: LinearOperator, y: Tensor) -> Tensor:
        return self.method.apply_to(A, y)

    def score(self, data: PairedData | UnpairedData) -> float:
        """10 log₁₀ (Σ|y|² / Σ|error|²) [dB] of predicted held-out views; without views −loss. No truth."""
        problem, images = data.validation
        if has_fbp(problem.A):
            size, error = self.held_out(problem)
            return float(10 * torch.log10(size.sum() / error.sum()))
        none = torch.full_like(images, torch.nan)
        return -float(self.loss(problem, none, torch.Generator().manual_seed(self.config.seed)))

    def scores(self, data: PairedData | UnpairedData) -> dict[str, float]:
        """`score`, and the oracle's PSNR and SSIM where `data` have truths; these choose nothing."""
        oracle = {} if isinstance(data, Measurements) else super().scores(data)
        return oracle | {"held_out_db": self.score(data)}

    @torch.no_grad()
    def held_out(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Σ|yⱼ|² and Σ|Aⱼ xⱼ − yⱼ|² over the parts j, per image; xⱼ is made of the other views.

        The noise of yⱼ is part of the error, the same for every method.
        """
        y, _ = self.inside(problem)
        error = torch.zeros(len(y), dtype=y.dtype, device=y.device)
        for part in parts(problem.A, self.config.splits):
            x = self.of_views(part.others, y[:, part.other_views], len(y[0]))
            error = error + squared(part.A(x) - y[:, part.views]).flatten(1).sum(1)
        return squared(y).flatten(1).sum(1), error

    def of_views(self, A: LinearOperator, y: Tensor, views: int) -> Tensor:
        """The network's image from some of `views` views; unrolled ones see an operator of the usual norm."""
        if isinstance(self.method, Unrolled):
            c = math.sqrt(views / A.out_shape[0])
            return self.method.apply_to(c * A, c * y)
        return self.method.apply_to(A, y)

    def variance(self, problem: Problem) -> Tensor:
        """Variance of the data as `inside` scales them, (n, *A.out_shape); inf where nothing was measured."""
        y, scale = self.inside(problem)
        n = len(problem.A.out_shape)
        return problem.variance.reshape(y.shape).to(y.real.dtype) / torch.as_tensor(spread(scale, n)) ** 2

    def misfit(self, A: LinearOperator, x: Tensor, y: Tensor) -> Tensor:
        """Mean |A x − y|² over the data, at ‖A‖ = 1, a number."""
        assert self.trained_for is not None
        return squared(A(x) - y).mean() / self.trained_for.norm**2


class Part(NamedTuple):
    """Some views, and the others."""

    views: list[int]
    A: LinearOperator
    other_views: list[int]
    others: LinearOperator


def parts(A: LinearOperator, count: int) -> tuple[Part, ...]:
    """Every count-th view of a scan in the plane, from the first, the second …"""
    geometry = getattr(A, "geometry", None)
    if not isinstance(geometry, PlanarGeometry):
        raise ValueError(f"splitting views: expected an XRay of ParallelBeam or FanBeam, got {A!r}")
    if geometry.views < 2 * count:
        raise ValueError(
            f"splits: {count} parts of {geometry.views} views leave less than two each; choose fewer"
        )
    return _parts(geometry, count)


@lru_cache(8)
def _parts(geometry: PlanarGeometry, count: int) -> tuple[Part, ...]:
    every = range(geometry.views)
    found = []
    for j in range(count):
        mine, rest = list(every[j::count]), [k for k in every if k % count != j]
        found.append(Part(mine, XRay(geometry.subset(mine)), rest, XRay(geometry.subset(rest))))
    return tuple(found)
