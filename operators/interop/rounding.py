"""Lengths that were multiplied and divided on their way through another toolbox."""

from __future__ import annotations

import math


def neat(value: float, scale: float = 0.0) -> float:
    """The decimal number of at most twelve digits within rounding of `value`, or `value` itself.

    0.1496 · 956 / 956 may differ from 0.1496 in its last bit; this gives 0.1496 back. Rounding is four units
    in the last place of `value`, or of `scale`, the largest number it was computed from.
    """
    value = float(value)
    decimal = float(f"{value:.12g}")
    nearer = float(f"{value:.9g}") if scale else decimal
    for candidate in (nearer, decimal):
        if abs(candidate - value) <= 4 * math.ulp(max(abs(value), scale)):
            return candidate
    return value
