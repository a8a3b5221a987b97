"""Where the objects of CT tasks come from: random heads, or real slices of patients kept apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from operators import to_attenuation

from ..dicom import example_head
from ..heads import MU_WATER, random_head
from ..sets import TEST, TRAIN

Objects = Callable[[int], Tensor]
EXAMPLE_PIXEL = 0.431  # [mm] of `example_head`
PARTS = ("train", "validation", "test")

# files of /work/shared/data-like folders: which patients learn, which choose, which are scored
STORED = {
    "train": ("ct_train256",),
    "validation": ("ct_abdomen_totalseg",),
    "test": ("ct_chest_lidc0001",),
}
# the same two patients at 512², every second slice of them in `ct_train256`
FINE_TRAIN = ("ct_chest_lidc0314", "ct_abdomen_pelvis_acrin001")


def part_of(seed: int) -> tuple[str, int]:
    """Which part a seed belongs to, and its number in it."""
    if seed >= TRAIN:
        return "train", seed - TRAIN
    return ("test", seed - TEST) if seed >= TEST else ("validation", seed)


def random_heads(size: int = 256, field: float = 220.0, mu_water: float = MU_WATER) -> Objects:
    """Seed -> `random_head(seed)` on size² pixels of a square of `field` mm, attenuation [1/mm]."""

    def head(seed: int) -> Tensor:
        return random_head(seed, mu_water).rasterise((size, size), field / size).float()

    return head


def shipped_heads(
    size: int = 256, field: float = 220.0, mu_water: float = MU_WATER, real: int = 4
) -> Objects:
    """As `random_heads`, but the first `real` test seeds show the real head that comes with pydicom.

    The same slice every time, so its draws differ in noise only; no other part has it.
    """
    drawn, held = random_heads(size, field, mu_water), dict[str, Tensor]()

    def head(seed: int) -> Tensor:
        part, number = part_of(seed)
        if part != "test" or number >= real:
            return drawn(seed)
        if "head" not in held:
            held["head"] = on_field(example_head(mu_water), EXAMPLE_PIXEL, field)
        return held["head"]

    return head


@dataclass(frozen=True, eq=False)
class PatientSlices:
    """Seed -> a real slice, attenuation [1/mm], (n, n): every part of the seeds has its own patients.

    slices : part -> slices, square, each covering `field`; of different numbers of pixels if you like
    subjects : part -> whose they are, one name a slice
    field : side of the square that every slice covers [mm]

    Training seed TRAIN + k shows slice k mod n, so more seeds than slices show slices again (with other
    noise); validation and test seeds likewise. Raises ValueError where a patient is in two parts.
    """

    slices: Mapping[str, list[Tensor]]
    subjects: Mapping[str, list[str]]
    field: float

    def __post_init__(self) -> None:
        for part in PARTS:
            images, names = self.slices.get(part, []), self.subjects.get(part, [])
            if not images or len(images) != len(names):
                raise ValueError(
                    f"PatientSlices {part}: expected slices with one subject each, got {len(images)} and "
                    f"{len(names)}"
                )
            if any(image.ndim != 2 or image.shape[0] != image.shape[1] for image in images):
                raise ValueError(f"PatientSlices {part}: expected square slices (n, n)")
        for a, b in (PARTS[:2], PARTS[1:], PARTS[::2]):
            both = sorted(set(self.subjects[a]) & set(self.subjects[b]))
            if both:
                raise ValueError(f"PatientSlices: {', '.join(both)} in {a} and in {b}; split by patient")

    def __call__(self, seed: int) -> Tensor:
        part, number = part_of(seed)
        return self.slices[part][number % len(self.slices[part])]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of every slice of every part, 16 hexadecimal digits."""
        found = hashlib.sha256()
        for image in (x for part in PARTS for x in self.slices[part]):
            found.update(repr(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    @property
    def sizes(self) -> dict[str, Any]:
        """validation_size, test_size and train_size of the pairs that show every slice once."""
        return {f"{part}_size": len(self.slices[part]) for part in PARTS}


def stored_slices(
    folder: str | Path, size: int, field: float = 500.0, mu_water: float = MU_WATER
) -> PatientSlices:
    """The CT slices of a folder like ours (see `STORED`): two patients to learn from, one each for the rest.

    folder : with .npz files that hold `hu`, `pixel_spacing_mm` and `subject`
    size : pixels a side of the reconstruction; the slices must have more over the same field
    field : of all of them [mm]; smaller ones are set into air, so that a millimetre stays a millimetre
    """
    found: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    names: dict[str, list[str]] = {part: [] for part in PARTS}
    for part, files in STORED.items():
        for file in files if part != "train" or size <= 128 else FINE_TRAIN:
            path = Path(folder) / f"{file}.npz"
            if not path.exists():
                raise ValueError(f"stored_slices folder: expected {path.name} in {folder}")
            images, subjects = _read(path, field, mu_water)
            found[part] += images
            names[part] += subjects
    return PatientSlices(found, names, field)


def _read(path: Path, field: float, mu_water: float) -> tuple[list[Tensor], list[str]]:
    with np.load(path, allow_pickle=False) as file:
        hu = torch.from_numpy(file["hu"].astype(np.float32))
        spacing = np.broadcast_to(file["pixel_spacing_mm"], (len(hu),))
        subjects = [str(s) for s in np.broadcast_to(file["subject"], (len(hu),))]
    mu = to_attenuation(hu, mu_water, clip=True)
    return [on_field(one, float(h), field) for one, h in zip(mu, spacing, strict=True)], subjects


def on_field(image: Tensor, pixel_size: float, field: float) -> Tensor:
    """A square image in the middle of air, or cut, so that it covers `field` mm to within a pixel."""
    n = image.shape[-1]
    wanted = round(field / pixel_size)
    before = (wanted - n) // 2
    return F.pad(image, (before, wanted - n - before, before, wanted - n - before))
