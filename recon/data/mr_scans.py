"""Simulated scans of one MR scanner: every image with its own object, phase and noise, and maximum 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from operators import Gaussian, NonUniformSense, Sense

from ..problem import Problem
from .brains import random_brain
from .ellipses import Ellipse, Ellipses
from .mr_simulation import simulate_mri
from .sets import Pair, SimulatedPairs
from .smooth_fields import SmoothField, coil_fields, random_phase


class MRScans(SimulatedPairs):
    """Pairs (y, x) of `simulate_mri`, scaled to max|x| = 1 so that λ and grey values mean the same in all.

    Where the mask or the trajectory samples, with noise of E|n|² = σ², σ = mean|x| / snr before scaling; all
    images share one `Sense` or `NonUniformSense`. The truth is the coil-combined image of a full scan without
    noise, complex. PSNR and SSIM of range 1 therefore refer to the maximum of the slice.

    Parameters
    ----------
    shape : (ny, nx) of the grid
    pixel_size : [mm]
    mask : of k-space, bool, broadcasts to `shape`. Or
    trajectory : (…, samples, 2), (k_y, k_x) [rad per pixel]
    coils : how many, or their SmoothField
    snr : mean of |x| where it exceeds 5 % of its maximum, over σ
    phase : largest strength of the smooth phase [rad]
    objects : seed -> Ellipses [mm] within the field of view; used by `pairs`, as training does
    validation_size, test_size, train_size : as in `SimulatedPairs`
    """

    def __init__(
        self,
        shape: tuple[int, int],
        pixel_size: float,
        mask: Tensor | None = None,
        trajectory: Tensor | None = None,
        coils: int | SmoothField = 8,
        snr: float = 30.0,
        phase: float = 2.0,
        objects: Callable[[int], Ellipses] = random_brain,
        validation_size: int = 16,
        test_size: int = 32,
        train_size: int | None = None,
        name: str = "mr-scans",
    ):
        if (mask is None) == (trajectory is None):
            raise ValueError("MRScans: expected exactly one of mask and trajectory")
        self.shape, self.pixel_size = (int(shape[0]), int(shape[1])), pixel_size
        self.mask, self.trajectory = mask, trajectory
        self.fields = coil_fields(coils, seed=0) if isinstance(coils, int) else coils
        self.snr, self.phase, self.objects, self.name = snr, phase, objects, name
        self.validation_size, self.test_size, self.train_size = validation_size, test_size, train_size

    @cached_property
    def operator(self) -> Sense | NonUniformSense:
        maps = self.fields.at(self.shape).to(torch.complex64)
        if self.trajectory is not None:
            return NonUniformSense(self.trajectory, maps, pixel_size=self.pixel_size)
        assert self.mask is not None
        return Sense(self.mask, maps, shape=self.shape, pixel_size=self.pixel_size)

    def pair(self, scene: Ellipses | Tensor, seed: int, phase_seed: int | None = None) -> Pair:
        """One scan of one object, or of an image with more pixels than the grid; noise by `seed`.

        phase_seed : of the smooth phase; None: `seed`
        """
        problem, truth = simulate_mri(
            scene,
            self.mask,
            self.fields,
            trajectory=self.trajectory,
            shape=self.shape,
            pixel_size=self.pixel_size,
            phase=random_phase(seed if phase_seed is None else phase_seed, self.phase),
            snr=self.snr,
            seed=seed,
        )
        noise = problem.noise
        assert isinstance(noise, Gaussian)
        largest = truth.abs().max()
        sigma = torch.as_tensor(noise.sigma) / largest.double()
        law = Gaussian(sigma=float(sigma), data_ndim=3, mask=self.operator.sampled)
        return Problem(self.A, problem.y / largest, law), truth / largest

    @torch.no_grad()
    def pairs(self, seeds: Sequence[int]) -> Pair:
        """(problem, truth) of the objects of these seeds, y (n, coils, …), truth (n, ny, nx)."""
        found = [self.pair(self.objects(seed), seed) for seed in seeds]
        laws = [cast(Gaussian, problem.noise) for problem, _ in found]
        sigma = torch.stack([torch.as_tensor(law.sigma, dtype=torch.float64) for law in laws])
        law = Gaussian(sigma=sigma, data_ndim=3, mask=self.operator.sampled)
        y = torch.stack([problem.y for problem, _ in found])
        return Problem(self.A, y, law), torch.stack([truth for _, truth in found])


def shrunk(ellipses: Ellipses, factor: float) -> Ellipses:
    """All lengths times `factor`, about the middle of the field of view."""
    return Ellipses(
        Ellipse(
            e.value,
            (factor * e.semi_axes[0], factor * e.semi_axes[1]),
            (factor * e.centre[0], factor * e.centre[1]),
            e.angle,
        )
        for e in ellipses
    )
