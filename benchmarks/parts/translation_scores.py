"""The scores of translation.py."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from recon.metrics import (
    body_mask,
    haarpsi,
    hu_bias,
    material_regions,
    noise_power_spectrum,
    psnr,
    rmse_hu,
    ssim,
    uqi,
    vifp,
)
from recon.metrics.noise_power import NoisePower

SOFT = (-150.0, 150.0)  # [HU] of a tile that may hold texture only
TILES = 64
TEXTURE = ("nps_distance_db", "nps_mean_frequency", "texture_sigma_hu")


def tiles(truth: Tensor, mu_water: float, side: int = 8) -> Tensor:
    """Corners (image, row, column) of the flattest soft-tissue tiles of the truth, at most `TILES`, (k, 3).

    Soft tissue throughout, by the truth; the tiles that vary least first, none overlapping another.
    """
    hu = 1000 * (truth.double() / mu_water - 1)
    parts = hu.unfold(1, side, 2).unfold(2, side, 2).flatten(3)
    fine = (parts.amin(-1) > SOFT[0]) & (parts.amax(-1) < SOFT[1])
    spread = torch.where(fine, parts.std(-1), math.inf)
    taken = torch.zeros_like(hu, dtype=torch.bool)
    chosen: list[list[int]] = []
    for number in spread.flatten().argsort(stable=True)[: int(fine.sum())].tolist():
        image, rest = divmod(number, spread[0].numel())
        row, column = (2 * k for k in divmod(rest, spread.shape[2]))
        here = taken[image, row : row + side, column : column + side]
        if not bool(here.any()) and len(chosen) < TILES:
            here.fill_(True)
            chosen.append([image, row, column])
    return torch.tensor(chosen, dtype=torch.long).reshape(-1, 3)


def texture(x: Tensor, corners: Tensor, pixel_size: float, mu_water: float, side: int = 8) -> NoisePower:
    """Noise power of the tiles, detrended by quadratics [HU² mm²]."""
    cuts = [x[i, r : r + side, c : c + side] for i, r, c in corners.tolist()]
    rois = 1000 / mu_water * torch.stack(cuts).double()
    return noise_power_spectrum(rois, pixel_size)


def texture_scores(
    x: Tensor, truth: Tensor, corners: Tensor, pixel_size: float, mu: float
) -> dict[str, float]:
    """How far the texture is from that of the truth, over the same tiles.

    nps_distance_db : √ mean over rings of (10 log₁₀ NPS/NPS of the truth)²; too smooth and too noisy alike
    """
    if len(corners) < 3:
        return dict.fromkeys(TEXTURE, math.nan)
    power, reference = (texture(v, corners, pixel_size, mu) for v in (x, truth))
    mine, its = power.radial(), reference.radial()
    least = 1e-12 * float(its.nps.max())
    ratio = 10 * torch.log10(mine.nps.clamp_min(least) / its.nps.clamp_min(least))
    values = (float(ratio.square().mean().sqrt()), mine.mean_frequency, math.sqrt(power.variance))
    return dict(zip(TEXTURE, values, strict=True))


def ct_scores(
    x: Tensor, truth: Tensor, *, data_range: float, mu_water: float, pixel_size: float
) -> dict[str, float]:
    """PSNR, SSIM, RMSE and bias in HU, distance of the noise power spectrum; means over images."""
    body = body_mask(truth, mu_water)
    regions = {"body": body, **material_regions(truth, mu_water, margin=1)}
    bias = hu_bias(x, truth, mu_water=mu_water, regions=regions)
    found = {
        "psnr_db": float(psnr(x, truth, data_range=data_range).mean()),
        "psnr_db_sd": float(psnr(x, truth, data_range=data_range).std()),
        "ssim": float(ssim(x, truth, data_range=data_range).mean()),
        "rmse_hu": float(rmse_hu(x, truth, mu_water=mu_water, mask=body).mean()),
    }
    found |= {f"bias_hu_{name}": float(value.nanmean()) for name, value in bias.items()}
    corners = tiles(truth, mu_water)
    return found | texture_scores(x, truth, corners, pixel_size, mu_water) | {"tiles": len(corners)}


def table_scores(x: Tensor, truth: Tensor, *, data_range: float) -> dict[str, float]:
    """The columns of MedGAN's Table 1, HaarPSI in the place of LPIPS; means over images.

    MSE is of images of which `data_range` is 255, as the paper's.
    """
    mse = F.mse_loss(x.double(), truth.double(), reduction="none").mean((-2, -1)) * (255 / data_range) ** 2
    return {
        "ssim": float(ssim(x, truth, data_range=data_range).mean()),
        "psnr_db": float(psnr(x, truth, data_range=data_range).mean()),
        "mse_8bit": float(mse.mean()),
        "vif": float(vifp(x, truth, data_range=data_range).mean()),
        "uqi": float(uqi(x, truth).mean()),
        "one_minus_haarpsi": float(1 - haarpsi(x, truth, data_range=data_range).mean()),
    }
