"""X-ray transform of a 2-D image."""

from __future__ import annotations

import torch
from torch import Tensor

from .backends import sparse
from .base import LinearOperator
from .geometry import Geometry


class XRay(LinearOperator):
    """(A x)ᵣ = ∫ x along ray r [mm · 1/mm], by Joseph's interpolation."""

    def __init__(self, geometry: Geometry, backend: str = "auto"):
        super().__init__()
        self.geometry, self.backend = geometry, backend
        self.in_shape, self.out_shape = geometry.image_shape, geometry.sinogram_shape

    def _forward(self, x: Tensor) -> Tensor:
        M = sparse.matrix(self.geometry)
        return (
            torch.from_numpy(M @ x.detach().numpy().reshape(len(x), -1).T)
            .T.reshape(-1, *self.out_shape)
            .to(x)
        )

    def _adjoint(self, y: Tensor) -> Tensor:
        M = sparse.matrix(self.geometry)
        return (
            torch.from_numpy(M.T @ y.detach().numpy().reshape(len(y), -1).T)
            .T.reshape(-1, *self.in_shape)
            .to(y)
        )
