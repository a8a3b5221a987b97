"""From an image to raw data: project finely, bin as the detector does, add noise, keep the truth apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from operators import LowDose, Poisson, XRay
from operators.geometry import PlanarGeometry
from operators.noise import NoiseModel
from operators.volume import VolumeGeometry

from ..problem import Problem
from .ellipses import Ellipses
from .ellipsoids import Ellipsoids

AT_ONCE = 2**26  # fine rays of volumes held while they are averaged


def simulate(
    fine: Tensor,
    geometry: PlanarGeometry | VolumeGeometry,
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
        of view, so for CT it is attenuation [1/mm] on pixels of `geometry.extent` / (ny, nx); a volume
        (*batch, nz, ny, nx) likewise
    geometry : the scanner, on the grid of the reconstruction
    noise : the law of the raw data, for volumes with data_ndim=3; its open parameters are fixed for the clean
        data
    seed : one for all images or one per image
    oversampling : sub-bins a detector bin, of volumes along rows and columns
    inverse_crime : allow an image on the very grid of the reconstruction (with oversampling=1 data and
        reconstruction then share one model)
    backend : of `XRay`, for both projections

    Returns the problem, y (*batch, views, bins) or (*batch, views, rows, columns), and the truth (*batch,
    *geometry.in_shape).
    """
    _check_image(fine, noise, len(geometry.in_shape))
    _check_oversampling("oversampling", oversampling)
    if isinstance(geometry, VolumeGeometry):
        return _simulate_volume(fine, geometry, noise, seed, oversampling, inverse_crime, backend)
    shape = (fine.shape[-2], fine.shape[-1])
    _check_aspect(shape, geometry.image_shape)
    _check_finer(shape, geometry.image_shape, inverse_crime)
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


def simulate_ellipsoids(
    ellipsoids: Ellipsoids,
    geometry: VolumeGeometry,
    noise: NoiseModel,
    seed: int = 0,
    oversampling: int = 2,
    dtype: torch.dtype = torch.float32,
    backend: str = "auto",
) -> tuple[Problem, Tensor]:
    """As `simulate`, from exact line integrals of `oversampling`² rays a detector pixel.

    Returns the problem, y (views, rows, columns), and the truth (nz, ny, nx).
    """
    _check_oversampling("oversampling", oversampling)
    _check_volume_noise(noise)
    fine = geometry.refined(geometry.volume_shape, oversampling)
    clean = torch.cat(
        [
            _pixel_mean(ellipsoids.line_integrals(fine.subset(views)).to(dtype), noise, oversampling)
            for views in _some_views(fine, 1)
        ]
    )
    _check_sign(clean, noise, "line integrals")
    truth = ellipsoids.rasterise(geometry.volume_shape, geometry.voxel_size, 4 * oversampling).to(dtype)
    noise = noise.at(clean)
    return Problem(XRay(geometry, backend), noise(clean, seed=seed), noise), truth


def averaged(image: Tensor, shape: tuple[int, ...]) -> Tensor:
    """W_y · image · W_xᵀ, its mean over each pixel of a coarser grid: (*batch, ny, nx) -> (*batch, *shape).

    W[i, j] is the share of coarse pixel i that fine pixel j covers, whatever the ratio. Volumes likewise.
    """
    if len(shape) == 3:
        slices = _overlap(image, shape[0], image.shape[-3])
        image = (slices @ image.flatten(-2)).unflatten(-1, image.shape[-2:])
    rows, columns = (_overlap(image, n, m) for n, m in zip(shape[-2:], image.shape[-2:], strict=True))
    return rows @ image @ columns.T


def _simulate_volume(
    fine: Tensor,
    geometry: VolumeGeometry,
    noise: NoiseModel,
    seed: int | Sequence[int],
    oversampling: int,
    inverse_crime: bool,
    backend: str,
) -> tuple[Problem, Tensor]:
    _check_volume_noise(noise)
    shape = (fine.shape[-3], fine.shape[-2], fine.shape[-1])
    _check_finer(shape, geometry.volume_shape, inverse_crime)
    finely = geometry.refined(shape, oversampling)
    parts = []
    for views in _some_views(finely, math.prod(fine.shape[:-3])):
        parts.append(_pixel_mean(XRay(finely.subset(views), backend)(fine), noise, oversampling))
    clean = torch.cat(parts, -3)
    noise = noise.at(clean)
    problem = Problem(XRay(geometry, backend), noise(clean, seed=seed), noise)
    return problem, averaged(fine, geometry.volume_shape)


def _some_views(fine: VolumeGeometry, batch: int) -> Iterator[range]:
    views, rows, columns = fine.out_shape
    step = max(1, AT_ONCE // (max(batch, 1) * rows * columns))
    return (range(first, min(first + step, views)) for first in range(0, views, step))


def _pixel_mean(finely: Tensor, noise: NoiseModel, oversampling: int) -> Tensor:
    """Every detector pixel as the noise model sees its oversampling² parts."""
    rows, columns = (n // oversampling for n in finely.shape[-2:])
    parts = finely.unflatten(-1, (columns, oversampling)).unflatten(-3, (rows, oversampling))
    return noise.average(parts.transpose(-3, -2).flatten(-2))


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


def _check_volume_noise(noise: NoiseModel) -> None:
    if noise.data_ndim != 3:
        raise ValueError(
            "simulate noise: data of volumes are (views, rows, columns), expected data_ndim=3, got "
            f"{noise!r}; say {type(noise).__name__}(…, data_ndim=3)"
        )


def _check_image(fine: Tensor, noise: NoiseModel, ndim: int) -> None:
    if not isinstance(fine, Tensor) or not fine.is_floating_point():
        got = fine.dtype if isinstance(fine, Tensor) else type(fine).__name__
        raise ValueError(f"simulate fine: expected a real floating-point tensor, got {got}: use .float()")
    if fine.ndim < ndim:
        wanted = "nz, ny, nx" if ndim == 3 else "ny, nx"
        raise ValueError(f"simulate fine: expected (*batch, {wanted}), got shape {tuple(fine.shape)}")
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


def _check_aspect(shape: tuple[int, int], wanted: tuple[int, int]) -> None:
    if not math.isclose(shape[0] * wanted[1], shape[1] * wanted[0], rel_tol=1e-9):
        raise ValueError(
            f"simulate fine: its {shape[0]} × {shape[1]} pixels have another aspect than the field of view "
            f"of the geometry, {wanted[0]} × {wanted[1]}; crop or pad it to the same field"
        )


def _check_finer(shape: tuple[int, ...], wanted: tuple[int, ...], inverse_crime: bool) -> None:
    got, grid = (" × ".join(map(str, size)) for size in (shape, wanted))
    what, unit = ("a volume", "voxels") if len(shape) == 3 else ("an image", "pixels")
    if any(n < m for n, m in zip(shape, wanted, strict=True)):
        raise ValueError(
            f"simulate fine: {got} {unit} are coarser than the reconstruction's {grid}; give a finer "
            f"{what.split()[1]} or reconstruct on fewer {unit}"
        )
    if shape == wanted and not inverse_crime:
        raise ValueError(
            f"simulate fine: {what} on the grid of the reconstruction ({grid}) flatters every method; give a "
            f"finer one, or say inverse_crime=True"
        )


def _check_oversampling(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"simulate {name}: expected a whole number of at least 1, got {value!r}")
