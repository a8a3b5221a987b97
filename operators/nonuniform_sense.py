"""Non-Cartesian MRI with several coils."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .base import Composition, LinearOperator, _Linear
from .gradient import spacings
from .nufft import NonUniformFourier, keep, without_gram
from .sense import _like, check_maps
from .tensors import real_dtype
from .toeplitz import toeplitz
from .trajectories import check_trajectory, radial


class NonUniformSense(LinearOperator):
    """(A x)_cj = n^(−½) Σ_r exp(−i k_j·r) S_c(r) x(r): coil sensitivities, then non-uniform Fourier.

    Pruessmann, Weiger, Börnert, Boesiger, Magn. Reson. Med. 46 (2001). Images (*frames, *spatial), data
    (*frames, coils, samples) or (*frames, coils, shots, samples). `A.gram` is a convolution per coil.

    Parameters
    ----------
    trajectory : k [rad per pixel], (samples, 2|3) or (shots, samples, 2|3), as for `NonUniformFourier`; with
        frames, (frames, samples, 2|3) or (frames, shots, samples, 2|3)
    maps : (coils, *spatial), complex; an nn.Parameter is learned
    tolerance, backend : as for `NonUniformFourier`
    pixel_size : [mm], a number or one for every axis of the image, frames included: what TV measures edges by
    frames : the first dimension of the trajectory is time; every frame has its own path

    Raises
    ------
    ValueError for maps that are not complex, not finite or zero everywhere, and as `NonUniformFourier`.
    """

    complex_data: ClassVar[bool] = True
    maps: Tensor
    _gram: LinearOperator
    _gram_of: tuple[Any, ...] | None = None

    def __init__(
        self,
        trajectory: Tensor,
        maps: Tensor,
        tolerance: float = 1e-6,
        backend: str = "auto",
        pixel_size: float | Sequence[float] = 1.0,
        frames: bool = False,
    ):
        super().__init__()
        check_maps("NonUniformSense maps", maps)
        paths = [trajectory]
        if frames:
            check_trajectory("NonUniformSense trajectory", trajectory.flatten(0, max(trajectory.ndim - 3, 0)))
            paths = list(trajectory.detach())
        spatial = tuple(maps.shape[1:])
        check_trajectory("NonUniformSense trajectory", paths[0])
        if paths[0].shape[-1] != len(spatial):
            raise ValueError(
                f"NonUniformSense trajectory: expected {len(spatial)} components for maps "
                f"{tuple(maps.shape)}, got {tuple(trajectory.shape)}"
            )
        self.fourier = nn.ModuleList(NonUniformFourier(spatial, k, tolerance, backend) for k in paths)
        if isinstance(maps, nn.Parameter):
            self.maps = maps
        else:
            self.register_buffer("maps", maps)
        self.frames, self.ndim = frames, len(spatial)
        lead = (len(paths),) if frames else ()
        self.in_shape, self.out_shape = (*lead, *spatial), (*lead, len(maps), *paths[0].shape[:-1])
        self.spacing = spacings("NonUniformSense pixel_size [mm]", pixel_size, len(self.in_shape))

    @property
    def trajectory(self) -> Tensor:
        """K [rad per pixel], as it was given."""
        paths = [F.trajectory for F in self._paths]
        return torch.stack(paths) if self.frames else paths[0]

    @property
    def sampled(self) -> Tensor:
        """True: every sample was measured; broadcasts to `out_shape`, for `Gaussian(mask=A.sampled)`."""
        return torch.ones(self.out_shape[-1], dtype=torch.bool, device=self.maps.device)

    @property
    def gram(self) -> LinearOperator:
        """A*A: per coil one convolution on the doubled grid; made at the first use."""
        if self.trajectory.requires_grad:
            return Composition(self.H, self)
        return self.weighted_gram(None)

    def weighted_gram(self, weights: Tensor | None) -> LinearOperator:
        """A*WA, W = diag(weights) of the shape of the trajectory's samples; kept for weights None."""
        if weights is not None:
            return CoilToeplitz(self, weights)
        stamp = (id(self.maps), self.maps.device, *(F._stamp() for F in self._paths))
        if self._gram_of != stamp:
            keep(self, CoilToeplitz(self), stamp)
        return self._gram

    @property
    def _paths(self) -> list[NonUniformFourier]:
        return list(self.fourier)  # type: ignore[arg-type]

    def _forward(self, x: Tensor) -> Tensor:
        x = x.to(real_dtype(x).to_complex()) * math.prod(self.maps.shape[1:]) ** -0.5
        x = _like(self.maps, x) * x.unsqueeze(-self.ndim - 1)
        if not self.frames:
            return _forward(self._paths[0], x)
        return torch.stack([_forward(F, x[:, t]) for t, F in enumerate(self._paths)], 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        y = y.to(real_dtype(y).to_complex())
        if self.frames:
            x = torch.stack([_adjoint(F, y[:, t]) for t, F in enumerate(self._paths)], 1)
        else:
            x = _adjoint(self._paths[0], y)
        scale = math.prod(self.maps.shape[1:]) ** -0.5
        return scale * (_like(self.maps, x).conj() * x).sum(-self.ndim - 1)

    def __getstate__(self) -> dict[str, Any]:
        return without_gram(self)

    @classmethod
    def examples(cls) -> list[NonUniformSense]:
        """Shots, samples, volumes, frames."""
        generator = torch.Generator().manual_seed(0)

        def maps(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.complex128)

        def points(*shape: int) -> Tensor:
            return 3 * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)

        return [
            cls(radial(3, 6), maps(2, 5, 4), pixel_size=0.5),
            cls(points(9, 2), maps(3, 4, 5), backend="direct"),
            cls(points(11, 3), maps(2, 2, 3, 4)),
            cls(points(2, 7, 2), maps(2, 3, 4), frames=True),
        ]


class CoilToeplitz(LinearOperator):
    """A*WA x = Σ_c conj(S_c) T(S_c x), T the `Toeplitz` operator of each frame's trajectory."""

    def __init__(self, A: NonUniformSense, weights: Tensor | None = None):
        super().__init__()
        self.in_shape = self.out_shape = A.in_shape
        self.ndim, self.frames = A.ndim, A.frames
        if isinstance(A.maps, nn.Parameter):
            self.maps = A.maps
        else:
            self.register_buffer("maps", A.maps)
        parts: list[Tensor | None] = [weights] if weights is None or not A.frames else list(weights)
        parts = parts * len(A._paths) if weights is None else parts
        self.T = nn.ModuleList(toeplitz(F, w) for F, w in zip(A._paths, parts, strict=True))

    def _forward(self, x: Tensor) -> Tensor:
        x = x.to(real_dtype(x).to_complex())
        maps = _like(self.maps, x)
        x = maps * x.unsqueeze(-self.ndim - 1)
        x = torch.stack([T(x[:, t]) for t, T in enumerate(self.T)], 1) if self.frames else self.T[0](x)
        return (maps.conj() * x).sum(-self.ndim - 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    @classmethod
    def examples(cls) -> list[CoilToeplitz]:
        """Of the examples of `NonUniformSense`."""
        return [cls(A) for A in NonUniformSense.examples()]


def _forward(F: NonUniformFourier, x: Tensor) -> Tensor:
    """The sum without n^(−½), which the smaller image has had; differentiable for maps that are learned."""
    if F.trajectory.requires_grad:
        return F._sum(x)
    return _Linear.apply(x, F._sum, F._adjoint_sum)


def _adjoint(F: NonUniformFourier, y: Tensor) -> Tensor:
    if F.trajectory.requires_grad:
        return F._adjoint_sum(y)
    return _Linear.apply(y, F._adjoint_sum, F._sum)
