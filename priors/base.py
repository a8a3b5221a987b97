"""Functionals: a real number for every image, with gradient, prox and conjugate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from operators import LinearOperator
from operators.tensors import spread

Step = float | Tensor


class Functional(nn.Module, ABC):
    """A real-valued f(x), one value per image; nothing an image gets depends on the rest of its batch.

    The last `ndim` dimensions of x are one image, all before them the batch. A subclass writes `forward`,
    and `grad`, `prox`, `conjugate` where it knows them in closed form.

        f(x)                    value                                        (*batch,)
        f.grad(x)               ∇f(x); by autograd unless a subclass knows better
        f.prox(x, step)         argmin_z ½‖z − x‖² + step·f(z); step a float or one per image (*batch,)
        f.prox_conj(y, step)    prox of step·f*, by Moreau: y − step·prox(y/step, 1/step)
        f.conjugate(y)          f*(y) = sup_x Re⟨x, y⟩ − f(x)                (*batch,)
        f.lipschitz             of ∇f, without margin, a float or one per image; inf where f is not smooth or
                                nobody knows
        2 * f, f * 2, f + g, f @ A   also a tensor of one weight per image times f
    """

    ndim: int = 2

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Value per image, (*batch,)."""

    def grad(self, x: Tensor) -> Tensor:
        """∇f(x), shape of x."""
        with torch.enable_grad():
            graph = x.requires_grad
            z = x if graph else x.detach().requires_grad_()
            return torch.autograd.grad(self(z).sum(), z, create_graph=graph)[0]

    def prox(self, x: Tensor, step: Step) -> Tensor:
        raise NotImplementedError(
            f"{self!r} has no prox: use a solver that needs only its gradient (gradient_descent), "
            "or write it as f @ A with an f that has a prox and use pdhg or admm"
        )

    def prox_conj(self, y: Tensor, step: Step) -> Tensor:
        s = spread(step, self.ndim)
        return y - s * self.prox(y / s, 1 / step)

    def conjugate(self, y: Tensor) -> Tensor:
        raise NotImplementedError(
            f"{self!r} has no closed-form conjugate: a duality gap cannot be reported with it"
        )

    @property
    def lipschitz(self) -> Step:
        """‖∇f(x) − ∇f(z)‖ ≤ lipschitz·‖x − z‖; inf where f is not smooth or nobody knows."""
        return math.inf

    def __rmul__(self, scale: Step) -> Functional:
        return Scaled(scale, self) if isinstance(scale, int | float | Tensor) else NotImplemented

    def __mul__(self, scale: Step) -> Functional:
        return self.__rmul__(scale)

    def __add__(self, other: Functional) -> Functional:
        return Sum(self, other) if isinstance(other, Functional) else NotImplemented

    def __matmul__(self, A: LinearOperator) -> Functional:
        return Composed(self, A) if isinstance(A, LinearOperator) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Scaled(Functional):
    """c·f, c > 0: a float or one value per image."""

    def __init__(self, scale: Step, f: Functional):
        super().__init__()
        if isinstance(scale, Tensor) and scale.ndim:
            self.register_buffer("scale", scale)
        else:
            self.scale = float(scale)
        if not bool(torch.as_tensor(scale > 0).all()):
            raise ValueError(f"weight of {f!r}: expected a positive number, got {scale}")
        self.f, self.ndim = f, f.ndim

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.f(x)

    def grad(self, x: Tensor) -> Tensor:
        return spread(self.scale, self.ndim) * self.f.grad(x)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        return self.f.prox(x, self.scale * step)

    def prox_conj(self, y: Tensor, step: Step) -> Tensor:
        c = spread(self.scale, self.ndim)
        return c * self.f.prox_conj(y / c, step / self.scale)

    def conjugate(self, y: Tensor) -> Tensor:
        return self.scale * self.f.conjugate(y / spread(self.scale, self.ndim))

    @property
    def lipschitz(self) -> Step:
        return self.scale * self.f.lipschitz

    def __rmul__(self, scale: Step) -> Functional:
        return Scaled(scale * self.scale, self.f)

    def __repr__(self) -> str:
        return f"{self.scale} * {self.f!r}"


class Sum(Functional):
    """f + g."""

    def __init__(self, f: Functional, g: Functional):
        if f.ndim != g.ndim:
            raise ValueError(f"cannot add {f!r} and {g!r}: one image has {f.ndim} and {g.ndim} dimensions")
        super().__init__()
        self.f, self.g, self.ndim = f, g, f.ndim

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) + self.g(x)

    def grad(self, x: Tensor) -> Tensor:
        return self.f.grad(x) + self.g.grad(x)

    @property
    def lipschitz(self) -> Step:
        return self.f.lipschitz + self.g.lipschitz

    def __repr__(self) -> str:
        return f"({self.f!r} + {self.g!r})"


class Composed(Functional):
    """x ↦ f(A x): value and gradient, and the dual step a primal–dual solver takes; no prox in general."""

    def __init__(self, f: Functional, A: LinearOperator):
        if f.ndim != len(A.out_shape):
            raise ValueError(
                f"cannot compose {f!r} @ {A!r}: {f.ndim} dimensions are expected, {A.out_shape} comes out"
            )
        super().__init__()
        self.f, self.A, self.ndim = f, A, len(A.in_shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.A(x))

    def grad(self, x: Tensor) -> Tensor:
        return self.A.adjoint(self.f.grad(self.A(x)))

    def dual_step(self, p: Tensor, x_bar: Tensor, sigma: Step) -> Tensor:
        """Prox of σf* at p + σ A x̄; a subclass may fuse the two."""
        return self.f.prox_conj(p + spread(sigma, self.f.ndim) * self.A(x_bar), sigma)

    @property
    def lipschitz(self) -> Step:
        slope = self.f.lipschitz
        return slope if slope is math.inf else slope * self.A.norm() ** 2

    def __rmul__(self, scale: Step) -> Functional:
        return Composed(scale * self.f, self.A)

    def __repr__(self) -> str:
        return f"{self.f!r} @ {self.A!r}"


def same_precision(f: Functional, x: Tensor) -> None:
    """ValueError where single meets double precision: a line search would stall on the rounding of a cast."""
    like = next(f.parameters(), None)
    if like is not None and like.dtype != x.real.dtype and torch.float64 in (like.dtype, x.real.dtype):
        raise ValueError(
            f"{type(f).__name__} image: expected the precision of its weights, {like.dtype}, got {x.dtype}; "
            "use prior.double() for double precision"
        )
