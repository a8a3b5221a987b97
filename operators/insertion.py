"""Lower dose from data of a higher one: thinned counts, noise added to counts, post-log data or images.

All take a, the share of the photons that is left, 0 < a ≤ 1, one number or one per image. The law of what
comes out is `noise.scaled(a)`. Random numbers are drawn on the CPU, image by image from its own seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .backprojection import fbp, geometry_of
from .base import LinearOperator
from .hounsfield import to_attenuation
from .lowdose import LowDose
from .noise_model import Value, _like, draw_images

Seed = int | Sequence[int]
PADDING = -2000.0  # [HU] below which an image holds padding


def thin_counts(counts: Tensor, a: Value, seed: Seed = 0, data_ndim: int = 2) -> Tensor:
    """n_L ~ Binomial(n_H, a): each quantum kept with probability a; exact where the quanta are known.

    Poisson counts stay Poisson: of CT without electronic noise, of PET, of photon counting.

    counts : whole numbers ≥ 0, (*batch, *data shape), the last `data_ndim` dimensions one image

    Raises
    ------
    ValueError for counts with fractions (electronic noise: use `insert_into_counts`), negative ones, a not in
    (0, 1]
    """
    who = "thin_counts"
    if not isinstance(counts, Tensor) or not counts.is_floating_point():
        got = counts.dtype if isinstance(counts, Tensor) else type(counts).__name__
        raise ValueError(f"{who} counts: expected a floating-point tensor, got {got}; use counts.double()")
    if not bool(((counts >= 0) & (counts == counts.floor()) & torch.isfinite(counts)).all()):
        raise ValueError(
            f"{who} counts: expected whole numbers ≥ 0; with electronic noise the quanta are not known, "
            "use insert_into_counts"
        )
    share = _shares(who, a, counts, data_ndim)

    def draw(i: int, image: Tensor, generator: torch.Generator) -> Tensor:
        return torch.binomial(image, torch.full_like(image, share[i]), generator=generator)

    return draw_images(counts, data_ndim, seed, draw)


def insert_into_counts(y: Tensor, noise: LowDose, a: Value, seed: Seed = 0) -> Tensor:
    """n_L = a n_H + ξ √(a (1 − a) n_H + (1 − a²) σₑ²), ξ ~ N(0, 1): Žabić et al., Med. Phys. 40 (2013).

    Mean and variance are those of a scan at the dose a, also where the background b counts; the law is near
    Poisson's from some 20 counts n_L on. Where n_H < 0, by electronic noise, its photons count as none;
    without electronic noise n_L < 0 becomes 0.

    y : raw data [counts] of the law `noise`, (*batch, *data shape)
    """
    noise.check(y)
    share = _shares("insert_into_counts", a, y, noise.data_ndim)

    def draw(i: int, n: Tensor, generator: torch.Generator) -> Tensor:
        variance = (
            share[i] * (1 - share[i]) * n.clamp(min=0) + (1 - share[i] ** 2) * noise.electronic_sigma**2
        )
        return share[i] * n + variance.sqrt() * _normal(n, generator)

    low = draw_images(y, noise.data_ndim, seed, draw)
    return low if noise.electronic_sigma else low.clamp(min=0)


def insert_into_log(p: Tensor, noise: LowDose, a: Value, seed: Seed = 0) -> Tensor:
    """p_L = p_H + ξ √((1 − a)/a · (μ + b)/μ² + (1 − a²)/a² · σₑ²/μ²), μ = I₀ exp(−p_H), ξ ~ N(0, 1).

    To first order, as Yu et al. (J. Comput. Assist. Tomogr. 36 (2012)), who have b = 0: good from some 150
    counts at the lower dose on. Below, the noise of p_H matters in μ, and the logarithm's bias is missed.

    p : post-log data of the law `noise`, (*batch, *data shape)
    """
    share = _shares("insert_into_log", a, p, noise.data_ndim)
    noise._check_clean(p)

    def draw(i: int, image: Tensor, generator: torch.Generator) -> Tensor:
        one = noise.select(i)
        mu = _like(one.i0, image) * (-image).exp()
        variance = (1 - share[i]) / share[i] * (mu + _like(one.background, image)) / mu**2
        variance = variance + (1 / share[i] ** 2 - 1) * (noise.electronic_sigma / mu) ** 2
        return image + variance.sqrt() * _normal(image, generator)

    return draw_images(p, noise.data_ndim, seed, draw)


def insert_dose_into_image(
    hu: Tensor,
    A: LinearOperator,
    noise: LowDose,
    a: Value,
    seed: Seed = 0,
    filter: str = "ram-lak",
    frequency_scaling: float = 1.0,
    mu_water: float = 0.0206,
) -> Tensor:
    """HU_L = HU_H + 1000/μ_w · fbp(n), n the noise that projections A μ(HU_H) gain from the dose 1 to a.

    Only the increment is reconstructed, so the image keeps its sharpness and its own noise. n is Gaussian
    with the exact difference of the moments of the post-log data (`LowDose.exact`), their bias included, and
    independent from ray to ray.

    Parameters
    ----------
    hu : image of the higher dose [HU], (*batch, ny, nx); it covers the object, as A does. One whose air is
        clipped at −1000 HU, as in DICOM, gets the noise of a little too much attenuation
    A : `XRay` of a fan or parallel geometry like the scanner's, on the grid of the image
    noise : of the higher dose; see `i0_for_sigma` to find its I₀ from the noise in the image
    filter, frequency_scaling : of `fbp`; choose them for the kernel with which the image was made
    mu_water : [1/mm]
    """
    if not isinstance(A, LinearOperator):
        raise ValueError(f"insert_dose_into_image A: expected an operator, as XRay(geometry), got {A!r}")
    geometry_of(A)
    if noise.starvation != "floor":
        raise ValueError(
            f"insert_dose_into_image noise: expected starvation='floor', whose moments are known, got "
            f"{noise.starvation!r}"
        )
    share = _shares("insert_dose_into_image", a, hu, 2)
    lowest = float(hu.min()) if hu.numel() else 0.0
    if not lowest > PADDING:  # also NaN
        raise ValueError(
            f"insert_dose_into_image hu: expected finite values above {PADDING:g} HU, got {lowest:g}; "
            "set the padding of a DICOM to −1000, with hu.clamp(min=-1000)"
        )
    # not clipped at vacuum: the noise of air would all turn positive and dim the rays
    p = A(to_attenuation(hu, mu_water))

    def draw(i: int, image: Tensor, generator: torch.Generator) -> Tensor:
        one = noise.select(i)
        high, low = one.exact(image), one.scaled(share[i]).exact(image)
        deviation = (low.variance - high.variance).clamp(min=0).sqrt()
        return low.mean - high.mean + deviation * _normal(image, generator)

    n = draw_images(p, 2, seed, draw)
    return hu + fbp(A, n, filter=filter, frequency_scaling=frequency_scaling) * (1000 / mu_water)


def _normal(image: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(image.shape, generator=generator, dtype=image.dtype)


def _shares(who: str, a: Value, data: Tensor, ndim: int) -> list[float]:
    """The share of each image, checked."""
    batch = data.shape[: data.ndim - ndim]
    share = torch.as_tensor(a, dtype=torch.float64).cpu()
    if not bool(((share > 0) & (share <= 1)).all()):
        raise ValueError(f"{who} a: expected a share of the dose in (0, 1], got {a}; dose cannot be added")
    if share.ndim and share.shape != batch:
        raise ValueError(
            f"{who} a: expected one number or one per image {tuple(batch)}, got shape {tuple(share.shape)}"
        )
    values: list[float] = torch.as_tensor(share).expand(batch).reshape(-1).tolist()
    return values
