"""Ordered subsets of separable quadratic surrogates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from operators.gradient import Gradient
from operators.tensors import inner, norm, spread
from priors import Functional, Huber, HuberL21, SquaredL2
from priors.base import Composed, Scaled, Sum

from .iterate import Iterate, relative

Curvature = Literal["optimal", "max"]


def os_sqs(
    terms: Sequence[Functional],
    prior: Functional | None,
    x: Tensor,
    lower: float | None = 0.0,
    upper: float | None = None,
    momentum: bool = True,
    curvature: Curvature = "optimal",
    halve: int = 5,
) -> Iterator[Iterate]:
    """min_x Σᵢ dᵢ(Aᵢ x) + R(x), lower ≤ x ≤ upper: x ← P(x − D⁻¹(M Aᵢ*∇dᵢ(Aᵢ x) + ∇R(x))) over M subsets i.

    D = Σ Aᵢ*(cᵢ · Aᵢ1) + D_R, with curvatures cᵢ of dᵢ and D_R of R, makes every step that of a separable
    quadratic above the objective: Erdogan and Fessler, Phys. Med. Biol. 44 (1999). `momentum` is Nesterov's,
    from subset to subset: Kim, Ramani and Fessler, IEEE Trans. Med. Imaging 34 (2015), forgotten per image
    where it points uphill. Many subsets end in a cycle around the minimum, so that they are merged in pairs
    every `halve` passes, down to one, with which it converges. One iteration is one pass: A and A* once, and
    once more where the curvature follows x (transmission likelihoods, "optimal").

    terms      dᵢ @ Aᵢ, Aᵢ without negative entries, in an order where i, i + g, i + 2g … are spread out
    prior      a smooth functional with a bound on its curvature: `curvatures(x)` or `lipschitz`; or None
    lower, upper  bounds, None for none; transmission curvatures hold where A x ≥ 0, so for lower ≥ 0
    momentum   False: with one subset the objective then never rises
    curvature  of TransmissionPoisson: "optimal", the least at the current x, or "max", that over all x ≥ 0
    halve      passes before subsets are merged; 0 never merges, for a few fast passes

    residual = ‖D(z − x⁺)‖ / largest ‖∇‖ so far, for the step from z to x⁺, once all subsets are one; before
    that inf, or, if they are never merged, ‖x⁺ − x‖ / ‖x⁺‖ over a pass.
    """
    parts = _composed(terms)
    n = len(parts[0].A.in_shape)
    rows = [_row_sums(part, x) for part in parts]
    x = _clamp(x, lower, upper)
    if prior is not None:
        diagonal(prior, x)  # a prior without curvature is an error here already
    groups, passes = len(parts), 0
    data = _denominator(parts, rows, x, curvature)
    fixed = curvature == "max" or all(isinstance(part.f, SquaredL2) for part in parts)
    t = torch.ones_like(norm(x, n))
    largest, old, z = torch.zeros_like(t), x, x
    yield Iterate(x, torch.full_like(t, torch.inf))
    while True:
        if halve and groups > 1 and passes == halve:
            groups, passes, t, z = math.ceil(groups / 2), 0, torch.ones_like(t), x
        if not fixed:
            data = _denominator(parts, rows, x, curvature)
        start = x
        for k in range(groups):
            chosen = parts[k::groups]
            slope = torch.stack([part.A.adjoint(part.f.grad(part.A(z))) for part in chosen]).sum(0)
            slope = slope * (len(parts) / len(chosen))
            D = data
            if prior is not None:
                slope, D = slope + prior.grad(z), data + diagonal(prior, z)
            D = torch.where(D > 0, D, 1.0)
            old, x = x, _clamp(z - slope / D, lower, upper)
            moved, change = D * (z - x), x - old
            t_new = (1 + (1 + 4 * t**2).sqrt()) / 2
            share = torch.where(inner(moved, change, n) > 0, 0.0, (t - 1) / t_new)
            t = torch.where(inner(moved, change, n) > 0, 1.0, t_new)
            z = x + spread(share, n) * change if momentum else x
            largest = torch.maximum(largest, norm(slope, n))
        passes += 1
        if groups == 1:
            residual = relative(norm(moved, n), largest)
        elif halve:
            residual = torch.full_like(t, torch.inf)
        else:
            residual = relative(norm(x - start, n), norm(x, n))
        yield Iterate(x, residual)


def diagonal(f: Functional, x: Tensor) -> Tensor | float:
    """D with f(v) ≤ f(x) + ⟨∇f(x), v − x⟩ + ½ Σ D (v − x)², a number per image or pixel.

    From f.curvatures(x) where f has it, of sums and multiples, of Huber and squared penalties of a gradient,
    else `lipschitz`. ValueError if none is known.
    """
    own = getattr(f, "curvatures", None)
    if own is not None:
        return own(x)
    if isinstance(f, Sum):
        return diagonal(f.f, x) + diagonal(f.g, x)
    if isinstance(f, Scaled):
        return spread(f.scale, f.ndim) * diagonal(f.f, x)
    if isinstance(f, SquaredL2):
        return f.weight
    if isinstance(f, Huber | HuberL21):
        return 1 / f.length(f.residual(x)).clamp(min=f.delta)
    if isinstance(f, Composed) and isinstance(f.A, Gradient):
        return _through_gradient(f.A, diagonal(f.f, f.A(x)), x)
    return _lipschitz(f)


def _lipschitz(f: Functional) -> Tensor | float:
    if not bool(torch.isfinite(torch.as_tensor(f.lipschitz)).all()):
        raise ValueError(
            f"os_sqs: expected a smooth functional with `curvatures(x)` or a finite `lipschitz`, got {f!r}; "
            "use pdhg, a smooth relative as HuberTV, or mlem and osem for counts of emission"
        )
    return spread(f.lipschitz, f.ndim)


def _through_gradient(A: Gradient, c: Tensor | float, x: Tensor) -> Tensor:
    """|A|ᵀ(c · |A|1): each difference of neighbours bends both of them by 2c/h²."""
    n = len(A.in_shape)
    c = torch.as_tensor(c, dtype=x.real.dtype, device=x.device)
    c = c.expand(torch.broadcast_shapes(c.shape, (*x.shape[: x.ndim - n], n, *A.in_shape)))
    result = torch.zeros_like(x.real)
    for axis, size in enumerate(A.in_shape):
        along = 2 * c.select(-n - 1, axis).narrow(axis - n, 0, size - 1) / A.spacing[axis] ** 2
        result.narrow(axis - n, 0, size - 1).add_(along)
        result.narrow(axis - n, 1, size - 1).add_(along)
    return result


def _composed(terms: Sequence[Functional]) -> list[Composed]:
    if not terms or not all(isinstance(term, Composed) for term in terms):
        raise ValueError(f"os_sqs terms: expected composed functionals d @ A, one a subset, got {terms!r}")
    return list(terms)  # type: ignore[arg-type]


def _row_sums(part: Composed, x: Tensor) -> Tensor:
    rows = part.A(torch.ones(part.A.in_shape, dtype=x.real.dtype, device=x.device))
    if rows.is_complex() or bool((rows < 0).any()):
        raise ValueError(f"os_sqs expects an A without negative entries, got {part.A!r}: use fista or pdhg")
    return rows


def _denominator(
    parts: Sequence[Composed], rows: Sequence[Tensor], x: Tensor, curvature: Curvature
) -> Tensor:
    """Σ Aᵢ*(cᵢ · Aᵢ1)"""
    found = []
    for part, row in zip(parts, rows, strict=True):
        f = part.f
        if isinstance(f, SquaredL2):
            c = torch.as_tensor(f.weight, dtype=row.dtype, device=row.device)
        elif curvature == "optimal":
            c = torch.as_tensor(diagonal(f, part.A(x)), dtype=row.dtype, device=row.device)
        else:
            own = getattr(f, "curvatures", None)
            c = torch.as_tensor(_lipschitz(f)) if own is None else own()
        found.append(part.A.adjoint((c * row).expand(torch.broadcast_shapes(c.shape, row.shape))))
    return torch.stack(torch.broadcast_tensors(*found)).sum(0)


def _clamp(x: Tensor, lower: float | None, upper: float | None) -> Tensor:
    return x if lower is None and upper is None else x.clamp(lower, upper)
