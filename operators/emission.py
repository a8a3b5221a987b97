"""Emission tomography: what a PET scanner counts of an activity."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor

from .base import LinearOperator
from .geometry import ParallelBeam
from .tensors import real_dtype
from .xray import XRay


class Emission(LinearOperator):
    """(A x)ᵣ = nᵣ e^(−∫μ along r) ∫ x along r: expected true coincidences of an activity x over the scale.

    Both photons of a pair must leave the body, so that the attenuation of a line is that of the whole line,
    wherever on it the pair was made; in single-photon emission this does not hold. Counts are
    Poisson(scale=s, background=b): s turns A x into counts (time, branching ratio), b holds the expected
    randoms and scatter; `operators.insertion.thin_counts` shortens a scan. (*batch, *image) ->
    (*batch, views, bins).

    Parameters
    ----------
    xray : the line integrals; x in activity per mm gives A x in activity
    attenuation : attenuation image μ at 511 keV [1/mm], shape xray.in_shape; or None
    normalisation : efficiency n ≥ 0 of every detector pair, broadcasts to xray.out_shape; 0 is a dead one

    Raises
    ------
    ValueError for shapes that do not fit, negative or non-finite attenuation and efficiencies.
    """

    factors: Tensor

    def __init__(self, xray: XRay, attenuation: Tensor | None = None, normalisation: Tensor | float = 1.0):
        super().__init__()
        if not isinstance(xray, XRay):
            raise ValueError(f"Emission xray: expected an XRay, got {type(xray).__name__}")
        self.xray, self.in_shape, self.out_shape = xray, xray.in_shape, xray.out_shape
        self.geometry = xray.geometry
        factors = _checked("normalisation", torch.as_tensor(normalisation)).detach().double()
        try:
            factors = factors.expand(self.out_shape)
        except RuntimeError:
            raise ValueError(
                f"Emission normalisation: expected a shape that broadcasts to {self.out_shape}, got "
                f"{tuple(factors.shape)}"
            ) from None
        if attenuation is not None:
            mu = _checked("attenuation [1/mm]", attenuation).detach()
            if tuple(mu.shape) != self.in_shape:
                raise ValueError(
                    f"Emission attenuation: expected an image of shape {self.in_shape}, got {tuple(mu.shape)}"
                )
            mu = mu if mu.dtype == torch.float64 else mu.float()
            factors = factors.to(mu.device) * (-xray(mu)).exp().double()
        self.register_buffer("factors", factors.clone())

    @property
    def adjoint_is_exact(self) -> bool:
        """As of `xray`."""
        return bool(self.xray.adjoint_is_exact)

    def corrected(self, y: Tensor) -> Tensor:
        """y / (n e^(−∫μ)): line integrals of x, 0 where a pair of detectors is dead."""
        factors = self._like(y)
        return torch.where(factors > 0, y / torch.where(factors > 0, factors, 1.0), 0.0)

    def subset(self, views: slice | Iterable[int]) -> Self:
        """The operator of some of the views, for ordered subsets."""
        chosen = views if isinstance(views, slice) else list(views)
        return type(self)(self.xray.subset(chosen), None, self.factors[chosen])

    def _like(self, y: Tensor) -> Tensor:
        return self.factors.to(y.device, real_dtype(y))

    def _forward(self, x: Tensor) -> Tensor:
        return self._like(x) * self.xray(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.xray.adjoint(self._like(y) * y)

    def __repr__(self) -> str:
        return f"Emission({self.xray!r})"

    @classmethod
    def examples(cls) -> list[Self]:
        """With and without attenuation, a dead view, efficiencies of every bin."""
        angles = tuple(k * math.pi / 5 for k in range(5))
        xray = XRay(ParallelBeam((6, 7), 2.0, angles, 11, 1.7), "sparse")
        mu = torch.rand(6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 50
        dead = torch.ones(5, 1, dtype=torch.float64)
        dead[2] = 0
        return [
            cls(xray),
            cls(xray, mu),
            cls(xray, mu.float(), dead),
            cls(xray, None, torch.linspace(0.5, 2, 11)),
        ]


def _checked(name: str, value: Tensor) -> Tensor:
    if value.is_complex() or not bool(((value >= 0) & torch.isfinite(value)).all()):
        raise ValueError(f"Emission {name}: expected finite numbers ≥ 0")
    return value
