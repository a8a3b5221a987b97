"""Data in the manner of LoDoPaB-CT: slices in parallel beam at 4096 photons a bin.

Leuschner, Schmidt, Otero Baguer, Maass, Sci. Data 8 (2021) 109. There images and data are divided by the
largest attenuation `MU_MAX`; here images are attenuation [1/mm] and data line integrals, so that "range 1" of
the published metrics is the range `MU_MAX` here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from operators import LinearOperator, LowDose, ParallelBeam, XRay
from operators.noise import image_seeds

from ..problem import Problem
from .dival import upsampled
from .sets import TEST, TRAIN, Pair, SimulatedPairs
from .simulation import averaged

MU_WATER, MU_AIR = 0.02, 2e-5
"""[1/mm]"""
MU_MAX = 3071 * (MU_WATER - MU_AIR) / 1000 + MU_WATER
"""Attenuation of the largest stored value, 3071 HU [1/mm]; 1 in the published images."""
PHOTONS = 4096.0
FIELD = 260.0
"""Side of every image, whatever its pixels measured in the scanner [mm]."""
SIZE, FINE, SLICE = 362, 1000, 512
"""Pixels a side: of the images, of those that are projected, of the slices they are cut from."""


def lodopab_attenuation(hu: Tensor) -> Tensor:
    """μ = HU (μ_water − μ_air)/1000 + μ_water [1/mm], cut off at 0 and at that of 3071 HU.

    hu : any shape [HU]
    """
    return (hu * (MU_WATER - MU_AIR) / 1000 + MU_WATER).clamp(0.0, MU_MAX)


def lodopab_images(hu: Tensor, size: int | None = None, seed: int | Sequence[int] = 0) -> Tensor:
    """Slices as LoDoPaB has them: middle 362/512 of each side, + U(0, 1) HU against steps, as attenuation.

    hu : stored slices, (*batch, n, n) [HU]
    size : pixels a side of the result, of which each is the mean of those it covers; None for those cut out.
        362 of 512 published
    seed : one for all slices or one each

    Returns (*batch, size, size), float32 [1/mm].
    """
    if hu.ndim < 2 or hu.shape[-1] != hu.shape[-2]:
        raise ValueError(f"lodopab_images hu: expected square slices (*batch, n, n), got {tuple(hu.shape)}")
    n = hu.shape[-1]
    side = round(n * SIZE / SLICE)
    if size is not None and not 2 <= size <= side:
        raise ValueError(
            f"lodopab_images size: expected 2 to {side}, the pixels cut out of {n}, got {size}; "
            "slices are not enlarged"
        )
    first = (n - side) // 2
    cut = hu[..., first : first + side, first : first + side].float().reshape(-1, side, side)
    draws = [
        torch.rand((side, side), generator=torch.Generator().manual_seed(s))
        for s in image_seeds(seed, len(cut))
    ]
    mu = lodopab_attenuation(cut + torch.stack(draws)) if len(cut) else cut
    return averaged(mu, (size or side,) * 2).reshape(*hu.shape[:-2], size or side, size or side)


def lodopab_geometry(size: int = SIZE) -> ParallelBeam:
    """`size`² pixels over 260 mm and 513 bins over its diagonal from 1000 views in the middle of π/1000 each.

    Fewer pixels have bins as many times wider and views fewer with the square of it (181²: 250 views of 257
    bins), so that the noise of a pixel at 4096 photons a bin stays that of 362².
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 2:
        raise ValueError(f"lodopab_geometry size: expected a whole number of at least 2, got {size!r}")
    views = max(round(FINE * (size / SIZE) ** 2), 1)
    n_bins = 2 * math.ceil(size / math.sqrt(2)) + 1
    return ParallelBeam(
        image_shape=(size, size),
        pixel_size=FIELD / size,
        angles=tuple((k + 0.5) * math.pi / views for k in range(views)),
        n_bins=n_bins,
        bin_size=math.sqrt(2) * FIELD / n_bins,
    )


def lodopab_noise() -> LowDose:
    """Counts ~ Poisson(4096 exp(−A x)); the logarithm takes 0 counts for 0.1."""
    return LowDose(i0=PHOTONS, electronic_sigma=0.0, floor=0.1)


def lodopab_problem(
    images: Tensor, seed: int | Sequence[int] = 0, A: LinearOperator | None = None
) -> Problem:
    """Counts of images that were interpolated to 1000/362 as many pixels a side and projected there.

    images : attenuation (*batch, n, n) [1/mm], as `lodopab_images` gives; they are the truth
    seed : of the counts, one for all images or one each
    A : the operator to reconstruct with, that of `lodopab_geometry`; None makes one
    """
    n = images.shape[-1]
    geometry = lodopab_geometry(n)
    fine = geometry.refined((round(n * FINE / SIZE),) * 2, 1)
    clean = XRay(fine)(upsampled(images.double(), fine.image_shape[0]).to(images))
    noise = lodopab_noise()
    return Problem(XRay(geometry) if A is None else A, noise(clean, seed=seed), noise)


class LoDoPaBPairs(SimulatedPairs):
    """Pairs from given images of given patients: `lodopab_problem` of each, with new counts at every draw.

    Parameters
    ----------
    train, validation, test : images (n, size, size) [1/mm], of different patients; test may be left out
    turned : show training images in their eight orientations as well, without `train_size`
    train_size : learn from the first so many images, each with counts drawn once, as published; None for
        new counts whenever an image is drawn
    """

    def __init__(
        self,
        train: Tensor,
        validation: Tensor,
        test: Tensor | None = None,
        turned: bool = False,
        train_size: int | None = None,
        name: str = "lodopab-like",
    ):
        test = validation[:0] if test is None else test
        for part, images in (("train", train), ("validation", validation), ("test", test)):
            shape = tuple(images.shape)
            empty = part != "test" and not len(images)
            if len(shape) != 3 or empty or shape[1:] != (train.shape[-1],) * 2:
                raise ValueError(
                    f"LoDoPaBPairs {part}: expected images (n, size, size) of one size, got {shape}"
                )
        if turned and train_size is not None:
            raise ValueError(
                f"LoDoPaBPairs turned: images that are drawn once stay upright, got turned with "
                f"train_size={train_size}; leave out one of the two"
            )
        if train_size is not None and not 1 <= train_size <= len(train):
            raise ValueError(f"LoDoPaBPairs train_size: expected 1 to {len(train)}, got {train_size}")
        self.pools, self.turned = {"train": train, "validation": validation, "test": test}, turned
        super().__init__(
            lodopab_geometry(train.shape[-1]),
            lodopab_noise(),
            self._images,
            validation_size=len(validation),
            test_size=len(test),
            train_size=train_size,
            name=name,
        )

    @cached_property
    def train(self) -> Pair:
        """The training images, upright, with counts drawn once."""
        return self.pairs(range(TRAIN, TRAIN + (self.train_size or len(self.pools["train"]))))

    @torch.no_grad()
    def pairs(self, seeds: Sequence[int]) -> Pair:
        images = self._images(seeds)
        return lodopab_problem(images, list(seeds), self.A), images

    def _images(self, seeds: Sequence[int]) -> Tensor:
        return torch.stack([self._image(s) for s in seeds])

    def _image(self, seed: int) -> Tensor:
        if seed < TEST:
            return self.pools["validation"][seed]
        if seed < TRAIN:
            return self.pools["test"][seed - TEST]
        way, number = divmod(seed - TRAIN, len(self.pools["train"]))
        image = self.pools["train"][number]
        if not self.turned:
            return image
        image = image.rot90(way % 4)
        return image.T.contiguous() if way // 4 % 2 else image.contiguous()
