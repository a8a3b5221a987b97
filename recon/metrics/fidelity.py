"""How far an image is from the truth, in numbers without a unit. All in float64, one value per image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Range = float | Tensor


def psnr(image: Tensor, truth: Tensor, *, data_range: Range | None, mask: Tensor | None = None) -> Tensor:
    """10 log₁₀(range² / mean|x − t|²) [dB], inf for equal images.

    image, truth : (*batch, ny, nx), real or complex
    data_range : the range the squared error refers to, a number or one per image; never guessed
    mask : pixels that count, broadcasts to the images

    Returns (*batch,), float64. Raises ValueError without a positive data_range.
    """
    difference = _difference(image, truth)
    peak = _range("psnr", data_range, difference)
    return 10 * torch.log10(peak**2 / masked_mean(difference.abs() ** 2, mask))


def nmse(image: Tensor, truth: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """‖x − t‖₂² / ‖t‖₂² over the mask: (*batch, ny, nx), real or complex -> (*batch,), float64."""
    difference = _difference(image, truth)
    reference = masked_mean(_double(truth).abs() ** 2, mask)
    return masked_mean(difference.abs() ** 2, mask) / reference


def nrmse(image: Tensor, truth: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """‖x − t‖₂ / ‖t‖₂ over the mask: (*batch, ny, nx), real or complex -> (*batch,), float64."""
    return nmse(image, truth, mask=mask).sqrt()


def ssim(
    image: Tensor,
    truth: Tensor,
    *,
    data_range: Range | None,
    mask: Tensor | None = None,
    gaussian: bool = False,
) -> Tensor:
    """Mean of (2 μₓμₜ + c₁)(2 σₓₜ + c₂) / ((μₓ² + μₜ² + c₁)(σₓ² + σₜ² + c₂)), cᵢ = (kᵢ range)².

    Wang et al., IEEE Trans. Image Process. 13 (2004) 600; k = 0.01 and 0.03. Local means over 7 × 7 pixels
    with the sample covariance (n − 1), which is scikit-image's default; or, with `gaussian`, Wang's window of
    11 × 11 pixels, σ = 1.5, with the plain covariance. Averaged over pixels whose whole window lies inside.

    image, truth : (*batch, ny, nx), real
    data_range : a number or one per image, never guessed; the value depends on it strongly
    mask : pixels of the SSIM map that count, broadcasts to the images

    Returns (*batch,), float64.
    """
    if image.is_complex() or truth.is_complex():
        raise ValueError("ssim: expected real images, got complex ones; give their magnitude, .abs()")
    _difference(image, truth)
    window = _gaussian() if gaussian else torch.full((7,), 1 / 7, dtype=torch.float64)
    size = len(window)
    if min(image.shape[-2:]) < size:
        raise ValueError(
            f"ssim: expected images of at least {size} × {size} pixels, got {tuple(image.shape)}"
        )
    x, t = (_double(a).reshape(-1, 1, *a.shape[-2:]) for a in (image, truth))
    peak = _range("ssim", data_range, image).reshape(-1, 1, 1, 1)

    def local(a: Tensor) -> Tensor:
        w = window.to(a.device)
        return F.conv2d(F.conv2d(a, w.view(1, 1, -1, 1)), w.view(1, 1, 1, -1))

    norm = 1.0 if gaussian else size**2 / (size**2 - 1)
    mean_x, mean_t = local(x), local(t)
    var_x, var_t = norm * (local(x * x) - mean_x**2), norm * (local(t * t) - mean_t**2)
    cov = norm * (local(x * t) - mean_x * mean_t)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    similarity = (2 * mean_x * mean_t + c1) * (2 * cov + c2)
    similarity = similarity / ((mean_x**2 + mean_t**2 + c1) * (var_x + var_t + c2))
    edge = size // 2
    if mask is not None:
        mask = mask.expand(image.shape)[..., edge:-edge, edge:-edge]
    return masked_mean(similarity.reshape(*image.shape[:-2], *similarity.shape[-2:]), mask)


def magnitude(image: Tensor) -> Tensor:
    """|x| of a complex image; a real one as it is, signs included."""
    return image.abs() if image.is_complex() else image


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Σ m v / Σ m over the last two dimensions: (*batch, ny, nx) -> (*batch,)."""
    if mask is None:
        return values.mean((-2, -1))
    if mask.dtype != torch.bool:
        raise ValueError(f"mask: expected bool, got {mask.dtype}: use mask > 0")
    mask = mask.to(values.device).expand(values.shape)
    count = mask.sum((-2, -1))
    if bool((count == 0).any()):
        raise ValueError("mask: expected at least one pixel in every image, got an empty one")
    return torch.where(mask, values, 0).sum((-2, -1)) / count


def _difference(image: Tensor, truth: Tensor) -> Tensor:
    if image.shape != truth.shape or image.ndim < 2:
        raise ValueError(
            f"image and truth: expected equal shapes (*batch, ny, nx), got {tuple(image.shape)} and "
            f"{tuple(truth.shape)}"
        )
    return _double(image) - _double(truth).to(image.device)


def _double(x: Tensor) -> Tensor:
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _range(name: str, data_range: Range | None, like: Tensor) -> Tensor:
    if data_range is None:
        raise ValueError(
            f"{name} data_range: expected the range of the truth (a number or one per image), got None; the "
            f"value depends on it, so it is not guessed"
        )
    value = torch.as_tensor(data_range, dtype=torch.float64, device=like.device)
    if not bool(((value > 0) & torch.isfinite(value)).all()):
        raise ValueError(f"{name} data_range: expected positive finite numbers, got {data_range}")
    if value.ndim and value.shape != like.shape[:-2]:
        raise ValueError(
            f"{name} data_range: expected a number or one per image, {tuple(like.shape[:-2])}, got "
            f"{tuple(value.shape)}"
        )
    return value.expand(like.shape[:-2])


def _gaussian(size: int = 11, sigma: float = 1.5) -> Tensor:
    x = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()
