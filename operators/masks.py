"""Sampling masks of Cartesian MRI in one direction: which lines of phase encoding are measured.

All masks are bool tensors, True where k-space is sampled, centred (DC at n // 2). Masks of lines are (n,) and
belong to the last axis of the image: `Sense(random_mask(nx, 4), maps)`. They are drawn on the CPU. An integer
seed, or a sequence of integers, starts numpy's Mersenne Twister, whose numbers numpy has frozen, so a seed is
the same mask on every platform and with every version; a torch or numpy Generator is drawn from as it comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .checks import check_count, check_finite, check_sequence

Seed = int | Sequence[int] | np.random.Generator | torch.Generator


def acceleration(mask: Tensor) -> float:
    """Points of k-space per sampled one, the fully sampled centre included; broadcasting does not change it.

    Raises ValueError for a mask that samples nothing.
    """
    mask = torch.as_tensor(mask)
    sampled = int((mask != 0).sum())
    if not sampled:
        raise ValueError("acceleration mask: samples nothing; expected at least one True")
    return mask.numel() / sampled


def seed_of(name: str) -> tuple[int, ...]:
    """The character codes of a file's name: fastMRI's seed of its validation and test masks, one per file."""
    if not name:
        raise ValueError("seed_of name: expected a file name such as 'file1000000.h5', got an empty one")
    return tuple(ord(letter) for letter in name)


def random_mask(n: int, acceleration: float, center_fraction: float | None = None, seed: Seed = 0) -> Tensor:
    """c = round(n f) lines in the centre, every other with probability (n/R − c)/(n − c): (n,), bool.

    Zbontar et al., fastMRI, arXiv:1811.08839. The number of lines varies, n/R is its mean: see
    `acceleration`. The same integer or tuple as seed gives fastMRI's own mask.

    n : lines of k-space
    acceleration : R ≥ 1
    center_fraction : f in [0, 1]; default 0.32/R, which is fastMRI's 0.08 at 4 and 0.04 at 8
    seed : see above; `seed_of(file name)` for fastMRI's files

    A draw without any line gets that of DC. Raises ValueError where the centre alone is more than n/R lines.
    """
    low = _low_lines("random_mask", n, acceleration, center_fraction)
    chance = (n / acceleration - low) / (n - low) if low < n else 0.0
    return _lines(_Draws("random_mask", seed).uniform(n) < chance, low)


def equispaced_mask(
    n: int,
    acceleration: float,
    center_fraction: float | None = None,
    spacing: Literal["adjusted", "regular"] = "adjusted",
    offset: int | None = None,
    seed: Seed = 0,
) -> Tensor:
    """c = round(n f) lines in the centre, the others equally spaced from a random first one: (n,), bool.

    Zbontar et al., fastMRI, arXiv:1811.08839; the same integer or tuple as seed gives fastMRI's own mask.

    n : lines of k-space
    acceleration : R ≥ 1
    center_fraction : f in [0, 1]; default 0.32/R, which is fastMRI's 0.08 at 4 and 0.04 at 8
    spacing : "adjusted": R (n − c)/(n − R c), rounded line by line, so that about n/R lines are sampled, with
        the centre, but gaps differ by one (fastMRI's EquispacedMaskFraction, that of its public data; the
        last line is only reached by rounding). "regular": every R-th line, as GRAPPA needs it, R whole; the
        centre comes on top, so less than R-fold is reached (fastMRI's EquiSpacedMask)
    offset : index of the first line; default random
    seed : see above

    Raises ValueError where the centre alone is more than n/R lines, or R is not whole for "regular".
    """
    name = "equispaced_mask"
    if spacing not in ("adjusted", "regular"):
        raise ValueError(f"{name} spacing: expected 'adjusted' or 'regular', got {spacing!r}")
    low = _low_lines(name, n, acceleration, center_fraction, added=spacing == "regular")
    if spacing == "regular":
        step: float = _whole(name, acceleration)
    elif low * acceleration == n:
        return _lines(np.zeros(n, bool), low)  # the centre is all there is room for
    else:
        step = acceleration * (low - n) / (low * acceleration - n) if acceleration > 1 else 1.0
    draws = _Draws(name, seed)
    first = draws.below(max(round(step), 1)) if offset is None else _index(f"{name} offset", offset, n)
    mask = np.zeros(n, bool)
    if spacing == "regular" or step == 1:
        mask[first :: int(step)] = True
    else:
        mask[np.around(np.arange(first, n - 1, step)).astype(int)] = True
    return _lines(mask, low)


def gaussian_mask(
    shape: int | Sequence[int],
    acceleration: float,
    centre: int = 8,
    width: float = 0.1,
    seed: Seed = 0,
) -> Tensor:
    """⌊N/R⌋ samples drawn without return, p ∝ exp(−½ |k/(w n)|²) + 1/(2R), and a full centre: bool.

    Schlemper et al., IEEE Trans. Med. Imaging 37 (2018), who have lines, 8 of them in the centre, w = 1/10.

    shape : n lines, or (ny, nx) for points; the mask has this shape, (n,) or (ny, nx)
    acceleration : R ≥ 1; never exceeded by sampling more than N/R
    centre : lines, or side of the square [points], that are always sampled
    width : w, standard deviation as a fraction of each side
    seed : see the module

    Raises ValueError where the centre does not fit in the mask or has more than N/R samples.
    """
    return nested_masks(shape, [acceleration], centre, width, seed=seed)[0]


def nested_masks(
    shape: int | Sequence[int],
    accelerations: Sequence[float],
    centre: int = 8,
    width: float = 0.1,
    density: Literal["gaussian", "uniform"] = "gaussian",
    seed: Seed = 0,
) -> list[Tensor]:
    """One random order of k-space, its first ⌊N/R⌋ samples for each R: a mask contains every faster one.

    For what a method makes of more samples than it was made for (Antun et al., PNAS 117 (2020)). The order is
    that of sampling without return, p ∝ exp(−½ |k/(w n)|²) + 1/(2 max R), or uniform, after the centre.

    shape : n lines, or (ny, nx) for points
    accelerations : R ≥ 1, in any order, which is that of the masks returned
    centre : lines, or side of the square [points], in all masks
    width : w, standard deviation as a fraction of each side
    density : "gaussian" or "uniform"
    seed : see the module

    Raises ValueError where the centre does not fit in the mask or has more than N / max R samples.
    """
    name = "gaussian_mask or nested_masks"
    sides = (check_count(f"{name} shape", shape),) if isinstance(shape, int) else check_shape(name, shape)
    if not accelerations:
        raise ValueError(f"{name} accelerations: expected at least one number, got none")
    if density not in ("gaussian", "uniform"):
        raise ValueError(f"{name} density: expected 'gaussian' or 'uniform', got {density!r}")
    total = int(np.prod(sides))
    counts = [int(total / check_acceleration(name, R, total)) for R in accelerations]
    inside = block(f"{name} centre", sides, centre)
    if inside.sum() > min(counts):
        raise ValueError(
            f"{name}: the centre alone has {inside.sum()} of {total} samples, more than acceleration "
            f"{max(accelerations):g} leaves ({min(counts)}); make centre or acceleration smaller"
        )
    if not width > 0:
        raise ValueError(f"{name} width: expected a positive fraction of the side, got {width}")
    weight = np.ones(sides)
    if density == "gaussian":
        axes = np.ogrid[tuple(slice(n) for n in sides)]
        exponent = sum(((k - n // 2) / (width * n)) ** 2 for k, n in zip(axes, sides, strict=True))
        weight = np.exp(-exponent / 2) + 1 / (2 * max(accelerations))
    # exponential arrival times with rate `weight` come in the order of sampling without return
    times = -np.log1p(-_Draws(name, seed).uniform(total)) / weight.ravel()
    times[inside.ravel()] = -1
    order = np.argsort(times, kind="stable")
    masks = []
    for count in counts:
        mask = np.zeros(total, bool)
        mask[order[:count]] = True
        masks.append(torch.from_numpy(mask.reshape(sides)))
    return masks


def kt_mask(
    frames: int,
    n: int,
    acceleration: float,
    center_fraction: float | None = None,
    kind: Literal["interleaved", "random"] = "interleaved",
    seed: Seed = 0,
) -> Tensor:
    """Lines that change from frame to frame: (frames, 1, n), bool, for images (frames, ny, n).

    Tsao, Boesiger, Pruessmann, Magn. Reson. Med. 50 (2003).

    frames : of the series
    n : lines of k-space
    acceleration : R ≥ 1, whole for "interleaved"
    center_fraction : of lines sampled in every frame; default 0.32/R
    kind : "interleaved": every R-th line, one further in every frame, so that R frames have them all; the
        centre comes on top. "random": a `random_mask` for every frame, drawn one after the other
    seed : see the module; for "interleaved" it chooses where the first frame starts

    Raises ValueError as `random_mask` and `equispaced_mask`.
    """
    check_count("kt_mask frames", frames)
    draws = _Draws("kt_mask", seed)
    if kind == "random":
        low = _low_lines("kt_mask", n, acceleration, center_fraction)
        chance = (n / acceleration - low) / (n - low) if low < n else 0.0
        lines = [_lines(draws.uniform(n) < chance, low) for _ in range(frames)]
    elif kind == "interleaved":
        low = _low_lines("kt_mask", n, acceleration, center_fraction, added=True)
        step = _whole("kt_mask", acceleration)
        first = draws.below(step)
        lines = [_lines((np.arange(n) - first - t) % step == 0, low) for t in range(frames)]
    else:
        raise ValueError(f"kt_mask kind: expected 'interleaved' or 'random', got {kind!r}")
    return torch.stack(lines)[:, None]


class _Draws:
    """Uniform numbers from a seed or from somebody's generator."""

    def __init__(self, name: str, seed: Seed):
        self.source: np.random.RandomState | np.random.Generator | torch.Generator
        if isinstance(seed, np.random.Generator | torch.Generator):
            self.source = seed
            return
        try:
            self.source = np.random.RandomState(seed)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} seed: expected whole numbers from 0 to 2³² − 1, one or several, or a Generator, got "
                f"{seed!r}"
            ) from error

    def uniform(self, count: int) -> np.ndarray:
        if isinstance(self.source, torch.Generator):
            device = self.source.device
            drawn = torch.rand(count, generator=self.source, dtype=torch.float64, device=device)
            return drawn.cpu().numpy()
        return self.source.uniform(size=count)

    def below(self, high: int) -> int:
        if isinstance(self.source, torch.Generator):
            device = self.source.device
            return int(torch.randint(high, (), generator=self.source, device=device))
        if isinstance(self.source, np.random.Generator):
            return int(self.source.integers(high))
        return int(self.source.randint(0, high=high))


def check_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """(ny, nx), whole numbers of at least 1."""
    sides = tuple(check_count(f"{name} shape", n) for n in check_sequence(f"{name} shape", shape))
    if len(sides) != 2:
        raise ValueError(f"{name} shape: expected (ny, nx), got {shape!r}")
    return sides


def check_acceleration(name: str, value: float, total: int) -> float:
    """A number from 1 (all samples) to `total` (one sample)."""
    if not 1 <= check_finite(f"{name} acceleration", value) <= total:
        raise ValueError(
            f"{name} acceleration: expected a number from 1 to {total}, which is one sample, got {value!r}"
        )
    return value


def block(name: str, sides: Sequence[int], width: int | Sequence[int]) -> np.ndarray:
    """A centred block of `width` samples a side: bool, of shape `sides`; ValueError if it does not fit."""
    widths = [width] * len(sides) if isinstance(width, int) else list(check_sequence(name, width))
    if len(widths) != len(sides) or any(
        w != int(w) or not 0 <= w <= n for w, n in zip(widths, sides, strict=True)
    ):
        raise ValueError(f"{name}: expected whole numbers from 0 to {tuple(sides)}, got {width!r}")
    mask = np.zeros(sides, bool)
    mask[tuple(centred(n, int(w)) for n, w in zip(sides, widths, strict=True))] = True
    return mask


def centred(n: int, width: int) -> slice:
    """`width` of n samples around DC at n // 2, as fastMRI places those that cannot be symmetric."""
    start = (n - width + 1) // 2
    return slice(start, start + width)


def _lines(mask: np.ndarray, low: int) -> Tensor:
    mask[centred(len(mask), low)] = True
    if not mask.any():
        mask[len(mask) // 2] = True
    return torch.from_numpy(mask)


def _low_lines(name: str, n: int, R: float, fraction: float | None, added: bool = False) -> int:
    """How many lines the centre has, checked; `added` where it comes on top of the others."""
    check_count(f"{name} n", n)
    check_acceleration(name, R, n)
    fraction = 0.32 / R if fraction is None else check_finite(f"{name} center_fraction", fraction)
    if not 0 <= fraction <= 1:
        raise ValueError(f"{name} center_fraction: expected a fraction from 0 to 1, got {fraction!r}")
    low = round(n * fraction)
    if not added and low > n / R:
        raise ValueError(
            f"{name}: the centre alone has {low} of {n} lines, more than acceleration {R:g} leaves "
            f"({n / R:g}); make center_fraction or acceleration smaller"
        )
    return low


def _whole(name: str, R: float) -> int:
    if int(R) != R:
        raise ValueError(f"{name} acceleration: lines at a regular distance need a whole number, got {R!r}")
    return int(R)


def _index(name: str, value: int, n: int) -> int:
    if isinstance(value, bool) or int(value) != value or not 0 <= value < n:
        raise ValueError(f"{name}: expected an index from 0 to {n - 1}, got {value!r}")
    return int(value)
