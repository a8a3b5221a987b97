"""Slices in the order in which they lie: files grouped into scans, with patient and position of each."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .listing import natural
from .pictures import kind_of

Place = tuple[Path, int]  # a file, and which of its slices


@dataclass(frozen=True)
class Scan:
    """Slices that lie one beside the other, on one side (unpaired) or on two (input, target).

    name     of the series, folder or file
    patient  by whom sets are split
    known    how the patient is known: "PatientID", "folder", "series", "given", or "file" where he is not
    sides    for each side the places (file, slice) in order; all of one length
    heights  position of every slice along the normal [mm], NaN where the files do not say
    """

    name: str
    patient: str
    known: str
    sides: tuple[tuple[Place, ...], ...]
    heights: tuple[float, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.sides[0])

    def between(self, low: float, high: float) -> Scan | None:
        """The slices from `low` to `high` [mm] by position; None if there are none."""
        if not all(math.isfinite(h) for h in self.heights):
            raise ValueError(
                f"{self.name}: where its slices lie is unknown, so no range of them can be taken"
            )
        kept = [i for i, h in enumerate(self.heights) if low <= h <= high]
        sides = tuple(tuple(side[i] for i in kept) for side in self.sides)
        heights = tuple(self.heights[i] for i in kept)
        return Scan(self.name, self.patient, self.known, sides, heights) if kept else None


@dataclass(frozen=True)
class Header:
    """Of a DICOM file; height is its position along its normal [mm], NaN where unknown."""

    series: str
    patient: str
    height: float
    frames: int = 1


def scans(
    files: Sequence[tuple[Path, ...]],
    counts: Callable[[Path, int], int],
    root: str | Path | None = None,
    patient: Callable[[Path], str] | str | None = None,
) -> list[Scan]:
    """Scans made of rows of files that belong together, (input,) or (input, target).

    Slices of one DICOM series (and folder) are ordered by ImagePositionPatient along their normal, whatever
    their names; single images of other kinds by natural order within their folder; a file of several slices
    is a scan of its own. The first file of a row decides.

    files : rows, all of one length
    counts : path, side -> number of slices in it
    root : the patient is the first sub-directory below it, where DICOM does not say
    patient : path -> patient, or a regular expression on the name whose first group is the patient; None: the
        PatientID of DICOM, else the sub-directory, else the DICOM series, else every file for itself (single
        images then have no neighbours: nothing says that they are slices of one patient)
    """
    groups: dict[tuple[str, ...], list[tuple[float, list[Any], tuple[Place, ...], tuple[str, str]]]] = {}
    for row in files:
        path = row[0]
        numbers = [counts(p, side) for side, p in enumerate(row)]
        if len(set(numbers)) > 1:
            told = " and ".join(f"{p} has {n}" for p, n in zip(row, numbers, strict=True))
            raise ValueError(f"paired volumes need equally many slices: {told}")
        header = header_of(path) if kind_of(path) == "dicom" else None
        who = _patient(path, header, root, patient)
        if numbers[0] > 1:
            whole = groups.setdefault((str(path),), [])
            whole += [(math.nan, [], tuple((p, k) for p in row), who) for k in range(numbers[0])]
            continue
        key = (str(path.parent), header.series if header else "")
        height = header.height if header else math.nan
        groups.setdefault(key, []).append((height, natural(path.name), tuple((p, 0) for p in row), who))
    return [scan for key, members in groups.items() for scan in _scans(key, members)]


def _scans(key: tuple[str, ...], members: list[Any]) -> list[Scan]:
    if all(math.isfinite(m[0]) for m in members):
        members = sorted(members, key=lambda m: m[0])
        for a, b in itertools.pairwise(members):
            if abs(b[0] - a[0]) < 1e-3:
                # two images in one place are no neighbours: each is a scan of its own
                return [_scan(str(m[2][0][0]), [m]) for m in members]
    else:
        members = sorted(members, key=lambda m: m[1])
    patients = {m[3] for m in members}
    if len(patients) > 1:
        return [_scan(str(m[2][0][0]), [m]) for m in members]
    return [_scan(" ".join(filter(None, key)), members)]


def _scan(name: str, members: list[Any]) -> Scan:
    sides = tuple(zip(*(m[2] for m in members), strict=True))
    patient, known = members[0][3]
    return Scan(name, patient, known, sides, tuple(m[0] for m in members))


def _patient(
    path: Path, header: Header | None, root: Any, given: Callable[[Path], str] | str | None
) -> tuple[str, str]:
    if callable(given):
        return str(given(path)), "given"
    if given is not None:
        found = re.search(given, path.name)
        if found is None:
            raise ValueError(f"{path}: its name has no patient as {given!r} describes it")
        return found.group(1) if found.groups() else found.group(0), "given"
    if header is not None and header.patient:
        return header.patient, "PatientID"
    if root is not None and Path(root) in path.parents:
        parts = path.relative_to(root).parts
        if len(parts) > 1:
            return parts[0], "folder"
    if header is not None and header.series:
        return header.series, "series"
    return str(path), "file"


def header_of(path: Path) -> Header:
    """Series, patient and place of a DICOM file, from its header."""
    import pydicom

    tags = [
        *(
            "SeriesInstanceUID",
            "PatientID",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "NumberOfFrames",
        )
    ]
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        height, frames = _height(data), int(data.get("NumberOfFrames") or 1)
    except Exception as error:
        raise ValueError(f"{path}: truncated or damaged DICOM file ({error})") from error
    who = str(data.get("PatientID") or "").strip()
    who = "" if who.upper() in ("", "ANONYMOUS", "ANON", "UNKNOWN") else who
    return Header(str(data.get("SeriesInstanceUID", "")), who, height, frames)


def _height(data: Any) -> float:
    position, direction = data.get("ImagePositionPatient"), data.get("ImageOrientationPatient")
    if position is None or direction is None or len(position) != 3 or len(direction) != 6:
        return math.nan
    rows = np.array([float(v) for v in direction]).reshape(2, 3)
    return float(np.cross(rows[0], rows[1]) @ np.array([float(v) for v in position]))
