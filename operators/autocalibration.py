"""ESPIRiT: coil sensitivities as eigenvectors of what the calibration region says about k-space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .coils import _BLOCK, Reference, centre, check_coils, leading, normalised, sampled_centre

_LARGEST = 32  # of a region found by itself: farther out is mostly noise


class EspiritMaps(NamedTuple):
    """What `espirit` found.

    maps         S, (*batch, coils, *spatial), or (*batch, maps, coils, *spatial) for several; Σ_c |S_c|² is
                 1, or 0 where the eigenvalue is below `crop`
    eigenvalues  of G, (*batch, *spatial) or (*batch, maps, *spatial): about 1 where there is an object
    """

    maps: Tensor
    eigenvalues: Tensor


@torch.no_grad()
def espirit(
    kspace: Tensor,
    calibration: int | Sequence[int] | None = 24,
    kernel: int | Sequence[int] = 6,
    threshold: float = 0.02,
    crop: float = 0.95,
    maps: int = 1,
    reference: Reference = "virtual",
    ndim: int = 2,
) -> EspiritMaps:
    """G(r) S(r) = S(r), G_cd(r) = K⁻¹ Σ_l e^{2πi l·r/n} Σ_{j−j'=l} (V V*)_{cj,dj'}: maps from k-space.

    Uecker et al., Magn. Reson. Med. 71 (2014). V are the left singular vectors of the patches (coils ×
    kernel) of the calibration region, K the points of a kernel; G is the mean, over patches, of the
    projection onto what patches can be, seen in the image. It is a trigonometric polynomial of
    2·kernel − 1 terms an axis, evaluated block of pixels by block of pixels: memory is that of the maps and
    of (coils · K)² numbers.

    kspace       (*batch, coils, *spatial), centred; only the calibration region has to be sampled
    calibration  side of the centre used, one number or one per axis; None: the largest fully sampled box
                 around the middle, at most 32 along an axis
    kernel       side of a patch, one number or one per axis
    threshold    keep singular values above this fraction of the largest, as sigpy; BART's -t is its square
    crop         S = 0 where the eigenvalue is below
    maps         how many sets: 2 where the object is larger than the field of view (soft SENSE)
    reference    whose phase is made 0, as in `normalised`: a coil by number, or "virtual"

    The maps' phase is that of the coils relative to `reference`; the true one can not be known from k-space.
    Raises ValueError for k-space that is not complex, not finite or zero, a calibration region that is larger
    than the grid, not sampled or smaller than the kernel.
    """
    check_coils("espirit kspace", kspace, ndim)
    shape, coils = kspace.shape[-ndim:], kspace.shape[-ndim - 1]
    size = (kernel,) * ndim if isinstance(kernel, int) else tuple(kernel)
    if len(size) != ndim or min(size) < 1:
        raise ValueError(f"espirit kernel: expected a side ≥ 1, or {ndim} of them, got {kernel}")
    if not 0 <= threshold < 1 or not 1 <= maps <= coils:
        raise ValueError(
            f"espirit: expected 0 ≤ threshold < 1 and 1 ≤ maps ≤ {coils} coils, got {threshold=}, {maps=}"
        )
    found = [_one(k, calibration, size, threshold, maps) for k in kspace.reshape(-1, coils, *shape)]
    values = torch.stack([f[0] for f in found])
    vectors = torch.stack([f[1] for f in found])
    seen = values > crop
    if not bool(seen[:, 0].flatten(1).any(1).all()):
        raise ValueError(
            f"espirit crop: no eigenvalue above {crop}, the largest is {float(values.max()):.3f}; lower "
            "crop, or use a smaller threshold or a larger calibration region"
        )
    vectors = vectors * seen.unsqueeze(2)
    for m in range(maps):
        used = seen[:, m].flatten(1).any(1)
        if bool(used.any()):  # of a second set there may be nothing
            vectors[used, m] = normalised(vectors[used, m], reference, ndim)
    batch = kspace.shape[: -ndim - 1]
    vectors, values = vectors.reshape(*batch, maps, coils, *shape), values.reshape(*batch, maps, *shape)
    if maps == 1:
        return EspiritMaps(vectors.squeeze(-ndim - 2), values.squeeze(-ndim - 1))
    return EspiritMaps(vectors, values)


def _one(
    kspace: Tensor,
    calibration: int | Sequence[int] | None,
    size: tuple[int, ...],
    threshold: float,
    maps: int,
) -> tuple[Tensor, Tensor]:
    """Eigenvalues (maps, *spatial) and eigenvectors (maps, coils, *spatial) of one image."""
    coils, *shape = kspace.shape
    region = calibration_data("espirit", kspace, calibration, size)
    h = _lags(_signal_space(region, size, threshold), coils, size).to(kspace.dtype)
    values = kspace.real.new_empty(maps, math.prod(shape))
    vectors = kspace.new_empty(maps, coils, math.prod(shape))
    done = 0
    for gram in _evaluated(h, shape):
        top, vector = leading(gram, maps)
        part = slice(done, done + len(gram))
        values[:, part], vectors[:, :, part] = top.T, vector.permute(2, 1, 0)
        done += len(gram)
    return values.reshape(maps, *shape), vectors.reshape(maps, coils, *shape)


def calibration_data(
    name: str, kspace: Tensor, calibration: int | Sequence[int] | None, size: Sequence[int]
) -> Tensor:
    """The calibration region of one image, (coils, *region); sampled, and larger than a kernel."""
    sampled = (kspace != 0).any(0)
    if calibration is None:
        box = sampled_centre(sampled)
        middles = [n // 2 for n in sampled.shape]
        box = tuple(
            slice(max(b.start, m - _LARGEST // 2), min(b.stop, m + _LARGEST // 2))
            for b, m in zip(box, middles, strict=True)
        )
    else:
        box = centre(calibration, sampled.shape, sampled)
    missing = int((~sampled[box]).sum())
    if missing:
        raise ValueError(
            f"{name} calibration: {missing} points of the centre {calibration} are zero in every coil, so "
            "not sampled; use a smaller region, or None to find it"
        )
    region = kspace[(slice(None), *box)]
    if any(c < k for c, k in zip(region.shape[1:], size, strict=True)):
        raise ValueError(
            f"{name} calibration: the region {tuple(region.shape[1:])} is smaller than the kernel "
            f"{tuple(size)}; use a smaller kernel, or sample more of the centre"
        )
    return region


def _signal_space(region: Tensor, size: tuple[int, ...], threshold: float) -> Tensor:
    """V, (coils · K, rank): the directions of patches, from the eigenvectors of their Gram matrix."""
    patches = region.to(torch.complex128)
    for axis, k in enumerate(size, start=1):
        patches = patches.unfold(axis, k, 1)
    coils, n = patches.shape[0], len(size)
    gram = patches.new_zeros(coils * math.prod(size), coils * math.prod(size))
    for rows in patches.unbind(1):  # the matrix of all patches would be as large as a volume
        p = rows.movedim(0, n - 1).reshape(-1, len(gram))
        gram += p.mT @ p.conj()
    values, vectors = torch.linalg.eigh(gram)
    # rounding of the Gram matrix never counts as signal
    return vectors[:, values > max(threshold**2, 1e-14) * values[-1]]


def _lags(V: Tensor, coils: int, size: tuple[int, ...]) -> Tensor:
    """h_cd(l) = K⁻¹ Σ_{j−j'=l} (V V*)_{cj,dj'}, (coils, coils, *(2·size − 1)), l in the order of an FFT."""
    wide, axes = [2 * k - 1 for k in size], tuple(range(1, len(size) + 1))
    spectra = torch.fft.fftn(V.reshape(coils, *size, -1), s=wide, dim=axes).movedim(0, -2)
    gram = spectra @ spectra.mH / math.prod(size)
    return torch.fft.ifftn(gram, dim=tuple(range(len(size)))).movedim((-2, -1), (0, 1))


def _evaluated(h: Tensor, shape: Sequence[int]) -> Iterator[Tensor]:
    """G(r), (pixels, coils, coils) for one block of pixels after the other, in their order."""
    n, *rest = shape
    waves = _waves(n, h.shape[2], h)
    if len(rest) > 1:
        for wave in waves:
            yield from _evaluated(torch.tensordot(h, wave, dims=([2], [0])), rest)
        return
    columns = _waves(rest[0], h.shape[3], h)
    coils = h.shape[0]
    rows = max(1, _BLOCK // (coils**2 * rest[0]))
    inner = torch.tensordot(columns, h, dims=([1], [3]))  # (nx, coils, coils, lags)
    for block in waves.split(rows):
        yield torch.tensordot(block, inner, dims=([1], [3])).reshape(-1, coils, coils)


def _waves(n: int, lags: int, like: Tensor) -> Tensor:
    """e^{2πi l r/n}, (n, lags), r counted from n // 2, l in the order of an FFT."""
    r = torch.arange(n, dtype=torch.float64) - n // 2
    lag = torch.fft.fftfreq(lags, 1 / lags, dtype=torch.float64)
    angle = 2 * math.pi / n * torch.outer(r, lag)
    return torch.polar(torch.ones_like(angle), angle).to(like)
