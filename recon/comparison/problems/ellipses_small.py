"""Random ellipses on 64² pixels from 30 views: small enough that every kind of method can be had at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...data.sets import TEST, VALIDATION
from ...data.small import ellipses_small
from ...problem import Problem
from ..task import Pair, Task, Window

COUNT, FEW = 20, 3


def pairs(split: str) -> Iterator[Pair]:
    """Images that no training batch has; validation and test apart."""
    first = TEST if split == "test" else VALIDATION
    problem, truths = ellipses_small().pairs(range(first, first + COUNT))
    for k, truth in enumerate(truths):
        yield Problem(problem.A, problem.y[k], problem.noise.select(k)), truth


def data(kind: str) -> Any:
    """Training data: pairs, problems and images apart, or problems alone."""
    return ellipses_small().of_kind(kind)


def task() -> Task:
    """The problem `ellipses-small`."""
    training = ellipses_small()
    _, truths = training.pairs([TEST, VALIDATION])
    return Task(
        name="ellipses-small",
        title="Random ellipses, 64², 30 views",
        pairs=pairs,
        metrics=("psnr_db", "ssim", "nrmse"),
        data_range=1.0,
        pixel_size=training.geometry.pixel_size,
        windows=(Window("full", 0, 1),),
        configuration={
            "geometry": training.geometry,
            "noise": training.noise,
            "images": {"generator": "dival ellipses", "means": [f"{float(t.mean()):.5f}" for t in truths]},
            "test": {"first seed": TEST, "images": COUNT},
            "validation": {"first seed": VALIDATION, "images": COUNT},
        },
        data=data,
        methods=(
            "fbp",
            "cgls",
            "sirt",
            "total-variation",
            "pwls-total-variation",
            "deep-image-prior",
            "adversarial-regularisation",
            "learned-primal-dual",
            "fbp-unet",
            "automap",
        ),
        counts={"deep-image-prior": FEW},
        notes={
            "test": f"{COUNT} images that no method has learned from",
            "tuned on": f"{COUNT} other images",
            "noise": "Gaussian, 5 % of the mean of |A x|",
            "deep image prior": f"on the first {FEW} images only: it optimises a network for each",
            "automap": "its full layers have rank 128, so that the weights can ship; the paper's have full "
            "rank, and so does AUTOMAP(rank=None): this row shows the small one",
        },
    )
