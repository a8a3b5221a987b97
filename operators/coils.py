"""Coil images and coil sensitivities: combining, normalising, simulating and estimating them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Reference = int | Literal["virtual"] | None

_BLOCK = 2**22  # complex numbers held at once where every pixel has a matrix


def root_sum_of_squares(images: Tensor, ndim: int = 2) -> Tensor:
    """|x| = (Σ_c |x_c|²)^½; (*batch, coils, *spatial) -> (*batch, *spatial), real.

    Roemer et al., Magn. Reson. Med. 16 (1990). Differentiable, with slope 0 where every coil is 0.

    images  coil images, complex or real
    ndim    how many dimensions are spatial
    """
    if not isinstance(images, Tensor) or images.ndim <= ndim:
        raise ValueError(
            f"root_sum_of_squares images: expected (*batch, coils, {_axes(ndim)}), got {_got(images)}"
        )
    return torch.linalg.vector_norm(images, dim=-ndim - 1)


def combine(images: Tensor, maps: Tensor, ndim: int | None = None) -> Tensor:
    """x = Σ_c conj(S_c) x_c / Σ_c |S_c|²: least squares at unit noise, 0 where no coil sees anything.

    images  (*batch, coils, *spatial)
    maps    S, (coils, *spatial), or one set per image (*batch, coils, *spatial), then say ndim

    Raises ValueError where their coils or pixels differ.
    """
    ndim = maps.ndim - 1 if ndim is None else ndim
    if images.ndim <= ndim or images.shape[-ndim - 1 :] != maps.shape[-ndim - 1 :]:
        raise ValueError(
            f"combine images: expected (*batch, {', '.join(map(str, maps.shape[-ndim - 1 :]))}) as the maps, "
            f"got {tuple(images.shape)}"
        )
    power = maps.abs().square().sum(-ndim - 1)
    return (maps.conj() * images).sum(-ndim - 1) / torch.where(power > 0, power, 1)


def normalised(maps: Tensor, reference: Reference = 0, ndim: int = 2) -> Tensor:
    """S_c / (Σ_c |S_c|²)^½ where some coil sees something, 0 elsewhere: then ‖Sense‖ ≤ 1 and RSS = |x|.

    maps       (*batch, coils, *spatial)
    reference  whose phase is made 0: a coil by number; "virtual", the coils' principal combination u*S (its
               largest weight made positive), which rarely vanishes in the object; None keeps the phase
    ndim       how many dimensions are spatial

    Raises ValueError for maps that are not complex, not finite or zero everywhere.
    """
    check_coils("normalised maps", maps, ndim)
    power = torch.linalg.vector_norm(maps, dim=-ndim - 1, keepdim=True)
    maps = maps / torch.where(power > 0, power, 1)
    if reference is None:
        return maps
    coils = maps.shape[-ndim - 1]
    if reference == "virtual":
        u = _principal(maps, ndim)
        v = (u.conj().reshape(*u.shape, *(1,) * ndim) * maps).sum(-ndim - 1, keepdim=True)
    elif isinstance(reference, int) and -coils <= reference < coils:
        v = maps.select(-ndim - 1, reference).unsqueeze(-ndim - 1)
    else:
        raise ValueError(
            f'normalised reference: expected a coil below {coils}, "virtual" or None, got {reference!r}'
        )
    return maps * torch.where(v != 0, v.conj().sgn(), 1)


def birdcage(
    coils: int,
    shape: Sequence[int],
    radius: float = 1.5,
    per_ring: int = 8,
    dtype: torch.dtype = torch.complex64,
) -> Tensor:
    """S_c(r) ∝ exp(i φ_c(r)) / |r − r_c|, φ_c = atan2(x − x_c, y_c − y) − 2πc/C, Σ_c |S_c|² = 1.

    Loops on a ring around the field of view, which spans −1 … 1 along every axis (x = (column − nx/2)/(nx/2)
    and so on); r_c = radius·(cos 2πc/C, sin 2πc/C) as (x, y). Volumes have rings of `per_ring` coils one
    above the other. The phantom sensitivities of sigpy and the ISMRMRD tools.

    coils   how many, C
    shape   (ny, nx) or (nz, ny, nx)
    radius  of the ring, > 0; 1 touches the middle of the border

    Returns (coils, *shape).
    """
    shape = tuple(shape)
    if coils < 1 or len(shape) not in (2, 3) or min(shape, default=0) < 1 or not 0 < radius < math.inf:
        raise ValueError(
            f"birdcage: expected coils ≥ 1, shape (ny, nx) or (nz, ny, nx), radius > 0, got "
            f"{coils=}, {shape=}, {radius=}"
        )
    in_ring = coils if len(shape) == 2 else per_ring
    c = torch.arange(coils, dtype=torch.float64).reshape(-1, *(1,) * len(shape))
    ring = torch.floor(c / in_ring)
    angle = 2 * math.pi * c / in_ring
    axes = [(torch.arange(n, dtype=torch.float64) - n / 2) / (n / 2) for n in shape]
    *z, y, x = torch.meshgrid(*axes, indexing="ij")
    x, y = x - radius * angle.cos(), y - radius * angle.sin()
    square = x.square() + y.square()
    if z:
        square = square + (z[0] - ring + (math.ceil(coils / in_ring) - 1) / 2).square()
    phase = torch.atan2(x, -y) - angle - 2 * math.pi / in_ring * ring
    maps = torch.polar(square.rsqrt(), phase)
    return (maps / torch.linalg.vector_norm(maps, dim=0)).to(dtype)


def low_frequency_maps(
    kspace: Tensor,
    calibration: int | Sequence[int] = 24,
    threshold: float = 0.05,
    reference: Reference = "virtual",
    ndim: int = 2,
) -> Tensor:
    """S_c = x_c / (Σ_c |x_c|²)^½ of the images x of the centre of k-space under a Hann window.

    McKenzie et al., Magn. Reson. Med. 47 (2002). Quick and crude: S carries the phase of the object.

    kspace       (*batch, coils, *spatial), centred; only the centre has to be sampled
    calibration  side of the centre, one number or one per axis
    threshold    S = 0 where the smooth image is below this fraction of its maximum
    reference    whose phase is made 0, as in `normalised`

    Returns (*batch, coils, *spatial). Raises ValueError for k-space that is not complex, not finite or zero.
    """
    check_coils("low_frequency_maps kspace", kspace, ndim)
    shape, axes = kspace.shape[-ndim:], tuple(range(-ndim, 0))
    for axis, (n, width) in enumerate(zip(shape, sides(calibration, shape), strict=True)):
        k = torch.arange(n, dtype=torch.float64) - n // 2
        hann = torch.where(k.abs() < width / 2, 0.5 + 0.5 * torch.cos(2 * math.pi * k / width), 0)
        kspace = kspace * hann.to(kspace.real).reshape(-1, *(1,) * (ndim - 1 - axis))
    images = to_images(kspace, axes)
    size = root_sum_of_squares(images, ndim).unsqueeze(-ndim - 1)
    seen = size > threshold * size.amax(axes, keepdim=True)
    return normalised(images * seen, reference, ndim)


def walsh(
    images: Tensor,
    window: int = 7,
    threshold: float = 0.0,
    reference: Reference = "virtual",
    ndim: int = 2,
) -> Tensor:
    """S(r) = the leading eigenvector of Σ_{|r'−r| ≤ window/2} x(r') x(r')*, the coils' covariance around r.

    Walsh, Gmitro, Marcellin, Magn. Reson. Med. 43 (2000), for white noise of one size in all coils
    (`prewhiten`). `combine(images, walsh(images))` is their adaptive combination.

    images     (*batch, coils, *spatial), complex
    window     side of the box of pixels, odd
    threshold  S = 0 where the root of the summed |x|² in the box is below this fraction of its maximum
    reference  whose phase is made 0, as in `normalised`

    Returns (*batch, coils, *spatial), Σ|S|² = 1 or 0. Raises ValueError for images that are not complex, not
    finite or zero everywhere, and for an even window.
    """
    check_coils("walsh images", images, ndim)
    if window < 1 or window % 2 == 0:
        raise ValueError(f"walsh window: expected an odd number of pixels, got {window}")
    flat = images.reshape(-1, *images.shape[-ndim - 1 :])
    maps = torch.stack([_walsh(image, window, threshold) for image in flat])
    return normalised(maps.reshape(images.shape), reference, ndim)


def _walsh(image: Tensor, window: int, threshold: float) -> Tensor:
    """One image, slab by slab along its first axis."""
    (coils, n, *rest), half = image.shape, window // 2
    rows = max(1, _BLOCK // (coils**2 * math.prod(rest)))
    low, high = torch.tril_indices(coils, coils)
    maps, power = torch.empty_like(image), torch.empty_like(image[0].real)
    for start in range(0, n, rows):
        stop, first = min(start + rows, n), max(start - half, 0)
        slab = image[:, first : stop + half]
        pairs = _box(slab[low] * slab[high].conj(), window)[:, start - first : stop - first]
        gram = pairs.new_zeros(*pairs.shape[1:], coils, coils)
        gram[..., low, high] = pairs.movedim(0, -1)
        power[start:stop] = gram.diagonal(dim1=-2, dim2=-1).real.sum(-1)
        maps[:, start:stop] = leading(gram, 1)[1][..., 0].movedim(-1, 0)
    # threshold of amplitude, and never a direction of pure rounding
    floor = max(threshold**2, torch.finfo(power.dtype).eps ** 2)
    return maps * (power > floor * power.max())


def _box(x: Tensor, window: int) -> Tensor:
    """Sum over a box, zeros outside; (pairs, *spatial)."""
    pool = functional.avg_pool2d if x.ndim == 3 else functional.avg_pool3d
    parts = torch.view_as_real(x).movedim(-1, 1)
    return torch.view_as_complex(pool(parts, window, 1, window // 2).movedim(1, -1).contiguous())


def leading(gram: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues, falling, (…, count), and eigenvectors (…, n, count); lower triangle."""
    values, vectors = torch.linalg.eigh(gram)
    return values[..., -count:].flip(-1), vectors[..., -count:].flip(-1)


def _principal(maps: Tensor, ndim: int) -> Tensor:
    """u, (*batch, coils), the leading eigenvector of Σ_r S S*, its largest entry positive."""
    flat = maps.flatten(-ndim)
    u = leading(flat @ flat.mH, 1)[1][..., 0]
    largest = u.abs().argmax(-1, keepdim=True)
    return u * u.gather(-1, largest).conj().sgn()


def to_images(kspace: Tensor, axes: Sequence[int]) -> Tensor:
    """x = F* y along some axes, centred and orthonormal."""
    axes = tuple(axes)
    x = torch.fft.ifftn(torch.fft.ifftshift(kspace, dim=axes), dim=axes, norm="ortho")
    return torch.fft.fftshift(x, dim=axes)


def to_kspace(images: Tensor, axes: Sequence[int]) -> Tensor:
    """y = F x along some axes, centred and orthonormal."""
    axes = tuple(axes)
    k = torch.fft.fftn(torch.fft.ifftshift(images, dim=axes), dim=axes, norm="ortho")
    return torch.fft.fftshift(k, dim=axes)


def sides(calibration: int | Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """One side of the calibration region per axis, checked against the grid."""
    n = len(shape)
    found = (calibration,) * n if isinstance(calibration, int) else tuple(calibration)
    if len(found) != n or min(found) < 1 or any(c > s for c, s in zip(found, shape, strict=False)):
        raise ValueError(
            f"calibration: expected {n} sides between 1 and those of the grid {tuple(shape)}, got "
            f"{calibration}"
        )
    return found


def centre(
    calibration: int | Sequence[int], shape: Sequence[int], sampled: Tensor | None = None
) -> tuple[slice, ...]:
    """The middle of the grid, `calibration` wide; with `sampled` (*shape), where that was measured.

    An even width has no middle on an odd side: there one more point lies before DC, as BART and sigpy crop,
    or, where only that was sampled, one more behind it, as fastMRI's masks and ours have it.
    """
    wide = sides(calibration, shape)
    low = [n // 2 - c // 2 for n, c in zip(shape, wide, strict=True)]
    high = [(n - c + 1) // 2 for n, c in zip(shape, wide, strict=True)]
    boxes = [
        tuple(slice(s, s + c) for s, c in zip(starts, wide, strict=True))
        for starts in itertools.product(*({a, b} for a, b in zip(low, high, strict=True)))
    ]
    boxes.sort(key=lambda box: [b.start for b in box])
    return next((b for b in boxes if sampled is not None and bool(sampled[b].all())), boxes[0])


def sampled_centre(sampled: Tensor) -> tuple[slice, ...]:
    """The fully sampled box around the middle of k-space, grown by one on every side in turn.

    sampled  bool, (*spatial). Raises ValueError where not even the middle is sampled.
    """
    low = [n // 2 for n in sampled.shape]
    high = [s + 1 for s in low]

    def box() -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(low, high, strict=True))

    if not bool(sampled[box()].all()):
        raise ValueError(
            "calibration: the middle of k-space is not sampled; there is nothing to calibrate on"
        )
    grows = set(_faces(sampled.ndim))
    while grows:
        for axis, up in _faces(sampled.ndim):
            if (axis, up) not in grows:
                continue
            edge = high[axis] if up else low[axis] - 1
            face = list(box())
            face[axis] = slice(edge, edge + 1)
            if 0 <= edge < sampled.shape[axis] and bool(sampled[tuple(face)].all()):
                low[axis], high[axis] = min(low[axis], edge), max(high[axis], edge + 1)
            else:
                grows.remove((axis, up))
    return box()


def _faces(ndim: int) -> Iterator[tuple[int, bool]]:
    return ((axis, up) for axis in range(ndim) for up in (True, False))


def check_coils(name: str, data: Tensor, ndim: int) -> None:
    """(*batch, coils, *spatial), complex, finite, and something in every image."""
    if ndim not in (2, 3):
        raise ValueError(f"{name}: expected ndim 2 or 3, got {ndim}")
    if not isinstance(data, Tensor) or not data.is_complex():
        raise ValueError(f"{name}: expected a complex tensor, got {_got(data)}; use torch.complex")
    if data.ndim <= ndim or not data.numel():
        raise ValueError(f"{name}: expected (*batch, coils, {_axes(ndim)}), got {tuple(data.shape)}")
    if not bool(torch.isfinite(data).all()):
        raise ValueError(f"{name}: expected finite values, got NaN or inf")
    if not bool((data != 0).flatten(-ndim - 1).any(-1).all()):
        raise ValueError(f"{name}: every coil is zero everywhere")


def _axes(ndim: int) -> str:
    return "ny, nx" if ndim == 2 else "nz, ny, nx"


def _got(data: object) -> str:
    return f"{data.dtype} {tuple(data.shape)}" if isinstance(data, Tensor) else type(data).__name__
