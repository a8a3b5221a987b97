"""Contrast to noise, HU bias of materials, streaks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .fidelity import masked_mean
from .rois import real_images

MATERIALS = {
    "air": (-1050.0, -950.0),
    "lung": (-900.0, -500.0),
    "fat": (-130.0, -50.0),
    "water": (-20.0, 20.0),
    "soft": (20.0, 90.0),
    "bone": (300.0, 2000.0),
}
"""HU from … to of what `material_regions` tells apart."""


def cnr(image: Tensor, signal: Tensor, background: Tensor) -> Tensor:
    """|m₁ − m₂| / √((s₁² + s₂²)/2), means and variances over two regions: contrast to noise.

    image : (*batch, ny, nx), any unit
    signal, background : the regions, bool, broadcast to the image

    Returns (*batch,), float64; inf without noise, NaN without noise and contrast.
    """
    x = real_images("cnr image", image)
    means, variances = [], []
    for name, region in (("signal", signal), ("background", background)):
        mask = _region(f"cnr {name}", region, x, at_least=2)
        mean = masked_mean(x, mask)
        count = mask.sum((-2, -1))
        variances.append(masked_mean((x - mean[..., None, None]) ** 2, mask) * count / (count - 1))
        means.append(mean)
    return (means[0] - means[1]).abs() / ((variances[0] + variances[1]) / 2).sqrt()


def hu_bias(
    image: Tensor, truth: Tensor, *, mu_water: float, regions: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """1000 (mean x − mean t)/μ_water [HU] over every region, such as `material_regions(truth, mu_water)`.

    image, truth : attenuation [1/mm], (*batch, ny, nx)
    mu_water : attenuation of water [1/mm]
    regions : name to bool mask; a mask broadcasts to the images

    Returns name to (*batch,), float64; NaN where a region is empty in an image.
    """
    x, t = real_images("hu_bias image", image), real_images("hu_bias truth", truth)
    if x.shape != t.shape:
        raise ValueError(f"hu_bias: expected equal shapes, got {tuple(x.shape)} and {tuple(t.shape)}")
    scale = 1000 / _water("hu_bias", mu_water)
    bias = {}
    for name, region in regions.items():
        mask = _region(f"hu_bias regions[{name!r}]", region, x)
        bias[name] = scale * torch.where(mask, x - t, 0).sum((-2, -1)) / mask.sum((-2, -1))
    return bias


def material_regions(
    truth: Tensor,
    mu_water: float = 0.0206,
    margin: int = 2,
    materials: Mapping[str, tuple[float, float]] = MATERIALS,
) -> dict[str, Tensor]:
    """Where the truth lies between the two HU values of a material, `margin` pixels from anything else.

    truth : attenuation [1/mm], (*batch, ny, nx)
    mu_water : attenuation of water [1/mm]
    margin : pixels taken off all around, so that blurred edges do not count as bias
    materials : name to (from, to) [HU]

    Returns name to bool (*batch, ny, nx); materials that are nowhere are left out.
    """
    hu = 1000 * (real_images("material_regions truth", truth) / _water("material_regions", mu_water) - 1)
    found = {}
    for name, (low, high) in materials.items():
        region = (hu >= low) & (hu <= high)
        if margin:
            other = (~region).double().reshape(-1, 1, *hu.shape[-2:])
            near = F.max_pool2d(other, 2 * margin + 1, stride=1, padding=margin)
            region = (near == 0).reshape(hu.shape)
        if bool(region.any()):
            found[name] = region
    return found


def streak_index(image: Tensor, mask: Tensor, tile: int = 8) -> Tensor:
    """Standard deviation of the means of tiles of `tile`² pixels in a region that should be flat.

    Noise that is not streaky averages out: white noise of standard deviation s leaves s/tile.

    image : (*batch, ny, nx), any unit, which the index has
    mask : the region, bool (ny, nx); tiles of the image's grid that lie in it completely count
    tile : side of a tile [pixels]

    Returns (*batch,), float64.
    """
    x = real_images("streak_index image", image)
    if tile < 1 or mask.ndim != 2:
        raise ValueError(
            f"streak_index: expected tile ≥ 1 and a mask (ny, nx), got {tile} and {tuple(mask.shape)}"
        )
    _region("streak_index mask", mask, x)
    whole = F.avg_pool2d(mask.double()[None, None], tile)[0, 0] == 1
    if int(whole.sum()) < 2:
        raise ValueError(
            f"streak_index mask: expected at least 2 whole tiles of {tile}² pixels, got {int(whole.sum())}; "
            "use a larger region or smaller tiles"
        )
    means = F.avg_pool2d(x.reshape(-1, 1, *x.shape[-2:]), tile)[:, 0]
    return means[:, whole].std(-1).reshape(x.shape[:-2])


def _region(name: str, region: Tensor, image: Tensor, at_least: int = 0) -> Tensor:
    if not isinstance(region, Tensor) or region.dtype != torch.bool:
        got = region.dtype if isinstance(region, Tensor) else type(region).__name__
        raise ValueError(f"{name}: expected a bool mask, got {got}: use mask > 0")
    try:
        mask = region.to(image.device).expand(image.shape)
    except RuntimeError:
        raise ValueError(
            f"{name}: expected a mask that broadcasts to {tuple(image.shape)}, got {tuple(region.shape)}"
        ) from None
    fewest = int(mask.sum((-2, -1)).min())
    if fewest < at_least:
        raise ValueError(f"{name}: expected at least {at_least} pixels in every image, got {fewest}")
    return mask


def _water(name: str, mu_water: float | None) -> float:
    if mu_water is None or not mu_water > 0:
        raise ValueError(
            f"{name} mu_water: expected the attenuation of water in 1/mm (0.0206 at 60 keV), got {mu_water}"
        )
    return mu_water
