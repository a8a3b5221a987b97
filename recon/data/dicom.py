"""CT slices from DICOM files: Hounsfield units out, nothing of the patient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators import to_attenuation

MU_WATER = 0.0206  # [1/mm] at 60 keV, NIST
CT_AIR = -1000.0


@dataclass(frozen=True, eq=False)
class DicomImage:
    """What a reconstruction needs of a DICOM file.

    hu          values after rescaling, (ny, nx) or (frames, ny, nx), float32; of a CT: HU, not below −1000
    pixel_size  side of a square pixel [mm]
    spacing     distance of neighbouring rows and columns [mm]
    modality    "CT", "MR", …
    kvp         tube voltage [kV], None where the file does not say
    """

    hu: Tensor
    pixel_size: float
    spacing: tuple[float, float]
    modality: str
    kvp: float | None
    manufacturer: str | None
    kernel: str | None

    def attenuation(self, mu_water: float = MU_WATER) -> Tensor:
        """μ = μ_water (1 + HU/1000) [1/mm], not below 0; shape of `hu`."""
        if self.modality != "CT":
            raise ValueError(f"DicomImage.attenuation: expected a CT, got modality {self.modality!r}")
        return to_attenuation(self.hu, mu_water, clip=True)


def example_head(mu_water: float = MU_WATER) -> Tensor:
    """A real head CT slice that comes with pydicom, attenuation [1/mm], (512, 512), float32.

    Pixels of 0.431 mm, 120 kV, brain at about 33 HU; air and what the scanner did not see is 0. The file is
    `J2K_pixelrep_mismatch.dcm` of pydicom's tests (MIT), JPEG 2000 without loss.
    """
    from pydicom.data import get_testdata_file

    found = get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)
    if found is None:
        raise ValueError("example_head: this pydicom has no J2K_pixelrep_mismatch.dcm; install pydicom>=3")
    return read_dicom(str(found)).attenuation(mu_water)


def read_dicom(path: str | Path) -> DicomImage:
    """HU = slope·stored + intercept, from any CT or MR file that pydicom can decode.

    Signed pixels and compressed transfer syntaxes are understood. What a CT file marks as padding
    (PixelPaddingValue, its range, or anything below −1000 HU) is air; elsewhere padding is the smallest
    value. MONOCHROME1 says how to display: HU stay HU; values of other modalities are turned round, so that
    larger is brighter.

    path : the file; several frames give (frames, ny, nx)

    Raises ValueError, naming the file, where it is not DICOM, is cut short, has no pixel data, no pixel
    spacing, pixels that are not square or colours, or where no installed package decompresses it.
    """
    path = Path(path)
    data = _dataset(path)
    stored = _stored(path, data)
    spacing = _spacing(path, data)
    padding = _padding(data, stored)
    if data.get("PhotometricInterpretation") == "MONOCHROME1":
        stored = _inverted(data, stored)
    values = _rescaled(path, data, stored)
    modality = str(data.get("Modality", ""))
    if modality == "CT":
        values[padding] = CT_AIR
        np.maximum(values, CT_AIR, out=values)
    elif padding.any() and not padding.all():
        values[padding] = values[~padding].min()
    return DicomImage(
        hu=torch.from_numpy(values.astype(np.float32)),
        pixel_size=spacing[0],
        spacing=spacing,
        modality=modality,
        kvp=_number(data.get("KVP")),
        manufacturer=_text(data.get("Manufacturer")),
        kernel=_text(data.get("ConvolutionKernel")),
    )


def _dataset(path: Path) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        data = pydicom.dcmread(path)
    except InvalidDicomError:
        raise ValueError(f"{path}: not a DICOM file (it has no DICM prefix)") from None
    except Exception as error:
        raise ValueError(f"{path}: truncated or damaged DICOM file ({error})") from error
    if "PixelData" not in data:
        raise ValueError(f"{path}: truncated, or a DICOM file without pixel data")
    if data.get("SamplesPerPixel", 1) != 1:
        raise ValueError(f"{path}: expected one grey value a pixel, got {data.SamplesPerPixel} (colour)")
    return data


def _stored(path: Path, data: Any) -> NDArray[Any]:
    syntax = data.file_meta.get("TransferSyntaxUID") if hasattr(data, "file_meta") else None
    if syntax is None:
        raise ValueError(f"{path}: the file does not state its transfer syntax, so its pixels cannot be read")
    try:
        return np.asarray(data.pixel_array)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: no installed package decodes its pixels ({syntax.name}); install pylibjpeg with its "
            f"plug-ins ({error})"
        ) from error
    except Exception as error:
        raise ValueError(f"{path}: truncated or damaged pixel data ({error})") from error


def _spacing(path: Path, data: Any) -> tuple[float, float]:
    measures = _functional_group(data, "PixelMeasuresSequence")
    value = data.get("PixelSpacing", measures[0].get("PixelSpacing") if measures else None)
    if value is None or len(value) != 2:
        raise ValueError(f"{path}: no PixelSpacing, so its size in mm is unknown")
    rows, columns = float(value[0]), float(value[1])
    if not (rows > 0 and columns > 0 and math.isfinite(rows + columns)):
        raise ValueError(f"{path}: PixelSpacing must be positive, got {rows} × {columns} mm")
    if not math.isclose(rows, columns, rel_tol=1e-4):
        raise ValueError(f"{path}: expected square pixels, got {rows} × {columns} mm; resample it first")
    return rows, columns


def _padding(data: Any, stored: NDArray[Any]) -> NDArray[np.bool_]:
    low = data.get("PixelPaddingValue")
    if low is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = data.get("PixelPaddingRangeLimit")
    low, high = (_signed(data, v) for v in (low, low if limit is None else limit))
    return (stored >= min(low, high)) & (stored <= max(low, high))


def _signed(data: Any, value: Any) -> int:
    """A padding value written as unsigned for signed pixels means its two's complement."""
    bits, number = int(data.get("BitsAllocated", 16)), int(value)
    return number - 2**bits if data.get("PixelRepresentation", 0) and number >= 2 ** (bits - 1) else number


def _inverted(data: Any, stored: NDArray[Any]) -> NDArray[Any]:
    """MONOCHROME1 shows small values bright: turned into MONOCHROME2 over the range of the stored bits.

    Of a CT the values are Hounsfield units whichever way they are shown, so they stay.
    """
    if data.get("Modality") == "CT":
        return stored
    bits = int(data.BitsStored)
    ends = -1 if data.get("PixelRepresentation", 0) else 2**bits - 1
    return ends - stored.astype(np.int64)


def _rescaled(path: Path, data: Any, stored: NDArray[Any]) -> NDArray[np.float64]:
    groups = _functional_group(data, "PixelValueTransformationSequence")
    if "RescaleSlope" in data or "RescaleIntercept" in data or not groups:
        groups = [data]
    slope = np.array([float(g.get("RescaleSlope", 1)) for g in groups])
    intercept = np.array([float(g.get("RescaleIntercept", 0)) for g in groups])
    if not np.isfinite(slope + intercept).all() or (slope == 0).any():
        raise ValueError(f"{path}: RescaleSlope {slope} and RescaleIntercept {intercept} make no sense")
    if len(groups) > 1 and stored.shape[0] != len(groups):
        raise ValueError(f"{path}: {len(groups)} rescalings for pixel data of shape {stored.shape}")
    # one a frame, or one for all
    shape = (-1, 1, 1) if len(groups) > 1 else (1,) * stored.ndim
    return stored.astype(np.float64) * slope.reshape(shape) + intercept.reshape(shape)


def _functional_group(data: Any, sequence: str) -> list[Any]:
    """The first item of `sequence` in an enhanced file: one for all frames, or one a frame; [] elsewhere."""
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        frames = [frame.get(sequence) for frame in data.get(name) or []]
        if frames and all(frames):
            return [items[0] for items in frames]
    return []


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)
