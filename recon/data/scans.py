"""Projections on disk, whatever their format, as problems: one for every slice or volume to reconstruct."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from operators import FanBeam, Gaussian, LowDose, XRay
from operators.helical import covered, helical_to_fan

from ..problem import Problem
from .ct_pd import is_ct_pd, read_ct_pd
from .dicom import MU_WATER
from .dicom_series import _headers
from .fan_files import read_2detect, read_htc
from .projection_files import _read, load_projections
from .projections import CTProjections
from .tiff import natural
from .volumes import Affine

OURS = (".safetensors", ".npz")


@dataclass(frozen=True)
class Scan:
    """One slice or volume to reconstruct.

    series    name of the series it belongs to, "dose-0.25"
    number    place in it, from 0
    load      reads the data: () -> Problem
    mu_water  [1/mm], as the file says or as asked for; None: its images are not in HU
    affine    of the series in the patient's coordinates, where the file says
    kvp       tube voltage [kV], where the file says
    image     what becomes of the method's image: magnitude and crop of MR; None: attenuation, to HU
    """

    series: str
    number: int
    load: Callable[[], Problem]
    mu_water: float | None
    affine: Affine | None = None
    kvp: float | None = None
    image: Callable[[Tensor], Tensor] | None = None


def open_scans(
    source: str | Path,
    pixels: int = 512,
    pixel_size: float | None = None,
    mu_water: float | None = None,
    spacing: float | None = None,
) -> list[Scan]:
    """The scans in a file or folder of projections.

    Our own files (.safetensors, .npz; a folder of them, or of `recon simulate`; of several files one that
    holds a volume or a batch is a series by itself), DICOM-CT-PD folders (a still
    table: one slice a detector row; a helix: rebinned to a slice every `spacing`), HTC 2022 .mat, 2DeteCT.

    pixels, pixel_size : of the images of foreign formats [mm]; None covers the field of view
    mu_water : [1/mm] in place of what the file says; where neither does, 0.0206
    spacing : of the slices rebinned from a helix [mm]; None takes the row pitch at the axis

    Raises ValueError for images (not projections), and for folders with nothing to reconstruct.
    """
    path = Path(source)
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    if path.is_dir():
        return _folder(path, pixels, pixel_size, mu_water, spacing)
    if path.suffix in OURS:
        return [_ours(path, 0, mu_water)]
    if path.suffix == ".mat":
        return [
            Scan(
                path.stem, 0, lambda: _fan(read_htc(path, (pixels, pixels), pixel_size)), mu_water or MU_WATER
            )
        ]
    if is_ct_pd(path):
        raise ValueError(f"{path}: one view of a DICOM-CT-PD scan; name its folder")
    _refuse_images(path)
    raise ValueError(f"{path}: expected projections: .safetensors, .npz, .mat, or a folder")


def noise_level(data: Tensor) -> float:
    """σ = 1.4826 median|y_{i−1} − 2 y_i + y_{i+1}| / √6 over neighbouring bins, the noise of post-log data.

    Of white noise exactly its σ, robust against the few bins where the object has an edge.

    data : (…, bins), at least three
    """
    if data.shape[-1] < 3:
        raise ValueError(f"noise_level: expected at least three bins, got {data.shape[-1]}")
    second = data[..., :-2] - 2 * data[..., 1:-1] + data[..., 2:]
    return 1.4826 * float(second.double().abs().median()) / math.sqrt(6)


def _folder(path: Path, pixels: int, pixel_size: float | None, mu_water: Any, spacing: Any) -> list[Scan]:
    root = path / "projections" if (path / "projections").is_dir() else path
    ours = sorted((p for p in root.glob("[!.]*") if p.suffix in OURS), key=lambda p: natural(p.name))
    if ours:
        return _apart(ours, [_ours(p, k, mu_water, len(ours)) for k, p in enumerate(ours)])
    if (path / "sinogram.tif").exists():
        shape = (pixels, pixels)
        return [Scan(path.name, 0, lambda: _fan(read_2detect(path, shape, pixel_size)), mu_water or MU_WATER)]
    if any(is_ct_pd(p) for p in sorted(path.iterdir()) if p.is_file()):
        return _clinical(path.name, read_ct_pd(path), pixels, pixel_size, mu_water, spacing)
    _refuse_images(path)
    raise ValueError(f"{path}: no projections in it (.safetensors, .npz, DICOM-CT-PD, sinogram.tif)")


def _apart(paths: list[Path], scans: list[Scan]) -> list[Scan]:
    """The scans, if each has a place of its own."""
    there: dict[tuple[str, int], Path] = {}
    for path, scan in zip(paths, scans, strict=True):
        before = there.setdefault((scan.series, scan.number), path)
        if before != path:
            raise ValueError(
                f"{before} and {path} are both slice {scan.number + 1} of series {scan.series!r}; save them "
                "with different `slice` or `dose`, or reconstruct them one by one"
            )
    return scans


def _refuse_images(path: Path) -> None:
    try:
        images = _headers(path)
    except ValueError:
        return
    if images:
        raise ValueError(
            f"{path}: images, not projections: make projections of them with `recon simulate`, and "
            "reconstruct those"
        )


def _ours(path: Path, place: int, mu_water: float | None, files: int = 1) -> Scan:
    tensors, header = _read(path)
    about = header["about"]
    dose, k = about.get("dose"), about.get("slice")
    affine = np.array(about["affine"]) if about.get("affine") is not None else None
    series = f"dose-{dose:g}" if isinstance(dose, int | float) else path.parent.name or "scan"
    if files > 1 and tensors["y"].ndim > 2:  # several slices, a volume or a batch, are a series of their own
        series, place = path.stem, 0
    return Scan(
        series=series,
        number=k if isinstance(k, int) else place,
        load=lambda: load_projections(path),
        mu_water=mu_water or about.get("mu_water") or MU_WATER,
        affine=affine,
        kvp=about.get("kvp"),
    )


def _fan(scan: tuple[FanBeam, Tensor]) -> Problem:
    """Post-log data of unknown photons: one σ, from the data."""
    geometry, y = scan
    return Problem(XRay(geometry), y, Gaussian(noise_level(y) or 1e-6))


def _clinical(
    name: str,
    scan: CTProjections,
    pixels: int,
    pixel_size: float | None,
    mu_water: Any,
    spacing: float | None,
) -> list[Scan]:
    reach = scan.offset[1] + np.array([-0.5, 0.5]) * (scan.data.shape[2] - 1) * scan.pixel[1]
    angle = np.abs(reach).min() / scan.source_to_detector
    radius = scan.source_to_centre * math.sin(angle if scan.detector == "arc" else math.atan(angle))
    size = pixel_size or 2 * radius / pixels
    pitch = scan.pixel[0] * scan.source_to_centre / scan.source_to_detector
    mu = mu_water or scan.mu_water or MU_WATER
    if scan.helical:
        return _rebinned(name, scan, pixels, size, spacing or pitch, mu)
    affine = np.diag([size, size, pitch, 1.0])
    affine[:3, 3] = -(pixels - 1) / 2 * size, -(pixels - 1) / 2 * size, 0.0
    rows = range(scan.data.shape[1])
    return [Scan(name, k, lambda k=k: _row(scan, pixels, size, k), mu, affine, scan.kvp) for k in rows]  # type: ignore[misc]


def _row(scan: CTProjections, pixels: int, size: float, row: int) -> Problem:
    geometry, p = scan.fan((pixels, pixels), size, row)
    if scan.photons is None:
        return _fan((geometry, p))
    return Problem(XRay(geometry), scan.photons * (-p).exp(), LowDose(scan.photons))


def _rebinned(
    name: str, scan: CTProjections, pixels: int, size: float, spacing: float, mu: float
) -> list[Scan]:
    """Slices of a helix, each rebinned to a fan when its turn comes."""
    geometry = scan.cone((1, pixels, pixels), (spacing, size, size), middle=0.0)
    first, last = covered(geometry)
    heights = np.arange(first, last + 1e-6, spacing)
    if not len(heights):
        raise ValueError(f"{name}: the helix is too short; it sees no slice from all sides")
    affine = np.diag([size, size, spacing, 1.0])
    affine[:3, 3] = -(pixels - 1) / 2 * size, -(pixels - 1) / 2 * size, first

    def load(z: float) -> Problem:
        return _fan(helical_to_fan(geometry, scan.data, z))

    return [
        Scan(name, k, lambda z=float(z): load(z), mu, affine, scan.kvp)  # type: ignore[misc]
        for k, z in enumerate(heights)
    ]


def scan_volume(scan: Scan, x: Tensor, problem: Problem) -> tuple[Tensor, Affine]:
    """The image as (nz, ny, nx), and where it lies: as the file says, else about the axis."""
    geometry: Any = getattr(problem.A, "geometry", None)
    ndim = len(problem.A.in_shape)
    x = x.reshape(-1, *x.shape[x.ndim - 2 :]) if ndim == 2 else x.reshape(-1, *x.shape[x.ndim - 3 :])[0]
    if scan.affine is not None:
        return x, scan.affine
    steps = geometry.spacing if geometry is not None else (1.0,) * ndim
    dz, dy, dx = steps if len(steps) == 3 else (steps[0], *steps)
    nz = x.shape[0] if ndim == 3 else 1
    affine = np.diag([dx, dy, dz, 1.0])
    affine[:3, 3] = -(x.shape[2] - 1) / 2 * dx, -(x.shape[1] - 1) / 2 * dy, -(nz - 1) / 2 * dz
    return x, affine


def check_volume_batch(problem: Problem) -> None:
    """One volume a file; a batch of slices is fine."""
    if len(problem.A.in_shape) == 3 and math.prod(problem.batch) > 1:
        raise ValueError(f"a batch of {problem.batch} volumes; save them in separate files")


def finite_image(x: Tensor) -> Tensor:
    """x, or a ValueError where a method returned NaN or inf."""
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"the method returned {int((~torch.isfinite(x)).sum())} NaN or inf values")
    return x
