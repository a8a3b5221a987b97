"""Finite differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .base import LinearOperator

BOUNDARIES = ("neumann", "periodic", "zero")


class Gradient(LinearOperator):
    """(A x)_d[i] = (x[i + e_d] − x[i]) / spacing: forward differences.

    x (*batch, n₁, …, n_D) -> (*batch, D, n₁, …, n_D), one component per axis in the order of the axes; units
    of x per mm when `spacing` is the pixel size in mm. The adjoint is minus the divergence.

    What lies beyond the far edge, and the norm: ‖A‖² = Σ_d c_d / spacing_d², c_d the largest eigenvalue of
    the second difference (those of different axes have common eigenvectors, so that they add):

        "neumann"    x itself, difference 0     c = 4 cos²(π / 2n)
        "periodic"   the near edge              c = 4 sin²(π ⌊n/2⌋ / n)
        "zero"       nothing, difference −x     c = 4 cos²(π / (2n + 1))

    Parameters
    ----------
    shape : one image, (ny, nx) or (nz, ny, nx); any number of axes
    spacing : distance of neighbours [mm], a number or one for every axis; 1 gives differences per pixel
    boundary : "neumann", "periodic" or "zero"
    """

    def __init__(
        self, shape: tuple[int, ...], spacing: float | Sequence[float] = 1.0, boundary: str = "neumann"
    ):
        super().__init__()
        if boundary not in BOUNDARIES:
            raise ValueError(
                f"Gradient boundary: expected one of {', '.join(map(repr, BOUNDARIES))}, got {boundary!r}"
            )
        self.in_shape, self.out_shape = tuple(shape), (len(shape), *shape)
        self.spacing = spacings("Gradient spacing [mm]", spacing, len(self.in_shape))
        self.boundary = boundary

    def _forward(self, x: Tensor) -> Tensor:
        y = x.new_empty(len(x), *self.out_shape)
        for d, (n, h) in enumerate(zip(self.in_shape, self.spacing, strict=True)):
            component = y[:, d]
            axis = d + 1
            difference = component.narrow(axis, 0, n - 1)
            difference.copy_(x.narrow(axis, 1, n - 1)).sub_(x.narrow(axis, 0, n - 1))
            edge = component.narrow(axis, n - 1, 1)
            if self.boundary == "periodic":
                edge.copy_(x.narrow(axis, 0, 1)).sub_(x.narrow(axis, n - 1, 1))
            elif self.boundary == "zero":
                edge.copy_(x.narrow(axis, n - 1, 1)).neg_()
            else:
                edge.zero_()
            if h != 1:
                component.div_(h)
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *self.in_shape)
        for d, (n, h) in enumerate(zip(self.in_shape, self.spacing, strict=True)):
            inside = n - 1 if self.boundary == "neumann" else n
            x.narrow(d + 1, 0, inside).sub_(y[:, d].narrow(d + 1, 0, inside), alpha=1 / h)
            x.narrow(d + 1, 1, n - 1).add_(y[:, d].narrow(d + 1, 0, n - 1), alpha=1 / h)
            if self.boundary == "periodic":
                x.narrow(d + 1, 0, 1).add_(y[:, d].narrow(d + 1, n - 1, 1), alpha=1 / h)
        return x

    def _norm(self, iterations: int = 500) -> float:
        parts = zip(self.in_shape, self.spacing, strict=True)
        return math.sqrt(sum(self._largest(n) / h**2 for n, h in parts))

    def _largest(self, n: int) -> float:
        """Eigenvalue of the second difference of n values."""
        if self.boundary == "periodic":
            return 4 * math.sin(math.pi * (n // 2) / n) ** 2
        return 4 * math.cos(math.pi / (2 * n if self.boundary == "neumann" else 2 * n + 1)) ** 2

    def __repr__(self) -> str:
        h = self.spacing if len(set(self.spacing)) > 1 else f"{self.spacing[0]:.12g}"
        boundary = "" if self.boundary == "neumann" else f", boundary={self.boundary!r}"
        return f"Gradient({self.in_shape}, spacing={h}{boundary})"

    @classmethod
    def examples(cls) -> list[Gradient]:
        volume = cls((3, 4, 2), spacing=(1.5, 0.5, 1.0))
        around, outside = cls((5, 4), boundary="periodic"), cls((4, 1, 3), (0.5, 1.0, 2.0), "zero")
        return [cls((6, 5)), cls((4, 1), spacing=0.7), cls((7,), spacing=2.0), volume, around, outside]


def spacings(name: str, spacing: float | Sequence[float], axes: int) -> tuple[float, ...]:
    """The distance of neighbours along every axis, from one for all of them or one each."""
    values = tuple(spacing) if isinstance(spacing, Sequence) else (spacing,) * axes
    if len(values) != axes or not all(0 < h < math.inf for h in values):
        raise ValueError(f"{name}: expected a positive number or {axes} of them, got {spacing!r}")
    return tuple(float(h) for h in values)
