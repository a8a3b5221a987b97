"""Effects of focal spot and detector on intensities: blur, crosstalk, scatter, lag.

All of them act on intensities (exp(−p) or counts), not on line integrals; `through(B, p)` takes line
integrals to what they become. Where an effect happens decides what it does to noise. Focal spot, scatter and
the lateral spread of the radiation itself act on the expected intensity, before the photons are drawn: apply
them to the clean data, and the counts of neighbouring bins stay independent. Optical or electronic crosstalk
and lag share the signal of photons that were already counted: apply them to drawn counts, and noise becomes
smoother, with the covariance B diag(var) B*. A white noise model (`LowDose`, PWLS) is then wrong: it gives
a bin too much variance, and takes neighbours for independent.

Scatter that is known belongs to the noise model: `LowDose(i0, background=i0 * scatter(p))` draws it and
subtracts its mean from the data; `Scatter.estimate` finds it in measured data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Composition, LinearOperator, Operator
from .geometry import FanBeam
from .simple import Mask

FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in its σ


class DetectorBlur(LinearOperator):
    """(B y)ᵢ = Σ_j k_j y_{i−j} along the last dimensions; what would leave the detector is reflected into it.

    Self-adjoint, and with rows and columns that add up to 1: energy is conserved, a constant stays. ‖B‖ = 1.

    shape    one image, views first
    kernels  one for each of the last dimensions, each symmetric, ≥ 0, of odd length, with sum 1; None or (1,)
             leaves a dimension as it is. Never along the views
    """

    def __init__(self, shape: Sequence[int], kernels: Sequence[Sequence[float] | Tensor | None]):
        super().__init__()
        self.in_shape = self.out_shape = tuple(shape)
        if not 1 <= len(kernels) < len(self.in_shape):
            raise ValueError(
                f"DetectorBlur kernels: expected 1 to {len(self.in_shape) - 1} for data of shape "
                f"{self.in_shape}, views first, got {len(kernels)}"
            )
        self.dims: list[int] = []
        for dim, kernel in zip(range(-len(kernels), 0), kernels, strict=True):
            if kernel is None or len(kernel) == 1:
                continue
            self.register_buffer(f"kernel{-dim}", _checked(kernel))
            self.dims.append(dim)

    def _forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        for dim in self.dims:
            x = _filtered(x, getattr(self, f"kernel{-dim}"), dim)
        return x

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    def _norm(self, iterations: int = 500) -> float:
        return 1.0

    @classmethod
    def examples(cls) -> list[DetectorBlur]:
        return [
            cls((3, 7), [(0.1, 0.8, 0.1)]),
            cls((2, 5, 6), [gaussian(0.8), gaussian(4.0)]),
            cls((2, 4, 3), [(0.25, 0.5, 0.25), None]),
            crosstalk((2, 5), 0.05),
        ]


def crosstalk(shape: Sequence[int], fraction: float) -> DetectorBlur:
    """Every bin gives `fraction` of its signal to each of its neighbours, along bins and along rows.

    shape     one image: (views, bins) or (views, rows, bins)
    fraction  0 to 1/4; a few per cent in CT
    """
    if not 0 <= fraction <= 0.25:
        raise ValueError(f"crosstalk fraction: expected 0 to 0.25 per neighbour, got {fraction}")
    kernel = (fraction, 1 - 2 * fraction, fraction)
    return DetectorBlur(shape, [kernel] * (len(shape) - 1))


def focal_spot_blur(geometry: FanBeam, width: float) -> DetectorBlur:
    """Gaussian penumbra of a focal spot [mm, full width at half maximum], as it is for the rotation centre.

    On the detector a point at the centre is smeared over width · (D/R − 1), with R source_to_centre and D
    source_to_detector; blur that grows towards the source and the spot's motion are left out.
    """
    if not isinstance(geometry, FanBeam):
        raise ValueError(
            f"focal_spot_blur geometry: expected a FanBeam, got {type(geometry).__name__}; for other "
            "scanners use DetectorBlur(shape, [gaussian(sigma in bins)])"
        )
    if not 0 <= width < math.inf:
        raise ValueError(f"focal_spot_blur width [mm]: expected a number ≥ 0, got {width}")
    magnification = geometry.source_to_detector / geometry.source_to_centre
    return DetectorBlur(
        geometry.sinogram_shape, [gaussian(width * (magnification - 1) / FWHM / geometry.bin_size)]
    )


def gaussian(sigma: float) -> Tensor:
    """Gaussian kernel over 4σ to each side, integrated over bins, with sum 1.

    sigma  standard deviation [bins]
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f"gaussian sigma [bins]: expected a number ≥ 0, got {sigma}")
    if sigma == 0:
        return torch.ones(1, dtype=torch.float64)
    reach = math.ceil(4 * sigma)
    edges = (torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5) / sigma
    kernel = torch.special.ndtr(edges).diff()
    kernel = (kernel + kernel.flip(0)) / 2
    return kernel / kernel.sum()


class Lag(LinearOperator):
    """y_v = (1 − f) Σ_j fʲ x_{v−j}: a detector that keeps the fraction f of its signal for the next view.

    Before the first view it is dark. What is left after the last view, f of it and less, is lost.

    shape     one image, views first
    fraction  f, 0 to below 1
    """

    def __init__(self, shape: Sequence[int], fraction: float):
        super().__init__()
        if not 0 <= fraction < 1:
            raise ValueError(f"Lag fraction: expected 0 to below 1, got {fraction}")
        self.in_shape = self.out_shape = tuple(shape)
        self.fraction = float(fraction)

    def _forward(self, x: Tensor) -> Tensor:
        kept, views = torch.zeros_like(x[:, 0]), []
        for v in x.unbind(1):
            kept = self.fraction * kept + (1 - self.fraction) * v
            views.append(kept)
        return torch.stack(views, 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y.flip(1)).flip(1)

    @classmethod
    def examples(cls) -> list[Lag]:
        return [cls((6, 3), 0.1), cls((4, 2, 3), 0.6)]


class Scatter(Operator):
    """S(p) = K ∗ (c p exp(−p)): scattered over transmitted radiation, both in units of the open beam.

    What a ray loses, p for small p, weakened again by exp(−p), spread by a wide kernel over each view: the
    forward-scatter model of Ohnesorge, Flohr and Klingenbeck-Regn, Eur. Radiol. 9 (1999).

    shape   data of one image, views first
    amount  c; the scatter-to-primary ratio behind a wide even object is c·p
    sigma   of the Gaussian kernel [bins], one or one for each dimension of the detector
    """

    def __init__(self, shape: Sequence[int], amount: float, sigma: float | Sequence[float]):
        super().__init__()
        if not 0 <= amount < math.inf:
            raise ValueError(f"Scatter amount: expected a number ≥ 0, got {amount}")
        widths = [sigma] * (len(shape) - 1) if isinstance(sigma, int | float) else list(sigma)
        self.kernel = DetectorBlur(shape, [gaussian(s) for s in widths])
        self.amount, self.in_shape, self.out_shape = float(amount), tuple(shape), tuple(shape)

    def _forward(self, x: Tensor) -> Tensor:
        return self.kernel(self.amount * x * (-x).exp())

    def derivative(self, x: Tensor) -> LinearOperator:
        """S'(p) = K diag(c (1 − p) exp(−p)), for one image of data."""
        if tuple(x.shape) != self.in_shape:
            raise ValueError(
                f"derivative of {self!r} expects one image of shape {self.in_shape}, got {tuple(x.shape)}"
            )
        x = x.detach()
        return Composition(self.kernel, Mask(self.amount * (1 - x) * (-x).exp()))

    def ratio(self, p: Tensor) -> Tensor:
        """Scatter-to-primary ratio S(p) exp(p) on every ray."""
        return self(p) * p.exp()

    @torch.no_grad()
    def estimate(self, transmission: Tensor, iterations: int = 5, floor: float = 1e-5) -> Tensor:
        """The scatter in a measured transmission T = exp(−p) + S(p), by S ← S(−ln max(T − S, floor)).

        transmission  counts over those of the open beam, (*batch, *shape)
        iterations    five leave 0.3 % of the scatter where it is 1.4 times the primary, far less below
        floor         least primary transmission

        Returns S in units of the open beam: subtract it, or give `background = i0 * S` to the noise model.
        """
        scatter = torch.zeros_like(transmission)
        for _ in range(iterations):
            scatter = self(-(transmission - scatter).clamp(min=floor).log())
        return scatter

    @classmethod
    def examples(cls) -> list[Scatter]:
        return [cls((3, 6), 0.1, 2.0), cls((2, 4, 5), 0.5, (1.0, 6.0))]


def through(B: LinearOperator, p: Tensor) -> Tensor:
    """−ln B exp(−p): line integrals as they are after an effect on intensities.

    B  DetectorBlur or Lag
    p  (*batch, *B.in_shape)
    """
    least = (
        p.flatten(-len(B.in_shape))
        .amin(-1)
        .reshape(*p.shape[: p.ndim - len(B.in_shape)], *(1,) * len(B.in_shape))
    )
    return least - B((least - p).exp()).log()


def _filtered(x: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """Convolution along `dim`, reflected half a bin beyond the ends, as often as the kernel asks for."""
    n, reach = x.shape[dim], len(kernel) // 2
    index = torch.arange(-reach, n + reach, device=x.device) % (2 * n)
    index = torch.minimum(index, 2 * n - 1 - index)
    x = x.movedim(dim, -1)
    lines = x[..., index].reshape(-1, 1, n + 2 * reach)
    taps = kernel.to(lines.real.dtype).reshape(1, 1, -1)
    if lines.is_complex():
        out = torch.complex(F.conv1d(lines.real, taps), F.conv1d(lines.imag, taps))
    else:
        out = F.conv1d(lines, taps)
    return out.reshape(x.shape).movedim(-1, dim)


def _checked(kernel: Sequence[float] | Tensor) -> Tensor:
    k = torch.as_tensor(kernel, dtype=torch.float64)
    fine = k.ndim == 1 and len(k) % 2 == 1 and bool(torch.isfinite(k).all()) and bool((k >= 0).all())
    if not fine or not torch.allclose(k, k.flip(0)) or not math.isclose(float(k.sum()), 1, abs_tol=1e-9):
        raise ValueError(
            "DetectorBlur kernel: expected an odd number of symmetric values ≥ 0 with sum 1, "
            f"got {[round(float(v), 6) for v in k.flatten()[:9]]}"
        )
    return (k + k.flip(0)) / 2
