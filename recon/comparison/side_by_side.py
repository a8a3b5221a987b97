"""Methods side by side on data in memory: one call, one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, cast

import torch
from torch import Tensor

from ..base import Reconstructor
from ..data.sets import selected
from ..metrics import METRICS
from ..problem import Problem
from .calls import call
from .scores import decimals, label


@dataclass(frozen=True)
class Score:
    """What one method made of one image: its scores by metric, seconds, and why there are none, or ""."""

    method: str
    image: int
    scores: Mapping[str, float]
    seconds: float | None
    failure: str = ""


class Table(list[Score]):
    """Rows, one a method and image; printed, a Markdown table, mean ± standard deviation over the images."""

    def __init__(self, rows: Sequence[Score], metrics: Sequence[str]):
        super().__init__(rows)
        self.metrics = list(metrics)

    def values(self, method: str, metric: str) -> list[float]:
        """A score of every image that there is one of."""
        return [r.scores[metric] for r in self if r.method == method and metric in r.scores]

    def __str__(self) -> str:
        lines = [
            f"| method | n | {' | '.join(map(label, self.metrics))} | seconds |",
            f"|---|--:|{'--:|' * len(self.metrics)}--:|",
        ]
        for method in dict.fromkeys(r.method for r in self):
            mine = [r for r in self if r.method == method]
            failed = [r for r in mine if r.failure]
            cells = [_cell(self.values(method, metric), decimals(metric)) for metric in self.metrics]
            seconds = fmean(r.seconds or 0.0 for r in mine)
            lines.append(f"| {method} | {len(mine) - len(failed)} | {' | '.join(cells)} | {seconds:.3g} |")
            lines += [f"\n{method}, image {r.image}: {r.failure}" for r in failed[:1]]
        return "\n".join(lines)

    __repr__ = __str__


def table(
    methods: Mapping[str, Callable[[Problem], Tensor]],
    problem: Problem,
    truth: Tensor,
    *,
    data_range: float | None = None,
    metrics: Sequence[str] = ("psnr_db", "ssim", "nrmse"),
    mu_water: float | None = None,
    mask: Tensor | None = None,
    pixel_size: float | None = None,
) -> Table:
    """Every method on every image of a problem, scored; image by image, so that seconds are those of one.

        print(table({"FBP": FBP(), "TV": TotalVariation(), "mine": my_network}, problem, truth))

    A failure is a row as well. Nothing is written and nothing tuned: for both, and for intervals, figures and
    a report, see `recon compare`.

    methods : by name, anything that maps a problem to an image
    problem, truth : data (*batch, *A.out_shape) and images (*batch, *A.in_shape)
    data_range : what PSNR and SSIM refer to [unit of the image]; None: the largest minus the least value of
        all the truths
    metrics : keys of `recon.metrics.METRICS`
    mu_water, mask, pixel_size : for metrics in HU [1/mm], where they are taken, and for those with a length
    """
    if unknown := set(metrics) - set(METRICS):
        raise ValueError(f"table metrics: no {', '.join(sorted(unknown))}; there are {', '.join(METRICS)}")
    wanted = (*problem.batch, *problem.A.in_shape)
    if tuple(truth.shape) != wanted:
        raise ValueError(
            f"table truth: expected {wanted}, one image for each of the data, got {tuple(truth.shape)}"
        )
    images = truth.reshape(-1, *problem.A.in_shape)
    if data_range is None:
        size = images.abs() if images.is_complex() else images
        data_range = float(size.amax() - (0.0 if images.is_complex() else size.amin()))
    context: dict[str, Any] = {
        "data_range": data_range,
        "mask": mask,
        "mu_water": mu_water,
        "pixel_size": pixel_size,
    }
    rows = []
    for name, method in methods.items():
        for i, (one, image) in enumerate(zip(_singles(problem), images, strict=True)):
            outcome = call(cast(Reconstructor, method), one)
            scores, failure = {}, outcome.failure
            if outcome.image is not None:
                scores = {key: float(METRICS[key](outcome.image, image, **context)) for key in metrics}
            rows.append(Score(name, i, scores, outcome.seconds, failure))
    return Table(rows, metrics)


def _singles(problem: Problem) -> list[Problem]:
    """The images of a batch, each alone."""
    if not problem.batch:
        return [problem]
    if len(problem.batch) > 1:
        raise ValueError(f"table problem: expected one image or a batch (n,), got a batch {problem.batch}")
    parts = [selected(problem, torch.tensor([i])) for i in range(len(problem.y))]
    return [Problem(p.A, p.y[0], p.noise.select(0)) for p in parts]


def _cell(values: Sequence[float], digits: int) -> str:
    if not values:
        return "–"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"
