"""Image series whose pixels evolve alike: the nuclear norm of small blocks, or of everything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from operators.tensors import real_dtype, spread

from .base import Functional, Step
from .norms import SLACK


class LocallyLowRank(Functional):
    """E(x) = weight · Σ_b ‖C_b x‖_*, C_b x block b of a series, frames × pixels: Σ of singular values.

    Trzasko and Manduca, Asilomar (2011); Zhang, Pauly, Levesque, Magn. Reson. Med. 73 (2015). Blocks do not
    overlap, so the prox soft-thresholds the singular values of each. Those at the edges are cut off.
    The grid of blocks may show; iterations that move it between them (random shifts) minimise no functional,
    so here it lies where `shift` says, and the mean over several shifts is a sum of several of these.

    shape  : (frames, ny, nx) or (frames, nz, ny, nx); instead of frames: contrasts, coils, echoes
    block  : side of a block [pixels], a number or one for every axis; None: one block, all of it
    weight : > 0, a float or one per series (*batch,)
    shift  : where the grid of blocks begins [pixels], a number or one for every spatial axis

    The singular values come from the Gram matrix of the smaller side, in float64: the prox is right to 1e-8
    of the largest. It is not differentiable where singular values coincide (zero ones in every flat block).
    """

    weight: Step

    def __init__(
        self,
        shape: Sequence[int],
        block: int | Sequence[int] | None = 8,
        weight: Step = 1.0,
        shift: int | Sequence[int] = 0,
    ):
        super().__init__()
        self.shape = shape = tuple(shape)
        if len(shape) not in (3, 4):
            raise ValueError(
                f"LocallyLowRank shape: expected (frames, ny, nx) or (frames, nz, ny, nx), got {shape}"
            )
        self.ndim, space = len(shape), shape[1:]
        if block is None and shift != 0:
            raise ValueError(f"LocallyLowRank shift: expected 0 with one block for everything, got {shift}")
        self.block, self.shift = block, shift
        self._sides = space if block is None else _each("block", block, len(space), 1)
        # zeros before and after fill the blocks at the edges: they add nothing to a singular value
        starts = _each("shift", shift, len(space), 0)
        self._before = [-s % b for s, b in zip(starts, self._sides, strict=True)]
        self._counts = [-(-(n + k) // b) for n, k, b in zip(space, self._before, self._sides, strict=True)]
        if not bool(torch.as_tensor(weight > 0).all()):
            raise ValueError(f"LocallyLowRank weight: expected a positive number, got {weight}")
        if isinstance(weight, Tensor) and weight.ndim:
            self.register_buffer("weight", weight)
        else:
            self.weight = float(weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * torch.linalg.svdvals(self.blocks(x)).sum((-2, -1))

    def grad(self, x: Tensor) -> Tensor:
        raise NotImplementedError(
            "LocallyLowRank has no gradient where a block lacks rank: use its prox (fista, pdhg, admm)"
        )

    def prox(self, x: Tensor, step: Step) -> Tensor:
        M = self.blocks(x)
        wide = M.shape[-2] <= M.shape[-1]
        exact = M.to(torch.complex128 if M.is_complex() else torch.float64)
        values, U = torch.linalg.eigh(exact @ exact.mH if wide else exact.mH @ exact)
        s = values.clamp(min=0).sqrt()
        limit = torch.as_tensor(spread(step * self.weight, 2), dtype=s.dtype, device=x.device)
        kept = torch.where(s > limit, 1 - limit / s, 0.0)
        K = ((U * kept.unsqueeze(-2)) @ U.mH).to(M.dtype)
        return self._assembled(K @ M if wide else M @ K)

    def conjugate(self, y: Tensor) -> Tensor:
        largest = torch.linalg.svdvals(self.blocks(y)).amax((-2, -1))
        return torch.where(largest <= self.weight * (1 + SLACK), 0.0, math.inf).to(real_dtype(y))

    def blocks(self, x: Tensor) -> Tensor:
        """The Casorati matrices: (*batch, frames, *space) -> (*batch, blocks, frames, pixels of a block)."""
        n, batch, frames = self.ndim - 1, x.shape[: x.ndim - self.ndim], self.shape[0]
        if tuple(x.shape[x.ndim - self.ndim :]) != self.shape:
            raise ValueError(f"{self!r} expects shape (*batch, {self.shape}), got {tuple(x.shape)}")
        padded = [c * b for c, b in zip(self._counts, self._sides, strict=True)]
        if tuple(padded) != self.shape[1:]:
            filled = x.new_zeros(*batch, frames, *padded)
            filled[self._inside()] = x
            x = filled
        split = [k for pair in zip(self._counts, self._sides, strict=True) for k in pair]
        x = x.reshape(*batch, frames, *split)
        first = x.ndim - 2 * n
        counts, sides = range(first, x.ndim, 2), range(first + 1, x.ndim, 2)
        x = x.permute(*range(first - 1), *counts, first - 1, *sides)
        return x.reshape(*batch, math.prod(self._counts), frames, math.prod(self._sides))

    def _assembled(self, M: Tensor) -> Tensor:
        """The series of which M are the blocks."""
        n, batch, frames = self.ndim - 1, M.shape[:-3], self.shape[0]
        x = M.reshape(*batch, *self._counts, frames, *self._sides)
        first = len(batch)
        pairs = [axis for k in range(n) for axis in (first + k, first + n + 1 + k)]
        x = x.permute(*range(first), first + n, *pairs)
        padded = [c * b for c, b in zip(self._counts, self._sides, strict=True)]
        return x.reshape(*batch, frames, *padded)[self._inside()].contiguous()

    def _inside(self) -> tuple[Any, ...]:
        return (..., *(slice(k, k + n) for k, n in zip(self._before, self.shape[1:], strict=True)))

    def __rmul__(self, scale: Step) -> LocallyLowRank:
        return LocallyLowRank(self.shape, self.block, scale * self.weight, self.shift)

    def __repr__(self) -> str:
        return f"LocallyLowRank({self.shape}, block={self.block}, weight={self.weight}, shift={self.shift})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [
            (cls((3, 4, 6), 2), (3, 4, 6)),
            (cls((2, 5, 4), (3, 2), weight=0.5, shift=(1, 1)), (2, 5, 4)),
            (cls((4, 3, 2), None), (4, 3, 2)),
            (cls((5, 2, 3), 1), (5, 2, 3)),
            (cls((2, 2, 3, 3), 2, shift=1), (2, 2, 3, 3)),
        ]


def _each(name: str, value: int | Sequence[int], axes: int, least: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if len(values) != axes or min(values) < least:
        raise ValueError(f"LocallyLowRank {name}: expected {axes} numbers ≥ {least}, or one, got {value}")
    return values
