"""Sampling masks of Cartesian MRI in two directions: Poisson disc, gridded spokes, regular grids.

Two phase encodings of a volume, or a slice for simulations. Bool tensors (ny, nx), True where k-space is
sampled, DC at (ny // 2, nx // 2). For Gaussian and nested ones and for seeds see `masks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .checks import check_count, check_finite, check_sequence
from .masks import Seed, _Draws, block, check_acceleration, check_shape

GOLDEN = math.pi * (math.sqrt(5) - 1) / 2
"""Golden angle between spokes [rad], 111.246°."""


def poisson_disc(
    shape: Sequence[int],
    acceleration: float,
    calibration: int | Sequence[int] = 24,
    crop: bool = True,
    seed: Seed = 0,
) -> Tensor:
    """Samples about as far apart as the local radius 1 + s|k|, s such that they are round(N/R): bool.

    Random, yet without the clusters and holes of independent draws; the density along a line is 1/(1 + s|k|).
    Dunbar and Humphreys, ACM Trans. Graph. 25 (2006), for the discs; Vasanawala et al., ISBI 2011, for MRI.
    Distances on a grid are 1, √2, 2, √5, …; every point rounds its radius to the one below or above, at
    random so that the mean is kept, else the density had steps. Points are visited in random order, DC
    first, and one is taken unless it is nearer to a sample than either's rounded radius. So no two samples
    are nearer than the largest grid distance up to the local radius of both. s is found by bisection; what is
    then too much, the last few taken, goes again, so that the number is met exactly. Samples outside the
    calibration region keep their distance among themselves, not from it.

    shape : (ny, nx)
    acceleration : R ≥ 1, met exactly: N/round(N/R)
    calibration : sides of the fully sampled centre, one number or (ny, nx); 0 for none
    crop : sample the ellipse |k| ≤ 1 only, k = (2 ky/ny, 2 kx/nx); R counts the corners as well
    seed : see `masks.py`

    Raises ValueError where the calibration alone has more than N/R samples, or the ellipse has fewer.
    """
    return _poisson_disc(shape, acceleration, calibration, crop, seed)[0]


def _poisson_disc(
    shape: Sequence[int], R: float, calibration: int | Sequence[int], crop: bool, seed: Seed
) -> tuple[Tensor, np.ndarray]:
    """The mask and the local radius [grid steps]."""
    from .backends.discs import throw

    name = "poisson_disc"
    sides = check_shape(name, shape)
    total = math.prod(sides)
    count = max(round(total / check_acceleration(name, R, total)), 1)
    centre = block(f"{name} calibration", sides, calibration)
    y, x = np.ogrid[: sides[0], : sides[1]]
    distance = np.hypot(2 * (y - sides[0] // 2) / sides[0], 2 * (x - sides[1] // 2) / sides[1])
    allowed = ~centre if not crop else ~centre & (distance <= 1)
    wanted = count - int(centre.sum())
    if wanted < 0:
        raise ValueError(
            f"{name}: the calibration region alone has {centre.sum()} of {total} samples, more than "
            f"acceleration {R:g} leaves ({count}); make calibration or acceleration smaller"
        )
    if wanted > allowed.sum():
        raise ValueError(
            f"{name}: acceleration {R:g} needs {count} samples, the ellipse has "
            f"{allowed.sum() + centre.sum()} of {total}; set crop=False or a larger acceleration"
        )
    draws = _Draws(name, seed)
    times, dither = draws.uniform(total), draws.uniform(total).reshape(sides)
    times[np.ravel_multi_index((sides[0] // 2, sides[1] // 2), sides)] = -1  # DC comes first
    order = np.argsort(times, kind="stable")
    order = order[allowed.ravel()[order]]
    squares = np.unique(np.add.outer(np.arange(sides[0]) ** 2, np.arange(sides[1]) ** 2))[1:]
    squares = np.append(squares, total**2) if len(squares) else np.array([1, 2])
    levels = np.sqrt(squares)

    def thrown(s: float) -> np.ndarray:
        radius = np.minimum(1 + s * distance, levels[-2])
        below = np.searchsorted(levels, radius, side="right") - 1
        above = levels[below] + dither * (levels[below + 1] - levels[below]) < radius
        return throw(order, squares[below + above])

    s = _largest(lambda s: len(thrown(s)) >= wanted)
    mask = centre.ravel()
    mask[thrown(s)[:wanted]] = True
    return torch.from_numpy(mask.reshape(sides)), 1 + s * distance


def _largest(enough: Callable[[float], bool]) -> float:
    """The largest s found with enough(s), to 1e-4 of its size; 0 always has enough."""
    low, high = 0.0, 1.0
    while enough(high) and high < 1e6:  # where one sample is enough there is no largest s
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low


def radial_mask(
    shape: Sequence[int],
    spokes: int | None = None,
    acceleration: float | None = None,
    golden: bool = True,
    angle: float = 0.0,
) -> Tensor:
    """Straight lines through DC to the edges of the grid, on the grid points nearest to them: (ny, nx), bool.

    A Cartesian stand-in for radial sampling; true spokes need `NonUniformFourier`. Winkelmann et al., IEEE
    Trans. Med. Imaging 26 (2007), for the golden angle, 111.246°: more spokes contain fewer.

    shape : (ny, nx); a spoke at angle θ runs along (sin θ, cos θ) in grid steps
    spokes : how many; or
    acceleration : R ≥ 1: as many spokes as there can be with R or more
    golden : spoke m at `angle` + 111.246° m; otherwise at `angle` + 180° m/spokes
    angle : of the first spoke [rad]

    Raises ValueError unless one of spokes and acceleration is given, and where one spoke is more than N/R.
    """
    sides = check_shape("radial_mask", shape)
    check_finite("radial_mask angle", angle)
    if (spokes is None) == (acceleration is None):
        raise ValueError(
            f"radial_mask: expected spokes or acceleration, one of them, got {spokes!r} and {acceleration!r}"
        )

    def star(count: int) -> np.ndarray:
        mask = np.zeros(sides, bool)
        for m in range(count):
            mask[_spoke(sides, angle + (GOLDEN * m if golden else math.pi * m / count))] = True
        return mask

    if spokes is not None:
        return torch.from_numpy(star(check_count("radial_mask spokes", spokes)))
    assert acceleration is not None
    total = math.prod(sides)
    most = total / check_acceleration("radial_mask", acceleration, total)
    fewest = int(star(1).sum())
    if fewest > most:
        raise ValueError(
            f"radial_mask acceleration: one spoke has {fewest} of {total} samples, acceleration "
            f"{total / fewest:g}; expected at most that, got {acceleration:g}"
        )
    low, high = 1, 4 * max(sides)  # with more spokes than 4 n nothing is left to sample
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if star(middle).sum() <= most else (low, middle - 1)
    return torch.from_numpy(star(low))


def _spoke(sides: tuple[int, ...], theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of one line: one point for every step along the direction it follows more."""
    (ny, nx), along = sides, (math.sin(theta), math.cos(theta))
    if abs(along[1]) >= abs(along[0]):
        x = np.arange(nx) - nx // 2
        y = np.rint(x * (along[0] / along[1])).astype(int)
    else:
        y = np.arange(ny) - ny // 2
        x = np.rint(y * (along[1] / along[0])).astype(int)
    rows, columns = y + ny // 2, x + nx // 2
    inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    return rows[inside], columns[inside]


def grid_mask(
    shape: Sequence[int],
    steps: Sequence[int],
    calibration: int | Sequence[int] = 24,
    offset: Sequence[int] = (0, 0),
) -> Tensor:
    """Every R_y-th row and R_x-th column, DC among them, and a full centre: (ny, nx), bool, for GRAPPA.

    Griswold et al., Magn. Reson. Med. 47 (2002). The acceleration without the centre is R_y R_x.

    shape : (ny, nx)
    steps : (R_y, R_x), whole, at least 1
    calibration : sides of the fully sampled centre, one number or (ny, nx), at most the shape; 0 for none
    offset : rows and columns by which the grid is moved away from DC

    Raises ValueError where the centre does not fit.
    """
    sides = check_shape("grid_mask", shape)
    pair = tuple(check_count("grid_mask steps", r) for r in check_sequence("grid_mask steps", steps))
    moved = tuple(check_sequence("grid_mask offset", offset))
    if len(pair) != 2 or len(moved) != 2 or any(int(o) != o for o in moved):
        raise ValueError(f"grid_mask: expected two whole steps and offsets, got {steps!r} and {offset!r}")
    taken = block("grid_mask calibration", sides, calibration)
    if any(r > n for r, n in zip(pair, sides, strict=True)):
        raise ValueError(f"grid_mask steps: expected at most the shape {sides}, got {pair}")
    rows, columns = (
        (np.arange(n) - n // 2 - int(o)) % r == 0 for n, r, o in zip(sides, pair, moved, strict=True)
    )
    return torch.from_numpy(taken | (rows[:, None] & columns))
