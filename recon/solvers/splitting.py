"""Splitting methods that solve for the image: ADMM, and primal–dual Douglas–Rachford."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import inner, norm, spread, squared_norm
from priors import Functional, SquaredL2
from priors.base import Composed

from .iterate import Iterate, relative
from .terms import Term, as_terms, natural_scales

Inverse = Callable[[Tensor, list[Tensor]], Tensor]


def admm(
    terms: Sequence[tuple[Functional, LinearOperator] | Functional],
    g: Functional | None,
    x: Tensor,
    inner_iterations: int = 5,
    quadratic: Composed | None = None,
    inverse: Inverse | None = None,
) -> Iterator[Iterate]:
    """min_x q(x) + Σᵢ fᵢ(Aᵢ x) + g(x): alternating directions of multipliers on zᵢ = Aᵢx (and w = x for g).

        x  = argmin q(x) + Σ ρᵢ/2 ‖Aᵢx − zᵢ + yᵢ/ρᵢ‖²,   zᵢ = prox_{fᵢ/ρᵢ}(Aᵢx + yᵢ/ρᵢ),   yᵢ += ρᵢ(Aᵢx − zᵢ)

    Boyd et al., Found. Trends Mach. Learn. 3 (2011); the x step by `inner_iterations` warm-started steps of
    CG, one Aᵢ and one Aᵢ* each, and one Aᵢ* more. The ρᵢ start at the natural scales of the problem and are
    balanced per image and term by relative residuals (Wohlberg 2017), ever less.

    quadratic  q, a `SquaredL2` @ A that the x step keeps whole: fewer outer iterations than as one of `terms`
    inverse    (v, ρ) ↦ (∇²q + Σ ρᵢAᵢ*Aᵢ)⁻¹ v, with ρ one value per image and term, where that is known in
               closed form: the x step is then exact, one Aᵢ and one Aᵢ*. Without g

    The iterate is w where there is a g. residual = max over i of ‖Aᵢx − zᵢ‖ / ‖zᵢ‖ and of
    ρᵢ‖zᵢ − zᵢ_old‖ / ‖yᵢ‖.
    """
    if quadratic is not None and not isinstance(quadratic.f, SquaredL2):
        raise ValueError(f"admm quadratic: expected SquaredL2 @ A, got {quadratic!r}")
    if inverse is not None and g is not None:
        raise ValueError("admm inverse: expected g=None, whose ρ it would have to know")
    every = as_terms(terms if quadratic is None else [*terms, quadratic])
    parts = every[: len(terms)]
    n = every[0].n
    if g is not None:
        x = g.prox(x, 1.0)
    values = [t.A(x) for t in every]
    X, Y = natural_scales(every, x, values)
    Ax, Y = values[: len(terms)], Y[: len(terms)]
    kept = None if quadratic is None else _Kept(quadratic, x)
    rhos = [y / (X * t.length) for y, t in zip(Y, parts, strict=True)]
    proxes, dims = [t.f.prox for t in parts], [t.m for t in parts]
    if g is not None:
        proxes, dims = [*proxes, g.prox], [*dims, n]
        Ax.append(x)
        rhos.append(torch.stack([r * t.length**2 for r, t in zip(rhos, parts, strict=True)]).amax(0) / 10)
    zs, ys = list(Ax), [torch.zeros_like(z) for z in Ax]
    alphas = [torch.full_like(r, 0.5) for r in rhos]
    yield Iterate(x, torch.full_like(X, torch.inf))
    while True:
        x, Ax = _least_squares(parts, g is not None, x, Ax, zs, ys, rhos, inner_iterations, kept, inverse)
        worst = torch.zeros_like(X)
        for i, (prox, m) in enumerate(zip(proxes, dims, strict=True)):
            rho, z_old = rhos[i], zs[i]
            zs[i] = prox(Ax[i] + ys[i] / spread(rho, m), 1 / rho)
            ys[i] = ys[i] + spread(rho, m) * (Ax[i] - zs[i])
            primal = relative(norm(Ax[i] - zs[i], m), norm(zs[i], m))
            dual = relative(rho * norm(zs[i] - z_old, m), norm(ys[i], m))
            # a constraint that is not active has no multiplier to compare with
            dual = torch.where(norm(ys[i], m) > 0, dual, relative(norm(zs[i] - z_old, m), norm(zs[i], m)))
            worst = torch.maximum(worst, torch.maximum(primal, dual))
            rhos[i], alphas[i] = _balance(rho, alphas[i], primal, dual)
        yield Iterate(x if g is None else zs[-1], worst)


def _balance(rho: Tensor, alpha: Tensor, primal: Tensor, dual: Tensor) -> tuple[Tensor, Tensor]:
    up, down = primal > 5 * dual, dual > 5 * primal
    factor = torch.where(up, 1 / (1 - alpha), torch.where(down, 1 - alpha, 1.0))
    return rho * factor, torch.where(up | down, 0.95 * alpha, alpha)


def _least_squares(
    parts: list[Term],
    identity: bool,
    x: Tensor,
    Ax: list[Tensor],
    zs: list[Tensor],
    ys: list[Tensor],
    rhos: list[Tensor],
    iterations: int,
    kept: _Kept | None = None,
    inverse: Inverse | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """CG on ∇q(x) + Σ ρᵢAᵢ*Aᵢ x = Σ Aᵢ*(ρᵢzᵢ − yᵢ) from x; returns x and all Aᵢx, by linearity."""
    n = parts[0].n
    dims = [t.m for t in parts] + ([n] if identity else [])

    def adjoint(values: list[Tensor]) -> Tensor:
        image = sum((t.A.adjoint(v) for t, v in zip(parts, values, strict=False)), torch.zeros_like(x))
        return image + values[-1] if identity else image

    r = adjoint([spread(q, m) * (z - a) - y for q, m, z, a, y in zip(rhos, dims, zs, Ax, ys, strict=True)])
    if kept is not None:
        r = r - kept.slope
    if inverse is not None:
        p = inverse(r, rhos)
        if kept is not None:
            kept.slope = kept.slope + kept.bend(p)
        return x + p, [a + t.A(p) for a, t in zip(Ax, parts, strict=True)]
    p, rr = r, squared_norm(r, n)
    for _ in range(iterations):
        Ap = [t.A(p) for t in parts] + ([p] if identity else [])
        Hp = adjoint([spread(q, m) * a for q, m, a in zip(rhos, dims, Ap, strict=True)])
        if kept is not None:
            bent = kept.bend(p)
            Hp = Hp + bent
        pHp = inner(p, Hp, n)
        alpha = torch.where(pHp > 0, rr / pHp, 0.0)
        x = x + spread(alpha, n) * p
        Ax = [a + spread(alpha, m) * b for a, b, m in zip(Ax, Ap, dims, strict=True)]
        if kept is not None:
            kept.slope = kept.slope + spread(alpha, n) * bent
        r = r - spread(alpha, n) * Hp
        rr, rr_old = squared_norm(r, n), rr
        p = r + spread(torch.where(rr_old > 0, rr / rr_old, 0.0), n) * p
    return x, Ax


class _Kept:
    """q = f @ A with f a `SquaredL2`: ∇q where x is, followed by linearity, and ∇²q."""

    def __init__(self, q: Composed, x: Tensor):
        f = cast(SquaredL2, q.f)
        self.slope, self.A, self.weight = q.grad(x), q.A, f.weight
        self.gram: LinearOperator | None = None
        alone = one_weight(f, len(q.A.out_shape), len(q.A.in_shape))
        if alone is not None:
            # one weight an image goes round A*A, which may have a form of its own
            self.weight, self.gram = alone, q.A.gram

    def bend(self, p: Tensor) -> Tensor:
        """∇²q p."""
        if self.gram is not None:
            return self.weight * self.gram(p)
        return self.A.adjoint(self.weight * self.A(p))


def one_weight(f: SquaredL2, m: int, n: int) -> Tensor | float | None:
    """The weight of f, of data of m dimensions, for images of n; None if it differs from datum to datum."""
    weight = f.weight
    if not isinstance(weight, Tensor) or weight.ndim == 0:
        return weight
    if weight.ndim < m or any(size != 1 for size in weight.shape[-m:]):
        return None
    return spread(weight.flatten(-m)[..., 0], n)


def douglas_rachford(
    terms: Sequence[tuple[Functional, LinearOperator] | Functional],
    g: Functional | None,
    x: Tensor,
    tau: float | Tensor | None = None,
    sigmas: Sequence[float | Tensor] | None = None,
    relaxation: float = 1.0,
) -> Iterator[Iterate]:
    """min_x Σᵢ fᵢ(Aᵢ x) + g(x): primal–dual Douglas–Rachford.

    Boţ and Hendrich, SIAM J. Optim. 23 (2013), algorithm 2. Converges for τ Σσᵢ‖Aᵢ‖² < 4 and
    0 < relaxation < 2. Two Aᵢ and two Aᵢ* an iteration.

    tau, sigmas  steps, floats or one per image; None: from the natural scales of the problem, τ Σσᵢ‖Aᵢ‖² = 2

    The iterate is the image after the prox of g. residual = max of the relative changes ‖Δx‖ / ‖x̂‖ of the
    image and ‖Δyᵢ‖ / ‖ŷᵢ‖ of the duals that the step asks for.
    """
    parts = as_terms(terms)
    n = parts[0].n
    if (tau is None) != (sigmas is None):
        raise ValueError("douglas_rachford tau, sigmas: give both or neither")
    if tau is None or sigmas is None:
        X, Y = natural_scales(parts, x, [t.A(x) for t in parts])
        natural = [y / (X * t.length) for y, t in zip(Y, parts, strict=True)]
        tau = 2 / torch.stack([s * t.length**2 for s, t in zip(natural, parts, strict=True)]).sum(0)
        sigmas = natural
    length = norm(x, n)
    ys = [x.new_zeros(*x.shape[: x.ndim - n], *t.A.out_shape) for t in parts]
    out = x if g is None else g.prox(x, tau)
    yield Iterate(out, torch.full_like(length, torch.inf))
    while True:
        out = x - spread(tau, n) / 2 * _adjoints(parts, ys)
        if g is not None:
            out = g.prox(out, tau)
        w = 2 * out - x
        p = [
            t.f.prox_conj(y + spread(s, t.m) / 2 * t.A(w), s)
            for t, y, s in zip(parts, ys, sigmas, strict=True)
        ]
        reflected = [2 * q - y for q, y in zip(p, ys, strict=True)]
        z = w - spread(tau, n) / 2 * _adjoints(parts, reflected)
        moves = [
            v + spread(s, t.m) / 2 * t.A(2 * z - w) - q
            for t, v, s, q in zip(parts, reflected, sigmas, p, strict=True)
        ]
        x = x + relaxation * (z - out)
        ys = [y + relaxation * d for y, d in zip(ys, moves, strict=True)]
        duals = [relative(norm(d, t.m), norm(q, t.m)) for t, d, q in zip(parts, moves, p, strict=True)]
        yield Iterate(out, torch.stack([relative(norm(z - out, n), norm(out, n)), *duals]).amax(0))


def _adjoints(parts: list[Term], ys: list[Tensor]) -> Tensor:
    first, *rest = [t.A.adjoint(y) for t, y in zip(parts, ys, strict=True)]
    return sum(rest, first)
