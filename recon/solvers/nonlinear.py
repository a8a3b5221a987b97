"""Least squares and regularised problems behind a non-linear operator: d(F(x)) + g(x)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from operators import LinearOperator, Mask, Operator, Transmission
from operators.tensors import inner, norm, spread, squared_norm
from priors import Functional, SquaredL2

from .conjugate import cgls
from .descent import gradient_descent
from .iterate import Iterate, relative, run


class Misfit(Functional):
    """x ↦ d(F(x)), ∇ = F'(x)* ∇d(F(x)): a data term behind a non-linear operator.

    d  functional on data, F  operator
    """

    def __init__(self, d: Functional, F: Operator):
        super().__init__()
        if d.ndim != len(F.out_shape):
            raise ValueError(
                f"Misfit: {d!r} expects {d.ndim} dimensions, {F!r} gives data of shape {F.out_shape}"
            )
        self.d, self.F, self.ndim = d, F, len(F.in_shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.F(x))

    @torch.no_grad()
    def _adjoint_slope(self, x: Tensor) -> Tensor:
        images, slopes = _flat(x, self.F.in_shape), _flat(self.d.grad(self.F(x)), self.F.out_shape)
        fine = slopes.isfinite().flatten(1).all(1)  # where not, a step was too long: NaN, and it is rejected
        grad = torch.full_like(images, torch.nan)
        if bool(fine.any()):
            grad[fine] = _Linearised(self.F, images[fine]).adjoint(slopes[fine])
        return grad.reshape(x.shape)

    def grad(self, x: Tensor) -> Tensor:
        return super().grad(x) if x.requires_grad else self._adjoint_slope(x)

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        A = Mask(torch.tensor([[0.05, 0.01, 0.1]]), (2, 3))
        data = torch.linspace(0.1, 0.9, 6).reshape(2, 3)
        return [(cls(SquaredL2(data), Transmission(A)), (2, 3))]


def gauss_newton(
    F: Operator,
    y: Tensor,
    x: Tensor,
    variance: Tensor | float = 1.0,
    damping: Tensor | float = 0.0,
    inner_iterations: int = 30,
    inner_tolerance: float = 1e-3,
) -> Iterator[Iterate]:
    """min_x ½ Σ (F(x) − y)²/variance + ½δ‖x‖²: x⁺ minimises it with F(x) + F'(x)(x⁺ − x) for F(x⁺).

    Björck, Numerical Methods for Least Squares Problems (1996), section 9.2. Full steps: quadratic
    convergence near a solution whose residual is small, none promised far from it (`levenberg_marquardt`).
    The inner problem is solved by `cgls`; stopped early it regularises.

    variance          of the data, a number or a tensor that broadcasts to y
    damping           δ, a float or one per image
    inner_iterations  of `cgls` at most, each one F' and one F'*; it stops at `inner_tolerance` of its start

    residual = ‖F'*(F(x) − y)/variance + δ x‖ over that at the start; objective = the minimised value.
    """
    n, m = len(F.in_shape), len(F.out_shape)
    batch, (x, y, weight) = x.shape[: x.ndim - n], _flattened(F, y, x, variance)
    delta = torch.as_tensor(damping, dtype=weight.dtype, device=x.device).expand(batch).reshape(-1)
    start: Tensor | None = None
    size = torch.ones_like(delta)
    while True:
        r = weight * (y - F(x))
        if not bool(r.isfinite().all()):
            raise FloatingPointError("gauss_newton diverged: use levenberg_marquardt, or start closer")
        J = _Linearised(F, x, weight)
        g = J.adjoint(r) - spread(delta, n) * x
        slope = norm(g, n)
        if start is None:
            start, size = slope, _size(J, g, n, m)
        objective = (squared_norm(r, m) + delta * squared_norm(x, n)) / 2
        yield _shaped(Iterate(x, relative(slope, start), objective), batch)
        if bool((delta > 0).any()):
            inner_steps = _until(cgls(J, r + J(x), x, delta), inner_tolerance, torch.zeros_like(slope))
            x = run(inner_steps, inner_iterations, 1.0)
        else:
            hidden = relative(size * norm(r, m), slope)
            inner_steps = _until(cgls(J, r, torch.zeros_like(x)), inner_tolerance, hidden)
            x = x + run(inner_steps, inner_iterations, 1.0)


def levenberg_marquardt(
    F: Operator,
    y: Tensor,
    x: Tensor,
    variance: Tensor | float = 1.0,
    inner_iterations: int = 30,
    inner_tolerance: float = 1e-3,
) -> Iterator[Iterate]:
    """min_x ½ Σ (F(x) − y)²/variance: x⁺ = x + h, (F'*F' + λ) h = F'*(y − F(x)), if that makes it smaller.

    Marquardt, J. SIAM 11 (1963); λ follows the ratio of gained to predicted decrease, image by image, as by
    Nielsen (IMM-REP-1999-05, DTU): it falls where the linear model is right, so that steps become those of
    `gauss_newton`, and a step that does not help is taken back. The objective never rises.

    variance          of the data, a number or a tensor that broadcasts to y
    inner_iterations  of `cgls` at most, each one F' and one F'*; it stops at `inner_tolerance` of its start

    residual = ‖F'*(F(x) − y)/variance‖ over that at the start; objective = the minimised value.
    """
    n, m = len(F.in_shape), len(F.out_shape)
    batch, (x, y, weight) = x.shape[: x.ndim - n], _flattened(F, y, x, variance)
    r = weight * (y - F(x))
    J = _Linearised(F, x, weight)
    slope = J.adjoint(r)
    start, value = norm(slope, n), squared_norm(r, m) / 2
    size = _size(J, slope, n, m)
    damping, factor = 1e-3 * size**2, torch.full_like(start, 2.0)
    while True:
        yield _shaped(Iterate(x, relative(norm(slope, n), start), value), batch)
        hidden = relative(size * norm(r, m), norm(slope, n))
        inner_steps = _until(cgls(J, r, torch.zeros_like(x), damping), inner_tolerance, hidden)
        h = run(inner_steps, inner_iterations, 1.0)
        predicted = inner(h, slope, n) - squared_norm(J(h), m) / 2
        r_new = weight * (y - F(x + h))
        new_value = squared_norm(r_new, m) / 2
        gained = (value - new_value) / predicted
        accepted = (new_value < value) & (predicted > 0)
        keep_x, keep_r = spread(accepted, n), spread(accepted, m)
        x = torch.where(torch.as_tensor(keep_x), x + h, x)
        r = torch.where(torch.as_tensor(keep_r), r_new, r)
        value = torch.where(accepted, new_value, value)
        trusted = (1 - (2 * gained - 1) ** 3).clamp(min=1 / 3)
        damping = damping * torch.where(accepted, trusted, factor)
        factor = torch.where(accepted, 2.0, 2 * factor).clamp(max=1e6)
        J = _Linearised(F, x, weight)
        slope = J.adjoint(r)


def nonlinear_gradient(
    d: Functional, F: Operator, x: Tensor, g: Functional | None = None, step: float | Tensor | None = None
) -> Iterator[Iterate]:
    """min_x d(F(x)) + g(x), x⁺ = prox_{t g}(x − t F'(x)* ∇d(F(x))): proximal gradients, F not linear.

    Attouch, Bolte, Svaiter, Math. Program. 137 (2013): to a stationary point. d smooth; g with a prox, as
    NonNegative, Box or TV, or None. `step`, residual and objective as in `gradient_descent`; every step tried
    costs F twice and F'* once.
    """
    yield from gradient_descent(Misfit(d, F), x, step, g)


def _size(J: LinearOperator, g: Tensor, n: int, m: int) -> Tensor:
    """‖J g‖/‖g‖, an estimate of ‖J‖ per image; 1 where g = 0."""
    length = norm(g, n)
    return torch.where(length > 0, norm(J(g), m) / length, 1.0)


def _until(iterates: Iterator[Iterate], tolerance: float, hidden: Tensor) -> Iterator[Iterate]:
    """Residuals as a multiple of what is allowed: `tolerance` of the start, or what rounding hides.

    hidden  ‖J‖‖r‖/‖J*r‖ per image, by which the rounding of J*r is larger than that of numbers
    """
    first = next(iterates)
    eps = 100 * torch.finfo(first.residual.dtype).eps
    allowed = torch.maximum(tolerance * first.residual, eps * hidden.clamp(min=1))
    for iterate in itertools.chain([first], iterates):
        yield replace(iterate, residual=relative(iterate.residual, allowed))


class _Linearised(LinearOperator):
    """w F'(xᵢ) for image i of a batch: one linear operator for all, which do not see each other."""

    def __init__(self, F: Operator, x: Tensor, weight: Tensor | None = None):
        super().__init__()
        self.in_shape, self.out_shape, self.weight = F.in_shape, F.out_shape, weight
        self.parts = [F] if isinstance(F, LinearOperator) else [F.derivative(image) for image in x]
        self.shared = len(self.parts) == 1

    def _forward(self, x: Tensor) -> Tensor:
        y = self.parts[0](x) if self.shared else _each(lambda A, h: A(h), self.parts, x)
        return y if self.weight is None else self.weight * y

    def _adjoint(self, y: Tensor) -> Tensor:
        y = y if self.weight is None else self.weight * y
        if self.shared:
            return self.parts[0].adjoint(y)
        return _each(lambda A, g: A.adjoint(g), self.parts, y)


def _each(
    apply: Callable[[LinearOperator, Tensor], Tensor], parts: list[LinearOperator], z: Tensor
) -> Tensor:
    return torch.stack([apply(A, one) for A, one in zip(parts, z, strict=True)])


def _flat(z: Tensor, shape: tuple[int, ...]) -> Tensor:
    return z.reshape(-1, *shape)


def _flattened(F: Operator, y: Tensor, x: Tensor, variance: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Images, data and 1/σ, each with one batch dimension."""
    batch = x.shape[: x.ndim - len(F.in_shape)]
    if tuple(x.shape[len(batch) :]) != F.in_shape or tuple(y.shape) != (*batch, *F.out_shape):
        raise ValueError(
            f"x and y: expected (*batch, *{F.in_shape}) and (*batch, *{F.out_shape}) for {F!r}, "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    spread_out = torch.as_tensor(variance, dtype=y.dtype, device=y.device).expand(y.shape)
    if not bool((spread_out > 0).all()):
        raise ValueError("variance: expected positive numbers, got a zero, a negative one or NaN")
    return _flat(x, F.in_shape), _flat(y, F.out_shape), _flat(spread_out.rsqrt(), F.out_shape)


def _shaped(iterate: Iterate, batch: torch.Size) -> Iterate:
    assert iterate.objective is not None
    x, residual, objective = iterate.x, iterate.residual, iterate.objective
    return Iterate(x.reshape(*batch, *x.shape[1:]), residual.reshape(batch), objective.reshape(batch))
