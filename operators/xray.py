"""X-ray transform of a 2-D image."""

from __future__ import annotations

from torch import Tensor

from .base import LinearOperator
from .geometry import Geometry


class XRay(LinearOperator):
    """(A x)ᵣ = ∫ x along ray r [mm · 1/mm], by Joseph's interpolation."""

    def __init__(self, geometry: Geometry, backend: str = "auto"):
        super().__init__()
        self.geometry, self.backend = geometry, backend
        self.in_shape, self.out_shape = geometry.image_shape, geometry.sinogram_shape

    def _forward(self, x: Tensor) -> Tensor:
        from .backends import joseph

        return joseph.project(x, self.geometry)

    def _adjoint(self, y: Tensor) -> Tensor:
        from .backends import joseph

        return joseph.backproject(y, self.geometry)
