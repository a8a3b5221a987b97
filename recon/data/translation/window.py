"""Windows of values: [low, high] to [−1, 1] and back, and how much lay outside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Window:
    """t = 2 (v − low) / (high − low) − 1, clipped to [−1, 1];  back(t) = low + (t + 1)(high − low)/2.

    low, high : values that become −1 and 1
    unit : what the values are: "HU" refuses images that are no CT or hold 8-bit grey; "grey" or other words
        only say it
    """

    low: float
    high: float
    unit: str = "HU"

    def __post_init__(self) -> None:
        good = [isinstance(v, int | float) and math.isfinite(v) for v in (self.low, self.high)]
        if not all(good) or not self.low < self.high:
            raise ValueError(
                f"Window: expected finite numbers low < high, got {self.low!r} and {self.high!r}"
            )
        if not isinstance(self.unit, str):
            raise ValueError(f"Window unit: expected a word, as 'HU' or 'grey', got {self.unit!r}")

    def __call__(self, values: Tensor) -> Tensor:
        return ((values - self.low) * (2 / (self.high - self.low)) - 1).clamp(-1, 1)

    def back(self, inside: Tensor) -> Tensor:
        """Values again; what left [−1, 1] leaves the window, it is not cut off."""
        return self.low + (inside + 1) * ((self.high - self.low) / 2)

    def clipped(self, values: Tensor) -> float:
        """Which part of the values lies outside, 0 to 1."""
        if not values.numel():
            return 0.0
        return float(((values < self.low) | (values > self.high)).double().mean())

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "low,high" or "low,high,unit", as on the command line."""
        words = [w.strip() for w in text.replace("−", "-").split(",")]
        try:
            low, high = float(words[0]), float(words[1])
            unit = words[2] if len(words) == 3 else "HU"
            if len(words) > 3:
                raise IndexError
        except (ValueError, IndexError):
            raise ValueError(
                f"window: expected LOW,HIGH or LOW,HIGH,UNIT, as -1000,2000 or 0,255,grey; got {text!r}"
            ) from None
        return cls(low, high, unit)

    def __str__(self) -> str:
        return f"{self.low:g} … {self.high:g} {self.unit}".strip()


GREY = Window(0.0, 255.0, "grey")
