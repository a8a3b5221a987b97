"""NIfTI files: coordinates turned from RAS to DICOM's LPS (x to the left, y to the back) and back."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .volumes import Volume, finite

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
DEFLATE = 1032  # the most that gzip can shorten


def read_nifti(path: str | Path, complex_values: bool = False) -> Volume:
    """The volume of a NIfTI-1 or NIfTI-2 file, scaled, its axes turned to lie as DICOM's axial slices.

    hu[k, j, i]: i grows to the patient's left, j to the back, k to the head, as near as whole flips and
    swaps of axes get (nothing is interpolated); so a scan reads alike however its file stores it. Values are
    taken as they are: HU only if the file holds HU.

    path : .nii or .nii.gz, of three dimensions
    complex_values : take complex numbers too, as of MR images with their phase; else they are an error

    Raises ValueError, naming the file, where it is damaged or truncated, claims more than it can hold, or has
    not three dimensions, no usable affine, or NaN.
    """
    nib = import_nibabel()
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        image = nib.load(path)
    except Exception as error:
        raise ValueError(f"{path}: not a NIfTI file, or damaged ({error})") from error
    if not isinstance(image, nib.Nifti1Pair):
        raise ValueError(f"{path}: expected a NIfTI file, got {type(image).__name__}")
    shape = tuple(int(n) for n in image.shape)
    shape = shape[:3] if len(shape) > 3 and set(shape[3:]) == {1} else shape
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"{path}: expected a volume of three dimensions, got shape {image.shape}")
    _check_size(path, image)
    try:
        values = np.asarray(image.dataobj).reshape(shape)
    except Exception as error:
        raise ValueError(f"{path}: truncated or damaged ({error})") from error
    if values.dtype.kind not in ("iufc" if complex_values else "iuf"):
        raise ValueError(f"{path}: expected real numbers, got {values.dtype}; see complex_values")
    turned, affine = _as_slices(nib, values, np.asarray(image.affine, dtype=np.float64), path)
    dtype = np.complex64 if values.dtype.kind == "c" else np.float32
    hu = torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 1, 0), dtype=dtype))
    return Volume(finite(str(path), hu), TO_LPS @ affine)


def write_nifti(volume: Volume, path: str | Path, dtype: str = "float32") -> Path:
    """A NIfTI-1 file whose voxel (i, j, k) is hu[k, j, i], sform and qform in scanner coordinates [mm].

    path : .nii or .nii.gz; it appears whole or not at all
    dtype : "float32", "int16" for rounded values, or "complex64", for complex volumes the only one
    """
    nib = import_nibabel()
    path = Path(path)
    if not isinstance(volume, Volume):
        raise ValueError(
            f"write_nifti volume: expected a Volume, which knows its place, got {type(volume).__name__}; "
            "make one with axial(hu, (dz, dy, dx))"
        )
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"write_nifti path: expected a name that ends in .nii or .nii.gz, got {path.name}")
    if dtype not in ("float32", "int16", "complex64"):
        raise ValueError(f"write_nifti dtype: expected 'float32', 'int16' or 'complex64', got {dtype!r}")
    if volume.hu.is_complex() and dtype != "complex64":
        raise ValueError(
            f"write_nifti volume: complex values do not fit {dtype}; say dtype='complex64', or write the "
            "magnitude, volume.hu.abs()"
        )
    values = finite("write_nifti volume", volume.hu).cpu().numpy()
    if dtype == "int16":
        values = np.rint(values)
        if values.min() < -32768 or values.max() > 32767:
            raise ValueError(
                f"write_nifti: {values.min():g} … {values.max():g} does not fit int16; use float32"
            )
    image = nib.Nifti1Image(values.transpose(2, 1, 0).astype(dtype), TO_LPS @ volume.affine)
    image.set_sform(TO_LPS @ volume.affine, code="scanner")
    # a sheared stack (gantry tilt) has no quaternion: then only the sform holds
    image.set_qform(TO_LPS @ volume.affine, code="scanner" if volume.tilt < 0.01 else "unknown")
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        nib.save(image, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def _as_slices(nib: Any, values: Any, affine: Any, path: Path) -> tuple[Any, Any]:
    """Axes flipped and swapped towards (left, back, head), with the affine that goes with them."""
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError(f"{path}: its affine {affine.tolist()} places no volume")
    now = nib.orientations.io_orientation(affine)
    wanted = nib.orientations.axcodes2ornt(("L", "P", "S"))
    turn = nib.orientations.ornt_transform(now, wanted)
    back = nib.orientations.inv_ornt_aff(turn, values.shape)
    return nib.orientations.apply_orientation(values, turn), affine @ back


def _check_size(path: Path, image: Any) -> None:
    """A header can claim any size; the file cannot hold it."""
    need = math.prod(image.shape) * image.header.get_data_dtype().itemsize
    data = Path(image.file_map["image"].filename)
    most = data.stat().st_size * (DEFLATE if data.suffix in (".gz", ".bz2", ".zst") else 1)
    if need > most:
        raise ValueError(f"{path}: truncated; its header claims {need} bytes, the file can hold {most}")


def import_nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError("NIfTI files need nibabel: pip install 'hybrid-recon[formats]'") from error
    return nibabel
