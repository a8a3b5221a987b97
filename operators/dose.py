"""From tube current to photons per ray: distance, cell, filters, bowtie, and modulation of the current."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .checks import check_finite, check_positive
from .geometry import FanBeam, Geometry, ParallelBeam
from .lowdose import LowDose
from .vectors import ConeVectors
from .volume import ConeBeam, VolumeGeometry

Array = NDArray[np.float64]

FLUENCE = 1.2e6  # photons / (mAs mm²) at 1 m, of CatSim's monoenergetic mode


@dataclass(frozen=True)
class Bowtie:
    """T(γ) = exp(−μ t(γ) / cos κ), a filter whose thickness depends on the fan angle γ; κ is the cone angle.

    Parameters
    ----------
    angles : fan angles in rising order [rad]; those of one side, from 0 on, stand for both
    thickness : path of a ray in the central plane through the filter [mm], one per angle, linear in between
    attenuation : μ of its material [1/mm]
    """

    angles: tuple[float, ...]
    thickness: tuple[float, ...]
    attenuation: float

    def __post_init__(self) -> None:
        for name in ("angles", "thickness"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.ndim != 1 or not np.isfinite(values).all():
                raise ValueError(f"Bowtie {name}: expected finite numbers in one dimension, got {values}")
            object.__setattr__(self, name, tuple(values.tolist()))
        if len(self.angles) != len(self.thickness) or len(self.angles) < 2:
            raise ValueError(
                f"Bowtie: expected as many thicknesses as angles, at least two, got {len(self.thickness)} "
                f"and {len(self.angles)}"
            )
        if min(np.diff(self.angles)) <= 0:
            raise ValueError("Bowtie angles [rad]: expected rising angles")
        if self.angles[0] > 0:
            raise ValueError(
                f"Bowtie angles [rad]: expected to begin at 0 (one side) or below, got {self.angles[0]:g}"
            )
        if min(self.thickness) < 0:
            raise ValueError(f"Bowtie thickness [mm]: expected no negative ones, got {min(self.thickness):g}")
        object.__setattr__(self, "attenuation", check_positive("Bowtie attenuation [1/mm]", self.attenuation))

    @classmethod
    def flattening(
        cls, diameter: float, source_to_centre: float, mu: float = 0.0206, attenuation: float = 0.0206
    ) -> Self:
        """μ_filter t(γ) = μ (d − chord(γ)): behind it a cylinder at the centre lets every ray through alike.

        diameter : of the cylinder [mm]
        source_to_centre : distance of the source from its axis [mm]
        mu, attenuation : of the cylinder and of the filter [1/mm]; no filter in the middle
        """
        d = check_positive("Bowtie.flattening diameter [mm]", diameter)
        R = check_positive("Bowtie.flattening source_to_centre [mm]", source_to_centre)
        mu = check_positive("Bowtie.flattening mu [1/mm]", mu)
        if d / 2 >= R:
            raise ValueError(f"Bowtie.flattening diameter [mm]: {d:g} reaches the source at {R:g}")
        s = np.linspace(0, math.pi / 2, 129)  # the chord is d cos s at R sin γ = d/2 sin s
        angles = np.append(np.arcsin(d / 2 / R * np.sin(s)), math.pi / 2)
        chord = np.append(d * np.cos(s), 0.0).clip(0)
        return cls(tuple(angles), tuple(mu * (d - chord) / attenuation), attenuation)

    def transmission(self, fan_angle: Array, cone_cosine: Array | float = 1.0) -> Array:
        """T of rays at these fan angles [rad], with cos κ of their cone angles."""
        gamma = np.abs(fan_angle) if self.angles[0] == 0 else np.asarray(fan_angle)
        if gamma.min() < self.angles[0] - 1e-9 or gamma.max() > self.angles[-1] + 1e-9:
            raise ValueError(
                f"Bowtie angles [rad]: known from {self.angles[0]:g} to {self.angles[-1]:g}, but rays reach "
                f"{gamma.min():g} to {gamma.max():g}; give its thickness there"
            )
        return np.exp(-self.attenuation * np.interp(gamma, self.angles, self.thickness) / cone_cosine)


def photons_per_ray(
    geometry: Geometry,
    mas: float,
    cell_height: float | None = None,
    views_per_rotation: float | None = None,
    fluence: float = FLUENCE,
    fill_factor: float = 1.0,
    filter_transmission: float = 1.0,
    bowtie: Bowtie | None = None,
    efficiency: float = 1.0,
    modulation: Tensor | Sequence[float] | None = None,
    source_to_detector: float | None = None,
) -> Tensor:
    """I₀ = Φ · mAs/N · m_v · area · cos ε (1000 mm / distance)² · T_filter · T_bowtie(γ) · η, float64.

    Distance and obliquity ε are those of every detector cell: the same for all bins of an arc, for a flat
    detector cos³ of the fan angle. Broadcasts to the data: (views or 1, bins), (views or 1, rows, columns).

    Parameters
    ----------
    geometry : FanBeam, ConeBeam, ConeVectors; parallel beams with `source_to_detector`
    mas : tube current × time of one rotation [mAs]
    cell_height : of a cell across the slice, at the detector [mm]; 2-D geometries only, 3-D ones know it
    views_per_rotation : N; by default the geometry's views are one rotation, or as many as their angles turn
    fluence : Φ in air, photons / (mAs mm²) at 1 m, as `tube_spectrum(kvp).total`; 1.2e6 is CatSim's default
    fill_factor : active share of a cell
    filter_transmission, efficiency : of flat filters, and of the detector η, each in (0, 1]
    bowtie : its fan angles are taken about the ray through the rotation axis
    modulation : m_v, relative tube current per view (views,), see `sinusoidal_modulation`
    source_to_detector : of a scan rebinned to parallel [mm]

    Raises
    ------
    ValueError for values out of range, a missing cell height, angles that the bowtie does not cover
    """
    who = "photons_per_ray"
    mas, fluence = check_positive(f"{who} mas", mas), check_positive(f"{who} fluence", fluence)
    if not isinstance(geometry, Geometry):
        raise ValueError(f"{who} geometry: expected a scanner geometry, as A.geometry, got {geometry!r}")
    views = check_positive(
        f"{who} views_per_rotation",
        _views_per_rotation(geometry) if views_per_rotation is None else views_per_rotation,
    )
    shares = {
        "fill_factor": fill_factor, "filter_transmission": filter_transmission, "efficiency": efficiency
    }  # fmt: skip
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise ValueError(f"{who} {name}: expected a share in (0, 1], got {share!r}")
    gain = fluence * mas / views * math.prod(shares.values()) * 1000**2
    panel, cone = isinstance(geometry, VolumeGeometry), isinstance(geometry, FanBeam | ConeBeam | ConeVectors)
    if panel != (cell_height is None):
        has = "knows it; leave it out" if panel else "has a row of bins without height; give it [mm]"
        raise ValueError(f"{who} cell_height: {type(geometry).__name__} {has}")
    if cone and source_to_detector is not None:
        raise ValueError(f"{who} source_to_detector: {type(geometry).__name__} knows it; leave it out")
    height = 0.0 if cell_height is None else check_positive(f"{who} cell_height [mm]", cell_height)
    if isinstance(geometry, FanBeam):
        i0 = gain * _onto_row(geometry, height, bowtie)
    elif isinstance(geometry, ConeBeam | ConeVectors):
        i0 = gain * _onto_panel(geometry, bowtie)
    else:
        i0 = gain * _parallel(geometry, height, bowtie, source_to_detector)
    if modulation is not None:
        m = np.asarray(torch.as_tensor(modulation, dtype=torch.float64))
        if m.shape != (geometry.views,) or not (np.isfinite(m) & (m > 0)).all():
            raise ValueError(
                f"{who} modulation: expected {geometry.views} positive factors, one per view, got shape "
                f"{m.shape}{'' if m.size == 0 else f' from {m.min():g} to {m.max():g}'}"
            )
        i0 = i0 * m.reshape(-1, *(1,) * (i0.ndim - 1))
    return torch.from_numpy(np.ascontiguousarray(i0))


def sinusoidal_modulation(angles: Sequence[float] | Tensor, amplitude: float, phase: float = 0.0) -> Tensor:
    """m_v ∝ 1 + a cos 2(θ_v − θ₀), of mean 1: tube current by the angle, total mAs kept; (views,), float64.

    angles : view angles [rad]
    amplitude : a in [0, 1)
    phase : θ₀, a view angle of greatest current [rad]; for a supine patient a lateral one
    """
    theta = torch.as_tensor(angles, dtype=torch.float64)
    if theta.ndim != 1 or not len(theta):
        raise ValueError(
            f"sinusoidal_modulation angles: expected at least one, got shape {tuple(theta.shape)}"
        )
    if not 0 <= amplitude < 1:
        raise ValueError(f"sinusoidal_modulation amplitude: expected a number in [0, 1), got {amplitude!r}")
    m = 1 + amplitude * torch.cos(2 * (theta - check_finite("sinusoidal_modulation phase", phase)))
    return m / m.mean()


def attenuation_modulation(p: Tensor, alpha: float = 0.5) -> Tensor:
    """m_v ∝ exp(α max p_v), of mean 1: tube current by the attenuation, total mAs kept; (views,), float64.

    α = ½ makes Σ_v exp(p_v)/m_v smallest, the variance where the thickest paths meet (Gies et al., Med. Phys.
    26 (1999) 2235); α = 1 holds the counts behind them constant.

    p : line integrals, of a scout say, (views, bins) or (views, rows, columns)
    """
    if p.ndim < 2 or not bool(torch.isfinite(p).all()):
        raise ValueError(f"attenuation_modulation p: expected finite (views, …), got shape {tuple(p.shape)}")
    alpha = check_finite("attenuation_modulation alpha", alpha)
    return torch.softmax(alpha * p.double().flatten(1).amax(1), 0) * len(p)


class Exposure(NamedTuple):
    """What a scan spends: photons of a ray (least, mean, most), views, photons per cell over all views."""

    least: float
    mean: float
    most: float
    views: int
    per_cell: float


def exposure(geometry: Geometry, noise: LowDose) -> Exposure:
    """Photons of the open beam: I₀ per ray, and Σ_v I₀, the mean over the cells; routine is about 1e9."""
    i0 = torch.as_tensor(noise.i0, dtype=torch.float64)
    try:
        i0 = i0.expand(geometry.out_shape)
    except RuntimeError:
        raise ValueError(
            f"exposure noise: I₀ of shape {tuple(i0.shape)} does not fit the data {geometry.out_shape}; "
            "see noise.select"
        ) from None
    mean = float(i0.mean())
    return Exposure(float(i0.min()), mean, float(i0.max()), geometry.views, mean * geometry.views)


def _views_per_rotation(geometry: Geometry) -> float:
    """Views over turns where angles in order go round more than once, as of a helix; else all views."""
    angles = np.asarray(getattr(geometry, "angles", ()))
    steps = np.diff(angles)
    if not len(steps) or not ((steps > 0).all() or (steps < 0).all()):
        return geometry.views
    turns = abs(float(steps.mean())) * geometry.views / (2 * math.pi)
    return geometry.views / max(turns, 1.0)


def _onto_row(geometry: FanBeam, height: float, bowtie: Bowtie | None) -> Array:
    """Area cos ε / distance² · T_bowtie, (1, bins)."""
    gamma = geometry.fan_angles()
    oblique = np.cos(gamma) ** 3 if geometry.detector == "flat" else np.ones_like(gamma)
    T = 1.0 if bowtie is None else bowtie.transmission(gamma)
    return (geometry.bin_size * height * oblique * T / geometry.source_to_detector**2)[None]


def _parallel(geometry: Geometry, height: float, bowtie: Bowtie | None, distance: float | None) -> Array:
    """Area / distance², all rays alike: (1, 1), or (views, 1, 1) for panels."""
    who = f"photons_per_ray {type(geometry).__name__}"
    if bowtie is not None:
        raise ValueError(f"{who}: parallel rays have no fan angle for a bowtie; multiply I₀ by its profile")
    if distance is None:
        raise ValueError(f"{who}: parallel rays have no source; give source_to_detector [mm]")
    distance = check_positive("photons_per_ray source_to_detector [mm]", distance)
    if isinstance(geometry, VolumeGeometry):
        frames = geometry.frames()
        return np.linalg.norm(np.cross(frames.u, frames.v), axis=-1)[:, None, None] / distance**2
    if not isinstance(geometry, ParallelBeam):
        raise ValueError(f"{who}: expected a fan, cone or parallel beam")
    return np.full((1, 1), geometry.bin_size * height / distance**2)


def _onto_panel(geometry: ConeBeam | ConeVectors, bowtie: Bowtie | None) -> Array:
    """|cos ε| area / distance² · T_bowtie, (views, rows, columns), or one view where all are alike."""
    # every view of a circle or helix is alike
    frames = (geometry.subset([0]) if isinstance(geometry, ConeBeam) else geometry).frames()
    rows, columns = geometry.detector_grid
    ray = frames.pixels(rows, columns) - frames.source[:, None, None, :]
    distance = np.linalg.norm(ray, axis=-1)
    out = frames.outward()[:, None, None, :]
    pitch = np.linalg.norm(frames.u, axis=-1)[:, None, None, None]
    along = frames.u[:, None, None, :] / pitch
    normal = out
    if frames.radius is not None:
        angle = (np.arange(columns) - (columns - 1) / 2)[None, None, :, None] * pitch / frames.radius
        normal = np.sin(angle) * along + np.cos(angle) * out
    area = np.linalg.norm(np.cross(frames.u, frames.v), axis=-1)[:, None, None]
    flux = area * np.abs((ray * normal).sum(-1)) / distance**3
    if bowtie is None:
        return flux
    # about the z axis: the middle of the fan runs from the source through the axis
    middle = -frames.source[:, None, None, :2]
    middle = middle / np.linalg.norm(middle, axis=-1, keepdims=True)
    level = np.linalg.norm(ray[..., :2], axis=-1)
    across = middle[..., 0] * ray[..., 1] - middle[..., 1] * ray[..., 0]
    sign = np.sign(middle[..., 0] * frames.u[:, None, None, 1] - middle[..., 1] * frames.u[:, None, None, 0])
    gamma = np.arctan2(sign * across, (middle * ray[..., :2]).sum(-1))
    return flux * bowtie.transmission(gamma, level / distance)
