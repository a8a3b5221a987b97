"""Means, spreads, and intervals only where enough independent images allow them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from scipy import stats

from .rows import Row

ENOUGH = 5
RESAMPLES = 9999


@dataclass(frozen=True)
class Summary:
    """One metric of one method on one problem.

    n : rows with a score; images : distinct true images among them; failures : rows without a score
    sd : over `over` ("images", or "noise draws" of a single image); None for fewer than two
    interval : 95 % bootstrap interval of the mean over images, None below ENOUGH independent images
    """

    mean: float | None
    sd: float | None
    n: int
    images: int
    failures: int
    over: str
    interval: tuple[float, float] | None

    @property
    def note(self) -> str:
        """What the spread is, and is not."""
        if self.n == 0:
            return "no image was reconstructed"
        if self.images == 1 and self.n == 1:
            return "one image, one draw of noise: no spread at all"
        if self.images == 1:
            return f"one image, {self.n} noise draws: the spread over noise is all it shows"
        if self.interval is None:
            return f"{self.images} images: too few for an interval (at least {ENOUGH})"
        return f"{self.images} images"


def summarise(rows: Sequence[Row], metric: str, seed: int = 0) -> Summary:
    """Mean and spread; draws of one image are averaged before images are compared."""
    by_image = _by_image(rows, metric)
    values = [value for draws in by_image.values() for value in draws]
    n, images = len(values), len(by_image)
    single = images == 1
    spread = values if single else [fmean(draws) for draws in by_image.values()]
    return Summary(
        mean=fmean(spread) if spread else None,
        sd=stdev(spread) if len(spread) > 1 else None,
        n=n,
        images=images,
        failures=len(rows) - n,
        over="noise draws" if single else "images",
        interval=bootstrap(spread, seed) if images >= ENOUGH else None,
    )


@dataclass(frozen=True)
class Difference:
    """Mean of method − reference over the images both have, and its interval where images allow it."""

    mean: float | None
    n: int
    images: int
    interval: tuple[float, float] | None


def difference(rows: Sequence[Row], reference: Sequence[Row], metric: str, seed: int = 0) -> Difference:
    """Paired: the same image and the same noise under both methods."""
    base = {row.image: row.scores[metric] for row in reference if metric in row.scores}
    pairs: dict[str, list[float]] = {}
    for row in rows:
        if metric in row.scores and row.image in base:
            pairs.setdefault(row.truth, []).append(row.scores[metric] - base[row.image])
    means = [fmean(draws) for draws in pairs.values()]
    return Difference(
        mean=fmean(means) if means else None,
        n=sum(map(len, pairs.values())),
        images=len(means),
        interval=bootstrap(means, seed) if len(means) >= ENOUGH else None,
    )


def bootstrap(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean: BCa (Efron 1987), percentiles where BCa is not defined."""
    sample = np.asarray(values, dtype=np.float64)
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        for kind in ("BCa", "percentile"):
            found = stats.bootstrap(
                (sample,),
                np.mean,
                n_resamples=RESAMPLES,
                method=kind,
                rng=np.random.default_rng(seed),
                batch=1000,
            ).confidence_interval
            if np.isfinite([found.low, found.high]).all():
                break
    return float(found.low), float(found.high)


def _by_image(rows: Sequence[Row], metric: str) -> Mapping[str, list[float]]:
    grouped: dict[str, list[float]] = {}
    for row in rows:
        if metric in row.scores:
            grouped.setdefault(row.truth, []).append(row.scores[metric])
    return grouped
