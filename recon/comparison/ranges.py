"""Where a parameter is searched: a range maps a coordinate u to a value, [0, 1] to the stated range."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


class Range(ABC):
    """value = range.at(u); u = 0 and u = 1 are the stated ends, beyond them lies the widened range.

    `bounds` are the u that can never be left: where the parameter stops making sense.
    """

    @abstractmethod
    def at(self, u: float) -> Any:
        """The value at coordinate u."""

    @property
    def bounds(self) -> tuple[float, float]:
        return -math.inf, math.inf


@dataclass(frozen=True)
class Log(Range):
    """value = lo·(hi/lo)ᵘ, for weights and steps."""

    lo: float
    hi: float

    def __post_init__(self) -> None:
        if not 0 < self.lo < self.hi:
            raise ValueError(f"Log: expected 0 < lo < hi, got lo={self.lo:g}, hi={self.hi:g}")

    def at(self, u: float) -> float:
        return float(f"{self.lo * (self.hi / self.lo) ** u:.4g}")


@dataclass(frozen=True)
class Linear(Range):
    """value = lo + (hi − lo)·u, never outside `limits` (default: none)."""

    lo: float
    hi: float
    limits: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if not self.limits[0] <= self.lo < self.hi <= self.limits[1]:
            raise ValueError(
                f"Linear: expected lo < hi inside limits {self.limits}, got lo={self.lo:g}, hi={self.hi:g}"
            )

    def at(self, u: float) -> float:
        return float(f"{self.lo + (self.hi - self.lo) * u:.4g}")

    @property
    def bounds(self) -> tuple[float, float]:
        low, high = ((limit - self.lo) / (self.hi - self.lo) for limit in self.limits)
        return low, high


@dataclass(frozen=True)
class Integer(Range):
    """Whole numbers, value = round(lo·(hi/lo)ᵘ), never below 1 nor above `most`: iterations, counts."""

    lo: int
    hi: int
    most: float = math.inf

    def __post_init__(self) -> None:
        if not 1 <= self.lo < self.hi <= self.most:
            raise ValueError(
                f"Integer: expected 1 <= lo < hi <= most, got lo={self.lo}, hi={self.hi}, most={self.most}"
            )

    def at(self, u: float) -> int:
        return int(min(self.most, max(1, round(self.lo * (self.hi / self.lo) ** u))))

    @property
    def bounds(self) -> tuple[float, float]:
        scale = math.log(self.hi / self.lo)
        return -math.log(self.lo) / scale, math.log(self.most / self.lo) / scale


@dataclass(frozen=True, init=False)
class Choice(Range):
    """One of the values, value = values[⌊u·n⌋]; has no edge to widen."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any):
        if len(values) < 2:
            raise ValueError(f"Choice: expected at least two values, got {values}")
        object.__setattr__(self, "values", values)

    def at(self, u: float) -> Any:
        n = len(self.values)
        return self.values[min(n - 1, max(0, math.floor(u * n)))]

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0
