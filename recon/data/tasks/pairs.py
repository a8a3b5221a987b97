"""What the tasks share: pairs made image by image, each from its seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from operators import Gaussian, Identity, LinearOperator, NoiseModel

from ...problem import Problem
from ..sets import Pair, SimulatedPairs


class TaskPairs(SimulatedPairs):
    """Pairs (y, x) of a task, image k from seed k alone: the same at every call, in any batch and order.

    Seeds of training, validation and test are apart (`recon.data.sets`). A subclass writes `pair`, and
    `scanner` where A is not `Identity(shape)`, that is where y is not an image itself.

    shape : (ny, nx) of the images
    pixel_size : [mm]
    validation_size, test_size : images kept apart
    train_size : learn from this many images, made once; None for a new one every time
    """

    def __init__(
        self,
        shape: tuple[int, int],
        pixel_size: float,
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = 256,
        name: str = "task",
    ):
        for part, size in (("validation", validation_size), ("test", test_size), ("train", train_size)):
            if size is not None and size < 1:
                raise ValueError(f"{type(self).__name__} {part}_size: expected at least 1, got {size}")
        self.shape, self.pixel_size, self.name = (int(shape[0]), int(shape[1])), float(pixel_size), name
        self.validation_size, self.test_size, self.train_size = validation_size, test_size, train_size

    @abstractmethod
    def pair(self, seed: int) -> tuple[Tensor, Tensor, NoiseModel]:
        """Y (*A.out_shape), x (ny, nx), and the law of y, of the image of one seed."""

    def scanner(self) -> LinearOperator:
        """The operator that all share."""
        return Identity(self.shape)

    @cached_property
    def operator(self) -> LinearOperator:
        return self.scanner()

    @torch.no_grad()
    def pairs(self, seeds: Sequence[int]) -> Pair:
        """(problem, truth) of the images of these seeds, batched."""
        made = [self.pair(int(seed)) for seed in seeds]
        law = made[0][2]
        if isinstance(law, Gaussian):
            # its σ may differ from image to image
            sigma = [float(one[2].sigma) for one in made]  # type: ignore[arg-type, union-attr]
            law = Gaussian(sigma=sigma, data_ndim=law.data_ndim)
        y, x = torch.stack([one[0].float() for one in made]), torch.stack([one[1].float() for one in made])
        return Problem(self.A, y, law), x
