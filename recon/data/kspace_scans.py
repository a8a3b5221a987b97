"""A k-space file as scans to reconstruct one by one, with coil maps from its own calibration lines."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..problem import Problem
from .kspace import KSpace
from .kspace_files import HDF5, read_kspace
from .scans import Scan


def is_kspace(path: Path) -> bool:
    """Whether a file is k-space rather than projections: by its ending, of .npz by what it holds."""
    if path.suffix in (*HDF5, ".cfl", ".hdr", ".npy"):
        return True
    if path.suffix != ".npz" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "kspace.npy" in archive.namelist()


def open_kspace(path: Path) -> list[Scan]:
    """A scan for every image of the file; contrasts, repetitions, … are series of slices.

    Coils are whitened where there is a noise scan. Their maps are those of the file, or else `coil_maps`.
    Images are magnitudes in the units of the coils, cropped as the scanner's.

    Raises what `read_kspace` raises; ValueError for k-space off the Cartesian grid without maps.
    """
    data = read_kspace(path)
    if data.trajectory is not None and data.maps is None and data.coils > 1:
        raise ValueError(
            f"{path}: a trajectory, and no coil maps in the file, which only Cartesian k-space gives here"
        )
    if data.noise is not None:
        data = data.prewhitened()
    series = [_series(data, k) for k in range(len(data))]
    return [
        Scan(
            series=name,
            number=series[:k].count(name),
            load=_Load(data, k),
            mu_water=None,
            affine=data.volume(data.cropped(_blank(data))).affine,
            image=_Magnitude(data),
        )
        for k, name in enumerate(series)
    ]


@dataclass(frozen=True, eq=False)
class _Load:
    scan: KSpace
    k: int

    def __call__(self) -> Problem:
        known = self.scan.maps is not None or self.scan.coils == 1
        return self.scan.problem(self.k, maps=None if known else self.scan.coil_maps(self.k))


@dataclass(frozen=True, eq=False)
class _Magnitude:
    scan: KSpace

    def __call__(self, x: Tensor) -> Tensor:
        return self.scan.cropped(x.abs())


def _blank(scan: KSpace) -> Tensor:
    """An image of no extent in memory, to be placed."""
    return torch.zeros(1).expand(*(1,) * (3 - len(scan.grid)), *scan.grid)


def _series(scan: KSpace, k: int) -> str:
    """The file's name, with the counters other than slices that change in it."""
    stem = scan.source.stem if scan.source else "scan"
    labels = scan.labels[k] if scan.labels else {}
    told = [n for n in labels if n != "slice" and len({label[n] for label in scan.labels}) > 1]
    return "-".join([stem, *(f"{n}-{labels[n]}" for n in told)])
