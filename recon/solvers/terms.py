"""The terms fᵢ(Aᵢ x) of a splitting method: their operators, norms and natural scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import inner, norm, spread, squared_norm
from priors import Functional
from priors.base import Composed

MARGIN = 1.02
"""A norm by power iteration is a little too small: steps are made for MARGIN·‖A‖."""


class Term:
    """One f(A x); `fused` if its own dual step is cheaper than A followed by a prox."""

    def __init__(self, f: Functional, A: LinearOperator, fused: Composed | None = None):
        if f.ndim != len(A.out_shape):
            raise ValueError(f"term ({f!r}, {A!r}): f has {f.ndim} dimensions, A gives {A.out_shape}")
        self.f, self.A, self.fused = f, A, fused
        self.n, self.m = len(A.in_shape), len(A.out_shape)
        self.length = MARGIN * A.norm()
        if self.length == 0:
            raise ValueError(f"term ({f!r}, {A!r}): A is zero; leave the term out")

    def dual_step(self, y: Tensor, x_bar: Tensor, Ax_bar: Tensor, sigma: Tensor) -> Tensor:
        """Prox of σf* at y + σ A x̄; a fused one does not look at A x̄."""
        if self.fused is not None:
            return self.fused.dual_step(y, x_bar, sigma)
        return self.f.prox_conj(y + spread(sigma, self.m) * Ax_bar, sigma)


def as_terms(terms: Sequence[tuple[Functional, LinearOperator] | Functional]) -> list[Term]:
    """Terms from pairs (f, A) or composed functionals f @ A."""
    found = []
    for term in terms:
        if isinstance(term, Composed):
            own_step = type(term).dual_step is not Composed.dual_step
            found.append(Term(term.f, term.A, term if own_step else None))
        elif isinstance(term, tuple):
            found.append(Term(*term))
        else:
            raise ValueError(f"terms: expected pairs (f, A) or composed functionals f @ A, got {term!r}")
    if not found:
        raise ValueError("terms: expected at least one (f, A)")
    if len({t.A.in_shape for t in found}) > 1:
        raise ValueError(f"terms: all operators act on one image, got {[t.A.in_shape for t in found]}")
    return found


def natural_scales(terms: Sequence[Term], x: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """X and Yᵢ, the sizes of image and duals to expect per image; with them the best steps are known.

    The bound of primal–dual methods, X²/τ + Σ Yᵢ²/σᵢ under τ Σ σᵢ‖Aᵢ‖² = 1, is least for
    σᵢ = Yᵢ / (X ‖Aᵢ‖), τ = X / Σ Yᵢ‖Aᵢ‖. X is the size of the start after one step of steepest descent, Yᵢ
    that of a subgradient of fᵢ there. One Aᵢ and one Aᵢ*.

    values  Aᵢ x for all terms
    """
    n = terms[0].n
    duals = [subgradient(t, z) for t, z in zip(terms, values, strict=True)]
    d = torch.stack([t.A.adjoint(y) for t, y in zip(terms, duals, strict=True)]).sum(0)
    Ad = [t.A(d) for t in terms]
    size = torch.stack([norm(z, t.m) for t, z in zip(terms, values, strict=True)]).amax(0)
    size = torch.where(size > 0, size, 1.0) / torch.stack(
        [norm(a, t.m) for t, a in zip(terms, Ad, strict=True)]
    ).amax(0)
    nudge = torch.where(size.isfinite(), 1e-3 * size, 1.0)  # small: f need not be quadratic
    bends = [
        # an envelope is not sharp enough for differences; convex terms bend upwards only
        (inner(subgradient(t, z + spread(nudge, t.m) * a) - y, a, t.m) / nudge).clamp(min=0)
        if is_smooth(t, z)
        else torch.zeros_like(nudge)
        for t, z, a, y in zip(terms, values, Ad, duals, strict=True)
    ]
    curvature = torch.stack(bends).sum(0)
    step = torch.where(curvature > 0, squared_norm(d, n) / curvature, 0.0)
    values = [z - spread(step, t.m) * a for t, z, a in zip(terms, values, Ad, strict=True)]
    X = norm(x - spread(step, n) * d, n)
    X = torch.where(X > 0, X, 1.0)
    Y = [norm(subgradient(t, z), t.m) for t, z in zip(terms, values, strict=True)]
    most = torch.stack([y * t.length for y, t in zip(Y, terms, strict=True)]).amax(0)
    most = torch.where(most > 0, most, X)
    return X, [torch.maximum(y, 1e-3 * most / t.length) for y, t in zip(Y, terms, strict=True)]


def is_smooth(term: Term, z: Tensor) -> bool:
    """Whether f knows its gradient."""
    try:
        term.f.grad(z)
    except NotImplementedError:
        return False
    return True


def subgradient(term: Term, z: Tensor) -> Tensor:
    """∇f(z), or where f is not smooth ∇ of its Moreau envelope, sharpened until it stands still."""
    try:
        return torch.nan_to_num(term.f.grad(z), 0.0, 0.0, 0.0)
    except NotImplementedError:
        y = torch.zeros_like(z)
    settled = norm(y, term.m) > 0
    for exponent in range(-8, 13, 2):
        s = 10.0**exponent
        new = term.f.prox_conj(s * z, s)
        change = norm(new - y, term.m)
        y = torch.where(torch.as_tensor(spread(settled, term.m)), y, new)
        settled = settled | ((change <= 0.02 * norm(new, term.m)) & (change > 0))
    return y
