"""Scanners as published, by name: `presets.ge_lightspeed((512, 512))` is a FanBeam, with rows=64 a ConeBeam.

GE LightSpeed        MIRT's geometry "ge1" (Fessler, github.com/JeffFessler/mirt, fbp/sino_geom.m); rows from
                     XCIST's model of it (github.com/xcist/main, evaluation/spatial_resolution_modeling)
Siemens Definition   the Mayo clinic's low-dose CT data (Moen et al., Med. Phys. 48 (2021)), whose projections
                     carry it; 64 rows of 1.0947 mm from memory
XCIST                default scanner and protocol of its evaluation (Wu et al., Phys. Med. Biol. 67 (2022))
LION                 simulated scanner of its LIDC-IDRI experiments (github.com/CambridgeCIA/LION)
2DeteCT              slice scanner of a measured data set (Kiss et al., Sci. Data 10 (2023))
OBI-type CBCT        a typical on-board imager of a treatment machine, from memory: no vendor's numbers

A detector's offset is along +u of this package (`operators.geometry`); data whose channels run the other way,
as MIRT's and XCIST's may, are reversed before use, or the offset's sign is.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from .checks import check_count
from .geometry import FanBeam
from .volume import ConeBeam


@dataclass(frozen=True)
class Scanner:
    """A scanner without an image grid and views; call it for a geometry.

    name                 of the scanner
    source               where its numbers are from
    source_to_centre, source_to_detector  [mm]
    detector             "arc" or "flat"
    columns, column_size  cells along the fan and their pitch at the detector [mm], arc length on an arc
    views                in one turn
    offset               middle of the detector minus central ray, along +u [mm]
    rows, row_size       of the detector, and their pitch there [mm]
    typical              numbers that are usual, not those of one machine
    """

    name: str
    source: str
    source_to_centre: float
    source_to_detector: float
    detector: Literal["flat", "arc"]
    columns: int
    column_size: float
    views: int
    offset: float = 0.0
    rows: int = 1
    row_size: float = 1.0
    typical: bool = False

    @property
    def field_of_view(self) -> float:
        """Diameter of the circle that every view sees whole [mm]."""
        half = self.columns * self.column_size / 2 - abs(self.offset)
        gamma = half / self.source_to_detector
        return 2 * self.source_to_centre * math.sin(gamma if self.detector == "arc" else math.atan(gamma))

    @property
    def collimation(self) -> float:
        """Height that the rows see at the axis [mm]."""
        return self.rows * self.row_size * self.source_to_centre / self.source_to_detector

    @overload
    def __call__(
        self,
        image_shape: tuple[int, int],
        pixel_size: float | None = None,
        views: int | None = None,
        rows: None = None,
    ) -> FanBeam: ...

    @overload
    def __call__(
        self,
        image_shape: tuple[int, int, int],
        pixel_size: float | tuple[float, float, float] | None = None,
        views: int | None = None,
        rows: int | None = None,
        *,
        pitch: float = 0.0,
        turns: float = 1.0,
    ) -> ConeBeam: ...

    def __call__(
        self,
        image_shape: Sequence[int],
        pixel_size: Any = None,
        views: int | None = None,
        rows: int | None = None,
        *,
        pitch: float = 0.0,
        turns: float = 1.0,
    ) -> FanBeam | ConeBeam:
        """A FanBeam for (ny, nx), a ConeBeam for (nz, ny, nx).

        image_shape  of the image or the volume
        pixel_size   [mm], of a volume also (dz, dy, dx); by default the image is as wide as the field of view
        views        in one turn, evenly spaced from angle 0; by default the scanner's own
        rows         of the detector, the middle ones; by default the scanner's own
        pitch        height gained in one turn [mm], of a helix about the middle of the volume
        turns        of a helix, the source in the middle of the volume halfway
        """
        shape = tuple(image_shape)
        if len(shape) not in (2, 3):
            raise ValueError(
                f"{self.name} image_shape: expected (ny, nx) or (nz, ny, nx), got {image_shape!r}"
            )
        if len(shape) == 2 and (rows is not None or pitch or turns != 1.0):
            raise ValueError(
                f"{self.name} image_shape: rows, pitch and turns describe a volume; give (nz, ny, nx), got "
                f"{image_shape!r}"
            )
        if rows is not None and rows > self.rows:
            raise ValueError(f"{self.name} rows: expected at most its {self.rows}, got {rows}")
        count = check_count(f"{self.name} views", self.views if views is None else views)
        size = self.field_of_view / shape[-1] if pixel_size is None else pixel_size
        distances = (self.source_to_centre, self.source_to_detector)
        total = round(count * turns)
        angles = tuple(2 * math.pi * k / count for k in range(total))
        if len(shape) == 2:
            return FanBeam(
                (shape[0], shape[1]),
                size,
                angles,
                self.columns,
                self.column_size,
                *distances,
                detector=self.detector,
                offset=self.offset,
            )
        return ConeBeam(
            (shape[0], shape[1], shape[2]),
            size,
            angles,
            (self.rows if rows is None else rows, self.columns),
            (self.row_size, self.column_size),
            *distances,
            detector=self.detector,
            offset=(0.0, self.offset),
            pitch=pitch,
            start=-pitch * turns / 2 if pitch else 0.0,
        )


ge_lightspeed = Scanner(
    "GE LightSpeed",
    "MIRT, fbp/sino_geom.m, 'ge1'; rows: XCIST, evaluation/spatial_resolution_modeling",
    541.0,
    949.075,
    "arc",
    888,
    1.0239,
    984,
    offset=1.25 * 1.0239,
    rows=64,
    row_size=1.098782,
)

siemens_definition = Scanner(
    "Siemens Definition",
    "DICOM-CT-PD headers of the Mayo clinic's low-dose CT data",
    595.0,
    1085.6,
    "arc",
    736,
    1.2858,
    1152,
    rows=64,
    row_size=1.0947,
)

xcist = Scanner(
    "XCIST",
    "XCIST, evaluation/cfg/Scanner_Default.cfg and Protocol_Default.cfg",
    540.0,
    950.0,
    "arc",
    900,
    1.0,
    1000,
    offset=0.25,
    rows=16,
    row_size=1.0,
)

lion = Scanner(
    "LION, LIDC-IDRI",
    "LION, experiments on LIDC-IDRI",
    575.0,
    1050.0,
    "flat",
    900,
    1.0,
    360,
)

detect = Scanner(
    "2DeteCT",
    "Kiss et al., Sci. Data 10 (2023)",
    431.02,
    529.0,
    "flat",
    956,
    0.1496,
    3600,
    row_size=0.1496,
)

obi_cbct = Scanner(
    "OBI-type CBCT",
    "a typical on-board imager, from memory",
    1000.0,
    1500.0,
    "flat",
    1024,
    0.388,
    650,
    rows=768,
    row_size=0.388,
    typical=True,
)

PRESETS = {
    "2detect": detect,
    "ge": ge_lightspeed,
    "lion": lion,
    "obi": obi_cbct,
    "siemens": siemens_definition,
    "xcist": xcist,
}


def scanner(name: str) -> Scanner:
    """The scanner of that name in `PRESETS`; ValueError that names them all."""
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(str(name).lower(), PRESETS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"scanner: expected one of {', '.join(map(repr, PRESETS))}, got {name!r}{hint}")
