"""The weight of a prior without the truth: as much misfit as there is noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from operators.tensors import spread

Solve = Callable[[Tensor, Tensor], Tensor]


SLACK = 0.1
"""Where noise is less than what the model cannot say: χ² may be this much above the least there is."""


def discrepancy(
    solve: Solve,
    misfit: Callable[[Tensor], Tensor],
    weight: Tensor,
    x: Tensor,
    tolerance: float = 0.03,
    solves: int = 8,
    reach: float = 1e4,
) -> tuple[Tensor, Tensor]:
    """λ with χ²(x_λ)/m = 1, per image, and x_λ (Morozov 1966).

    Where no λ brings χ² that low, because the discrete model cannot explain the data, the λ sought is the one
    with χ² a tenth above the lowest seen: to lower λ further fits noise and explains nothing.

    solve      (weight, start) -> x, both per image
    misfit     χ²/m of images, (*batch,)
    weight, x  first guess (*batch,), and start (*batch, *shape)
    tolerance  of χ²/m
    solves     at most so many
    reach      λ stays within this factor of the guess; the best one seen is returned
    """
    found, image, least = _root(solve, misfit, weight, x, tolerance, solves, reach)
    reached = least <= 1 + max(tolerance, SLACK)
    if bool(reached.all()):
        return found, image

    def above_least(z: Tensor) -> Tensor:
        return torch.where(reached, 1.0, misfit(z) / ((1 + SLACK) * least))

    again, other, _ = _root(solve, above_least, weight, image, tolerance, solves, reach)
    return torch.where(reached, found, again), torch.where(
        torch.as_tensor(spread(reached, x.ndim - reached.ndim)), image, other
    )


def _root(
    solve: Solve,
    misfit: Callable[[Tensor], Tensor],
    weight: Tensor,
    x: Tensor,
    tolerance: float,
    solves: int,
    reach: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """λ with misfit 1, x_λ, and the least misfit seen.

    Looks for the root of the misfit's logarithm over log λ, which rises: steps out until it is bracketed,
    then false position, every solve started from the image before. An image that is there rests.
    """
    centre = weight.log()
    log_w, best_w, best_x = centre, centre, x
    best = torch.full_like(centre, torch.inf)
    least, resting = best, torch.zeros_like(best, dtype=torch.bool)
    low, high = centre - math.log(reach), centre + math.log(reach)
    at_low, at_high = torch.full_like(centre, -torch.inf), torch.full_like(centre, torch.inf)
    for _ in range(solves):
        x = solve(log_w.exp(), best_x)
        value = misfit(x).log()
        # an image at rest is solved again for its neighbours' sake only
        least = torch.where(resting, least, torch.minimum(least, value))
        better = (value.abs() < best) & ~resting
        best, best_w = torch.where(better, value.abs(), best), torch.where(better, log_w, best_w)
        best_x = torch.where(torch.as_tensor(spread(better, x.ndim - better.ndim)), x, best_x)
        resting = best <= tolerance
        if bool(resting.all()):
            break
        above = value > 0
        high, at_high = torch.where(above, log_w, high), torch.where(above, value, at_high)
        low, at_low = torch.where(above, low, log_w), torch.where(above, at_low, value)
        bracketed = at_low.isfinite() & at_high.isfinite()
        share = torch.where(bracketed, at_low / (at_low - at_high), 0.5).clamp(0.1, 0.9)
        outwards = (log_w - (3 * value).clamp(-4, 4)).clamp(min=low, max=high)
        log_w = torch.where(bracketed, low + share * (high - low), outwards)
        log_w = torch.where(resting, best_w, log_w)
    return best_w.exp(), best_x, least.exp()
