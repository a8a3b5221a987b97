"""K-space of a scan, whatever its format: image by image, what was measured of it, and its problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from operators import Gaussian, NonUniformSense, Prewhitening, espirit, noise_covariance

from ..problem import Problem
from .kspace_problem import NO_MAPS, centre_crop, known, mri_problem
from .volumes import Affine, Volume, finite


@dataclass(frozen=True, eq=False)
class Stored:
    """Images in a file, each read when asked for, by whatever process asks: stored[k] is a tensor.

    shape  (images, …)
    read   k -> tensor of shape[1:]; opens the file anew, so that DataLoader workers share no handle
    """

    shape: tuple[int, ...]
    read: Callable[[int], Tensor]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, k: int) -> Tensor:
        if not -len(self) <= k < len(self):
            raise IndexError(f"image {k} of {len(self)}")
        return self.read(k % len(self))

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class KSpace:
    """Raw data of one scan; `len(scan)` images, `scan[k]` the k-space of one, `scan[[0, 1]]` of several.

    K-space is centred (DC at n // 2) and orthonormal. Images are slices, repetitions, contrasts, …: `labels`
    says which.

    kspace         (images, coils, [kz,] ky, kx) complex64, a tensor or read image by image; not Cartesian:
                   (images, coils, samples)
    mask           where something was measured, bool, broadcasts to (images, [kz,] ky, kx); None: everywhere
    trajectory     (samples, 2|3) [rad per pixel] in the order of the image's axes, or (images, samples, 2|3)
    shape          of an image ([nz,] ny, nx); None takes it from Cartesian k-space
    noise          scan without signal (coils, samples), scaled to the noise of one sample of `kspace`
    maps           coil sensitivities (coils, [nz,] ny, nx)
    calibration    lines measured for calibration only, (images, coils, [kz,] ky, kx), zero elsewhere
    references     images that came with the data, by their kind: "rss", "esc", each (images, ny, nx)
    field_of_view  of the grid, ([z,] y, x) [mm]
    recon_shape    what the scanner's images are cropped to, ([nz,] ny, nx)
    affine         (4, 4) of the uncropped images as a volume, patient coordinates LPS [mm]; None: not said
    labels         one mapping an image, {"slice": 0, "repetition": 2}
    whitening      L⁻¹ that `prewhitened` has applied to the coils, (coils, coils)
    attributes     what else the file says; of the patient only a hash
    source         the file
    """

    kspace: Tensor | Stored
    mask: Tensor | None = None
    trajectory: Tensor | None = None
    shape: tuple[int, ...] | None = None
    noise: Tensor | None = None
    maps: Tensor | None = None
    calibration: Tensor | None = None
    references: Mapping[str, Tensor | Stored] = field(default_factory=dict)
    field_of_view: tuple[float, ...] | None = None
    recon_shape: tuple[int, ...] | None = None
    affine: Affine | None = None
    labels: tuple[Mapping[str, int], ...] = ()
    whitening: Tensor | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    source: Path | None = None

    def __post_init__(self) -> None:
        who = f"{self.source}: " if self.source else "KSpace "
        data = self.kspace
        if isinstance(data, Tensor) and not data.is_complex():
            raise ValueError(f"{who}kspace: expected complex numbers, got {data.dtype}; use torch.complex")
        wanted, axes = ((4, 5), "[kz,] ky, kx") if self.trajectory is None else ((3,), "samples")
        if len(data.shape) not in wanted or 0 in data.shape:
            raise ValueError(
                f"{who}kspace: expected (images, coils, {axes}), none of them 0, got {tuple(data.shape)}"
            )
        if self.shape is None:
            if self.trajectory is not None:
                raise ValueError(f"{who}shape: say the image's, a trajectory does not")
            object.__setattr__(self, "shape", tuple(data.shape[2:]))
        self._check_mask(who)
        for name, value, axis in (("noise", self.noise, 0), ("maps", self.maps, 0)):
            if value is not None and (not value.is_complex() or value.shape[axis] != self.coils):
                raise ValueError(
                    f"{who}{name}: expected complex ({self.coils}, …), as many coils as kspace, got "
                    f"{value.dtype} {tuple(value.shape)}"
                )
        if self.trajectory is not None:
            check_trajectory(who, self.trajectory, data.shape[-1], len(self.grid))

    def __len__(self) -> int:
        return len(self.kspace)

    def __getitem__(self, index: int | Sequence[int]) -> Tensor:
        """K-space of one image (coils, …), or of several, stacked; finite, or a ValueError."""
        if not isinstance(index, int):
            return torch.stack([self[k] for k in index])
        return finite(f"{self.source or 'KSpace'}: image {index} of kspace", self.kspace[index])

    @property
    def coils(self) -> int:
        """Receive channels."""
        return int(self.kspace.shape[1])

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of an image, uncropped, ([nz,] ny, nx)."""
        assert self.shape is not None
        return self.shape

    @property
    def pixel_size(self) -> tuple[float, ...]:
        """Distance of pixels ([dz,] dy, dx) [mm]; 1 where the field of view is not known."""
        if self.field_of_view is None:
            return (1.0,) * len(self.grid)
        return tuple(f / n for f, n in zip(self.field_of_view, self.grid, strict=True))

    def sampled(self, index: int | Sequence[int]) -> Tensor:
        """Where these images were measured, bool, ([frames,] [kz,] ky, kx)."""
        if not isinstance(index, int):
            return torch.stack([self.sampled(k) for k in index])
        if self.mask is None:
            return torch.ones(self.grid, dtype=torch.bool)
        return self.mask.expand(len(self), *self.grid)[index]

    @property
    def sigma(self) -> float | None:
        """σ of the noise scan, E|n|² = σ² of one sample, root mean square of the coils; None without one."""
        return None if self.noise is None else math.sqrt(float(self.noise.abs().square().double().mean()))

    def problem(
        self,
        index: int | Sequence[int] = 0,
        maps: Tensor | None = None,
        sigma: float | None = None,
        mask: Tensor | None = None,
    ) -> Problem:
        """The k-space of one image with its operator and noise, ready for a method.

        index : of the image; several are frames of one image, (frames, [nz,] ny, nx)
        maps : coil sensitivities; None takes those of the file; not needed for one coil
        sigma : of the noise, E|n|² = σ²; None: of the noise scan (correlated coils want `prewhitened` first),
            else `estimate_sigma` of the edge of k-space, an upper bound
        mask : bool; what to use of what was measured, to undersample in retrospect

        Raises ValueError for several coils without maps, and where nothing is left.
        """
        maps = self.maps if maps is None else maps
        sigma = self.sigma if sigma is None else sigma
        if self.trajectory is not None:
            return self._non_cartesian(index, maps, sigma)
        used = self.sampled(index) if mask is None else self.sampled(index) & mask
        return mri_problem(self[index], used, maps, sigma, self.pixel_size)

    def prewhitened(self) -> KSpace:
        """The scan with noise of σ = 1, independent between coils: y ← L⁻¹ y, L L* = Ψ of the noise scan."""
        if self.noise is None:
            raise ValueError(f"{self.source or 'KSpace'}: no noise scan in it, its coils cannot be whitened")
        try:
            W = Prewhitening(noise_covariance(self.noise))
        except ValueError as error:
            raise ValueError(f"{self.source or 'KSpace'}: {error}") from None
        data, ndim = self.kspace, len(self.kspace.shape) - 2
        white = W(data, ndim) if isinstance(data, Tensor) else Stored(data.shape, _White(W, data, ndim))
        return replace(
            self,
            kspace=white,
            whitening=W.matrix if self.whitening is None else W.matrix @ self.whitening,
            noise=W(self.noise, 1),
            maps=None if self.maps is None else W(self.maps, len(self.grid)),
            calibration=None if self.calibration is None else W(self.calibration, len(self.grid)),
        )

    def coil_maps(self, index: int = 0, **options: Any) -> Tensor:
        """Sensitivities by `espirit` from calibration lines where there are, else the middle of k-space.

        Σ|S|² = 1 for the coils as they were received: whitened coils get maps of another norm, so that the
        image keeps its units and does not take over how noise is shared between coils.

        options : of `espirit`; without `calibration`, the largest fully sampled region
        """
        if self.trajectory is not None:
            raise ValueError(f"{self.source or 'KSpace'}: coil_maps needs Cartesian k-space, or give maps")
        lines = self[index] if self.calibration is None else self.calibration[index]
        maps = espirit(lines, **({"calibration": None} | options), ndim=len(self.grid)).maps
        if self.whitening is None:
            return maps
        received = torch.linalg.solve(self.whitening.to(maps), maps.flatten(1))
        norm = torch.linalg.vector_norm(received, dim=0).reshape(self.grid)
        return maps / torch.where(norm > 0, norm, 1.0)

    def cropped(self, image: Tensor) -> Tensor:
        """The middle of an image (…, [nz,] ny, nx), as the scanner crops it."""
        return image if self.recon_shape is None else centre_crop(image, self.recon_shape)

    def volume(self, image: Tensor, first: int = 0) -> Volume:
        """Consecutive slices (slices, ny, nx), or a volume, in the patient's coordinates where known.

        image : cropped or not, complex or not
        first : index of its first slice in the scan
        """
        image = image[None] if image.ndim == 2 else image
        ny, nx = self.grid[-2:]
        affine = axial_affine(self) if self.affine is None else self.affine.copy()
        moved = np.array([nx // 2 - image.shape[2] // 2, ny // 2 - image.shape[1] // 2, first, 0])
        if len(self.grid) == 3:
            moved[2] = self.grid[0] // 2 - image.shape[0] // 2
        affine[:3, 3] = (affine @ (moved + np.array([0, 0, 0, 1])))[:3]
        return Volume(image if image.is_complex() else image.float(), affine)

    def _check_mask(self, who: str) -> None:
        if self.mask is None:
            return
        full = (len(self), *self.grid)
        try:
            fits = tuple(torch.broadcast_shapes(self.mask.shape, full)) == full
        except RuntimeError:
            fits = False
        if self.mask.dtype != torch.bool or not fits:
            raise ValueError(
                f"{who}mask: expected bool that broadcasts to {full}, got {self.mask.dtype} "
                f"{tuple(self.mask.shape)}"
            )
        if not bool(self.mask.any()):
            raise ValueError(f"{who}mask: samples nothing")

    def _non_cartesian(self, index: int | Sequence[int], maps: Tensor | None, sigma: float | None) -> Problem:
        k = self.trajectory
        assert k is not None
        frames = not isinstance(index, int)
        if k.ndim == 3:
            k = k[index] if isinstance(index, int) else k[list(index)]
        elif frames:
            k = k.expand(len(self[index]), *k.shape)
        if maps is None:
            if self.coils > 1:
                raise ValueError(NO_MAPS.format(self.coils))
            maps = torch.ones(1, *self.grid, dtype=torch.complex64)
        sides = (1.0,) * frames + self.pixel_size
        A = NonUniformSense(k, maps, pixel_size=sides, frames=frames)
        y = self[index]
        return Problem(A, y, Gaussian(known(A, y, sigma), data_ndim=len(A.out_shape)))


@dataclass(frozen=True, eq=False)
class _White:
    whiten: Prewhitening
    data: Stored
    ndim: int

    def __call__(self, k: int) -> Tensor:
        return self.whiten(self.data[k], self.ndim)


def axial_affine(scan: KSpace) -> Affine:
    """A place for a scan that has none: axial, the centre of the field of view at 0."""
    sides, grid = scan.pixel_size[-2:], scan.grid[-2:]
    step = scan.attributes.get("slice_spacing_mm", 1.0)
    nz = len(scan)
    if len(scan.grid) == 3:
        step, nz = scan.pixel_size[0], scan.grid[0]
    affine = np.diag([sides[1], sides[0], float(step), 1.0])
    affine[:3, 3] = -(grid[1] // 2) * sides[1], -(grid[0] // 2) * sides[0], -(nz // 2) * float(step)
    return affine


def check_trajectory(who: str, k: Tensor, samples: int, ndim: int) -> None:
    """(…, samples, ndim), finite, within ±π."""
    if not k.is_floating_point() or k.ndim not in (2, 3) or tuple(k.shape[-2:]) != (samples, ndim):
        raise ValueError(
            f"{who}trajectory: expected ({samples}, {ndim}) real numbers, got {k.dtype} {tuple(k.shape)}"
        )
    if not bool(torch.isfinite(k).all()) or float(k.abs().max()) > math.pi * 1.001:
        raise ValueError(
            f"{who}trajectory: expected finite values within ±π rad per pixel, got up to "
            f"{float(k.abs().max()):g}; is it in other units?"
        )
