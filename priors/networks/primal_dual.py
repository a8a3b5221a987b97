"""The two small nets of a learned primal–dual iteration."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from operators import LinearOperator

from .channels import Convolutions, on_planes, real_channels, unet_widths
from .unet import UNet

Blocks = Literal["convolutions", "unet"]


class PrimalDual(nn.Module):
    """h ← h + Γᵢ(h, A f⁽²⁾, y),   f ← f + Λᵢ(f, A*h⁽¹⁾),   i = 1 … iterations; the result is f⁽¹⁾.

    Adler and Öktem, IEEE Trans. Med. Imaging 37 (2018). Γᵢ and Λᵢ have weights of their own in every
    iteration unless `shared`; h and f start at zero. A should have norm 1 and f be of size 1. Images and data
    may be complex, with frames or coils, which the nets treat as a batch.

    Parameters
    ----------
    iterations : unrolled iterations
    channels : copies of the image (f) and of the data (h), at least 2
    hidden : width of the nets
    shared : one Γ and one Λ for all iterations
    primal : Λ of three "convolutions", as in the paper, or a "unet" of `depth` scales
    is_complex : images and data are complex
    checkpoint : compute every iteration again for its gradient, instead of keeping what it computed
    """

    def __init__(
        self,
        iterations: int = 10,
        channels: int = 5,
        hidden: int = 32,
        shared: bool = False,
        primal: Blocks = "convolutions",
        depth: int = 3,
        is_complex: bool = False,
        checkpoint: bool = False,
    ):
        super().__init__()
        self.channels, self.iterations, self.checkpoint = channels, iterations, checkpoint
        out = real_channels(channels, is_complex)
        into_dual, into_primal = (real_channels(channels + k, is_complex) for k in (2, 1))
        count = 1 if shared else iterations

        def dual_net() -> nn.Module:
            return Convolutions(into_dual, out, hidden, activation="prelu")

        def primal_net() -> nn.Module:
            if primal == "unet":
                return UNet(into_primal, out, unet_widths(hidden, depth))
            return Convolutions(into_primal, out, hidden, activation="prelu")

        self.dual = nn.ModuleList(dual_net() for _ in range(count))
        self.primal = nn.ModuleList(primal_net() for _ in range(count))

    def forward(self, A: LinearOperator, y: Tensor, data_axes: int = 2) -> Tensor:
        """Image (batch, *A.in_shape) from data y (batch, *A.out_shape); Γ runs over its last `data_axes`."""
        h = y.new_zeros(len(y), self.channels, *A.out_shape)
        f = y.new_zeros(len(y), self.channels, *A.in_shape)

        def step(dual: nn.Module, primal: nn.Module, h: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
            h = h + on_planes(dual, torch.cat([h, A(f[:, 1:2]), y[:, None]], 1), data_axes)
            return h, f + on_planes(primal, torch.cat([f, A.adjoint(h[:, 0:1])], 1))

        for i in range(self.iterations):
            nets: tuple[Any, Any] = self.dual[i % len(self.dual)], self.primal[i % len(self.primal)]
            if self.checkpoint and torch.is_grad_enabled():
                h, f = checkpoint(step, *nets, h, f, use_reentrant=False)
            else:
                h, f = step(*nets, h, f)
        return f[:, 0]
