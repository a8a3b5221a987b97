"""In what metric a primal–dual method measures the image: a number, or a circulant filter."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from operators import LinearOperator
from operators.simple import Identity
from operators.tensors import norm, spread

from .terms import MARGIN, Term

_symbols: WeakKeyDictionary[LinearOperator, dict[torch.dtype, Tensor]] = WeakKeyDictionary()


class Scalar:
    """T = τ with 1/τ = Σ σᵢ‖Aᵢ‖²."""

    def __init__(self, terms: Sequence[Term], sigmas: Sequence[Tensor]):
        parts = [s * t.length**2 for s, t in zip(sigmas, terms, strict=True)]
        self.n, self.tau = terms[0].n, 1 / torch.stack(parts).sum(0)

    def step(self, v: Tensor, r: Tensor) -> Tensor:
        """T v / r."""
        return spread(self.tau / r, self.n) * v

    def inverse(self, v: Tensor, r: Tensor) -> Tensor:
        """r T⁻¹ v."""
        return spread(r / self.tau, self.n) * v


class Circulant:
    """T = (Σ σᵢ Mᵢ)⁻¹ with circulant Mᵢ ≥ Aᵢ*Aᵢ, a filter; for projectors near the ramp filter.

    Σσᵢ Aᵢ T Aᵢ* ≤ 1, as with a number, but near equality at all frequencies: the high ones, which a projector
    damps and which converge slowly with a number, take long steps. As in Ramani and Fessler, IEEE Trans. Med.
    Imaging 31 (2012).
    """

    def __init__(self, terms: Sequence[Term], sigmas: Sequence[Tensor], x: Tensor):
        self.axes, self.shape = tuple(range(-terms[0].n, 0)), terms[0].A.in_shape
        total = [spread(s, terms[0].n) * _symbol(t.A, x) for s, t in zip(sigmas, terms, strict=True)]
        self.M = torch.stack(torch.broadcast_tensors(*total)).sum(0)

    def typical(self) -> Tensor:
        """Geometric mean of M over frequencies, per image."""
        return self.M.log().mean(self.axes).exp()

    def strengthened(self, amount: Tensor) -> Circulant:
        """M plus a multiple of the identity per image, for the constraint x ∈ C."""
        new = object.__new__(Circulant)
        new.axes, new.shape, new.M = self.axes, self.shape, self.M + spread(amount, len(self.axes))
        return new

    def step(self, v: Tensor, r: Tensor) -> Tensor:
        """T v / r."""
        return _filter(v, 1 / (spread(r, len(self.axes)) * self.M), self.axes)

    def inverse(self, v: Tensor, r: Tensor) -> Tensor:
        """r T⁻¹ v."""
        return _filter(v, spread(r, len(self.axes)) * self.M, self.axes)


def _filter(v: Tensor, symbol: Tensor, axes: tuple[int, ...]) -> Tensor:
    if v.is_complex():
        return torch.fft.ifftn(symbol * torch.fft.fftn(v, dim=axes), dim=axes)
    half = symbol[..., : v.shape[-1] // 2 + 1]
    shape = [v.shape[a] for a in axes]
    return torch.fft.irfftn(half * torch.fft.rfftn(v, dim=axes), s=shape, dim=axes)


def _symbol(A: LinearOperator, x: Tensor) -> Tensor:
    """The symbol of a circulant M ≥ A*A: A*A of the middle pixel, averaged over rings of frequency."""
    if isinstance(A, Identity):
        return torch.ones(A.in_shape, dtype=x.real.dtype, device=x.device)
    known = _symbols.setdefault(A, {})
    if x.dtype not in known:
        known[x.dtype] = _measure(A, x)
    return known[x.dtype].to(x.device, x.real.dtype)


@torch.no_grad()
def _measure(A: LinearOperator, x: Tensor) -> Tensor:
    axes = tuple(range(-len(A.in_shape), 0))
    spike = torch.zeros(A.in_shape, dtype=x.dtype, device=x.device)
    spike[tuple(n // 2 for n in A.in_shape)] = 1
    response = torch.fft.fftn(torch.fft.ifftshift(A.gram(spike), dim=axes), dim=axes).real.clamp(min=0)
    square = torch.zeros((), device=x.device)
    for axis, n in zip(axes, A.in_shape, strict=True):
        frequency = torch.fft.fftfreq(n, device=x.device).square()
        square = square + frequency.reshape(-1, *(1,) * (-axis - 1))
    ring = (square.sqrt() * max(A.in_shape)).round().long()
    sums = torch.zeros(int(ring.max()) + 1, dtype=response.dtype, device=x.device)
    profile = sums.index_add(0, ring.flatten(), response.flatten()) / torch.bincount(ring.flatten())
    symbol = profile.clamp(min=1e-3 * float(profile.max()))[ring]
    # the largest eigenvalue of M⁻¹ A*A makes M a majorant
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(A.in_shape, generator=generator, dtype=torch.float64).to(spike)
    largest = torch.ones(())
    for _ in range(20):
        v = _filter(A.gram(v), 1 / symbol, axes)
        largest = norm(v, len(axes))
        v = v / largest
    return symbol * (MARGIN * largest)
