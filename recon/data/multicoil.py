"""Fully sampled multi-coil k-space without noise: exact for ellipses, band-limited for fine images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from operators import Fourier
from operators.coils import combine

from .ellipses import Ellipses
from .kspace_ellipses import half_step_kspace, modulated_kspace
from .smooth_fields import SmoothField, pixel_centres


def multicoil_kspace(
    ellipses: Ellipses, fields: SmoothField, shape: tuple[int, int], pixel_size: float = 1.0
) -> Tensor:
    """Y_c(k) = Σⱼ a_cj X(k − κⱼ) on the Cartesian grid: k-space of coils × object, without a raster.

    Exact, as `ellipse_kspace`. The sum is a convolution on a lattice of half grid steps: its part that no
    end of the lattice reaches is a product at the lattice's points in space, folded because every other
    frequency is kept.

    fields : coils, or coils × phase

    Returns (*fields, ny, nx), complex128.
    """
    sizes = [_fft_size(n + m + 1) for n, m in zip(shape, fields.order, strict=True)]
    lattice = half_step_kspace(ellipses, shape, (sizes[0], sizes[1]), pixel_size)[:-1, :-1]
    image = torch.fft.ifft2(torch.fft.ifftshift(torch.from_numpy(lattice)))
    # lattice point r lies r·n/size pixels from the middle pixel n // 2
    u_y, u_x = (torch.arange(2 * s).double() / s + origin(n) for n, s in zip(shape, sizes, strict=True))
    seen = image * fields.on(u_y, u_x)
    folded = seen[..., : sizes[0], :] + seen[..., sizes[0] :, :]
    folded = folded[..., : sizes[1]] + folded[..., sizes[1] :]
    rows, columns = (torch.arange(-(n // 2), (n + 1) // 2) % s for n, s in zip(shape, sizes, strict=True))
    return torch.fft.fft2(folded)[..., rows[:, None], columns]


def multicoil_samples(
    ellipses: Ellipses,
    fields: SmoothField,
    trajectory: Tensor,
    shape: tuple[int, int],
    pixel_size: float = 1.0,
) -> Tensor:
    """As `multicoil_kspace`, at any k (…, samples, 2), (k_y, k_x) [rad per pixel]: (*fields, …, samples)."""
    c = fields.coefficients
    wave_y, wave_x = (math.pi * torch.arange(-m, m + 1, dtype=torch.float64) for m in fields.order)
    kappa = torch.cartesian_prod(wave_y / shape[0], wave_x / shape[1])
    shift = torch.exp(1j * (wave_y[:, None] * origin(shape[0]) + wave_x * origin(shape[1])))
    weights = (c * shift).flatten(-2)
    k = trajectory.detach().cpu().double()
    fields_of = weights.reshape(-1, weights.shape[-1])
    found = modulated_kspace(ellipses, k.reshape(-1, 2), kappa, fields_of, shape, pixel_size)
    return found.reshape(*weights.shape[:-1], *k.shape[:-1])


def multicoil_of_image(fine: Tensor, maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """F (S_c · x) of a finer image, the middle of its k-space: (*batch, My, Mx) -> (*batch, coils, ny, nx).

    The pixels of `fine` are samples, `maps` (coils, My, Mx) the sensitivities there; both cover the field of
    view. Scaled and centred as the k-space of the reconstruction grid.
    """
    size = (fine.shape[-2], fine.shape[-1])
    coils = (fine.to(torch.complex128).unsqueeze(-3) * maps).contiguous()
    k = Fourier(tuple(coils.shape[-2:]))(coils) * math.sqrt(math.prod(shape) / math.prod(size))
    rows, columns = (slice(m // 2 - n // 2, m // 2 - n // 2 + n) for n, m in zip(shape, size, strict=True))
    ramps = []
    for n, m in zip(shape, size, strict=True):
        frequency = 2 * math.pi * (torch.arange(n, dtype=torch.float64) - n // 2)
        # the two middle pixels, n // 2 and m // 2, lie at different places in the field of view
        ramps.append(torch.exp(1j * frequency * (origin(n) - origin(m))))
    return k[..., rows, columns] * ramps[0][:, None] * ramps[1]


def combined(k: Tensor, maps: Tensor) -> Tensor:
    """x = Σ_c conj(S_c) F⁻¹ y_c / Σ|S_c|²: what a full scan shows, the least-squares image of every pixel.

    k (*batch, coils, ny, nx), maps (coils, ny, nx). Zero where no coil sees anything.
    """
    return combine(Fourier(tuple(k.shape[-2:])).adjoint(k), maps)


def origin(n: int) -> float:
    """Where pixel n // 2 lies, in fields of view from the middle: 0 for odd n, ½/n for even n."""
    return float(pixel_centres(n)[n // 2])


def _fft_size(n: int) -> int:
    from scipy.fft import next_fast_len

    return int(next_fast_len(n))
