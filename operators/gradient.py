"""Finite differences."""

from __future__ import annotations

import math

from torch import Tensor

from .base import LinearOperator


class Gradient(LinearOperator):
    """(A x)_d[i] = (x[i + e_d] − x[i]) / spacing: forward differences, 0 at the far edge (Neumann).

    x (*batch, n₁, …, n_D) -> (*batch, D, n₁, …, n_D), one component per axis in the order of the axes; units
    of x per mm when `spacing` is the pixel size in mm. The adjoint is minus the divergence.

    ‖A‖ = sqrt(Σ_d 4 cos²(π / (2 n_d))) / spacing: A*A is the Neumann Laplacian, which the DCT diagonalises
    with eigenvalues Σ_d 4 sin²(π k_d / (2 n_d)), largest at k_d = n_d − 1.

    Parameters
    ----------
    shape : one image, (ny, nx) or (nz, ny, nx); any number of axes
    spacing : distance of neighbours [mm]; 1 gives differences per pixel
    """

    def __init__(self, shape: tuple[int, ...], spacing: float = 1.0):
        super().__init__()
        if not (math.isfinite(spacing) and spacing > 0):
            raise ValueError(f"Gradient spacing [mm]: expected a positive number, got {spacing!r}")
        self.spacing = float(spacing)
        self.in_shape, self.out_shape = tuple(shape), (len(shape), *shape)

    def _forward(self, x: Tensor) -> Tensor:
        y = x.new_empty(len(x), *self.out_shape)
        for d, n in enumerate(self.in_shape):
            component = y[:, d]
            axis = d + 1
            difference = component.narrow(axis, 0, n - 1)
            difference.copy_(x.narrow(axis, 1, n - 1)).sub_(x.narrow(axis, 0, n - 1))
            component.narrow(axis, n - 1, 1).zero_()
        return y if self.spacing == 1 else y.div_(self.spacing)

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *self.in_shape)
        for d, n in enumerate(self.in_shape):
            difference = y[:, d].narrow(d + 1, 0, n - 1)
            x.narrow(d + 1, 0, n - 1).sub_(difference)
            x.narrow(d + 1, 1, n - 1).add_(difference)
        return x if self.spacing == 1 else x.div_(self.spacing)

    def _norm(self, iterations: int = 500) -> float:
        return math.sqrt(sum(4 * math.cos(math.pi / (2 * n)) ** 2 for n in self.in_shape)) / self.spacing

    def __repr__(self) -> str:
        return f"Gradient({self.in_shape}, spacing={self.spacing:.12g})"

    @classmethod
    def examples(cls) -> list[Gradient]:
        return [cls((6, 5)), cls((4, 1), spacing=0.7), cls((7,), spacing=2.0), cls((3, 4, 2), spacing=1.5)]
