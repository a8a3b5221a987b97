"""Input-convex networks: convex in the input by weights that are never negative."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class InputConvexNetwork(nn.Module):
    """Ψ(x) = mean of h_L,  h₁ = φ(V₁x + b₁),  h_{l+1} = φ(|W_l| h_l + V_{l+1} x + b_{l+1}): convex in x.

    Amos, Xu, Kolter, ICML 2017; as a regulariser Mukherjee et al., arXiv 2008.02839: 10 layers of 48
    channels, 5×5, φ a leaky ReLU of slope 0.2. φ is convex and rising and |W| ≥ 0 whatever is
    learned, so Ψ is convex. Convolutions are extended by zeros; the mean is over channels and, by √pixels,
    over space.

    layers, width, kernel  of the convolutions
    smooth   φ(h) = 0.2 h + 0.8 s·log(1 + exp(h/s)), rounded over s; 0 for the leaky ReLU itself

    x (n, channels, ny, nx) -> (n,)
    """

    def __init__(
        self, channels: int = 1, layers: int = 10, width: int = 48, kernel: int = 5, smooth: float = 0.0
    ):
        super().__init__()
        if min(channels, layers, width) < 1 or kernel < 1 or kernel % 2 == 0 or smooth < 0:
            raise ValueError(
                "InputConvexNetwork: expected channels, layers, width ≥ 1, an odd kernel and smooth ≥ 0, got "
                f"{channels}, {layers}, {width}, {kernel}, {smooth}"
            )
        self.channels, self.smooth = channels, smooth
        self.seen = nn.ModuleList(
            nn.Conv2d(channels, width, kernel, padding=kernel // 2) for _ in range(layers)
        )
        self.passed = nn.ParameterList(
            torch.rand(width, width, kernel, kernel) * (2 / (width * kernel**2)) for _ in range(layers - 1)
        )

    def nonnegative(self) -> list[Tensor]:
        """The weights |W_l| that are used."""
        return [w.abs() for w in self.passed]

    def forward(self, x: Tensor) -> Tensor:
        h = self._activation(self.seen[0](x))
        for see, weight in zip(self.seen[1:], self.nonnegative(), strict=True):
            h = self._activation(functional.conv2d(h, weight, padding="same") + see(x))
        return h.mean(1).sum((-2, -1)) / (x.shape[-2] * x.shape[-1]) ** 0.5

    def _activation(self, h: Tensor) -> Tensor:
        if self.smooth == 0:
            return functional.leaky_relu(h, 0.2)
        # softplus itself turns linear beyond its threshold and would jump there; the second derivative of
        # logaddexp, which a gradient penalty asks for, is NaN far from 0
        return 0.2 * h - 0.8 * self.smooth * functional.logsigmoid(-h / self.smooth)
