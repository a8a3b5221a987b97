"""DICOM-CT-PD, the format of the Mayo Clinic's open library of projections.

Chen et al., Med. Phys. 42 (2015) 6964; private tags as in Moen et al., Med. Phys. 48 (2021) 902, table IV.
There the focal centre of the detector lies at (−ρ sin φ, ρ cos φ, z); columns count against our u, rows
downwards in z. So our view angle is θ = φ + π, and both are turned round when they are read. The x and y of
the format are taken for ours; whether the image lies as the scanner's own was not seen on a real scan.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from .dicom import _dataset, _number, _stored
from .projections import CTProjections
from .tiff import natural
from .volumes import finite

TAGS = {
    "DetectorElementTransverseSpacing": (0x7029, 0x1002, "f"),
    "DetectorElementAxialSpacing": (0x7029, 0x1006, "f"),
    "DetectorShape": (0x7029, 0x100B, "s"),
    "NumberofDetectorRows": (0x7029, 0x1010, "H"),
    "NumberofDetectorColumns": (0x7029, 0x1011, "H"),
    "DetectorFocalCenterAngularPosition": (0x7031, 0x1001, "f"),
    "DetectorFocalCenterAxialPosition": (0x7031, 0x1002, "f"),
    "DetectorFocalCenterRadialDistance": (0x7031, 0x1003, "f"),
    "ConstantRadialDistance": (0x7031, 0x1031, "f"),
    "DetectorCentralElement": (0x7031, 0x1033, "f"),
    "SourceAngularPositionShift": (0x7033, 0x100B, "f"),
    "SourceAxialPositionShift": (0x7033, 0x100C, "f"),
    "SourceRadialDistanceShift": (0x7033, 0x100D, "f"),
    "PhotonStatistics": (0x7033, 0x1065, "f"),
    "WaterAttenuationCoefficient": (0x7041, 0x1001, "s"),
}
SHAPES: dict[str, Literal["arc", "flat"]] = {"CYLINDRICAL": "arc", "FLAT": "flat"}


def read_ct_pd(source: str | Path | Iterable[str | Path], views: slice | None = None) -> CTProjections:
    """The projections of a DICOM-CT-PD folder (or list of files), one view a file, by InstanceNumber.

    data = RescaleSlope · stored + RescaleIntercept. Files that store the detector's columns as rows, as the
    library's do, are turned; where the detector is square they are taken to.

    views : of the files in order, all by default; a whole scan takes gigabytes

    Raises ValueError, naming the file and tag, where geometry is missing or makes no sense, files of
    different scanners are mixed, or files are damaged.
    """
    files = _files(source)
    headers = sorted((_order(path), path) for path in files)
    chosen = [path for _, path in headers][views or slice(None)]
    if not chosen:
        raise ValueError(f"read_ct_pd views: {views} leaves no file of {len(files)}")
    read = [_view(path) for path in chosen]
    first = read[0]
    for path, view in zip(chosen, read, strict=True):
        for name in ("rows", "columns", "pixel", "central", "distances", "detector"):
            if view[name] != first[name]:
                raise ValueError(
                    f"{path}: {name} {view[name]}, but {chosen[0]} has {first[name]}; files of two scans"
                )
    angles = np.unwrap([v["angle"] for v in read]) + math.pi
    photons = [v["photons"] for v in read]
    known = all(p is not None and len(p) == first["columns"] for p in photons)
    count = (first["rows"], first["columns"])
    offset = [
        (c - (n + 1) / 2) * d for c, n, d in zip(first["central"][::-1], count, first["pixel"], strict=True)
    ]
    data = torch.from_numpy(np.stack([v["data"] for v in read]))
    return CTProjections(
        data=finite(str(chosen[0]), data),
        angles=angles,
        heights=np.array([v["height"] for v in read]),
        source_to_centre=first["distances"][0],
        source_to_detector=first["distances"][1],
        pixel=first["pixel"],
        offset=(offset[0], offset[1]),
        detector=first["detector"],
        shifts=np.array([v["shift"] for v in read]),
        mu_water=first["mu_water"],
        kvp=first["kvp"],
        photons=torch.tensor(np.array(photons)[:, ::-1].copy(), dtype=torch.float32) if known else None,
    )


def is_ct_pd(path: Path) -> bool:
    """Whether a file is DICOM with the geometry of a projection."""
    import pydicom

    try:
        return (0x7031, 0x1001) in pydicom.dcmread(path, stop_before_pixels=True)
    except Exception:
        return False


def _files(source: str | Path | Iterable[str | Path]) -> list[Path]:
    if not isinstance(source, str | Path):
        return [Path(p) for p in source]
    root = Path(source)
    files = [p for p in root.glob("[!.]*") if p.is_file() and is_ct_pd(p)] if root.is_dir() else [root]
    if not files:
        raise ValueError(f"{root}: no DICOM-CT-PD projections in it (tag 7031,1001)")
    return sorted(files, key=lambda p: natural(p.name))


def _order(path: Path) -> tuple[int, list[tuple[int, int, str]]]:
    import pydicom

    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        number = pydicom.dcmread(path, specific_tags=["InstanceNumber"]).get("InstanceNumber")
    except Exception as error:
        raise ValueError(f"{path}: not a DICOM file, truncated or damaged ({error})") from error
    return int(number or 0), natural(path.name)


def _view(path: Path) -> dict[str, Any]:
    data = _dataset(path)
    if int(data.get("NumberOfFrames", 1) or 1) > 1:
        raise ValueError(f"{path}: several frames; expected one view a file")
    rows, columns = (int(_value(path, data, f"NumberofDetector{n}")[0]) for n in ("Rows", "Columns"))
    stored = _stored(path, data)
    if stored.shape not in ((rows, columns), (columns, rows)):
        raise ValueError(f"{path}: {stored.shape} pixels for a detector of {rows} rows and {columns} columns")
    stored = stored.T if stored.shape == (columns, rows) else stored
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    values = (stored.astype(np.float32) * slope + intercept)[::-1, ::-1]
    shape = str((_value(path, data, "DetectorShape", ["CYLINDRICAL"]))[0]).strip().upper()
    if shape not in SHAPES:
        raise ValueError(f"{path}: a {shape} detector; expected CYLINDRICAL or FLAT")
    pixel = [_positive(path, data, f"DetectorElement{n}Spacing") for n in ("Axial", "Transverse")]
    distances = [
        _positive(path, data, n) for n in ("DetectorFocalCenterRadialDistance", "ConstantRadialDistance")
    ]
    if distances[1] <= distances[0]:
        raise ValueError(
            f"{path}: ConstantRadialDistance {distances[1]} mm is not beyond "
            f"DetectorFocalCenterRadialDistance {distances[0]} mm"
        )
    central = _value(path, data, "DetectorCentralElement")
    if len(central) != 2:
        raise ValueError(f"{path}: DetectorCentralElement: expected (column, row), got {central}")
    moves = ("SourceAngularPositionShift", "SourceAxialPositionShift", "SourceRadialDistanceShift")
    return {
        "data": np.ascontiguousarray(values, dtype=np.float32),
        "rows": rows,
        "columns": columns,
        "angle": _value(path, data, "DetectorFocalCenterAngularPosition")[0],
        "height": _value(path, data, "DetectorFocalCenterAxialPosition")[0],
        "shift": [_value(path, data, name, [0.0])[0] for name in moves],
        "pixel": tuple(pixel),
        "distances": tuple(distances),
        "central": tuple(central),
        "detector": SHAPES[shape],
        "mu_water": _mu_water(path, data),
        "kvp": _number(data.get("KVP")),
        "photons": _value(path, data, "PhotonStatistics", [None])
        if _tag("PhotonStatistics") in data
        else None,
    }


def _tag(name: str) -> tuple[int, int]:
    return TAGS[name][:2]


def _value(path: Path, data: Any, name: str, default: list[Any] | None = None) -> list[Any]:
    """Values of a private tag, which pydicom gives as numbers or as bytes, as the file states its type."""
    tag, kind = _tag(name), TAGS[name][2]
    if tag not in data or data[tag].value in (None, "", b""):
        if default is None:
            group, element = tag
            raise ValueError(f"{path}: no {name} ({group:04X},{element:04X}): projections without geometry")
        return default
    value = data[tag].value
    if isinstance(value, bytes) and kind == "s":
        value = value.decode("ascii", "replace").strip("\0 ").split("\\")
    elif isinstance(value, bytes):
        order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
        count, rest = divmod(len(value), struct.calcsize(kind))
        if rest:
            raise ValueError(f"{path}: {name} is {len(value)} bytes, not whole numbers")
        value = struct.unpack(f"{order}{count}{kind}", value)
    many = isinstance(value, Iterable) and not isinstance(value, str)
    values = list(value) if many else [value]  # type: ignore[call-overload]
    if kind == "s":
        return values
    numbers = [float(v) for v in values]
    if not numbers or not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{path}: {name}: expected finite numbers, got {values}")
    return numbers


def _positive(path: Path, data: Any, name: str) -> float:
    value: float = _value(path, data, name)[0]
    if value <= 0:
        raise ValueError(f"{path}: {name} [mm]: expected a positive number, got {value}")
    return value


def _mu_water(path: Path, data: Any) -> float | None:
    text = _value(path, data, "WaterAttenuationCoefficient", [None])[0]
    if text is None:
        return None
    value = float(text)
    if not 0.01 < value < 0.04:
        raise ValueError(
            f"{path}: WaterAttenuationCoefficient {value}: expected about 0.02 per mm at CT energies"
        )
    return value
