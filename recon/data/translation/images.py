"""What paired and unpaired images share: samples cut from scans, their shape, their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .patches import checked_stack, neighbours
from .slices import Scan, scans
from .split import check_apart, split_by_patient
from .store import Store
from .window import Window

Windows = Window | tuple[Window | None, Window | None] | None
Crop = int | tuple[int, ...] | None


class Samples:
    """Images of one shape cut out of scans: slices, stacks of neighbours, or volumes.

    scans, stores : where they come from; a store for every side
    stack : slices of an image; 1 for single slices
    volumes : an image is a whole scan
    crop : size of an image, cut at random for training, from the middle for validation; None for all of it
    """

    def __init__(
        self,
        scans: Sequence[Scan],
        stores: Sequence[Store],
        stack: int = 1,
        volumes: bool = False,
        crop: Crop = None,
        name: str = "images",
    ):
        if not scans:
            raise ValueError(f"{name}: no images")
        checked_stack(name, stack)
        if volumes and stack > 1:
            raise ValueError(f"{name}: expected stack or volumes, got both")
        if stack > 1 and max(len(s) for s in scans) == 1:
            raise ValueError(
                f"{name} stack: no image has a neighbour; slices of one patient are found by DICOM "
                "headers, sub-directories, or `patient`"
            )
        self.scans, self.stores, self.stack, self.volumes, self.name = scans, stores, stack, volumes, name
        ones = [(n, k) for n, scan in enumerate(scans) for k in range(1 if volumes else len(scan))]
        self.index: list[tuple[int, int]] = ones
        self.shape = self._shape(crop)

    def __len__(self) -> int:
        return len(self.index)

    def whole(self, number: int) -> list[Tensor]:
        """Image `number` of each side, uncut: (ny, nx), or (nz, ny, nx)."""
        n, k = self.index[number]
        scan = self.scans[n]
        places = torch.arange(len(scan)) if self.volumes else neighbours(k, self.stack, len(scan))
        found = [
            store.slices([side[int(i)] for i in places])
            for side, store in zip(scan.sides, self.stores, strict=True)
        ]
        return [x if self.volumes or self.stack > 1 else x[0] for x in found]

    def cut(self, images: Sequence[Tensor], generator: torch.Generator | None) -> list[Tensor]:
        """All sides at one place: drawn by the generator, or in the middle for None."""
        shape = images[0].shape
        draws = (
            torch.full((len(shape),), 0.5)
            if generator is None
            else torch.rand(len(shape), generator=generator)
        )
        box = []
        for n, wanted, u in zip(shape, self.shape, draws.tolist(), strict=True):
            start = (n - wanted) // 2 if generator is None else int(u * (n - wanted + 1))
            box.append(slice(start, start + wanted))
        return [x[tuple(box)] for x in images]

    def _shape(self, crop: Crop) -> tuple[int, ...]:
        sizes = self._sizes()
        if crop is None:
            if len(sizes) > 1:
                raise ValueError(f"{self.name}: images of mixed sizes, {_told(sizes)}; say crop=(ny, nx)")
            return next(iter(sizes))
        wanted = (crop, crop) if isinstance(crop, int) else tuple(crop)
        dims = 3 if self.volumes else 2
        good = [isinstance(c, int) and not isinstance(c, bool) and c > 0 for c in wanted]
        if len(wanted) != dims or not all(good):
            raise ValueError(f"{self.name} crop: expected {dims} positive whole numbers, got {crop!r}")
        if self.stack > 1:
            wanted = (self.stack, *wanted)
        small = {s: p for s, p in sizes.items() if any(c > n for c, n in zip(wanted, s, strict=True))}
        if small:
            raise ValueError(f"{self.name} crop: {wanted} does not fit into {_told(small)}")
        return wanted

    def _sizes(self) -> dict[tuple[int, ...], Path]:
        """Every size of an uncut image, with a file that has it; pairs and scans are of one size each."""
        sizes: dict[tuple[int, ...], Path] = {}
        for scan in self.scans:
            for places in zip(*scan.sides, strict=True):
                found = [(p, s.shapes[p]) for (p, _), s in zip(places, self.stores, strict=True)]
                if len({size for _, size in found}) > 1:
                    told = " and ".join(f"{path} {ny} × {nx}" for path, (ny, nx) in found)
                    raise ValueError(
                        f"{self.name}: a pair must have one size, got {told}; resample them first"
                    )
            flat: dict[tuple[int, ...], Path] = {self.stores[0].shapes[p]: p for p, _ in scan.sides[0]}
            depth = (len(scan),) if self.volumes else (self.stack,) if self.stack > 1 else ()
            if depth and len(flat) > 1:
                raise ValueError(f"{self.name}: slices of one scan have different sizes: {_told(flat)}")
            sizes |= {(*depth, *size): path for size, path in flat.items()}
        return sizes


def prepared(
    files: Sequence[tuple[Path, ...]],
    validation: Sequence[tuple[Path, ...]] | float,
    stores: Sequence[Store],
    settings: dict[str, Any],
) -> tuple[list[Scan], list[Scan]]:
    """Scans to learn from and to validate on, by patient where `validation` is a share.

    settings : root, patient, between, seed
    """
    given = [] if isinstance(validation, int | float) else list(validation)

    def counts(path: Path, side: int) -> int:
        return stores[side].count(path)

    def made(rows: Sequence[tuple[Path, ...]]) -> list[Scan]:
        found = scans(rows, counts, settings.get("root"), settings.get("patient"))
        if settings.get("between") is None:
            return found
        low, high = settings["between"]
        kept = [s for s in (scan.between(low, high) for scan in found) if s is not None]
        if found and not kept:
            raise ValueError(f"between: no slice lies from {low:g} to {high:g} mm")
        return kept

    train = made(files)
    if isinstance(validation, int | float):
        if not 0 < validation < 1:
            raise ValueError(f"validation: expected a share between 0 and 1, or files, got {validation}")
        first, second = split_by_patient(train, [1 - validation, validation], settings.get("seed", 0))
        return first, second
    held = made(given)
    check_apart(train, held)
    return train, held


def windows(window: Windows) -> tuple[Window | None, Window | None]:
    """One for input and target each, from one for both."""
    both = window if isinstance(window, tuple) else (window, window)
    if len(both) != 2 or not all(w is None or isinstance(w, Window) for w in both):
        raise ValueError(f"window: expected a Window, or two (of input and target), got {window!r}")
    return both


def in_the_middle(count: int, wanted: int) -> list[int]:
    """`wanted` numbers of 0 … count − 1, evenly; all of them where there are no more."""
    return (
        sorted({(2 * i + 1) * count // (2 * wanted) for i in range(wanted)})
        if count > wanted
        else list(range(count))
    )


def _told(sizes: Mapping[tuple[int, ...], Path]) -> str:
    return " and ".join(f"{' × '.join(map(str, s))} ({p.name})" for s, p in sorted(sizes.items())[:3])
