"""Limited-memory BFGS, with bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from operators.tensors import inner, norm, spread, squared_norm
from priors import Functional

from .descent import _first_step as first_step
from .iterate import Iterate, relative
from .lifting import gradient, lift, value

DESCENT, TURN = 1e-4, 0.9
"""Wolfe's constants: share of the promised descent, and of the slope that may remain."""


def lbfgs(
    f: Functional,
    x: Tensor,
    lower: float | None = None,
    upper: float | None = None,
    memory: int = 10,
    trials: int = 20,
) -> Iterator[Iterate]:
    """min_x f(x), lower ≤ x ≤ upper, for a smooth f: quasi-Newton steps from the last `memory` changes.

    Liu and Nocedal, Math. Program. 45 (1989). Without bounds the step length meets Wolfe's conditions, by
    bisection. With bounds the two-metric projection of Bertsekas, SIAM J. Control Optim. 20 (1982): pixels at
    a bound that the slope pushes against it rest, the others take the quasi-Newton step of theirs alone, and
    the whole is projected, with Armijo's rule along the projected path. f may be non-convex; where rounding
    hides the descent the slope decides (Hager and Zhang, SIAM J. Optim. 16 (2005)).

    One A and one A* for every length tried, mostly one an iteration. residual = ‖x − P(x − γ∇f)‖ / γ over the
    largest ‖∇f‖ so far, γ the scale of the last change, P the projection; objective = f(x).
    """
    if lower is not None and upper is not None and not lower <= upper:
        raise ValueError(f"lbfgs lower, upper: expected lower ≤ upper, got {lower} and {upper}")
    if memory < 1:
        raise ValueError(f"lbfgs memory: expected at least 1, got {memory}")
    n, bounded = f.ndim, lower is not None or upper is not None
    if bounded and x.is_complex():
        raise ValueError("lbfgs lower, upper: order needs real numbers, got a complex image")

    def project(v: Tensor) -> Tensor:
        return v.clamp(lower, upper) if bounded else v

    x = project(x)
    z = lift(f, x)
    fx, g = value(f, z), gradient(f, z)
    pairs: list[tuple[Tensor, Tensor]] = []
    gamma = first_step(x, g, n)
    largest = norm(g, n)
    failed = torch.zeros_like(fx)  # searches in a row: after one the memory is not used, after two x rests
    yield Iterate(x, _residual(x, g, gamma, project, largest, n), fx)
    while True:
        free = _free(x, g, lower, upper)
        d = -_apply_inverse_hessian(torch.where(free, g, 0.0), pairs, gamma, free, n)
        usable = (inner(d, g, n) < 0) & (failed == 0)
        d = _where(usable, d, torch.where(free, -g * spread(gamma, n), 0.0), n)
        t, low, high = torch.ones_like(fx), torch.zeros_like(fx), torch.full_like(fx, math.inf)
        done = failed >= 2
        new, f_new, g_new = x, fx, g
        for _ in range(trials):
            at = project(x + spread(t, n) * d)
            z = lift(f, at)
            f_at, g_at = value(f, z), gradient(f, z)
            new, g_new, f_new = (
                _where(done, new, at, n),
                _where(done, g_new, g_at, n),
                torch.where(done, f_new, f_at),
            )
            short, long, hidden = _judged(fx, f_at, g, g_at, at - x, n, bounded)
            done = done | ~(short | long)
            if bool(done.all()):
                break
            high, low = torch.where(long, t, high), torch.where(short, t, low)
            t = torch.where(done, t, torch.where(high.isfinite(), (low + high) / 2, 2 * t))
        better = done | (f_new < fx)
        new, g_new, f_new = (
            _where(better, new, x, n),
            _where(better, g_new, g, n),
            torch.where(better, f_new, fx),
        )
        # where rounding hides the descent another search is in vain
        failed = torch.where(better & (failed < 2), 0.0, torch.where(hidden, 2.0, failed + 1))
        s, y = new - x, g_new - g
        curved = inner(s, y, n)
        fine = curved > 1e-10 * norm(s, n) * norm(y, n)
        gamma = torch.where(fine, curved / torch.where(fine, squared_norm(y, n), 1.0), gamma)
        pairs = [*pairs[-memory + 1 :], (s, y)] if memory > 1 else [(s, y)]
        x, fx, g = new, f_new, g_new
        largest = torch.maximum(largest, norm(g, n))
        yield Iterate(x, _residual(x, g, gamma, project, largest, n), fx)


def _judged(
    fx: Tensor, f_at: Tensor, g: Tensor, g_at: Tensor, step: Tensor, n: int, bounded: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Whether a step is too short (Wolfe, without bounds), too long (Armijo), and only rounding is left."""
    slope, slope_at = inner(g, step, n), inner(g_at, step, n)
    hidden = (f_at - fx).abs() <= 1e2 * torch.finfo(fx.dtype).eps * (fx.abs() + f_at.abs())
    descends = torch.where(hidden, slope_at <= (2 * DESCENT - 1) * slope, f_at <= fx + DESCENT * slope)
    long = ~descends
    # an image that cannot move is not worth another trial
    long = long & (squared_norm(step, n) > 0)
    short = torch.zeros_like(long) if bounded else ~long & (slope_at < TURN * slope)
    return short, long, hidden


def _where(images: Tensor, x: Tensor, y: Tensor, n: int) -> Tensor:
    """x for these images, y for the others."""
    return torch.where(torch.as_tensor(spread(images, n)), x, y)


def _free(x: Tensor, g: Tensor, lower: float | None, upper: float | None) -> Tensor:
    """Pixels not at a bound that −g pushes against."""
    free = torch.ones_like(x, dtype=torch.bool)
    if lower is not None:
        free = free & ~((x <= lower) & (g > 0))
    if upper is not None:
        free = free & ~((x >= upper) & (g < 0))
    return free


def _apply_inverse_hessian(
    g: Tensor, pairs: list[tuple[Tensor, Tensor]], gamma: Tensor, free: Tensor, n: int
) -> Tensor:
    """The two-loop recursion on the free pixels of every image; pairs without curvature are left out."""
    kept = []
    for s, y in pairs:
        s, y = torch.where(free, s, 0.0), torch.where(free, y, 0.0)
        curved = inner(s, y, n)
        fine = curved > 1e-10 * norm(s, n) * norm(y, n)
        kept.append((s, y, torch.where(fine, 1 / torch.where(fine, curved, 1.0), 0.0)))
    q, alphas = g, []
    for s, y, rho in reversed(kept):
        alphas.append(rho * inner(s, q, n))
        q = q - spread(alphas[-1], n) * y
    q = spread(gamma, n) * q
    for (s, y, rho), a in zip(kept, reversed(alphas), strict=True):
        q = q + spread(a - rho * inner(y, q, n), n) * s
    return torch.where(free, q, 0.0)


def _residual(x: Tensor, g: Tensor, gamma: Tensor, project: object, largest: Tensor, n: int) -> Tensor:
    moved = x - project(x - spread(gamma, n) * g)  # type: ignore[operator]
    return relative(norm(moved, n) / gamma, largest)
