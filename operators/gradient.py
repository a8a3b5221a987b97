"""Finite differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .base import LinearOperator


class Gradient(LinearOperator):
    """(A x)_d[i] = (x[i + e_d] − x[i]) / spacing: forward differences, 0 at the far edge (Neumann).

    x (*batch, n₁, …, n_D) -> (*batch, D, n₁, …, n_D), one component per axis in the order of the axes; units
    of x per mm when `spacing` is the pixel size in mm. The adjoint is minus the divergence.

    ‖A‖ = sqrt(Σ_d 4 cos²(π / (2 n_d)) / spacing_d²): A*A is the Neumann Laplacian, which the DCT diagonalises
    with eigenvalues Σ_d 4 sin²(π k_d / (2 n_d)) / spacing_d², largest at k_d = n_d − 1.

    Parameters
    ----------
    shape : one image, (ny, nx) or (nz, ny, nx); any number of axes
    spacing : distance of neighbours [mm], a number or one for every axis; 1 gives differences per pixel
    """

    def __init__(self, shape: tuple[int, ...], spacing: float | Sequence[float] = 1.0):
        super().__init__()
        self.in_shape, self.out_shape = tuple(shape), (len(shape), *shape)
        self.spacing = spacings("Gradient spacing [mm]", spacing, len(self.in_shape))

    def _forward(self, x: Tensor) -> Tensor:
        y = x.new_empty(len(x), *self.out_shape)
        for d, (n, h) in enumerate(zip(self.in_shape, self.spacing, strict=True)):
            component = y[:, d]
            axis = d + 1
            difference = component.narrow(axis, 0, n - 1)
            difference.copy_(x.narrow(axis, 1, n - 1)).sub_(x.narrow(axis, 0, n - 1))
            component.narrow(axis, n - 1, 1).zero_()
            if h != 1:
                component.div_(h)
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *self.in_shape)
        for d, (n, h) in enumerate(zip(self.in_shape, self.spacing, strict=True)):
            difference = y[:, d].narrow(d + 1, 0, n - 1)
            x.narrow(d + 1, 0, n - 1).sub_(difference, alpha=1 / h)
            x.narrow(d + 1, 1, n - 1).add_(difference, alpha=1 / h)
        return x

    def _norm(self, iterations: int = 500) -> float:
        parts = zip(self.in_shape, self.spacing, strict=True)
        return math.sqrt(sum(4 * math.cos(math.pi / (2 * n)) ** 2 / h**2 for n, h in parts))

    def __repr__(self) -> str:
        h = self.spacing if len(set(self.spacing)) > 1 else f"{self.spacing[0]:.12g}"
        return f"Gradient({self.in_shape}, spacing={h})"

    @classmethod
    def examples(cls) -> list[Gradient]:
        volume = cls((3, 4, 2), spacing=(1.5, 0.5, 1.0))
        return [cls((6, 5)), cls((4, 1), spacing=0.7), cls((7,), spacing=2.0), volume]


def spacings(name: str, spacing: float | Sequence[float], axes: int) -> tuple[float, ...]:
    """The distance of neighbours along every axis, from one for all of them or one each."""
    values = tuple(spacing) if isinstance(spacing, Sequence) else (spacing,) * axes
    if len(values) != axes or not all(0 < h < math.inf for h in values):
        raise ValueError(f"{name}: expected a positive number or {axes} of them, got {spacing!r}")
    return tuple(float(h) for h in values)
