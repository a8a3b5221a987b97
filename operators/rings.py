"""Ring artefacts: bins that answer a little too much or too little, and corrections on the sinogram."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def gain_errors(bins: int | tuple[int, ...], sigma: float, seed: int = 0) -> Tensor:
    """1 + σ n, n ~ N(0, 1): what is left of each bin's gain after the flat field, the same in every view.

    Counts times the gains are what the detector gives, or `Mask(gains, sinogram shape)` of the intensities;
    post-log each bin is shifted by −ln gain, which back projection turns into rings.

    bins   detector shape
    sigma  some 0.001 to 0.02
    seed   of the draw

    Returns gains of shape `bins`, float64, at least 0.01.
    """
    if not 0 <= sigma < 0.3:
        raise ValueError(f"gain_errors sigma: expected 0 to 0.3, got {sigma}")
    generator = torch.Generator().manual_seed(seed)
    shape = (bins,) if isinstance(bins, int) else bins
    return (1 + sigma * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(min=0.01)


def remove_rings(p: Tensor, method: Literal["mean", "sorting"] = "mean", width: int = 9) -> Tensor:
    """Post-log data without what is the same in all views of one bin and not in its neighbours.

    mean     m is the mean over the views; a bin's stripe, the median over k = 1 … width/2 of what m is above
             the cubic through m at ±k and ±2k, is taken off. Little else is touched; real rings about the
             centre go with it
    sorting  every bin's values are sorted along the views, filtered by a median over `width` bins, and put
             back in their order (Vo, Atwood, Drakopoulos, Opt. Express 26 (2018), algorithm 3); follows
             stripes whose strength depends on the intensity, misses those that are smaller than the step from
             bin to bin, and blurs sharp objects

    What is slow from bin to bin stays, for it could be the object: of white errors of all bins about half the
    strength of the rings is left, of errors of single bins about a quarter.

    p       line integrals (*batch, views, bins); of a cone beam (*batch, rows, views, bins), a row at a time
    method  "mean" or "sorting"
    width   bins, odd; wider than the stripes

    Returns the corrected data, shape of p.
    """
    if p.ndim < 2 or not p.is_floating_point():
        raise ValueError(
            f"remove_rings p: expected real (*batch, views, bins), got {p.dtype} {tuple(p.shape)}"
        )
    if width < 3 or width % 2 == 0 or width > p.shape[-1]:
        raise ValueError(f"remove_rings width: expected an odd number from 3 to {p.shape[-1]}, got {width}")
    if method == "mean":
        return p - _stripes(p.mean(-2, keepdim=True), width // 2)
    if method == "sorting":
        ordered, order = p.sort(-2)
        smooth = _neighbours(ordered, width // 2).median(0).values
        return torch.empty_like(p).scatter_(-2, order, smooth)
    raise ValueError(f"remove_rings method: expected 'mean' or 'sorting', got {method!r}")


def _stripes(m: Tensor, reach: int) -> Tensor:
    """Median over k of m − (4 (m₋ₖ + m₊ₖ) − m₋₂ₖ − m₊₂ₖ)/6, zero on cubics."""
    near = _neighbours(m, 2 * reach)
    above = [
        m
        - (4 * (near[2 * reach - k] + near[2 * reach + k]) - near[2 * (reach - k)] - near[2 * (reach + k)])
        / 6
        for k in range(1, reach + 1)
    ]
    return torch.stack(above).quantile(0.5, 0)


def _neighbours(p: Tensor, reach: int) -> Tensor:
    """P shifted by −reach … reach bins, reflected at the ends, (2 reach + 1, *p.shape)."""
    lines = F.pad(p.reshape(-1, 1, p.shape[-1]), (reach, reach), mode="reflect")
    return lines.unfold(-1, p.shape[-1], 1).movedim(-2, 0).reshape(-1, *p.shape)
