"""The bricks of the networks: convolutions of planes or volumes, normalisations, activations, up-sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from .spectral import Spectral
from .unet import BatchNorm

Norm = Literal["none", "group", "instance", "layer", "batch"]
Activation = Literal["none", "relu", "leaky", "tanh", "sigmoid", "prelu"]


def block(
    inside: int,
    outside: int,
    kernel: int = 3,
    stride: int = 1,
    *,
    norm: Norm = "none",
    activation: Activation = "relu",
    dim: int = 2,
    padding: int | None = None,
    mode: str = "zeros",
    spectral: bool = False,
) -> nn.Sequential:
    """Convolution, normalisation, activation.

    padding, mode : on every side, None for (kernel − 1) // 2; "zeros" or "reflect"
    spectral : the convolution's weights divided by their largest singular value
    """
    layer: nn.Module = convolution(
        inside, outside, kernel, stride, dim=dim, padding=padding, mode=mode, bias=biased(norm)
    )
    layer = Spectral(layer) if spectral else layer
    return nn.Sequential(layer, *normalisation(norm, outside, dim), *activated(activation))


def convolution(
    inside: int,
    outside: int,
    kernel: int = 3,
    stride: int = 1,
    *,
    dim: int = 2,
    padding: int | None = None,
    mode: str = "zeros",
    bias: bool = True,
) -> nn.Module:
    """A convolution along the last `dim` axes, which by default keeps the size."""
    padding = (kernel - 1) // 2 if padding is None else padding
    kind = _of(dim, nn.Conv2d, nn.Conv3d)
    return kind(inside, outside, kernel, stride, padding, bias=bias, padding_mode=mode)


def transposed(
    inside: int,
    outside: int,
    kernel: int = 4,
    stride: int = 2,
    *,
    dim: int = 2,
    padding: int = 1,
    output_padding: int = 0,
    bias: bool = True,
) -> nn.Module:
    """A transposed convolution along the last `dim` axes, which by default doubles the size."""
    kind = _of(dim, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return kind(inside, outside, kernel, stride, padding, output_padding, bias=bias)


def pooling(kind: Literal["max", "avg"], dim: int = 2) -> nn.Module:
    """The largest or the mean of every 2 × 2 (× 2) values."""
    if kind == "max":
        return _of(dim, nn.MaxPool2d, nn.MaxPool3d)(2)
    return _of(dim, nn.AvgPool2d, nn.AvgPool3d)(2)


def upsampling(scale: int = 2, mode: Literal["linear", "nearest"] = "linear", dim: int = 2) -> nn.Module:
    """`scale` times as many pixels a side, by (bi-, tri-)linear interpolation or repetition."""
    if mode == "nearest":
        return nn.Upsample(scale_factor=scale, mode="nearest")
    return nn.Upsample(scale_factor=scale, mode=_of(dim, "bilinear", "trilinear"), align_corners=False)


class PixelShuffle(nn.Module):
    """(n, channels·r^d, *shape) -> (n, channels, r·shape): channels become pixels (Shi et al., CVPR 2016).

    For 2-D the order is that of `torch.nn.PixelShuffle`.
    """

    def __init__(self, scale: int = 2):
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        r, (n, c, *shape) = self.scale, x.shape
        d = len(shape)
        x = x.reshape(n, c // r**d, *(r,) * d, *shape)
        # every side's r goes behind its pixels
        order = [0, 1] + [axis for k in range(d) for axis in (2 + d + k, 2 + k)]
        return x.permute(order).reshape(n, c // r**d, *(r * s for s in shape))


class InstanceNorm(nn.GroupNorm):
    """Every channel of every image to mean 0 and variance 1, along any number of axes, without weights.

    One pixel alone stays as it is: it has no spread to be divided by.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if math.prod(x.shape[2:]) == 1 else super().forward(x)


class BatchNorm3d(nn.BatchNorm3d):
    """Batch normalisation of volumes that keeps no integer, as `priors.networks.unet.BatchNorm`."""

    _load_from_state_dict = nn.Module._load_from_state_dict

    def __init__(self, channels: int):
        super().__init__(channels)
        self.num_batches_tracked = None


def normalisation(norm: Norm, channels: int, dim: int = 2) -> list[nn.Module]:
    """The normalisation of that name, or none. "instance" has no weights (as CycleGAN's), the others have.

    Only "batch" makes an image depend on others, and while training only.
    """
    match norm:
        case "none":
            return []
        case "group":
            return [nn.GroupNorm(math.gcd(8, channels), channels)]
        case "layer":
            return [nn.GroupNorm(1, channels)]
        case "instance":
            return [InstanceNorm(channels)]
        case "batch":
            return [_of(dim, BatchNorm, BatchNorm3d)(channels)]
    raise ValueError(f"norm: expected 'none', 'group', 'instance', 'layer' or 'batch', got {norm!r}")


def biased(norm: Norm) -> bool:
    """Whether a convolution before this normalisation has a bias: the ones with weights bring their own."""
    return norm in ("none", "instance")


def activated(name: Activation) -> list[nn.Module]:
    """The activation of that name, or none; "leaky" has slope 0.2."""
    match name:
        case "none":
            return []
        case "relu":
            return [nn.ReLU()]
        case "leaky":
            return [nn.LeakyReLU(0.2)]
        case "tanh":
            return [nn.Tanh()]
        case "sigmoid":
            return [nn.Sigmoid()]
        case "prelu":
            return [nn.PReLU()]
    raise ValueError(
        f"activation: expected 'none', 'relu', 'leaky', 'tanh', 'sigmoid' or 'prelu', got {name!r}"
    )


def initialise(network: nn.Module, std: float = 0.02) -> None:
    """Convolutions and full layers N(0, std²), normalisations N(1, std²), biases 0: how most GANs start."""
    for module in network.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(weight, nn.Parameter) and not isinstance(module, nn.PReLU):
            nn.init.normal_(weight, 0.0 if weight.ndim > 1 else 1.0, std)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
    for module in network.modules():
        if isinstance(module, Spectral):
            module.settle()


def extended(x: Tensor, multiple: int, least: int = 1) -> Tensor:
    """x, its edge repeated at the end of every side up to a multiple of `multiple`, at least `least`."""
    sides = [max(n, least) for n in x.shape[2:]]
    more = [side + -side % multiple - n for side, n in zip(sides, x.shape[2:], strict=True)]
    if not any(more):
        return x
    return functional.pad(x, [value for m in reversed(more) for value in (0, m)], mode="replicate")


def cropped(h: Tensor, shape: Sequence[int]) -> Tensor:
    """The first `shape` values of the sides of h, behind its first two axes."""
    for axis, n in enumerate(shape, 2):
        h = h.narrow(axis, 0, n)
    return h


def _of(dim: int, plane: Any, volume: Any) -> Any:
    if dim not in (2, 3):
        raise ValueError(f"dim: expected 2 (planes) or 3 (volumes), got {dim!r}")
    return plane if dim == 2 else volume
