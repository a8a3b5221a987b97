"""A synthetic multi-coil distribution to train, tune and compare on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from operators import LinearOperator, Sense

from .brains import FIELD, random_brain
from .ellipses import Ellipse, Ellipses
from .mr_simulation import TRUTHS, noisy, pixel_means
from .multicoil import combined, multicoil_kspace
from .sets import Pair, SimulatedPairs
from .smooth_fields import SmoothField, coil_fields, random_phase


class SyntheticMRI(SimulatedPairs):
    """Pairs (y, x), y = exact multi-coil k-space of a synthetic object where `mask` samples, plus noise.

    Synthetic in everything: objects are ellipses, phase and coils are smooth fields. Every image has its own
    object, smooth phase, noise and signal-to-noise ratio, all decided by its seed; mask and coils are one for
    the whole set, so that a batch shares one `Sense`. Training, validation and test seeds are apart, as in
    `SimulatedPairs`, and the truth is that of `simulate_mri`.

    Parameters
    ----------
    mask : of k-space, bool, broadcasts to `shape`
    shape : (ny, nx) of the grid
    coils : how many, or their SmoothField; None for one coil of sensitivity 1
    objects : seed -> Ellipses [mm] within a square of `field`: `random_brain`, `mr_ellipses`, …
    snr : range of mean |x| over σ, E|n|² = σ², drawn per image on a logarithmic scale
    phase : largest strength of the smooth phase [rad]
    field : shorter side of the field of view [mm]
    truth : "band-limited", or "pixels" for means over pixels
    validation_size, test_size, train_size : as in `SimulatedPairs`
    dtype : complex64 or complex128
    """

    def __init__(
        self,
        mask: Tensor,
        shape: tuple[int, int] = (128, 128),
        coils: int | SmoothField | None = 8,
        objects: Callable[[int], Ellipses] = random_brain,
        snr: tuple[float, float] = (15.0, 40.0),
        phase: float = 2.0,
        field: float = FIELD,
        truth: str = "band-limited",
        validation_size: int = 16,
        test_size: int = 32,
        train_size: int | None = None,
        dtype: torch.dtype = torch.complex64,
        name: str = "synthetic-mri",
    ):
        if truth not in TRUTHS:
            raise ValueError(f"SyntheticMRI truth: expected one of {', '.join(TRUTHS)}, got {truth!r}")
        if len(snr) != 2 or not 0 < snr[0] <= snr[1]:
            raise ValueError(f"SyntheticMRI snr: expected 0 < low ≤ high, got {snr}")
        if mask.dtype != torch.bool:
            raise ValueError(f"SyntheticMRI mask: expected bool, got {mask.dtype}; use mask != 0")
        self.mask, self.shape, self.objects = mask, (int(shape[0]), int(shape[1])), objects
        self.fields = coil_fields(coils, seed=0) if isinstance(coils, int) else coils
        self.snr, self.phase, self.kind, self.dtype, self.name = snr, phase, truth, dtype, name
        self.pixel_size = field / min(self.shape)
        self.validation_size, self.test_size, self.train_size = validation_size, test_size, train_size

    @cached_property
    def operator(self) -> LinearOperator:
        maps = None if self.fields is None else self.fields.at(self.shape).to(self.dtype)
        return Sense(self.mask, maps, shape=self.shape, pixel_size=self.pixel_size)

    @torch.no_grad()
    def pairs(self, seeds: Sequence[int]) -> Pair:
        """(problem, truth) of the images of these seeds, y (n, [coils,] ny, nx), truth (n, ny, nx)."""
        one = SmoothField(torch.ones(1, 1, 1, dtype=torch.complex128))
        coils = one if self.fields is None else self.fields
        maps, data, truths, snr = coils.at(self.shape), [], [], []
        for seed in seeds:
            random = np.random.default_rng([seed, 2])
            phase = random_phase(int(random.integers(2**31)), self.phase)
            scene = self.objects(seed)
            full = multicoil_kspace(scene, coils * phase, self.shape, self.pixel_size)
            if self.kind == "pixels":
                truths.append(pixel_means(scene, phase, self.shape, self.pixel_size))
            else:
                truths.append(combined(full, maps))
            data.append((full if self.fields is not None else full[0]) * self.mask)
            snr.append(math.exp(random.uniform(math.log(self.snr[0]), math.log(self.snr[1]))))
        truth = torch.stack(truths)
        ratio = torch.tensor(snr, dtype=torch.float64)
        problem = noisy(self.A, torch.stack(data).to(self.dtype), truth, None, ratio, list(seeds))
        return problem, truth.to(self.dtype)


def mr_ellipses(seed: int, field: float = FIELD) -> Ellipses:
    """Random ellipses in a disc: a large one of 0.5 … 1 and 5 to 25 of ±0.05 … 0.5 within 0.8 of its size.

    field : side of the square that holds them [mm]
    """
    random = np.random.default_rng([seed, 3])
    half = field / 2
    outer = half * random.uniform(0.6, 0.8), half * random.uniform(0.6, 0.8)
    ellipses = [Ellipse(random.uniform(0.5, 1), outer, (0.0, 0.0), random.uniform(0, math.pi))]
    for _ in range(int(random.integers(5, 26))):
        radius, turn = 0.6 * min(outer) * math.sqrt(random.random()), random.uniform(0, 2 * math.pi)
        size = 0.2 * min(outer) * random.uniform(0.05, 1, 2)
        value = random.uniform(0.05, 0.5) * random.choice([-1.0, 1.0])
        spot = radius * math.cos(turn), radius * math.sin(turn)
        ellipses.append(Ellipse(value, (size[0], size[1]), spot, random.uniform(0, math.pi)))
    return Ellipses(ellipses)
