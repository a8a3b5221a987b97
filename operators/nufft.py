"""The Fourier transform at arbitrary frequencies: radial, spiral and any other non-Cartesian MRI."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from .backends import nufft_cufinufft, nufft_direct, nufft_finufft
from .base import Composition, LinearOperator
from .tensors import real_dtype
from .trajectories import cartesian, check_trajectory

BACKENDS = ("auto", "finufft", "cufinufft", "direct")
DIRECT_LIMIT = 1 << 28  # terms of the sum, pixels × samples, about a second, up to which "auto" takes it


class NonUniformFourier(LinearOperator):
    """(A x)_j = n^(−½) Σ_r x(r) exp(−i k_j·r), r counted from the middle n_d // 2, n pixels.

    Equal to `Fourier` where the trajectory is the full Cartesian grid k = 2π (j − n_d // 2) / n_d. Images
    (*lead, *spatial) -> (*lead, samples), or (*lead, shots, samples) for a trajectory in shots. Real or
    complex; float32 and complex64 give complex64. Adjoint exact to rounding, whatever the tolerance.

    Barnett, Magland, af Klinteberg, SIAM J. Sci. Comput. 41 (2019); normal operator: `toeplitz.Toeplitz`.

    Parameters
    ----------
    shape : one image, (ny, nx), (nz, ny, nx) or with leading dimensions, as (coils, ny, nx), that share the
        trajectory
    trajectory : k [rad per pixel], within [−π, π], (samples, 2|3) or (shots, samples, 2|3), in the order of
        the axes: (ky, kx) or (kz, ky, kx); held in float64. A trajectory that requires grad takes "direct"
    tolerance : of ‖A x − exact‖ / ‖exact‖; 1e-3 is about three times faster than 1e-6. In complex64 no less
        than about 1e-7 n_d is reached (1e-5 at 256²), since coordinates are rounded to single precision
    backend : "finufft", CPU; "cufinufft", CUDA; "direct", the exact sum, any device, for small sizes;
        "auto": the one of the input's device where it is installed, else "direct" up to 2²⁸ terms

    Raises
    ------
    ValueError for a trajectory of another shape or out of range, a tolerance out of range, an unknown
    backend; ImportError where a backend is needed that is not installed.
    """

    trajectory: Tensor
    _gram: LinearOperator
    _gram_of: tuple[Any, ...] | None = None

    def __init__(
        self,
        shape: Sequence[int],
        trajectory: Tensor,
        tolerance: float = 1e-6,
        backend: str = "auto",
    ):
        super().__init__()
        check_trajectory("NonUniformFourier trajectory", trajectory)
        self.ndim = trajectory.shape[-1]
        if len(shape) < self.ndim or min(shape) < 1:
            raise ValueError(
                f"NonUniformFourier shape: expected {self.ndim} positive sizes or more for a trajectory "
                f"{tuple(trajectory.shape)}, got {tuple(shape)}"
            )
        if not 1e-14 <= tolerance <= 0.1:
            raise ValueError(f"NonUniformFourier tolerance: expected 1e-14 to 0.1, got {tolerance}")
        _check_backend(backend)
        self.tolerance, self.backend = float(tolerance), backend
        self.in_shape, self.spatial = tuple(shape), tuple(shape)[-self.ndim :]
        self.out_shape = (*self.in_shape[: -self.ndim], *trajectory.shape[:-1])
        if isinstance(trajectory, nn.Parameter):
            self.trajectory = trajectory
        else:
            self.register_buffer("trajectory", trajectory.double())
        self._plans, self._plans_of = nufft_finufft.Plans(), self._stamp()

    @property
    def gram(self) -> LinearOperator:
        """A*A as a convolution, without any non-uniform transform; made at the first use."""
        if self.trajectory.requires_grad:
            return Composition(self.H, self)
        if self._gram_of != self._stamp():
            from .toeplitz import toeplitz

            keep(self, toeplitz(self), self._stamp())
        return self._gram

    def _forward(self, x: Tensor) -> Tensor:
        x = x.to(real_dtype(x).to_complex()) * math.prod(self.spatial) ** -0.5
        return self._sum(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        x = self._adjoint_sum(y.to(real_dtype(y).to_complex()))
        scale = math.prod(self.spatial) ** -0.5
        return x * scale if x.requires_grad else x.mul_(scale)

    def _sum(self, x: Tensor) -> Tensor:
        """n^½ A x, for complex x of any batch; what the fused operators call."""
        backend, more = self._choose(x)
        points = self.trajectory.to(x.device).flatten(0, -2)
        y = backend.forward(x.reshape(-1, *self.spatial).resolve_conj().contiguous(), points, *more)
        return y.reshape(*x.shape[: -self.ndim], *self.trajectory.shape[:-1])

    def _adjoint_sum(self, y: Tensor) -> Tensor:
        """n^½ A*y, for complex y of any batch."""
        backend, more = self._choose(y)
        points = self.trajectory.to(y.device).flatten(0, -2)
        lead = y.shape[: 1 - self.trajectory.ndim]
        y = y.reshape(-1, len(points)).resolve_conj().contiguous()
        return backend.adjoint(y, points, self.spatial, *more).reshape(*lead, *self.spatial)

    def _choose(self, x: Tensor) -> tuple[Any, tuple[Any, ...]]:
        """The module that computes, and what it needs besides the tensors."""
        name = self.backend
        if name == "auto":
            name = "direct" if self.trajectory.requires_grad else self._fastest(x)
        if name == "direct":
            return nufft_direct, ()
        if self.trajectory.requires_grad:
            raise ValueError(f"{self!r}: {name} gives no gradient of the trajectory, use backend='direct'")
        if (name == "cufinufft") != x.is_cuda or x.device.type not in ("cpu", "cuda"):
            raise ValueError(f"{self!r}: {name} cannot take a tensor on {x.device}, use backend='auto'")
        if not _installed(name):
            extra = "mri-cuda" if name == "cufinufft" else "mri"
            raise ImportError(
                f"{self!r} needs {name}: pip install 'hybrid-recon[{extra}]', or backend='direct'"
            )
        if self._plans_of != self._stamp():
            self._plans.clear()
            self._plans_of = self._stamp()
        return nufft_cufinufft if x.is_cuda else nufft_finufft, (self.tolerance, self._plans)

    def _fastest(self, x: Tensor) -> str:
        name = {"cpu": "finufft", "cuda": "cufinufft"}.get(x.device.type, "direct")
        terms = math.prod(self.spatial) * math.prod(self.trajectory.shape[:-1])
        return name if _installed(name) or terms > DIRECT_LIMIT else "direct"

    def _stamp(self) -> tuple[Any, ...]:
        """Changes when the trajectory is moved, converted or overwritten."""
        k = self.trajectory
        return k.data_ptr(), k._version, k.dtype, k.device

    def __getstate__(self) -> dict[str, Any]:
        return without_gram(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plans_of = self._stamp()

    def __repr__(self) -> str:
        return f"NonUniformFourier({self.in_shape} -> {self.out_shape}, tolerance={self.tolerance:g})"

    @classmethod
    def examples(cls) -> list[NonUniformFourier]:
        """Odd sides, shots, coils, volumes, the Cartesian grid."""
        generator = torch.Generator().manual_seed(0)

        def points(*shape: int) -> Tensor:
            return math.pi * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)

        backend = "finufft" if _installed("finufft") else "direct"
        return [
            cls((5, 4), points(9, 2), backend="direct"),
            cls((2, 3, 4), points(2, 5, 2), backend="direct"),
            cls((3, 5), cartesian(torch.ones(3, 5)), backend=backend),
            cls((2, 6, 5), points(3, 8, 2), 1e-3, backend),
            cls((3, 4, 5), points(20, 3), 1e-9, backend),
        ]


def keep(A: LinearOperator, gram: LinearOperator, stamp: tuple[Any, ...]) -> None:
    """Remember A*A beside A, not as a part of it: it is neither saved nor moved, but made again."""
    A.__dict__.update(_gram=gram, _gram_of=stamp)


def without_gram(A: LinearOperator) -> dict[str, Any]:
    """What copies and pickles of A hold."""
    return {name: value for name, value in A.__dict__.items() if name not in ("_gram", "_gram_of")}


@cache
def _installed(name: str) -> bool:
    return name == "direct" or importlib.util.find_spec(name) is not None


def _check_backend(name: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"NonUniformFourier backend: expected one of {', '.join(BACKENDS)}, got {name!r}")
