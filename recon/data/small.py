"""The problem `ellipses-small`: small enough to train every learned method on two cores in minutes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from operators import Gaussian, ParallelBeam

from .random_ellipses import dival_ellipses
from .sets import SimulatedPairs
from .tasks.named import TASKS


def ellipses_small_geometry(size: int = 64, views: int = 30) -> ParallelBeam:
    """Parallel beam: `size`² pixels of 1 mm, `views` angles (k + ½)π/views, bins over the diagonal."""
    n_bins = math.ceil(math.sqrt(2) * size) + 2
    return ParallelBeam(
        image_shape=(size, size),
        pixel_size=1.0,
        angles=tuple((k + 0.5) * math.pi / views for k in range(views)),
        n_bins=n_bins,
        bin_size=math.sqrt(2) * size / n_bins,
    )


def dival_images(size: int) -> Callable[[Sequence[int]], Tensor]:
    """Seeds -> images as DIVal's `ellipses` on `size`² pixels, one numpy RandomState an image."""

    def images(seeds: Sequence[int]) -> Tensor:
        return torch.stack([next(dival_ellipses("train", size, seed=seed, stop=1)) for seed in seeds])

    return images


def ellipses_small(train_size: int | None = None) -> SimulatedPairs:
    """Random ellipses in [0, 1] per mm, 64² from 30 views × 93 bins, noise of 5 % of the mean |A x|.

    Simulated on 128² with two sub-bins a bin. Images as in Baguer, Leuschner, Schmidt, Inverse Problems 36
    (2020), at half their size and twice their noise.

    train_size : learn from this many images; None for a new one every time
    """
    return SimulatedPairs(
        ellipses_small_geometry(),
        Gaussian(relative=0.05),
        dival_images(128),
        validation_size=16,
        test_size=32,
        train_size=train_size,
        name="ellipses-small",
    )


TRAINING_SETS: dict[str, Callable[[], SimulatedPairs]] = {"ellipses-small": ellipses_small, **TASKS}
