"""Failures counted and told: trainings over seeds, and single cases."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import write_bytes
from ..problem import Problem
from ..variational.base import Variational
from .data_check import check_data
from .disagreement import Disagreement
from .rates import Rate
from .unsuitable import OutOfDistribution

DIVERGED = 3.0  # times the residual of the image 0


@dataclass(frozen=True)
class Runs:
    """The trainings that `recon.train_method.train_seeds` summed up in one `.seeds.json`.

    name : of the file
    scores : by seed, the validation scores
    failures : by seed, the error
    """

    name: str
    scores: Mapping[str, Mapping[str, float]]
    failures: Mapping[str, str]

    @property
    def success(self) -> Rate:
        """Seeds that ended with weights, of all that were begun."""
        return Rate(len(self.scores), len(self.scores) + len(self.failures))

    def values(self, score: str) -> list[float]:
        """Of the seeds that ended well."""
        return [one[score] for one in self.scores.values() if score in one]


def read_runs(where: str | Path | Iterable[str | Path]) -> list[Runs]:
    """Every `.seeds.json` in a folder (and the folders in it), or these files, by name.

    Raises ValueError for a file that is not one, or in which a seed both failed and did not.
    """
    paths = _files(where)
    found = []
    for path in sorted(paths):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            scores = {str(seed): dict(one) for seed, one in told["scores"].items()}
            failures = {str(one["seed"]): str(one["error"]) for one in told["failures"]}
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: not a summary by train_seeds ({type(error).__name__}: {error})"
            ) from None
        both = sorted(set(scores) & set(failures))
        if both or not (scores or failures):
            raise ValueError(f"{path}: expected seeds that failed or ended well, got {both or 'none'}")
        found.append(Runs(path.name.removesuffix(".seeds.json"), scores, failures))
    return found


def success_table(runs: Iterable[Runs], score: str = "psnr_db_range_truth") -> str:
    """A Markdown table: seeds that ended well with Wilson's interval, mean ± standard deviation, errors."""
    lines = [f"| training | ended well | {score} | failures |", "|---|---|---|---|"]
    for one in runs:
        values = torch.tensor(one.values(score), dtype=torch.float64)
        told = "–" if not len(values) else f"{float(values.mean()):.4g}"
        told += f" ± {float(values.std()):.2g}" if len(values) > 1 else ""
        errors = "; ".join(f"seed {seed}: {error}" for seed, error in one.failures.items()) or "–"
        lines.append(f"| {one.name} | {one.success} | {told} | {errors.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class CaseReport:
    """What is known of one reconstruction without its truth; None where nobody can tell.

    case : its number in the batch
    method, seed : of the method, where it has one
    residual : reduced χ² of the data; nan of an image that is not finite
    std : mean standard deviation between members over the body, see `Disagreement`
    ood_score, ood_p : distance from the training data and its p value, see `OutOfDistribution`
    non_finite : number of NaN and inf in the image
    iterations : that the solver took
    diverged : not finite, stopped by an error, or explaining the data worse than DIVERGED images of zeros
    flags : what should be looked at, in words
    error : of a method that raised one
    """

    case: int
    method: str
    seed: int | None
    residual: float | None
    std: float | None
    ood_score: float | None
    ood_p: float | None
    non_finite: int
    iterations: int | None
    diverged: bool
    flags: tuple[str, ...]
    error: str = ""


@torch.no_grad()
def failure_report(
    method: Callable[[Problem], Tensor],
    problem: Problem,
    *,
    ood: OutOfDistribution | None = None,
    ensemble: Disagreement | None = None,
    seed: int | None = None,
) -> list[CaseReport]:
    """A `CaseReport` for every image of a problem; nothing is clipped, replaced or left out.

    ood, ensemble : calibrated; without them their fields are None
    seed : of the method's training; by default that of its configuration
    """
    name = getattr(method, "name", type(method).__name__)
    if seed is None:
        seed = getattr(getattr(method, "config", None), "seed", None)
    count = math.prod(problem.batch)
    iterations: list[int | None] = [None] * count
    try:
        if isinstance(method, Variational):
            solution = method.solve(problem)
            x, iterations = solution.x, [int(k) for k in solution.iterations.reshape(-1)]
        else:
            x = method(problem)
    except (ValueError, ArithmeticError, RuntimeError) as error:
        told = f"{type(error).__name__}: {error}"
        return [
            CaseReport(k, name, seed, None, None, None, None, 0, None, True, ("error",), told)
            for k in range(count)
        ]
    ndim = len(problem.A.in_shape)
    bad = (~torch.isfinite(x)).flatten(x.ndim - ndim).sum(-1).reshape(-1)
    residual = check_data(x, problem)
    nothing = check_data(torch.zeros_like(x), problem).reduced_chi2.reshape(-1)
    chi2, denies = residual.reduced_chi2.reshape(-1), residual.denies().reshape(-1)
    std, parted = _told(ensemble, problem, count)
    distance, far = _told(ood, problem, count)
    p = ood.p_value(problem).reshape(-1).tolist() if ood is not None else [None] * count
    reports = []
    for k in range(count):
        diverged = bool(bad[k] > 0) or not float(chi2[k]) <= DIVERGED * float(nothing[k])
        said = {
            "not finite": bool(bad[k] > 0),
            "diverged": diverged,
            "denies its data": bool(denies[k]),
            "members disagree": parted[k],
            "unlike the training data": far[k],
        }
        reports.append(
            CaseReport(
                k,
                name,
                seed,
                float(chi2[k]),
                std[k],
                distance[k],
                p[k],
                int(bad[k]),
                iterations[k],
                diverged,
                tuple(what for what, is_so in said.items() if is_so),
            )
        )
    return reports


def write_report(path: str | Path, reports: Iterable[CaseReport]) -> Path:
    """The reports as JSON, whole or not at all; NaN and inf as the words "nan" and "inf"."""
    content = [dict(_plain(asdict(one))) for one in reports]
    write_bytes(Path(path), (json.dumps({"format": 1, "cases": content}, indent=2) + "\n").encode())
    return Path(path)


def _told(tool: Any, problem: Problem, count: int) -> tuple[list[Any], list[bool]]:
    if tool is None:
        return [None] * count, [False] * count
    return tool.score(problem).reshape(-1).tolist(), tool.flag(problem).reshape(-1).tolist()


def _plain(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """JSON has no NaN, and a reader must not stumble over one."""
    for key, value in values.items():
        odd = isinstance(value, float) and not math.isfinite(value)
        yield key, (str(value) if odd else list(value) if isinstance(value, tuple) else value)


def _files(where: str | Path | Iterable[str | Path]) -> list[Path]:
    if not isinstance(where, str | Path):
        return [Path(path) for path in where]
    path = Path(where)
    if path.is_dir():
        found = list(path.rglob("*.seeds.json"))
        if not found:
            raise ValueError(f"read_runs: no .seeds.json in {path}; `recon train --seeds` writes them")
        return found
    return [path]
