"""What a solver yields, and who decides when it stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.tensors import spread


@dataclass(frozen=True)
class Iterate:
    """One step of a solver; all but x are one value per image, (*batch,).

    x          the images, (*batch, *shape)
    residual   how far x is from optimal, relative; every solver says which measure (inf: not yet known)
    objective  value of what is minimised, where the solver has it without further operator calls
    gap        upper bound of objective − minimum, likewise
    """

    x: Tensor
    residual: Tensor
    objective: Tensor | None = None
    gap: Tensor | None = None


Callback = Callable[[int, Iterate], None]


@dataclass(frozen=True)
class Trace:
    """How a run ended.

    last        the last iterate, every image as it was when it stopped; objective and gap as last evaluated
    iterations  iterations each image took, (*batch,)
    history     residual, objective and gap of every iterate from the start on
    """

    last: Iterate
    iterations: Tensor
    history: tuple[tuple[Tensor, Tensor | None, Tensor | None], ...]


def run(
    iterates: Iterator[Iterate],
    iterations: int,
    tolerance: float = 0.0,
    callback: Callback | None = None,
) -> Tensor:
    """x after at most `iterations` steps; an image whose residual is ≤ `tolerance` stays as it is.

    callback(k, iterate) sees every iterate, the start as k = 0, with the stopped images as they stopped.
    Raises FloatingPointError, with the solver's name and the iteration, when an image diverges.
    """
    return trace(iterates, iterations, tolerance, callback).last.x


def trace(
    iterates: Iterator[Iterate],
    iterations: int,
    tolerance: float = 0.0,
    callback: Callback | None = None,
) -> Trace:
    """As `run`, with the iterations each image took and the history."""
    if iterations < 0:
        raise ValueError(f"run iterations: expected at least 0, got {iterations}")
    name = getattr(iterates, "__name__", "solver")
    last = next(iterates)
    if callback:
        callback(0, last)
    history = [(last.residual, last.objective, last.gap)]
    objective, gap = last.objective, last.gap
    stopped = last.residual <= tolerance
    taken = torch.zeros(stopped.shape, dtype=torch.long, device=stopped.device)
    for k in range(1, iterations + 1):
        if bool(stopped.all()):
            break
        new = next(iterates, None)
        if new is None:
            break
        _check_finite(new, stopped, name, k)
        taken = torch.where(stopped, taken, k)
        last = _freeze(last, new, stopped)
        objective = _merge(stopped, objective, new.objective)
        gap = _merge(stopped, gap, new.gap)
        if new.objective is not None:
            last = replace(last, objective=objective, gap=gap)
        history.append((last.residual, last.objective, last.gap))
        if callback:
            callback(k, last)
        stopped = stopped | (last.residual <= tolerance)
    return Trace(replace(last, objective=objective, gap=gap), taken, tuple(history))


def _freeze(old: Iterate, new: Iterate, stopped: Tensor) -> Iterate:
    """x and residual of `old` where stopped, of `new` elsewhere."""
    if not bool(stopped.any()):
        return new

    keep = spread(stopped, new.x.ndim - stopped.ndim)
    return replace(
        new,
        x=torch.where(torch.as_tensor(keep), old.x, new.x),
        residual=torch.where(stopped, old.residual, new.residual),
    )


def _merge(stopped: Tensor, was: Tensor | None, now: Tensor | None) -> Tensor | None:
    """What was last known of a quantity: as it was where stopped, new elsewhere if there is something new."""
    if was is None or now is None:
        return was if now is None else now
    return torch.where(stopped, was, now)


def _check_finite(new: Iterate, stopped: Tensor, name: str, k: int) -> None:
    bad = new.residual.isnan() & ~stopped
    if bool(bad.any()):
        raise FloatingPointError(
            f"{name} diverged at iteration {k} ({int(bad.sum())} of {bad.numel()} images are not finite): "
            "use a smaller step, a larger Lipschitz constant, or check that the data and A are finite"
        )


def relative(length: Tensor, scale: Tensor) -> Tensor:
    """length / scale, with 0 / 0 = 0 and NaN kept."""
    return torch.where(length == 0, 0.0, length / scale)
