"""More data must not make the image worse: a trained method on scans with other numbers of views."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.tensors import norm

from ..checkpoints import fingerprint
from ..learned import Learned
from ..problem import Problem

Scan = Callable[[int], tuple[Problem, Tensor]]


@dataclass(frozen=True)
class SamplesResult:
    """samples : of the scan; nrmse : mean ‖x − t‖/‖t‖ over the images; error : why there is none, or ""."""

    samples: int
    nrmse: float
    error: str = ""


@torch.no_grad()
def more_samples(
    method: Callable[[Problem], Tensor], scan: Scan, samples: Iterable[int]
) -> list[SamplesResult]:
    """The error over the number of samples, views or k-space lines; the third test of Antun et al. (2020).

    A learned method is told that it was trained for each scanner (see `rescanned`); one whose layers have the
    size of the data cannot follow, and the row says so.

    scan : samples -> (problem, truth), of the same images at the same noise per sample
    """
    rows = []
    for count in samples:
        problem, truth = scan(count)
        ndim = len(problem.A.in_shape)
        try:
            x = (rescanned(method, problem) if isinstance(method, Learned) else method)(problem)
            rows.append(SamplesResult(count, float((norm(x - truth, ndim) / norm(truth, ndim)).mean())))
        except (ValueError, RuntimeError) as error:
            told = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            rows.append(SamplesResult(count, math.nan, told))
    return rows


def harmed(rows: Iterable[SamplesResult], tolerance: float = 0.02) -> list[int]:
    """Numbers of samples whose error is more than `tolerance` (relative) above that of fewer samples."""
    worse, best = [], math.inf
    for row in sorted(rows, key=lambda r: r.samples):
        if math.isnan(row.nrmse):
            continue
        if row.nrmse > (1 + tolerance) * best:
            worse.append(row.samples)
        best = min(best, row.nrmse)
    return worse


def rescanned(method: Learned, problem: Problem) -> Learned:
    """A copy that takes `problem`'s scanner for the one it was trained for, its norm ‖A‖ included.

    Nothing is learned anew: a test of generalisation, not a way to reconstruct.
    """
    if method.trained_for is None:
        raise ValueError(f"{type(method).__name__}: not trained, so there is nothing to carry over")
    other = copy.copy(method)
    A = problem.A
    words = repr(getattr(A, "geometry", A))
    other.trained_for = replace(
        method.trained_for,
        in_shape=A.in_shape,
        out_shape=A.out_shape,
        operator=words,
        hash=fingerprint(words),
        norm=A.norm(),
    )
    return other
