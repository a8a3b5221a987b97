"""The eight orientations of a scan: turn a square image, and its data are known without scanning again."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from operators import Gaussian, Identity, LowDose, NoiseModel
from operators.geometry import FanBeam, ParallelBeam

from ..problem import Problem
from .sets import Pair, PairedData

WAYS = 8
Turn = tuple[Tensor, Tensor]


class TurnedPairs(PairedData):
    """Pairs of a planar scan in a random one of eight orientations at every draw: A(g x) = S_g (A x).

    A quarter turn of the image shifts the views, a mirrored image reverses views and bins; with S_g y in the
    place of y nothing is simulated again and noise keeps its law, so that N images are worth up to 8 N where
    there are no more. Exact where the views lie so that each orientation finds its own: whole turns of a
    multiple of four equal steps from an angle of 0 or half a step, half turns of a parallel beam likewise of
    an even number.

    Parameters
    ----------
    pairs : of a `ParallelBeam` or `FanBeam` without an offset onto square images, or of image to image
        (`Identity`), with one level of noise an image (`Gaussian` without a mask) or the same everywhere
        (`LowDose` of one number of photons). Validation is theirs, upright, and so is what a method sees
        that learns from images without their partners, if they are finite
    """

    def __init__(self, pairs: PairedData):
        self.pairs, self.name = pairs, f"{pairs.name}-turned"
        problem, _ = pairs.validation
        A = problem.A
        images = isinstance(A, Identity) and len(A.in_shape) == 2 and A.in_shape[0] == A.in_shape[1]
        self.turns = None if images else orientations(getattr(A, "geometry", None))
        if not _alike_everywhere(problem.noise):
            raise ValueError(
                "TurnedPairs pairs: expected noise that is alike in all views and bins of an image, "
                f"got {problem.noise!r}"
            )
        # what `described` tells on a card
        self.about = {**getattr(pairs, "about", {}), "orientations": WAYS}
        for name in ("train_size", "seeds"):
            if hasattr(pairs, name):
                setattr(self, name, getattr(pairs, name))

    @property
    def train(self) -> Pair:
        return self.pairs.train

    @property
    def validation(self) -> Pair:
        return self.pairs.validation

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        for problem, truth in self.pairs.batches(size, generator):
            ways = torch.randint(WAYS, (len(truth),), generator=generator).tolist()
            y = torch.stack([self._turned(y, way) for y, way in zip(problem.y, ways, strict=True)])
            x = torch.stack([turned_image(x, way) for x, way in zip(truth, ways, strict=True)])
            yield Problem(problem.A, y, problem.noise), x

    def _turned(self, y: Tensor, way: int) -> Tensor:
        return turned_image(y, way) if self.turns is None else turned_data(y, self.turns[way])


def turned_image(image: Tensor, way: int) -> Tensor:
    """`way` % 4 quarter turns against the clock, then from 4 on left and right exchanged; (*batch, n, n)."""
    image = image.rot90(way % 4, (-2, -1))
    return (image.flip(-1) if way >= 4 else image).contiguous()


def turned_data(y: Tensor, turn: Turn) -> Tensor:
    """The data of the turned image from those of the upright one, (*batch, views, bins)."""
    index, reversed_bins = (t.to(y.device) for t in turn)
    y = y[..., index, :]
    return torch.where(reversed_bins[:, None], y.flip(-1), y)


def orientations(geometry: object) -> tuple[Turn, ...]:
    """For each of eight ways the view (views,) to take data from, and whether its bins are to be reversed.

    With g a quarter turn, (A g x)(θ, u) = (A x)(θ − π/2, u); with g exchanging left and right,
    (A g x)(θ, u) = (A x)(−θ, −u); and a parallel beam sees (A x)(θ + π, u) = (A x)(θ, −u).
    """
    if not isinstance(geometry, ParallelBeam | FanBeam) or geometry.offset:
        raise ValueError(
            f"TurnedPairs pairs: expected a parallel or fan beam without offset, got {geometry!r}"
        )
    if geometry.image_shape[0] != geometry.image_shape[1]:
        raise ValueError(f"TurnedPairs pairs: expected square images, got {geometry.image_shape}")
    angles = np.asarray(geometry.angles)
    found: list[Turn] = []
    for way in range(WAYS):
        sign = -1 if way >= 4 else 1
        wanted = sign * angles - (way % 4) * math.pi / 2
        index, gap = _nearest(wanted, angles)
        flipped = np.full(len(angles), way >= 4)
        if isinstance(geometry, ParallelBeam):
            other, other_gap = _nearest(wanted + math.pi, angles)
            closer = other_gap < gap
            index, gap = np.where(closer, other, index), np.minimum(gap, other_gap)
            flipped = flipped ^ closer
        if gap.max() > 1e-6:
            raise ValueError(
                f"TurnedPairs pairs: turned images would be seen from views that are {gap.max():.2g} rad "
                "from any of this scan; expected equal steps over the turn, see TurnedPairs"
            )
        found.append((torch.from_numpy(index), torch.from_numpy(flipped)))
    return tuple(found)


def _nearest(wanted: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The view closest to each angle, and how far it is on the circle [rad]."""
    gaps = np.abs((wanted[:, None] - angles + math.pi) % (2 * math.pi) - math.pi)
    return gaps.argmin(1), gaps.min(1)


def _alike_everywhere(noise: NoiseModel) -> bool:
    """Whether views and bins of an image may be exchanged."""
    if isinstance(noise, Gaussian):
        return noise.mask is None and (noise.sigma is None or torch.as_tensor(noise.sigma).ndim <= 1)
    return isinstance(noise, LowDose) and not any(isinstance(getattr(noise, f), Tensor) for f in noise.fields)
