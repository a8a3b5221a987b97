"""What the problems of `recon.data.tasks` share: pairs from seeds as a task of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from operators import LowDose, Mask
from operators.geometry import PlanarGeometry

from ..data.heads import MU_WATER
from ..data.sets import TEST, VALIDATION
from ..data.tasks import ContrastPairs, PatientSlices, TaskPairs, ambiguous
from ..metrics import body_mask
from ..problem import Problem
from .describe import digest
from .dose import dose_note
from .task import Pair, Task, Window

FROM_IMAGE = ("zero-filled", "bilateral", "bm3d", "total-variation")
CT_WINDOWS = (Window("brain", 0, 80, "HU"), Window("wide", -1000, 1500, "HU"))


def translation_task(
    source: TaskPairs,
    title: str,
    data_range: float,
    *,
    metrics: Sequence[str] = ("psnr_db", "ssim", "nrmse", "vifp"),
    windows: Sequence[Window] = (),
    methods: Sequence[str] = FROM_IMAGE,
    mu_water: float | None = None,
    notes: Mapping[str, str | Callable[[], str]] | None = None,
    suffix: str = "",
) -> Task:
    """The task of these pairs, named as they are; trained on their training seeds.

    source : nothing is drawn of it before it is asked for, but the first test and validation image
    data_range : of PSNR and SSIM [unit of the image]
    mu_water : where images are attenuation; their errors are then in HU, inside the body
    suffix : of the name, for other images than the built-in ones
    """

    def pairs(split: str) -> Iterator[Pair]:
        problem, truths = source.test if split == "test" else source.validation
        for k, truth in enumerate(truths):
            yield Problem(problem.A, problem.y[k], problem.noise.select(k)), truth

    def data(kind: str) -> Any:
        return source.of_kind(kind)

    def body(truth: Tensor) -> Tensor:
        return body_mask(truth, mu_water or 0.0)

    return Task(
        name=source.name + suffix,
        title=title,
        pairs=pairs,
        metrics=tuple(metrics) + (("rmse_hu", "mae_hu") if mu_water else ()),
        data_range=data_range,
        windows=tuple(windows) or (CT_WINDOWS if mu_water else (Window("full", 0, data_range),)),
        configuration=_configuration(source),
        mask=body if mu_water else None,
        mu_water=mu_water,
        pixel_size=source.pixel_size,
        data=data,
        methods=methods,
        notes={
            "test": f"{source.test_size} images that no method has learned from",
            "tuned on": f"{source.validation_size} other images",
            **(notes or {}),
        },
    )


def ct_dose(geometry: PlanarGeometry, noise: LowDose, mu_water: float) -> Callable[[], str]:
    """The note on dose, computed when it is printed."""
    return lambda: dose_note(geometry, noise, mu_water)


def contrast_notes(pairs: TaskPairs) -> dict[str, str | Callable[[], str]]:
    """What can be reached, over the test images, and what nobody can tell apart."""
    assert isinstance(pairs, ContrastPairs)
    alike = "; ".join(" and ".join(sorted(group)) for group in ambiguous(pairs.source)) or "none"

    def best() -> str:
        floors = [pairs.floor(TEST + k) ** 2 for k in range(pairs.test_size)]
        rms = (sum(floors) / len(floors)) ** 0.5
        return (
            f"no method that sees the source alone has an expected RMSE below {1000 * rms / MU_WATER:.1f} HU "
            "over the whole image: texture of the target that is nowhere in the source"
        )

    return {"best": best, "alike in the source": f"{alike}: only their place tells", "images": "synthetic"}


def _configuration(pairs: TaskPairs) -> dict[str, Any]:
    """What decides the data: settings, what the first image of either part looks like, and given slices."""
    problem, truths = pairs.pairs([TEST, VALIDATION])
    values = {k: v for k, v in vars(pairs).items() if isinstance(v, int | float | str)}
    found: dict[str, Any] = {"pairs": type(pairs).__name__, "settings": values}
    found["seen"] = [
        [f"{float(a.mean()):.5g}" for a in (y, x)] for y, x in zip(problem.y, truths, strict=True)
    ]
    found["test"], found["validation"] = {"first seed": TEST}, {"first seed": VALIDATION}
    if isinstance(slices := getattr(pairs, "objects", None), PatientSlices):
        found["slices"] = slices.digest
    if hasattr(pairs, "geometry"):
        found["geometry"] = pairs.geometry
    if isinstance(pairs.A, Mask):
        found["mask"] = digest(pairs.A.mask.numpy())
    return found
