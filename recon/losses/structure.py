"""SSIM and MS-SSIM to be differentiated, in two and three dimensions, and SMGAN's structural loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..metrics.perceptual import WEIGHTS
from .base import Example, Loss, Reduction, pair, per_image


class MSSSIM(Loss):
    """1 − Π_j c_j^(w_j) · l_M^(w_M): the contrast–structure c_j of every scale, the luminance l of the last.

    Wang, Simoncelli, Bovik, Asilomar 2003; in two dimensions the value of `recon.metrics.ms_ssim`. A c_j ≤ 0
    counts as 0, and then nothing pulls: add a pixel loss, as `Structural` does. Channels are judged with
    windows of their own and averaged.

    data_range : L of the constants (0.01 L)² and (0.03 L)²; 2 for images in [−1, 1]
    weights : w_j, finest scale first; fewer of them for small images
    window : side of the Gaussian window [pixels], odd; or one for each axis, 1 for none along it
    sigma : its standard deviation [pixels]
    """

    name = "ms-ssim"

    def __init__(
        self,
        data_range: float = 2.0,
        weights: Sequence[float] = WEIGHTS,
        window: int | Sequence[int] = 11,
        sigma: float = 1.5,
        reduction: Reduction = "mean",
    ):
        super().__init__(reduction)
        who = type(self).__name__
        for key, value in (("data_range", data_range), ("sigma", sigma)):
            if not 0 < value < math.inf:
                raise ValueError(f"{who} {key}: expected a positive number, got {value!r}")
        if not weights or min(weights) <= 0:
            raise ValueError(f"{who} weights: expected positive numbers, got {weights}")
        sizes = [window] if isinstance(window, int) else list(window)
        if not sizes or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(f"{who} window: expected odd sizes, got {window}")
        self.data_range, self.weights, self.sigma = data_range, tuple(weights), sigma
        self.window = window if isinstance(window, int) else tuple(window)

    def check(self, x: Tensor, truth: Any, mask: Tensor | None) -> None:
        super().check(x, truth, mask)
        who, axes, window = type(self).__name__, x.ndim - 2, self.window
        if axes not in (2, 3):
            raise ValueError(f"{who}: expected (n, channels, [nz,] ny, nx), got {tuple(x.shape)}")
        if not isinstance(window, int) and len(window) != axes:
            raise ValueError(f"{who} window: expected {axes} sizes for images {tuple(x.shape)}, got {window}")
        sizes, scales = self._sizes(axes), len(self.weights)
        least = [(size - 1) * 2 ** (scales - 1) + 1 for size in sizes]
        if any(n < m for n, m in zip(x.shape[2:], least, strict=True)):
            raise ValueError(
                f"{who}: {scales} scales with windows {sizes} expect images of at least {least} pixels, got "
                f"{tuple(x.shape[2:])}; give fewer weights or a smaller window"
            )

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        windows = [gaussian(size, self.sigma).to(x) for size in self._sizes(x.ndim - 2)]
        n, c1, c2 = len(x), (0.01 * self.data_range) ** 2, (0.03 * self.data_range) ** 2
        x, t = (a.reshape(-1, 1, *a.shape[2:]) for a in (x, truth))
        value = x.new_ones(len(x))
        for scale, weight in enumerate(self.weights):
            luminance, structure = similarities(x, t, windows, c1, c2)
            last = scale == len(self.weights) - 1
            mean = per_image(structure * luminance if last else structure)
            some = mean > 0
            # 0^w has no slope that could be used
            value = value * torch.where(some, torch.where(some, mean, 1.0) ** weight, 0.0)
            x, t = (x, t) if last else (halved(x), halved(t))
        return 1 - value.reshape(n, -1).mean(1)

    def _sizes(self, axes: int) -> list[int]:
        return [self.window] * axes if isinstance(self.window, int) else list(self.window)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls(weights=(0.4, 0.6), window=5), *pair(3, 1, 10, 13)),
            Example(cls(weights=(0.3, 0.3), window=(1, 3, 5), sigma=1.0), *pair(2, 2, 3, 9, 10)),
        ]


class SSIM(MSSSIM):
    """1 − mean of SSIM over all windows. Wang et al., IEEE Trans. Image Process. 13 (2004): Gaussian windows.

    data_range, window, sigma : as in `MSSSIM`, of which this is the first scale alone
    """

    name = "ssim"

    def __init__(
        self,
        data_range: float = 2.0,
        window: int | Sequence[int] = 11,
        sigma: float = 1.5,
        reduction: Reduction = "mean",
    ):
        super().__init__(data_range, (1.0,), window, sigma, reduction)

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        windows = [gaussian(size, self.sigma).to(x) for size in self._sizes(x.ndim - 2)]
        c1, c2 = (0.01 * self.data_range) ** 2, (0.03 * self.data_range) ** 2
        x, t = (a.reshape(-1, 1, *a.shape[2:]) for a in (x, truth))
        luminance, structure = similarities(x, t, windows, c1, c2)
        return 1 - (luminance * structure).reshape(len(truth), -1).mean(1)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(cls(window=5), *pair(3, 1, 7, 8)),
            Example(cls(window=(1, 3, 5), sigma=1.0), *pair(2, 2, 2, 4, 6)),
        ]


class Structural(Loss):
    """τ (1 − MS-SSIM) + (1 − τ) mean |x − truth|. SMGAN, You et al., IEEE Access 6 (2018).

    tau : τ, from 0 to 1; 0.89 is recalled, not read in the paper
    data_range, weights, window, sigma : of MS-SSIM
    """

    name = "structural"

    def __init__(
        self,
        tau: float = 0.89,
        data_range: float = 2.0,
        weights: Sequence[float] = WEIGHTS,
        window: int | Sequence[int] = 11,
        sigma: float = 1.5,
        reduction: Reduction = "mean",
    ):
        super().__init__(reduction)
        if not 0 <= tau <= 1:
            raise ValueError(f"Structural tau: expected a number from 0 to 1, got {tau!r}")
        self.tau = tau
        self.ms_ssim = MSSSIM(data_range, weights, window, sigma, "none")

    def each(self, x: Tensor, truth: Any, mask: Tensor | None) -> Tensor:
        return self.tau * self.ms_ssim(x, truth) + (1 - self.tau) * per_image((x - truth).abs())

    @classmethod
    def examples(cls) -> list[Example]:
        small: dict[str, Any] = {"weights": (0.4, 0.6), "window": 3}
        return [Example(cls(**small), *pair(3, 1, 7, 8)), Example(cls(0.5, **small), *pair(2, 1, 5, 6, 7))]


def gaussian(size: int, sigma: float) -> Tensor:
    """exp(−k²/(2σ²)) for |k| ≤ size // 2, of sum 1; float64."""
    at = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-(at**2) / (2 * sigma**2))
    return weights / weights.sum()


def similarities(
    x: Tensor, t: Tensor, windows: Sequence[Tensor], c1: float, c2: float
) -> tuple[Tensor, Tensor]:
    """Luminance and contrast–structure of SSIM wherever the whole window lies inside; (n, 1, *spatial)."""

    def local(a: Tensor) -> Tensor:
        for axis, window in enumerate(windows, 2):
            a = along(a, axis, window)
        return a

    mean_x, mean_t = local(x), local(t)
    var_x, var_t = local(x * x) - mean_x**2, local(t * t) - mean_t**2
    cov = local(x * t) - mean_x * mean_t
    luminance = (2 * mean_x * mean_t + c1) / (mean_x**2 + mean_t**2 + c1)
    return luminance, (2 * cov + c2) / (var_x + var_t + c2)


def along(a: Tensor, axis: int, window: Tensor) -> Tensor:
    """Σ_k window_k a[… + k …] along an axis of (n, 1, *spatial), inside only."""
    if len(window) == 1:
        return a
    before, n, after = a.shape[:axis], a.shape[axis], a.shape[axis + 1 :]
    # always as a picture: convolutions of volumes are many times slower
    picture = a.reshape(math.prod(before), 1, n, math.prod(after))
    found = functional.conv2d(picture, window.reshape(1, 1, -1, 1))
    return found.reshape(*before, n - len(window) + 1, *after)


def halved(a: Tensor) -> Tensor:
    """Means of two pixels along every axis; the last one of an odd side is repeated."""
    for axis in range(2, a.ndim):
        n = a.shape[axis]
        if n % 2:
            a = torch.cat([a, a.narrow(axis, n - 1, 1)], axis)
        a = a.unflatten(axis, (-1, 2)).mean(axis + 1)
    return a
