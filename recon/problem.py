"""What a method is given: a forward model, raw data and their noise model. Never the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from operators import LinearOperator
from operators.noise import NoiseModel


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """Raw data y of A x under a noise model.

    A      forward model
    y      raw data as the scanner gives them (counts, k-space), (*batch, *A.out_shape)
    noise  their law, as `Gaussian(sigma=…)`; linearises them into the range of A and knows their variance.
           Where it is not known, `Gaussian(sigma=1.0)` gives every datum the same weight; what chooses λ by
           the noise then needs a weight
    """

    A: LinearOperator
    y: Tensor
    noise: NoiseModel

    def __post_init__(self) -> None:
        if not isinstance(self.A, LinearOperator):
            raise ValueError(
                f"Problem A: expected a linear operator, as XRay, got {self.A!r}; correct the data to line "
                "integrals (EnergyIntegrating, water_correction), or use recon.gauss_newton and its relatives"
            )
        if not isinstance(self.y, Tensor) or not (self.y.is_floating_point() or self.y.is_complex()):
            got = self.y.dtype if isinstance(self.y, Tensor) else type(self.y).__name__
            raise ValueError(f"Problem y: expected a floating-point or complex tensor, got {got}")
        n = len(self.A.out_shape)
        if tuple(self.y.shape[self.y.ndim - n :]) != self.A.out_shape:
            wanted = ", ".join(map(str, self.A.out_shape))
            raise ValueError(
                f"Problem y: expected shape (*batch, {wanted}) as {self.A!r} gives, got {tuple(self.y.shape)}"
            )
        if getattr(self.A, "complex_data", False) and not self.y.is_complex():
            raise ValueError(f"Problem y: expected complex k-space for {self.A!r}, got {self.y.dtype}")
        if not bool(torch.isfinite(self.y).all()):
            bad = int((~torch.isfinite(self.y)).sum())
            raise ValueError(
                f"Problem y: expected finite data, got {bad} NaN or inf values of {self.y.numel()}"
            )
        if self.noise.data_ndim != n:
            raise ValueError(
                f"Problem noise: data of {self.A!r} have {n} dimensions, the noise model takes the last "
                f"{self.noise.data_ndim} for one image; say {type(self.noise).__name__}(…, data_ndim={n})"
            )
        self.noise.check(self.y)

    def __repr__(self) -> str:
        return f"Problem({self.A!r}, y {self.y.dtype} {tuple(self.y.shape)}, {self.noise!r})"

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the batch, () for a single image."""
        return tuple(self.y.shape[: self.y.ndim - len(self.A.out_shape)])

    @property
    def linear(self) -> Tensor:
        """The data in the range of A (CT: post-log), (*batch, *A.out_shape)."""
        return self.noise.linearise(self.y)

    @property
    def variance(self) -> Tensor:
        """Variance of `linear`, (*batch, *A.out_shape)."""
        return self.noise.variance(self.y)
