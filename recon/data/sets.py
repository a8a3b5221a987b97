"""What a learned method learns from: pairs, images and data that do not belong together, or data alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from operators import LinearOperator, NoiseModel, XRay
from operators.geometry import PlanarGeometry

from ..problem import Problem
from .simulation import simulate

Pair = tuple[Problem, Tensor]
Images = Callable[[Sequence[int]], Tensor]

TRAIN, VALIDATION, TEST = 2**31, 0, 2**30


class PairedData:
    """Problems with their truths, all from one scanner.

    train, validation    (problem, truth), batched: problem.y (n, *A.out_shape), truth (n, *A.in_shape)
    batches(size, generator)   endless (problem, truth) of `size` different training images, at random
    unpaired()                 the same images for a method that must not see pairs
    measurements()             the same data for a method that must not see images
    of_kind(kind)              one of the three, by a method's `data_kind`

    What comes out of `batches` is decided by the generator alone: with its state restored, the rest is the
    same.
    """

    name: str = "pairs"

    def __init__(self, train: Pair, validation: Pair, name: str = "pairs"):
        self.name = name
        self._train, self._validation = _checked("train", *train), _checked("validation", *validation)
        first, second = train[0].A, validation[0].A
        if (first.in_shape, first.out_shape) != (second.in_shape, second.out_shape):
            raise ValueError(
                f"PairedData: train and validation must be of one scanner, got {first!r} and {second!r}"
            )

    @property
    def train(self) -> Pair:
        return self._train

    @property
    def validation(self) -> Pair:
        return self._validation

    @property
    def A(self) -> LinearOperator:
        """The one operator of all of them."""
        return self.validation[0].A

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        problem, truth = self.train
        while True:
            index = torch.randperm(len(truth), generator=generator)[:size]
            yield selected(problem, index), truth[index]

    def unpaired(self) -> UnpairedData:
        return UnpairedData(self)

    def measurements(self) -> Measurements:
        return Measurements(self)

    def of_kind(self, kind: str | None) -> PairedData | UnpairedData:
        """What a method of this `data_kind` learns from."""
        match kind:
            case "unpaired":
                return self.unpaired()
            case "measurements":
                return self.measurements()
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.A!r})"


class SimulatedPairs(PairedData):
    """Pairs simulated as they are asked for: x from a seeded generator, y = noise(A x) from a finer grid.

    By `simulate`: the image is drawn on the finer grid that `images` chooses, and projected there onto cut
    bins; an image and its noise have one seed. The truth is the fine image averaged to the geometry's grid.

    Parameters
    ----------
    geometry : of the scanner and the reconstruction grid
    noise : law of the raw data
    images : seeds -> (len(seeds), fine ny, fine nx), float32 [1/mm]
    validation_size, test_size : images kept apart (seeds that no training batch has)
    train_size : learn from this many images only; None for never the same image twice
    oversampling : sub-bins per detector bin
    """

    def __init__(
        self,
        geometry: PlanarGeometry,
        noise: NoiseModel,
        images: Images,
        validation_size: int = 16,
        test_size: int = 32,
        train_size: int | None = None,
        oversampling: int = 2,
        name: str = "simulated",
    ):
        self.geometry, self.noise, self.images, self.name = geometry, noise, images, name
        self.validation_size, self.test_size, self.train_size = validation_size, test_size, train_size
        self.oversampling = oversampling

    @classmethod
    def from_images(
        cls,
        geometry: PlanarGeometry,
        noise: NoiseModel,
        images: Tensor,
        validation: float = 0.1,
        test: float = 0.1,
        name: str = "own images",
        oversampling: int = 2,
    ) -> SimulatedPairs:
        """Pairs of images of one's own, (n, fine ny, fine nx): the same images, new noise in every batch.

        geometry, noise, oversampling : as above
        images : finer than the reconstruction grid, so that data and reconstruction do not share their pixels
        validation, test : shares of the images, the last ones, kept apart: at least one to validate with.
            Slices of one patient belong on one side: sort them so
        """
        return _OwnImages(geometry, noise, images, validation, test, name, oversampling)

    @cached_property
    def operator(self) -> LinearOperator:
        return XRay(self.geometry)

    @property
    def A(self) -> LinearOperator:
        return self.operator

    @cached_property
    def validation(self) -> Pair:
        return self.pairs(range(VALIDATION, VALIDATION + self.validation_size))

    @cached_property
    def test(self) -> Pair:
        """(problem, truth) for the comparison; never trained or tuned on."""
        return self.pairs(range(TEST, TEST + self.test_size))

    @cached_property
    def train(self) -> Pair:
        """The training images, or the first 64 of them if they never end."""
        return self.pairs(range(TRAIN, TRAIN + (self.train_size or 64)))

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        if self.train_size is not None:
            yield from super().batches(size, generator)
        while True:
            seeds = torch.randint(TRAIN, 2**32, (size,), generator=generator)
            yield self.pairs(seeds.tolist())

    @torch.no_grad()
    def pairs(self, seeds: Sequence[int]) -> Pair:
        """(problem, truth) of the images of these seeds."""
        fine = self.images(list(seeds))
        problem, truth = simulate(fine, self.geometry, self.noise, list(seeds), self.oversampling)
        return Problem(self.A, problem.y, problem.noise), truth


class _OwnImages(SimulatedPairs):
    """What `SimulatedPairs.from_images` makes: image k of a split has the split's first seed + k."""

    def __init__(
        self,
        geometry: PlanarGeometry,
        noise: NoiseModel,
        images: Tensor,
        validation: float,
        test: float,
        name: str,
        oversampling: int,
    ):
        if not isinstance(images, Tensor) or images.ndim != 3 or not images.is_floating_point():
            got = (
                f"{images.dtype} {tuple(images.shape)}"
                if isinstance(images, Tensor)
                else type(images).__name__
            )
            raise ValueError(f"from_images images: expected a floating-point tensor (n, ny, nx), got {got}")
        kept = [max(least, round(share * len(images))) for share, least in ((validation, 1), (test, 0))]
        first = len(images) - sum(kept)
        if not (0 <= validation < 1 and 0 <= test < 1) or first < 1:
            raise ValueError(
                f"from_images validation, test: expected shares that leave images to learn from, got "
                f"{validation} and {test} of {len(images)}"
            )
        starts = {TRAIN: 0, VALIDATION: first, TEST: first + kept[0]}

        def of(seeds: Sequence[int]) -> Tensor:
            splits = [max(s for s in starts if s <= seed) for seed in seeds]
            return images[[starts[split] + seed - split for seed, split in zip(seeds, splits, strict=True)]]

        super().__init__(geometry, noise, of, kept[0], kept[1], first, oversampling, name)
        self.about = {"noise": "new in every batch"}

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        assert self.train_size is not None
        while True:
            index = torch.randperm(self.train_size, generator=generator)[:size]
            fine = self.images((TRAIN + index).tolist())
            noise = torch.randint(TRAIN, 2**32, (len(index),), generator=generator)
            problem, truth = simulate(fine, self.geometry, self.noise, noise.tolist(), self.oversampling)
            yield Problem(self.A, problem.y, problem.noise), truth


class UnpairedData:
    """Images, and problems of other images: nobody can tell which truth belongs to which data.

    batches(size, generator)   endless (problem, images): `size` problems, and `size` images drawn apart from
                               them; with simulated pairs all 2·size images are fresh
    validation                 (problem, truth) pairs, to score with, not to learn from
    """

    def __init__(self, pairs: PairedData):
        self.pairs, self.name = pairs, pairs.name

    @property
    def A(self) -> LinearOperator:
        return self.pairs.A

    @property
    def train(self) -> Pair:
        """Problems of the first half of the training images, and the images of the second half."""
        problem, truth = self.pairs.train
        half = len(truth) // 2
        return selected(problem, torch.arange(half)), truth[half : 2 * half]

    @property
    def validation(self) -> Pair:
        return self.pairs.validation

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        if getattr(self.pairs, "train_size", 0) is None:  # ever new images, however they come
            for problem, truth in self.pairs.batches(2 * size, generator):
                yield selected(problem, torch.arange(size)), truth[size:]
        problem, images = self.train
        while True:
            data = torch.randperm(len(images), generator=generator)[:size]
            others = torch.randperm(len(images), generator=generator)[:size]
            yield selected(problem, data), images[others]

    def __repr__(self) -> str:
        return f"UnpairedData({self.pairs!r})"


class Measurements(UnpairedData):
    """Problems alone, for a method that learns without truth.

    batches(size, generator)   endless (problem, images) of `size` training problems; the images are NaN in
                               the place of the truths, so that whoever looks at them cannot go on
    train, validation          likewise
    """

    @classmethod
    def of(
        cls, train: Problem, validation: Problem | None = None, name: str = "measurements"
    ) -> Measurements:
        """Data that have no truth; what is validated on may be what is learned from.

        train, validation : batched, y (n, *A.out_shape), from one scanner
        """

        def unknown(problem: Problem) -> Pair:
            return problem, problem.linear.new_full((len(problem.y), *problem.A.in_shape), torch.nan)

        return cls(PairedData(unknown(train), unknown(validation or train), name))

    @property
    def train(self) -> Pair:
        return _hidden(*self.pairs.train)

    @property
    def validation(self) -> Pair:
        return _hidden(*self.pairs.validation)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        for pair in self.pairs.batches(size, generator):
            yield _hidden(*pair)

    def __repr__(self) -> str:
        return f"Measurements({self.pairs!r})"


def _hidden(problem: Problem, truth: Tensor) -> Pair:
    return problem, torch.full_like(truth, torch.nan)


def selected(problem: Problem, index: Tensor) -> Problem:
    """Some of a batched problem's images."""
    law = problem.noise.select(index)  # type: ignore[arg-type] # an index tensor is as good as a slice
    return Problem(problem.A, problem.y[index], law)


def _checked(name: str, problem: Problem, truth: Tensor) -> Pair:
    wanted = (len(problem.y), *problem.A.in_shape)
    if len(problem.batch) != 1 or tuple(truth.shape) != wanted:
        raise ValueError(
            f"PairedData {name}: expected y (n, *{problem.A.out_shape}) and truth (n, *{problem.A.in_shape}) "
            f"with one n, got {tuple(problem.y.shape)} and {tuple(truth.shape)}"
        )
    return problem, truth
