"""Expectation maximisation for counts of emission."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import norm, total

from .iterate import Iterate, relative


def mlem(
    A: LinearOperator, y: Tensor, x: Tensor, background: Tensor | float = 0.0, scale: Tensor | float = 1.0
) -> Iterator[Iterate]:
    """x⁺ = x / (A*s) · A*(s y / (s A x + b)): maximum likelihood of y ~ Poisson(s A x + b).

    Shepp and Vardi, IEEE Trans. Med. Imaging 1 (1982); Lange and Carson, J. Comput. Assist. Tomogr. 8 (1984).
    The likelihood never falls; without background Σ s A x = Σ y after every step. One A and one A* an
    iteration. A has no negative entry; x > 0 at the start, and a pixel that no datum sees becomes 0.

    background  b ≥ 0, expected counts that A x does not explain; broadcasts to y
    scale       s > 0, counts per unit of A x; likewise

    residual = ‖x⁺ − x‖ / ‖x⁺‖ of the last step; objective = Σ m − y + y ln(y/m), m = s A x + b.
    """
    _check_start("mlem", x)
    n, m = len(A.in_shape), len(A.out_shape)
    (inverse,) = _inverse_sensitivities([A], y, [scale])
    mean = scale * A(x) + background
    yield Iterate(x, torch.full_like(norm(x, n), torch.inf), _deviance(mean, y, m))
    while True:
        new = x * inverse * A.adjoint(scale * _ratio(y, mean))
        moved, x = norm(new - x, n), new
        mean = scale * A(x) + background
        yield Iterate(x, relative(moved, norm(x, n)), _deviance(mean, y, m))


def osem(
    subsets: Sequence[LinearOperator],
    ys: Sequence[Tensor],
    x: Tensor,
    backgrounds: Sequence[Tensor | float] | float = 0.0,
    scales: Sequence[Tensor | float] | float = 1.0,
) -> Iterator[Iterate]:
    """x ← x / (Aᵢ*sᵢ) · Aᵢ*(sᵢ yᵢ / (sᵢ Aᵢ x + bᵢ)) over all subsets i in turn; one iteration is one pass.

    Hudson and Larkin, IEEE Trans. Med. Imaging 13 (1994). About as far in one pass as `mlem` in as many steps
    as there are subsets; with noisy data it ends in a cycle near the maximum of the likelihood.

    subsets      operators of the subsets, in the order in which they are taken (see `view_order`)
    ys           their counts, each (*batch, *out_shape)
    backgrounds  bᵢ ≥ 0 of each subset, or one number
    scales       sᵢ > 0 of each subset, or one number

    A pixel that a subset does not see is left as it is by it. residual = ‖x⁺ − x‖ / ‖x⁺‖ over a pass;
    objective = Σᵢ m − y + y ln(y/m), each before its own update.
    """
    _check_start("osem", x)
    count = len(subsets)
    if not subsets or len(ys) != count:
        raise ValueError(f"osem ys: expected one for each of {count} (≥ 1) subsets, got {len(ys)}")
    bs = [backgrounds] * count if isinstance(backgrounds, int | float) else backgrounds
    ss = [scales] * count if isinstance(scales, int | float) else scales
    if len(bs) != count or len(ss) != count:
        raise ValueError(
            f"osem backgrounds, scales: expected a number or {count} each, got {len(bs)}, {len(ss)}"
        )
    n, m = len(subsets[0].in_shape), len(subsets[0].out_shape)
    inverses = [_inverse_sensitivities([A], y, [s])[0] for A, y, s in zip(subsets, ys, ss, strict=True)]
    seen = torch.stack(list(torch.broadcast_tensors(*inverses))).amax(0) > 0
    yield Iterate(x, torch.full_like(norm(x, n), torch.inf))
    while True:
        start, deviance = x, torch.zeros_like(norm(x, n))
        for A, y, b, s, inverse in zip(subsets, ys, bs, ss, inverses, strict=True):
            mean = s * A(x) + b
            deviance = deviance + _deviance(mean, y, m)
            x = torch.where(inverse > 0, x * inverse * A.adjoint(s * _ratio(y, mean)), x)
        x = torch.where(seen, x, 0.0)
        yield Iterate(x, relative(norm(x - start, n), norm(x, n)), deviance)


def _inverse_sensitivities(
    subsets: Sequence[LinearOperator], y: Tensor, scales: Sequence[Tensor | float]
) -> list[Tensor]:
    """1 / (A*s), 0 where no datum sees a pixel."""
    found = []
    for A, s in zip(subsets, scales, strict=True):
        each = torch.as_tensor(s, dtype=y.dtype, device=y.device)
        batch = each.shape[: max(each.ndim - len(A.out_shape), 0)]
        each = each.expand(*batch, *A.out_shape)
        seen = A.adjoint(each)
        if seen.is_complex() or bool((seen < 0).any()):
            raise ValueError(f"mlem and osem expect an A without negative entries, got {A!r}")
        most = seen.amax(tuple(range(-len(A.in_shape), 0)), keepdim=True)
        found.append(torch.where(seen > 1e-6 * most, 1 / seen, 0.0))
    return found


def _ratio(y: Tensor, mean: Tensor) -> Tensor:
    """y / mean, with 0 / 0 = 0; a count where none can be pulls as hard as floating point allows."""
    return torch.where(y > 0, y / mean.clamp(min=torch.finfo(y.dtype).tiny ** 0.5), 0.0)


def _deviance(mean: Tensor, y: Tensor, m: int) -> Tensor:
    return total(mean - y + torch.xlogy(y, y) - torch.xlogy(y, mean.clamp(min=0)), m)


def _check_start(name: str, x: Tensor) -> None:
    if x.is_complex() or not bool((x >= 0).all()):
        raise ValueError(f"{name} x: expected a start without negative values, best 1 everywhere")
