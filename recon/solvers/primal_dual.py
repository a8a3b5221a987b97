"""The primal–dual hybrid gradient method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import norm, spread, total
from priors import Functional, NonNegative, Zero

from .iterate import Iterate, relative
from .terms import Term, as_terms, natural_scales


def pdhg(
    terms: Sequence[tuple[Functional, LinearOperator] | Functional],
    g: Functional | None,
    x: Tensor,
    ratio: float | Tensor | None = None,
    relaxation: float = 1.8,
    every: int = 5,
) -> Iterator[Iterate]:
    """min_x Σᵢ fᵢ(Aᵢ x) + g(x): primal–dual hybrid gradients.

        x̂ = prox_{τg}(x − τ Σ Aᵢ*yᵢ),   ŷᵢ = prox_{σᵢfᵢ*}(yᵢ + σᵢAᵢ(2x̂ − x)),   (x, y) += ρ((x̂, ŷ) − (x, y))

    Chambolle and Pock, J. Math. Imaging Vis. 40 (2011), relaxed as Condat, J. Optim. Theory Appl. 158 (2013).
    τ Σσᵢ(1.02‖Aᵢ‖)² = 1, from the sizes of image and duals at the start (`natural_scales`); their ratio is
    balanced per image by the relative residuals (Goldstein et al., NeurIPS 2015). One Aᵢ and one Aᵢ* an
    iteration: A at combinations is kept by linearity.

    terms       pairs (fᵢ, Aᵢ) or composed functionals; one with its own `dual_step` (TV) takes it
    g           a functional with a prox, or None
    ratio       multiplies all σᵢ, divides τ, and switches balancing off; a float or one per image
    relaxation  ρ in (0, 2)
    every       residual, objective and gap are taken, and steps balanced, every so many iterations

    residual = max of ‖(x − x̂)/τ − ΣAᵢ*(yᵢ − ŷᵢ)‖ / maxᵢ‖Aᵢ*yᵢ‖ and ‖(yᵢ − ŷᵢ)/σᵢ − Aᵢ(x − x̂)‖ / ‖Aᵢx‖, between the
    evaluations the last one; objective at x̂, and the gap Σ fᵢ(Aᵢx̂) + fᵢ*(ŷᵢ) + g(x̂) + g*(−ΣAᵢ*ŷᵢ), where g* is
    taken over 0 ≤ x ≤ 2 max x̂ for NonNegative and |x| ≤ 2 max|x̂| without g: it bounds objective − minimum
    whenever a minimiser lies in that box. Both None between evaluations or when a conjugate is not known.
    """
    if not 0 < relaxation < 2:
        raise ValueError(f"pdhg relaxation: expected a number between 0 and 2, got {relaxation}")
    parts = as_terms(terms)
    n = parts[0].n
    if g is not None:
        x = g.prox(x, 1.0)
    Ax = [t.A(x) for t in parts]
    sigmas, tau = _steps(parts, x, Ax)
    ys = [torch.zeros_like(z) for z in Ax]
    back = [torch.zeros_like(x) for _ in parts]  # Aᵢ*yᵢ
    r = torch.ones_like(tau) if ratio is None else torch.as_tensor(ratio, dtype=tau.dtype).to(tau)
    r = r.expand_as(tau).clone()
    alpha = torch.full_like(tau, 0.5)
    residual = torch.full_like(tau, torch.inf)
    objective = _objective(parts, g, Ax, x)
    yield Iterate(x, residual, objective)
    k = 0
    while True:
        k += 1
        evaluate = k % every == 0
        t = tau / r
        total_back = sum(back[1:], back[0])
        x_hat = x - spread(t, n) * total_back
        if g is not None:
            x_hat = g.prox(x_hat, t)
        x_bar = 2 * x_hat - x
        ys_hat, back_hat, Ax_hat = [], [], []
        for term, y, z, s in zip(parts, ys, Ax, sigmas, strict=True):
            z_hat = term.A(x_hat) if term.fused is None or evaluate else None
            y_hat = term.dual_step(y, x_bar, None if term.fused else 2 * z_hat - z, s * r)
            ys_hat.append(y_hat)
            back_hat.append(term.A.adjoint(y_hat))
            Ax_hat.append(z_hat)
        gap = objective = None
        if evaluate:
            # a fused term does not keep A x between evaluations
            Ax = [t.A(x) if t.fused else z for t, z in zip(parts, Ax, strict=True)]
            primal, dual = _residuals(
                parts, x - x_hat, t, [s * r for s in sigmas], ys, ys_hat, back, back_hat, Ax, Ax_hat
            )
            residual = torch.maximum(primal, dual)
            objective = _objective(parts, g, Ax_hat, x_hat)
            gap = _gap(parts, g, objective, x_hat, ys_hat, sum(back_hat[1:], back_hat[0]))
        x = x + relaxation * (x_hat - x)
        ys = [y + relaxation * (y_hat - y) for y, y_hat in zip(ys, ys_hat, strict=True)]
        back = [b + relaxation * (b_hat - b) for b, b_hat in zip(back, back_hat, strict=True)]
        Ax = [
            z if t.fused else z + relaxation * (z_hat - z)
            for t, z, z_hat in zip(parts, Ax, Ax_hat, strict=True)
        ]
        yield Iterate(x_hat, residual, objective, gap)
        if evaluate and ratio is None:
            r, alpha = _balance(r, alpha, primal, dual)


def _steps(parts: list[Term], x: Tensor, Ax: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    X, Y = natural_scales(parts, x, Ax)
    sigmas = [y / (X * t.length) for y, t in zip(Y, parts, strict=True)]
    tau = 1 / torch.stack([s * t.length**2 for s, t in zip(sigmas, parts, strict=True)]).sum(0)
    return sigmas, tau


def _balance(r: Tensor, alpha: Tensor, primal: Tensor, dual: Tensor) -> tuple[Tensor, Tensor]:
    """A larger primal step where the primal residual leads; ever smaller changes, so that it settles."""
    longer_primal, longer_dual = primal > 1.5 * dual, dual > 1.5 * primal
    factor = torch.where(longer_primal, 1 - alpha, torch.where(longer_dual, 1 / (1 - alpha), 1.0))
    return r * factor, torch.where(longer_primal | longer_dual, 0.95 * alpha, alpha)


def _residuals(
    parts: list[Term],
    dx: Tensor,
    tau: Tensor,
    sigmas: list[Tensor],
    ys: list[Tensor],
    ys_hat: list[Tensor],
    back: list[Tensor],
    back_hat: list[Tensor],
    Ax: list[Tensor],
    Ax_hat: list[Tensor],
) -> tuple[Tensor, Tensor]:
    n = parts[0].n
    p = dx / spread(tau, n) - sum((b - b_hat for b, b_hat in zip(back, back_hat, strict=True)), 0)
    primal = relative(norm(p, n), torch.stack([norm(b, n) for b in back_hat]).amax(0))
    duals = []
    for t, s, y, y_hat, z, z_hat in zip(parts, sigmas, ys, ys_hat, Ax, Ax_hat, strict=True):
        d = (y - y_hat) / spread(s, t.m) - (z - z_hat)
        duals.append(relative(norm(d, t.m), norm(z_hat, t.m)))
    return primal, torch.stack(duals).amax(0)


def _objective(parts: list[Term], g: Functional | None, Ax: list[Tensor], x: Tensor) -> Tensor:
    value = torch.stack([t.f(z) for t, z in zip(parts, Ax, strict=True)]).sum(0)
    return value if g is None else value + g(x)


def _gap(
    parts: list[Term], g: Functional | None, objective: Tensor, x: Tensor, ys: list[Tensor], back: Tensor
) -> Tensor | None:
    try:
        conjugates = [t.f.conjugate(y) for t, y in zip(parts, ys, strict=True)]
        return objective + torch.stack(conjugates).sum(0) + _conjugate_in_box(g, -back, x, parts[0].n)
    except NotImplementedError:
        return None


def _conjugate_in_box(g: Functional | None, v: Tensor, x: Tensor, n: int) -> Tensor:
    """g*(v), for sets without bounds over a box of twice the size of x."""
    size = 2 * x.abs().amax(tuple(range(-n, 0)))
    if isinstance(g, NonNegative):
        return size * total(v.clamp(min=0), n)
    if g is None or isinstance(g, Zero):
        return size * total(v.abs(), n)
    return g.conjugate(v)
