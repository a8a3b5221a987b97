"""Images of two kinds that do not belong together, from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from operators import LinearOperator

from ..sets import Measurements, Pair, UnpairedData
from .augment import Augmentation
from .images import Crop, Samples, Windows, in_the_middle, prepared, windows
from .listing import image_files, layout, paired_files
from .paired import Files, PairedImages, _counted, about
from .patches import as_problem
from .split import check_apart
from .store import Store


class UnpairedImages(UnpairedData):
    """Problems (A = identity, y an image of the first kind), and images of the second kind drawn apart.

    Settings are those of `PairedImages`; `patient` and `root` are of each side for itself.

    inputs, targets : files of the two kinds
    validation : pairs of files to score with; or inputs alone, or the share of input patients held back:
        then the truths are NaN and nothing can be scored, only the losses tell
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        targets: Sequence[Path],
        validation: Files | Sequence[Path] | float = 0.2,
        *,
        window: Windows = None,
        unit: str = "",
        stack: int = 1,
        volumes: bool = False,
        crop: Crop = None,
        spacing: float | None = None,
        augmentation: Augmentation | None = None,
        between: tuple[float, float] | None = None,
        patient: Any = None,
        roots: tuple[str | Path | None, str | Path | None] = (None, None),
        validation_size: int = 64,
        seed: int = 0,
        memory: int = 2**31,
        name: str = "unpaired-images",
    ):
        self.name, self.augmentation, self.validation_size = name, augmentation, validation_size
        self.window = windows(window)
        stores = tuple(Store(w, unit, spacing, memory // 2) for w in self.window)
        self.stores = stores
        settings = {"patient": patient, "between": between, "seed": seed}
        rows = [(p,) for p in inputs]
        shape: dict[str, Any] = {"stack": stack, "volumes": volumes, "crop": crop, "name": name}
        own = {**settings, "root": roots[0]}
        if isinstance(validation, int | float):
            train, held = prepared(rows, validation, stores[:1], own)
            self.paired_validation = False
        elif validation and isinstance(validation[0], tuple):
            self.paired_validation = True
            train, _ = prepared(rows, rows[:0], stores[:1], own)
            _, held = prepared([], validation, stores, own)  # type: ignore[arg-type]
            check_apart(train, held)
        else:
            self.paired_validation = False
            train, held = prepared(rows, [(p,) for p in validation], stores[:1], own)  # type: ignore[misc]
        others, _ = prepared([(p,) for p in targets], [], stores[1:], {**settings, "root": roots[1]})
        self.scans = train, others
        self.sides = Samples(train, stores[:1], **shape), Samples(others, stores[1:], **shape)
        self.held = Samples(held, stores if self.paired_validation else stores[:1], **shape)
        found = {self.sides[0].shape, self.sides[1].shape, self.held.shape}
        if len(found) > 1:
            raise ValueError(f"{name}: images of mixed sizes {sorted(found)}; say crop=(ny, nx)")

    @classmethod
    def folders(
        cls,
        inputs: str | Path,
        targets: str | Path,
        validation: tuple[str | Path, str | Path] | str | Path | float = 0.2,
        *,
        pattern: str | None = None,
        depth: int | None = None,
        **settings: Any,
    ) -> Self:
        """From two folders.

        validation : a folder of inputs; two folders, which are pairs if their names are equal; or a share
        """
        held: Any = validation
        if isinstance(validation, tuple):
            try:
                held = paired_files(*validation, pattern, depth)
            except ValueError:
                held = image_files(validation[0], pattern, depth)
        elif isinstance(validation, str | Path):
            held = image_files(validation, pattern, depth)
        settings.setdefault("roots", (inputs, targets))
        files = [image_files(folder, pattern, depth) for folder in (inputs, targets)]
        return cls(files[0], files[1], held, **settings)

    @classmethod
    def root(cls, root: str | Path, *, swap: bool = False, validation: float = 0.2, **settings: Any) -> Self:
        """From trainA and trainB under `root`; validated on testA and testB where they are."""
        found = layout(root)
        a, b = ("B", "A") if swap else ("A", "B")
        held: Any = validation
        if f"test{a}" in found:
            held = found[f"test{a}"]
            held = (held, found[f"test{b}"]) if f"test{b}" in found else held
        return cls.folders(found[f"train{a}"], found[f"train{b}"], held, **settings)

    @classmethod
    def of(cls, pairs: PairedImages) -> UnpairedImages:
        """The images of pairs, so that no input comes with its target: half of the patients on each side."""
        from .split import split_by_patient

        self = cls.__new__(cls)
        self.name, self.augmentation = pairs.name, pairs.augmentation
        self.validation_size, self.window, self.stores = pairs.validation_size, pairs.window, pairs.stores
        self.paired_validation = True
        first, second = split_by_patient(pairs.scans[0], [0.5, 0.5], pairs.seed)
        shape: dict[str, Any] = {"stack": pairs.stack, "volumes": pairs.volumes, "name": pairs.name}
        crop = pairs.samples.shape[-3 if pairs.volumes else -2 :]
        self.scans = first, second
        self.sides = (
            Samples([_side(s, 0) for s in first], pairs.stores[:1], crop=crop, **shape),
            Samples([_side(s, 1) for s in second], pairs.stores[1:], crop=crop, **shape),
        )
        self.held = pairs.held
        return self

    @property
    def pairs(self) -> Any:  # type: ignore[override]
        """What the card asks for: these data themselves."""
        return self

    @property
    def A(self) -> LinearOperator:
        return self.validation[0].A

    @property
    def train_size(self) -> int:
        return len(self.sides[0])

    @property
    def seeds(self) -> str:
        """In place of seeds, for the card: how many files of how many patients on each side."""
        return " and ".join(_counted(part) for part in self.scans)

    @property
    def about(self) -> dict[str, Any]:
        """What `recon translate` must know of these data; goes on the card."""
        return about(self.window, self.stores, self.sides[0], [*self.scans[0], *self.scans[1]])

    @cached_property
    def train(self) -> Pair:
        """At most 64 images of each kind as they are, equally many."""
        count = min(64, *(len(side) for side in self.sides))
        y, x = (
            torch.stack([side.cut(side.whole(i), None)[0] for i in in_the_middle(len(side), count)])
            for side in self.sides
        )
        return as_problem(y, self.held.shape), x

    @cached_property
    def validation(self) -> Pair:
        numbers = in_the_middle(len(self.held), self.validation_size)
        images = [self.held.cut(self.held.whole(i), None) for i in numbers]
        y = torch.stack([image[0] for image in images]).contiguous()
        x = (
            torch.stack([image[1] for image in images])
            if self.paired_validation
            else torch.full_like(y, torch.nan)
        )
        return as_problem(y, self.held.shape), x.contiguous()

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        size = min(size, *(len(side) for side in self.sides))
        while True:
            y, x = (
                torch.stack([self._drawn(side, i, k, generator) for i in _some(len(side), size, generator)])
                for k, side in enumerate(self.sides)
            )
            yield as_problem(y.contiguous(), self.held.shape), x.contiguous()

    def of_kind(self, kind: str | None) -> UnpairedData:
        """These data for a method of that `data_kind`; pairs cannot be had."""
        match kind:
            case "unpaired":
                return self
            case "measurements":
                return Measurements(self)  # type: ignore[arg-type]
        raise ValueError(
            f"{self.name}: images that do not belong together, but the method learns from {kind} data"
        )

    def _drawn(self, side: Samples, number: int, k: int, generator: torch.Generator) -> Tensor:
        (image,) = side.cut(side.whole(number), generator)
        if self.augmentation is None:
            return image
        if k == 0:
            return self.augmentation(image, None, generator)[0]
        # noise is for inputs
        turned = self.augmentation(image, image, generator)[1]
        assert turned is not None
        return turned

    def __repr__(self) -> str:
        return f"UnpairedImages({self.name!r}, {self.held.shape})"


def _some(count: int, size: int, generator: torch.Generator) -> list[int]:
    return torch.randperm(count, generator=generator)[:size].tolist()


def _side(scan: Any, k: int) -> Any:
    from dataclasses import replace

    return replace(scan, sides=(scan.sides[k],))
