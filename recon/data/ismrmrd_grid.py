"""Where the readouts of a Cartesian ISMRMRD file lie: in k-space and in the patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .hdf5 import SHORTENED, SMALL
from .kspace import KSpace
from .kspace_problem import centre_crop
from .mr_header import Encoding, Header
from .volumes import Affine, checked_affine

REVERSE = np.uint64(1 << 21)  # flag 22


@dataclass(frozen=True)
class Grid:
    """K-space (images, coils, nz, ny, nx) and how counters and samples find their place in it."""

    path: Path
    encoding: Encoding
    shape: tuple[int, int, int, int, int]

    @classmethod
    def of(cls, path: Path, e: Encoding, heads: Any, images: int, coils: int) -> Grid:
        """The grid of the header, if the readouts could fill a sensible part of it."""
        shape = (images, coils, *e.matrix)
        need = 8 * int(np.prod([float(n) for n in shape]))
        have = 8 * int((heads["number_of_samples"].astype(np.int64) * heads["active_channels"]).sum())
        if need > max(SMALL, SHORTENED * have):
            raise ValueError(
                f"{path}: its header claims k-space {shape} of {need} bytes, there are readouts of {have}"
            )
        return cls(path, e, shape)

    def row(self, number: int, head: Any, step: int) -> int:
        """Index of this phase encoding."""
        n = self.shape[4 - step]
        counter = int(head["idx"][f"kspace_encode_step_{step}"])
        row = counter - self.encoding.centre(step) + n // 2
        if not 0 <= row < n:
            raise ValueError(
                f"{self.path}: readout {number}: kspace_encode_step_{step} = {counter} with the centre at "
                f"{self.encoding.centre(step)} lies outside an encoded matrix of {n}"
            )
        return row

    def columns(self, number: int, head: Any) -> tuple[int, slice, bool]:
        """(first column, samples to keep once turned, whether to turn them)."""
        n, nx, c = int(head["number_of_samples"]), self.shape[4], int(head["center_sample"])
        pre, post = int(head["discard_pre"]), int(head["discard_post"])
        turned = bool(head["flags"] & REVERSE)
        if turned:
            # bipolar readouts count k downwards from c − 1, as scanners write them (mrpro's pull request 832)
            c, pre, post = n - c, post, pre
        first = 0 if n == nx else nx // 2 - c
        if pre + post >= n or not (first + pre >= 0 and first + n - post <= nx):
            raise ValueError(
                f"{self.path}: readout {number} of {n} samples ({pre} + {post} to discard) with its centre "
                f"at {c} does not fit an encoded matrix of {nx}"
            )
        return first + pre, slice(pre, n - post), turned

    def finished(
        self,
        y: Tensor,
        count: Tensor,
        calibration: Tensor | None,
        noise: Tensor | None,
        remove_oversampling: bool,
        readout: int,
        about: dict[str, Any],
    ) -> KSpace:
        """Two-dimensional scans lose kz; the readout goes where asked; the mask is as small as it can be."""
        mask = count > 0
        attributes = dict(about["attributes"])
        averages = count[mask]
        if float(averages.max()) > 1:
            attributes["averages"] = (int(averages.min()), int(averages.max()))
            noise = None if noise is None else noise / float(averages.double().mean()) ** 0.5
        if self.shape[2] == 1:
            y, mask = y.squeeze(2), mask.squeeze(1)
            calibration = None if calibration is None else calibration.squeeze(2)
        fov, recon = about["field_of_view"], about["recon_shape"]
        if remove_oversampling:
            y, mask, fov, calibration = self._without_oversampling(y, mask, fov, calibration)
        if readout == -2:
            y, mask = y.transpose(-1, -2).contiguous(), mask.transpose(-1, -2)
            calibration = None if calibration is None else calibration.transpose(-1, -2).contiguous()
            fov = None if fov is None else (*fov[:-2], fov[-1], fov[-2])
            recon = None if recon is None else (*recon[:-2], recon[-1], recon[-2])
            if about["affine"] is not None:
                about["affine"] = about["affine"][:, [1, 0, 2, 3]]
        changed = {"field_of_view": fov, "recon_shape": recon, "attributes": attributes}
        affine = about["affine"]
        if affine is not None and remove_oversampling:
            affine = _recentred(affine, self.encoding.matrix[::-1], y.shape[2:][::-1], readout)
        return KSpace(
            y, mask=smallest(mask), noise=noise, calibration=calibration,
            **(about | changed | {"affine": affine}),
        )  # fmt: skip

    def _without_oversampling(
        self, y: Tensor, mask: Tensor, fov: Any, calibration: Tensor | None
    ) -> tuple[Tensor, Tensor, Any, Tensor | None]:
        e = self.encoding
        if e.field_of_view is None or e.recon_field_of_view is None:
            raise ValueError(f"{self.path}: its header has no fields of view; the readout stays as it is")
        nx = self.shape[4]
        kept = round(nx * min(e.recon_field_of_view[2] / e.field_of_view[2], 1.0))
        if kept == nx:
            return y, mask, fov, calibration
        if not bool((mask.all(-1) == mask.any(-1)).all()):
            raise ValueError(
                f"{self.path}: an asymmetric echo; without its oversampling it would not be a sampled k-space"
            )
        fov = (*fov[:-1], fov[-1] * kept / nx)
        calibration = None if calibration is None else cropped_readout(calibration, kept)
        return cropped_readout(y, kept), mask[..., :kept], fov, calibration


def sorted_lines(
    grid: Grid, lines: Iterable[tuple[int, Any, NDArray[Any], Any]], at: Any, which: Any
) -> tuple[Tensor, Tensor]:
    """K-space (images, coils, nz, ny, nx), averaged, and how often each point was measured."""
    images, coils, nz, ny, nx = grid.shape
    y = np.zeros(grid.shape, dtype=np.complex64)
    count = np.zeros((images, nz, ny, nx), dtype=np.int32)
    for (number, head, samples, _), image in zip(lines, which, strict=True):
        if len(samples) != coils:
            raise ValueError(f"{grid.path}: readout {number} has {len(samples)} coils, expected {coils}")
        row = grid.row(number, head, 1)
        plane = grid.row(number, head, 2) if nz > 1 else 0
        first, kept, turned = grid.columns(number, head)
        line = (samples[:, ::-1] if turned else samples)[:, kept]
        there = slice(first, first + line.shape[1])
        with np.errstate(all="ignore"):  # NaN and inf are told below
            y[image, :, plane, row, there] += line
        count[image, plane, row, there] += 1
    if count.max(initial=0) > 1:
        y /= np.maximum(count, 1)[:, None]
    if not np.isfinite(y.view(np.float32)).all():
        raise ValueError(f"{grid.path}: NaN or inf in its readouts")
    return torch.from_numpy(y), torch.from_numpy(count)


def smallest(mask: Tensor) -> Tensor | None:
    """The mask without dimensions along which it is constant; None where all is True."""
    if bool(mask.all()):
        return None
    for axis in range(mask.ndim):
        first = mask.narrow(axis, 0, 1)
        if bool((mask == first).all()):
            mask = first
    while mask.ndim > 2 and mask.shape[0] == 1:
        mask = mask[0]
    return mask.clone()


def cropped_readout(y: Tensor, kept: int) -> Tensor:
    """The middle of the image along the last axis, as k-space again."""
    x = torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(y, dim=-1), norm="ortho"), dim=-1)
    x = centre_crop(x, (kept,))
    return torch.fft.fftshift(torch.fft.fft(torch.fft.ifftshift(x, dim=-1), norm="ortho"), dim=-1)


def affine_of(e: Encoding, heads: Any, header: Header) -> tuple[Affine | None, float | None]:
    """Affine of the full grid, and the distance of slices [mm], where the heads say where they are."""
    if e.field_of_view is None or not {"position", "read_dir", "phase_dir", "slice_dir"} <= set(
        heads.dtype.names
    ):
        return None, None
    nz, ny, nx = e.matrix
    fz, fy, fx = e.field_of_view
    _, first = np.unique(heads["idx"]["slice"], return_index=True)
    places = np.stack([heads[k]["position"].astype(np.float64) for k in first])
    columns = [heads[first[0]][n].astype(np.float64) for n in ("read_dir", "phase_dir", "slice_dir")]
    step, spacing = columns[2] * fz / nz, fz
    if nz == 1 and len(places) > 1:
        steps = np.diff(places, axis=0)
        step, spacing = steps[0], float(np.linalg.norm(steps[0])) or fz  # fz: nobody filled in the positions
        if not np.allclose(steps, step, atol=1e-3 * max(spacing, 1e-3)):
            return None, None  # slices at different distances are no volume
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = columns[0] * fx / nx, columns[1] * fy / ny, step
    # the middle of the field of view, k = 0 of the phase, is at n // 2
    middle = np.array([nx // 2, ny // 2, nz // 2 if nz > 1 else 0])
    affine[:3, 3] = places[0] - affine[:3, :3] @ middle
    try:
        return checked_affine(affine), spacing
    except ValueError:
        return None, spacing  # directions that nobody filled in


def _recentred(affine: Affine, before: Any, after: Any, readout: int) -> Affine:
    """The same place for an image that is shorter along the readout."""
    axis = 0 if readout == -1 else 1
    moved = np.zeros(4)
    moved[axis] = before[0] // 2 - after[axis] // 2
    out = affine.copy()
    out[:3, 3] = (affine @ (moved + np.array([0, 0, 0, 1])))[:3]
    return out
