"""Shares of cases with their uncertainty, and thresholds that promise a false-alarm share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rate:
    """hits / of, with Wilson's interval.

    hits : cases that count
    of : cases looked at
    """

    hits: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.of or self.of < 1:
            raise ValueError(f"Rate: expected 0 ≤ hits ≤ of and of ≥ 1, got {self.hits} of {self.of}")

    @property
    def share(self) -> float:
        """hits / of."""
        return self.hits / self.of

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """(p + z²/2n ± z√(p(1 − p)/n + z²/4n²)) / (1 + z²/n): Wilson, J. Am. Stat. Assoc. 22 (1927).

        level : that the interval covers the true share, for independent cases, approximately
        """
        check_share("Rate.interval level", level)
        z = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
        n, p = self.of, self.share
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.hits}/{self.of} = {self.share:.0%} ({low:.0%} to {high:.0%})"


def rate(found: Tensor) -> Rate:
    """The share of True in a bool tensor."""
    return Rate(int(found.sum()), found.numel())


def conformal_threshold(scores: Tensor | Sequence[float], level: float = 0.05) -> float:
    """The ⌈(n + 1)(1 − level)⌉-th smallest of n scores: P(a new one is above) ≤ level.

    Split conformal prediction (Papadopoulos et al., ECML 2002), for a new case exchangeable with those; at
    least level − 1/(n + 1) where scores have no ties. The promise holds over the draw of both.

    scores : of cases that are as they should be, at least 1/level − 1 of them
    level : share of false alarms
    """
    values = torch.as_tensor(scores, dtype=torch.float64).flatten()
    check_share("conformal_threshold level", level)
    if not bool(torch.isfinite(values).all()):
        raise ValueError("conformal_threshold scores: expected finite numbers, got NaN or inf")
    # against 20 · (1 − 0.05) = 19.000000000000004
    rank = math.ceil((len(values) + 1) * (1 - level) - 1e-9)
    if rank > len(values):
        raise ValueError(
            f"conformal_threshold scores: a false-alarm share of {level:g} needs at least "
            f"{math.ceil(1 / level - 1 - 1e-9)} cases, got {len(values)}"
        )
    return float(values.sort().values[rank - 1])


def p_values(scores: Tensor, calibration: Tensor) -> Tensor:
    """(1 + #{calibration ≥ score}) / (n + 1) of every score, float64: at most α with probability ≤ α."""
    above = (calibration.double()[None] >= scores.double().reshape(-1, 1)).sum(1)
    return ((1 + above) / (len(calibration) + 1)).reshape(scores.shape).double()


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless 0 < value < 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name}: expected a number between 0 and 1, got {value!r}")
