"""The problem `ellipses-dival`: 128² from 30 parallel views with 2.5 % noise, image by image as published.

Baguer, Leuschner & Schmidt, Inverse Problems 36 (2020) 094004; data set and seeds of the library DIVal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from operators import Gaussian, ParallelBeam, XRay

from ..problem import Problem
from .random_ellipses import dival_ellipses
from .sets import Pair, SimulatedPairs

DIVAL_NOISE_SEEDS = {"train": 1, "validation": 2, "test": 3}
DIVAL_FINE = 400  # pixels a side of the simulation


def dival_geometry(size: int = 128) -> ParallelBeam:
    """`size`² pixels over 128 mm, 30 views in the middle of 6° each, 183 bins over ±64√2 mm."""
    return ParallelBeam(
        image_shape=(size, size),
        pixel_size=128 / size,
        angles=tuple((k + 0.5) * math.pi / 30 for k in range(30)),
        n_bins=183,
        bin_size=128 * math.sqrt(2) / 183,
    )


def dival_problem(
    index: int | range, part: str = "test", backend: str = "auto", dtype: torch.dtype = torch.float32
) -> tuple[Problem, Tensor]:
    """Y = A₄₀₀ U x + n, n ~ N(0, (0.025 mean|A₄₀₀ U x|)²), to be reconstructed with A₁₂₈.

    U interpolates bilinearly from 128² to 400² and mirrors at the border. Image and noise of a number are
    those of DIVal (numpy RandomState; seeds 42/2/1 of the images and 1/2/3 of the noise), whose projector was
    ASTRA's: the clean data agree as far as two line discretisations do.

    index : number of the image in its part, or a range of them
    part : "train", "validation" or "test"
    backend : of `XRay`
    dtype : of data and truth

    Returns the problem, y (30, 183) or (n, 30, 183), and the truth (128, 128) or (n, 128, 128).
    """
    if not isinstance(index, range):
        problem, truth = dival_problem(range(index, index + 1), part, backend, dtype)
        return Problem(problem.A, problem.y[0], problem.noise.select(0)), truth[0]
    if index.step != 1 or index.start < 0 or not len(index):
        raise ValueError(f"dival_problem index: expected a number or a range of step 1, got {index!r}")
    images = dival_ellipses(part, start=index.start, stop=index.stop)
    truth = torch.stack(list(images)).to(dtype)
    draws = np.random.RandomState(DIVAL_NOISE_SEEDS[part])
    draws.normal(size=(index.start, *dival_geometry().sinogram_shape))
    white = draws.normal(size=(len(truth), *dival_geometry().sinogram_shape))
    y, sigma = _measured(truth, XRay(dival_geometry(DIVAL_FINE), backend), white)
    return Problem(XRay(dival_geometry(), backend), y, Gaussian(sigma=sigma)), truth


def _measured(truth: Tensor, fine: XRay, white: np.ndarray) -> tuple[Tensor, Tensor]:
    """Data of images (n, 128, 128), simulated by `fine`, with noise made of `white`; and its σ (n,)."""
    clean = fine(upsampled(truth.double(), DIVAL_FINE).to(truth.dtype))
    sigma = 0.025 * clean.abs().double().mean((1, 2))
    return clean + sigma.to(truth)[:, None, None] * torch.from_numpy(white).to(truth), sigma


class DivalPairs(SimulatedPairs):
    """Pairs (y, x) to learn `dival_problem` from: the published images, or ever new ones of their law.

    train_size : learn from the first `train_size` of the 32 000 published training images, with their noise;
        None for images that never repeat, every one with a seed of its own for image and noise
    validation_size, test_size : of the published parts, the first so many
    """

    def __init__(self, train_size: int | None = None, validation_size: int = 16, test_size: int = 100):
        self.geometry, self.train_size = dival_geometry(), train_size
        self.validation_size, self.test_size = validation_size, test_size
        self.name = "ellipses-dival" if train_size is None else f"ellipses-dival-{train_size}"
        self.seeds = "of the first published images"

    @cached_property
    def fine(self) -> XRay:
        return XRay(dival_geometry(DIVAL_FINE))

    @cached_property
    def validation(self) -> Pair:
        return self._published("validation", self.validation_size)

    @cached_property
    def test(self) -> Pair:
        return self._published("test", self.test_size)

    @cached_property
    def train(self) -> Pair:
        return self._published("train", self.train_size or 64)

    @torch.no_grad()
    def pairs(self, seeds: Sequence[int]) -> Pair:
        """(problem, truth) of new images, one numpy RandomState an image."""
        truth = torch.stack([next(dival_ellipses("train", seed=seed, stop=1)) for seed in seeds])
        shape = self.geometry.sinogram_shape
        # the image has drawn from RandomState(seed); its noise must not repeat those numbers
        white = np.stack([np.random.default_rng([seed, 1]).normal(size=shape) for seed in seeds])
        y, sigma = _measured(truth, self.fine, white)
        return Problem(self.A, y, Gaussian(sigma=sigma)), truth

    def _published(self, part: str, count: int) -> Pair:
        problem, truth = dival_problem(range(count), part)
        return Problem(self.A, problem.y, problem.noise), truth


def upsampled(image: Tensor, size: int) -> Tensor:
    """W · image · Wᵀ, bilinear, mirrored at the outermost centres: (*batch, n, n) -> (*batch, size, size)."""
    n = image.shape[-1]
    place = (np.arange(size) + 0.5) * n / size - 0.5
    place = (n - 1) - np.abs((n - 1) - np.abs(place))
    lower = np.minimum(np.floor(place).astype(int), n - 2)
    weights = np.zeros((size, n))
    weights[np.arange(size), lower] = 1 - (place - lower)
    weights[np.arange(size), lower + 1] = place - lower
    W = torch.from_numpy(weights).to(image)
    return W @ image @ W.T
