"""Images to learn to draw: nothing is measured of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import Gaussian, NoiseModel

from ..brains import FIELD, random_brain
from .pairs import TaskPairs
from .slices import Objects


class SynthesisPairs(TaskPairs):
    """Images x alone: y is white noise of variance 1 that knows nothing of x, the latent of a generator.

    So a method of `data_kind` "unpaired" learns from `.unpaired()`, `images(seeds)` are the images, and the
    best that anyone can say of x from y is the mean of the set.

    objects : seed -> image on at least size² pixels, (n, n), n a multiple of size; None: T1 brains
    size : pixels a side of a field of 220 mm
    Others as in `TaskPairs`.
    """

    def __init__(
        self,
        objects: Objects | None = None,
        size: int = 64,
        contrast: str = "t1",
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = 256,
        name: str = "synthesis",
    ):
        super().__init__((size, size), FIELD / size, validation_size, test_size, train_size, name)
        self.objects, self.contrast = objects, contrast

    def image(self, seed: int) -> Tensor:
        """The image of one seed, (ny, nx), float32."""
        if self.objects is not None:
            from ..simulation import averaged

            return averaged(self.objects(seed), self.shape).float()
        brain = random_brain(seed, self.contrast).rasterise(self.shape, self.pixel_size)
        return brain.clamp_min(0).float()

    def images_of(self, seeds: Sequence[int]) -> Tensor:
        """Images of these seeds, (n, ny, nx)."""
        return torch.stack([self.image(int(seed)) for seed in seeds])

    def pair(self, seed: int) -> tuple[Tensor, Tensor, NoiseModel]:
        law = Gaussian(sigma=1.0)
        return law(torch.zeros(self.shape), seed=seed), self.image(seed), law
