"""fastMRI's HDF5 files (Zbontar et al., arXiv:1811.08839), slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .hdf5 import complex_numbers, dataset, is_complex, opened, text
from .kspace import KSpace, Stored
from .mr_header import Encoding, Header, hashed, parse_header
from .volumes import finite

REFERENCES = {"reconstruction_rss": "rss", "reconstruction_esc": "esc"}


def read_fastmri(path: str | Path) -> KSpace:
    """A fastMRI volume: (slices, coils, ky, kx) as stored, read one slice at a time.

    Its k-space is ours, centred and orthonormal; the readout (twice oversampled) is the second last axis,
    lines of phase encoding lie along the last. The stored "rss" is the root sum of squares of the coils'
    images, `scan.cropped` to 320 × 320. The mask of a test file, and the columns that were never measured
    (padding to the encoded matrix), become `mask`. Single-coil files get one coil. Masks to undersample with
    come from `operators`; fastMRI seeds those of a validation file by its name, `tuple(map(ord, name))`.

    Raises ValueError, naming the file, where it is damaged, refers to other files, claims more than it can
    hold, or its k-space is not complex.
    """
    path = Path(path)
    with opened(path) as file:
        data = dataset(path, file, "kspace")
        if data is None:
            raise ValueError(f"{path}: no dataset 'kspace', so no fastMRI file")
        if is_complex(data.dtype) is None:
            raise ValueError(f"{path}: kspace: expected complex numbers, got {data.dtype}")
        if data.ndim not in (3, 4) or 0 in data.shape:
            raise ValueError(
                f"{path}: kspace: expected (slices, [coils,] H, W), none of them 0, got {data.shape}"
            )
        shape = data.shape if data.ndim == 4 else (data.shape[0], 1, *data.shape[1:])
        references = {
            kind: Stored(found.shape, _Slices(path, name, found.shape[1:], True))
            for name, kind in REFERENCES.items()
            if (found := _reference(path, file, name, shape[0])) is not None
        }
        said = text(path, file, "ismrmrd_header")
        header = None if said is None else parse_header(str(path), said)
        mask = _mask(path, file, header, shape)
        attributes = _attributes(file, header)
    encoding = None if header is None else header.encodings[0]
    recon_shape = next((r.shape[1:] for r in references.values()), None)
    if recon_shape is None and encoding is not None and encoding.recon_matrix:
        recon_shape = (encoding.recon_matrix[2], encoding.recon_matrix[1])
    fov = encoding.field_of_view if encoding is not None else None
    thickness = encoding.recon_field_of_view if encoding is not None else None
    return KSpace(
        kspace=Stored(tuple(shape), _Slices(path, "kspace", tuple(shape[1:]), False)),
        mask=mask,
        references=references,
        # the header's x is the readout, our ky; the grid's step in k-space is 1 / field of view
        field_of_view=None if fov is None else (fov[2], fov[1]),
        recon_shape=recon_shape,
        labels=tuple({"slice": k} for k in range(shape[0])),
        attributes=attributes | ({"slice_spacing_mm": thickness[0]} if thickness else {}),
        source=path,
    )


@dataclass(frozen=True)
class _Slices:
    """One slice of a dataset; the file is open only meanwhile."""

    path: Path
    name: str
    shape: tuple[int, ...]
    real: bool

    def __call__(self, k: int) -> Tensor:
        with opened(self.path) as file:
            data = dataset(self.path, file, self.name)
            if data is None or not k < len(data):
                raise ValueError(f"{self.path}: {self.name!r} has changed since it was opened")
            values = data[k]
        where = f"{self.path}: {self.name}"
        if self.real:
            return finite(where, torch.from_numpy(values.astype("float32"))).reshape(self.shape)
        return torch.from_numpy(complex_numbers(where, values)).reshape(self.shape)


def _reference(path: Path, file: Any, name: str, slices: int) -> Any:
    found = dataset(path, file, name)
    if found is not None and (found.ndim != 3 or found.shape[0] != slices or found.dtype.kind != "f"):
        raise ValueError(f"{path}: {name}: expected ({slices}, ny, nx) real numbers, got {found.shape}")
    return found


def _mask(path: Path, file: Any, header: Header | None, shape: tuple[int, ...]) -> Tensor | None:
    """Lines that were measured, (W,); None where all were."""
    width = shape[-1]
    mask = torch.ones(width, dtype=torch.bool)
    stored = dataset(path, file, "mask")
    if stored is not None:
        if stored.dtype.kind not in "biuf" or stored.shape != (width,):
            raise ValueError(f"{path}: mask: expected ({width},), got {stored.dtype} {stored.shape}")
        mask = torch.from_numpy(stored[()].astype("float64") != 0)
    if header is not None:
        mask &= _measured(header.encodings[0], width)
    if not bool(mask.any()):
        raise ValueError(f"{path}: mask: samples nothing")
    return None if bool(mask.all()) else mask


def _measured(encoding: Encoding, width: int) -> Tensor:
    """The columns between the limits of phase encoding; all, where these do not fit the width."""
    mask = torch.ones(width, dtype=torch.bool)
    if 1 in encoding.limits and encoding.matrix[1] == width:
        lowest, highest, centre = encoding.limits[1]
        left = width // 2 - centre
        if left >= 0 and left + highest < width and lowest <= highest:
            mask[:left] = False
            mask[left + highest + 1 :] = False
    return mask


def _attributes(file: Any, header: Header | None) -> dict[str, Any]:
    found = dict(header.attributes) if header is not None else {}
    for name in ("max", "norm"):
        if name in file.attrs:
            found[name] = float(file.attrs[name])
    if "acquisition" in file.attrs:
        found["acquisition"] = str(file.attrs["acquisition"])
    if "patient_id" in file.attrs:
        found["patient_hash"] = hashed(str(file.attrs["patient_id"]))
    return found
