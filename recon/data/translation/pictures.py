"""One image file of any kind as slices (nz, ny, nx), checked: size, content, unit."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..volumes import Affine, finite

Kind = Literal["dicom", "nifti", "raster", "tiff", "array", "text"]
MOST = 2**32  # bytes that one file may unfold to

SUFFIXES: dict[str, Kind] = {
    ".dcm": "dicom", ".ima": "dicom", ".nii": "nifti", ".nii.gz": "nifti", ".png": "raster", ".jpg": "raster",
    ".jpeg": "raster", ".tif": "tiff", ".tiff": "tiff", ".npy": "array", ".npz": "array", ".csv": "text",
    ".txt": "text",
}  # fmt: skip
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", "DICOM"),
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"\x93NUMPY", "NumPy .npy"),
    (0, b"PK\x03\x04", "zip or .npz"),
    (0, b"\x1f\x8b", "gzip"),
    (344, b"n+1\0", "NIfTI"),
    (0, b"%PDF", "PDF"),
)
CONTENT = {
    ".png": {"PNG"}, ".jpg": {"JPEG"}, ".jpeg": {"JPEG"}, ".tif": {"TIFF"}, ".tiff": {"TIFF"},
    ".npy": {"NumPy .npy"}, ".npz": {"zip or .npz"}, ".nii.gz": {"gzip"}, ".csv": set(), ".txt": set(),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Picture:
    """values (nz, ny, nx), float32, and what is known of them.

    kind      what file they come from
    volume    whether the file holds slices of one volume, not a single image
    modality  "CT", "MR", … of DICOM, else None
    bits      8 for 8-bit grey, None where the file does not limit them so
    spacing   (dz, dy, dx) [mm], None where unknown; dz is None for a single slice
    affine    of NIfTI, where the volume lies (`recon.data.Volume`)
    """

    path: Path
    values: Tensor
    kind: Kind
    volume: bool = False
    modality: str | None = None
    bits: int | None = None
    spacing: tuple[float | None, float, float] | None = None
    affine: Affine | None = None

    def expect(self, unit: str) -> Picture:
        """The picture itself, if its values can be of that unit; only "HU" can be refused."""
        if unit != "HU":
            return self
        hint = "name the window's unit 'grey' if that is meant"
        if self.kind == "dicom" and self.modality != "CT":
            raise ValueError(
                f"{self.path}: expected HU of a CT, got modality {self.modality!r}; give a window of its own"
            )
        if self.bits == 8:
            raise ValueError(f"{self.path}: expected HU, got 8-bit grey values; {hint}")
        v = self.values
        low, high = float(v.min()), float(v.max())
        if self.kind != "dicom" and low >= 0 and 1 < high <= 255 and bool((v == v.round()).all()):
            raise ValueError(
                f"{self.path}: expected HU, but all values are whole numbers from {low:g} to {high:g}, as "
                f"8-bit grey has them; {hint}"
            )
        return self


def kind_of(path: Path) -> Kind | None:
    """What its name says it is; a file without suffix that begins as DICOM is DICOM; None for others."""
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    # DICOM files often have no suffix, or part of a UID in its place
    looks = not suffix or suffix[1:].isdigit()
    return "dicom" if looks and path.is_file() and _content(path) == "DICOM" else None


def suffix_of(path: Path) -> str:
    """In lower case; ".nii.gz" is one."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def read_picture(path: str | Path) -> Picture:
    """The image or volume in a file: DICOM, NIfTI, PNG, JPEG, TIFF, .npy, .npz, .csv or .txt.

    DICOM by `read_dicom` (slope, intercept, signs, MONOCHROME1, several frames), NIfTI by `read_nifti`; grey
    values of the others as they are, also in colour files whose channels are equal. Text is rows of numbers
    with commas, semicolons, tabs or blanks between them.

    Raises ValueError, naming the file, where there is none, its content is not what its name says, it is
    damaged or truncated, unfolds to more than 4 GiB, holds colours, objects (pickles), no or several arrays,
    NaN or inf.
    """
    path = Path(path)
    kind = kind_of(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    if kind is None:
        raise ValueError(f"{path}: no kind of image file that is read ({', '.join(SUFFIXES)})")
    if not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty")
    _check_content(path)
    picture = READERS[kind](path)
    finite(str(path), picture.values)
    return picture


def _dicom(path: Path) -> Picture:
    from ..dicom import read_dicom

    found = read_dicom(path)
    hu = found.hu if found.hu.ndim == 3 else found.hu[None]
    return Picture(path, hu, "dicom", found.hu.ndim == 3, found.modality, spacing=(None, *found.spacing))


def _nifti(path: Path) -> Picture:
    from ..nifti import read_nifti

    found = read_nifti(path)
    return Picture(path, found.hu, "nifti", True, spacing=found.spacing, affine=found.affine)


def _raster(path: Path) -> Picture:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                mode = image.mode
                values = np.asarray(image.convert("RGB") if mode == "P" else image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path}: refused, it unfolds to too many pixels ({error})") from None
    except Exception as error:
        raise ValueError(f"{path}: truncated or damaged image ({error})") from error
    if mode == "1":
        values = values.astype(np.uint8) * 255
    bits = 8 if values.dtype == np.uint8 else None
    return Picture(path, _slices(path, _one_channel(path, values))[0], "raster", bits=bits)


def _one_channel(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Grey values of an image that may be stored in colours, all alike."""
    if values.ndim != 3 or values.shape[2] > 4:
        return values
    if values.shape[2] in (2, 4) and bool((values[..., -1] != values[..., -1].max()).any()):
        raise ValueError(f"{path}: expected grey values, got an image with transparency; convert it to grey")
    colours = values[..., : 3 if values.shape[2] > 2 else 1]
    if bool((colours != colours[..., :1]).any()):
        raise ValueError(f"{path}: expected grey values, got colours; convert it to grey first")
    return colours[..., 0]


def _tiff(path: Path) -> Picture:
    from ..tiff import read_tiff

    pages = read_tiff(path)
    return Picture(path, pages, "tiff", len(pages) > 1)


def _array(path: Path) -> Picture:
    try:
        found = _npz(path) if path.suffix.lower() == ".npz" else _npy(path)
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: not a NumPy file of numbers, or damaged ({error})") from error
    except Exception as error:
        raise ValueError(f"{path}: not a NumPy file of numbers, or damaged ({error})") from error
    values, volume = _slices(path, found)
    return Picture(path, values, "array", volume, bits=8 if found.dtype == np.uint8 else None)


def _npy(path: Path) -> NDArray[Any]:
    # mapped first: a header that claims more than the file has is found before memory is taken
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def _npz(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        whole = sum(member.file_size for member in archive.infolist())
    if whole > MOST:
        raise ValueError(f"{path}: refused, it unfolds to {whole} bytes, more than {MOST}")
    with np.load(path, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    images = {n: a for n, a in arrays.items() if a.ndim in (2, 3) and a.dtype.kind in "iuf"}
    if len(images) != 1:
        raise ValueError(
            f"{path}: expected one array (ny, nx) or (nz, ny, nx), found {len(images)} among {sorted(arrays)}"
        )
    return next(iter(images.values()))


def _text(path: Path) -> Picture:
    if path.stat().st_size > 2**28:
        raise ValueError(f"{path}: refused, a table of {path.stat().st_size} bytes; store it as .npy")
    try:
        lines = [s for s in path.read_text(encoding="utf-8-sig").splitlines() if s.strip()]
        rows = [line.replace(",", " ").replace(";", " ").split() for line in lines if line[0] != "#"]
        values = np.array([[float(word) for word in row] for row in rows])
    except ValueError as error:  # also what is no UTF-8, and rows of unequal length
        raise ValueError(f"{path}: expected rows of numbers, all of one length ({error})") from None
    return Picture(path, _slices(path, values)[0], "text")


READERS: dict[Kind, Callable[[Path], Picture]] = {
    "dicom": _dicom, "nifti": _nifti, "raster": _raster, "tiff": _tiff, "array": _array, "text": _text,
}  # fmt: skip


def _slices(path: Path, values: NDArray[Any]) -> tuple[Tensor, bool]:
    if values.ndim not in (2, 3) or values.dtype.kind not in "iuf" or 0 in values.shape:
        raise ValueError(
            f"{path}: expected numbers (ny, nx) or (nz, ny, nx), got shape {values.shape}, {values.dtype}"
        )
    if 4 * math.prod(values.shape) > MOST:
        raise ValueError(f"{path}: refused, {math.prod(values.shape)} values are more than {MOST} bytes")
    stack = values if values.ndim == 3 else values[None]
    return torch.from_numpy(np.ascontiguousarray(stack, dtype=np.float32)), values.ndim == 3


def _check_content(path: Path) -> None:
    wanted, found = CONTENT.get(suffix_of(path)), _content(path)
    if kind_of(path) == "dicom":
        wanted = {"DICOM"}
    if wanted is not None and found is not None and found not in wanted:
        raise ValueError(f"{path}: its name ends in {suffix_of(path)!r}, its content is {found}; rename it")
    if wanted and found is None and suffix_of(path) not in (".dcm", ".ima"):
        raise ValueError(f"{path}: not a {suffix_of(path)} file, or damaged at its beginning")


def _content(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(352)
    return next((name for at, magic, name in MAGIC if head[at : at + len(magic)] == magic), None)
