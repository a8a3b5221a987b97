"""iRadonMap: filter and back project with learned weights, then convolve."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

TRACES = 2**24
"""Values on traces held at once; more are computed in pieces, and again for the gradient"""


class IRadonMap(nn.Module):
    """x = r(z),  z_p = b_p + Σ_v w_vp (F y_v)(s_vp): one filter, a weight for every view and pixel.

    He, Wang, Ma, IEEE Trans. Med. Imaging 39 (2020). F is a full layer along a projection; a pixel's trace
    are the values at s, linearly interpolated, zero beyond the detector; r adds the output of residual
    blocks. `recon.IRadonMap` makes the weights begin at filtered back projection.

    Parameters
    ----------
    views, bins : of the data
    shape : (ny, nx) of the image
    features, blocks : width and number of the residual blocks of two 3×3 convolutions

    y (n, views, bins), s (views, ny·nx) [bins] -> (n, ny, nx)
    """

    def __init__(self, views: int, bins: int, shape: tuple[int, int], features: int = 64, blocks: int = 16):
        super().__init__()
        self.shape = shape
        self.filter = nn.Linear(bins, bins)
        self.traces = nn.Parameter(torch.full((views, shape[0] * shape[1]), 1 / views))
        self.bias = nn.Parameter(torch.zeros(shape[0] * shape[1]))
        self.first = nn.Conv2d(1, features, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(features, features, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(features, features, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.last = nn.Conv2d(features, 1, 3, padding=1)
        for layer in (self.filter, self.last):
            nn.init.zeros_(cast(Tensor, layer.bias))
        nn.init.zeros_(self.last.weight)

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        z = self.backprojected(self.filter(y), s).unflatten(-1, self.shape)[:, None]
        h = torch.relu(self.first(z))
        for block in self.blocks:
            h = torch.relu(h + block(h))
        return (z + self.last(h))[:, 0]

    def backprojected(self, q: Tensor, s: Tensor) -> Tensor:
        """b + Σ_v w_v q_v(s_v), (n, ny·nx)."""
        # a bin of zeros on either side: what lies beyond the detector counts as zero
        q = functional.pad(q, (1, 1))
        at = (s + 1).clamp(0, q.shape[-1] - 1)
        step = max(1, TRACES // max(1, len(q) * s.shape[-1]))
        z = self.bias.expand(len(q), -1)
        for k in range(0, len(s), step):
            piece = q[:, k : k + step], at[k : k + step], self.traces[k : k + step]
            if step < len(s) and torch.is_grad_enabled():
                z = z + checkpoint(_summed, *piece, use_reentrant=False)
            else:
                z = z + _summed(*piece)
        return z


def _summed(q: Tensor, at: Tensor, weight: Tensor) -> Tensor:
    low = at.floor().clamp(max=q.shape[-1] - 2)
    share = at - low
    index = low.long().expand(len(q), *low.shape)
    values = (1 - share) * q.gather(2, index) + share * q.gather(2, index + 1)
    return (weight * values).sum(1)
