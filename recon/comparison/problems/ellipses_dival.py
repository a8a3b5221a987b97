"""DIVal's random ellipses, whose table is published: 128² pixels, 30 parallel views, 2.5 % noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...data import DivalPairs, dival_problem
from ...data.dival import dival_geometry
from ...problem import Problem
from ..task import Pair, Task, Window

COUNT = {"test": 100, "validation": 10}
BATCH = 10


def pairs(split: str) -> Iterator[Pair]:
    """The first images of DIVal's test and validation parts, simulated a few at a time; all share one A."""
    shared = None
    for first in range(0, COUNT[split], BATCH):
        problem, truths = dival_problem(range(first, first + BATCH), split)
        shared = shared or problem.A
        for k, truth in enumerate(truths):
            yield Problem(shared, problem.y[k], problem.noise.select(k)), truth


def data(kind: str) -> Any:
    """Training data, ever new images: pairs, problems and images apart, or problems alone."""
    return DivalPairs().of_kind(kind)


def task() -> Task:
    """The problem `ellipses-dival`."""
    _, truth = dival_problem(0, "test")
    return Task(
        name="ellipses-dival",
        title="DIVal's random ellipses, 128², 30 views",
        pairs=pairs,
        metrics=("psnr_db", "ssim", "nrmse"),
        data_range=1.0,  # every image reaches from 0 to 1
        windows=(Window("full", 0, 1),),
        configuration={
            "geometry": dival_geometry(),
            "noise": "Gaussian, 2.5 % of the mean of |A x|",
            "images": {"generator": "dival ellipses", "first mean": f"{float(truth.mean()):.5f}"},
            "counts": COUNT,
        },
        data=data,
        methods=(
            "fbp",
            "cgls",
            "sirt",
            "total-variation",
            "fbp-unet",
            "local-adversarial-regularisation",
            "gradient-step-prior",
            "learned-gradient",
            "learned-primal-dual",
        ),
        counts={"gradient-step-prior": 10},  # hundreds of gradients of a network for every image
        notes={
            "source": "Baguer, Leuschner, Schmidt, Inverse Problems 36 (2020) 094004",
            "published": "benchmarks/ellipses_dival.py repeats the published rows with their own settings",
        },
    )
