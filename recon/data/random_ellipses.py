"""Images of random ellipses, as the learned-reconstruction papers draw them.

    image(p) = Σₖ vₖ·1[ p ∈ ellipseₖ ],  p on the pixel grid whose outermost centres are ±1

Adler & Öktem, Inverse Problems 33 (2017) 124007; Adler & Öktem, IEEE Trans. Med. Imaging 37 (2018) 1322;
Baguer, Leuschner & Schmidt, Inverse Problems 36 (2020) 094004 (DIVal's data set `ellipses`).

Images have our orientation, x along columns and y up. DIVal and ODL index [x, y]: theirs is
`image.rot90(-1, (-2, -1))` of ours, the same scene, so view angles and bins mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

DIVAL_SEEDS = {"train": 42, "validation": 2, "test": 1}
DIVAL_LENGTHS = {"train": 32_000, "validation": 3_200, "test": 3_200}


def random_ellipses_2017(n: int, seed: int, size: int = 128, start: int = 0) -> Tensor:
    """Training images of the learned gradient scheme (Adler & Öktem 2017), neither clipped nor normalised.

    Poisson(100) ellipses; value (U(0, 1) − 0.3)·Exp(0.3); semi-axes 0.2·Exp(1); centre in [−½, ½]².

    n : number of images
    seed : image i depends on (seed, i) only, not on n
    size : pixels a side
    start : number of the first image

    Returns (n, size, size), float32.
    """

    def draw(random: np.random.Generator) -> Array:
        count = random.poisson(100)
        value = (random.random(count) - 0.3) * random.exponential(0.3, count)
        return _shaped(random, value, reach=0.5)

    return _images(draw, n, seed, size, start)


def random_ellipses_2018(n: int, seed: int, size: int = 128, start: int = 0) -> Tensor:
    """Training images of learned primal–dual (Adler & Öktem 2018), neither clipped nor normalised.

    Poisson(50) ellipses; value (U(0, 1) − ½)·Exp(0.4); semi-axes 0.2·Exp(1); centre in [−1, 1]².
    Parameters and shape as `random_ellipses_2017`.
    """

    def draw(random: np.random.Generator) -> Array:
        count = random.poisson(50)
        value = (random.random(count) - 0.5) * random.exponential(0.4, count)
        return _shaped(random, value, reach=1.0)

    return _images(draw, n, seed, size, start)


def dival_ellipses(
    part: str, size: int = 128, seed: int | None = None, start: int = 0, stop: int | None = None
) -> Iterator[Tensor]:
    """Images `start` to `stop` of DIVal's `ellipses`, in [0, 1] with background 0, one by one.

    At most 70 of Poisson(40) ellipses; value U(−0.4, 1); semi-axes 0.2·Exp(1); centre in [−0.9, 0.9]²;
    non-zero pixels are shifted by −min, then the image is divided by its maximum.

    part : "train", "validation" or "test"; its published seed is used where `seed` is None
    size : pixels a side
    seed : another seed for numpy's RandomState
    start, stop : range of images; by default all 32 000, 3 200 or 3 200

    Yields (size, size), float32.
    """
    if part not in DIVAL_SEEDS:
        raise ValueError(f"dival_ellipses part: expected one of {', '.join(DIVAL_SEEDS)}, got {part!r}")
    stop = DIVAL_LENGTHS[part] if stop is None else stop
    return _dival_images(DIVAL_SEEDS[part] if seed is None else seed, _checked_size(size), start, stop)


def _dival_images(seed: int, size: int, start: int, stop: int) -> Iterator[Tensor]:
    random = np.random.RandomState(seed)
    for index in range(stop):
        columns = [
            random.uniform(-0.4, 1.0, 70),
            0.2 * random.exponential(1.0, 70),
            0.2 * random.exponential(1.0, 70),
            random.uniform(-0.9, 0.9, 70),
            random.uniform(-0.9, 0.9, 70),
            random.uniform(0.0, 2 * np.pi, 70),
        ]
        count = min(random.poisson(40), 70)
        if index >= start:
            image = np.zeros((size, size), np.float32)
            rasterise(np.stack(columns, 1)[:count], image)
            image[image != 0] -= image.min()
            image /= image.max()
            yield torch.from_numpy(image)


@njit(cache=True, nogil=True)
def rasterise(ellipses: Array, image: NDArray[np.float32]) -> None:
    """Add every ellipse to the pixels whose centre it holds, in order.

    ellipses : (count, 6) rows of value, semi-axes a and b, x, y, angle of a against x [rad], on [−1, 1]²
    image : (ny, nx), row 0 at y = 1, changed in place
    """
    ny, nx = image.shape
    for e in range(len(ellipses)):
        value, a, b, x0, y0, angle = ellipses[e]
        c, s = np.cos(angle), np.sin(angle)
        half_x = np.sqrt((a * c) ** 2 + (b * s) ** 2)
        half_y = np.sqrt((a * s) ** 2 + (b * c) ** 2)
        # one pixel wider than the box, so that rounding never cuts
        left = max(0, int(np.floor((x0 - half_x + 1) / 2 * (nx - 1))) - 1)
        right = min(nx - 1, int(np.ceil((x0 + half_x + 1) / 2 * (nx - 1))) + 1)
        top = max(0, int(np.floor((1 - y0 - half_y) / 2 * (ny - 1))) - 1)
        bottom = min(ny - 1, int(np.ceil((1 - y0 + half_y) / 2 * (ny - 1))) + 1)
        for i in range(top, bottom + 1):
            dy = (ny - 1 - 2 * i) / (ny - 1) - y0
            for j in range(left, right + 1):
                dx = (2 * j - nx + 1) / (nx - 1) - x0
                along, across = c * dx + s * dy, -s * dx + c * dy
                if along * along * (1 / (a * a)) + across * across * (1 / (b * b)) <= 1:
                    image[i, j] = np.float32(image[i, j] + value)


def _shaped(random: np.random.Generator, value: Array, reach: float) -> Array:
    n = len(value)
    return np.stack(
        [
            value,
            0.2 * random.exponential(1.0, n),
            0.2 * random.exponential(1.0, n),
            random.uniform(-reach, reach, n),
            random.uniform(-reach, reach, n),
            random.uniform(0.0, 2 * np.pi, n),
        ],
        axis=1,
    )


def _images(draw: Callable[[np.random.Generator], Array], n: int, seed: int, size: int, start: int) -> Tensor:
    images = np.zeros((n, _checked_size(size), size), np.float32)
    for i, image in enumerate(images):
        rasterise(draw(np.random.default_rng((seed, start + i))), image)
    return torch.from_numpy(images)


def _checked_size(size: int) -> int:
    if size < 2:
        raise ValueError(f"random ellipses size: expected at least 2 pixels a side, got {size}")
    return size
