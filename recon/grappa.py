"""GRAPPA: missing k-space from its neighbours, by kernels that the sampled centre teaches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from operators import Sense, combine, root_sum_of_squares
from operators.coils import centre, check_coils, sampled_centre, to_images

from .base import Reconstructor
from .problem import Problem

_LARGEST_PERIOD = 16


class GRAPPA(Reconstructor):
    """y_c(k) = Σ_d Σ_Δ w_cdΔ y_d(k + Δ) for what was not sampled, then the images of the coils combined.

    Griswold et al., Magn. Reson. Med. 47 (2002). For a `Sense` whose mask is a regular lattice (any factor
    and offset along one or more axes, shifted from line to line or not) and a fully sampled centre: `fill`.

    kernel          how many neighbours, along fully sampled axes and along undersampled ones
    calibration     side of the centre learned from, one number or one per axis; None: all there is
    regularisation  λ of min_w ‖S w − t‖² + λ m ‖w‖², m the mean of |S|² summed over calibration points
    combine         "rss": (Σ|x_c|²)^½ over that of the maps, real, or "sense": with the maps, complex

    The image has the scale of |x| or x and is 0 where the maps are. Raises ValueError for an operator other
    than `Sense` with maps, and for a mask that is not regular or has no sampled centre.
    """

    def __init__(
        self,
        kernel: tuple[int, int] = (5, 4),
        calibration: int | Sequence[int] | None = None,
        regularisation: float = 1e-4,
        combine: Literal["rss", "sense"] = "rss",
    ):
        super().__init__()
        _check_kernel(kernel, regularisation)
        if combine not in ("rss", "sense"):
            raise ValueError(f'GRAPPA combine: expected "rss" or "sense", got {combine!r}')
        self.kernel, self.calibration = kernel, calibration
        self.regularisation, self.combine = regularisation, combine

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        A = problem.A
        if not isinstance(A, Sense) or A.maps is None:
            raise ValueError(
                f"GRAPPA problem: expected a Sense with maps, got {A!r}; without maps use recon.grappa.fill"
            )
        n, y = A.ndim, problem.linear
        # frames are images with masks of their own
        masks = A.mask.expand(A.in_shape).reshape(-1, *A.in_shape[-n:])
        frames = y.reshape(*problem.batch, -1, *y.shape[-n - 1 :])
        done = [
            fill(
                frame / torch.where(mask != 0, mask, 1).to(frame.real),
                mask != 0,
                self.kernel,
                self.calibration,
                self.regularisation,
                n,
            )
            for frame, mask in zip(frames.unbind(-n - 2), masks, strict=True)
        ]
        images = to_images(torch.stack(done, -n - 2).reshape(y.shape), tuple(range(-n, 0)))
        maps = A.maps.to(images)
        if self.combine == "sense":
            return combine(images, maps)
        size = root_sum_of_squares(maps, n)
        return root_sum_of_squares(images, n) * torch.where(size > 0, 1 / size, 0)

    @classmethod
    def examples(cls) -> list[GRAPPA]:
        """As it comes, and complex."""
        return [cls(), cls((3, 2), calibration=8, combine="sense")]


@torch.no_grad()
def fill(
    kspace: Tensor,
    sampled: Tensor | None = None,
    kernel: tuple[int, int] = (5, 4),
    calibration: int | Sequence[int] | None = None,
    regularisation: float = 1e-4,
    ndim: int = 2,
) -> Tensor:
    """The whole of k-space, what was sampled unchanged: GRAPPA without maps.

    The neighbours of a missing point are all lattice points nearer than kernel·R/2 along every axis, R the
    period of the mask there; kernel is the first of two numbers where R = 1, else the second. Every position
    in the cell of the lattice has its kernel, learned from all places of the centre where it fits. Beyond the
    border k-space is 0.

    kspace   (*batch, coils, *spatial), centred, 0 where nothing was sampled
    sampled  bool, broadcasts to (*spatial); None: where some coil of some image is not 0
    other parameters and errors as of `GRAPPA`
    """
    check_coils("GRAPPA kspace", kspace, ndim)
    _check_kernel(kernel, regularisation)
    shape = tuple(kspace.shape[-ndim:])
    flat = kspace.reshape(-1, *kspace.shape[-ndim - 1 :])
    sampled = (flat != 0).any(0).any(0) if sampled is None else sampled.to(kspace.device).expand(shape)
    if bool(sampled.all()):
        return kspace.clone()
    box = sampled_centre(sampled)
    cell = _cell(sampled, box)
    if calibration is not None:
        box = centre(calibration, shape, sampled)
        if not bool(sampled[box].all()):
            raise ValueError(f"GRAPPA calibration: the centre {calibration} is not fully sampled; use None")
    reach = [math.ceil((kernel[0] if p == 1 else kernel[1]) * p / 2) - 1 for p in cell.shape]
    result = flat.clone()
    for hole in (~cell).nonzero().tolist():
        deltas = [
            d
            for d in itertools.product(*(range(-r, r + 1) for r in reach))
            if bool(cell[tuple((h + s) % p for h, s, p in zip(hole, d, cell.shape, strict=True))])
        ]
        if not deltas:
            raise ValueError(f"GRAPPA kernel: {kernel} reaches no sampled neighbour; use a larger one")
        for image, filled in zip(flat, result, strict=True):
            weights = _learn(image[(slice(None), *box)], deltas, regularisation)
            _apply(image, filled, weights, deltas, hole, cell.shape, reach)
    result = torch.where(sampled, flat, result)
    return result.reshape(kspace.shape)


def _learn(region: Tensor, deltas: list[tuple[int, ...]], regularisation: float) -> Tensor:
    """w, (neighbours, coils from, coils to), from every place in the region where the kernel fits."""
    low = [max(0, -min(d)) for d in zip(*deltas, strict=True)]
    high = [max(0, max(d)) for d in zip(*deltas, strict=True)]
    size = [n - a - b for n, a, b in zip(region.shape[1:], low, high, strict=True)]
    if min(size) < 1:
        raise ValueError(
            f"GRAPPA calibration: the fully sampled centre {tuple(region.shape[1:])} is smaller than the "
            f"kernel, {tuple(a + b + 1 for a, b in zip(low, high, strict=True))}; use a smaller kernel"
        )

    def at(delta: Sequence[int]) -> Tensor:
        window = tuple(slice(a + d, a + d + n) for a, d, n in zip(low, delta, size, strict=True))
        return region[(slice(None), *window)].flatten(1).to(torch.complex128)

    sources = torch.cat([at(d) for d in deltas])  # (neighbours · coils, places)
    targets = at([0] * len(size))
    gram = sources @ sources.mH
    mean = float(gram.diagonal().real.mean())
    gram += regularisation * mean * torch.eye(len(gram)).to(gram)
    root, failed = torch.linalg.cholesky_ex(gram)
    if int(failed) or (regularisation == 0 and sources.shape[1] < len(gram)):
        raise ValueError(
            f"GRAPPA calibration: {sources.shape[1]} places can not determine {len(gram)} weights; use "
            "regularisation > 0, a smaller kernel or more of the centre"
        )
    weights = torch.cholesky_solve(sources @ targets.mH, root).conj()
    return weights.reshape(len(deltas), len(region), -1).to(region.dtype)


def _apply(
    image: Tensor,
    filled: Tensor,
    weights: Tensor,
    deltas: list[tuple[int, ...]],
    hole: Sequence[int],
    periods: Sequence[int],
    reach: Sequence[int],
) -> None:
    """filled(k) = Σ_Δ w_Δᵀ image(k + Δ) at every k in this position of its cell."""
    padding = [r for reach_of in reversed(reach) for r in (reach_of, reach_of)]
    padded = torch.nn.functional.pad(image, padding)
    counts = [len(range(h, n, p)) for h, n, p in zip(hole, image.shape[1:], periods, strict=True)]
    total = image.new_zeros(len(image), math.prod(counts))
    for w, delta in zip(weights, deltas, strict=True):
        starts = [h + d + r for h, d, r in zip(hole, delta, reach, strict=True)]
        window = tuple(
            slice(s, s + (c - 1) * p + 1, p) for s, c, p in zip(starts, counts, periods, strict=True)
        )
        total += w.mT @ padded[(slice(None), *window)].flatten(1)
    target = (slice(None), *(slice(h, None, p) for h, p in zip(hole, periods, strict=True)))
    filled[target] = total.reshape(len(image), *counts)


def _cell(sampled: Tensor, box: tuple[slice, ...]) -> Tensor:
    """The pattern that the mask repeats outside its sampled centre, bool, one period along every axis."""
    outside = torch.ones_like(sampled)
    outside[box] = False
    periods = [_period(sampled, outside, axis) for axis in range(sampled.ndim)]
    if all(periods):
        wide = [-(-n // p) * p for n, p in zip(sampled.shape, periods, strict=True)]
        pad = [s for w, n in zip(reversed(wide), reversed(sampled.shape), strict=True) for s in (0, w - n)]
        split = [s for w, p in zip(wide, periods, strict=True) for s in (w // p, p)]
        over = tuple(range(0, 2 * len(wide), 2))

        def count(points: Tensor) -> Tensor:
            return torch.nn.functional.pad(points.long(), pad).reshape(split).sum(over)

        there, all_points = count(sampled & outside), count(outside)
        if bool(((there == 0) | (there == all_points)).all()) and bool(there.any()):
            return there > 0
    raise ValueError(
        "GRAPPA needs regular sampling: the mask does not repeat with a period of at most "
        f"{_LARGEST_PERIOD} outside its fully sampled centre; use an iterative method, as CGLS, for others"
    )


def _period(sampled: Tensor, outside: Tensor, axis: int) -> int:
    """The smallest shift along an axis that maps sampled to sampled points outside the centre; 0: none."""
    n = sampled.shape[axis]
    for p in range(1, min(_LARGEST_PERIOD, n - 1) + 1):
        a, b = (slice(None),) * axis + (slice(p, None),), (slice(None),) * axis + (slice(n - p),)
        both = outside[a] & outside[b]
        if bool((sampled[a] == sampled[b])[both].all()):
            return p
    return 1 if n == 1 else 0


def _check_kernel(kernel: tuple[int, int], regularisation: float) -> None:
    if len(kernel) != 2 or min(kernel) < 1:
        raise ValueError(
            f"GRAPPA kernel: expected two numbers ≥ 1, along sampled and other axes, got {kernel}"
        )
    if not 0 <= regularisation < math.inf:
        raise ValueError(f"GRAPPA regularisation: expected a number ≥ 0, got {regularisation}")
