"""The image that every post-processing method starts from: what the scanner's own inversion gives."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from operators import ConeBeam, Emission, Identity, LinearOperator, fbp
from operators.density import density_compensated_adjoint
from operators.geometry import PlanarGeometry

from ..mri import ZeroFilled
from ..unrolled.base import first_image, unscaled

_DENSITIES: WeakKeyDictionary[LinearOperator, Tensor] = WeakKeyDictionary()


def direct(A: LinearOperator, y: Tensor, filter: str = "hann", frequency_scaling: float = 1.0) -> Tensor:
    """x₀, a direct reconstruction of linear data y: (*batch, *A.out_shape) -> (*batch, *A.in_shape).

        Identity                  y itself
        planar and cone-beam CT   `fbp` (of volumes FDK, of helices rebinned), with this filter
        emission                  `fbp` of the counts over attenuation and efficiency
        coils, trajectories       A*W y / Σ|S|² as `recon.ZeroFilled`, W by Voronoi cells off the grid
        anything else             t A*y, t the step of steepest descent, per image; exact zero-filling where
                                  A A* = 1 on what was measured

    Differentiable in y, and scales with it. Factors c of an operator c A are undone.
    """
    c, inner = unscaled(A)
    if isinstance(inner, Identity):
        return y / c
    geometry = getattr(inner, "geometry", None)
    if isinstance(geometry, PlanarGeometry | ConeBeam) and not y.is_complex():
        # an operator between the rays and the data, as attenuation, must be undone first
        y = inner.corrected(y) if isinstance(inner, Emission) else y
        return fbp(geometry, y, filter, frequency_scaling) / c
    if isinstance(getattr(inner, "trajectory", None), Tensor) or isinstance(
        getattr(inner, "maps", None), Tensor
    ):
        return _zero_filled(inner, y) / c
    return first_image(A, y, "adjoint")


def _zero_filled(A: LinearOperator, y: Tensor) -> Tensor:
    """As `recon.ZeroFilled`, which has no gradient."""
    x = A.adjoint(y) if not _has_path(A) else density_compensated_adjoint(A, y, _density(A).to(y.device))
    maps = getattr(A, "maps", None)
    if not isinstance(maps, Tensor):
        return x
    power = maps.detach().abs().square().sum(0).to(x.real)
    return torch.where(power > 0, x / torch.where(power > 0, power, 1.0), 0.0)


def _has_path(A: LinearOperator) -> bool:
    return isinstance(getattr(A, "trajectory", None), Tensor)


def _density(A: LinearOperator) -> Tensor:
    """Voronoi cells of the trajectory, remembered as long as the operator lives."""
    if A not in _DENSITIES:
        weights = ZeroFilled()._weights(A)
        assert weights is not None
        _DENSITIES[A] = weights
    return _DENSITIES[A]
