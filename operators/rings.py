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


def remove_rings(p: Tensor, method: Literal["sorting", "mean"] = "sorting", width: int = 21) -> Tensor:
    """Post-log data without what is the same in all views of one bin and not in its neighbours.

    sorting  every bin's values are sorted along the views, filtered by a median over `width` bins, and put
             back in their order (Vo, Atwood, Drakopoulos, Opt. Express 26 (2018), algorithm 3); follows
             stripes whose strength depends on the intensity, and blurs where bins differ in their values
    mean     the mean over the views minus its median over `width` bins is taken off; a stripe is a constant,
             nothing else is touched, and real rings about the centre go with it

    p       line integrals (*batch, views, bins) or, one detector row at a time, (*batch, views, rows, bins)
            as `p.movedim(-2, 0)`
    method  "sorting" or "mean"
    width   bins of the median, odd; wider than the stripes

    Returns the corrected data, shape of p.
    """
    if p.ndim < 2 or not p.is_floating_point():
        raise ValueError(
            f"remove_rings p: expected real (*batch, views, bins), got {p.dtype} {tuple(p.shape)}"
        )
    if width < 3 or width % 2 == 0 or width > 2 * p.shape[-1] - 1:
        raise ValueError(
            f"remove_rings width: expected an odd number from 3 to {2 * p.shape[-1] - 1}, got {width}"
        )
    if method == "mean":
        mean = p.mean(-2, keepdim=True)
        return p - (mean - _median(mean, width))
    if method == "sorting":
        ordered, order = p.sort(-2)
        return torch.empty_like(p).scatter_(-2, order, _median(ordered, width))
    raise ValueError(f"remove_rings method: expected 'sorting' or 'mean', got {method!r}")


def _median(p: Tensor, width: int) -> Tensor:
    """Median over `width` bins, reflected at the ends."""
    lines = p.reshape(-1, 1, p.shape[-1])
    padded = F.pad(lines, (width // 2, width // 2), mode="reflect")
    return padded.unfold(-1, width, 1).median(-1).values.reshape(p.shape)
