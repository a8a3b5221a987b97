"""The problem `ellipses-dival`: 128² from 30 parallel views with 2.5 % noise, image by image as published.

Baguer, Leuschner & Schmidt, Inverse Problems 36 (2020) 094004; data set and seeds of the library DIVal.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from operators import Gaussian, ParallelBeam, XRay

from ..problem import Problem
from .random_ellipses import dival_ellipses

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
    fine = upsampled(truth.double(), DIVAL_FINE).to(dtype)
    clean = XRay(dival_geometry(DIVAL_FINE), backend)(fine)
    sigma = 0.025 * clean.abs().double().mean((1, 2))
    draws = np.random.RandomState(DIVAL_NOISE_SEEDS[part])
    draws.normal(size=(index.start, *clean.shape[1:]))
    white = torch.from_numpy(draws.normal(size=tuple(clean.shape))).to(dtype)
    y = clean + sigma.to(dtype)[:, None, None] * white
    return Problem(XRay(dival_geometry(), backend), y, Gaussian(sigma=sigma)), truth


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
