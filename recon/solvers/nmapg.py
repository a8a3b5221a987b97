"""Accelerated proximal gradients that need no convexity and no Lipschitz constant."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from operators.tensors import inner, norm, spread, squared_norm
from priors import Functional

from .descent import _first_step
from .iterate import Iterate, relative
from .lifting import Lifted, choose, combine, defined, gradient, lift, value


def nmapg(
    f: Functional,
    g: Functional | None,
    x: Tensor,
    step: float | Tensor | None = None,
    memory: float = 0.8,
    descent: float = 1e-4,
) -> Iterator[Iterate]:
    """min_x F(x) = f(x) + g(x), f smooth and perhaps not convex, g with a prox: non-monotone acceleration.

    Li and Lin, NIPS 2015, algorithm 4 (supplement: with line search). An extrapolated step z is taken if it
    lies δ‖z − y‖²/t below c, an average of past objectives; otherwise a plain step v is made too, and the
    lower of the two taken. c never rises and F(x) ≤ c; limits of the iterates are critical points.

    step     first step t, a float or one per image; None: one that moves x by its own length. Then, per
             image, Barzilai and Borwein's length, halved until F(z) ≤ c − δ‖z − y‖²/t (for z four times)
    memory   η, how slowly c forgets; 0: every step must be lower than the last
    descent  δ, in units of 1/t

    residual = ‖v − x‖/t over the largest ‖∇f‖ so far, from the last step of either kind;
    objective = F(x). For f @ A one A* an iteration and one A for every step tried. Where f @ A is inf nothing
    is extrapolated to, and a start where g is inf is brought to its set.
    """
    n = f.ndim

    def at(x: Tensor) -> tuple[Lifted, Tensor]:
        """What f needs of x, and F(x): one A for f @ A."""
        lifted = lift(f, x)
        return lifted, value(f, lifted) if g is None else value(f, lifted) + g(x)

    def proximal(z: Tensor, slope: Tensor, t: Tensor) -> Tensor:
        z = z - spread(t, n) * slope
        return z if g is None else g.prox(z, t)

    if not 0 <= memory < 1 or not descent > 0:
        raise ValueError(
            f"nmapg memory, descent: expected 0 ≤ memory < 1 and descent > 0, got {memory}, {descent}"
        )
    if g is not None and bool((outside := g(x).isinf()).any()):
        x = choose(outside, g.prox(x, 1.0), x)  # into the set; what is finite leaves the start
    lifted, F = at(x)
    slope = gradient(f, lifted)
    largest = norm(slope, n)
    if step is None:
        t_x = _first_step(x, slope, n)
    else:
        t_x = torch.as_tensor(step, dtype=F.dtype, device=F.device).expand_as(F)
    t_y, c, q = t_x, F, torch.ones_like(F)
    old, z, lifted_old, lifted_z = x, x, lifted, lifted
    theta, theta_old = torch.ones_like(F), torch.zeros_like(F)
    y_last, slope_last = x, slope
    yield Iterate(x, torch.full_like(F, torch.inf), F)
    while True:
        ahead = functools.partial(_ahead, theta_old / theta, (theta_old - 1) / theta)
        y, lifted_y = ahead(x, z, old), combine(ahead, lifted, lifted_z, lifted_old)
        # where f is inf, as for means below 0 of counts, its gradient says nothing
        valid = defined(f, lifted_y)
        y, lifted_y = choose(valid, y, x), choose(valid, lifted_y, lifted)
        slope_y = gradient(f, lifted_y)
        t_y = _barzilai_borwein(y - y_last, slope_y - slope_last, t_y, n)
        y_last, slope_last = y, slope_y
        z, lifted_z, F_z, t_y, accepted = _search(proximal, at, y, slope_y, t_y, c, descent, n, 5)
        moved, t, steep = norm(z - y, n), t_y, norm(slope_y, n)
        new, lifted_new, F_new = z, lifted_z, F_z
        if not bool(accepted.all()):
            slope_x = gradient(f, lifted)
            v, lifted_v, F_v, t_v, _ = _search(proximal, at, x, slope_x, 1.2 * t_x, c, descent, n, 40)
            # a step refused at y says little of the next; halved again and again it would end at rounding
            t_x, t_y = torch.where(accepted, t_x, t_v), torch.where(accepted, t_y, t_v)
            lower = ~accepted & ~(F_z <= F_v)
            # no step of any length is lower than c: rounding, or x is critical
            stuck = ~accepted & ~(torch.fmin(F_z, F_v) <= c)
            new, F_new = choose(lower, v, new), torch.where(lower, F_v, F_new)
            lifted_new = choose(lower, lifted_v, lifted_new)
            new, F_new = choose(stuck, x, new), torch.where(stuck, F, F_new)
            lifted_new = choose(stuck, lifted, lifted_new)
            moved = torch.where(accepted, moved, norm(v - x, n))
            t = torch.where(accepted, t, t_v)
            steep = torch.where(accepted, steep, norm(slope_x, n))
        largest = torch.maximum(largest, steep)
        old, x, lifted_old, lifted, F = x, new, lifted, lifted_new, F_new
        theta_old, theta = theta, ((4 * theta.square() + 1).sqrt() + 1) / 2
        q_new = memory * q + 1
        c = (memory * q * c + F) / q_new
        q = q_new
        yield Iterate(x, relative(moved / t, largest), F)


def _ahead(ratio: Tensor, momentum: Tensor, x: Tensor, z: Tensor, old: Tensor) -> Tensor:
    m = x.ndim - ratio.ndim
    return x + spread(ratio, m) * (z - x) + spread(momentum, m) * (x - old)


def _search(proximal, at, y, slope, t, c, descent, n, tries):  # type: ignore[no-untyped-def] # noqa: ANN001
    """The step from y whose objective is δ‖z − y‖²/t below c, halving t per image; and where there is one."""
    for k in range(tries):
        z = proximal(y, slope, t)
        lifted, value = at(z)
        room, rounding = descent * squared_norm(z - y, n) / t, torch.finfo(c.dtype).eps * c.abs()
        # where rounding hides the descent asked for, not to rise is enough
        enough = (value <= c - room) | ((room <= 100 * rounding) & (value <= c + 10 * rounding))
        if bool(enough.all()) or k == tries - 1:
            break
        t = torch.where(enough, t, t / 2)
    return z, lifted, value, t, enough


def _barzilai_borwein(s: Tensor, r: Tensor, t: Tensor, n: int) -> Tensor:
    """⟨s, s⟩/⟨s, r⟩ where the curvature is positive, at most ten times longer or shorter; else t."""
    curvature, length = inner(s, r, n), squared_norm(s, n)
    new = torch.where(curvature > 0, length / curvature, t)
    return torch.where((length > 0) & new.isfinite(), new.clamp(min=t / 10, max=10 * t), t)
