"""An operator of another toolbox as one of ours."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ..base import LinearOperator


class Pair(Protocol):
    """A linear map and its adjoint, each on (batch, *shape)."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *in_shape) -> (batch, *out_shape)."""

    def adjoint(self, y: Tensor) -> Tensor:
        """(batch, *out_shape) -> (batch, *in_shape)."""


class Foreign(LinearOperator):
    """y = A x, where A and A* come from elsewhere; differentiated by its adjoint to any order.

    pair               the two maps
    in_shape, out_shape  of one image and its data
    dtypes             precisions the other side computes in; None where it takes any
    adjoint_is_exact   whether A* is the transpose of A to rounding, as far as the other side says
    geometry           of the scan, for filtered back projection and pixel sizes; None where unknown
    """

    def __init__(
        self,
        pair: Pair,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        dtypes: tuple[torch.dtype, ...] | None = None,
        adjoint_is_exact: bool = True,
        geometry: Any = None,
    ):
        super().__init__()
        self.pair = pair
        self.in_shape, self.out_shape = tuple(map(int, in_shape)), tuple(map(int, out_shape))
        self.dtypes, self.adjoint_is_exact, self.geometry = dtypes, adjoint_is_exact, geometry
        if dtypes is not None:  # norm() starts in this precision
            self.register_buffer("_like", torch.empty(0, dtype=dtypes[0]), persistent=False)

    def _forward(self, x: Tensor) -> Tensor:
        return self.pair.forward(self._checked(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.pair.adjoint(self._checked(y))

    def _checked(self, x: Tensor) -> Tensor:
        if self.dtypes is not None and x.dtype not in self.dtypes:
            names = " or ".join(str(d).removeprefix("torch.") for d in self.dtypes)
            raise ValueError(f"{self!r} computes in {names}, got {x.dtype}: convert the tensor first")
        return x

    def __repr__(self) -> str:
        return f"Foreign({type(self.pair).__name__.lstrip('_')}, {self.in_shape} -> {self.out_shape})"

    @classmethod
    def examples(cls) -> list[Foreign]:
        import scipy.sparse

        from .scipy import from_scipy

        matrix = scipy.sparse.random(15, 12, density=0.4, random_state=0, format="csr")
        return [from_scipy(matrix, (3, 4), (5, 3)), from_scipy(matrix.toarray())]
