"""Filters in three short convolutions, and learned profiles: what a ridge regulariser is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Filters(nn.Module):
    """W x: several 5×5 convolutions in a row without bias, one filter bank of mean zero and ‖W‖ ≤ 1.

    Goujon et al., IEEE Trans. Comput. Imaging 9 (2023): 1-4-8-60. The image is extended by zeros once, so
    that the row is one convolution, whose norm is at most max_ω (Σᵢ|ŵᵢ(ω)|²)^½; that is divided out.

    channels  of the image and after every convolution

    x (n, channels[0], ny, nx) -> (n, channels[-1], ny + 2p, nx + 2p), p = (kernel − 1)/2 · convolutions
    """

    def __init__(self, channels: Sequence[int] = (1, 4, 8, 60), kernel: int = 5):
        super().__init__()
        channels = tuple(channels)
        if len(channels) < 2 or min(channels) < 1 or channels[0] != 1 or kernel < 2 or kernel % 2 == 0:
            raise ValueError(
                "Filters channels, kernel: expected 1, then at least one positive number, and an odd kernel "
                f"of at least 3, got {channels}, {kernel}"
            )
        self.channels, self.kernel = channels, kernel
        self.weights = nn.ParameterList(
            nn.init.kaiming_normal_(torch.empty(b, a, kernel, kernel)) for a, b in pairwise(channels)
        )

    @property
    def radius(self) -> int:
        return (self.kernel // 2) * len(self.weights)

    def bank(self) -> list[Tensor]:
        """The kernels that are used: each with mean zero in the first, and ‖W‖ ≤ 1."""
        first, *rest = self.weights
        first = first - first.mean((-2, -1), keepdim=True)
        norm = self._norm([first, *rest])
        return [first / norm, *rest]

    def _norm(self, kernels: list[Tensor]) -> Tensor:
        side, response = 2 * self.radius + 1, self._response(kernels)
        # a trigonometric polynomial of degree d seen at n points is at most 1/cos(πd/n) times larger
        n, degree = 8 * side, side - 1
        power = torch.fft.rfft2(response[0], s=(n, n)).abs().square().sum(0)
        return (power.max() / math.cos(math.pi * degree / n) ** 2).sqrt()

    def forward(self, x: Tensor, bank: Sequence[Tensor] | None = None) -> Tensor:
        """W x; `bank`, if it was made already."""
        pad = 2 * self.radius  # half for the filters, half so that what leaves the image is not cut off
        h = functional.pad(x, (pad,) * 4)
        for k in bank or self.bank():
            h = functional.conv2d(h, k)
        return h

    def transpose(self, h: Tensor, bank: Sequence[Tensor] | None = None) -> Tensor:
        """Wᵀ h, (n, channels[-1], ny + 2p, nx + 2p) -> (n, channels[0], ny, nx), in the Fourier domain."""
        size = h.shape[-2:]
        transfer = torch.fft.rfft2(self._response(bank or self.bank()), s=size)
        back = torch.fft.irfft2((torch.fft.rfft2(h) * transfer.conj()).sum(1, keepdim=True), s=size)
        return back[..., : size[0] - 2 * self.radius, : size[1] - 2 * self.radius]

    def _response(self, kernels: Sequence[Tensor]) -> Tensor:
        """To an impulse, (1, channels[-1], 2p + 1, 2p + 1)."""
        side = 2 * self.radius + 1
        h = kernels[0].new_zeros(1, 1, side, side)
        h[..., self.radius, self.radius] = 1
        for k in kernels:
            h = functional.conv2d(h, k, padding=self.kernel // 2)
        return h


class Profiles(nn.Module):
    """ψᵢ(t), even, ψᵢ'(t) a linear spline of `knots` knots on ±reach, constant beyond, slopes in [−ρ, β].

    ρ = 0: ψ is convex; else weakly convex, ψ + ½ρt² is convex. With Σ ψᵢ(Wx) and ‖W‖ ≤ 1 the same holds for
    the sum, and max(ρ, β) is a Lipschitz constant of its gradient. β is learned. Every profile has an own
    width: ψᵢ(αᵢt)/αᵢ², which leaves slopes as they are.

    count  how many       rho  ρ ≥ 0

    t (n, count, …) -> ψ(t), like t
    """

    def __init__(self, count: int, knots: int = 101, reach: float = 0.1, rho: float = 0.0):
        super().__init__()
        if count < 1 or knots < 3 or knots % 2 == 0 or not reach > 0 or not rho >= 0:
            raise ValueError(
                "Profiles: expected count ≥ 1, an odd number of at least 3 knots, reach > 0 and rho ≥ 0, got "
                f"{count}, {knots}, {reach}, {rho}"
            )
        self.intervals, self.reach, self.rho = knots // 2, float(reach), float(rho)
        # steep at 0, flat far out: the shape of a Huber norm
        centre = torch.linspace(3.0, -3.0, self.intervals)
        self.logits = nn.Parameter(centre.repeat(count, 1))
        self.log_beta = nn.Parameter(torch.zeros(()))
        self.log_width = nn.Parameter(torch.zeros(count))

    @property
    def beta(self) -> Tensor:
        return self.log_beta.exp()

    def slopes(self) -> Tensor:
        """ψᵢ'' of the interval from knot to knot, |t| rising, (count, intervals); in [−ρ, β]."""
        return -self.rho + (self.beta + self.rho) * torch.sigmoid(self.logits)

    def forward(self, t: Tensor) -> Tensor:
        first, s, index, d, alpha = self._at(t)
        step = self.reach / self.intervals
        area = (first[:, :-1] + first[:, 1:]) * step / 2
        value = torch.cat([first[:, :1], area.cumsum(1)], 1)  # ψ at the knots
        value, first, s = _picked(torch.stack([value, first, 0.5 * s], -1), index)
        return (value + (first + s * d) * d) / alpha.square()

    def derivative(self, t: Tensor) -> Tensor:
        """ψᵢ'(t), like t."""
        first, s, index, d, alpha = self._at(t)
        first, s = _picked(torch.stack([first, s], -1), index)
        return t.sign() * (first + s * d) / alpha

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """ψ' at the knots and ψ'' after them, which knot is before αt, how far it is behind, and α."""
        step = self.reach / self.intervals
        s = self.slopes()
        zero = s.new_zeros(len(s), 1)
        first = torch.cat([zero, s.cumsum(1)], 1) * step
        s = torch.cat([s, zero], 1)  # beyond the last knot ψ' is constant
        shape = (-1,) + (1,) * (t.ndim - 2)
        alpha = self.log_width.exp().reshape(shape)
        u = (alpha * t).abs()
        knot = (u.detach() / step).floor().clamp(max=self.intervals)
        d = u - knot * step
        start = s.shape[1] * torch.arange(len(s), device=t.device).reshape(shape)
        return first, s, knot.long() + start, d, alpha


def _picked(table: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    """Columns of a table (count, knots, columns) at numbers of its rows, each like `index`."""
    return functional.embedding(index, table.flatten(0, 1)).unbind(-1)
