"""Larger pixels and missing ones: images of MR-like heads that a known operator has spoilt."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from operators import Downsample, Gaussian, LinearOperator, Mask, NoiseModel

from ..brains import FIELD, random_brain
from .pairs import TaskPairs


class _BrainPairs(TaskPairs):
    """y = A x + n of brains like T1 images, white n of the size `sigma`; x reaches from 0 to about 0.6."""

    def __init__(self, size: int, sigma: float, contrast: str, *sizes: int | None, name: str):
        validation_size, test_size, train_size = sizes
        super().__init__((size, size), FIELD / size, validation_size or 0, test_size or 0, train_size, name)
        self.contrast, self.law = contrast, Gaussian(sigma=sigma)

    def pair(self, seed: int) -> tuple[Tensor, Tensor, NoiseModel]:
        x = random_brain(seed, self.contrast).rasterise(self.shape, self.pixel_size).clamp_min(0)
        return self.law(self.A(x), seed=seed), x, self.law


class SuperResolutionPairs(_BrainPairs):
    """From means over blocks of factor × factor pixels, with noise, to the pixels: A = `Downsample`.

    factor : 2, 4, …
    sigma : of the noise, unit of the image (proton density of water 1)
    size : pixels a side of the large image, field 220 mm; contrast : of the brain
    Others as in `TaskPairs`.
    """

    def __init__(
        self,
        factor: int = 2,
        size: int = 64,
        sigma: float = 0.005,
        contrast: str = "t1",
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = 256,
        name: str | None = None,
    ):
        self.factor = factor
        name = name or f"super-resolution-{factor}x"
        super().__init__(size, sigma, contrast, validation_size, test_size, train_size, name=name)

    def scanner(self) -> LinearOperator:
        return Downsample(self.shape, self.factor)


class InpaintingPairs(_BrainPairs):
    """From an image with holes to the whole: A = `Mask`, one for all images, 0 in the holes.

    share : of the pixels that are missing, about; seed : of the holes
    Noise is everywhere, in the holes too, as the law has one σ; A* takes it away there.
    Others as in `SuperResolutionPairs`.
    """

    def __init__(
        self,
        size: int = 64,
        share: float = 0.2,
        seed: int = 0,
        sigma: float = 0.005,
        contrast: str = "t1",
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = 256,
        name: str = "inpainting",
    ):
        self.mask = holes((size, size), share, seed)
        super().__init__(size, sigma, contrast, validation_size, test_size, train_size, name=name)

    def scanner(self) -> LinearOperator:
        return Mask(self.mask)


def holes(shape: tuple[int, int], share: float = 0.2, seed: int = 0) -> Tensor:
    """Boxes of 1/16 to 1/6 of each side at random, until at least `share` is missing; bool, True is kept."""
    if not 0 < share < 0.9:
        raise ValueError(f"holes share: expected a number in (0, 0.9), got {share}")
    random = np.random.default_rng(seed)
    kept = torch.ones(shape, dtype=torch.bool)
    while float((~kept).double().mean()) < share:
        size = [max(1, int(n * random.uniform(1 / 16, 1 / 6))) for n in shape]
        at = [int(random.integers(0, n - m + 1)) for n, m in zip(shape, size, strict=True)]
        kept[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = False
    return kept
