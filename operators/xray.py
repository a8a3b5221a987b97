"""X-ray transform of an image or a volume."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor

from .backends.lanes import by_symmetry
from .backends.rays import ray_table
from .base import LinearOperator
from .geometry import FanBeam, Geometry, ParallelBeam, PlanarGeometry
from .vectors import ConeVectors, ParallelVectors
from .volume import ConeBeam, ParallelBeam3D, VolumeGeometry

_PLANAR = {"numba": "joseph", "sparse": "sparse", "astra": "astra", "triton": "triton_joseph"}
_VOLUME = {
    "numba": "joseph3d",
    "astra": "astra_cuda",
    "triton": "triton_joseph",
    "tomosipo": "tomosipo",
}
BACKENDS = ("auto", *_PLANAR, "tomosipo")
SMALL = 100_000  # matrix entries, 1.6 MB in float32, up to which "auto" considers a matrix on the CPU


class XRay(LinearOperator):
    """(A x)ᵣ = ∫ x along ray r, dimensionless for x in 1/mm; (*batch, ny, nx) -> (*batch, views, bins).

    Volumes: (*batch, nz, ny, nx) -> (*batch, views, rows, columns).

    Interpolated as by Joseph, IEEE Trans. Med. Imaging 1 (1982), in a volume bilinearly on planes across the
    axis of steepest travel; A* is the transpose. Rays are whole lines: what lies behind a source counts.

    Parameters
    ----------
    geometry : ParallelBeam, FanBeam, ParallelBeam3D, ConeBeam, ParallelVectors or ConeVectors
    backend : "numba", both cores of a CPU, float32 and float64;
        "sparse", a remembered matrix, any device, up to 2 GiB;
        "astra", float32, CPU or CUDA, volumes on CUDA only; fans on the CPU by intersection lengths instead
        of Joseph's interpolation; on CUDA its back projection only approximates A*;
        "tomosipo", where it is installed: ASTRA on CUDA for 3-D scans with a flat detector;
        "triton", CUDA, what "numba" computes; in 3-D detector columns along z;
        "auto", the fastest that fits: on a CPU "sparse" where a matrix of at most 100 000 entries (1.6 MB;
        a 48² image and 20 views) beats "numba", else "numba"; on CUDA "triton" for what it can do, else
        "astra", else "sparse". The choice depends on the geometry, never on the batch.

    Raises
    ------
    ValueError for an unknown backend, complex or half-precision input, and input that a backend cannot take.
    """

    def __init__(self, geometry: Geometry, backend: str = "auto"):
        super().__init__()
        if not isinstance(geometry, Geometry):
            raise ValueError(
                "XRay geometry: expected a geometry of this package (ParallelBeam, FanBeam, ConeBeam…), "
                f"got {type(geometry).__name__}"
            )
        _check_backend(backend)
        modules = _modules(geometry)
        if backend != "auto" and backend not in modules:
            raise ValueError(
                f"XRay backend: {backend!r} cannot do {type(geometry).__name__}, expected one of "
                f"{', '.join(map(repr, ('auto', *modules)))}"
            )
        self.geometry, self.backend = geometry, backend
        self.in_shape, self.out_shape = geometry.in_shape, geometry.out_shape

    @property
    def adjoint_is_exact(self) -> bool:
        """Whether A* is the transpose of A to rounding: not where ASTRA may run on CUDA; see `mismatch`."""
        if self.backend == "tomosipo":
            return False
        if self.backend == "astra":
            return not _astra_on_cuda() or _backend("astra_cuda").has_exact_adjoint(self.geometry)
        return self.backend != "auto" or self._on_cuda(torch.float32) != "astra"

    def subset(self, views: slice | Iterable[int]) -> Self:
        """The operator of some of the views, for ordered subsets."""
        return type(self)(self.geometry.subset(views), self.backend)

    def _forward(self, x: Tensor) -> Tensor:
        return self._module(x).project(x, self.geometry)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._module(y).backproject(y, self.geometry)

    def _module(self, x: Tensor) -> Any:
        if x.dtype not in (torch.float32, torch.float64):
            hint = "project x.real and x.imag" if x.is_complex() else "use x.float()"
            raise ValueError(f"{self!r} expects float32 or float64, got {x.dtype}: {hint}")
        name = self.backend
        if name == "auto":
            name = self._on_cuda(x.dtype) if x.is_cuda else self._on_cpu()
        if name == "numba" and x.device.type != "cpu":
            raise ValueError(
                f"XRay backend 'numba' runs on the CPU, got a tensor on {x.device}: "
                "use backend='auto', or x.cpu()"
            )
        return _backend(_modules(self.geometry)[name])

    def _on_cpu(self) -> str:
        planar = isinstance(self.geometry, PlanarGeometry)
        return "sparse" if planar and _matrix_is_faster(self.geometry) else "numba"

    def _on_cuda(self, dtype: torch.dtype) -> str:
        triton = _backend("triton_joseph")
        if triton.available() and triton.supports(self.geometry):
            return "triton"
        planar = isinstance(self.geometry, PlanarGeometry)
        arc = isinstance(self.geometry, FanBeam) and self.geometry.detector == "arc"
        if _astra_on_cuda() and dtype == torch.float32 and not arc:
            return "astra"
        return "sparse" if planar else "numba"

    @classmethod
    def examples(cls) -> list[Self]:
        """Spacings of 0.3 to 3 pixels, odd shapes, offsets, few views, volumes, every backend."""
        turn, half = (tuple(k * a / 6 for k in range(6)) for a in (2 * math.pi, math.pi))
        scattered = (0.1, 1.3, 2.9, -4.0, 7.5)
        geometries: list[Geometry] = [
            ParallelBeam((9, 9), 1.0, half, n_bins=47, bin_size=0.3),
            ParallelBeam((8, 11), 0.8, scattered, n_bins=20, bin_size=0.4, offset=0.3),
            ParallelBeam((9, 9), 1.0, turn, n_bins=13, bin_size=1.0, offset=-0.25),
            FanBeam((9, 9), 1.0, turn, 12, 1.7 * 2, 20.0, 40.0),
            FanBeam((9, 9), 1.0, turn, 31, 0.5 * 2, 20.0, 40.0, detector="arc"),
            FanBeam((7, 10), 1.0, scattered, 9, 3.0 * 1.5, 20.0, 30.0, detector="arc", offset=0.7),
            FanBeam((10, 6), 2.0, (0.4,), 11, 2.0, 30.0, 30.0, offset=-1.0),
        ]
        shape, voxel = (4, 5, 6), (1.3, 1.0, 1.0)
        cone = ConeBeam(shape, voxel, turn, (3, 7), (0.7, 2.0), 20.0, 40.0)
        f: Any = cone.frames()
        across, along = f.u + 0.3 * f.v, f.v - 0.3 * f.u  # a turned detector
        volumes: list[VolumeGeometry] = [
            cone,
            ConeBeam(shape, voxel, scattered, (9, 8), (1.0, 1.0), 20.0, 40.0, "arc", (0.4, -0.7)),
            ConeBeam((9, 5, 5), (0.5, 1.0, 1.2), turn, (3, 5), (3.4, 3.4), 20.0, 40.0, pitch=3.0),
            ParallelBeam3D(shape, voxel, turn, (6, 8), (0.5, 1.0), offset=(0.2, 0.3)),
            ParallelBeam3D((5, 3, 4), (1.0, 0.8, 1.2), half, (4, 6), (1.7, 1.7)),
            ConeVectors(shape, voxel, (3, 7), f.source, f.centre, across, along),
            ConeVectors(shape, voxel, (3, 7), f.source, f.centre, across, along, radius=30.0),
            ParallelVectors(
                shape,
                voxel,
                (5, 5),
                directions=((0.1, 0.2, 1.0), (1.0, 0.0, 0.3)),
                detectors=((0.0, 0.0, 0.0), (0.1, 0.2, 0.3)),
                u=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
                v=((0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
            ),
        ]
        planar = [cls(g, b) for g in geometries for b in ("numba", "sparse")] + [cls(geometries[4])]
        return [*planar, *map(cls, volumes)]


def _check_backend(backend: str) -> None:
    if backend in BACKENDS:
        return
    expected = ", ".join(map(repr, BACKENDS))
    near = difflib.get_close_matches(str(backend), BACKENDS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"XRay backend: expected one of {expected}, got {backend!r}{hint}")


def _modules(geometry: Geometry) -> dict[str, str]:
    return _PLANAR if isinstance(geometry, PlanarGeometry) else _VOLUME


def _backend(module: str) -> Any:
    return importlib.import_module(f".backends.{module}", __package__)


@lru_cache(maxsize=32)
def _matrix_is_faster(geometry: PlanarGeometry) -> bool:
    """Whether one image is projected faster by a small matrix, by microseconds measured on one Zen 5 core."""
    table, lanes = ray_table(geometry), by_symmetry(geometry)
    entries = 2 * table.samples
    steps = (table.last - table.first)[lanes.leader, : lanes.bins].sum()
    numba = 20 + 1.1e-3 * steps + 6.6e-3 * math.prod(geometry.image_shape)
    return bool(entries <= SMALL and 8 + 0.36e-3 * entries < numba)


def _astra_on_cuda() -> bool:
    if not torch.cuda.is_available() or importlib.util.find_spec("astra") is None:
        return False
    return bool(_backend("astra").usable_on_cuda())
