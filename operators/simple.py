"""The simplest operators: identity, selection, multiplication by a mask, transmission."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import Composition, LinearOperator, Operator
from .tensors import real_dtype


class Identity(LinearOperator):
    """A x = x.

    shape : one image
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.in_shape = self.out_shape = tuple(shape)

    def _forward(self, x: Tensor) -> Tensor:
        return x.clone()  # an alias would let a solver that works in place change its own input

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.clone()

    def _norm(self, iterations: int = 500) -> float:
        return 1.0

    @classmethod
    def examples(cls) -> list[Identity]:
        return [cls((5, 4)), cls((3,)), cls((2, 3, 4))]


class Select(LinearOperator):
    """(A x)ⱼ = x[indexⱼ]: some of the entries as one row, as rays held out; (*batch, *shape) -> (*batch, n).

    index  positions in the flattened image, each at most once, (n,); or a bool tensor of `shape`
    shape  one image
    """

    index: Tensor

    def __init__(self, index: Tensor, shape: tuple[int, ...]):
        super().__init__()
        index = torch.as_tensor(index)
        if index.dtype == torch.bool and tuple(index.shape) == tuple(shape):
            index = index.flatten().nonzero()[:, 0]
        entries = math.prod(shape)
        if index.ndim != 1 or index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise ValueError(
                f"Select index: expected integers (n,) or bool {tuple(shape)}, got {index.dtype} "
                f"{tuple(index.shape)}"
            )
        if not len(index) or int(index.min()) < 0 or int(index.max()) >= entries:
            raise ValueError(f"Select index: expected at least one, each from 0 to {entries - 1}")
        if len(index.unique()) < len(index):
            raise ValueError("Select index: expected each position once, got some twice")
        self.register_buffer("index", index.long())
        self.in_shape, self.out_shape = tuple(shape), (len(index),)

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(-len(self.in_shape))[..., self.index]

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(*y.shape[:-1], math.prod(self.in_shape))
        return x.index_copy(-1, self.index, y).reshape(*y.shape[:-1], *self.in_shape)

    def _norm(self, iterations: int = 500) -> float:
        return 1.0

    @classmethod
    def examples(cls) -> list[Select]:
        return [cls(torch.tensor([5, 0, 7]), (3, 4)), cls(torch.eye(3, 4) > 0, (3, 4))]


class Mask(LinearOperator):
    """(A x)ᵢ = mᵢ xᵢ: pixels or samples kept, dropped or weighted by a real mask; self-adjoint.

    mask   real or bool, broadcast against the trailing dimensions; an nn.Parameter is learned
    shape  one image, by default that of the mask

    Raises ValueError where the mask is complex, not finite, or does not broadcast to `shape`.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, shape: tuple[int, ...] | None = None):
        super().__init__()
        mask = torch.as_tensor(mask)
        shape = tuple(mask.shape if shape is None else shape)
        _check_mask(mask, shape)
        if isinstance(mask, nn.Parameter):
            self.mask = mask
        else:
            self.register_buffer("mask", mask if mask.is_floating_point() else mask.float())
        self.in_shape = self.out_shape = shape

    def _forward(self, x: Tensor) -> Tensor:
        return self.mask.to(real_dtype(x)) * x

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    def _norm(self, iterations: int = 500) -> float:
        return float(self.mask.detach().abs().max())

    @classmethod
    def examples(cls) -> list[Mask]:
        mask = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return [cls(mask), cls(mask > 0), cls(mask[0], shape=(3, 5, 4)), cls(mask[:, :1].float(), (2, 5, 3))]


class Transmission(Operator):
    """T(x) = exp(−A x): the transmitted fraction of the beam after line integrals A x (Lambert–Beer).

    A  any linear operator, such as an XRay
    """

    def __init__(self, A: LinearOperator):
        super().__init__()
        self.A, self.in_shape, self.out_shape = A, A.in_shape, A.out_shape

    def _forward(self, x: Tensor) -> Tensor:
        return (-self.A(x)).exp()

    def derivative(self, x: Tensor) -> LinearOperator:
        """T'(x) = −diag(exp(−A x)) A, for one image x of shape `in_shape`."""
        if tuple(x.shape) != self.in_shape:
            raise ValueError(
                f"derivative of {self!r} expects one image of shape {self.in_shape}, got {tuple(x.shape)}"
            )
        return Composition(Mask(-self(x.detach()).detach()), self.A)

    @classmethod
    def examples(cls) -> list[Transmission]:
        return [cls(Identity((3, 4))), cls(Mask(torch.tensor([[0.5, 0.0, 2.0]]), (2, 3)))]


def _check_mask(mask: Tensor, shape: tuple[int, ...]) -> None:
    if mask.is_complex():
        raise ValueError(f"Mask mask: expected real or bool values, got {mask.dtype}")
    if mask.numel() == 0 or not bool(torch.isfinite(mask).all()):
        raise ValueError("Mask mask: expected finite values, got NaN, inf or none at all")
    try:
        fits = tuple(torch.broadcast_shapes(mask.shape, shape)) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"Mask mask: expected a shape that broadcasts to {shape}, got {tuple(mask.shape)}; "
            "insert dimensions of size 1 where it repeats"
        )
