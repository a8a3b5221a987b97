"""From an image to raw data: project finely, bin as the detector does, add noise, keep the truth apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from operators import LowDose, Poisson, XRay
from operators.geometry import PlanarGeometry
from operators.noise import NoiseModel

from ..problem import Problem
from .ellipses import Ellipses


def simulate(
    fine: Tensor,
    geometry: PlanarGeometry,
    noise: NoiseModel,
    seed: int | Sequence[int] = 0,
    oversampling: int = 2,
    inverse_crime: bool = False,
    backend: str = "auto",
) -> tuple[Problem, Tensor]:
    """Y ~ noise(average of the sub-bins of A_fine x), truth = x averaged onto the reconstruction grid.

    Sub-bins are averaged as the noise model sees them, counting models in intensity, so the data hold the
    partial-volume effects that the reconstruction's model does not know.

    fine : the object, (*batch, ny, nx) with more pixels than `geometry.image_shape`; it covers the same field
        of view, so for CT it is attenuation [1/mm] on pixels of `geometry.extent` / (ny, nx)
    geometry : the scanner, on the grid of the reconstruction
    noise : the law of the raw data; its open parameters are fixed for the clean data
    seed : one for all images or one per image
    oversampling : sub-bins a detector bin
    inverse_crime : allow an image on the very grid of the reconstruction (with oversampling=1 data and
        reconstruction then share one model)
    backend : of `XRay`, for both projections

    Returns the problem, y (*batch, views, bins), and the truth (*batch, *geometry.image_shape).
    """
    _check_image(fine, noise)
    _check_oversampling("oversampling", oversampling)
    shape = (fine.shape[-2], fine.shape[-1])
    _check_grid(shape, geometry, inverse_crime)
    finely = XRay(geometry.refined(shape, oversampling), backend)(fine)
    return _observed(finely, geometry, noise, seed, oversampling, backend), averaged(
        fine, geometry.image_shape
    )


def simulate_ellipses(
    ellipses: Ellipses,
    geometry: PlanarGeometry,
    noise: NoiseModel,
    seed: int = 0,
    oversampling: int = 8,
    dtype: torch.dtype = torch.float32,
    backend: str = "auto",
) -> tuple[Problem, Tensor]:
    """As `simulate`, from exact line integrals of `oversampling` rays a bin and a truth sampled finer still.

    Returns the problem, y (views, bins), and the truth (ny, nx).
    """
    _check_oversampling("oversampling", oversampling)
    size = geometry.bin_size / oversampling
    rays = replace(geometry, n_bins=geometry.n_bins * oversampling, bin_size=size)
    finely = ellipses.line_integrals(rays).to(dtype)
    _check_sign(finely, noise, "line integrals")
    truth = ellipses.rasterise(geometry.image_shape, geometry.pixel_size, 4 * oversampling).to(dtype)
    return _observed(finely, geometry, noise, seed, oversampling, backend), truth


def averaged(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """W_y · image · W_xᵀ, its mean over each pixel of a coarser grid: (*batch, ny, nx) -> (*batch, *shape).

    W[i, j] is the share of coarse pixel i that fine pixel j covers, whatever the ratio.
    """
    rows, columns = (_overlap(image, n, m) for n, m in zip(shape, image.shape[-2:], strict=True))
    return rows @ image @ columns.T


def _overlap(image: Tensor, coarse: int, fine: int) -> Tensor:
    """(coarse, fine): |[i, i+1) · fine/coarse ∩ [j, j+1)| · coarse/fine."""
    ratio = fine / coarse
    i = torch.arange(coarse, dtype=torch.float64)[:, None] * ratio
    j = torch.arange(fine, dtype=torch.float64)[None]
    share = (torch.minimum(i + ratio, j + 1) - torch.maximum(i, j)).clamp_min(0) / ratio
    return share.to(image)


def _observed(
    finely: Tensor,
    geometry: PlanarGeometry,
    noise: NoiseModel,
    seed: int | Sequence[int],
    oversampling: int,
    backend: str,
) -> Problem:
    clean = noise.average(finely.unflatten(-1, (geometry.n_bins, oversampling)))
    noise = noise.at(clean)
    return Problem(XRay(geometry, backend), noise(clean, seed=seed), noise)


def _check_image(fine: Tensor, noise: NoiseModel) -> None:
    if not isinstance(fine, Tensor) or not fine.is_floating_point():
        got = fine.dtype if isinstance(fine, Tensor) else type(fine).__name__
        raise ValueError(f"simulate fine: expected a real floating-point tensor, got {got}: use .float()")
    if fine.ndim < 2:
        raise ValueError(f"simulate fine: expected (*batch, ny, nx), got shape {tuple(fine.shape)}")
    if not bool(torch.isfinite(fine).all()):
        bad = int((~torch.isfinite(fine)).sum())
        raise ValueError(f"simulate fine: expected finite values, got {bad} NaN or inf of {fine.numel()}")
    _check_sign(fine, noise, "fine")


def _check_sign(values: Tensor, noise: NoiseModel, name: str) -> None:
    if isinstance(noise, LowDose | Poisson) and values.numel() and float(values.min()) < 0:
        raise ValueError(
            f"simulate {name}: {type(noise).__name__} expects no negative values (attenuation [1/mm], not "
            f"HU), got {float(values.min()):g}; clamp it, or convert with operators.to_attenuation"
        )


def _check_grid(shape: tuple[int, int], geometry: PlanarGeometry, inverse_crime: bool) -> None:
    wanted = geometry.image_shape
    if not math.isclose(shape[0] * wanted[1], shape[1] * wanted[0], rel_tol=1e-9):
        raise ValueError(
            f"simulate fine: its {shape[0]} × {shape[1]} pixels have another aspect than the field of view "
            f"of the geometry, {wanted[0]} × {wanted[1]}; crop or pad it to the same field"
        )
    if shape[0] < wanted[0]:
        raise ValueError(
            f"simulate fine: {shape[0]} × {shape[1]} pixels are coarser than the reconstruction's "
            f"{wanted[0]} × {wanted[1]}; give a finer image or reconstruct on fewer pixels"
        )
    if shape == wanted and not inverse_crime:
        raise ValueError(
            f"simulate fine: an image on the grid of the reconstruction ({wanted[0]} × {wanted[1]}) flatters "
            f"every method; give a finer one, or say inverse_crime=True"
        )


def _check_oversampling(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"simulate {name}: expected a whole number of at least 1, got {value!r}")
