"""A network between normalised images that adds its output to one of them."""

from __future__ import annotations

from torch import Tensor, nn


class Centred(nn.Module):
    """s·f((x − m)/s): a network that sees every channel with mean 0 and standard deviation 1.

    m and s are those of every channel of every image. The mean is not added again: for a network that mends
    its input, and whose corrections scale with it.

    outside : channels of the result, which get the spread of the channel in the middle of their stack

    x : (n, outside·stack, *shape) -> (n, outside, *shape)
    """

    def __init__(self, network: nn.Module, outside: int):
        super().__init__()
        self.network, self.outside = network, outside

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        mean = x.mean(axes, keepdim=True)
        spread = ((x - mean).square().mean(axes, keepdim=True) + 1e-12).sqrt()
        own = spread.unflatten(1, (self.outside, -1))
        return own[:, :, own.shape[2] // 2] * self.network((x - mean) / spread)
