"""Losses of derivatives: gradient consistency, gradient difference, total variation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from operators.gradient import spacings

from .base import Example, Loss, Reduction, pair, per_image
from .pixel import powered

Filter = Literal["difference", "sobel"]


class GradientConsistency(Loss):
    """1 − mean over axes of NCC(∂x, ∂truth), NCC = Σ(u − ū)(v − v̄) / √(Σ(u − ū)² Σ(v − v̄)² + ε²).

    Hiasa et al., SASHIMI 2018, for x = G(a), truth = a: edges stay where they are, whatever the contrast. The
    sums are means over the whole image here, the channels apart; a channel flat in one of the two images has
    NCC 0.

    filter : ∂ by neighbour minus pixel, or Sobel's
    absolute : |NCC|, for modalities whose edges change sign
    epsilon : ε [unit of x squared]
    """

    name = "gradient-consistency"
    compares = ("G(a)", "a")

    def __init__(
        self,
        filter: Filter = "sobel",
        absolute: bool = False,
        epsilon: float = 1e-8,
        reduction: Reduction = "mean",
    ):
        super().__init__(reduction)
        _check_filter(self, filter)
        if not 0 < epsilon < math.inf:
            raise ValueError(f"GradientConsistency epsilon: expected a positive number, got {epsilon!r}")
        self.filter, self.absolute, self.epsilon = filter, absolute, epsilon

    def check(self, x: Tensor, truth: Any, mask: Tensor | None) -> None:
        super().check(x, truth, mask)
        _check_size(self, x, self.filter)

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        found = []
        for axis in range(2, x.ndim):
            u, v = (derivative(a, axis, self.filter).flatten(2) for a in (x, truth))
            u, v = u - u.mean(-1, keepdim=True), v - v.mean(-1, keepdim=True)
            size = u.square().mean(-1) * v.square().mean(-1)
            correlation = (u * v).mean(-1) / (size + self.epsilon**2).sqrt()
            found.append(correlation.abs() if self.absolute else correlation)
        return 1 - per_image(torch.stack(found, 1))

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls(), *pair(3, 1, 6, 5)),
            Example(cls("difference", absolute=True), *pair(2, 2, 3, 4, 5)),
        ]


class GradientDifference(Loss):
    """Σ over axes of mean ||∂x| − |∂truth||^p. Nie et al., MICCAI 2017, IEEE TBME 65 (2018): p = 2.

    filter : ∂ by neighbour minus pixel, or Sobel's
    absolute : compare moduli; without, ∂x itself with ∂truth: Kaji's gradient loss between input and output
    p : ≥ 1
    """

    name = "gradient-difference"

    def __init__(
        self,
        filter: Filter = "difference",
        absolute: bool = True,
        p: float = 2.0,
        reduction: Reduction = "mean",
    ):
        super().__init__(reduction)
        _check_filter(self, filter)
        if not 1 <= p < math.inf:
            raise ValueError(f"GradientDifference p: expected at least 1, got {p!r}")
        self.filter, self.absolute, self.p = filter, absolute, float(p)

    def check(self, x: Tensor, truth: Any, mask: Tensor | None) -> None:
        super().check(x, truth, mask)
        _check_size(self, x, self.filter)

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        value = x.new_zeros(len(x))
        for axis in range(2, x.ndim):
            u, v = (derivative(a, axis, self.filter) for a in (x, truth))
            u, v = (u.abs(), v.abs()) if self.absolute else (u, v)
            value = value + per_image(powered(u - v, self.p))
        return value

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls(), *pair(3, 1, 5, 4)),
            Example(cls("sobel", absolute=False, p=1), *pair(2, 2, 3, 4, 5)),
        ]


class TV(Loss):
    """mean √(|∇x|² + τ²) − τ over pixels: total variation of x per pixel; the truth is not looked at.

    With τ = 0 it is `priors.TV(shape, pixel_size)(x)` over the volume of the image: forward differences, no
    flux through the border. Where ∇x = 0 its gradient then counts as 0.

    isotropic : |∇x| the Euclidean length, or the sum of the moduli of the derivatives
    smoothing : τ ≥ 0 [unit of x per mm]; the default keeps the loss differentiable (Kaji's 1e-3)
    pixel_size : [mm], or one for every axis
    across : of a 2.5-D image: channels are slices, and one more axis (with a pixel_size of its own, first)
    """

    name = "tv"
    compares = ("G(a)", "")
    needs_truth = False

    def __init__(
        self,
        isotropic: bool = True,
        smoothing: float = 1e-3,
        pixel_size: float | Sequence[float] = 1.0,
        across: bool = False,
        reduction: Reduction = "mean",
    ):
        super().__init__(reduction)
        if not 0 <= smoothing < math.inf:
            raise ValueError(f"TV smoothing: expected a number ≥ 0, got {smoothing!r}")
        self.isotropic, self.smoothing, self.pixel_size, self.across = (
            isotropic,
            smoothing,
            pixel_size,
            across,
        )

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        x = x.unsqueeze(1) if self.across else x
        spacing = spacings("TV pixel_size", self.pixel_size, x.ndim - 2)
        slopes = torch.stack([_forward(x, axis) / h for axis, h in enumerate(spacing, 2)])
        if not self.isotropic:
            slopes = slopes.abs().sum(0, keepdim=True)
        if self.smoothing:
            length = (slopes.square().sum(0) + self.smoothing**2).sqrt() - self.smoothing
        else:
            length = torch.linalg.vector_norm(slopes, dim=0)
        return per_image(length)

    @classmethod
    def examples(cls) -> list[Example]:
        x = pair(3, 2, 5, 4)[0]
        flat = 0.3 * torch.ones_like(x)
        return [
            Example(cls(), x, flat),
            Example(cls(isotropic=False, smoothing=0.0, pixel_size=(0.5, 2.0)), x, flat),
            Example(cls(across=True), x, flat),
            Example(cls(smoothing=0.1), pair(2, 1, 3, 4, 2)[0], torch.zeros(2, 1, 3, 4, 2).double()),
        ]


def derivative(a: Tensor, axis: int, filter: Filter) -> Tensor:
    """∂a along an axis of (n, channels, *spatial), where the whole stencil lies inside.

    "difference": a[k + 1] − a[k]. "sobel": (a[k + 1] − a[k − 1])/2, averaged over the other axes by 1, 2, 1.
    """
    if filter == "difference":
        return a.diff(dim=axis)
    n = a.shape[axis]
    a = (a.narrow(axis, 2, n - 2) - a.narrow(axis, 0, n - 2)) / 2
    for other in range(2, a.ndim):
        if other != axis:
            n = a.shape[other]
            before, here, after = (a.narrow(other, k, n - 2) for k in range(3))
            a = (before + 2 * here + after) / 4
    return a


def _forward(x: Tensor, axis: int) -> Tensor:
    """Next minus here, 0 at the far edge."""
    last = x.narrow(axis, x.shape[axis] - 1, 1)
    return x.diff(dim=axis, append=last)


def _check_filter(loss: Loss, filter: str) -> None:
    if filter not in ("difference", "sobel"):
        raise ValueError(f"{type(loss).__name__} filter: expected 'difference' or 'sobel', got {filter!r}")


def _check_size(loss: Loss, x: Tensor, filter: Filter) -> None:
    least = 3 if filter == "sobel" else 2
    if x.ndim < 3 or min(x.shape[2:]) < least:
        raise ValueError(
            f"{type(loss).__name__}: {filter} expects at least {least} pixels along every axis of "
            f"(n, channels, *spatial), got {tuple(x.shape)}"
        )
