"""Gradient methods: plain, with backtracking, and accelerated."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from operators.tensors import inner, norm, spread, squared_norm
from priors import Functional

from .iterate import Iterate, relative
from .lifting import combine, gradient, lift, value


def gradient_descent(
    f: Functional, x: Tensor, step: float | Tensor | None = None, g: Functional | None = None
) -> Iterator[Iterate]:
    """min_x f(x) + g(x), x⁺ = prox_{t g}(x − t ∇f(x)), for a smooth f.

    step  t, a float or one per image; None: backtracking per image until
          f(x⁺) ≤ f(x) + ⟨∇f(x), x⁺ − x⟩ + ‖x⁺ − x‖²/2t   (Beck and Teboulle 2009),
          or, where rounding hides the last term, ⟨∇f(x⁺) − ∇f(x), x⁺ − x⟩ ≤ ‖x⁺ − x‖²/t
    g     a functional with a prox (a projection for a set), or None. Where it has near(v, 1/t, x), a prox
          that begins at x and only improves on it, f + g falls however inexact that is

    f may be non-convex. residual = ‖x⁺ − x‖/t over the largest ‖∇f‖ so far; objective = f(x) + g(x).
    For f @ A one A and one A* for every step tried.
    """
    n = f.ndim
    z = lift(f, x)
    fx, d = value(f, z), gradient(f, z)
    fixed = step is not None
    t = _first_step(x, d, n) if step is None else torch.as_tensor(step, dtype=fx.dtype).to(fx).expand_as(fx)
    largest = norm(d, n)
    near = getattr(g, "near", None)
    yield Iterate(x, torch.full_like(fx, torch.inf), fx if g is None else fx + g(x))
    while True:
        for _ in range(1 if fixed else 60):
            new = x - spread(t, n) * d
            if near is not None:
                new = near(new, 1 / t, x)
            elif g is not None:
                new = g.prox(new, t)
            z = lift(f, new)
            f_new, d_new = value(f, z), gradient(f, z)
            change = new - x
            if fixed:
                break
            accepted = _decreases(fx, f_new, d, d_new, change, t, n)
            if bool(accepted.all()):
                break
            t = torch.where(accepted, t, t / 2)
        moved = norm(change, n)
        largest = torch.maximum(largest, norm(d, n))
        x, fx, d = new, f_new, d_new
        yield Iterate(x, relative(moved / t, largest), fx if g is None else fx + g(x))
        if not fixed:
            t = torch.where(moved > 0, 1.2 * t, t)


def _decreases(
    fx: Tensor, f_new: Tensor, d: Tensor, d_new: Tensor, change: Tensor, t: Tensor, n: int
) -> Tensor:
    room = squared_norm(change, n) / (2 * t)
    hidden = room <= 1e3 * torch.finfo(fx.dtype).eps * (fx.abs() + f_new.abs())
    by_value = f_new <= fx + inner(d, change, n) + room
    by_slope = inner(d_new - d, change, n) <= 2 * room
    return torch.where(hidden, by_slope, by_value)


def fista(
    f: Functional,
    g: Functional | None,
    lipschitz: float | Tensor,
    x: Tensor,
    strong_convexity: float | Tensor = 0.0,
    restart: bool = True,
) -> Iterator[Iterate]:
    """min_x f(x) + g(x), for f smooth and g with a prox: accelerated proximal gradients.

    Beck and Teboulle, SIAM J. Imaging Sci. 2 (2009); with `strong_convexity` μ the constant momentum
    (1 − √(μ/L)) / (1 + √(μ/L)); `restart` forgets the momentum of an image when it points uphill
    (O'Donoghue and Candès, Found. Comput. Math. 15 (2015)).

    lipschitz  L of ∇f, a float or one per image

    For f = fidelity @ A one A and one A* an iteration. residual = L‖x⁺ − z‖ over the largest ‖∇f‖ so far
    or that at 0, with x⁺ the proximal gradient step from the extrapolated z; objective = f(x) + g(x).
    """
    n = f.ndim
    lifted = lift(f, x)
    fx = value(f, lifted)
    L = torch.as_tensor(lipschitz, dtype=fx.dtype, device=fx.device).expand_as(fx)
    if not bool((L > 0).all()):
        raise ValueError(f"fista lipschitz: expected positive numbers, got {lipschitz}")
    root = (strong_convexity / L).sqrt()
    constant, accelerated = (1 - root) / (1 + root), root > 0
    t = torch.ones_like(fx)
    z, lifted_z = x, lifted
    at_zero = norm(gradient(f, lift(f, torch.zeros_like(x))), n)
    largest = torch.where(at_zero.isfinite(), at_zero, 0.0)
    yield Iterate(x, torch.full_like(fx, torch.inf), fx if g is None else fx + g(x))
    while True:
        x_old, lifted_old = x, lifted
        slope = gradient(f, lifted_z)
        largest = torch.maximum(largest, norm(slope, n))
        x = z - slope / spread(L, n)
        if g is not None:
            x = g.prox(x, 1 / L)
        lifted = lift(f, x)
        moved, change = z - x, x - x_old
        t_new = (1 + (1 + 4 * t**2).sqrt()) / 2
        momentum = torch.where(accelerated, constant, (t - 1) / t_new)
        if restart:
            uphill = inner(moved, change, n) > 0
            momentum, t_new = torch.where(uphill, 0.0, momentum), torch.where(uphill, 1.0, t_new)
        t = t_new
        z = x + spread(momentum, n) * change
        lifted_z = _extrapolate(lifted, lifted_old, momentum)
        fx = value(f, lifted)
        yield Iterate(x, relative(L * norm(moved, n), largest), fx if g is None else fx + g(x))


def _extrapolate(new: object, old: object, momentum: Tensor) -> object:
    def along(a: Tensor, b: Tensor) -> Tensor:
        return a + spread(momentum, a.ndim - momentum.ndim) * (a - b)

    return combine(along, new, old)


def _first_step(x: Tensor, d: Tensor, n: int) -> Tensor:
    """A step that moves x by its own length, or by a length of one from zero: backtracking does the rest."""
    length, slope = norm(x, n), norm(d, n)
    length = torch.where(length > 0, length, 1.0)
    return torch.where(slope > 0, length / slope, 1.0)
