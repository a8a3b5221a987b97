"""DnCNN: a plain stack of convolutions that predicts the noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DnCNN(nn.Module):
    """x − f(x): `depth` 3×3 convolutions with ReLU between, without normalisation.

    Zhang, Zuo, Chen, Meng, Zhang, IEEE Trans. Image Process. 26 (2017): depth 17 for one σ, 20 for all. With
    `noise_map` σ is one more channel of the input, so that one network serves every σ (as FFDNet, 2018).

    x (n, channels, ny, nx), σ (n,) -> like x
    """

    def __init__(self, channels: int = 1, depth: int = 20, width: int = 64, noise_map: bool = False):
        super().__init__()
        if channels < 1 or depth < 2 or width < 1:
            raise ValueError(
                f"DnCNN channels, depth, width: expected at least 1, 2, 1, got {channels}, {depth}, {width}"
            )
        self.channels, self.noise_map = channels, noise_map
        layers: list[nn.Module] = [nn.Conv2d(channels + noise_map, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type] # starts as the identity

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x - self.layers(with_noise_map(x, sigma) if self.noise_map else x)


def with_noise_map(x: Tensor, sigma: Tensor) -> Tensor:
    """x with σ as one more channel, (n, channels + 1, ny, nx)."""
    level = sigma.to(x).reshape(-1, 1, 1, 1).expand(len(x), 1, *x.shape[-2:])
    return torch.cat([x, level], 1)
