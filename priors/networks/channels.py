"""Networks of real planes applied to images, volumes and data, real or complex, with coils or without."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .unet import Norm, norms


def on_planes(network: nn.Module, x: Tensor, ndim: int = 2) -> Tensor:
    """Network(x) for x (batch, channels, *shape): what lies before the last `ndim` axes is a batch.

    The network maps real planes (n, channels, ny, nx) to planes of as many rows and columns, see
    `to_planes`. Slices, frames and coils are a batch: each is treated alone and alike.

    Returns (batch, channels of the network, *shape), complex where x is.
    """
    planes = to_planes(x, ndim)
    out = network(planes).to(planes.dtype)  # it may compute in fewer bits, the image keeps its own
    lead, sides = x.shape[2 : x.ndim - ndim], x.shape[x.ndim - ndim :]
    out = out.reshape(len(x), *lead, out.shape[1], *sides).movedim(x.ndim - ndim - 1, 1)
    if x.is_complex():
        half = out.shape[1] // 2
        out = torch.complex(out[:, :half].contiguous(), out[:, half:].contiguous())
    return out


def to_planes(x: Tensor, ndim: int = 2) -> Tensor:
    """(batch, channels, *shape) as real planes (n, real channels, ny, nx).

    Complex channels become twice as many real ones, first all real parts, then all imaginary parts. With
    ndim = 1 (samples of a trajectory) a plane has one row.
    """
    planes = torch.cat([x.real, x.imag], 1) if x.is_complex() else x
    planes = planes.movedim(1, x.ndim - ndim - 1)
    sides = (1, *planes.shape[-1:]) if ndim == 1 else tuple(planes.shape[-2:])
    return planes.reshape(-1, planes.shape[-ndim - 1], *sides)


def real_channels(channels: int, is_complex: bool) -> int:
    """Channels of the network that `on_planes` calls for so many channels of x."""
    return 2 * channels if is_complex else channels


class Convolutions(nn.Sequential):
    """3×3 convolutions with something between: `inside` → hidden … hidden → `outside` channels.

    layers      number of convolutions
    activation  "relu", "prelu" (one slope a channel, 0 at first) or "leaky" (0.2)
    norm        "none", "group", "instance" or "batch", after every convolution but the last
    last        factor of the last layer's first weights; with 0 the network is 0
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        hidden: int = 32,
        layers: int = 3,
        activation: str = "relu",
        norm: Norm = "none",
        last: float = 1.0,
    ):
        stack: list[nn.Module] = []
        for k in range(layers):
            a, b = inside if k == 0 else hidden, outside if k == layers - 1 else hidden
            stack.append(nn.Conv2d(a, b, 3, padding=1))
            if k < layers - 1:
                stack += [*norms(norm, hidden), _activation(activation, hidden)]
        super().__init__(*stack)
        convolutions = [layer for layer in stack if isinstance(layer, nn.Conv2d)]
        for layer in convolutions:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            convolutions[-1].weight.mul_(last)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float32 and x.ndim == 4:
            # channels last in memory: with so few, convolutions of a CPU are 1.4 times as fast
            x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x)


def _activation(name: str, channels: int) -> nn.Module:
    match name:
        case "relu":
            return nn.ReLU()
        case "prelu":
            return nn.PReLU(channels, init=0.0)
        case "leaky":
            return nn.LeakyReLU(0.2)
    raise ValueError(f"activation: expected 'relu', 'prelu' or 'leaky', got {name!r}")


class Standardised(nn.Module):
    """m + s·f((x − m)/s): a network that sees every plane with mean 0 and standard deviation 1.

    m and s are those of every channel of every plane, so that the result scales and shifts with x; the
    network has as many channels out as in. Of Sriram et al., MICCAI 2020 (NormUnet).
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((-2, -1), keepdim=True)
        spread = ((x - mean).square().mean((-2, -1), keepdim=True) + 1e-12).sqrt()
        return mean + spread * self.network((x - mean) / spread)


def unet_widths(base: int, depth: int) -> list[int]:
    """Channels of a U-Net's scales: base, doubled at each of `depth` scales."""
    return [base * 2**k for k in range(depth)]
