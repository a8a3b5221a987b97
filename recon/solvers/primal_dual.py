"""The primal–dual hybrid gradient method."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from operators import LinearOperator
from operators.simple import Identity
from operators.tensors import norm, spread, total
from priors import Box, Functional, NonNegative, Zero

from .iterate import Iterate, relative
from .metric import Circulant, Scalar
from .terms import Term, as_terms, natural_scales

BALANCE_FROM = 30
"""Residuals of the first iterations say nothing about the balance of steps."""


def pdhg(
    terms: Sequence[tuple[Functional, LinearOperator] | Functional],
    g: Functional | None,
    x: Tensor,
    ratio: float | Tensor | None = None,
    relaxation: float = 1.8,
    circulant: bool = False,
    every: int = 5,
) -> Iterator[Iterate]:
    """min_x Σᵢ fᵢ(Aᵢ x) + g(x): primal–dual hybrid gradients.

        x̂ = prox_{τg}(x − τ Σ Aᵢ*yᵢ),   ŷᵢ = prox_{σᵢfᵢ*}(yᵢ + σᵢAᵢ(2x̂ − x)),   (x, y) += ρ((x̂, ŷ) − (x, y))

    Chambolle and Pock, J. Math. Imaging Vis. 40 (2011), relaxed as Condat, J. Optim. Theory Appl. 158 (2013).
    τ Σσᵢ(1.02‖Aᵢ‖)² = 1, from the sizes of image and duals at the start (`natural_scales`); a ratio far off
    is balanced per image by the relative residuals (Goldstein et al., NeurIPS 2015), ever less. One Aᵢ and
    one Aᵢ* an iteration: A at combinations is kept by linearity.

    terms       pairs (fᵢ, Aᵢ) or composed functionals; one with its own `dual_step` (TV) takes it
    g           a functional with a prox, or None
    ratio       multiplies all σᵢ, divides τ, and switches balancing off; a float or one per image
    relaxation  ρ in (0, 2)
    circulant   τ is a filter near (Σ σᵢAᵢ*Aᵢ)⁻¹ (`metric.Circulant`): two to four times fewer iterations
                where all Aᵢ*Aᵢ are nearly shift-invariant (X-ray transforms). g is then a set (or None) and
                one term more, the iterate the projection of x̂ onto it; an evaluation costs one Aᵢ more
    every       residual, objective and gap are taken, and steps balanced, every so many iterations

    residual = max of ‖(x − x̂)/τ − ΣAᵢ*(yᵢ − ŷᵢ)‖ / maxᵢ‖Aᵢ*yᵢ‖ and ‖(yᵢ − ŷᵢ)/σᵢ − Aᵢ(x − x̂)‖ / ‖Aᵢx‖,
    between the evaluations the last one. gap = Σ fᵢ(Aᵢx̂) + fᵢ*(ŷᵢ) + g(x̂) + g*(−ΣAᵢ*ŷᵢ), where g* is over
    0 ≤ x ≤ 2 max x̂ for NonNegative and |x| ≤ 2 max|x̂| without g: it bounds objective − minimum whenever a
    minimiser lies in that box. Both are None between evaluations, the gap also if a conjugate is not known.
    """
    if not 0 < relaxation < 2:
        raise ValueError(f"pdhg relaxation: expected a number between 0 and 2, got {relaxation}")
    if circulant and not (g is None or isinstance(g, Box | Zero)):
        raise ValueError(f"pdhg circulant: expected a set as g, or None, got {g!r}; use circulant=False")
    parts = as_terms(terms)
    n = parts[0].n
    x = x if g is None else g.prox(x, 1.0)
    Ax = [t.A(x) for t in parts]
    X, Y = natural_scales(parts, x, Ax)
    sigmas = [y / (X * t.length) for y, t in zip(Y, parts, strict=True)]
    objective = _objective(parts, g, Ax, x)
    metric: Scalar | Circulant = Circulant(parts, sigmas, x) if circulant else Scalar(parts, sigmas)
    split = circulant and g is not None
    if split and g is not None and isinstance(metric, Circulant):
        sigmas = [*sigmas, metric.typical()]
        metric = metric.strengthened(sigmas[-1])
        parts, Ax = [*parts, Term(g, Identity(parts[0].A.in_shape))], [*Ax, x]
    ys = [torch.zeros_like(z) for z in Ax]
    back = [torch.zeros_like(x) for _ in parts]  # Aᵢ*yᵢ
    start = (3.0 if circulant else 1.0) if ratio is None else ratio  # 3: measured on head scans
    r = torch.as_tensor(start, dtype=X.dtype, device=X.device).expand_as(X)
    alpha = torch.full_like(X, 0.3)
    residual = torch.full_like(X, torch.inf)
    yield Iterate(x, residual, objective)
    for k in itertools.count(1):
        evaluate = k % every == 0
        x_hat = x - metric.step(_sum(back), r)
        if g is not None and not split:
            x_hat = g.prox(x_hat, metric.tau / r)  # type: ignore[union-attr]
        ys_hat, back_hat, Ax_hat = [], [], []
        for term, y, z, s in zip(parts, ys, Ax, sigmas, strict=True):
            z_hat = z if term.fused is not None and not evaluate else term.A(x_hat)
            y_hat = term.dual_step(y, 2 * x_hat - x, 2 * z_hat - z, s * r)
            ys_hat.append(y_hat)
            back_hat.append(term.A.adjoint(y_hat))
            Ax_hat.append(z_hat)
        objective_now: Tensor | None = None
        gap: Tensor | None = None
        shown = g.prox(x_hat, 1.0) if split and g is not None else x_hat
        if evaluate:
            # a fused term does not keep A x between evaluations
            Ax = [t.A(x) if t.fused is not None else z for t, z in zip(parts, Ax, strict=True)]
            p = metric.inverse(x - x_hat, r) - (_sum(back) - _sum(back_hat))
            primal = relative(norm(p, n), torch.stack([norm(b, n) for b in back_hat]).amax(0))
            dual = _dual_residual(parts, [s * r for s in sigmas], ys, ys_hat, Ax, Ax_hat)
            residual = torch.maximum(primal, dual)
            own = parts[:-1] if split else parts
            objective_now = _objective(own, g, [t.A(shown) for t in own] if split else Ax_hat, shown)
            gap = _gap(own, g, objective_now, shown, ys_hat[: len(own)], _sum(back_hat[: len(own)]))
        yield Iterate(shown, residual, objective_now, gap)
        x = x + relaxation * (x_hat - x)
        ys = [y + relaxation * (y_hat - y) for y, y_hat in zip(ys, ys_hat, strict=True)]
        back = [b + relaxation * (b_hat - b) for b, b_hat in zip(back, back_hat, strict=True)]
        Ax = [z + relaxation * (z_hat - z) for z, z_hat in zip(Ax, Ax_hat, strict=True)]
        if evaluate and ratio is None and k >= BALANCE_FROM:
            r, alpha = _balance(r, alpha, primal, dual)


def _sum(images: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(images)).sum(0)


def _balance(r: Tensor, alpha: Tensor, primal: Tensor, dual: Tensor) -> tuple[Tensor, Tensor]:
    """A larger primal step where the primal residual leads; ever smaller changes, so that it settles."""
    longer_primal, longer_dual = primal > 5 * dual, dual > 5 * primal
    factor = torch.where(longer_primal, 1 - alpha, torch.where(longer_dual, 1 / (1 - alpha), 1.0))
    return r * factor, torch.where(longer_primal | longer_dual, 0.95 * alpha, alpha)


def _dual_residual(
    parts: list[Term],
    sigmas: list[Tensor],
    ys: list[Tensor],
    ys_hat: list[Tensor],
    Ax: list[Tensor],
    Ax_hat: list[Tensor],
) -> Tensor:
    """max over i of ‖(yᵢ − ŷᵢ)/σᵢ − Aᵢ(x − x̂)‖ / ‖Aᵢx̂‖."""
    found = []
    for t, s, y, y_hat, z, z_hat in zip(parts, sigmas, ys, ys_hat, Ax, Ax_hat, strict=True):
        d = (y - y_hat) / spread(s, t.m) - (z - z_hat)
        found.append(relative(norm(d, t.m), norm(z_hat, t.m)))
    return torch.stack(found).amax(0)


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
