"""Volumes from folders of DICOM slices: ordered by where they lie, checked, nothing of the patient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .dicom import _functional_group, _number, _text, read_dicom
from .volumes import Volume

SAME = 0.02  # of a pixel: two slices nearer than this lie in the same place
EVEN = 0.05  # of a step, by which steps may differ: scanners round positions, to 0.01 mm at the worst
SECTIONS = ("CT", "MR", "PT")
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Series(Volume):
    """One series as a volume, slices ordered along their normal, with what a reconstruction needs to know.

    uid              SeriesInstanceUID, to choose by
    modality         "CT", "MR", …
    kvp              tube voltage [kV]
    exposure         tube current × time of each slice [mAs], None where a file does not say
    slice_thickness  as stated [mm]; the spacing comes from the positions, never from it
    files            of the slices, in order
    """

    uid: str
    modality: str
    description: str | None = None
    kvp: float | None = None
    manufacturer: str | None = None
    kernel: str | None = None
    slice_thickness: float | None = None
    exposure: tuple[float | None, ...] = ()
    files: tuple[Path, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class _Slice:
    path: Path
    frame: int | None
    header: Any
    uid: str
    rows: Vector  # (2, 3): direction of a row and of a column
    position: Vector
    spacing: tuple[float, float]

    @property
    def normal(self) -> Vector:
        return np.cross(self.rows[0], self.rows[1])

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.header.Rows), int(self.header.Columns)


def read_series(
    source: str | Path | Iterable[str | Path],
    uid: str | None = None,
    uneven: Literal["error", "split"] = "error",
) -> list[Series]:
    """Every image series of a folder (searched to the bottom) or of a list of files, each as a volume.

    Slices are ordered by position along the normal of their planes, never by name or number; spacing and tilt
    come from the positions, whatever SliceThickness and SpacingBetweenSlices say. Each slice is rescaled by
    its own slope and intercept. Left out without a word: files of a folder that are hidden, not DICOM or no
    image of a CT, MR or PET scanner, scouts (ImageType LOCALIZER), and second copies of a slice (same
    SOPInstanceUID, same pixels).

    source : a folder, a file, or files
    uid : read only the series with this SeriesInstanceUID; the others are not looked into
    uneven : where slices are missing or their distance changes: "error", or "split" into evenly spaced parts,
        each a `Series` of its own

    Raises ValueError, naming the files, where there is nothing to read, slices are missing (see `uneven`) or
    lie in the same place with different content, orientations or sizes are mixed, directions are not at right
    angles, positions are absent, drift sideways, or files are truncated.
    """
    if uneven not in ("error", "split"):
        raise ValueError(f"read_series uneven: expected 'error' or 'split', got {uneven!r}")
    groups: dict[str, list[tuple[Path, Any]]] = {}
    for path, header in _headers(source):
        groups.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((path, header))
    if uid is not None:
        if uid not in groups:
            raise ValueError(f"read_series uid: no series {uid} there; found {', '.join(sorted(groups))}")
        groups = {uid: groups[uid]}
    if not groups:
        raise ValueError(f"read_series: no DICOM images in {_name(source)} (scouts are left out)")
    return [series for key, files in groups.items() for series in _volumes(key, files, uneven)]


def _headers(source: str | Path | Iterable[str | Path]) -> list[tuple[Path, Any]]:
    import pydicom
    from pydicom.errors import InvalidDicomError

    if isinstance(source, str | Path):
        root = Path(source)
        if not root.exists():
            raise ValueError(f"{root}: there is no such file or folder")
        searched = root.is_dir()
        # hidden files are what a killed writer, or another system, left behind
        paths = sorted(p for p in root.rglob("[!.]*") if p.is_file()) if searched else [root]
    else:
        searched, paths = False, [Path(p) for p in source]
    found = []
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path}: there is no such file")
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except InvalidDicomError:
            if searched:
                continue
            raise ValueError(f"{path}: not a DICOM file (it has no DICM prefix)") from None
        except Exception as error:
            raise ValueError(f"{path}: truncated or damaged DICOM file ({error})") from error
        image = "Rows" in header and "Columns" in header
        if searched and not (image and header.get("Modality") in SECTIONS):
            continue
        if not image:
            raise ValueError(f"{path}: a DICOM file without an image")
        if "LOCALIZER" not in (header.get("ImageType") or ()):
            found.append((path, header))
    return found


def _volumes(uid: str, files: Sequence[tuple[Path, Any]], uneven: str) -> list[Series]:
    slices = [s for path, header in files for s in _slices(path, header, uid)]
    _check_alike(slices)
    normal = slices[0].normal
    slices.sort(key=lambda s: float(s.position @ normal))
    slices = _without_copies(slices)
    return [_volume(part) for part in _even_parts(slices, uneven)]


def _slices(path: Path, header: Any, uid: str) -> list[_Slice]:
    count = int(header.get("NumberOfFrames", 1) or 1)
    multiple = "NumberOfFrames" in header and bool(header.get("PerFrameFunctionalGroupsSequence"))
    if count > 1 and not multiple:
        raise ValueError(f"{path}: {count} frames without positions; read it with read_dicom")
    positions = [g.get("ImagePositionPatient") for g in _groups(header, "PlanePositionSequence", count)]
    directions = [
        g.get("ImageOrientationPatient") for g in _groups(header, "PlaneOrientationSequence", count)
    ]
    spacings = [g.get("PixelSpacing") for g in _groups(header, "PixelMeasuresSequence", count)]
    found = []
    for frame, (position, direction, spacing) in enumerate(zip(positions, directions, spacings, strict=True)):
        where = f"{path}" + (f" frame {frame + 1}" if multiple else "")
        if position is None or direction is None:
            raise ValueError(
                f"{where}: no ImagePositionPatient or ImageOrientationPatient, so where the slice lies is "
                "unknown; read files one by one with read_dicom"
            )
        rows = np.array(_numbers(where, "ImageOrientationPatient", direction, 6)).reshape(2, 3)
        if not np.allclose(rows @ rows.T, np.eye(2), atol=1e-3):
            raise ValueError(
                f"{where}: ImageOrientationPatient {rows.ravel().tolist()} is not two unit vectors at right "
                "angles"
            )
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # written with few digits
        dy, dx = _numbers(where, "PixelSpacing", spacing, 2)
        if dy <= 0 or dx <= 0:
            raise ValueError(f"{where}: PixelSpacing must be positive, got {dy} × {dx} mm")
        place = np.array(_numbers(where, "ImagePositionPatient", position, 3))
        found.append(_Slice(path, frame if multiple else None, header, uid, rows, place, (dy, dx)))
    return found


def _groups(header: Any, sequence: str, count: int) -> list[Any]:
    groups = _functional_group(header, sequence) or [header]
    return groups * count if len(groups) == 1 else groups


def _numbers(where: str, name: str, value: Any, count: int) -> list[float]:
    values = [] if value is None else [float(v) for v in value]
    if len(values) != count or not all(math.isfinite(v) for v in values):
        raise ValueError(f"{where}: {name}: expected {count} numbers, got {value}")
    return values


def _check_alike(slices: Sequence[_Slice]) -> None:
    first = slices[0]
    for other in slices[1:]:
        pair = f"{first.path} and {other.path}, of one series"
        if first.shape != other.shape:
            raise ValueError(
                f"{pair}, have different sizes ({_by(first.shape)} and {_by(other.shape)} pixels); read them "
                "as separate lists of files"
            )
        if not np.allclose(first.rows, other.rows, atol=1e-3):
            raise ValueError(
                f"{pair}, have different orientations (normals {_short(first.normal)} and "
                f"{_short(other.normal)}); read them as separate lists of files"
            )
        if not np.allclose(first.spacing, other.spacing, rtol=1e-4):
            raise ValueError(
                f"{pair}, have different PixelSpacing ({_by(first.spacing)} and {_by(other.spacing)} mm); "
                "one of the headers is wrong"
            )
        if first.header.get("Modality") != other.header.get("Modality"):
            raise ValueError(f"{pair}, have different modalities")


def _without_copies(slices: Sequence[_Slice]) -> list[_Slice]:
    kept: list[_Slice] = []
    for s in slices:
        if not kept or float((s.position - kept[-1].position) @ s.normal) > SAME * min(s.spacing):
            kept.append(s)
            continue
        before = kept[-1]
        copies = s.header.get("SOPInstanceUID") == before.header.get("SOPInstanceUID")
        if s.path == before.path or not (copies and _pixels(s) == _pixels(before)):
            raise ValueError(
                f"{before.path} and {s.path} lie in the same place ({_short(s.position)} mm) with different "
                "content; a time series or a second reconstruction: read one of them as a list of files"
            )
    return kept


def _pixels(s: _Slice) -> bytes:
    return read_dicom(s.path).hu.numpy().tobytes()


def _even_parts(slices: Sequence[_Slice], uneven: str) -> list[list[_Slice]]:
    """Parts with one step from slice to slice; the longest run of equal steps takes its slices first."""
    steps = [b.position - a.position for a, b in pairwise(slices)]
    runs: list[list[int]] = []
    for i, step in enumerate(steps):
        if runs and _same_step(steps[runs[-1][0]], step):
            runs[-1].append(i)
        else:
            runs.append([i])
    owner: dict[int, int] = {}
    longest = max(map(len, runs), default=0)
    for run in sorted(runs, key=lambda run: (-len(run), float(np.linalg.norm(steps[run[0]])))):
        # one odd step is a gap between its neighbours, not a part
        if len(run) > 1 or longest == 1:
            for i in (*run, run[-1] + 1):
                owner.setdefault(i, run[0])
    parts: dict[int, list[_Slice]] = {}
    for i, s in enumerate(slices):
        parts.setdefault(owner.get(i, -1 - i), []).append(s)
    if len(parts) > 1 and uneven == "error":
        raise ValueError(_unevenness(list(parts.values())))
    return list(parts.values())


def _same_step(a: Vector, b: Vector) -> bool:
    return float(np.linalg.norm(a - b)) <= EVEN * float(np.linalg.norm(a))


def _unevenness(parts: Sequence[Sequence[_Slice]]) -> str:
    last, first = parts[0][-1], parts[1][0]
    usual = max(parts, key=len)
    step, gap = usual[-1].position - usual[-2].position, first.position - last.position
    along, distance = float(gap @ first.normal), float(step @ first.normal)
    between = (
        f"between {last.path} and {first.path} ({_short(last.position)} and {_short(first.position)} mm)"
    )
    hint = "say uneven='split' to read the even parts"
    missing = round(along / distance) - 1
    if missing > 0 and _same_step(gap / (missing + 1), step):
        return f"{missing} missing slice{'s' * (missing > 1)} {between}; {hint}"
    if abs(along - distance) <= EVEN * distance:
        return f"the slices drift sideways {between}, not along one line; {hint}"
    return f"the distance of slices is {distance:.6g} mm elsewhere but {along:.6g} mm {between}; {hint}"


def _volume(part: Sequence[_Slice]) -> Series:
    first = part[0]
    images = {s.path: read_dicom(s.path) for s in part}
    hu = torch.stack([images[s.path].hu if s.frame is None else images[s.path].hu[s.frame] for s in part])
    header = first.header
    thickness = _number(_groups(header, "PixelMeasuresSequence", 1)[0].get("SliceThickness"))
    affine = np.eye(4)
    dy, dx = first.spacing
    affine[:3, 0], affine[:3, 1], affine[:3, 3] = first.rows[0] * dx, first.rows[1] * dy, first.position
    affine[:3, 2] = (
        (part[-1].position - first.position) / (len(part) - 1)
        if len(part) > 1
        else first.normal * (thickness or dx)  # one slice has no neighbour to measure
    )
    return Series(
        hu=hu,
        affine=affine,
        uid=first.uid,
        modality=str(header.get("Modality", "")),
        description=_text(header.get("SeriesDescription")),
        kvp=_number(header.get("KVP")),
        manufacturer=_text(header.get("Manufacturer")),
        kernel=_text(header.get("ConvolutionKernel")),
        slice_thickness=thickness,
        exposure=tuple(_number(s.header.get("Exposure")) for s in part),
        files=tuple(s.path for s in part),
    )


def _by(pair: tuple[float, ...]) -> str:
    return " × ".join(f"{v:g}" for v in pair)


def _short(vector: Vector) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in vector) + ")"


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else "the files given"
