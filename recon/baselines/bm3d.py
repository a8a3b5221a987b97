"""BM3D: like patches are filtered together."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from torch import Tensor

from .filters import Filtered, Level, mirrored

MEMORY = 2**25
"""Numbers in the largest table made at once, 128 MB of float32"""


class BM3D(Filtered):
    """x = BM3D(x₀; sσ): groups of like patches, a transform of three axes, a threshold; then Wiener.

    Dabov, Foi, Katkovnik, Egiazarian, IEEE Trans. Image Process. 16 (2007): 8 × 8 patches, the 16 nearest of
    a window, threshold 2.7σ; patches that differ by more (4σ² in the mean at first, 0.64σ² once denoised,
    which are theirs at σ = 25/255) stay out. Cosines for every patch and Haar steps across the group; they
    have a biorthogonal wavelet in the first stage. Made for white noise: that of FBP is correlated. Real and
    imaginary parts of complex images are filtered each by itself.

    strength  s
    search  pixels from a patch to the farthest one compared with it
    step  pixels between reference patches
    """

    name = "bm3d"

    def __init__(
        self,
        strength: float = 1.0,
        search: int = 12,
        step: int = 3,
        sigma: Level = "noise",
        filter: str = "hann",
        frequency_scaling: float = 1.0,
        positive: bool | None = None,
    ):
        super().__init__(sigma, filter, frequency_scaling, positive)
        if not 0 < strength < math.inf:
            raise ValueError(f"BM3D strength: expected a positive number, got {strength!r}")
        if search < 1 or not 1 <= step <= SIDE:
            raise ValueError(
                f"BM3D search, step: expected 1 or more, and 1 to {SIDE}, got {search} and {step}"
            )
        self.strength, self.search, self.step = strength, search, step

    def filtered(self, x: Tensor, sigma: Tensor) -> Tensor:
        if x.is_complex():
            half = sigma / math.sqrt(2)
            return torch.complex(self.filtered(x.real, half), self.filtered(x.imag, half))
        levels = (self.strength * sigma).tolist()
        return torch.stack(
            [bm3d(image, s, self.search, self.step) for image, s in zip(x, levels, strict=True)]
        )

    @classmethod
    def examples(cls) -> list[BM3D]:
        """σ from the noise model; given, complex images too."""
        return [cls(search=4), cls(1.5, search=3, step=4, sigma=0.1)]


SIDE, MOST = 8, 16
THRESHOLD = 2.7
ALIKE = 4.0, 0.64
"""Largest mean squared difference of patches in a group, over σ², in both stages"""


def bm3d(x: Tensor, sigma: float, search: int = 12, step: int = 3) -> Tensor:
    """One plane x (ny, nx) without its white noise of standard deviation σ; x itself for σ = 0."""
    if not sigma > 0:
        return x
    # whole strides, and a patch at every border
    more = [(-(n - SIDE) % step if n > SIDE else SIDE - n) for n in x.shape]
    margin = (search, search + more[1], search, search + more[0])
    wide = mirrored(x[None], margin)[0]
    basic = _stage(wide, None, sigma, search, step)
    # the borders are mirrored again, from what is denoised
    inner = basic[search : search + x.shape[0], search : search + x.shape[1]]
    basic = mirrored(inner[None], margin)[0]
    final = _stage(wide, basic, sigma, search, step)
    return final[search : search + x.shape[0], search : search + x.shape[1]]


def _stage(wide: Tensor, basic: Tensor | None, sigma: float, search: int, step: int) -> Tensor:
    """Hard thresholding, or with a `basic` estimate Wiener filtering, of the whole extended image."""
    sure = wide if basic is None else basic
    columns = wide.shape[1] - SIDE + 1
    distance, first, offsets = _distances(sure, search, step)
    order = distance.topk(min(MOST, distance.shape[0]), dim=0, largest=False, sorted=True)
    alike = (order.values <= ALIKE[basic is not None] * sigma**2).sum(0).clamp_min(1)
    # groups of 1, 2, 4, 8, 16
    sizes = 2 ** alike.to(torch.float64).log2().floor().long()
    transform, window = _tables(wide.dtype, wide.device)
    top, bottom = torch.zeros_like(wide).flatten(), torch.zeros_like(wide).flatten()
    # (patches, 64) of every position, as a view
    patches = wide.unfold(0, SIDE, 1).unfold(1, SIDE, 1)
    others = sure.unfold(0, SIDE, 1).unfold(1, SIDE, 1)
    inside = (torch.arange(SIDE, device=wide.device)[:, None] * wide.shape[1]
              + torch.arange(SIDE, device=wide.device)).flatten()  # fmt: skip
    for size in (1, 2, 4, 8, 16):
        members = (sizes == size).nonzero()[:, 0]
        if not len(members):
            continue
        for chosen in members.split(max(1, MEMORY // (SIDE**2 * size))):
            at = first[chosen] + offsets[order.indices[:size, chosen]]
            rows, cols = at // columns, at % columns
            haar = _haar(size, wide.dtype, wide.device)
            group = _forward(patches[rows, cols], transform, haar)
            if basic is None:
                kept = group.abs() > THRESHOLD * sigma
                # the mean of the group is never noise alone
                kept[0, :, 0] = True
                weight = 1 / kept.sum((0, 2)).to(group)
                group = group * kept
            else:
                power = _forward(others[rows, cols], transform, haar).square()
                gain = power / (power + sigma**2)
                gain[0, :, 0] = 1
                weight = 1 / gain.square().sum((0, 2))
                group = group * gain
            pixels = _backward(group, transform, haar)
            where = (rows * wide.shape[1] + cols)[..., None] + inside
            share = weight[None, :, None] * window
            top.index_add_(0, where.flatten(), (share * pixels).flatten())
            bottom.index_add_(0, where.flatten(), share.expand_as(pixels).flatten())
    seen = bottom > 0
    return torch.where(seen, top / torch.where(seen, bottom, 1.0), wide.flatten()).reshape(wide.shape)


def _distances(wide: Tensor, search: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squared differences of reference patches to their neighbours (offsets, references).

    Also the positions of the references and the offsets, in patches counted row by row.
    """
    ny, nx = (n - 2 * search for n in wide.shape)
    columns = wide.shape[1] - SIDE + 1
    here = wide[search : search + ny, search : search + nx]
    found, offsets = [], []
    for dy in range(-search, search + 1):
        for dx in range(-search, search + 1):
            there = wide[search + dy : search + dy + ny, search + dx : search + dx + nx]
            found.append(_pooled(here - there, step))
            offsets.append(dy * columns + dx)
    rows = search + step * torch.arange(found[0].shape[0], device=wide.device)
    cols = search + step * torch.arange(found[0].shape[1], device=wide.device)
    first = (rows[:, None] * columns + cols).flatten()
    return torch.stack(found).flatten(1), first, torch.tensor(offsets, device=wide.device)


def _pooled(apart: Tensor, step: int) -> Tensor:
    return F.avg_pool2d((apart * apart)[None], SIDE, step)[0]


def _forward(patches: Tensor, transform: Tensor, haar: Tensor) -> Tensor:
    """(size, groups, 8, 8) -> coefficients (size, groups, 64), orthonormal."""
    size, groups = patches.shape[:2]
    flat = (patches.flatten(2) @ transform.T).reshape(size, -1)
    return (haar @ flat).reshape(size, groups, -1)


def _backward(group: Tensor, transform: Tensor, haar: Tensor) -> Tensor:
    """Pixels (size, groups, 64)."""
    return (haar.T @ group.flatten(1)).reshape(group.shape) @ transform


def _tables(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines of an 8 × 8 patch (64, 64), and the window of its pixels (64,)."""
    one, taper = _cosines()
    two = np.kron(one, one)
    return torch.as_tensor(two).to(device, dtype), torch.as_tensor(taper).to(device, dtype)


@lru_cache
def _cosines() -> tuple[np.ndarray, np.ndarray]:
    taper = np.kaiser(SIDE, 2.0)
    return dct(np.eye(SIDE), axis=0, norm="ortho"), np.outer(taper, taper).flatten()


def _haar(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal Haar matrix, its mean first; size a power of 2."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        n = len(matrix)
        matrix = np.concatenate([np.kron(matrix, [1, 1]), np.kron(np.eye(n), [1, -1])]) / math.sqrt(2)
    return torch.as_tensor(matrix).to(device, dtype)
