"""Dart throwing on a grid: points in a given order, taken unless too near to one that was."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def throw(order: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Of the flat indices `order` those taken, in order: |p − q|² ≥ max(square[p], square[q]) for any two.

    order : flat indices into the grid, int64
    square : (ny, nx), int64, squared radii in grid steps; 1 forbids nothing
    """
    ny, nx = square.shape
    taken = np.zeros((ny, nx), np.bool_)
    near = np.zeros((ny, nx), np.bool_)  # within the radius of one that was taken
    kept = np.empty(len(order), np.int64)
    count = 0
    for index in order:
        y, x = index // nx, index % nx
        if near[y, x]:
            continue
        r2 = square[y, x]
        reach = int(math.sqrt(r2 - 1))
        y0, y1 = max(y - reach, 0), min(y + reach, ny - 1)
        x0, x1 = max(x - reach, 0), min(x + reach, nx - 1)
        free = True
        for v in range(y0, y1 + 1):
            for u in range(x0, x1 + 1):
                if taken[v, u] and (v - y) ** 2 + (u - x) ** 2 < r2:
                    free = False
                    break
            if not free:
                break
        if not free:
            continue
        taken[y, x] = True
        kept[count] = index
        count += 1
        for v in range(y0, y1 + 1):
            for u in range(x0, x1 + 1):
                if (v - y) ** 2 + (u - x) ** 2 < r2:
                    near[v, u] = True
    return kept[:count]
