"""What the constructors ask of their arguments; errors name the argument, the expected and the given."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np


def check_sequence(name: str, value: Any) -> tuple[Any, ...]:
    """`value` as a tuple."""
    try:
        return tuple(value)
    except TypeError:
        raise ValueError(f"{name}: expected a sequence, got {value!r}") from None


def check_count(name: str, value: Any) -> int:
    """A whole number of at least 1."""
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
    return int(value)


def check_finite(name: str, value: Any) -> float:
    """A finite number."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return number


def check_positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    number = check_finite(name, value)
    if number <= 0:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    return number


def check_angles(name: str, value: Any) -> tuple[float, ...]:
    """Finite angles, at least one, from a list, array or tensor."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    angles = np.asarray(value, dtype=np.float64)
    if angles.ndim != 1 or angles.size == 0:
        raise ValueError(f"{name}: expected at least one angle in one dimension, got shape {angles.shape}")
    if not np.isfinite(angles).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or inf")
    if np.abs(angles).max() > 4 * math.pi and bool((2 * angles == np.round(2 * angles)).all()):
        warnings.warn(
            f"{name}: whole and half numbers up to {angles.max():g} look like degrees: "
            "numpy.deg2rad gives radians",
            UserWarning,
            stacklevel=2,
        )
    return tuple(angles.tolist())
