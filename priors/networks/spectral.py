"""Spectral normalisation: weights divided by their largest singular value."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Spectral(nn.Module):
    """The layer with W/σ(W), σ the largest singular value of W as a matrix (outputs × all else).

    Miyato, Kataoka, Koyama, Yoshida, ICLR 2018: σ = uᵀ W v by one step of the power iteration at every call
    while training; u stays (a buffer, so that a resumed training goes on as it was).

    layer : a convolution (of planes or volumes) or a full layer
    """

    u: Tensor

    def __init__(self, layer: nn.Module):
        super().__init__()
        if not isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            raise ValueError(
                f"Spectral layer: expected a convolution or full layer, got {type(layer).__name__}"
            )
        self.layer = layer
        self.register_buffer("u", functional.normalize(torch.randn(len(layer.weight)), dim=0))
        self.settle()

    @torch.no_grad()
    def settle(self, iterations: int = 15) -> None:
        """Bring u near the singular vector, after the weights were set."""
        for _ in range(iterations):
            self.u.copy_(self._step()[0])

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            u, v = self._step()
            if self.training:
                self.u.copy_(u)
        layer = self.layer
        weight = layer.weight / torch.dot(u, torch.mv(layer.weight.flatten(1), v))
        if isinstance(layer, nn.Linear):
            return functional.linear(x, weight, layer.bias)
        return layer._conv_forward(x, weight, layer.bias)

    def _step(self) -> tuple[Tensor, Tensor]:
        weight = self.layer.weight.detach().flatten(1)  # type: ignore[operator, union-attr]
        v = functional.normalize(torch.mv(weight.T, self.u), dim=0)
        return functional.normalize(torch.mv(weight, v), dim=0), v
