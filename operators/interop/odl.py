"""Operators of ODL (Adler, Kohr, Öktem), to and fro, with the weights of its inner products accounted for."""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base import LinearOperator
from ..tensors import real_dtype
from .foreign import Foreign

_CHANGED = "SCIPY_ARRAY_API"


@cache
def toolbox() -> Any:
    """The module `odl`, with numpy's print options and the environment as they were before its import."""
    options, before = np.get_printoptions(), os.environ.get(_CHANGED)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import odl
    except ImportError:
        raise ImportError("ODL is not installed: pip install 'hybrid-recon[odl]'") from None
    finally:
        np.set_printoptions(**options)
        if before is None:
            os.environ.pop(_CHANGED, None)
        else:
            os.environ[_CHANGED] = before
    return odl


def to_odl(
    A: LinearOperator, domain: Any = None, range: Any = None, impl: str = "pytorch", dtype: str = "float32"
) -> Any:
    """A as an odl.Operator whose adjoint answers to ODL's weighted inner products: A* = Aᴴ(w_R ·) / w_D.

    domain, range  ODL spaces of shapes A.in_shape and A.out_shape, indexed as A is. By default the domain of
                   an A with a geometry is a rectangle in mm with its spacing for cells, the range and other
                   domains are unweighted
    impl           of the default spaces: "pytorch", through which gradients of any order flow, or "numpy"
    dtype          of the default domain: "float32", "float64", "complex64" or "complex128"
    """
    odl = toolbox()
    with torch.no_grad():
        data = A(torch.zeros(A.in_shape, dtype=getattr(torch, dtype)))
    spacing = getattr(getattr(A, "geometry", None), "spacing", None)
    if domain is None and spacing is not None:
        half = [n * h / 2 for n, h in zip(A.in_shape, spacing, strict=True)]
        domain = odl.uniform_discr([-h for h in half], half, A.in_shape, dtype=dtype, impl=impl)
    elif domain is None:
        domain = odl.tensor_space(A.in_shape, dtype=dtype, impl=impl)
    if range is None:
        range = odl.tensor_space(A.out_shape, dtype=str(data.dtype).removeprefix("torch."), impl=impl)
    for name, space, shape in (("domain", domain, A.in_shape), ("range", range, A.out_shape)):
        if tuple(space.shape) != shape:
            raise ValueError(f"to_odl {name}: expected a space of shape {shape}, got {space.shape}")
    return _operator_class()(A, domain, range)


def from_odl(operator: Any) -> Foreign:
    """A linear odl.Operator as ours, with the plain adjoint for ODL's weighted one: Aᴴ = w_D A*(· / w_R).

    operator  between tensor or discretised spaces, weighted by constants or arrays

    Raises ValueError for a non-linear operator, product spaces and inner products that are not weights.
    """
    if not getattr(operator, "is_linear", False):
        raise ValueError(f"from_odl: expected a linear operator, got {operator!r}")
    for space in (operator.domain, operator.range):
        if not hasattr(space, "dtype_identifier"):
            raise ValueError(f"from_odl: expected tensor or discretised spaces, got {space!r}")
        _weight(space)
    dtype = getattr(torch, str(operator.domain.dtype_identifier))
    dtypes = (dtype.to_real(), dtype.to_complex()) if _is_complex(operator) else (dtype,)
    return Foreign(_ODL(operator), tuple(operator.domain.shape), tuple(operator.range.shape), dtypes)


def _is_complex(operator: Any) -> bool:
    return any("complex" in str(s.dtype_identifier) for s in (operator.domain, operator.range))


class _ODL:
    """An ODL operator on batches, one image after the other, with plain inner products."""

    def __init__(self, operator: Any):
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([_apply(self.operator, each) for each in x])

    def adjoint(self, y: Tensor) -> Tensor:
        into, out = _weight(self.operator.range), _weight(self.operator.domain)
        adjoint = self.operator.adjoint
        return torch.stack([_like(out, each) * _apply(adjoint, each / _like(into, each)) for each in y])


def _apply(operator: Any, x: Tensor) -> Tensor:
    """One image through an ODL operator, whatever its spaces are made of."""
    x = x.detach().resolve_conj().resolve_neg().contiguous()
    element = operator.domain.element(x if operator.domain.impl == "pytorch" else x.cpu().numpy())
    return torch.as_tensor(operator(element).data).to(x.device)


def _weight(space: Any) -> Any:
    """The weight of an ODL space's inner product, a number or an array."""
    weighting = getattr(space, "weighting", None)
    for name in ("const", "array"):
        if hasattr(weighting, name):
            return getattr(weighting, name)
    raise ValueError(
        f"an inner product weighted by a constant or an array is expected, got that of {space!r}"
    )


def _like(weight: Any, x: Tensor) -> Tensor:
    return torch.as_tensor(weight, dtype=real_dtype(x), device=x.device)


@cache
def _operator_class() -> Any:
    """The classes of our operators in ODL, made when ODL is there to inherit from."""
    odl = toolbox()

    class Ours(odl.Operator):  # type: ignore[name-defined, misc]
        """y = A x between ODL spaces."""

        def __init__(self, A: LinearOperator, domain: Any, range: Any):
            super().__init__(domain, range, linear=True)
            self.A = A

        def _call(self, x: Any) -> Any:
            return _element(self.range, self.A(_tensor(x)))

        @property
        def adjoint(self) -> Any:
            return Back(self)

        def __reduce__(self) -> Any:
            return _rebuilt, (self.A, self.domain, self.range)

    class Back(odl.Operator):  # type: ignore[name-defined, misc]
        """x = Aᴴ(w_R y) / w_D."""

        def __init__(self, forward: Ours):
            super().__init__(forward.range, forward.domain, linear=True)
            self.forward = forward

        def _call(self, y: Any) -> Any:
            data = _tensor(y)
            back = self.forward.A.adjoint(_like(_weight(self.domain), data) * data)
            return _element(self.range, back / _like(_weight(self.range), back))

        @property
        def adjoint(self) -> Any:
            return self.forward

    return Ours


def _rebuilt(A: LinearOperator, domain: Any, range: Any) -> Any:
    return _operator_class()(A, domain, range)


def _tensor(element: Any) -> Tensor:
    data = element.data
    return data if isinstance(data, Tensor) else torch.from_numpy(np.ascontiguousarray(data))


def _element(space: Any, x: Tensor) -> Any:
    if x.is_complex() and "complex" not in str(space.dtype_identifier):
        x = x.real
    x = x.to(getattr(torch, str(space.dtype_identifier)))
    return space.element(x if space.impl == "pytorch" else x.detach().cpu().numpy())
