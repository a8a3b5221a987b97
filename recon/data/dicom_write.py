"""CT images as DICOM: derived, with fresh UIDs, nothing of the patient; and copies of a series without it."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dicom_series import Series, _headers
from .volumes import Affine, Volume, axial, finite

NOBODY = "ANONYMOUS"
# what a copy keeps: the image, where it lies and how it was taken
KEPT = """
SpecificCharacterSet ImageType SOPClassUID Modality Manufacturer ManufacturerModelName
ScanOptions SliceThickness KVP DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector
DistanceSourceToPatient GantryDetectorTilt TableHeight RotationDirection ExposureTime XRayTubeCurrent Exposure
FilterType GeneratorPower FocalSpots ConvolutionKernel PatientPosition RevolutionTime SingleCollimationWidth
TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor CTDIvol SpacingBetweenSlices
SeriesNumber AcquisitionNumber InstanceNumber ImagePositionPatient ImageOrientationPatient SliceLocation
SamplesPerPixel PhotometricInterpretation Rows Columns PixelSpacing BitsAllocated BitsStored HighBit
PixelRepresentation SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue PixelPaddingRangeLimit
WindowCenter WindowWidth RescaleIntercept RescaleSlope RescaleType LossyImageCompression
LossyImageCompressionRatio LossyImageCompressionMethod RepetitionTime EchoTime FlipAngle
MagneticFieldStrength EchoTrainLength PixelData
"""


def fresh_uid() -> str:
    """A new UID, 2.25.<random>: it needs no registered root and says nothing of where it was made."""
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


@dataclass(frozen=True)
class Derived:
    """What the slices of one derived CT series share.

    description : SeriesDescription; say the method and its parameters
    kvp, kernel, manufacturer : of the scan, where known; kernel as the reconstruction's own filter
    step : HU of one stored unit; values are rounded to it, at most step/2 away
    number : SeriesNumber
    study, frame, series : StudyInstanceUID, FrameOfReferenceUID and SeriesInstanceUID; fresh where not given.
        Series that share `frame` lie over each other in a viewer
    """

    description: str
    kvp: float | None = None
    kernel: str | None = None
    manufacturer: str | None = None
    step: float = 1.0
    number: int = 1
    study: str = field(default_factory=fresh_uid)
    frame: str = field(default_factory=fresh_uid)
    series: str = field(default_factory=fresh_uid)

    def __post_init__(self) -> None:
        if not self.description or len(self.description) > 64 or not self.description.isprintable():
            raise ValueError(
                "write_dicom description: expected 1 to 64 printable characters that say the method, got "
                f"{self.description!r}"
            )
        if not (math.isfinite(self.step) and self.step > 0):
            raise ValueError(f"write_dicom step [HU]: expected a positive number, got {self.step}")


def write_dicom(
    hu: Tensor | Volume,
    folder: str | Path,
    derived: Derived | str,
    *,
    like: Volume | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> list[Path]:
    """A derived CT series, one file a slice, in a new folder that appears whole or not at all.

    CT Image Storage, int16, derived, secondary, axial, explicit little endian; fresh UIDs, no patient.

    hu : a `Volume`, or values (nz, ny, nx) or (ny, nx) [HU]
    folder : to be made; an existing one is an error, so that two series never mix
    derived : what the slices share; a text is `Derived(text)`
    like : place, spacing and orientation of this volume, which has the same shape
    spacing : (dz, dy, dx) [mm] of axial slices about the origin, where there is no `like`

    Raises ValueError for NaN, values beyond int16 × step, no or two sources of spacing, an existing folder.
    """
    volume = _placed(hu, like, spacing)
    derived = Derived(derived) if isinstance(derived, str) else derived
    finite("write_dicom hu", volume.hu)
    _stored(volume.hu, derived.step)
    with new_folder(Path(folder)) as beside:
        for k in range(len(volume.hu)):
            write_slice(volume.hu[k], volume.affine, k, beside / file_name(k), derived)
    return sorted(Path(folder).iterdir())


def file_name(k: int) -> str:
    """Of slice k."""
    return f"slice-{k + 1:05d}.dcm"


def write_slice(hu: Tensor, affine: Affine, k: int, path: Path, derived: Derived) -> None:
    """Slice k, (ny, nx), of the volume that `affine` places; the file appears whole or not at all."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    stored = _stored(finite(f"slice {k + 1}", hu), derived.step)
    data = FileDataset(str(path), {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"{derived.series}.{k + 1}"
    _identify(data, derived.study, derived.series, derived.frame)
    data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", derived.number, k + 1
    data.SeriesDescription = derived.description
    data.DerivationDescription = f"hybrid-recon: {derived.description}"
    data.Manufacturer, data.KVP = derived.manufacturer or "", _decimal(derived.kvp)
    if derived.kernel is not None:
        data.ConvolutionKernel = derived.kernel[:16]
    data.SoftwareVersions = "hybrid-recon"
    data.AcquisitionNumber, data.PatientPosition = None, ""
    _place(data, affine, k)
    data.Rows, data.Columns = hu.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = _decimal(derived.step), 0, "HU"
    data.WindowCenter, data.WindowWidth = 40, 400
    data.BurnedInAnnotation = "NO"
    data.PixelData = stored.tobytes()
    data["PixelData"].VR = "OW"
    _save(data, path)


def anonymise(source: str | Path | Iterable[str | Path], folder: str | Path) -> list[Path]:
    """Copies of DICOM images that keep the image, where it lies and how it was taken, and nothing else.

    Attributes are kept by a list of harmless ones (`KEPT`), so texts, dates, names, numbers, private tags and
    embedded images go; UIDs are replaced, alike in every file, so that series and studies stay together. What
    is burned into the pixels cannot be seen: files that say so are refused.

    source : a folder, or files; what `read_series` leaves out is not copied
    folder : to be made; it appears whole or not at all

    Raises ValueError for enhanced (multi-frame) files and for BurnedInAnnotation YES.
    """
    import pydicom

    new: dict[str, str] = {}
    with new_folder(Path(folder)) as beside:
        for n, (path, header) in enumerate(_headers(source)):
            if "NumberOfFrames" in header:
                raise ValueError(f"{path}: anonymise copies single-frame files; split it first")
            if header.get("BurnedInAnnotation") == "YES":
                raise ValueError(f"{path}: it has annotations burned into the pixels, which stay readable")
            # values that break DICOM's rules are copied as they are, without a warning each
            with pydicom.config.disable_value_validation():
                _save(_without_patient(pydicom.dcmread(path), new), beside / f"image-{n + 1:05d}.dcm")
        if not any(beside.iterdir()):
            raise ValueError(f"anonymise: no images in {source}")
    return sorted(Path(folder).iterdir())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into; moved to `folder`, which must not exist, if the block ends well."""
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise ValueError(f"{folder}: already there; name a new folder, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _placed(hu: Tensor | Volume, like: Volume | None, spacing: Any) -> Volume:
    if isinstance(hu, Volume):
        if like is not None or spacing is not None:
            raise ValueError("write_dicom: a Volume has its own place; leave out like and spacing")
        return hu
    if not isinstance(hu, Tensor) or hu.ndim not in (2, 3) or not hu.is_floating_point():
        got = (tuple(hu.shape), hu.dtype) if isinstance(hu, Tensor) else type(hu).__name__
        raise ValueError(f"write_dicom hu: expected a real tensor (nz, ny, nx) or (ny, nx), got {got}")
    hu = hu.detach().cpu()
    if (like is None) == (spacing is None):
        raise ValueError("write_dicom: expected exactly one of like (a Volume) and spacing (dz, dy, dx) [mm]")
    if like is None:
        return axial(hu, spacing)
    if hu[(None,) * (3 - hu.ndim)].shape != like.hu.shape:
        raise ValueError(
            f"write_dicom hu: shape {tuple(hu.shape)}, but `like` has {tuple(like.hu.shape)}; give a Volume "
            "with an affine of its own"
        )
    return Volume(hu.reshape(like.hu.shape).float(), like.affine)


def derived_from(series: Series, description: str, **settings: Any) -> Derived:
    """`Derived` with tube voltage and manufacturer of a series that was read."""
    return Derived(description, kvp=series.kvp, manufacturer=series.manufacturer, **settings)


def _stored(hu: Tensor, step: float) -> np.ndarray[Any, np.dtype[np.int16]]:
    values = torch.round(hu.double() / step)
    low, high = float(values.min()), float(values.max())
    if low < -32768 or high > 32767:
        raise ValueError(
            f"write_dicom hu: {low * step:g} … {high * step:g} HU do not fit 16 bits of {step:g} HU; give a "
            "larger step, or clamp them"
        )
    return values.cpu().numpy().astype("<i2")


def _place(data: Any, affine: Affine, k: int) -> None:
    """Image plane module: the attributes hold sixteen characters, some 1e-10 of a metre."""
    column, row = affine[:3, 0], affine[:3, 1]
    dx, dy = float(np.linalg.norm(column)), float(np.linalg.norm(row))
    position = affine[:3, 3] + k * affine[:3, 2]
    normal = np.cross(column / dx, row / dy)
    distance = abs(float(affine[:3, 2] @ normal))
    data.ImagePositionPatient = [_decimal(v) for v in position]
    data.ImageOrientationPatient = [_decimal(v) for v in (*(column / dx), *(row / dy))]
    data.PixelSpacing = [_decimal(dy), _decimal(dx)]
    data.SliceThickness = data.SpacingBetweenSlices = _decimal(distance)
    data.SliceLocation = _decimal(float(position @ normal))


def _decimal(value: float | None) -> Any:
    from pydicom.valuerep import DSfloat

    return None if value is None else DSfloat(float(value), auto_format=True)


def _identify(data: Any, study: str, series: str, frame: str) -> None:
    """Every attribute that is asked for by name and would say who or when: empty, or nobody."""
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
    data.PatientName = data.PatientID = NOBODY
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = "attributes kept by a list, UIDs replaced"
    for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(data, name, "")
    data.StudyID = data.AccessionNumber = data.PositionReferenceIndicator = ""
    now = datetime.now().astimezone()
    data.InstanceCreationDate, data.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")


def _without_patient(data: Any, new: dict[str, str]) -> Any:
    from pydicom.dataset import FileDataset, FileMetaDataset

    copy = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    copy.file_meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    for name in KEPT.split():
        if name in data:
            copy[name] = data[name]
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    study, series, frame = (new.setdefault(str(data.get(name)), fresh_uid()) for name in names)
    _identify(copy, study, series, frame)
    copy.SOPInstanceUID = fresh_uid()
    return copy


def _save(data: Any, path: Path) -> None:
    """Written beside, then moved."""
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        data.save_as(beside, enforce_file_format=True)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
