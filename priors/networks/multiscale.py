"""A convolutional dictionary on several scales, shaped like a U-Net's decoder, and sparse coding with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional


class MultiscaleDictionary(nn.Module):
    """D γ: h ← γ_coarsest, then h ← C [U h, γ] at every finer scale, last an image from the finest h; linear.

    The decoder of a U-Net without rectifiers, normalisation or biases: Liu, Wu, Wolf, Yuan, IEEE Trans.
    Comput. Imaging 8 (2022). U doubles the size (2×2 kernels side by side), C is a 3×3 convolution with zeros
    around. Every code γ is a tensor (n, widths[k], ny / 2^k, nx / 2^k), finest first; sides divide by
    2^(scales − 1).

    channels : of the image
    widths : channels of the codes, finest first
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = (32, 64, 128, 256, 512)):
        super().__init__()
        self.widths = tuple(widths)
        self.multiple = 2 ** (len(self.widths) - 1)
        self.up = nn.ParameterList(_drawn(b, a, 2) for a, b in pairwise(self.widths))
        self.join = nn.ParameterList(_drawn(a, 2 * a, 3) for a in self.widths[:-1])
        self.last = _drawn(channels, self.widths[0], 3)

    def forward(self, codes: Sequence[Tensor]) -> Tensor:
        """Image (n, channels, ny, nx) from codes, finest first."""
        h = codes[-1]
        for up, join, code in reversed(list(zip(self.up, self.join, codes[:-1], strict=True))):
            h = functional.conv_transpose2d(h, up, stride=2)
            h = functional.conv2d(torch.cat([h, code], 1), join, padding=1)
        return functional.conv2d(h, self.last, padding=1)

    def adjoint(self, x: Tensor) -> list[Tensor]:
        """D*x, codes finest first, from images (n, channels, ny, nx)."""
        codes = []
        h = functional.conv_transpose2d(x, self.last, padding=1)
        for up, join in zip(self.up, self.join, strict=True):
            h, code = functional.conv_transpose2d(h, join, padding=1).chunk(2, 1)
            codes.append(code)
            h = functional.conv2d(h, up, stride=2)
        return [*codes, h]

    @torch.no_grad()
    def normalise(self, iterations: int = 20) -> Self:
        """Divide D by ‖D‖, found by so many power iterations on a small image."""
        side = max(8, 2 * self.multiple)
        x = torch.ones(1, self.last.shape[0], side, side)
        x[..., ::2] = -0.5
        norm = torch.ones(())
        for _ in range(iterations):
            x = self(self.adjoint(x))
            norm = x.square().sum().sqrt()
            x = x / norm
        self.last.div_(norm.sqrt())
        return self


def _drawn(outside: int, inside: int, side: int) -> nn.Parameter:
    weight = torch.empty(outside, inside, side, side)
    # 2×2 kernels that do not overlap reach a pixel once each
    fan = inside * side**2 if side == 3 else outside
    return nn.Parameter(nn.init.normal_(weight, std=1 / math.sqrt(fan)))


class SparseCoding(nn.Module):
    """W γ_K,   γ₀ = 0,   γ ← S_ηλ(γ − η E (D γ − x)): ISTA with dictionaries that are learned.

    Liu, Wu, Wolf, Yuan, IEEE Trans. Comput. Imaging 8 (2022). D, E* and W begin alike, with norm 1, and learn
    apart; λ > 0 and η > 0 are learned. S shrinks by its index.

    channels, widths : of the dictionaries
    thresholds : first λ of every scale, finest first; a scale whose λ is 0, or missing, is never shrunk
    iterations : K
    step : first η
    tied : E = D*, so that every step lowers ½‖D γ − x‖² + Σ λ|γ| while η‖D‖² ≤ 1
    """

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        thresholds: Sequence[float] = (0.1, 0.01),
        iterations: int = 5,
        step: float = 1.0,
        tied: bool = False,
    ):
        super().__init__()
        self.first, self.iterations, self.tied = tuple(thresholds), iterations, tied
        self.synthesis = MultiscaleDictionary(channels, widths).normalise()
        if not tied:
            self.analysis = deepcopy(self.synthesis)
        self.output = deepcopy(self.synthesis)
        self.log_thresholds = nn.Parameter(torch.tensor([t for t in thresholds if t > 0]).log())
        self.log_step = nn.Parameter(torch.tensor(step).log())

    @property
    def thresholds(self) -> list[Tensor]:
        """λ of every scale, finest first."""
        learned, depth = iter(self.log_thresholds.exp()), len(self.synthesis.widths)
        first = (*self.first, *(0.0,) * depth)[:depth]
        return [next(learned) if t > 0 else torch.zeros_like(self.log_step) for t in first]

    def codes(self, x: Tensor) -> list[Tensor]:
        """γ, finest first, of images whose sides the dictionary divides."""
        D = self.synthesis
        E = D if self.tied else self.analysis
        step, thresholds = self.log_step.exp(), self.thresholds
        codes = [soft(step * z, step * t) for z, t in zip(E.adjoint(x), thresholds, strict=True)]
        for _ in range(self.iterations - 1):
            slopes = E.adjoint(D(codes) - x)
            codes = [
                soft(code - step * slope, step * t)
                for code, slope, t in zip(codes, slopes, thresholds, strict=True)
            ]
        return codes

    def forward(self, x: Tensor) -> Tensor:
        ny, nx = x.shape[-2:]
        m = self.synthesis.multiple
        wide = functional.pad(x, (0, -nx % m, 0, -ny % m), mode="replicate")
        return self.output(self.codes(wide))[..., :ny, :nx]


def soft(z: Tensor, threshold: Tensor) -> Tensor:
    """sign(z) (|z| − threshold)₊"""
    return z - torch.clamp(z, -threshold, threshold)
