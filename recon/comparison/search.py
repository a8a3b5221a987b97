"""Where to look next: a search in coordinates, [0, 1] the stated range of each parameter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from .ranges import Choice, Range

Point = tuple[float, ...]
EDGE = 1e-9


@dataclass(frozen=True)
class Seen:
    """A point that was tried and its loss (smaller is better, inf: failed)."""

    point: Point
    loss: float


def propose(space: Sequence[Range], seen: Sequence[Seen], trials: int, seed: int) -> Point:
    """The next of `trials` points, given those seen; the same for the same arguments."""
    if len(space) == 1 and not isinstance(space[0], Choice):
        return (_line(space[0], [(s.point[0], s.loss) for s in seen], trials),)
    return _space(space, seen, trials, seed)


def _line(one: Range, seen: Sequence[tuple[float, float]], trials: int) -> float:
    """One parameter: an even grid, in growing steps beyond an end that is best, then finer about the best."""
    grid = max(2, min(trials, (trials + 1) // 2))
    if len(seen) < grid:
        return len(seen) / (grid - 1)
    beyond = sum(not 0 <= u <= 1 for u, _ in seen)
    step = 2**beyond / (grid - 1)
    points = sorted(seen)
    best = min(range(len(points)), key=lambda i: points[i][1])
    low, high = one.bounds
    for u in _neighbours(points, best, step, low, high):
        if all(one.at(u) != one.at(v) for v, _ in points):
            return u
    return _widest_gap(one, points)


def _neighbours(
    points: Sequence[tuple[float, float]], best: int, step: float, low: float, high: float
) -> Iterator[float]:
    """Beyond the best if it lies at an end; else a parabola's lowest point, then the middles beside it."""
    u = points[best][0]
    left = points[best - 1][0] if best else None
    right = points[best + 1][0] if best + 1 < len(points) else None
    if left is None and u - low > EDGE:
        yield max(low, u - step)
    if right is None and high - u > EDGE:
        yield min(high, u + step)
    lowest = _parabola(points[best - 1 : best + 2]) if left is not None and right is not None else None
    if lowest is not None:
        yield lowest
    gaps = [other for other in (left, right) if other is not None]
    for other in sorted(gaps, key=lambda v: -abs(v - u)):
        yield (u + other) / 2


def _parabola(three: Sequence[tuple[float, float]]) -> float | None:
    """Where the parabola through three points is lowest.

    None if it lies next to one of them, or if one side is more than ten times as steep: no parabola then.
    """
    (a, fa), (b, fb), (c, fc) = three
    left, right = (b - a) * (fb - fc), (b - c) * (fb - fa)
    if not math.isfinite(left - right) or left == right or max(fa, fc) - fb > 10 * (min(fa, fc) - fb):
        return None
    u = b - ((b - a) * left - (b - c) * right) / (2 * (left - right))
    room = 0.04 * (c - a)
    return u if a + room < u < c - room and abs(u - b) > room else None


def _widest_gap(one: Range, points: Sequence[tuple[float, float]]) -> float:
    """The middle of the widest gap which holds a new value; the best point itself if there is none."""
    gaps = sorted(itertools.pairwise(points), key=lambda pair: pair[0][0] - pair[1][0])
    for (a, _), (b, _) in gaps:
        middle = (a + b) / 2
        if one.at(middle) not in (one.at(a), one.at(b)):
            return middle
    return min(points, key=lambda p: p[1])[0]


def _space(space: Sequence[Range], seen: Sequence[Seen], trials: int, seed: int) -> Point:
    """Several parameters: half the trials spread evenly (Sobol), half in a shrinking box about the best.

    Where the best is the outermost tried, the box gives way to a step outwards of up to the stated range.
    """
    spread = max(1, (trials + 1) // 2)
    size = 1 << max(0, math.ceil(math.log2(trials + 1)))
    cube = qmc.Sobol(len(space), seed=np.random.default_rng(seed)).random(size)
    k = len(seen)
    if k < spread:
        return tuple(float(u) for u in cube[k])
    best = min(seen, key=lambda s: s.loss).point
    shrink = 0.35 * 0.85 ** (k - spread)
    point = []
    for one, u, c in zip(space, best, cube[k], strict=True):
        low, high = one.bounds
        if isinstance(one, Choice):  # mostly kept, now and then drawn anew
            point.append(float(c if c < shrink else u))
            continue
        tried = [s.point[len(point)] for s in seen]
        step = {"below": -c, "above": c}.get(edge_of(one, u, tried), shrink * (2 * c - 1))
        point.append(float(min(high, max(low, u + step))))
    return tuple(point)


def edge_of(one: Range, u: float, tried: Sequence[float]) -> str:
    """'below' or 'above' if nothing was tried beyond the chosen u although the range goes on there."""
    if isinstance(one, Choice):
        return ""
    low, high = one.bounds
    if u <= min(tried) + EDGE and u - low > EDGE:
        return "below"
    if u >= max(tried) - EDGE and high - u > EDGE:
        return "above"
    return ""


def at_bound(one: Range, u: float) -> bool:
    """Whether the chosen u is the last that is allowed."""
    low, high = one.bounds
    return not isinstance(one, Choice) and (u - low <= EDGE or high - u <= EDGE)
