"""Row-action methods: SIRT, SART and ordered subsets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import norm, squared_norm, total

from .iterate import Iterate, relative


def sirt(
    A: LinearOperator,
    y: Tensor,
    x: Tensor,
    relaxation: float = 1.0,
    lower: float | None = None,
    upper: float | None = None,
) -> Iterator[Iterate]:
    """x⁺ = x + ω C A* R (y − A x), R = 1/(A 1), C = 1/(A* 1): simultaneous iterative reconstruction.

    Gregor and Benson, IEEE Trans. Med. Imaging 27 (2008). Converges to the minimiser of ½‖A x − y‖²_R for
    0 < ω < 2; `lower` and `upper` project onto lower ≤ x ≤ upper. One A and one A* an iteration. A has no
    negative entry.

    residual = ‖x⁺ − x‖ / (ω ‖x⁺‖) of the last step; objective = ½‖A x − y‖²_R.
    """
    _check_relaxation("sirt", relaxation)
    n, m = len(A.in_shape), len(A.out_shape)
    R, C = _inverse_sums(A, x)
    x = _clamp(x, lower, upper)
    r = y - A(x)
    yield Iterate(x, torch.full_like(_length(r, m), torch.inf), total(R * r.abs() ** 2, m) / 2)
    while True:
        new = _clamp(x + relaxation * C * A.adjoint(R * r), lower, upper)
        moved, x = norm(new - x, n) / relaxation, new
        r = y - A(x)
        yield Iterate(x, relative(moved, norm(x, n)), total(R * r.abs() ** 2, m) / 2)


def sart(
    subsets: Sequence[LinearOperator],
    ys: Sequence[Tensor],
    x: Tensor,
    relaxation: float = 1.0,
    lower: float | None = None,
    upper: float | None = None,
) -> Iterator[Iterate]:
    """x ← x + ω Cᵢ Aᵢ* Rᵢ (yᵢ − Aᵢ x) over all subsets i in turn; one iteration is one pass.

    One view a subset is SART (Andersen and Kak, Ultrason. Imaging 6 (1984)), several are OS-SART (Wang and
    Jiang 2004). Consistent data are met; inconsistent ones end in a cycle whose size falls with ω.

    subsets  operators of the subsets, in the order in which they are taken (see `view_order`)
    ys       their data, each (*batch, *out_shape)

    residual = ‖x⁺ − x‖ / (ω ‖x⁺‖) over a pass; objective = ½ Σᵢ‖Aᵢ x − yᵢ‖²_R, each before its own update.
    """
    _check_relaxation("sart", relaxation)
    if not subsets or len(subsets) != len(ys):
        raise ValueError(f"sart ys: expected one for each of {len(subsets)} (≥ 1) subsets, got {len(ys)}")
    n, m = len(subsets[0].in_shape), len(subsets[0].out_shape)
    sums = [_inverse_sums(A, x) for A in subsets]
    x = _clamp(x, lower, upper)
    yield Iterate(x, torch.full_like(_length(x, n), torch.inf))
    while True:
        start, misfit = x, torch.zeros_like(_length(x, n))
        for A, y, (R, C) in zip(subsets, ys, sums, strict=True):
            r = y - A(x)
            misfit = misfit + total(R * r.abs() ** 2, m) / 2
            x = _clamp(x + relaxation * C * A.adjoint(R * r), lower, upper)
        yield Iterate(x, relative(norm(x - start, n) / relaxation, norm(x, n)), misfit)


def view_order(
    views: int, order: Literal["golden", "bit-reversal", "sequential", "random"] = "golden", seed: int = 0
) -> list[int]:
    """In which order to take `views` equally spaced views (or subsets) so that neighbours differ much.

    golden        steps near (√5 − 1)/2 of the range, prime to it (Köhler 2004)
    bit-reversal  binary digits read backwards, as in ordered-subset EM
    """
    if order == "sequential":
        return list(range(views))
    if order == "random":
        return [int(i) for i in np.random.default_rng(seed).permutation(views)]
    if order == "bit-reversal":
        bits = max(views - 1, 1).bit_length()
        return [i for i in (int(f"{k:0{bits}b}"[::-1], 2) for k in range(1 << bits)) if i < views]
    if order == "golden":
        ideal = views * (math.sqrt(5) - 1) / 2
        prime = [k for k in range(1, max(views, 2)) if math.gcd(k, views) == 1]
        step = min(prime, key=lambda k: abs(k - ideal))
        return [k * step % views for k in range(views)]
    raise ValueError(
        f"view_order order: expected 'golden', 'bit-reversal', 'sequential' or 'random', got {order!r}"
    )


def _inverse_sums(A: LinearOperator, x: Tensor) -> tuple[Tensor, Tensor]:
    """R = 1/(A 1) and C = 1/(A* 1), zero where a ray or a pixel meets nothing."""
    rows = A(torch.ones(A.in_shape, dtype=x.dtype, device=x.device))
    columns = A.adjoint(torch.ones(A.out_shape, dtype=x.dtype, device=x.device))
    if rows.is_complex() or bool((rows < 0).any()) or bool((columns < 0).any()):
        raise ValueError(f"sirt and sart expect an A without negative entries, got {A!r}: use cgls")
    return tuple(torch.where(s > 1e-6 * s.max(), 1 / s, 0.0) for s in (rows, columns))  # type: ignore[return-value]


def _clamp(x: Tensor, lower: float | None, upper: float | None) -> Tensor:
    return x if lower is None and upper is None else x.clamp(lower, upper)


def _length(x: Tensor, n: int) -> Tensor:
    return squared_norm(x, n)


def _check_relaxation(name: str, relaxation: float) -> None:
    if not 0 < relaxation < 2:
        raise ValueError(f"{name} relaxation: expected a number between 0 and 2, got {relaxation}")
