"""The two small nets of a learned primal–dual iteration."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from operators import LinearOperator


class PrimalDual(nn.Module):
    """h ← h + Γᵢ(h, A f⁽²⁾, y),   f ← f + Λᵢ(f, A*h⁽¹⁾),   i = 1 … iterations; the result is f⁽¹⁾.

    Adler and Öktem, IEEE Trans. Med. Imaging 37 (2018). Γᵢ and Λᵢ have weights of their own in every
    iteration; h and f start at zero. A should have norm 1 and f be of size 1.

    Parameters
    ----------
    iterations : unrolled iterations
    channels : copies of the image (f) and of the data (h), at least 2
    hidden : width of the nets
    """

    def __init__(self, iterations: int = 10, channels: int = 5, hidden: int = 32):
        super().__init__()
        self.channels = channels
        self.dual = nn.ModuleList(_net(channels + 2, hidden, channels) for _ in range(iterations))
        self.primal = nn.ModuleList(_net(channels + 1, hidden, channels) for _ in range(iterations))

    def forward(self, A: LinearOperator, y: Tensor) -> Tensor:
        """Image (batch, ny, nx) from data y (batch, views, bins) in the range of A."""
        h = y.new_zeros(len(y), self.channels, *A.out_shape)
        f = y.new_zeros(len(y), self.channels, *A.in_shape)
        for dual, primal in zip(self.dual, self.primal, strict=True):
            h = h + dual(torch.cat([h, A(f[:, 1:2]), y[:, None]], 1))
            f = f + primal(torch.cat([f, A.adjoint(h[:, 0:1])], 1))
        return f[:, 0]


def _net(inside: int, hidden: int, outside: int) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(inside, hidden, 3, padding=1),
        nn.PReLU(hidden, init=0.0),
        nn.Conv2d(hidden, hidden, 3, padding=1),
        nn.PReLU(hidden, init=0.0),
        nn.Conv2d(hidden, outside, 3, padding=1),
    )
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return net
