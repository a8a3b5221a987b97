"""Rigid motion between the shots of a scan: every line of k-space sees the object where it was then."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .ellipses import Ellipse, Ellipses

KINDS = ("step", "drift", "periodic")


@dataclass(frozen=True, eq=False)
class Motion:
    """y(k) = (A T_s x)(k), s = shots(k): shot s sees x turned by θ_s about the middle, then shifted by t_s.

    Coil sensitivities and the scanner's phase stay where they are. What is reconstructed is the object in its
    reference position, θ = 0, t = 0.

    shots : of every point of k-space, integer, broadcasts to (ny, nx), or to the samples of a trajectory
    translations : (number of shots, 2), (x, y) [mm], y upwards
    rotations : (number of shots,), counter-clockwise [rad]
    """

    shots: Tensor
    translations: Tensor
    rotations: Tensor

    def __post_init__(self) -> None:
        t = torch.as_tensor(self.translations, dtype=torch.float64)
        r = torch.as_tensor(self.rotations, dtype=torch.float64)
        shots = torch.as_tensor(self.shots)
        if t.ndim != 2 or t.shape[-1] != 2 or r.shape != t.shape[:1] or not len(r):
            raise ValueError(
                "Motion: expected translations (shots, 2) [mm] and rotations (shots,) [rad], got "
                f"{tuple(t.shape)} and {tuple(r.shape)}"
            )
        if not bool(torch.isfinite(t).all()) or not bool(torch.isfinite(r).all()):
            raise ValueError("Motion: expected finite translations and rotations, got NaN or inf")
        if shots.is_floating_point() or shots.is_complex() or shots.dtype == torch.bool or not shots.numel():
            raise ValueError(f"Motion shots: expected integers, got {shots.dtype} {tuple(shots.shape)}")
        if int(shots.min()) < 0 or int(shots.max()) >= len(r):
            raise ValueError(
                f"Motion shots: expected numbers from 0 to {len(r) - 1}, one per translation, got "
                f"{int(shots.min())} to {int(shots.max())}"
            )
        for name, value in (("shots", shots.long()), ("translations", t), ("rotations", r)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.rotations)

    def moved(self, scene: Ellipses | Tensor, shot: int, pixel_size: float = 1.0) -> Ellipses | Tensor:
        """The object as shot number `shot` sees it."""
        x, y = (float(v) for v in self.translations[shot])
        angle = float(self.rotations[shot])
        if isinstance(scene, Ellipses):
            return moved_ellipses(scene, (x, y), angle)
        return moved_image(scene, (x / pixel_size, y / pixel_size), angle)


def random_motion(
    shots: Tensor, kind: str = "step", seed: int = 0, translation: float = 3.0, rotation: float = 0.05
) -> Motion:
    """Poses of all shots: "step" one sudden change, "drift" a slow walk, "periodic" as by breathing.

    shots : of every point of k-space, as `shot_order` gives
    translation : largest displacement along x and along y [mm]; rotation : largest angle [rad]

    The first shot is at rest in the reference position, but for "periodic", whose phase is random.
    """
    if kind not in KINDS:
        raise ValueError(f"random_motion kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    count = int(torch.as_tensor(shots).max()) + 1
    random = np.random.default_rng(seed)
    time = np.arange(count)
    if kind == "step":
        when = random.integers(1, max(count, 2))
        path = np.where(time[:, None] >= when, random.uniform(-1, 1, 3), 0.0)
    elif kind == "drift":
        path = np.cumsum(random.normal(size=(count, 3)), 0)
        path -= path[0]
        path *= random.uniform(0.3, 1) / max(np.abs(path).max(), 1e-12)
    else:
        cycles = random.uniform(1.5, 4)
        phase = random.uniform(0, 2 * math.pi)
        path = np.sin(2 * math.pi * cycles * time[:, None] / count + phase) * random.uniform(-1, 1, 3)
    return Motion(shots, torch.from_numpy(translation * path[:, :2]), torch.from_numpy(rotation * path[:, 2]))


def shot_order(lines: int, shots: int, order: str = "sequential") -> Tensor:
    """Which shot measures which line, (lines,): blocks ("sequential") or every shots-th ("interleaved")."""
    if not 1 <= shots <= lines:
        raise ValueError(f"shot_order shots: expected 1 to {lines}, got {shots}")
    line = torch.arange(lines)
    if order == "sequential":
        return line * shots // lines
    if order == "interleaved":
        return line % shots
    raise ValueError(f"shot_order order: expected 'sequential' or 'interleaved', got {order!r}")


def moved_ellipses(ellipses: Ellipses, translation: tuple[float, float], angle: float) -> Ellipses:
    """Turned by `angle` [rad] about (0, 0), counter-clockwise, then shifted by (x, y) [mm]: exact."""
    c, s = math.cos(angle), math.sin(angle)
    return Ellipses(
        Ellipse(
            e.value,
            e.semi_axes,
            (
                c * e.centre[0] - s * e.centre[1] + translation[0],
                s * e.centre[0] + c * e.centre[1] + translation[1],
            ),
            e.angle + angle,
        )
        for e in ellipses
    )


def moved_image(image: Tensor, translation: tuple[float, float], angle: float) -> Tensor:
    """As `moved_ellipses` for pixels, (*batch, ny, nx) -> the same shape, complex; translation [pixels].

    Rotation is three shears, each a Fourier shift of rows or columns, so nothing is interpolated and nothing
    is lost but what leaves at one border and enters at the opposite one (Unser, Thévenaz, Yaroslavsky, IEEE
    Trans. Image Process. 4 (1995) 1371). Up to 45°.
    """
    if abs(angle) > math.pi / 4:
        raise ValueError(f"moved_image angle [rad]: expected at most π/4 either way, got {angle:g}")
    image = image if image.is_complex() else image.to(torch.promote_types(image.dtype, torch.complex64))
    ny, nx = image.shape[-2:]
    x = torch.arange(nx, dtype=torch.float64) - (nx - 1) / 2
    y = (ny - 1) / 2 - torch.arange(ny, dtype=torch.float64)
    if angle != 0:
        image = _shifted(image, -math.tan(angle / 2) * y, -1)
        image = _shifted(image, -math.sin(angle) * x, -2)
        image = _shifted(image, -math.tan(angle / 2) * y, -1)
    image = _shifted(image, torch.full_like(y, translation[0]), -1)
    return _shifted(image, torch.full_like(x, -translation[1]), -2)


def _shifted(image: Tensor, by: Tensor, dim: int) -> Tensor:
    """Every line along `dim` moved by its own number of pixels, towards higher indices."""
    if not bool((by != 0).any()):
        return image
    frequency = torch.fft.fftfreq(image.shape[dim], dtype=torch.float64)
    ramp = torch.exp(-2j * math.pi * by[:, None] * frequency)
    ramp = (ramp if dim == -1 else ramp.T).to(image.device, image.dtype)
    return torch.fft.ifft(torch.fft.fft(image, dim=dim) * ramp, dim=dim)
