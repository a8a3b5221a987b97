"""Similarity as the eye is thought to see it: MS-SSIM, UQI, VIFp, HaarPSI. All in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .fidelity import Range, _gaussian, _range

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(
    image: Tensor, truth: Tensor, *, data_range: Range | None, weights: Sequence[float] = WEIGHTS
) -> Tensor:
    """Π_j c_j^(w_j) · l_M^(w_M), c_j the mean contrast–structure of SSIM at scale j, l_M c_M its mean SSIM.

    Wang, Simoncelli, Bovik, Asilomar 2003: Gaussian window of 11 × 11 pixels, σ = 1.5, five scales a factor
    of two apart by 2 × 2 means (an odd side is mirrored at its end). A negative c_j counts as 0.

    image, truth : (*batch, ny, nx), real; with five scales at least 161 pixels a side
    data_range : a number or one per image, never guessed
    weights : w_j, finest scale first; fewer of them for small images

    Returns (*batch,), float64.
    """
    x, t, shape = _pair("ms_ssim", image, truth)
    if not weights or min(weights) <= 0:
        raise ValueError(f"ms_ssim weights: expected positive numbers, got {weights}")
    peak = _range("ms_ssim", data_range, image).reshape(-1, 1, 1, 1)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    window = _gaussian()
    value = torch.ones(len(x), dtype=torch.float64, device=x.device)
    for scale, weight in enumerate(weights):
        if min(x.shape[-2:]) < len(window):
            least = (len(window) - 1) * 2 ** (len(weights) - 1) + 1
            raise ValueError(
                f"ms_ssim: {len(weights)} scales expect images of at least {least} pixels a side, got "
                f"{tuple(image.shape[-2:])}; give fewer weights"
            )
        mean_x, mean_t, var_x, var_t, cov = _moments(x, t, window)
        structure = (2 * cov + c2) / (var_x + var_t + c2)
        if scale == len(weights) - 1:
            structure = structure * (2 * mean_x * mean_t + c1) / (mean_x**2 + mean_t**2 + c1)
        value = value * structure.mean((-3, -2, -1)).clamp(min=0) ** weight
        x, t = _halved(x), _halved(t)
    return value.reshape(shape)


def uqi(image: Tensor, truth: Tensor, *, mask: Tensor | None = None, window: int = 8) -> Tensor:
    """Mean of 4 σₓₜ μₓ μₜ / ((σₓ² + σₜ²)(μₓ² + μₜ²)) over all windows: SSIM without constants.

    Wang and Bovik, IEEE Signal Process. Lett. 9 (2002): uniform windows of 8 × 8 pixels, one a pixel. A
    window flat in both images has its luminance part 2 μₓ μₜ / (μₓ² + μₜ²), one that is zero in both has 1;
    flat is a variance below 1e-12 of the square.

    image, truth : (*batch, ny, nx), real
    mask : windows count by the pixel after their middle; broadcasts to the images
    window : side [pixels]

    Returns (*batch,), float64.
    """
    from .fidelity import masked_mean

    x, t, shape = _pair("uqi", image, truth)
    if window < 2 or min(x.shape[-2:]) < window:
        raise ValueError(
            f"uqi: expected a window of at least 2 pixels in an image at least as large, got {window} and "
            f"{tuple(image.shape[-2:])}"
        )
    mean_x, mean_t, var_x, var_t, cov = _moments(x, t, torch.full((window,), 1 / window, dtype=x.dtype))
    spread, square = var_x + var_t, mean_x**2 + mean_t**2
    flat = spread <= 1e-12 * (square + spread)
    luminance = torch.where(square > 0, 2 * mean_x * mean_t / torch.where(square > 0, square, 1.0), 1.0)
    structure = 2 * cov / torch.where(flat, 1.0, spread)
    # without a mean there is only structure left to compare; the formula has 0/0 there
    quality = torch.where(flat, luminance, luminance * structure)
    quality = quality.reshape(*shape, *quality.shape[-2:])
    if mask is not None:
        before = window // 2
        rows, columns = (slice(before, before + n) for n in quality.shape[-2:])
        mask = mask.expand(image.shape)[..., rows, columns]
    return masked_mean(quality, mask)


def vifp(image: Tensor, truth: Tensor, *, data_range: Range | None, noise: float = 2.0) -> Tensor:
    """Σ log(1 + g² σₜ²/(σᵥ² + σₙ²)) / Σ log(1 + σₜ²/σₙ²), over all windows of four scales.

    Sheikh and Bovik, IEEE Trans. Image Process. 15 (2006), in their pixel-domain form (hence the p): Gaussian
    windows of 17, 9, 5 and 3 pixels, σ a fifth of that, every coarser scale filtered with its own window and
    halved; g = σₓₜ/σₜ², σᵥ² = σₓ² − g σₓₜ, where g < 0 counts as 0. 1 for equal images; more contrast than
    the truth may exceed 1; not symmetric. NaN for a truth without any structure.

    image, truth : (*batch, ny, nx), real, at least 41 pixels a side
    data_range : what is stretched to 255, the scale of σₙ²; a number or one per image, never guessed
    noise : σₙ², variance of the eye's noise

    Returns (*batch,), float64.
    """
    x, t, shape = _pair("vifp", image, truth)
    if min(x.shape[-2:]) < 41:
        raise ValueError(f"vifp: expected at least 41 pixels a side, got {tuple(image.shape[-2:])}")
    peak = _range("vifp", data_range, image).reshape(-1, 1, 1, 1)
    x, t = 255 / peak * x, 255 / peak * t
    seen = total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for size in (17, 9, 5, 3):
        window = _gaussian(size, size / 5)
        if size < 17:
            x, t = (_local(a, window)[..., ::2, ::2] for a in (x, t))
        _, _, var_x, var_t, cov = _moments(x, t, window)
        tiny = 1e-10
        structured = (var_t > tiny) & (var_x > tiny) & (cov > 0)
        gain = torch.where(structured, cov / var_t.clamp(min=tiny), 0.0)
        rest = torch.where(structured, (var_x - gain * cov).clamp(min=0), var_x)
        seen = seen + torch.log1p(gain**2 * var_t / (rest + noise)).sum((-3, -2, -1))
        total = total + torch.log1p(var_t / noise).sum((-3, -2, -1))
    return (seen / total).reshape(shape)


def haarpsi(
    image: Tensor, truth: Tensor, *, data_range: Range | None, c: float = 30.0, alpha: float = 4.2
) -> Tensor:
    """(l⁻¹(Σ l(S) w / Σ w))², l(s) = 1/(1 + e^(−αs)): similarity S of fine Haar details, coarse ones as w.

        S = ½ Σ_{j=1,2} (2 aⱼ bⱼ + C)/(aⱼ² + bⱼ² + C),   w = max(a₃, b₃)

    with a, b the moduli of the Haar details of both images at scale j, horizontal and vertical. Reisenhofer,
    Bosse, Kutyniok, Wiegand, Signal Process. Image Commun. 61 (2018), for grey images, with 2 × 2 means
    first, zeros beyond the border. 1 for equal images, and defined as 1 where neither has coarse details.

    image, truth : (*batch, ny, nx), real, at least 16 pixels a side, from 0 up to data_range
    data_range : what is stretched to 255, the scale of C; a number or one per image, never guessed
    c, alpha : C and α

    Returns (*batch,), float64.
    """
    x, t, shape = _pair("haarpsi", image, truth)
    if min(x.shape[-2:]) < 16:
        raise ValueError(f"haarpsi: expected at least 16 pixels a side, got {tuple(image.shape[-2:])}")
    peak = _range("haarpsi", data_range, image).reshape(-1, 1, 1, 1)
    # a pixel beyond an odd side is zero but counts in the mean of four, as in the authors' code
    x, t = (F.avg_pool2d(F.pad(255 / peak * a, (0, a.shape[-1] % 2, 0, a.shape[-2] % 2)), 2) for a in (x, t))
    above = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    below = torch.zeros_like(above)
    for axis in (-2, -1):
        a, b = ([_haar(v, 2**j, axis).abs() for j in (1, 2, 3)] for v in (x, t))
        similar = [(2 * p * q + c) / (p**2 + q**2 + c) for p, q in zip(a[:2], b[:2], strict=True)]
        weight = torch.maximum(a[2], b[2])
        above = above + (torch.sigmoid(alpha / 2 * (similar[0] + similar[1])) * weight).sum((-3, -2, -1))
        below = below + weight.sum((-3, -2, -1))
    perfect = torch.sigmoid(torch.tensor(alpha, dtype=torch.float64))
    mean = torch.where(below > 0, above / torch.where(below > 0, below, 1.0), perfect.to(below))
    return ((torch.logit(mean) / alpha) ** 2).reshape(shape)


def _pair(name: str, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, torch.Size]:
    """Both as (images, 1, ny, nx) in float64, and the batch."""
    if image.shape != truth.shape or image.ndim < 2:
        raise ValueError(
            f"{name}: expected equal shapes (*batch, ny, nx), got {tuple(image.shape)} and "
            f"{tuple(truth.shape)}"
        )
    for a in (image, truth):
        if not a.is_floating_point():
            raise ValueError(f"{name}: expected real images, got {a.dtype}; of complex ones give .abs()")
    x, t = (a.double().reshape(-1, 1, *a.shape[-2:]) for a in (image, truth.to(image.device)))
    return x, t, image.shape[:-2]


def _local(a: Tensor, window: Tensor) -> Tensor:
    """Σ window over rows and columns, wherever the whole window lies inside."""
    w = window.to(a.device)
    return F.conv2d(F.conv2d(a, w.view(1, 1, -1, 1)), w.view(1, 1, 1, -1))


def _moments(x: Tensor, t: Tensor, window: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Local means, variances and covariance."""
    mean_x, mean_t = _local(x, window), _local(t, window)
    var_x = (_local(x * x, window) - mean_x**2).clamp(min=0)
    var_t = (_local(t * t, window) - mean_t**2).clamp(min=0)
    return mean_x, mean_t, var_x, var_t, _local(x * t, window) - mean_x * mean_t


def _halved(a: Tensor) -> Tensor:
    """Means of 2 × 2 pixels; the last row or column of an odd side is repeated."""
    a = F.pad(a, (0, a.shape[-1] % 2, 0, a.shape[-2] % 2), mode="replicate")
    return F.avg_pool2d(a, 2)


def _haar(a: Tensor, size: int, axis: int) -> Tensor:
    """First half minus second half summed, of size × size pixels along `axis`, over size; zeros outside."""
    kernel = torch.full((1, 1, size, size), 1 / size, dtype=a.dtype, device=a.device)
    kernel.narrow(axis, size // 2, size // 2).neg_()
    before, after = size // 2 - 1, size // 2
    return F.conv2d(F.pad(a, (before, after, before, after)), kernel)
