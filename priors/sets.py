"""Indicator functions of convex sets: 0 inside, inf outside; prox is the projection."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from operators.tensors import total

from .base import Functional, Step
from .norms import SLACK


class Zero(Functional):
    """f(x) = 0: no knowledge. Its conjugate is 0 at y = 0, inf elsewhere.

    ndim : dimensions of one image
    """

    def __init__(self, ndim: int = 2):
        super().__init__()
        self.ndim = ndim

    def forward(self, x: Tensor) -> Tensor:
        return x.real.new_zeros(x.shape[: x.ndim - self.ndim])

    def grad(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        return x

    def prox_conj(self, y: Tensor, step: Step) -> Tensor:
        return torch.zeros_like(y)

    def conjugate(self, y: Tensor) -> Tensor:
        return _indicator(y == 0, self.ndim, y.real.dtype)

    @property
    def lipschitz(self) -> float:
        return 0.0

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(), (3, 5)), (cls(ndim=1), (4,))]


class Box(Functional):
    """0 if lowerᵢ ≤ xᵢ ≤ upperᵢ for all i, else inf.

    lower, upper : numbers or real tensors that broadcast against x, lower ≤ upper; ±inf leaves a side open
    ndim         : dimensions of one image

    Conjugate Σᵢ max(lowerᵢ yᵢ, upperᵢ yᵢ); towards an open side |yᵢ| ≤ 1e-6·max|y| counts as 0.
    """

    lower: Tensor | float
    upper: Tensor | float

    def __init__(self, lower: Tensor | float, upper: Tensor | float, ndim: int = 2):
        super().__init__()
        if not bool(torch.as_tensor(torch.as_tensor(lower) <= torch.as_tensor(upper)).all()):
            raise ValueError(f"Box lower, upper: expected lower ≤ upper everywhere, got {lower} and {upper}")
        self.ndim = ndim
        for name, bound in (("lower", lower), ("upper", upper)):
            if isinstance(bound, Tensor):
                self.register_buffer(name, bound)
            else:
                setattr(self, name, float(bound))

    def forward(self, x: Tensor) -> Tensor:
        _real(self, x)
        return _indicator((x >= self.lower) & (x <= self.upper), self.ndim, x.dtype)

    def grad(self, x: Tensor) -> Tensor:
        raise NotImplementedError(
            f"{self!r} is an indicator and has no gradient: use its prox (pdhg, fista, admm)"
        )

    def prox(self, x: Tensor, step: Step) -> Tensor:
        _real(self, x)
        if isinstance(self.lower, Tensor) or isinstance(self.upper, Tensor):
            lower, upper = (
                torch.as_tensor(b, dtype=x.dtype, device=x.device) for b in (self.lower, self.upper)
            )
            return x.clamp(lower, upper)
        return x.clamp(self.lower, self.upper)

    def conjugate(self, y: Tensor) -> Tensor:
        _real(self, y)
        largest = y.abs().amax(tuple(range(-self.ndim, 0)), keepdim=True)
        bound = torch.where(y > 0, self.upper, self.lower)
        small = y.abs() <= torch.where(bound.isinf(), SLACK * largest, 0)
        return total(torch.where(small, 0, torch.where(small, 0, bound) * y), self.ndim)

    def __repr__(self) -> str:
        shown = [f"tensor{tuple(b.shape)}" if isinstance(b, Tensor) else b for b in (self.lower, self.upper)]
        return f"{type(self).__name__}({shown[0]}, {shown[1]})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        ramp = torch.linspace(-1, 0.5, 15).reshape(3, 5)
        return [(cls(-0.2, 1.0), (3, 5)), (cls(ramp, 0.5), (3, 5)), (cls(-math.inf, 0.3, ndim=1), (7,))]


class NonNegative(Box):
    """0 if x ≥ 0 everywhere, else inf. Its conjugate is 0 where y ≤ 1e-6·max|y|, else inf.

    ndim : dimensions of one image
    """

    def __init__(self, ndim: int = 2):
        super().__init__(0.0, math.inf, ndim)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        _real(self, x)
        return x.clamp(min=0)

    def __repr__(self) -> str:
        return f"NonNegative(ndim={self.ndim})"

    @classmethod
    def examples(cls) -> list[tuple[Functional, tuple[int, ...]]]:
        return [(cls(), (3, 5)), (cls(ndim=1), (4,))]


def _indicator(inside: Tensor, ndim: int, dtype: torch.dtype) -> Tensor:
    outside = ~inside.all(tuple(range(-ndim, 0)))
    return torch.zeros_like(outside, dtype=dtype).masked_fill(outside, math.inf)


def _real(f: Functional, x: Tensor) -> None:
    if x.is_complex():
        raise ValueError(f"{f!r} expects a real image, got {x.dtype}: order needs real numbers")
