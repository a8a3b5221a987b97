"""What methods that know how sure they are say: a mean and a spread."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..base import Reconstructor
from ..problem import Problem


@dataclass(frozen=True)
class Prediction:
    """An image and how far it may be from the truth; all (*batch, *A.in_shape).

    mean       the image
    spread     standard deviation around it, real, unit of the image; of complex images that of |x − mean|
    aleatoric  the part of the spread that the data leave open, or None where a method does not tell
    epistemic  the part that the training left open, or None; spread² = aleatoric² + epistemic²
    """

    mean: Tensor
    spread: Tensor
    aleatoric: Tensor | None = None
    epistemic: Tensor | None = None

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """mean ± z·spread, which holds `level` of the truth if the errors are normal: nobody checks that."""
        if self.mean.is_complex():
            raise ValueError("Prediction.interval: order needs real numbers, the image is complex")
        check_level("Prediction.interval", level)
        half = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64))) * self.spread
        return self.mean - half, self.mean + half


class Probabilistic(Reconstructor):
    """A method that knows how sure it is: `predict(problem)` gives mean and spread, calling it the mean."""

    @abstractmethod
    def predict(self, problem: Problem) -> Prediction:
        """Mean and spread."""

    def forward(self, problem: Problem) -> Tensor:
        return self.predict(problem).mean

    def spread(self, problem: Problem) -> Tensor:
        """Standard deviation around the mean, (*batch, *A.in_shape), unit of the image."""
        return self.predict(problem).spread


def prediction(method: Reconstructor, problem: Problem) -> Prediction:
    """What `method` predicts; of one that cannot tell how sure it is, its image with spread 0."""
    predict = getattr(method, "predict", None)
    if predict is not None:
        found = predict(problem)
        assert isinstance(found, Prediction)
        return found
    x = method(problem)
    return Prediction(x, torch.zeros_like(x.abs()))


class Moments:
    """Mean and standard deviation of images as they come, by Welford's update: none of them is kept."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())

    def add(self, x: Tensor) -> None:
        self.count += 1
        if self.count == 1:
            self.mean, self.squares = x, torch.zeros_like(x.abs())
            return
        old = x - self.mean
        self.mean = self.mean + old / self.count
        self.squares = self.squares + old.abs().square() * ((self.count - 1) / self.count)

    @property
    def spread(self) -> Tensor:
        """√(Σ|x − mean|²/(n − 1))."""
        return (self.squares / (self.count - 1)).sqrt()


def mixture(predictions: Iterable[Prediction]) -> Prediction:
    """Of the members of a committee: E μ, with aleatoric² = E σ² and epistemic² = Var μ (n − 1).

    The law of total variance (Tanno et al., MICCAI 2017).
    """
    means, variance = Moments(), torch.zeros(())
    for p in predictions:
        means.add(p.mean)
        variance = variance + p.spread.square()
    if means.count < 2:
        raise ValueError(f"spread: expected at least 2 images to tell it from, got {means.count}")
    aleatoric, epistemic = (variance / means.count).sqrt(), means.spread
    return Prediction(means.mean, torch.hypot(aleatoric, epistemic), aleatoric, epistemic)


def check_level(who: str, level: float) -> None:
    """Raise ValueError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"{who} level: expected a number between 0 and 1, as 0.9, got {level!r}")


def own_seed(purpose: int, seed: int, k: int) -> int:
    """Seed of draw k, of a stream by itself, which shares nothing with seeds of data, raw ones included."""
    if seed < 0:
        raise ValueError(f"seed: expected a non-negative integer, got {seed}")
    # torch's generator on the CPU takes the lower 32 bits alone, which are as random as all
    return int(np.random.SeedSequence([seed, k], spawn_key=(purpose,)).generate_state(1, np.uint64)[0]) >> 1
