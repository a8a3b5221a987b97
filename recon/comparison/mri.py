"""What the built-in MR problems share: a real slice and synthetic brains, or a folder of real slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from operators import LinearOperator, Sense, acceleration

from ..data.brains import FIELD, random_brain
from ..data.ellipses import Ellipses
from ..data.mr_examples import example_mr
from ..data.mr_scans import MRScans, shrunk
from ..data.sets import TEST, VALIDATION
from .describe import digest
from .task import Pair, Task, Window

COILS, SNR, PHASE = 8, 30.0, 2.0
GRID = (192, 192)
DRAWS, BRAINS, TUNED = 3, 5, 4

HEAD, OTHER = "mri_brain_t2_adi.npz", "mri_brain_t2star_pysap.npz"
TEST_SLICES, VALIDATION_SLICES = tuple(range(18, 32, 2)), (1, 5, 9, 13)

CRIME = (
    "magnitude images with a synthetic smooth phase and {coils} synthetic coils whose maps are known "
    "exactly, undersampled retrospectively: what the scanner stored was already reconstructed, filtered and "
    "quantised, which flatters every method (Shimron et al., PNAS 119 (2022)). A quick look, not evidence "
    "for raw data"
)

Sampling = Callable[[tuple[int, int]], dict[Literal["mask", "trajectory"], Tensor]]


@dataclass(frozen=True)
class Source:
    """Where the images come from.

    grid : of the reconstruction; pixel_size of it [mm]
    pairs : (scanner, split) -> the images of a split, in order
    shrink : of synthetic brains, until they fit into the field of view
    configuration, notes : what decides the images, and what a reader must know
    """

    grid: tuple[int, int]
    pixel_size: float
    pairs: Callable[[MRScans, str], Iterator[Pair]]
    shrink: float
    configuration: dict[str, Any]
    notes: dict[str, str]
    zoom: tuple[int, int, int, int]
    suffix: str = ""


def mri_task(
    name: str,
    title: str,
    sampling: Sampling,
    says: Callable[[LinearOperator], str],
    methods: Sequence[str],
    data: Path | None = None,
) -> Task:
    """A problem of `name`, or `name-scans` where a folder is given.

    sampling : grid -> {"mask": …} or {"trajectory": …}, as `MRScans` takes them
    says : what a reader must know of the sampling, of A
    """
    source = quick() if data is None else scans(data)
    where = sampling(source.grid)

    def brain(seed: int) -> Ellipses:
        return shrunk(random_brain(seed), source.shrink)

    scanner = MRScans(
        source.grid,
        source.pixel_size,
        where.get("mask"),
        where.get("trajectory"),
        COILS,
        SNR,
        PHASE,
        objects=brain,
        name=name,
    )

    def training(kind: str) -> Any:
        return scanner.of_kind(kind)

    return Task(
        name=name + source.suffix,
        title=title,
        pairs=lambda split: source.pairs(scanner, split),
        metrics=("psnr_db", "ssim", "nmse"),
        data_range=1.0,
        view=torch.abs,
        pixel_size=source.pixel_size,
        windows=(Window("full", 0, 1), Window("dark half", 0, 0.5)),
        zoom=source.zoom,
        configuration={
            **source.configuration,
            "grid": source.grid,
            "sampling": {key: digest((1e6 * k.double()).round().long()) for key, k in where.items()},
            "coils": {"count": COILS, "first": f"{complex(scanner.fields.at((3, 3))[0, 0, 0]):.5f}"},
            "noise": {"snr": SNR},
            "phase": {"strength [rad]": PHASE},
        },
        data=training,
        methods=methods,
        notes={
            **source.notes,
            "sampling": lambda: says(scanner.A),
            "noise": f"complex, white; mean |x| over σ of a full scan is {SNR:g}",
            "scores": "of magnitudes; every slice is scaled to a maximum of 1, which PSNR and SSIM refer to "
            "(fastMRI's formulas, a slice at a time: `recon.metrics.presets`, fastmri-slice)",
            "learned methods": "train on further synthetic brains of the same scanner",
        },
    )


def lines(A: LinearOperator, centre: float) -> str:
    """What the mask of lines of a `Sense` samples."""
    mask = cast(Sense, A).mask
    count, all_ = int(mask.sum()), mask.numel()
    return (
        f"{count} of {all_} lines, acceleration {acceleration(mask):.3f}; the middle {centre:.0%} are "
        "sampled fully"
    )


def quick() -> Source:
    """No folder: the slice that comes with pydicom in some draws of noise, and synthetic brains."""
    whole, side = example_mr()
    ny, nx = whole.shape
    slice_ = whole[:, nx // 2 - ny // 2 :][:, :ny].contiguous()

    def pairs(scanner: MRScans, split: str) -> Iterator[Pair]:
        if split == "test":
            for seed in range(DRAWS):
                yield scanner.pair(slice_.double(), seed, phase_seed=0)
        first, count = (TEST, BRAINS) if split == "test" else (VALIDATION, TUNED)
        for seed in range(first, first + count):
            yield scanner.pair(scanner.objects(seed), seed)

    field = ny * side
    return Source(
        grid=GRID,
        pixel_size=field / GRID[0],
        pairs=pairs,
        shrink=min(1.0, field / FIELD),
        configuration={
            "test": {
                "image": "pydicom examples_overlay.dcm, its middle 300 × 300 pixels",
                "sha256": digest(slice_),
                "noise seeds": DRAWS,
                "synthetic brains": {"first seed": TEST, "images": BRAINS},
            },
            "validation": {"first seed": VALIDATION, "images": TUNED},
            "brains": generator(),
        },
        notes={
            "test": f"one real abdominal slice in {DRAWS} draws of noise, which count as one image, and "
            f"{BRAINS} synthetic brains, ellipses with exact k-space",
            "real slice": CRIME.format(coils=COILS),
            "synthetic brains": "piecewise constant, which suits total variation more than real anatomy does",
            "tuned on": f"{TUNED} other synthetic brains",
        },
        zoom=(96, 8, 72, 72),
    )


def scans(folder: Path) -> Source:
    """Real slices: 512 × 384 pixels each, half as many on the grid of the reconstruction."""
    head, side = stored(folder / HEAD, "image", "pixel_spacing_mm")
    if len(head) <= max(TEST_SLICES):
        raise ValueError(
            f"{folder / HEAD} image: expected more than {max(TEST_SLICES)} slices, got {len(head)}"
        )
    other, _ = stored(folder / OTHER, "image")
    ny, nx = head.shape[-2:]
    if other.shape[-2] != ny or other.shape[-1] < nx:
        raise ValueError(
            f"{folder / OTHER} image: expected {ny} rows and at least {nx} columns, as {HEAD} has, got "
            f"{other.shape[-2]} × {other.shape[-1]}"
        )
    start = (other.shape[-1] - nx) // 2
    images = {
        "test": [head[k] for k in TEST_SLICES] + [other[0, :, start : start + nx]],
        "validation": [head[k] for k in VALIDATION_SLICES],
    }
    grid = (ny // 2, nx // 2)

    def pairs(scanner: MRScans, split: str) -> Iterator[Pair]:
        for k, image in enumerate(images[split]):
            seed = k + (0 if split == "test" else 1000)
            yield scanner.pair(torch.from_numpy(image.astype(np.float64)), seed)

    return Source(
        grid=grid,
        pixel_size=2 * side,
        pairs=pairs,
        shrink=min(grid) * 2 * side / FIELD,
        configuration={
            "images": {name: [digest(i.astype(np.float32)) for i in found] for name, found in images.items()},
            "brains": generator(),
        },
        notes={
            "test": f"{len(TEST_SLICES)} T2 slices of one head, every other one from slice {TEST_SLICES[0]}, "
            "and one T2* slice of another; slices of one head are alike, so intervals are too narrow",
            "tuned on": f"{len(VALIDATION_SLICES)} slices of the same head, {VALIDATION_SLICES[0]} to "
            f"{VALIDATION_SLICES[-1]}, none next to a test slice",
            "images": CRIME.format(coils=COILS),
            "grid": f"{grid[0]} × {grid[1]}, half the pixels of the images a side; the pixel size of the T2* "
            "slice is not known and taken to be that of the others",
        },
        zoom=(ny // 6, nx // 6, ny // 6, ny // 6),
        suffix="-scans",
    )


def stored(path: Path, *names: str) -> tuple[Any, float]:
    """An array of slices, and a pixel size where named [mm]; ValueError that names the file and its fault."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the MR problems read {HEAD} and {OTHER} from --data")
    with np.load(path, allow_pickle=False) as file:
        lacking = sorted(set(names) - set(file.files))
        if lacking:
            raise ValueError(f"{path}: expected arrays {', '.join(names)}, {lacking[0]} is missing")
        image = file[names[0]]
        side = float(file[names[1]]) if len(names) > 1 else 1.0
    if image.ndim != 3 or image.dtype.kind != "f" or not np.isfinite(image).all() or not side > 0:
        raise ValueError(
            f"{path} {names[0]}: expected finite real slices (n, ny, nx), got {image.dtype} {image.shape}"
        )
    return image, side


def generator() -> str:
    """What the synthetic brains are: the first one, in nine digits."""
    first = random_brain(0)
    numbers = [f"{v:.9g}" for e in first for v in (e.value, *e.semi_axes, *e.centre, e.angle)]
    return digest(np.frombuffer(" ".join(numbers).encode(), dtype=np.uint8))
