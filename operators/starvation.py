"""What becomes of rays with too few counts before the logarithm: the starvation rules of `LowDose`.

All act on transmissions T = (y − b)/I₀ and look along the detector only, never across views or images: a row
of bins (views, bins), or a panel (views, rows, columns). Transmissions, not counts, are averaged, so that a
bowtie or a detector map of I₀ leaves no trace.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

RULES = ("floor", "neighbour", "trimmed-mean")
REACH = 3  # how far the neighbour rule looks for a bin with counts [bins]
ENOUGH = 20.0  # counts from which the trimmed-mean rule leaves a ray alone: the log is near linear there
BLOCK = 1 << 22  # values filtered at once, which bounds the memory

# Window, values dropped at either end, and variance of the trimmed mean of as many normal values times their
# number (1 for the plain mean), by the integral over the joint density of two order statistics.
ROW = (5, 1, 1.1353)
PANEL = (9, 2, 1.1537)


def nearest_mean(values: Tensor, good: Tensor, wanted: Tensor, ndim: int, reach: int = REACH) -> Tensor:
    """Mean of `values` over the nearest good bins, [mean, number of them], where wanted; number 0 where none.

    Nearest are the good ones at the smallest distance r = max(|Δrow|, |Δcolumn|) ≤ reach at which there are
    any: in a row of bins one or two, on a panel up to 8 r.

    values        (channels, *shape) with the detector in the last `ndim` dimensions, 1 or 2
    good, wanted  (*shape), True where a value may be used, and where a mean is asked for
    Returns (channels + 1, n) for the n wanted bins, in the order of `wanted.nonzero()`.
    """
    size = good.shape[good.ndim - ndim :]
    place = wanted.nonzero(as_tuple=True)
    before, where = place[: good.ndim - ndim], place[good.ndim - ndim :]
    result = values.new_zeros(len(values) + 1, len(where[0]))
    found = torch.zeros_like(result[0], dtype=torch.bool)
    for r in range(1, reach + 1):
        total = torch.zeros_like(result)
        for offset in product(range(-r, r + 1), repeat=ndim):
            if max(map(abs, offset)) != r:
                continue
            moved = [w + o for w, o in zip(where, offset, strict=True)]
            inside = torch.stack([(m >= 0) & (m < n) for m, n in zip(moved, size, strict=True)]).all(0)
            at = (*before, *[m.clamp(0, n - 1) for m, n in zip(moved, size, strict=True)])
            use = inside & good[at]
            taken = torch.stack([v[at] for v in values])
            total[:-1] += torch.where(use, taken, 0)
            total[-1] += use
        new = ~found & (total[-1] > 0)
        mean = torch.cat([total[:-1] / total[-1].clamp(min=1), total[-1:]])
        result = torch.where(new, mean, result)
        found |= new
    return result


def trimmed_mean(values: Tensor, panel: bool) -> Tensor:
    """Mean of what is left of each window without its largest and smallest values, shape of `values`.

    A row of 5 bins without 1 at either end, or 3 × 3 of a panel without 2; edges are repeated outwards.
    values : (n, bins), or (n, rows, columns) if `panel`
    """
    count, drop, _ = PANEL if panel else ROW
    result = torch.empty_like(values)
    step = max(1, BLOCK // max(1, values[:1].numel() * count))
    for start in range(0, len(values), step):
        block = values[start : start + step]
        if panel:
            edged = F.pad(block[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
            window = edged.unfold(1, 3, 1).unfold(2, 3, 1).flatten(-2)
        else:
            window = F.pad(block[:, None], (2, 2), mode="replicate")[:, 0].unfold(1, 5, 1)
        result[start : start + step] = window.sort(-1).values[..., drop : count - drop].mean(-1)
    return result
