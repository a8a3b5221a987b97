"""Operators: how an image becomes data, and, for linear ones, how data come back."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn

from .tensors import real_dtype

Map = Callable[[Tensor], Tensor]


class Operator(nn.Module, ABC):
    """y = F(x), differentiable, from images to data.

    A subclass states `in_shape` and `out_shape` and writes `_forward`, which always sees exactly one
    batch dimension. Any number of leading batch dimensions, shape errors and call counts are given.

        F(x)              (*batch, *in_shape) -> (*batch, *out_shape)
        F.derivative(x)   the linear map h ↦ F'(x) h
        F @ G             (F @ G)(x) = F(G(x))
        F.calls           how often it ran: Counter(forward=…, adjoint=…)
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """F on (batch, *in_shape)."""

    def forward(self, x: Tensor) -> Tensor:
        return _over_batch(self, self._counted_forward, x, self.in_shape, self.out_shape)

    def derivative(self, x: Tensor) -> LinearOperator:
        """F'(x), for one image x of shape `in_shape`."""
        return Jacobian(self, x)

    def _counted_forward(self, x: Tensor) -> Tensor:
        self.calls["forward"] += 1
        return self._forward(x)

    def __matmul__(self, other: Operator) -> Operator:
        return NonLinearComposition(self, other) if isinstance(other, Operator) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_shape} -> {self.out_shape})"


class LinearOperator(Operator):
    """y = A x, a linear map with its adjoint A*.

    A subclass also writes `_adjoint`. Without trainable parameters, and when no tensor it holds requires
    grad, it is differentiated by its adjoint (any order, forward mode and vmap included); otherwise by
    autograd. A real image under a complex operator has the gradient Re A*g.

        A(x), A.adjoint(y), A.H, A.gram (= A*A), A.norm()
        A @ B, A + B, A - B, 2 * A, -A
    """

    _cached_norm: float | None = None

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor:
        """A* on (batch, *out_shape)."""

    def _counted_adjoint(self, y: Tensor) -> Tensor:
        self.calls["adjoint"] += 1
        return self._adjoint(y)

    def forward(self, x: Tensor) -> Tensor:
        apply = self._differentiable(self._counted_forward, self._counted_adjoint)
        return _over_batch(self, apply, x, self.in_shape, self.out_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """A*y: (*batch, *out_shape) -> (*batch, *in_shape)."""
        apply = self._differentiable(self._counted_adjoint, self._counted_forward)
        return _over_batch(self, apply, y, self.out_shape, self.in_shape, what="adjoint ")

    def derivative(self, x: Tensor) -> LinearOperator:
        """A itself, everywhere."""
        return self

    def _held(self) -> itertools.chain[Tensor]:
        return itertools.chain(self.parameters(), self.buffers())

    def _differentiable(self, apply: Map, adjoint: Map) -> Map:
        if any(t.requires_grad or _is_transformed(t) for t in self._held()):
            return apply
        # nobody differentiates: the call of a Function alone costs as much as a small operator
        return lambda x: _Linear.apply(x, apply, adjoint) if _is_watched(x) else apply(x)

    @property
    def H(self) -> LinearOperator:
        """The adjoint, as an operator."""
        return Adjoint(self)

    @property
    def gram(self) -> LinearOperator:
        """A*A; overridden where a closed form is cheaper than A followed by A*."""
        return Composition(self.H, self)

    def norm(self) -> float:
        """‖A‖, the largest singular value, without safety margin.

        Closed form where a subclass knows one; otherwise power iteration on A*A from a fixed start, to a
        relative 1e-3 (it approaches from below: a solver multiplies by 1.02). Computed once.
        """
        if self._cached_norm is None:
            value = self._norm()
            if any(t.requires_grad or _is_transformed(t) for t in self._held()):
                return value
            self._cached_norm = value
        return self._cached_norm

    @torch.no_grad()
    def _norm(self, iterations: int = 500) -> float:
        held = itertools.chain(self.buffers(), self.parameters())
        like = next((t for t in held if t.is_floating_point() or t.is_complex()), torch.empty(0))
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.in_shape, generator=generator, dtype=torch.float64)
        x = x.to(like.device, like.real.dtype)
        value = 0.0
        for _ in range(iterations):
            length = float(torch.linalg.vector_norm(x))
            if length == 0:
                return 0.0
            x = self.gram(x / length)
            old, value = value, math.sqrt(float(torch.linalg.vector_norm(x)))
            if abs(value - old) <= 1e-6 * value:
                break
        return value

    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...

    @overload
    def __matmul__(self, other: Operator) -> Operator: ...

    def __matmul__(self, other: Operator) -> Operator:
        if isinstance(other, LinearOperator):
            return Composition(self, other)
        return super().__matmul__(other)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        return Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return Sum(self, -1 * other) if isinstance(other, LinearOperator) else NotImplemented

    def __rmul__(self, scale: float | complex) -> LinearOperator:
        return Scaled(scale, self) if isinstance(scale, int | float | complex) else NotImplemented

    def __neg__(self) -> LinearOperator:
        return -1 * self


class Adjoint(LinearOperator):
    """A*, as an operator whose own adjoint is A."""

    def __init__(self, A: LinearOperator):
        super().__init__()
        self.A, self.in_shape, self.out_shape = A, A.out_shape, A.in_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self.A.adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.A(y)

    def _norm(self, iterations: int = 500) -> float:
        return self.A.norm()

    @property
    def H(self) -> LinearOperator:
        return self.A

    def __repr__(self) -> str:
        return f"({self.A!r}).H" if isinstance(self.A, Composition | Scaled) else f"{self.A!r}.H"


class Composition(LinearOperator):
    """(A B) x = A(B x), with adjoint B*A*."""

    def __init__(self, A: LinearOperator, B: LinearOperator):
        _check_composable(A, B)
        super().__init__()
        self.A, self.B, self.in_shape, self.out_shape = A, B, B.in_shape, A.out_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self.A(self.B(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.B.adjoint(self.A.adjoint(y))

    def __repr__(self) -> str:
        return f"{self.A!r} @ {self.B!r}"


class Sum(LinearOperator):
    """(A + B) x = A x + B x."""

    def __init__(self, A: LinearOperator, B: LinearOperator):
        if (A.in_shape, A.out_shape) != (B.in_shape, B.out_shape):
            raise ValueError(f"cannot add {A!r} and {B!r}: both must have the same in_shape and out_shape")
        super().__init__()
        self.A, self.B, self.in_shape, self.out_shape = A, B, A.in_shape, A.out_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self.A(x) + self.B(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.A.adjoint(y) + self.B.adjoint(y)

    def __repr__(self) -> str:
        return f"({self.A!r} + {self.B!r})"


class Scaled(LinearOperator):
    """(c A) x = c·A x, with adjoint conj(c)·A*."""

    def __init__(self, scale: float | complex, A: LinearOperator):
        super().__init__()
        self.scale, self.A, self.in_shape, self.out_shape = scale, A, A.in_shape, A.out_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self.scale * self.A(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.scale.conjugate() * self.A.adjoint(y)

    @property
    def gram(self) -> LinearOperator:
        """|c|² A*A, by what A has for it."""
        return abs(self.scale) ** 2 * self.A.gram

    def _norm(self, iterations: int = 500) -> float:
        return abs(self.scale) * self.A.norm()

    def __repr__(self) -> str:
        return f"{self.scale} * {self.A!r}"


class NonLinearComposition(Operator):
    """(F G)(x) = F(G(x)), where at least one of them is not linear."""

    def __init__(self, F: Operator, G: Operator):
        _check_composable(F, G)
        super().__init__()
        self.F, self.G, self.in_shape, self.out_shape = F, G, G.in_shape, F.out_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self.F(self.G(x))

    def derivative(self, x: Tensor) -> LinearOperator:
        """The chain rule: F'(G(x)) G'(x)."""
        return self.F.derivative(self.G(x)) @ self.G.derivative(x)

    def __repr__(self) -> str:
        return f"{self.F!r} @ {self.G!r}"


class Jacobian(LinearOperator):
    """F'(x): h ↦ d/dt F(x + t h) at t = 0, with adjoint by reverse-mode differentiation."""

    x: Tensor

    def __init__(self, F: Operator, x: Tensor):
        if tuple(x.shape) != F.in_shape:
            raise ValueError(
                f"derivative of {F!r} expects one image of shape {F.in_shape}, got {tuple(x.shape)}"
            )
        super().__init__()
        self.F, self.in_shape, self.out_shape = F, F.in_shape, F.out_shape
        self.register_buffer("x", x.detach())

    def _forward(self, x: Tensor) -> Tensor:
        at = self._at(x)
        if x.is_complex() and not at.is_complex():
            return self._forward(x.real) + 1j * self._forward(x.imag)
        return torch.stack([torch.func.jvp(self.F, (at,), (h,))[1] for h in x.to(at.dtype)])

    def _adjoint(self, y: Tensor) -> Tensor:
        at = self._at(y)
        value, pull_back = torch.func.vjp(self.F, at)[:2]
        if y.is_complex() and not value.is_complex():
            return self._adjoint(y.real) + 1j * self._adjoint(y.imag)
        back = torch.stack([pull_back(g)[0] for g in y.to(value.dtype)])
        if value.is_complex() and not at.is_complex():  # torch gives a real image the real part alone
            back = back + 1j * torch.stack([pull_back(-1j * g)[0] for g in y.to(value.dtype)])
        return back

    def _at(self, like: Tensor) -> Tensor:
        dtype = real_dtype(like)
        return self.x.to(dtype.to_complex() if self.x.is_complex() else dtype)


class _Linear(torch.autograd.Function):
    """Differentiate a linear map by its adjoint, and the adjoint by the map."""

    @staticmethod
    def forward(x: Tensor, apply: Map, adjoint: Map) -> Tensor:
        return apply(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, apply, adjoint = inputs
        ctx.maps, ctx.real = (apply, adjoint), not x.is_complex()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        apply, adjoint = ctx.maps
        back = _Linear.apply(grad, adjoint, apply)
        return (back.real if ctx.real and back.is_complex() else back), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _Linear.apply(tangent, *ctx.maps)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, apply: Map, adjoint: Map) -> tuple[Tensor, int]:
        x = x.movedim(in_dims[0], 0)
        y = _Linear.apply(x.flatten(0, 1), apply, adjoint)
        return y.unflatten(0, x.shape[:2]), 0


def _is_transformed(t: Tensor) -> bool:
    """Whether torch.func (vmap, jvp, grad) looks at this tensor: `_Linear` would hide it from that."""
    return torch._C._functorch.is_functorch_wrapped_tensor(t)


def _is_watched(x: Tensor) -> bool:
    """Whether autograd, in either mode, or torch.func looks at this tensor."""
    backward = x.requires_grad and torch.is_grad_enabled()
    return backward or _is_transformed(x) or torch.autograd.forward_ad.unpack_dual(x).tangent is not None


def _over_batch(
    op: Operator, apply: Map, x: Tensor, shape: tuple[int, ...], shape_out: tuple[int, ...], what: str = ""
) -> Tensor:
    n = len(shape)
    if not isinstance(x, Tensor):
        raise ValueError(f"{what}{op!r} expects a torch.Tensor, got {type(x).__name__}: use torch.as_tensor")
    if not (x.is_floating_point() or x.is_complex()):
        raise ValueError(
            f"{what}{op!r} expects floating-point or complex values, got {x.dtype}: use x.float()"
        )
    if x.ndim < n or tuple(x.shape[x.ndim - n :]) != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{what}{op!r} expects shape (*batch, {wanted}), got {tuple(x.shape)}")
    if torch.is_autocast_enabled(x.device.type):
        # networks may compute in few bits, physics does not
        x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        with torch.autocast(x.device.type, enabled=False):
            return _over_batch(op, apply, x, shape, shape_out, what)
    batch = x.shape[: x.ndim - n]
    count = math.prod(batch)
    if count == 0:
        return apply(x.new_zeros(1, *shape))[:0].reshape(*batch, *shape_out)
    return apply(x.reshape(count, *shape)).reshape(*batch, *shape_out)


def _check_composable(A: Operator, B: Operator) -> None:
    if A.in_shape != B.out_shape:
        raise ValueError(f"cannot compose {A!r} @ {B!r}: {B.out_shape} comes out, {A.in_shape} is expected")
