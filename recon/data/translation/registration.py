"""Images that are off by a shift: found by phase correlation or barycentres, taken back; body masks."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Shift = tuple[float, ...]
NOISE = 1e-4  # of the largest frequency: weaker ones do not vote
EDGE = 8  # an eighth of each side is faded out: an edge that stays in place would vote for no shift


def phase_shift(image: Tensor, reference: Tensor) -> Shift:
    """d [pixels], image(x) ≈ reference(x − d): the peak of F⁻¹[ F(image) F(reference)* / (|…| + ε) ].

    Kuglin, Hines, Proc. IEEE Int. Conf. Cybernetics and Society (1975). The mean is taken off and the edges
    are faded out; a parabola through the peak and its neighbours gives parts of a pixel. For shifts of up to
    a third of the image, and images of one contrast.

    image, reference : (ny, nx) or (nz, ny, nx), of one shape
    """
    _check(image, reference)
    weight = torch.ones((), dtype=torch.float64)
    for n in image.shape:
        weight = weight[..., None] * _taper(n)
    a, b = ((x.double() - x.double().mean()) * weight for x in (image, reference))
    cross = torch.fft.fftn(a) * torch.fft.fftn(b).conj()
    size = cross.abs()
    if not float(size.max()) > 0:
        raise ValueError("phase_shift: an image is the same everywhere, so a shift cannot be seen")
    peaks = torch.fft.ifftn(cross / (size + NOISE * size.max())).real
    at = np.unravel_index(int(peaks.argmax()), tuple(peaks.shape))
    found = []
    for axis, n in enumerate(peaks.shape):
        around = [list(at) for _ in range(3)]
        for d, place in enumerate(around):
            place[axis] = (int(at[axis]) + d - 1) % n
        before, here, after = (float(peaks[tuple(place)]) for place in around)
        bend = before - 2 * here + after
        part = 0.5 * (before - after) / bend if n > 2 and bend < 0 else 0.0
        whole = int(at[axis])
        found.append((whole - n if whole > n // 2 else whole) + part)
    return tuple(found)


def barycentre_shift(image: Tensor, reference: Tensor, threshold: float) -> Shift:
    """Barycentre of image > threshold minus that of reference > threshold, [pixels]; contrasts may differ."""
    _check(image, reference)
    centres = []
    for name, x in (("image", image), ("reference", reference)):
        where = (x > threshold).nonzero().double()
        if not len(where):
            raise ValueError(f"barycentre_shift: nothing of the {name} lies above {threshold:g}")
        centres.append(where.mean(0))
    return tuple((centres[0] - centres[1]).tolist())


def shifted(image: Tensor, shift: Shift, fill: float | None = None) -> Tensor:
    """x(· − shift), linear between pixels; outside the edge goes on, or `fill`.

    image : (…, *shape), as many trailing dimensions as `shift` has
    """
    if len(shift) > image.ndim or not all(math.isfinite(d) for d in shift):
        raise ValueError(
            f"shifted: expected one finite number for a dimension of {tuple(image.shape)}, got {shift}"
        )
    outside = torch.zeros(image.shape[image.ndim - len(shift) :], dtype=torch.bool, device=image.device)
    for axis, d in zip(range(-len(shift), 0), shift, strict=True):
        n = image.shape[axis]
        place = torch.arange(n, dtype=torch.float64, device=image.device) - d
        beyond = (place < 0) | (place > n - 1)
        outside |= beyond.reshape(-1, *(1,) * (-1 - axis))
        place = place.clamp(0, n - 1)
        low = place.floor().long()
        part = (place - low).to(image.dtype).reshape(-1, *(1,) * (-1 - axis))
        high = (low + 1).clamp(max=n - 1)
        image = image.index_select(axis, low) * (1 - part) + image.index_select(axis, high) * part
    return image if fill is None else image.masked_fill(outside, fill)


def register(
    image: Tensor,
    reference: Tensor,
    by: Literal["phase", "barycentre"] = "phase",
    threshold: float = -300.0,
    fill: float | None = None,
) -> tuple[Tensor, Shift]:
    """The image moved onto the reference, and the shift that was taken back. Shifts only, nothing else.

    Rotated or deformed pairs need a registration of its own (elastix, ANTs) before they come here.
    """
    if by not in ("phase", "barycentre"):
        raise ValueError(f"register by: expected 'phase' or 'barycentre', got {by!r}")
    shift = phase_shift(image, reference) if by == "phase" else barycentre_shift(image, reference, threshold)
    return shifted(image, tuple(-d for d in shift), fill), shift


def body_mask(hu: Tensor, threshold: float = -300.0) -> Tensor:
    """`recon.metrics.body_mask` of HU: the largest part of every slice above the threshold, holes filled.

    hu : (*batch, ny, nx)
    """
    from ...metrics import body_mask

    return body_mask(hu + 1000, 1000.0, threshold)


def _taper(n: int) -> Tensor:
    """1 in the middle, falling as a cosine in the outer parts."""
    wide = max(n // EDGE, 1)
    ramp = torch.ones(n, dtype=torch.float64)
    if n > 2 * wide:
        fall = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(wide, dtype=torch.float64) + 0.5) / wide)
        ramp[:wide], ramp[n - wide :] = fall, fall.flip(0)
    return ramp


def _check(image: Tensor, reference: Tensor) -> None:
    if image.shape != reference.shape or image.ndim not in (2, 3):
        raise ValueError(
            "registration: expected two images (ny, nx) or volumes of one shape, got "
            f"{tuple(image.shape)} and {tuple(reference.shape)}"
        )
