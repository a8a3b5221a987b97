"""Cartesian k-space with its coil maps, mask and noise, as a problem."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import Gaussian, LinearOperator, Sense

from ..problem import Problem
from ..scaling import estimate_sigma

NO_MAPS = (
    "mri_problem maps: {} coils need sensitivities; estimate them with operators.espirit, or combine the "
    "images of the coils by their root sum of squares"
)


def mri_problem(
    kspace: Tensor,
    mask: Tensor | None = None,
    maps: Tensor | None = None,
    sigma: float | None = None,
    pixel_size: float | Sequence[float] = 1.0,
) -> Problem:
    """y = M F S x + n of Cartesian k-space: `Sense(mask, maps)` with noise where something was measured.

    kspace : ([frames,] coils, [kz,] ky, kx), complex; values outside the mask are set to 0
    mask : bool, ([frames,] [kz,] ky, kx) or broadcasting to it; None: everything was measured
    maps : (coils, [nz,] ny, nx); None for one coil, whose data may leave out the dimension of coils
    sigma : of the noise, E|n|² = σ²; None: `estimate_sigma`, from the edge of k-space
    pixel_size : [mm], one number or one for every spatial axis; three say that one coil's data are a volume

    Raises ValueError for several coils without maps, k-space that is not complex, and an empty mask.
    """
    if not isinstance(kspace, Tensor) or not kspace.is_complex():
        got = kspace.dtype if isinstance(kspace, Tensor) else type(kspace).__name__
        raise ValueError(f"mri_problem kspace: expected a complex tensor, got {got}")
    ndim = 2 if maps is None else maps.ndim - 1
    ndim = ndim if isinstance(pixel_size, float | int) else len(pixel_size)
    if maps is None and kspace.ndim > ndim:
        if kspace.shape[-ndim - 1] != 1:
            raise ValueError(NO_MAPS.format(kspace.shape[-ndim - 1]))
        kspace = kspace.squeeze(-ndim - 1)
    shape = kspace.shape if maps is None else (*kspace.shape[: -ndim - 1], *kspace.shape[-ndim:])
    mask = torch.ones(shape[-ndim:], dtype=torch.bool) if mask is None else mask
    sides = (float(pixel_size),) * ndim if isinstance(pixel_size, float | int) else tuple(pixel_size)
    sides = (1.0,) * (len(shape) - ndim) + sides  # frames are one step apart
    if maps is not None:
        maps = maps.to(kspace.dtype)
    A = Sense(mask, maps, shape=shape, ndim=ndim, pixel_size=sides)
    y = kspace.masked_fill(~A.sampled.to(kspace.device), 0)
    return Problem(A, y, Gaussian(known(A, y, sigma), data_ndim=len(A.out_shape), mask=A.sampled))


def known(A: LinearOperator, y: Tensor, sigma: float | None) -> float:
    """σ as given, or of the edge of k-space; an error where nothing is there."""
    if sigma is None:
        sigma = float(estimate_sigma(A, y))
        if not sigma > 0:
            raise ValueError("mri_problem sigma: the edge of k-space holds no noise to measure; say sigma")
    return sigma


def centre_crop(image: Tensor, shape: Sequence[int]) -> Tensor:
    """The middle of the last dimensions, what lay at n // 2 again at n // 2; never grows."""
    for axis, n in zip(range(-len(shape), 0), shape, strict=True):
        have = image.shape[axis]
        kept = min(int(n), have)
        image = image.narrow(axis, have // 2 - kept // 2, kept)
    return image
