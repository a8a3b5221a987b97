"""How a diffusion takes the noise away: levels, one step down, the draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from priors.denoiser import Denoiser

from ..uncertainty.base import own_seed

Seed = int | Sequence[int]


@dataclass(frozen=True)
class Levels:
    """σ_k = (a + k/(n − 1)·(b − a))^ρ, k = 0 … n − 1, a = highest^(1/ρ), b = lowest^(1/ρ); then σ_n = 0.

    Karras, Aittala, Aila, Laine, NeurIPS 2022, eq. 5. In parts of the image's size, so that of images in
    [0, 1] a `highest` of 40 is theirs of 80 for images in [−1, 1].

    highest  so much noise that nothing of the image is seen in it
    lowest   so little that the image is done
    rho      ρ, the larger the more of the steps are at low noise
    """

    highest: float = 40.0
    lowest: float = 0.002
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.lowest < self.highest < math.inf or not self.rho > 0:
            raise ValueError(
                "Levels highest, lowest, rho: expected 0 < lowest < highest and rho > 0, got "
                f"{self.highest}, {self.lowest}, {self.rho}"
            )

    def __call__(self, steps: int) -> list[tuple[float, float]]:
        """(σ now, σ next) of each of `steps` steps; the last next is 0."""
        a, b = self.highest ** (1 / self.rho), self.lowest ** (1 / self.rho)
        levels = [(a + k / max(steps - 1, 1) * (b - a)) ** self.rho for k in range(steps)]
        return list(pairwise([*levels, 0.0]))


def towards(
    clean: Tensor, noise: Tensor, now: Tensor, after: Tensor, fresh: Tensor | float, draw: Tensor
) -> Tensor:
    """clean + √(after² − v²)·noise + v·draw,  v = fresh·after·√(1 − after²/now²).

    The step of DDIM (Song, Meng, Ermon, ICLR 2021, eq. 12) between noise levels `now` and `after`; with
    noise = (x − clean)/now. fresh = 1 is ancestral sampling, fresh = 0 follows the probability flow.
    """
    v = fresh * after * (1 - (after / now).square()).clamp(min=0).sqrt()
    return clean + (after.square() - v.square()).clamp(min=0).sqrt() * noise + v * draw


class Draws:
    """White noise of variance 1 in every real number, for sample s of image i: its own generator each.

    Image i of the batch has seed i of a sequence of seeds; with one number all images have the same draws,
    so that an image alone gets what it gets in a batch. Sample s does not depend on how many there are. No
    draw is one that data were made with.
    """

    def __init__(self, seed: Seed, samples: Sequence[int], batch: tuple[int, ...], shape: tuple[int, ...]):
        count = math.prod(batch)
        if isinstance(seed, int):
            seeds, self.repeat = [seed], count
        else:
            seeds, self.repeat = list(seed), 1
            if len(seeds) != count:
                raise ValueError(f"seed: expected one number or one per image, {count}, got {len(seeds)}")
        self.whole = (len(samples), *batch, *shape)
        self.shape, self.each = shape, len(seeds)
        self.generators = [
            torch.Generator().manual_seed(own_seed(0xD1FF, own, s)) for s in samples for own in seeds
        ]

    def like(self, x: Tensor) -> Tensor:
        """The next draws, (samples, *batch, *shape), in the dtype of x."""
        double = torch.complex128 if x.is_complex() else torch.float64
        # torch's complex normal has variance 1/2 in each part
        unit = math.sqrt(2) if x.is_complex() else 1.0
        drawn = torch.stack([torch.randn(self.shape, generator=g, dtype=double) for g in self.generators])
        drawn = unit * drawn.reshape(-1, self.each, *self.shape)
        drawn = drawn.expand(-1, self.repeat, *self.shape) if self.repeat != 1 else drawn
        return drawn.reshape(self.whole).to(x)


@torch.no_grad()
def sample_prior(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    samples: int = 8,
    steps: int = 100,
    levels: Levels | None = None,
    fresh: float = 1.0,
    seed: int = 0,
    scale: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Images that the prior holds likely, (samples, *shape): from noise down, x ← `towards`(D(x, σ), …).

    denoiser  D, good for all σ of `levels`
    steps     calls of D
    levels    of noise, in parts of the size
    fresh     1: ancestral sampling; 0: the probability flow, which adds nothing to the first noise
    seed      of the draws
    scale     size of an image, to which a D of images of size 1 is brought; None: that which D is made for
    dtype     of the images, real or complex

    The law of the samples is the prior's up to an error that halves as the steps double.
    """
    if samples < 1 or steps < 1 or not 0 <= fresh <= 1:
        raise ValueError(
            "sample_prior samples, steps, fresh: expected at least 1, at least 1, and 0 … 1, got "
            f"{samples}, {steps}, {fresh}"
        )
    size = denoiser.width if scale is None else scale
    D = denoiser.at_scale(size) if denoiser.unit else denoiser
    pairs = (levels or Levels())(steps)
    draws = Draws(seed, range(samples), (), tuple(shape))
    x = torch.zeros((), dtype=dtype)
    x = size * pairs[0][0] * draws.like(x)
    for now, after in pairs:
        t, s = (torch.tensor(size * v, dtype=x.real.dtype) for v in (now, after))
        clean = D(x, t)
        x = towards(clean, (x - clean) / t, t, s, fresh, draws.like(x))
    return x
