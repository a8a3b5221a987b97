"""Equivariant imaging."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from priors.networks.dropout import dropping

from ..learned import TrainedFor, squared
from ..problem import Problem
from ..training import within
from ..unrolled.base import at_least, one_of
from .base import SelfSupervised, SelfSupervisedConfig
from .sure import exact, stein

Group = Literal["rotations", "quarter-turns"]


@dataclass(frozen=True)
class EquivariantImagingConfig(SelfSupervisedConfig):
    """Chen, Tachella, Davies 2021: α = 100 for CT, five random rotations an image, 5e-4, batches of 2.

    weight : α, at ‖A‖ = 1 and image scale 1, both terms means over rays and pixels
    transforms : how many random T in every step
    group : "rotations" by any angle, bilinear; "quarter-turns" and flips, exact, of square images
    robust : the estimate of Stein in place of ‖A f(y) − y‖², and noise on the data of T x: REI (2022), for
        noisy data
    step : of the estimate's difference quotient, in standard deviations of the noise
    """

    weight: float = 100.0
    transforms: int = 5
    group: Group = "rotations"
    robust: bool = False
    step: float = 0.01
    learning_rate: float = 5e-4
    batch_size: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("EquivariantImaging weight", self.weight, 0.0)
        at_least("EquivariantImaging step", self.step, 1e-6)
        within("EquivariantImaging transforms", self.transforms, 1, 1000)
        one_of("EquivariantImaging group", self.group, ("rotations", "quarter-turns"))
        if self.robust:
            exact("EquivariantImaging robust", self)


class EquivariantImaging(SelfSupervised):
    """min_f E ‖A f(y) − y‖² + α ‖f(A T x₁) − T x₁‖², x₁ = f(y), T a random rotation.

    Chen, Tachella, Davies, ICCV 2021; with `robust` CVPR 2022. A turned image is an image too, and A sees of
    it what it did not see before: so f learns what A alone can not tell. That needs an A that T changes.
    Where every T turns views into views (evenly spaced ones under quarter turns and flips), the second term
    tells nothing: hence rotations by any angle.
    """

    Config = EquivariantImagingConfig

    def build(self, scanner: TrainedFor) -> None:
        super().build(scanner)
        ny, nx = scanner.in_shape[-2:]
        if self.config.group == "quarter-turns" and ny != nx:
            raise ValueError(
                f"EquivariantImaging group='quarter-turns': needs square images, got {ny} × {nx}; use "
                "'rotations'"
            )

    def loss(self, problem: Problem, images: Tensor, generator: torch.Generator) -> Tensor:
        """Data term, or its risk, and α times how far f is from being equivariant."""
        with dropping(self, generator):
            return self._both_terms(problem, generator)

    def _both_terms(self, problem: Problem, generator: torch.Generator) -> Tensor:
        A, c = problem.A, self.config
        norm2 = self.scanner(problem).norm ** 2
        y, _ = self.inside(problem)
        x = self.apply_to(A, y)
        predicted = A(x)
        if c.robust:
            variance = self.variance(problem)
            sigma = torch.where(variance.isfinite(), variance, 0).sqrt()
            risk = stein(lambda v: A(self.apply_to(A, v)), y, variance, generator, c.step, predicted)
            first = risk.mean()
        else:
            first = squared(predicted - y).mean()
        second = torch.zeros_like(first)
        for _ in range(c.transforms):
            turned = transformed(x, c.group, generator)
            seen = A(turned)
            if c.robust:
                noise = torch.randn(seen.shape, generator=generator, dtype=seen.dtype).to(seen.device)
                seen = seen + sigma * noise
            second = second + squared(self.apply_to(A, seen) - turned).mean()
        return first / norm2 + c.weight * second / c.transforms

    @classmethod
    def examples(cls) -> list[EquivariantImaging]:
        few = {"settings": {"base": 4, "depth": 2}, "splits": 2, "steps": 2, "transforms": 1}
        return [cls(**few), cls(**few, robust=True, group="quarter-turns")]


def transformed(x: Tensor, group: Group, generator: torch.Generator) -> Tensor:
    """T x, T random: one rotation by any angle per image, or one quarter turn or flip for all images."""
    if group == "quarter-turns":
        turns, flip = torch.randint(4, (2,), generator=generator).tolist()
        x = x.flip(-1) if flip % 2 else x
        return torch.rot90(x, turns, (-2, -1))
    return rotated(x, 2 * math.pi * torch.rand(len(x), generator=generator, dtype=torch.float64))


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """x turned about its middle by one angle an image, bilinear, 0 from outside; (n, …, ny, nx).

    angles : (n,) [rad]; π/2 is `torch.rot90(x, 1, (-2, -1))`, up to rounding
    """
    if x.is_complex():
        return torch.complex(rotated(x.real, angles), rotated(x.imag, angles))
    ny, nx = x.shape[-2:]
    c, s = angles.cos().to(x), angles.sin().to(x)
    zero = torch.zeros_like(c)
    # grid coordinates run from −1 to 1 along both axes, whatever their lengths
    matrix = torch.stack(
        [torch.stack([c, -s * ny / nx, zero], -1), torch.stack([s * nx / ny, c, zero], -1)], 1
    )
    planes = x.reshape(len(x), -1, ny, nx)
    grid = functional.affine_grid(matrix, list(planes.shape), align_corners=False)
    turned = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.reshape(x.shape)
