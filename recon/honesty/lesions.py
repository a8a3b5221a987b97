"""Small things put into images: discs and letters, at places that a seed decides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.ellipses import Ellipses, disc
from ..data.sets import Images, Pair, PairedData, SimulatedPairs, UnpairedData

_PLACE, _SHARE = 1, 2  # streams of random numbers: one decision never moves another

GLYPHS = {
    "c": ("01110", "10001", "10000", "10000", "10000", "10001", "01110"),
    "t": ("11111", "00100", "00100", "00100", "00100", "00100", "00100"),
    "e": ("11111", "10000", "10000", "11110", "10000", "10000", "11111"),
    "x": ("10001", "10001", "01010", "00100", "01010", "10001", "10001"),
    "+": ("00100", "00100", "00100", "11111", "00100", "00100", "00100"),
    "=": ("00000", "11111", "00000", "00000", "00000", "11111", "00000"),
}
"""Letters of 5 × 7 dots that can be drawn."""


class Lesions(Protocol):
    """Draws one lesion a seed, zero elsewhere: the same on every grid."""

    def draw(self, seeds: Sequence[int], shape: tuple[int, int]) -> Tensor:
        """(len(seeds), *shape), float32, unit of the image."""
        ...


@dataclass(frozen=True)
class Discs:
    """contrast · 1[|p − centre| ≤ radius], averaged over pixels; the centre uniform in a disc of `reach`.

    contrast : added to the image [its unit], may be negative
    radius, reach : in halves of the shorter side
    """

    contrast: float
    radius: float = 0.08
    reach: float = 0.5

    def __post_init__(self) -> None:
        _checked(self.contrast, self.radius, self.reach)

    def draw(self, seeds: Sequence[int], shape: tuple[int, int]) -> Tensor:
        """One disc a seed."""
        pixel, images = 2 / min(shape), []
        for seed in seeds:
            spot = Ellipses([disc(self.contrast, self.radius, _place(seed, self.reach))])
            images.append(spot.rasterise(shape, pixel).float())
        return torch.stack(images)


@dataclass(frozen=True)
class Letters:
    """contrast · a letter of 5 × 7 dots, averaged over pixels: a detail that no training image has.

    Antun et al., PNAS 117 (2020) test with text and symbols.

    contrast : added to the image [its unit]
    size : height, in halves of the shorter side; a dot is a seventh of it
    reach : of the centre, likewise
    letters : drawn from, of `GLYPHS`
    """

    contrast: float
    size: float = 0.35
    reach: float = 0.4
    letters: str = "ctex+="

    def __post_init__(self) -> None:
        _checked(self.contrast, self.size / 2, self.reach)
        if not self.letters or set(self.letters) - set(GLYPHS):
            raise ValueError(f"Letters letters: expected some of {''.join(GLYPHS)}, got {self.letters!r}")

    def draw(self, seeds: Sequence[int], shape: tuple[int, int]) -> Tensor:
        """One letter a seed."""
        pixel, images = 2 / min(shape), []
        for seed in seeds:
            x, y = _place(seed, self.reach)
            letter = self.letters[int(_random(seed, _PLACE + 10).integers(len(self.letters)))]
            dots = torch.tensor([[float(dot) for dot in row] for row in GLYPHS[letter]], dtype=torch.float64)
            dot = self.size / 7
            rows = _overlap(shape[0], pixel, -y - 3.5 * dot, dot, 7)
            columns = _overlap(shape[1], pixel, x - 2.5 * dot, dot, 5)
            images.append((self.contrast * rows @ dots @ columns.T).float())
        return torch.stack(images)


def with_lesions(images: Images, lesions: Lesions, share: float) -> Images:
    """The same images, a share of them with a lesion: seed s carries one if u(s) < share, u(s) ~ U(0, 1).

    Images that have a lesion at a small share have it at a larger one, at the same place.

    images : seeds -> (n, ny, nx), as `SimulatedPairs` takes
    share : from 0 to 1
    """
    if not 0 <= share <= 1:
        raise ValueError(f"with_lesions share: expected a number from 0 to 1, got {share!r}")

    def drawn(seeds: Sequence[int]) -> Tensor:
        x = images(seeds)
        carries = torch.tensor([float(_random(s, _SHARE).random() < share) for s in seeds])
        spots = lesions.draw(seeds, (x.shape[-2], x.shape[-1])).to(x)
        return x + carries.to(x)[:, None, None] * spots

    return drawn


def lesion_data(data: SimulatedPairs, lesions: Lesions, share: float) -> SimulatedPairs:
    """Pairs as `data`, a share of the images, training and validation, with a lesion in data and truth."""
    return SimulatedPairs(
        data.geometry,
        data.noise,
        with_lesions(data.images, lesions, share),
        data.validation_size,
        data.test_size,
        data.train_size,
        data.oversampling,
        f"{data.name}, {share:g} with lesions",
    )


class TwoDomains(UnpairedData):
    """Problems of one population and images of another, as Cohen et al. (MICCAI 2018) train translators.

    source : problems to learn from, and what is validated on
    target : images to learn from
    """

    def __init__(self, source: PairedData, target: PairedData):
        if source.A.in_shape != target.A.in_shape:
            raise ValueError(
                f"TwoDomains: expected images of one shape, got {source.A.in_shape} and {target.A.in_shape}"
            )
        super().__init__(source)
        self.target, self.name = target, f"{source.name} -> {target.name}"

    @property
    def train(self) -> Pair:
        """Problems of the source, images of the target."""
        problem, truth = UnpairedData(self.pairs).train
        return problem, UnpairedData(self.target).train[1][: len(truth)]

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        """Endless (problem of the source, images of the target)."""
        sources = UnpairedData(self.pairs).batches(size, generator)
        targets = UnpairedData(self.target).batches(size, generator)
        for (problem, _), (_, images) in zip(sources, targets, strict=False):
            yield problem, images


def _overlap(n: int, pixel: float, start: float, dot: float, dots: int) -> Tensor:
    """Share of each of n pixels that each dot covers, (n, dots); pixels centred about 0."""
    edges = (torch.arange(n + 1, dtype=torch.float64) - n / 2) * pixel
    marks = start + dot * torch.arange(dots + 1, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], marks[None, :-1])
    high = torch.minimum(edges[1:, None], marks[None, 1:])
    return (high - low).clamp(min=0) / pixel


def _random(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng((int(seed), stream))


def _place(seed: int, reach: float) -> tuple[float, float]:
    random = _random(seed, _PLACE)
    radius, angle = reach * math.sqrt(random.random()), 2 * math.pi * random.random()
    return radius * math.cos(angle), radius * math.sin(angle)


def _checked(contrast: float, radius: float, reach: float) -> None:
    if not (math.isfinite(contrast) and contrast != 0):
        raise ValueError(f"lesion contrast: expected a finite number other than 0, got {contrast!r}")
    if not (radius > 0 and reach >= 0 and radius + reach <= 1):
        raise ValueError(
            f"lesion: expected a radius > 0 and a reach ≥ 0 that stay in the image together (sum ≤ 1), got "
            f"{radius!r} and {reach!r}"
        )
