"""The g-factor: how much more noise parallel imaging has than fewer samples alone explain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .sense import Sense

_LARGEST = 1024  # aliases solved for together
_BLOCK = 2**22


@torch.no_grad()
def g_factor(A: Sense) -> Tensor:
    """g(r) = ([(A*A)⁻¹]_rr Σ_c |S_c(r)|² / R)^½ of least squares at white noise, R = `A.acceleration`.

    Pruessmann et al., Magn. Reson. Med. 42 (1999), in closed form. A mask of period p along an axis, p a
    divisor of the axis, mixes p pixels; one of no period, as random lines or a sampled centre, mixes the
    whole axis. Each set of mixed pixels is a small matrix: exact for every set of lines, and for lattices in
    two or three dimensions. `recon.pseudo_replica` serves every other mask and method.

    Returns (*in_shape), real; 0 where no coil sees anything, inf where a pixel can not be told from others.
    Raises ValueError for an operator other than `Sense` with maps, for frames, and where more than 1024
    pixels are mixed.
    """
    if not isinstance(A, Sense) or A.maps is None:
        raise ValueError(f"g_factor A: expected a Sense with maps, got {A!r}")
    maps, shape = A.maps, tuple(A.maps.shape[1:])
    if A.in_shape != shape:
        raise ValueError(
            f"g_factor A: expected one mask for {shape}, got frames {A.in_shape}; take one by one"
        )
    mask = (A.mask.detach().double() ** 2).expand(shape)
    periods = [_period(mask, axis) for axis in range(mask.ndim)]
    mixed = math.prod(periods)
    if mixed > _LARGEST:
        raise ValueError(
            f"g_factor A: its mask mixes {mixed} pixels, more than {_LARGEST}; use recon.pseudo_replica, or "
            "the lattice without its centre"
        )
    # (sets, aliases, coils): pixel r = q + j n/p has its aliases at every j
    S = _by_alias(maps.to(torch.complex128), periods)
    cell = mask[tuple(slice(p) for p in periods)]
    psf = torch.fft.ifftn(cell.to(torch.complex128))
    j = torch.cartesian_prod(*(torch.arange(p) for p in periods)).reshape(mixed, -1)
    lag = [(j[:, None, d] - j[None, :, d]) % p for d, p in enumerate(periods)]
    spread = psf[tuple(lag)].to(S)
    g = torch.cat([_of_sets(s, spread) for s in S.split(max(1, _BLOCK // mixed**2))]) / math.sqrt(
        A.acceleration
    )
    parts = [n // p for n, p in zip(shape, periods, strict=True)]
    g = g.reshape(*parts, *periods).permute(*(a for d in range(len(shape)) for a in (len(shape) + d, d)))
    return g.reshape(shape).to(maps.real)


def _of_sets(S: Tensor, spread: Tensor) -> Tensor:
    """([N⁻¹]_jj Σ_c|S_cj|²)^½ of each set; N_ij = spread_ij Σ_c conj(S_ci) S_cj."""
    power = S.abs().square().sum(-1)
    seen = power > 0
    size = torch.where(seen, power, 1).sqrt()
    S = S / size.unsqueeze(-1)  # N of unit diagonal but for 1/R
    both = seen.unsqueeze(-1) & seen.unsqueeze(-2)
    N = torch.where(both, spread * (S.conj() @ S.mT), torch.eye(S.shape[1]).to(S))
    values, vectors = torch.linalg.eigh(N)
    lost = values < 1e-12 * values[:, -1:]
    weights = torch.where(lost, math.inf, 1 / values).unsqueeze(-2)
    part = vectors.abs().square()
    # a pixel without a share in what is lost keeps a finite g
    variance = torch.where(part > 1e-9, part * weights, 0).sum(-1)
    return torch.where(seen, variance, 0).sqrt()


def _by_alias(maps: Tensor, periods: list[int]) -> Tensor:
    """(coils, *spatial) -> (sets, aliases, coils)."""
    n = len(periods)
    sizes = [s for size, p in zip(maps.shape[1:], periods, strict=True) for s in (p, size // p)]
    split = maps.reshape(len(maps), *sizes)
    order = [*range(2, 2 * n + 1, 2), *range(1, 2 * n + 1, 2), 0]
    return split.permute(order).reshape(-1, math.prod(periods), len(maps))


def _period(mask: Tensor, axis: int) -> int:
    """The smallest divisor of an axis by which the mask repeats."""
    n = mask.shape[axis]
    return next(p for p in range(1, n + 1) if n % p == 0 and torch.equal(mask, mask.roll(p, axis)))
