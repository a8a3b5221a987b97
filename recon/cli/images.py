"""Images that the commands read: DICOM, NIfTI and NumPy files as a volume in HU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.volumes import Volume


def read_images(
    source: Path, series: str | None, pixel_size: float | None, spacing: float | None
) -> tuple[Volume, float | None]:
    """A volume [HU] and its tube voltage [kV] where known.

    source : a DICOM file or folder, .nii or .nii.gz, or .npy and .npz (one array, HU)
    series : SeriesInstanceUID, where a folder holds several
    pixel_size, spacing : [mm], of .npy and .npz; of rows and columns, and of slices
    """
    from ..data.dicom_series import read_series
    from ..data.nifti import read_nifti

    if not source.exists():
        raise ValueError(f"{source}: there is no such file or folder")
    if source.name.endswith((".nii", ".nii.gz")):
        return read_nifti(source), None
    if source.suffix in (".npy", ".npz"):
        return _array(source, pixel_size, spacing), None
    found = read_series(source, uid=series)
    found = [s for s in found if s.modality == "CT"]
    if not found:
        raise ValueError(f"{source}: no CT series in it")
    if len(found) > 1:
        there = "; ".join(f"{s.uid} ({len(s.hu)} slices, {s.description or 'no description'})" for s in found)
        raise ValueError(f"{source}: several series, name one with --series: {there}")
    return found[0], found[0].kvp


def _array(source: Path, pixel_size: float | None, spacing: float | None) -> Volume:
    import numpy as np
    import torch

    from ..data.volumes import axial, finite

    if pixel_size is None:
        raise ValueError(f"{source}: an array has no size; say --pixel-size [mm]")
    try:
        with source.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            arrays = {n: content[n] for n in content.files} if source.suffix == ".npz" else {"": content}
    except Exception as error:
        raise ValueError(f"{source}: not a NumPy file of numbers, or damaged ({error})") from error
    images = [v for n, v in arrays.items() if v.ndim in (2, 3) and v.dtype.kind in "iuf" and n != "json"]
    if len(images) != 1:
        raise ValueError(
            f"{source}: expected one array (ny, nx) or (nz, ny, nx) of HU, found {len(images)} among "
            f"{sorted(arrays)}"
        )
    hu = finite(str(source), torch.from_numpy(images[0].astype(np.float32)))
    return axial(hu, (spacing or pixel_size, pixel_size, pixel_size))
