"""Prewhitening: coils of one noise level, uncorrelated; and where the noise can be measured."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .coil_compression import mix_coils
from .coils import check_coils, to_images


def noise_covariance(noise: Tensor, scale: float = 1.0) -> Tensor:
    """Ψ = scale · N N* / n: covariance of the coils, Ψ_cd = E n_c conj(n_d); circular noise has mean 0.

    noise  N, (coils, …), every further dimension is samples; a noise scan, or `noise_from_corners(kspace)`
    scale  variance of the data per variance of these samples: receiver bandwidth of the scan over that of the
           noise scan (their dwell times the other way round), 1/averages where the scan was averaged. With
           orthonormal FFTs, cropping an oversampled readout in the image changes nothing

    Returns (coils, coils), Hermitian. Raises ValueError for noise that is not complex or not finite, fewer
    samples than coils, a coil without noise, scale ≤ 0.
    """
    if not isinstance(noise, Tensor) or not noise.is_complex() or noise.ndim < 2:
        got = f"{noise.dtype} {tuple(noise.shape)}" if isinstance(noise, Tensor) else type(noise).__name__
        raise ValueError(f"noise_covariance noise: expected a complex tensor (coils, samples), got {got}")
    if not 0 < scale < math.inf:
        raise ValueError(f"noise_covariance scale: expected a positive number, got {scale}")
    samples = noise.flatten(1).to(torch.complex128)
    coils, n = samples.shape
    if n < coils:
        raise ValueError(
            f"noise_covariance noise: expected at least as many samples as {coils} coils, got {n}"
        )
    if not bool(torch.isfinite(samples).all()):
        raise ValueError("noise_covariance noise: expected finite values, got NaN or inf")
    silent = (samples == 0).all(1).nonzero().flatten().tolist()
    if silent:
        raise ValueError(f"noise_covariance noise: coils {silent} have no noise at all; leave them out")
    return (scale / n * samples @ samples.mH).to(noise.dtype)


class Prewhitening:
    """y' = L⁻¹ y with Ψ = L L*: noise of covariance Ψ becomes uncorrelated with E|n'|² = 1 in every coil.

    The same map for k-space, coil images, maps and noise, so that y = A x + n stays true: afterwards the
    noise is `Gaussian(sigma=1.0)`.

    covariance  Ψ, (coils, coils), as of `noise_covariance`

    Raises ValueError where Ψ is not square, not finite, not Hermitian or not positive definite.
    """

    def __init__(self, covariance: Tensor):
        if not isinstance(covariance, Tensor) or covariance.ndim != 2 or len(set(covariance.shape)) != 1:
            got = tuple(covariance.shape) if isinstance(covariance, Tensor) else type(covariance).__name__
            raise ValueError(f"Prewhitening covariance: expected (coils, coils), got {got}")
        self.covariance = covariance
        psi = covariance.to(torch.complex128)
        if not bool(torch.isfinite(psi).all()):
            raise ValueError("Prewhitening covariance: expected finite values, got NaN or inf")
        if float((psi - psi.mH).abs().max()) > 1e-4 * float(psi.abs().max()):
            raise ValueError("Prewhitening covariance: expected a Hermitian matrix, Ψ = Ψ*")
        root, failed = torch.linalg.cholesky_ex((psi + psi.mH) / 2)
        if int(failed):
            raise ValueError(
                "Prewhitening covariance: expected a positive definite matrix; take more noise samples, or "
                f"leave out coils that combine others (the first {int(failed)} are not independent)"
            )
        self.matrix = torch.linalg.solve_triangular(root, torch.eye(len(psi)).to(root), upper=False)

    def __call__(self, data: Tensor, ndim: int = 2) -> Tensor:
        """L⁻¹ of (*batch, coils, *spatial) with `ndim` spatial dimensions; 1 for noise (coils, samples)."""
        if not data.is_complex():
            raise ValueError(f"Prewhitening data: expected complex data, got {data.dtype}")
        return mix_coils(self.matrix.to(data), data, ndim)

    def __repr__(self) -> str:
        return f"Prewhitening({len(self.matrix)} coils)"


def prewhiten(kspace: Tensor, covariance: Tensor, ndim: int = 2) -> Tensor:
    """L⁻¹ y, Ψ = L L*; (*batch, coils, *spatial): see `Prewhitening`, which keeps L⁻¹ for maps too."""
    check_coils("prewhiten kspace", kspace, ndim)
    return Prewhitening(covariance)(kspace, ndim)


def noise_from_corners(kspace: Tensor, fraction: float = 0.1, ndim: int = 2) -> Tensor:
    """Samples of the corners of k-space, (coils, n), where a smooth object has the least signal.

    A fallback without a noise scan: what signal there is makes the noise look larger. Take
    `noise_covariance(noise_from_corners(kspace))`, or its diagonal.

    kspace    (*batch, coils, *spatial), centred; all images of the batch are one scan
    fraction  of the sampled points, those farthest from the middle (in units of each axis' extent)

    Raises ValueError for bad k-space, and where fewer samples than coils remain.
    """
    check_coils("noise_from_corners kspace", kspace, ndim)
    shape = kspace.shape[-ndim:]
    radius = sum(
        ((torch.arange(n, dtype=torch.float64) - n // 2) / n).square().reshape(-1, *(1,) * (ndim - 1 - axis))
        for axis, n in enumerate(shape)
    )
    assert isinstance(radius, Tensor)
    flat = kspace.reshape(-1, *kspace.shape[-ndim - 1 :])
    sampled = (flat != 0).any(1)
    return _farthest(
        "noise_from_corners", flat, radius.to(kspace.device).expand_as(sampled), sampled, fraction
    )


def noise_from_border(kspace: Tensor, fraction: float = 0.1, ndim: int = 2) -> Tensor:
    """Samples of the corners of the coil images, (coils, n), where there is air; for fully sampled k-space.

    The orthonormal FFT keeps noise white and of its size, so these have the covariance of k-space noise.
    Parameters and errors of `noise_from_corners`; besides, undersampled k-space is an error, as its images
    alias into their corners.
    """
    check_coils("noise_from_border kspace", kspace, ndim)
    if not bool((kspace != 0).any(-ndim - 1).all()):
        raise ValueError(
            "noise_from_border kspace: not fully sampled, aliases fill the border; use noise_from_corners"
        )
    return noise_from_corners(to_images(kspace, tuple(range(-ndim, 0))), fraction, ndim)


def _farthest(name: str, data: Tensor, radius: Tensor, there: Tensor, fraction: float) -> Tensor:
    """(images, coils, *spatial) where radius is among the largest `fraction` of those there."""
    if not 0 < fraction <= 1:
        raise ValueError(f"{name} fraction: expected a number in (0, 1], got {fraction}")
    limit = torch.quantile(_thinned(radius[there]), 1 - fraction)
    picked = data.movedim(1, 0)[:, there & (radius >= limit)]
    if picked.shape[1] < len(picked):
        raise ValueError(
            f"{name}: {picked.shape[1]} samples are too few for {len(picked)} coils; raise fraction"
        )
    return picked


def _thinned(values: Tensor, most: int = 2**20) -> Tensor:
    """Every so-manyth value: torch.quantile takes 16 million at most."""
    return values[:: max(1, len(values) // most)]
