"""Coil compression: fewer virtual coils that keep most of the energy."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .coils import check_coils, leading, to_images, to_kspace


class Compressed(NamedTuple):
    """Virtual coils, and the unitary rows that made them.

    kspace  (*batch, virtual, *spatial)
    matrix  U, (*batch, virtual, coils), or (*batch, positions, virtual, coils) along a readout; U U* = 1, so
            white noise stays white and of the same size. For maps, coil images and noise: `mix_coils`
    energy  Σ|virtual coils|² / Σ|coils|², (*batch,): of singular values, Σ_{kept} s² / Σ s²
    """

    kspace: Tensor
    matrix: Tensor
    energy: Tensor


@torch.no_grad()
def compress_coils(
    kspace: Tensor, coils: int | None = None, energy: float | None = None, shared: bool = False, ndim: int = 2
) -> Compressed:
    """y' = U y, U the leading left singular vectors of the data (coils × samples).

    Buehrer et al., Magn. Reson. Med. 57 (2007). Prewhiten first where coils have different noise.

    kspace  (*batch, coils, *spatial), undersampled or not
    coils   how many virtual coils, or
    energy  keep at least this fraction of Σ|y|², in (0, 1]
    shared  one U for the whole batch (slices or frames of one scan); else every image has its own, and then
            energy needs a batch of one
    ndim    how many dimensions are spatial

    Raises ValueError unless exactly one of coils and energy is given and fits, and for bad k-space.
    """
    check_coils("compress_coils kspace", kspace, ndim)
    _check_wanted("compress_coils", coils, energy, kspace.shape[-ndim - 1])
    batch, there = kspace.shape[: -ndim - 1], kspace.shape[-ndim - 1]
    samples = kspace.flatten(-ndim).to(torch.complex128)
    if shared:
        samples = samples.movedim(-2, 0).flatten(1)
    elif energy is not None and math.prod(batch) != 1:
        raise ValueError(
            f"compress_coils energy: a batch {tuple(batch)} would need a number of coils per image; say "
            "shared=True for images of one scan, or coils"
        )
    power, vectors = leading(samples @ samples.mH, there)
    power = power.clamp_min(0)
    kept = power.cumsum(-1) / power.sum(-1, keepdim=True)
    if energy is not None:
        # the last fraction is 1 but for rounding
        coils = min(int((kept.reshape(-1, there)[0] < energy).sum()) + 1, there)
    assert coils is not None
    matrix = vectors[..., :coils].mH.to(kspace)
    matrix, fraction = matrix.expand(*batch, -1, -1), kept[..., coils - 1].to(kspace.real).expand(batch)
    return Compressed(mix_coils(matrix, kspace, ndim), matrix, fraction)


@torch.no_grad()
def compress_coils_along(
    kspace: Tensor, coils: int, axis: int = -2, window: int = 5, ndim: int = 2
) -> Compressed:
    """y'(x) = U(x) y(x) at every position x of a fully sampled readout: geometric compression.

    Zhang, Pauly, Vasanawala, Lustig, Magn. Reson. Med. 69 (2013). U(x) are the leading singular vectors of
    the data between x − window/2 and x + window/2 after the inverse FFT along the readout, turned so that
    they change smoothly, U(x) ← argmin_{P unitary} ‖P U(x) − U(x')‖ of the neighbour x' nearer to the middle.
    Where sensitivities change along the readout it keeps more than `compress_coils` with as many coils.

    kspace  (*batch, coils, *spatial), fully sampled along axis
    coils   how many virtual coils
    axis    the readout, negative: −1 is kx, −2 is ky
    window  positions whose data are taken together, odd

    `Compressed.matrix` is (*batch, positions, coils', coils): `mix_coils(matrix, maps, axis=axis)`.
    Raises ValueError for a readout not among the spatial axes, an even window, too many coils, bad k-space.
    """
    check_coils("compress_coils_along kspace", kspace, ndim)
    there = kspace.shape[-ndim - 1]
    _check_wanted("compress_coils_along", coils, None, there)
    if not -ndim <= axis <= -1:
        raise ValueError(f"compress_coils_along axis: expected {-ndim} to -1, got {axis}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"compress_coils_along window: expected an odd number, got {window}")
    hybrid = to_images(kspace, (axis,))
    samples = hybrid.movedim(axis, -ndim - 1).flatten(-ndim + 1).to(torch.complex128)
    gram = samples @ samples.mH  # (*batch, positions, coils, coils)
    near = torch.nn.functional.pad(gram.cumsum(-3), (0, 0, 0, 0, 1, 0))
    at = torch.arange(gram.shape[-3], device=gram.device)
    stop, start = (at + window // 2 + 1).clamp_max(len(at)), (at - window // 2).clamp_min(0)
    U = leading(near.index_select(-3, stop) - near.index_select(-3, start), coils)[1].mH
    matrix = _aligned(U)
    kept = (matrix @ gram @ matrix.mH).diagonal(dim1=-2, dim2=-1).real.sum((-2, -1))
    energy = kept / gram.diagonal(dim1=-2, dim2=-1).real.sum((-2, -1))
    matrix = matrix.to(kspace)
    return Compressed(
        to_kspace(mix_coils(matrix, hybrid, ndim, axis), (axis,)), matrix, energy.to(kspace.real)
    )


def mix_coils(matrix: Tensor, data: Tensor, ndim: int = 2, axis: int | None = None) -> Tensor:
    """z_c = Σ_d M_cd y_d, of k-space, maps, coil images or noise; with an axis M differs along it.

    matrix  (*batch, new, coils), or (*batch, positions, new, coils) with an axis; no batch serves every image
    data    (*batch, coils, *spatial)
    ndim    how many dimensions are spatial
    axis    negative; M belongs to images along it: for k-space transform along that axis before and after

    Raises ValueError where the coils or positions differ.
    """
    along = () if axis is None else (data.shape[axis],)
    wanted = (*along, matrix.shape[-2], data.shape[-ndim - 1]) if data.ndim > ndim else ()
    if not wanted or matrix.shape[-len(wanted) :] != wanted:
        raise ValueError(
            f"mix_coils matrix: expected (*batch, {'positions, ' if along else ''}new, coils) for data "
            f"{tuple(data.shape)} with {ndim} spatial dimensions, got {tuple(matrix.shape)}"
        )
    matrix = matrix.to(data)
    if axis is None:
        mixed = matrix @ data.flatten(-ndim)
        return mixed.unflatten(-1, data.shape[-ndim:])
    moved = data.movedim(axis, -ndim - 1)  # (*batch, positions, coils, *others)
    mixed = matrix @ moved.flatten(-ndim + 1)
    return mixed.unflatten(-1, moved.shape[-ndim + 1 :]).movedim(-ndim - 1, axis)


def _aligned(U: Tensor) -> Tensor:
    """Unitary turns P(x) U(x) that make each like its neighbour; (*batch, positions, virtual, coils)."""
    rows = list(U.unbind(-3))
    middle = len(rows) // 2
    for order in (range(middle + 1, len(rows)), range(middle - 1, -1, -1)):
        for x in order:
            before = rows[x - 1 if x > middle else x + 1]
            left, _, right = torch.linalg.svd(before @ rows[x].mH)
            rows[x] = left @ right @ rows[x]
    return torch.stack(rows, -3)


def _check_wanted(name: str, coils: int | None, energy: float | None, there: int) -> None:
    if (coils is None) == (energy is None):
        raise ValueError(f"{name}: expected exactly one of coils and energy, got {coils=}, {energy=}")
    if coils is not None and not 1 <= coils <= there:
        raise ValueError(f"{name} coils: expected 1 to {there}, as many as there are, got {coils}")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"{name} energy: expected a fraction in (0, 1], got {energy}")
