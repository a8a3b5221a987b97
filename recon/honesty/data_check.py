"""Whether an image explains its data, and which part of its error the data could never have shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import norm, squared_norm

from ..problem import Problem
from ..solvers import cgls
from ..solvers.iterate import trace


@dataclass(frozen=True)
class DataCheck:
    """Of an image and its data; one value per image, (*batch,).

    reduced_chi2 : mean |A x − y|²/σ² over what was measured; 1 ± √(2/N) of the truth behind real data, less
        of an image that fits noise, more of one that denies its data
    relative : ‖A x − y‖ / ‖y‖
    measured : N
    """

    reduced_chi2: Tensor
    relative: Tensor
    measured: Tensor

    def denies(self, sigmas: float = 5.0) -> Tensor:
        """Whether χ² is more than `sigmas` of its standard deviations above what noise would give, or NaN.

        Discretisation counts as well: an operator that is not the scanner's gives more than 1 for the truth.
        """
        return ~(self.reduced_chi2 <= 1 + sigmas * (2 / self.measured).sqrt())


@torch.no_grad()
def check_data(image: Tensor, problem: Problem) -> DataCheck:
    """‖A x − y‖ relative to the noise: reduced χ² = mean |A x − y|²/σ² of linearised data.

    image : (*batch, *A.in_shape)
    problem : its data; where nothing was measured their variance is inf, and they do not count
    """
    ndim = len(problem.A.out_shape)
    y, variance = problem.linear, problem.variance
    measured = torch.isfinite(variance)
    off = (problem.A(image) - y).abs().double().square()
    weighted = torch.where(measured, off / variance.double(), 0.0).flatten(y.ndim - ndim).sum(-1)
    count = measured.flatten(y.ndim - ndim).sum(-1)
    length = norm(y.where(measured, torch.zeros_like(y)), ndim)
    residual = torch.where(measured, off, 0.0).flatten(y.ndim - ndim).sum(-1).sqrt()
    return DataCheck(weighted / count, residual / length, count)


@dataclass(frozen=True)
class ErrorSplit:
    """x − truth = range + null, the first in the range of A*, which data show, the second in A's null space.

    visible, invisible : the parts, (*batch, *A.in_shape)
    visible_share : ‖visible‖² / ‖x − truth‖², (*batch,); the shares sum to 1 as far as CG came
    leak : ‖A invisible‖ / ‖A (x − truth)‖, (*batch,): what CG left, 0 of an exact split
    """

    visible: Tensor
    invisible: Tensor
    visible_share: Tensor
    leak: Tensor


@torch.no_grad()
def split_error(
    image: Tensor, truth: Tensor, A: LinearOperator, iterations: int = 100, tolerance: float = 1e-6
) -> ErrorSplit:
    """A⁺A (x − truth) by conjugate gradients on the normal equations from 0, and the rest.

    Singular values that `iterations` steps do not reach count as null space: in CT there is no gap, so the
    number belongs to the result.
    """
    n, m = len(A.in_shape), len(A.out_shape)
    error = image - truth
    seen = A(error)
    visible = trace(cgls(A, seen, torch.zeros_like(error)), iterations, tolerance).last.x
    invisible = error - visible
    size = squared_norm(error, n)
    share = torch.where(size > 0, squared_norm(visible, n) / size.where(size > 0, torch.ones_like(size)), 0.0)
    length = norm(seen, m)
    left = norm(A(invisible), m)
    leak = torch.where(length > 0, left / length.where(length > 0, torch.ones_like(length)), 0.0)
    return ErrorSplit(visible, invisible, share, leak)


def check_row(
    name: str,
    method: Callable[[Problem], Tensor],
    problem: Problem,
    truth: Tensor | None = None,
    iterations: int = 100,
) -> dict[str, float | str]:
    """A row for a table: means over images of χ², relative residual and, with a truth, the error's split.

    Keys: method, reduced_chi2, worst_chi2, data_residual, denies (share of images), and nrmse, visible_error,
    invisible_error (norms over that of the truth).
    """
    with torch.no_grad():
        x = method(problem)
    found = check_data(x, problem)
    row: dict[str, float | str] = {
        "method": name,
        "reduced_chi2": float(found.reduced_chi2.mean()),
        "worst_chi2": float(found.reduced_chi2.max()),
        "data_residual": float(found.relative.mean()),
        "denies": float(found.denies().double().mean()),
    }
    if truth is not None:
        n = len(problem.A.in_shape)
        parts = split_error(x, truth, problem.A, iterations)
        size = norm(truth, n)
        for key, part in (("nrmse", x - truth), ("visible_error", parts.visible),
                          ("invisible_error", parts.invisible)):  # fmt: skip
            row[key] = float((norm(part, n) / size).mean())
    return row


def chi2_interval(measured: int, sigmas: float = 2.0) -> tuple[float, float]:
    """1 ∓ sigmas·√(2/N): where the reduced χ² of the truth lies."""
    half = sigmas * math.sqrt(2 / measured)
    return 1 - half, 1 + half
