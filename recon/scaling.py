"""How large an MR image will be, and how strong its noise is, from its k-space alone; λ relative to that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from operators import Fourier, LinearOperator, Sense
from operators.tensors import spread, squared_norm
from priors import SquaredL2

from .selection import Criterion, Trial


def kspace_scale(A: LinearOperator, y: Tensor, side: int = 32) -> Tensor:
    """s, a typical bright pixel of the image behind k-space y, per image (*batch,); s(c y) = |c| s(y).

    The rule of BART's `pics`, by which λ keeps its meaning from scanner to scanner (Uecker et al., ISMRM
    2015): a small image is made of the middle of k-space, coils combined by root sum of squares, in the scale
    of the full one; s is its 90th percentile p₉₀, or its maximum where that stands out,
    max − p₉₀ ≥ 2 (p₉₀ − median). Only fully sampled k-space counts: the largest such block around DC, at most
    `side` points an axis; without one, all of the middle, with zeros where nothing was measured.
    Operators other than `Sense` give no grid: the image is then t A*y, t the step of steepest descent.

    A     forward model
    y     k-space, (*batch, *A.out_shape)
    side  points along every axis of the block
    """
    n = len(A.in_shape)
    if not isinstance(A, Sense):
        return _bright(_descent(A, y).abs().flatten(-n))
    block, start = calibration_block(A, side)
    for axis, (size, first) in enumerate(zip(block, start, strict=True)):
        y = y.narrow(axis - A.ndim, first, size)
    images = Fourier(tuple(y.shape[-A.ndim :]), A.ndim).adjoint(y).abs()
    if A.maps is not None:
        images = images.square().sum(-A.ndim - 1).sqrt()
    # an orthonormal transform of fewer points makes larger pixels
    return _bright(images.flatten(-n)) * math.sqrt(math.prod(block) / math.prod(A.in_shape[-A.ndim :]))


def estimate_sigma(A: LinearOperator, y: Tensor, share: float = 0.1) -> Tensor:
    """σ, E|n|² = σ² of the noise in k-space y, per image (*batch,): median |y| / √(ln 2) far from DC.

    There is little but noise in the outermost samples; |n| of circular noise has the median σ √(ln 2), and
    the median overlooks what signal there is. With a noise scan, use that: this is an upper bound that comes
    close only where k-space reaches beyond the signal.

    A      a `Sense`, or an operator with a `trajectory` (…, axes)
    y      k-space, (*batch, *A.out_shape)
    share  of the samples, those farthest out
    """
    if not 0 < share <= 1:
        raise ValueError(f"estimate_sigma share: expected a fraction in (0, 1], got {share}")
    if isinstance(A, Sense):
        axes = [(torch.arange(m) - m // 2).double() / m for m in A.in_shape[-A.ndim :]]
        radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
        sampled = A.sampled.to(y.device).expand(A.out_shape)
        radius = radius.to(y.device).expand(A.out_shape)
    elif isinstance(getattr(A, "trajectory", None), Tensor):
        radius = A.trajectory.square().sum(-1)  # type: ignore[union-attr, operator]
        radius = (radius.unsqueeze(1) if getattr(A, "frames", False) else radius).expand(A.out_shape)
        sampled = torch.ones_like(radius, dtype=torch.bool)
    else:
        raise ValueError(f"estimate_sigma A: expected Sense or an operator with a trajectory, got {A!r}")
    inside = radius[sampled]
    far = inside.kthvalue(max(1, math.ceil((1 - share) * len(inside)))).values
    return y[..., sampled & (radius >= far)].abs().median(-1).values / math.sqrt(math.log(2))


@dataclass(frozen=True)
class CentreScaled(Criterion):
    """λ such that u = x/s minimises ½‖A u − y/s‖² + value·E(u), s = `kspace_scale`, as `bart pics -S`.

    Needs no σ and no second reconstruction: the choice for data of unknown noise, as Gaussian(sigma=1). The
    image scales with the data, x(c y) = c x(y). In our terms, where d = ½ w‖A x − y‖² with w = 2/σ² for
    complex data, λ = value·w·s^(2−p)/h^q; p is the degree of E, 1 for TV, wavelets and low rank, 2 for
    Tikhonov, and h^q, what a pixel counts in E, is left out as E is a sum over pixels there. With σ known the
    discrepancy and "sure" follow the noise, which `value` does not.

    value  0.01 is where one begins; 0.001 to 0.03 are usual
    side   of the block of k-space, see `kspace_scale`
    """

    name: ClassVar[str] = "centre-scaled"
    value: float = 0.01
    side: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.value < math.inf:
            raise ValueError(f"CentreScaled value: expected a positive number, got {self.value}")

    def choose(self, trial: Trial, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """λ, the start as it is, and s."""
        d = trial.d
        if not isinstance(d, SquaredL2) or not isinstance(d.target, Tensor):
            raise ValueError(
                f"CentreScaled needs a Gaussian likelihood ('weighted', 'unweighted'), got {d!r}"
            )
        if trial.degree is None or not isinstance(trial.predict, LinearOperator):
            raise ValueError(
                "CentreScaled needs E(c x) = |c|^p E(x), as of total variation, wavelets, Tikhonov; this "
                "prior has a scale of its own: give the weight, or 'discrepancy'"
            )
        s = kspace_scale(trial.predict, d.target, self.side)
        if not bool((s > 0).all()):
            raise ValueError("CentreScaled: the middle of k-space is zero; is its DC at n // 2?")
        m = len(trial.shape)
        w = torch.as_tensor(d.weight, dtype=s.dtype, device=s.device).expand(d.target.shape).flatten(-m)
        mean = w.sum(-1) / (w > 0).sum(-1)  # of what was measured
        return self.value * mean * s ** (2 - trial.degree) / trial.unit, x, s


def _bright(pixels: Tensor) -> Tensor:
    """p₉₀ or the maximum of (*batch, n), as BART counts them."""
    ordered = pixels.sort(-1).values
    n = ordered.shape[-1]
    middle, p90, largest = ordered[..., n // 2], ordered[..., int(0.9 * n)], ordered[..., -1]
    return torch.where(largest - p90 < 2 * (p90 - middle), p90, largest)


def _descent(A: LinearOperator, y: Tensor) -> Tensor:
    """A*y ‖A*y‖²/‖A A*y‖², the best multiple of A*y."""
    x = A.adjoint(y)
    n, m = len(A.in_shape), len(A.out_shape)
    length, bend = squared_norm(x, n), squared_norm(A(x), m)
    return x * spread(torch.where(bend > 0, length / bend, 0.0), n)


def calibration_block(A: Sense, side: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and corner of the largest fully sampled block around DC, in all frames, at most `side` an axis."""
    shape = A.in_shape[-A.ndim :]
    sampled = (A.mask != 0).expand(A.in_shape).reshape(-1, *shape).all(0)

    def corner(block: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(n // 2 - b // 2 for n, b in zip(shape, block, strict=True))

    def full(block: tuple[int, ...]) -> bool:
        where = tuple(slice(c, c + b) for c, b in zip(corner(block), block, strict=True))
        return bool(sampled[where].all())

    most = tuple(min(n, side) for n in shape)
    block, growing = (1,) * A.ndim, True
    if not full(block):
        return most, corner(most)
    while growing:
        growing = False
        for axis in range(A.ndim):
            larger = (*block[:axis], block[axis] + 1, *block[axis + 1 :])
            if larger[axis] <= most[axis] and full(larger):
                block, growing = larger, True
    return block, corner(block)
