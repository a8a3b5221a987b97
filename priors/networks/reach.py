"""Receptive field: how many input pixels a side one output pixel can see."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from .blocks import PixelShuffle

Layer = tuple[int, ...]


def receptive_field(network: nn.Module | Sequence[nn.Module | Layer], axis: int = -1) -> int:
    """max over outputs of (last − first input seen + 1), followed back through a chain of layers.

    Padding, stride, dilation and up-sampling are followed exactly; the most is taken over the phases of
    up-sampled pixels. Of a network all layers count, in the order in which they were made, or those of its
    `chain()` if it has one: skips and residual connections see less than the longest way. A smaller image is
    seen whole. What normalisation makes of the whole image is not counted.

    network : a module, or layers: modules or (kernel, stride) or (kernel, stride, dilation)
    axis : the side

    ValueError for layers that see everything (full layers, attention) or whose reach is not known
    """
    ways = [_way(layer, axis) for layer in _leaves(network)]
    chain = [way for way in ways if way is not None]
    period = math.prod(way[1] for way in chain if way[0] != "down")
    widest = 1
    for start in range(period):
        first = last = start
        for way in reversed(chain):
            first, last = _inputs(way, first, last)
        widest = max(widest, last - first + 1)
    return widest


def _inputs(way: tuple[Any, ...], first: int, last: int) -> tuple[int, int]:
    """The inputs of one layer that its outputs from `first` to `last` depend on."""
    kind, stride, *rest = way
    if kind == "down":
        reach, padding = rest
        return first * stride - padding, last * stride - padding + reach
    if kind == "transposed":
        reach, padding = rest
        return -((reach - first - padding) // stride), (last + padding) // stride
    if kind == "nearest":
        return first // stride, last // stride
    # linear: pixel i lies at (i + ½)/r − ½, between two inputs unless exactly on one
    low, high = (2 * first + 1 - stride) // (2 * stride), -((stride - 2 * last - 1) // (2 * stride))
    return low, high


def _way(layer: nn.Module | Layer, axis: int) -> tuple[Any, ...] | None:
    """(kind, stride, last − first tap, padding) of a layer; None for one that looks at its pixel alone."""
    if isinstance(layer, tuple):
        kernel, stride, dilation = (*layer, 1) if len(layer) == 2 else layer
        return "down", stride, (kernel - 1) * dilation, 0
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        reach = (layer.kernel_size[axis] - 1) * layer.dilation[axis]
        padding = layer.padding[axis]
        return "down", layer.stride[axis], reach, padding if isinstance(padding, int) else reach // 2
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        reach = (layer.kernel_size[axis] - 1) * layer.dilation[axis]
        return "transposed", layer.stride[axis], reach, int(layer.padding[axis])
    if isinstance(layer, nn.MaxPool2d | nn.MaxPool3d | nn.AvgPool2d | nn.AvgPool3d):
        kernel, stride, padding = (
            value if isinstance(value, int) else value[axis]
            for value in (layer.kernel_size, layer.stride, layer.padding)
        )
        return "down", stride, kernel - 1, padding
    if isinstance(layer, nn.PixelShuffle):
        return "nearest", layer.upscale_factor
    if isinstance(layer, PixelShuffle):
        return "nearest", layer.scale
    if isinstance(layer, nn.Upsample):
        assert layer.scale_factor is not None
        factor = layer.scale_factor if isinstance(layer.scale_factor, float) else layer.scale_factor[axis]
        return ("nearest" if layer.mode == "nearest" else "linear"), int(factor)
    if isinstance(layer, nn.Linear | nn.MultiheadAttention | nn.AdaptiveAvgPool2d | nn.Flatten):
        raise ValueError(f"receptive_field: a {type(layer).__name__} sees the whole image")
    return None


def _leaves(network: nn.Module | Sequence[nn.Module | Layer]) -> Iterable[nn.Module | Layer]:
    for part in [network] if isinstance(network, nn.Module) else network:
        children = list(part.children()) if isinstance(part, nn.Module) else []
        if hasattr(part, "chain"):
            yield from _leaves(part.chain())  # type: ignore[operator, union-attr]
        elif children:
            yield from _leaves(children)
        else:
            yield part
