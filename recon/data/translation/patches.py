"""Large images and volumes by a method of small ones: overlapping patches, weights that sum to one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from operators import Gaussian, Identity

from ...problem import Problem

Method = Callable[[Problem], Tensor]


def as_problem(y: Tensor, shape: Sequence[int]) -> Problem:
    """Translation as a problem: A is the identity of one image, y (*batch, *shape) the input image.

    Noise is Gaussian of σ 1: its level is unknown, and no translation looks at it.
    """
    return Problem(Identity(tuple(shape)), y, Gaussian(sigma=1.0, data_ndim=len(shape)))


@torch.no_grad()
def patchwise(
    method: Method,
    volume: Tensor,
    patch: Sequence[int] | int,
    overlap: Sequence[int] | int | None = None,
    batch_size: int = 8,
) -> Tensor:
    """Σₖ wₖ · method(patch k of the volume),  Σₖ wₖ = 1 at every pixel.

    wₖ falls linearly to the borders of its patch, where there are others. Patches lie evenly, so neighbours
    share at least `overlap` pixels. Where the image is smaller than a patch it is continued by its edge and
    the rest cut off again. The sum is made in float64: a method that changes nothing gives back every float32
    value exactly (of float64 to 4·10⁻¹⁶).

    method : problem with y (m, *patch) -> images of that shape
    volume : (*batch, *shape), as many trailing dimensions as `patch` has
    patch : size of a patch; a number for a square one of two dimensions
    overlap : pixels that neighbours share at least, less than the patch; None: a quarter of it
    batch_size : patches handed over at once
    """
    patch = _sizes("patch", patch, (patch, patch) if isinstance(patch, int) else patch, 1)
    if overlap is None:
        overlap = [p // 4 for p in patch]
    overlap = _sizes("overlap", overlap, [overlap] * len(patch) if isinstance(overlap, int) else overlap, 0)
    if len(overlap) != len(patch) or any(o >= p for o, p in zip(overlap, patch, strict=False)):
        raise ValueError(f"patchwise overlap: expected less than the patch {patch}, got {overlap}")
    if volume.ndim < len(patch):
        raise ValueError(f"patchwise volume: expected at least {len(patch)} dimensions, got {volume.ndim}")
    if batch_size < 1:
        raise ValueError(f"patchwise batch_size: expected at least 1, got {batch_size}")
    n = len(patch)
    shape, batch = volume.shape[volume.ndim - n :], volume.shape[: volume.ndim - n]
    images = volume.reshape(-1, *shape)
    extended = _extended(images, patch)
    axes = [_weights(m, p, o) for m, p, o in zip(extended.shape[1:], patch, overlap, strict=True)]
    total = torch.zeros(extended.shape, dtype=torch.float64, device=volume.device)
    places = product(range(len(images)), *(range(len(begin)) for begin, _ in axes))
    for some in _batched(places, batch_size):
        boxes: list[tuple[int | slice, ...]] = []
        for k, *index in some:
            starts = [axes[d][0][i] for d, i in enumerate(index)]
            boxes.append((k, *(slice(s, s + p) for s, p in zip(starts, patch, strict=True))))
        y = torch.stack([extended[box] for box in boxes])
        x = method(as_problem(y, patch))
        if x.shape != y.shape:
            raise ValueError(f"patchwise method: expected images {tuple(y.shape)}, got {tuple(x.shape)}")
        for box, (_, *index), one in zip(boxes, some, x.double(), strict=True):
            for d, i in enumerate(index):
                weight = axes[d][1][i].to(one.device)
                one = one * weight.reshape(-1, *(1,) * (n - 1 - d))
            total[box] += one
    cut = total[(slice(None), *(slice(s) for s in shape))]
    return cut.reshape(*batch, *shape).to(volume.dtype)


@torch.no_grad()
def stackwise(method: Method, volume: Tensor, stack: int, batch_size: int = 4) -> Tensor:
    """Slice k is the middle of method(slices k − stack//2 … k + stack//2); the end slices are repeated.

    method : problem with y (m, stack, ny, nx) -> images of that shape
    volume : (nz, ny, nx)
    stack : an odd number of slices
    """
    checked_stack("stackwise", stack)
    out = torch.empty_like(volume)
    for start in range(0, len(volume), batch_size):
        middle = torch.arange(start, min(start + batch_size, len(volume)))
        y = torch.stack([volume[neighbours(int(k), stack, len(volume))] for k in middle])
        out[middle] = method(as_problem(y, y.shape[1:]))[:, stack // 2].to(volume.dtype)
    return out


def neighbours(k: int, stack: int, count: int) -> Tensor:
    """Numbers of the `stack` slices round slice k of `count`; the end slices are repeated."""
    return (torch.arange(stack) + k - stack // 2).clamp(0, count - 1)


def checked_stack(name: str, stack: int) -> int:
    """An odd number of at least 1."""
    if isinstance(stack, bool) or not isinstance(stack, int) or stack < 1 or stack % 2 == 0:
        raise ValueError(
            f"{name} stack: expected an odd number of slices, so that one is the middle; got {stack!r}"
        )
    return stack


def _weights(length: int, patch: int, overlap: int) -> tuple[list[int], Tensor]:
    """Where patches begin along an axis, and their weights (patches, patch): one at every pixel in sum."""
    count = 1 if length == patch else math.ceil((length - overlap) / (patch - overlap))
    starts = [round(i * (length - patch) / max(count - 1, 1)) for i in range(count)]
    ramp = torch.arange(1, patch + 1, dtype=torch.float64)
    tent = torch.minimum(ramp, ramp.flip(0))
    total = torch.zeros(length, dtype=torch.float64)
    for s in starts:
        total[s : s + patch] += tent
    return starts, torch.stack([tent / total[s : s + patch] for s in starts])


def _extended(images: Tensor, patch: Sequence[int]) -> Tensor:
    lacking = [max(p - s, 0) for p, s in zip(patch, images.shape[1:], strict=True)]
    if not any(lacking):
        return images
    pads = [value for lack in reversed(lacking) for value in (0, lack)]
    return functional.pad(images[:, None], pads, mode="replicate")[:, 0]


def _sizes(name: str, given: object, values: Sequence[int], least: int) -> tuple[int, ...]:
    sizes = tuple(values)
    good = [isinstance(v, int) and not isinstance(v, bool) and v >= least for v in sizes]
    if not sizes or len(sizes) > 3 or not all(good):
        raise ValueError(f"patchwise {name}: expected one to three whole numbers from {least}, got {given!r}")
    return sizes


def _batched(places: Iterator[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    some: list[tuple[int, ...]] = []
    for place in places:
        some.append(place)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
