"""A real head CT slice at a tenth of the routine dose, tuned on slices of random heads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from operators import FanBeam, LowDose, XRay, to_hu

from ...data import SimulatedPairs, cluttered_head, example_head, head_slices, simulate
from ...metrics import body_mask
from ...problem import Problem
from ..describe import digest
from ..dose import dose_note
from ..task import Pair, Task, Window

MU_WATER = 0.0206  # [1/mm], 60 keV
VIEWS = 180
DRAWS, HEADS = 10, 8

GEOMETRY = FanBeam(
    image_shape=(256, 256),
    pixel_size=0.862,
    angles=tuple(2 * math.pi * k / VIEWS for k in range(VIEWS)),
    n_bins=368,
    bin_size=2.5716,
    source_to_centre=595.0,
    source_to_detector=1085.6,
    detector="arc",
    offset=0.0,
)
NOISE = LowDose(i0=5.6e5, electronic_sigma=3.0)


def slices(seeds: Sequence[int]) -> Tensor:
    """Slices of random heads, to tune on and to learn from; a truth of 512² like the real one."""
    return head_slices(seeds, field=GEOMETRY.extent[1], mu_water=MU_WATER)


def pairs(split: str) -> Iterator[Pair]:
    """Test: one head, ten draws of noise; validation: slices of eight random heads. All share one A."""
    A = XRay(GEOMETRY)
    head = example_head(MU_WATER)
    for seed in range(DRAWS if split == "test" else HEADS):
        fine = head if split == "test" else slices([seed])[0]
        seen, truth = simulate(fine, GEOMETRY, NOISE, seed=seed)
        yield Problem(A, seen.y, seen.noise), truth


def data(kind: str) -> Any:
    """Training data, slices of random heads: pairs, problems and images apart, or problems alone."""
    return SimulatedPairs(GEOMETRY, NOISE, slices, HEADS, name="head-lowdose").of_kind(kind)


def task() -> Task:
    """The problem `head-lowdose`."""
    head = np.rint(to_hu(example_head(MU_WATER), MU_WATER).numpy()).astype(np.int16)
    return Task(
        name="head-lowdose",
        title="A head at a tenth of routine dose",
        pairs=pairs,
        metrics=("rmse_hu", "psnr_db", "ssim", "mae_hu"),
        data_range=2.5 * MU_WATER,  # −1000 to 1500 HU
        mask=lambda truth: body_mask(truth, MU_WATER),
        mu_water=MU_WATER,
        pixel_size=GEOMETRY.pixel_size,
        windows=(Window("brain", 0, 80, "HU"), Window("wide", -1000, 1500, "HU")),
        zoom=(96, 90, 64, 64),
        configuration={
            "geometry": GEOMETRY,
            "noise": NOISE,
            "test": {
                "image": "pydicom J2K_pixelrep_mismatch.dcm",
                "sha256": digest(head),
                "noise seeds": DRAWS,
            },
            "validation": {"slices of random heads, seeds": HEADS, "generator": _generator()},
        },
        data=data,
        methods=(
            "fbp",
            "cgls",
            "sirt",
            "total-variation",
            "pwls-total-variation",
            "fbp-unet",
            "learned-gradient",
            "learned-primal-dual",
        ),
        notes={
            "test": f"one real slice (512², reconstructed at 256²) in {DRAWS} draws of noise",
            "tuned on": f"slices of {HEADS} random heads (`head_slices`): same geometry, same dose",
            "learned from": "more of the same, for minutes (see the weights' cards)",
            "dose": lambda: dose_note(GEOMETRY, NOISE, MU_WATER),
        },
    )


def _generator() -> str:
    """What the random heads are: their first one, in nine digits."""
    first = cluttered_head(0, MU_WATER)
    numbers = [f"{v:.9g}" for e in first for v in (e.value, *e.semi_axes, *e.centre, e.angle)]
    return digest(np.frombuffer(" ".join(numbers).encode(), dtype=np.uint8))
