"""Distances between patches of an image and the image shifted, in one pass over memory (numba)."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from operators.backends.pool import available, share

Array = NDArray[Any]


def patch_distance(padded: Tensor, window: Tensor, oy: int, ox: int) -> Tensor:
    """d[i] = Σ_k window[k_y] window[k_x] (padded[i + k + o] − padded[i + k])², where both are inside.

    padded : (n, ny + 2r, nx + 2r), window : (2r + 1,), of one real dtype, on the CPU; |o| below the sides
    """
    count, height, width = padded.shape
    taps = len(window)
    ny, nx = height - taps + 1 - abs(oy), width - taps + 1 - abs(ox)
    out = padded.new_empty(count, ny, nx)
    arrays = padded.numpy(), window.numpy(), oy, ox, out.numpy()
    pieces = min(2 * available(), ny)
    share(lambda k: _distance(k * ny // pieces, (k + 1) * ny // pieces, *arrays), pieces, available())
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _distance(first: int, last: int, padded: Array, window: Array, oy: int, ox: int, out: Array) -> None:
    taps, nx = len(window), out.shape[2]
    row = np.empty(nx + taps - 1, padded.dtype)
    y0, x0 = max(-oy, 0), max(-ox, 0)
    for image in range(len(padded)):
        for i in range(first, last):
            row[:] = 0
            for k in range(taps):
                here = padded[image, y0 + i + k, x0:]
                there = padded[image, y0 + i + k + oy, x0 + ox :]
                g = window[k]
                for j in range(len(row)):
                    step = there[j] - here[j]
                    row[j] += g * step * step
            result = out[image, i]
            for j in range(nx):
                result[j] = window[0] * row[j]
            for k in range(1, taps):
                g = window[k]
                for j in range(nx):
                    result[j] += g * row[j + k]
