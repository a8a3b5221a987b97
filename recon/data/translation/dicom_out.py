"""Translated slices as DICOM: where the source lay, fresh UIDs, nothing of the patient."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..dicom_write import KEPT, _decimal, _identify, _place, _save, _stored
from ..volumes import Affine, finite

# of another modality or of other pixels
PIXELS = """SpecificCharacterSet ImageType SOPClassUID Modality BitsAllocated BitsStored HighBit
PixelRepresentation PixelData SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue
PixelPaddingRangeLimit WindowCenter WindowWidth RescaleIntercept RescaleSlope RescaleType
PhotometricInterpretation SamplesPerPixel Rows Columns"""
GEOMETRY = """SliceThickness SpacingBetweenSlices PatientPosition SeriesNumber
AcquisitionNumber InstanceNumber ImagePositionPatient ImageOrientationPatient SliceLocation PixelSpacing"""
FRAME = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}


@dataclass(frozen=True)
class Uids:
    """Fresh UIDs, the same for the same original within one run: series, studies and frames stay together.

    salt : a random UUID of the run, as text; without it the originals cannot be guessed and tried
    """

    salt: str

    def __call__(self, original: str) -> str:
        digest = hashlib.sha256(f"{self.salt} {original}".encode()).digest()
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def write_translated(
    values: Tensor,
    source: Path,
    path: Path,
    uids: Uids,
    description: str,
    note: str = "",
    modality: str | None = None,
    placed: tuple[Affine, int] | None = None,
) -> None:
    """One slice (ny, nx) as a derived single-frame file; it appears whole or not at all.

    Position, orientation, spacing and instance number are those of the source, and how it was taken, unless
    the modality changes. CT is stored in whole HU with slope 1 and intercept 0, others in 16 bits of their
    own slope.

    values : (ny, nx)
    source : the DICOM file that it was made from
    uids : of the run
    description : SeriesDescription
    note : further words for DerivationDescription, as how much was clipped
    modality : of the result, "CT", "MR" or "PT"; None: of the source
    placed : affine and number of the slice, for frames of an enhanced file; None: as the source says
    """
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    data = pydicom.dcmread(source, stop_before_pixels=True)
    finite(str(path), values)
    was = str(data.get("Modality", ""))
    modality = modality or was
    if modality not in CLASSES:
        raise ValueError(
            f"{source}: expected a CT, MR or PT image to write as DICOM, got modality {modality!r}"
        )
    dropped = set(PIXELS.split())
    kept = GEOMETRY if modality != was or placed else KEPT
    new = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with pydicom.config.disable_value_validation():
        for name in kept.split():
            if name in data and name not in dropped and not (placed and name in FRAME):
                new[name] = data[name]
        new.SpecificCharacterSet = "ISO_IR 192"
        series = f"{data.get('SeriesInstanceUID', source.parent)} {modality}"
        frame = str(data.get("FrameOfReferenceUID", series))
        _identify(new, uids(str(data.get("StudyInstanceUID", series))), uids(series), uids(frame))
        number = placed[1] if placed else None
        new.SOPInstanceUID = uids(f"{data.get('SOPInstanceUID', source)} {modality} {number}")
        new.SOPClassUID, new.Modality = CLASSES[modality], modality
        kind = [str(v) for v in (data.get("ImageType") or ())][2:3] if modality == was else []
        new.ImageType = ["DERIVED", "SECONDARY", *(kind or ["AXIAL" if modality == "CT" else "OTHER"])]
        new.SeriesDescription = description[:64]
        new.DerivationDescription = " ".join(filter(None, [f"hybrid-recon: {description}.", note]))[:1024]
        new.SoftwareVersions, new.BurnedInAnnotation = "hybrid-recon", "NO"
        if placed is not None:
            _place(new, *placed)
            new.InstanceNumber = placed[1] + 1
        _pixels(new, values, modality)
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(new, path)


def _pixels(data: Any, values: Tensor, modality: str) -> None:
    step = 1.0
    if modality != "CT":
        # sixteen characters hold the step to 1e-10, so reading gives what was rounded to
        step = float(_decimal(max(float(values.abs().max()), 1e-6) / 32000))
    stored = _stored(values, step)
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleSlope, data.RescaleIntercept = _decimal(step), 0
    data.RescaleType = "HU" if modality == "CT" else "US"
    low, high = (40 - 200, 40 + 200) if modality == "CT" else _display(values)
    data.WindowCenter, data.WindowWidth = _decimal((low + high) / 2), _decimal(max(high - low, 1e-6))
    data.PixelData = stored.tobytes()
    data["PixelData"].VR = "OW"


def _display(values: Tensor) -> Sequence[float]:
    return [float(v) for v in np.percentile(values.cpu().numpy(), [1, 99])]
