"""Projections of a clinical scanner: line integrals, and where focal spot and detector were."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators import ConeBeam, ConeVectors, FanBeam

Array = NDArray[np.float64]
LEVEL = 0.02  # [mm] by which heights may differ where they are said to follow a law
STILL = 1e-3  # [mm] of focal spot movement that is none


@dataclass(frozen=True, eq=False)
class CTProjections:
    """Line integrals of a clinical scan, and where the focal spot and the detector were at every view.

    data                line integrals, (views, rows, columns), columns along u, rows along z
    angles              view angle of the detector's centre (views,) [rad], unwrapped
    heights             of the detector's centre (views,), along the axis [mm]
    source_to_centre, source_to_detector  of the detector's centre of curvature, the focal centre [mm]
    pixel               distance of rows and of columns, at the detector [mm]
    offset              (row, column), middle of the detector minus the central ray [mm]: the quarter pixel
    detector            "arc" or "flat"
    shifts              focal spot minus focal centre, (views, 3): angle [rad], height, radius [mm]
    mu_water            as the scanner's calibration says [1/mm]
    photons             of the open beam by column, (views, columns), where the file says
    """

    data: Tensor
    angles: Array
    heights: Array
    source_to_centre: float
    source_to_detector: float
    pixel: tuple[float, float]
    offset: tuple[float, float]
    detector: Literal["arc", "flat"]
    shifts: Array
    mu_water: float | None = None
    kvp: float | None = None
    photons: Tensor | None = None

    @property
    def helical(self) -> bool:
        """Whether the table moved."""
        return float(np.ptp(self.heights)) > LEVEL

    @property
    def flying(self) -> bool:
        """Whether the focal spot left the focal centre."""
        lengths = np.array([self.source_to_centre, 1.0, 1.0])
        return float(np.abs(self.shifts * lengths).max()) > STILL

    def subset(self, views: slice) -> CTProjections:
        """Some of its views."""
        return self._of(np.arange(len(self.angles))[views])

    def _of(self, views: NDArray[np.int64]) -> CTProjections:
        photons = None if self.photons is None else self.photons[views]
        return replace(
            self,
            data=self.data[views],
            angles=self.angles[views],
            heights=self.heights[views],
            shifts=self.shifts[views],
            photons=photons,
        )

    def fan(
        self, image_shape: tuple[int, int], pixel_size: float, row: int | None = None
    ) -> tuple[FanBeam, Tensor]:
        """One detector row of a scan with a still table as a fan beam, with its data (views, columns).

        The cone angle of the row is left out: its rays are shortened by cos κ, κ the angle out of the plane.

        image_shape, pixel_size : of the reconstruction [mm]
        row : by number, from the lowest; None takes the one nearest to the central plane

        Raises ValueError for a helical scan (rebin it, or use `cone`) and a flying focal spot (see
        `focal_spots` and `vectors`).
        """
        if self.helical:
            raise ValueError(
                "CTProjections.fan: the table moved; rebin the helix to fans (operators.helical), or use "
                "cone()"
            )
        self._check_still("fan")
        v = self._rows()
        row = int(np.abs(v).argmin()) if row is None else row
        if not 0 <= row < len(v):
            raise ValueError(f"CTProjections.fan row: expected 0 to {len(v) - 1}, got {row}")
        geometry = FanBeam(
            image_shape, pixel_size, tuple(self.angles), self.data.shape[-1], self.pixel[1],
            self.source_to_centre, self.source_to_detector, self.detector, self.offset[1],
        )  # fmt: skip
        D = self.source_to_detector
        out = D if self.detector == "arc" else torch.from_numpy(np.hypot(D, geometry.bins())).float()
        return geometry, self.data[:, row] * (out / (out**2 + v[row] ** 2) ** 0.5)

    def cone(
        self,
        volume_shape: tuple[int, int, int],
        voxel_size: float | tuple[float, float, float],
        middle: float | None = None,
    ) -> ConeBeam:
        """The scan as a circle or a helix of constant pitch, about a volume with its middle at `middle`.

        middle : [mm], in the scanner's coordinate; None takes the middle of the scan

        Raises ValueError for a flying focal spot and a table that did not move evenly (see `vectors`).
        """
        self._check_still("cone")
        z = self.heights - self._middle(middle)
        pitch, start = 0.0, float(z.mean())
        if self.helical:
            slope, start = (float(c) for c in np.polyfit(self.angles, z, 1))
            pitch = 2 * math.pi * slope
        error = float(np.abs(start + pitch * self.angles / (2 * math.pi) - z).max())
        if error > LEVEL:
            raise ValueError(
                f"CTProjections.cone: heights differ by {error:.3g} mm from a helix; use vectors()"
            )
        return self._cone(volume_shape, voxel_size, pitch, start)

    def vectors(
        self,
        volume_shape: tuple[int, int, int],
        voxel_size: float | tuple[float, float, float],
        middle: float | None = None,
    ) -> ConeVectors:
        """The scan as it was, view by view: any table movement, and the focal spot where it flew to.

        middle : height of the volume's middle [mm]; None takes the middle of the scan
        """
        still = self._cone(volume_shape, voxel_size, 0.0, 0.0)
        frames = still.frames()
        z = np.zeros((len(self.angles), 3))
        z[:, 2] = self.heights - self._middle(middle)
        angle, height, radius = self.shifts.T
        theta, rho = self.angles + angle, self.source_to_centre + radius
        sources = np.stack([rho * np.sin(theta), -rho * np.cos(theta), z[:, 2] + height], -1)
        return ConeVectors(
            still.volume_shape, still.voxel_size, still.detector_shape,
            sources, frames.centre + z, frames.u, frames.v, frames.radius,  # type: ignore[arg-type]
        )  # fmt: skip

    def focal_spots(self) -> list[CTProjections]:
        """The views of each place of a flying focal spot as a scan of its own, in which it stands still.

        Angles, heights and distances are those of the spot, offsets those of the detector as it sees it. The
        arc stays centred on the focal centre, not on the spot: for a spot δ beside it columns are misplaced
        by up to δ (1 − cos γ), 0.1 of 1 mm at γ = 25°; exact are the `vectors` of the whole scan.

        Raises ValueError where a place has shifts that differ from view to view.
        """
        places = np.round(self.shifts * [self.source_to_centre, 1.0, 1.0] / STILL).astype(int)
        kinds, which = np.unique(places, axis=0, return_inverse=True)
        if len(kinds) > 8:
            raise ValueError(
                f"CTProjections.focal_spots: {len(kinds)} places of the focal spot, expected at most 8; use "
                "vectors()"
            )
        return [self._seen_from(np.flatnonzero(which.ravel() == k)) for k in range(len(kinds))]

    def _seen_from(self, views: NDArray[np.int64]) -> CTProjections:
        angle, height, radius = self.shifts[views].mean(0)
        R, D = self.source_to_centre, self.source_to_detector
        # in the frame of the focal centre: the spot, and the detector's middle on its central ray
        spot = np.array([(R + radius) * math.sin(angle), R - (R + radius) * math.cos(angle)])
        middle = np.array([0.0, D]) - spot
        central = np.array([-math.sin(angle), math.cos(angle)])
        gamma = math.atan2(central[1] * middle[0] - central[0] * middle[1], float(central @ middle))
        distance = float(np.linalg.norm(middle)) * (1 if self.detector == "arc" else math.cos(gamma))
        turn = gamma if self.detector == "arc" else math.tan(gamma)
        scan = self._of(views)
        return replace(
            scan,
            angles=scan.angles + angle,
            heights=scan.heights + height,
            source_to_centre=R + radius,
            source_to_detector=distance,
            offset=(self.offset[0] - height, self.offset[1] + turn * distance),
            shifts=np.zeros_like(scan.shifts),
        )

    def _cone(self, volume_shape: Any, voxel_size: Any, pitch: float, start: float) -> ConeBeam:
        return ConeBeam(
            volume_shape, voxel_size, tuple(self.angles), self.data.shape[1:], self.pixel,  # type: ignore[arg-type]
            self.source_to_centre, self.source_to_detector, self.detector, self.offset, pitch, start,
        )  # fmt: skip

    def _rows(self) -> Array:
        count = self.data.shape[1]
        return np.array([(k - (count - 1) / 2) * self.pixel[0] + self.offset[0] for k in range(count)])

    def _middle(self, middle: float | None) -> float:
        return float(self.heights.min() + self.heights.max()) / 2 if middle is None else middle

    def _check_still(self, name: str) -> None:
        if self.flying:
            raise ValueError(
                f"CTProjections.{name}: the focal spot flew; take its places one by one with focal_spots(), "
                "or vectors(), which has it as it was"
            )
