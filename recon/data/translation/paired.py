"""Pairs of images from files: folders of equal names, list files, the folders of Kaji's codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from operators import LinearOperator

from ..sets import Pair, PairedData, UnpairedData
from .augment import Augmentation
from .images import Crop, Samples, Windows, in_the_middle, prepared, windows
from .listing import layout, listed_files, paired_files
from .patches import as_problem
from .store import Store
from .window import Window

Files = Sequence[tuple[Path, Path]]


class PairedImages(PairedData):
    """Problems (A = identity, y the input image) with the target as truth, from pairs of files.

    Values are those of the files (HU of a CT), or with a `window` its [−1, 1]. Files are read and checked
    once; pixels stay in memory as far as `memory` goes. What `batches` yields is decided by the generator.

    files : (input, target) of every pair; see `folders`, `root` and `listed`
    validation : pairs to validate on, or the share of patients that is held back for it
    window : a `Window` for both sides, or (of the input, of the target); None: values as they are. A window
        of "HU" refuses 8-bit grey and what is no CT
    unit : what values without a window are; "HU" refuses likewise
    stack : an odd number of neighbouring slices (2.5-D); images are then (stack, ny, nx)
    volumes : an image is a whole file of slices, or DICOM series, (nz, ny, nx)
    crop : size of the images learned from, (ny, nx), or (nz, ny, nx) of volumes; one number for a square
    spacing : resample slices to pixels of so many mm
    augmentation : of the training images, alike on both sides
    between : only slices whose position lies so [mm], (low, high)
    patient : how a path tells the patient, see `scans`; root : the folder below which sub-directories are
        patients
    validation_size : most images validated on, evenly from those held back
    seed : of the split
    memory : bytes of pixels kept
    """

    def __init__(
        self,
        files: Files,
        validation: Files | float = 0.2,
        *,
        window: Windows = None,
        unit: str = "",
        stack: int = 1,
        volumes: bool = False,
        crop: Crop = None,
        spacing: float | None = None,
        augmentation: Augmentation | None = None,
        between: tuple[float, float] | None = None,
        patient: Callable[[Path], str] | str | None = None,
        root: str | Path | None = None,
        validation_size: int = 64,
        seed: int = 0,
        memory: int = 2**31,
        name: str = "paired-images",
    ):
        self.name, self.augmentation, self.validation_size = name, augmentation, validation_size
        self.window = windows(window)
        self.stores = tuple(Store(w, unit, spacing, memory // 2) for w in self.window)
        settings = {"root": root, "patient": patient, "between": between, "seed": seed}
        self.scans = prepared(files, validation, self.stores, settings)
        made = [Samples(part, self.stores, stack, volumes, crop, name) for part in self.scans]
        self.samples, self.held = made
        if self.samples.shape != self.held.shape:
            raise ValueError(
                f"{name}: training images are {self.samples.shape}, validation images {self.held.shape}; "
                "say crop"
            )
        self.seed, self.stack, self.volumes, self.spacing = seed, stack, volumes, spacing

    @classmethod
    def folders(
        cls,
        inputs: str | Path,
        targets: str | Path,
        validation: tuple[str | Path, str | Path] | float = 0.2,
        *,
        pattern: str | None = None,
        depth: int | None = None,
        **settings: Any,
    ) -> Self:
        """From two folders whose files have equal names.

        validation : two folders, or a share
        pattern, depth : see `image_files`
        settings : of `PairedImages`
        """
        held = paired_files(*validation, pattern, depth) if isinstance(validation, tuple) else validation
        settings.setdefault("root", inputs)
        return cls(paired_files(inputs, targets, pattern, depth), held, **settings)

    @classmethod
    def root(cls, root: str | Path, *, swap: bool = False, validation: float = 0.2, **settings: Any) -> Self:
        """From trainA and trainB under `root`, validated on testA and testB where they are.

        swap : from B to A
        """
        found = layout(root)
        a, b = ("B", "A") if swap else ("A", "B")
        held: Any = validation
        if f"test{a}" in found and f"test{b}" in found:
            held = found[f"test{a}"], found[f"test{b}"]
        return cls.folders(found[f"train{a}"], found[f"train{b}"], held, **settings)

    @classmethod
    def listed(
        cls,
        table: str | Path,
        validation: str | Path | float = 0.2,
        *,
        files_in: str | Path | None = None,
        input_column: int = 0,
        target_column: int = 1,
        **settings: Any,
    ) -> Self:
        """From a text file with a pair in every row; see `listed_files`."""

        def read(path: str | Path) -> Files:
            return listed_files(path, files_in, input_column, target_column)

        held = validation if isinstance(validation, float) else read(validation)
        settings.setdefault("root", files_in)
        return cls(read(table), held, **settings)

    @property
    def A(self) -> LinearOperator:
        return self.validation[0].A

    @property
    def train_size(self) -> int:
        return len(self.samples)

    @property
    def seeds(self) -> str:
        """In place of seeds, for the card: how many files of how many patients."""
        return _counted(self.scans[0])

    @property
    def about(self) -> dict[str, Any]:
        """What `recon translate` must know of these data; goes on the card."""
        return about(self.window, self.stores, self.samples, self.scans[0])

    @cached_property
    def train(self) -> Pair:
        """The training images as they are, at most 64 of them, evenly."""
        return self._pair([self._plain(self.samples, i) for i in in_the_middle(len(self.samples), 64)])

    @cached_property
    def validation(self) -> Pair:
        numbers = in_the_middle(len(self.held), self.validation_size)
        return self._pair([self._plain(self.held, i) for i in numbers])

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Pair]:
        while True:
            index = torch.randperm(len(self.samples), generator=generator)[:size].tolist()
            yield self._pair([self._drawn(i, generator) for i in index])

    def unpaired(self) -> UnpairedData:
        """Inputs of the first half of the training scans, targets of the second: no input has its target."""
        from .unpaired import UnpairedImages

        return UnpairedImages.of(self)

    def _drawn(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        y, x = self.samples.cut(self.samples.whole(number), generator)
        if self.augmentation is None:
            return y, x
        y, target = self.augmentation(y, x, generator)
        assert target is not None
        return y, target

    def _plain(self, samples: Samples, number: int) -> tuple[Tensor, Tensor]:
        y, x = samples.cut(samples.whole(number), None)
        return y, x

    def _pair(self, images: Sequence[tuple[Tensor, Tensor]]) -> Pair:
        y, x = (torch.stack(side).contiguous() for side in zip(*images, strict=True))
        return as_problem(y, self.samples.shape), x


def about(
    both: tuple[Window | None, Window | None], stores: Sequence[Store], samples: Samples, parts: Sequence[Any]
) -> dict[str, Any]:
    """Windows, stack, modalities and how patients are told apart, as JSON takes them."""
    return {
        "windows": [None if w is None else asdict(w) for w in both],
        "stack": samples.stack,
        "volumes": samples.volumes,
        "modalities": [sorted(s.modalities) for s in stores],
        "spacing": stores[0].spacing,
        "clipped": [round(s.share_clipped(), 6) for s in stores],
        "patients_by": sorted({s.known for s in parts}),
    }


def _counted(parts: Sequence[Any]) -> str:
    files = {path for scan in parts for path, _ in scan.sides[0]}
    return f"{len(files)} files of {len({s.patient for s in parts})} patients"
