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
        side = 2 * self.radius + 1
        impulse = kernels[0].new_zeros(1, 1, side, side)
        impulse[..., self.radius, self.radius] = 1
        composite = impulse
        for k in kernels:
            composite = functional.conv2d(composite, k, padding=self.kernel // 2)
        # a trigonometric polynomial of degree d seen at n points is at most 1/cos(πd/n) times larger
        n, degree = 8 * side, side - 1
        power = torch.fft.rfft2(composite[0], s=(n, n)).abs().square().sum(0)
        return (power.max() / math.cos(math.pi * degree / n) ** 2).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        pad = 2 * self.radius  # half for the filters, half so that what leaves the image is not cut off
        h = functional.pad(x, (pad,) * 4)
        for k in self.bank():
            h = functional.conv2d(h, k)
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
        step = self.reach / self.intervals
        s = self.slopes()
        zero = s.new_zeros(len(s), 1)
        first = torch.cat([zero, s.cumsum(1)], 1) * step  # ψ' at the knots
        area = (first[:, :-1] + first[:, 1:]) * step / 2
        value = torch.cat([zero, area.cumsum(1)], 1)  # ψ at the knots
        s = torch.cat([s, zero], 1)  # beyond the last knot ψ' is constant
        shape = (-1,) + (1,) * (t.ndim - 2)
        alpha = self.log_width.exp().reshape(shape)
        u = (alpha * t).abs()
        knot = (u.detach() / step).floor().clamp(max=self.intervals).long()
        index = (torch.arange(len(s), device=t.device).reshape(shape).expand_as(knot), knot)
        d = u - knot * step
        return (value[index] + first[index] * d + 0.5 * s[index] * d.square()) / alpha.square()
