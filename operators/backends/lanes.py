"""Which rays may share one row of the ray table, so that eight results come from one computed position.

Turning the image by 90° turns the view, mirroring it reverses angle and detector (bins symmetric, offset 0):

    A(θ + k·90°) x = A(θ) Rᵏx,      A(k·90° − θ) x = reversed A(θ) M Rᵏx

with (R x)[j, i] = x[n − 1 − i, j] and (M x)[j, i] = x[j, nx − 1 − i]; odd k needs a square image. A parallel
ray is the same line at θ + 180° with reversed bins, so that half of its bins are enough. Views of one orbit
form a group; each lane of a group reads its own copy of the image at the positions of the first view.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..geometry import ParallelBeam, PlanarGeometry

_SAME_ANGLE = 1e-11  # [rad]; rounding of any sensible formula for uniform angles, 1e-9 pixels at N = 256
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lanes:
    """How the rays of a geometry are dealt to lanes.

    image : (symmetries, 3): pixel (j, i) of a lane's copy is x.ravel()[image[s] @ (1, j, i)]
    leader : (groups,) the view whose table a group uses, for its first `bins` bins
    bins : bins of the table that are used
    turned : (2, symmetries): the lane that sees what lane s sees of the image (0), of its transpose (1)
    base, step, count : (groups, symmetries): bin d < count of a lane is y.ravel()[base + d·step]
    """

    image: Integers
    turned: Integers
    leader: Integers
    bins: int
    base: Integers
    step: Integers
    count: Integers

    @property
    def copies(self) -> int:
        """2 where rays need a transposed copy of the image, 1 where the lanes hold it already."""
        return 1 if (self.turned[0] != self.turned[1]).any() else 2

    @property
    def symmetries(self) -> int:
        """Lanes one image fills."""
        return len(self.image)


@lru_cache(maxsize=32)
def by_image(geometry: PlanarGeometry) -> Lanes:
    """One image a lane, every view its own group."""
    return _deal(geometry, [(0, False)], halved=False)


@lru_cache(maxsize=32)
def by_symmetry(geometry: PlanarGeometry) -> Lanes:
    """As many views of one image a group as its symmetries allow."""
    ny, nx = geometry.image_shape
    mirror = abs(getattr(geometry, "offset", 0.0)) <= 1e-9 * geometry.bin_size
    turns = range(4) if ny == nx else range(0, 4, 2)
    symmetries = [(k, m) for m in ((False, True) if mirror else (False,)) for k in turns]
    return _deal(geometry, symmetries, halved=mirror and isinstance(geometry, ParallelBeam))


def _deal(geometry: PlanarGeometry, symmetries: list[tuple[int, bool]], halved: bool) -> Lanes:
    """Gather views into orbits; `halved`: a view is two slots, its first bins and its reversed bins."""
    n = geometry.n_bins
    period = math.pi if halved else 2 * math.pi
    slots = _Slots(geometry.angles, period, halved)
    leader, base, step, count = [], [], [], []
    for view, angle in enumerate(geometry.angles):
        if (view, False) not in slots.free:
            continue
        leader.append(view)
        lanes = []
        for turn, mirrored in symmetries:
            found = slots.take(turn * math.pi / 2 + (-angle if mirrored else angle), mirrored)
            if found is None:
                lanes.append((0, 0, 0))
                continue
            v, is_reversed = found
            lanes.append(
                (
                    v * n + (n - 1 if is_reversed else 0),
                    -1 if is_reversed else 1,
                    (n + (not is_reversed)) // 2 if halved else n,
                )
            )
        base.append([lane[0] for lane in lanes])
        step.append([lane[1] for lane in lanes])
        count.append([lane[2] for lane in lanes])
    image = [_copy(geometry.image_shape, *s) for s in symmetries]
    transposed = [(origin, right, down) for origin, down, right in image]
    same = [*range(len(image))]
    return Lanes(
        image=np.array(image),
        turned=np.array([same, [image.index(t) for t in transposed] if len(image) == 8 else same]),
        leader=np.array(leader),
        bins=(n + 1) // 2 if halved else n,
        base=np.array(base),
        step=np.array(step),
        count=np.array(count),
    )


class _Slots:
    """The views not yet dealt, found by angle."""

    def __init__(self, angles: tuple[float, ...], period: float, halved: bool):
        self.period, self.halved = period, halved
        self.turned = [math.floor((a + _SAME_ANGLE) / period) % 2 == 1 for a in angles]
        folded = [a - period * math.floor((a + _SAME_ANGLE) / period) for a in angles]
        self.views = sorted(range(len(angles)), key=folded.__getitem__)
        self.angles = [folded[v] for v in self.views]
        self.free = {(v, r) for v in self.views for r in ((False, True) if halved else (False,))}

    def take(self, angle: float, mirrored: bool) -> tuple[int, bool] | None:
        """A free view at `angle`, and whether the lane sees its bins reversed."""
        turns = math.floor((angle + _SAME_ANGLE) / self.period)
        angle -= turns * self.period
        k = bisect_left(self.angles, angle - _SAME_ANGLE)
        while k < len(self.angles) and self.angles[k] <= angle + _SAME_ANGLE:
            view = self.views[k]
            is_reversed = mirrored ^ (self.halved and (turns % 2 == 1) ^ self.turned[view])
            slot = (view, is_reversed and self.halved)
            if slot in self.free:
                self.free.remove(slot)
                return view, is_reversed
            k += 1
        return None


def _copy(shape: tuple[int, int], turn: int, mirrored: bool) -> tuple[int, int, int]:
    """Where pixel (0, 0) of M Rᵏx lies in x.ravel(), and the steps to the next row and column."""
    index = np.rot90(np.arange(math.prod(shape)).reshape(shape), -turn)
    if mirrored:
        index = index[:, ::-1]
    origin = int(index[0, 0])
    row = int(index[1, 0]) - origin if index.shape[0] > 1 else 0
    column = int(index[0, 1]) - origin if index.shape[1] > 1 else 0
    return origin, row, column
