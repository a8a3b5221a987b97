"""Total deep variation: a multi-scale network whose output is an energy at every pixel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def student_t(t: Tensor, nu: float = 9.0) -> Tensor:
    """log(1 + ν t²) / 2ν: t²/2 near 0, logarithmic far out."""
    return torch.log1p(nu * t.square()) / (2 * nu)


def log_cosh(t: Tensor) -> Tensor:
    """log cosh t, without overflow: t²/2 near 0, |t| − log 2 far out."""
    # beyond 40 linear to the last digit; logaddexp has no second derivative there
    return functional.softplus(2 * t, threshold=40.0) - t - math.log(2)


class TotalDeepVariationNetwork(nn.Module):
    """w* N(K x): 3×3 filters K of mean zero, N of `blocks` small U-Nets in a row, w one number a feature.

    Kobler, Effland, Kunisch, Pock, CVPR 2020. A U-Net has `scales` scales of `features` channels each; what
    it found at a scale is added to what the next one sees there. No layer has a bias, and the filters K see
    the edge pixel repeated beyond the edge, so constants are invisible: K(x + c) = K x, N(0) = 0.

    x (n, 1, ny, nx) -> (n, ny, nx), any size
    """

    def __init__(self, features: int = 32, scales: int = 3, blocks: int = 3):
        super().__init__()
        if min(features, scales, blocks) < 1:
            raise ValueError(
                "TotalDeepVariationNetwork features, scales, blocks: expected at least 1 each, got "
                f"{features}, {scales}, {blocks}"
            )
        self.filters = kernel(features, 1)
        self.blocks = nn.ModuleList(MacroBlock(features, scales) for _ in range(blocks))
        self.last = nn.Parameter(torch.empty(features).normal_(std=features**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        k = self.filters - self.filters.mean((-2, -1), keepdim=True)
        levels = [functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), k)]
        for block in self.blocks:
            levels = block(levels)
        return torch.einsum("f,nfyx->nyx", self.last, levels[0])


class MacroBlock(nn.Module):
    """A U-Net: down by micro-blocks and strided convolutions, up again, old and new mixed at every scale.

    features of every scale so far (n, features, …), the finest first -> the same; coarser ones may be missing
    """

    def __init__(self, features: int, scales: int):
        super().__init__()
        self.left = nn.ModuleList(MicroBlock(features) for _ in range(scales))
        self.right = nn.ModuleList(MicroBlock(features) for _ in range(scales - 1))
        self.down = nn.ParameterList(kernel(features, features) for _ in range(scales - 1))
        self.up = nn.ParameterList(kernel(features, features) for _ in range(scales - 1))
        self.mix = nn.ParameterList(kernel(features, 2 * features, 1) for _ in range(scales - 1))

    def forward(self, before: list[Tensor]) -> list[Tensor]:
        levels = [self.left[0](before[0])]
        for k, (down, left) in enumerate(zip(self.down, self.left[1:], strict=True), 1):
            h = functional.conv2d(blur(levels[-1]), down, stride=2, padding=1)
            levels.append(left(h + before[k] if k < len(before) else h))
        for k in reversed(range(len(self.up))):
            h = torch.cat([levels[k], enlarged(levels[k + 1], self.up[k], levels[k])], 1)
            levels[k] = self.right[k](functional.conv2d(h, self.mix[k]))
        return levels


class MicroBlock(nn.Module):
    """u + K₂ φ(K₁ u), φ the Student-t potential, 3×3 convolutions."""

    def __init__(self, features: int):
        super().__init__()
        self.first, self.second = kernel(features, features), kernel(features, features)

    def forward(self, u: Tensor) -> Tensor:
        return u + functional.conv2d(
            student_t(functional.conv2d(u, self.first, padding=1)), self.second, padding=1
        )


def kernel(outside: int, inside: int, size: int = 3) -> nn.Parameter:
    """First weights that keep the size of what goes through."""
    return nn.Parameter(torch.empty(outside, inside, size, size).normal_(std=(inside * size**2) ** -0.5))


def blur(h: Tensor) -> Tensor:
    """Channel by channel with (1, 2, 1)/4 along rows and columns, against aliasing; its own adjoint."""
    line = h.new_tensor([0.25, 0.5, 0.25])
    square = torch.outer(line, line).expand(h.shape[1], 1, 3, 3)
    return functional.conv2d(h, square, padding=1, groups=h.shape[1])


def enlarged(h: Tensor, weight: Tensor, like: Tensor) -> Tensor:
    """The adjoint of blur and strided convolution, to the rows and columns of `like`."""
    extra = [n - (2 * m - 1) for n, m in zip(like.shape[-2:], h.shape[-2:], strict=True)]
    return blur(functional.conv_transpose2d(h, weight, stride=2, padding=1, output_padding=extra))
