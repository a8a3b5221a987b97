"""Off-resonance: spins that precess at a frequency of their own while k-space is read out."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import LinearOperator
from .nufft import NonUniformFourier
from .tensors import real_dtype
from .trajectories import check_trajectory, radial

_BINS = 512  # frequencies at which the interpolation is fitted and judged
_MOST = 200  # segments beyond which something is wrong with the units


class OffResonance(LinearOperator):
    """(B x)_j = A(x exp(−i Δω t_j))_j ≈ Σ_l b_l(t_j) A(exp(−i Δω τ_l) x)_j: time segmentation.

    With A = `NonUniformFourier` y_j = n^(−½) Σ_r x(r) exp(−i Δω(r) t_j) exp(−i k_j·r). Segment times τ_l are
    evenly spread; b_l(t) fits exp(−i ω t) by least squares over the range of the field map. Sutton, Noll,
    Fessler, IEEE Trans. Med. Imaging 22 (2003). The adjoint is exact. One transform per segment.

    Parameters
    ----------
    A : operator on images (*lead, *spatial), as `NonUniformFourier`, `NonUniformSense` or `Sense`
    field_map : Δω [rad/s], real, spatial: 2π times what is usually given in Hz
    times : t [s] of every sample, broadcasts to A.out_shape, as (samples,) or (readout,) of shots; for
        Cartesian data (nx,), along the readout
    segments : how many; None: the fewest whose worst error |exp(−i ω t) − fit| is at most `tolerance`
    tolerance : worst error of the interpolation, relative to a pixel's signal; used where segments is None

    Attributes: `segments`, `error` (the worst error reached).

    Raises
    ------
    ValueError for shapes that do not fit, values that are not finite, and fields or times that would need
    more than 200 segments.
    """

    field_map: Tensor
    centres: Tensor
    weights: Tensor

    def __init__(
        self,
        A: LinearOperator,
        field_map: Tensor,
        times: Tensor,
        segments: int | None = None,
        tolerance: float = 1e-3,
    ):
        super().__init__()
        self.A, self.in_shape, self.out_shape = A, A.in_shape, A.out_shape
        _check_real("field_map [rad/s]", field_map)
        _check_real("times [s]", times)
        lead = len(A.in_shape) - field_map.ndim
        if field_map.ndim not in (2, 3) or A.in_shape[max(lead, 0) :] != tuple(field_map.shape):
            raise ValueError(
                f"OffResonance field_map: expected the spatial shape of {A!r}, got {tuple(field_map.shape)}"
            )
        try:
            fits = torch.broadcast_shapes(times.shape, A.out_shape) == A.out_shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"OffResonance times: expected a shape that broadcasts to the data {A.out_shape}, "
                f"got {tuple(times.shape)}"
            )
        if segments is not None and segments < 1:
            raise ValueError(f"OffResonance segments: expected 1 or more, got {segments}")
        if not tolerance > 0:
            raise ValueError(f"OffResonance tolerance: expected more than 0, got {tolerance}")
        field, t = field_map.detach().cpu().double(), times.detach().cpu().double()
        centres, weights, self.error = _interpolator(field.numpy(), t.numpy(), segments, tolerance)
        self.segments = len(centres)
        self.register_buffer("field_map", field.to(field_map.device))
        self.register_buffer("centres", torch.from_numpy(centres).to(field_map.device))
        self.register_buffer("weights", torch.from_numpy(weights).to(field_map.device))

    def _forward(self, x: Tensor) -> Tensor:
        return self._sum([b * self.A(e * x) for e, b in self._parts(x)])

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._sum([e.conj() * self.A.adjoint(b.conj() * y) for e, b in self._parts(y)])

    def _parts(self, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """exp(−i Δω τ_l) and b_l, one segment after the other."""
        dtype = real_dtype(like).to_complex()
        angles = [-self.field_map * t for t in self.centres]
        phases = [torch.polar(torch.ones_like(a), a).to(like.device, dtype) for a in angles]
        return list(zip(phases, self.weights.to(like.device, dtype), strict=True))

    @staticmethod
    def _sum(parts: list[Tensor]) -> Tensor:
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def __repr__(self) -> str:
        return f"OffResonance({self.A!r}, {self.segments} segments)"

    @classmethod
    def examples(cls) -> list[OffResonance]:
        generator = torch.Generator().manual_seed(0)

        def field(*shape: int) -> Tensor:
            return 300 * torch.rand(shape, generator=generator, dtype=torch.float64) - 100

        A = NonUniformFourier((5, 4), radial(3, 6), backend="direct")
        coils = NonUniformFourier((2, 4, 4), radial(2, 5).flatten(0, 1), backend="direct")
        return [
            cls(A, field(5, 4), torch.linspace(0, 0.01, 6)),
            cls(coils, field(4, 4), torch.linspace(0, 0.005, 10), segments=2),
        ]


def off_resonance_sum(x: Tensor, trajectory: Tensor, field_map: Tensor, times: Tensor) -> Tensor:
    """y_j = n^(−½) Σ_r x(r) exp(−i Δω(r) t_j) exp(−i k_j·r), as it is written: for tests and small images.

    x, field_map (*spatial); trajectory ([shots,] samples, 2|3); times [s] broadcast to the samples.
    """
    check_trajectory("off_resonance_sum trajectory", trajectory)
    k = trajectory.double()
    axes = [torch.arange(n, dtype=torch.float64) - n // 2 for n in x.shape]
    r = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    angle = k @ r.T + times.double().expand(k.shape[:-1])[..., None] * field_map.double().flatten()
    return torch.exp(-1j * angle) @ (x.flatten() + 0j).to(torch.complex128) / math.sqrt(x.numel())


def _interpolator(
    field: NDArray[np.float64], times: NDArray[np.float64], segments: int | None, tolerance: float
) -> tuple[NDArray[np.float64], NDArray[np.complex128], float]:
    """Segment times (L,), weights (L, *times.shape) and the worst error over all frequencies and times."""
    low, high = float(field.min()), float(field.max())
    omega = np.linspace(low, high, _BINS if high > low else 1)
    t, where = np.unique(times, return_inverse=True)
    # Nyquist asks for (range of ω)·(range of t)/2π segments
    least = (high - low) * (t[-1] - t[0]) / (2 * math.pi)
    if (segments or least) > _MOST:
        raise ValueError(
            f"OffResonance: {max(segments or 0, math.ceil(least))} segments for fields of {low:.4g} to "
            f"{high:.4g} rad/s and times of {t[0]:.4g} to {t[-1]:.4g} s, expected at most {_MOST}; is the "
            "field in rad/s and are the times in s?"
        )
    probe = np.linspace(t[0], t[-1], 4 * _BINS + 1) if len(t) > 4 * _BINS else t
    for count in [segments] if segments else range(max(1, math.ceil(least)), 2 * _MOST):
        centres = np.linspace(t[0], t[-1], count) if count > 1 else np.array([(t[0] + t[-1]) / 2])
        if segments or _fit(omega, centres, probe)[1] <= tolerance:
            weights, error = _fit(omega, centres, t)
            return centres, weights[:, where.reshape(-1)].reshape(count, *times.shape), error
    raise ValueError(f"OffResonance tolerance: {tolerance} is not reached by any number of segments")


def _fit(
    omega: NDArray[np.float64], centres: NDArray[np.float64], t: NDArray[np.float64]
) -> tuple[NDArray[np.complex128], float]:
    """b minimising Σ_ω |exp(−i ω t) − Σ_l b_l(t) exp(−i ω τ_l)|² at every t, (L, len(t)); the worst error."""
    basis = np.exp(-1j * np.outer(omega, centres))
    parts, error = [], 0.0
    for chunk in np.array_split(t, math.ceil(len(t) / 4096)):
        wanted = np.exp(-1j * np.outer(omega, chunk))
        parts.append(np.linalg.lstsq(basis, wanted, rcond=1e-13)[0])
        error = max(error, float(np.abs(basis @ parts[-1] - wanted).max()))
    return np.concatenate(parts, 1), error


def _check_real(name: str, value: Tensor) -> None:
    if (
        not isinstance(value, Tensor)
        or not value.is_floating_point()
        or not bool(torch.isfinite(value).all())
    ):
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"OffResonance {name}: expected a real, finite tensor, got {got}, or NaN or inf")
