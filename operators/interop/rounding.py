"""Lengths that were multiplied and divided on their way through another toolbox."""

from __future__ import annotations

import math


def neat(value: float) -> float:
    """The decimal number of at most twelve digits within four units in the last place of `value`, or `value`.

    0.1496 · 956 / 956 may differ from 0.1496 in its last bit; this gives 0.1496 back.
    """
    value = float(value)
    decimal = float(f"{value:.12g}")
    return decimal if abs(decimal - value) <= 4 * math.ulp(value) else value
