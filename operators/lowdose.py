"""Counts of a CT detector: photons, electronics, and the logarithm with its starvation rules."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from . import starvation as rules
from .moments import Moments, log_moments
from .noise_model import NoiseModel, Value, _like


class LowDose(NoiseModel):
    """y = Poisson(I₀ exp(−p) + b) + N(0, σₑ²): photon counts of a CT detector behind line integrals p = A x.

    linearise(y) = −log(s / I₀), where the signal s is y − b after a starvation rule, at least `floor` counts
    (0.1 as in LoDoPaB-CT, Leuschner et al., Sci. Data 2021):

    "floor"         s = y − b.
    "neighbour"     a starved bin, y − b < floor, takes the mean transmission (y − b)/I₀ of the nearest bins
                    that are not, at the smallest distance up to 3 at which there are any: in a row one or
                    two bins, on a panel those of a square ring. If there are none, the floor. CatSim
                    (De Man et al., SPIE 6510 (2007)) takes both neighbours, whatever they hold.
    "trimmed-mean"  s = g (y − b) + (1 − g) m with g = min(max(m, 0) / 20 counts, 1): m is the mean of the
                    5 bins around it without the largest and the smallest, on a panel of 3 × 3 without two
                    each, of transmissions, times I₀. From 20 counts on a ray is left alone. After Hsieh (Med.
                    Phys. 25 (1998) 2139), whose window and trimming adapt; here the share g does.

    What a rule mixes stays in one view of one image.

    variance(y): to first order var p̂ = (∂p̂/∂y)² var y with ∂p̂/∂y = −1/(y − b) and var y = E y + σₑ², so
    with y for E y it is (y + σₑ²) / (y − b)², y − b floored in both. A replaced bin has that of the mean of
    its neighbours; a trimmed one that of its mixture. Below some 20 counts it is wrong, and as a weight it is
    wrong in the direction of the noise (`benchmarks/dose_insertion.py`): see `exact`, or use a likelihood.

    Parameters
    ----------
    i0 : photons per ray of the open beam; a number, or (bowtie, tube current) a tensor that broadcasts to the
        data, see `operators.photons_per_ray`
    electronic_sigma : standard deviation of the electronic noise [counts]
    background : expected scatter [counts]; a number, or a tensor that broadcasts to the data
    floor : fewest counts the logarithm sees [counts]
    starvation : "floor", "neighbour" or "trimmed-mean"
    data_ndim : 2 for (views, bins), 3 for (views, rows, columns)
    """

    fields = ("i0", "electronic_sigma", "background", "floor", "starvation")
    i0: Value
    background: Value
    electronic_sigma: float
    floor: float
    starvation: str = "floor"

    def __init__(
        self,
        i0: Value,
        electronic_sigma: float = 0.0,
        background: Value = 0.0,
        floor: float = 0.1,
        data_ndim: int = 2,
        starvation: str = "floor",
    ):
        super().__init__(data_ndim)
        self._set("i0", i0)
        self._set("background", background)
        self.electronic_sigma, self.floor = float(electronic_sigma), float(floor)
        if starvation not in rules.RULES:
            expected = ", ".join(map(repr, rules.RULES))
            raise ValueError(f"LowDose starvation: expected one of {expected}, got {starvation!r}")
        if starvation != "floor":
            # the default stays with the class, so that the hash of a problem is what it was before the choice
            self.starvation = starvation
        self._require("i0", 0, strict=True)
        self._require("electronic_sigma", 0, strict=False)
        self._require("background", 0, strict=False)
        self._require("floor", 0, strict=True)

    def expected(self, p: Tensor) -> Tensor:
        """E y = I₀ exp(−p) + b [counts]."""
        return _like(self.i0, p) * (-p).exp() + _like(self.background, p)

    def exact(self, p: Tensor) -> Moments:
        """Exact mean and variance of `linearise(y)` for line integrals p, by summation, float64.

        For "floor"; where counts are not starved, the other rules do the same. The right variance for PWLS is
        that of a p which does not carry the noise of y: of a smooth or a preliminary image,
        `noise.exact(A(x)).variance`.

        p : (*batch, *data shape). Returns Moments(mean, variance), each of the shape of p, on the CPU.
        """
        self._check_clean(p)
        p = p.detach().double().cpu()
        i0, b = (torch.as_tensor(_like(v, p), dtype=p.dtype).expand_as(p) for v in (self.i0, self.background))
        mu = (i0 * (-p).exp()).clamp(min=1e-9 * self.floor)
        # many rays are alike in phantoms
        pairs, index = np.unique(torch.complex(mu, b).numpy(), return_inverse=True)
        mean, variance = log_moments(pairs.real, pairs.imag, self.electronic_sigma, self.floor)
        index = index.ravel()
        shift = torch.as_tensor(mean[index]).reshape(p.shape)
        return Moments(i0.log() - mu.log() - shift, torch.as_tensor(variance[index]).reshape(p.shape))

    def select(self, index: int | slice | Tensor) -> LowDose:
        i0, background = self._selected(self.i0, index), self._selected(self.background, index)
        return self._with(i0, background)

    def scaled(self, dose: float | Tensor) -> LowDose:
        """The model at `dose` times the photons: a·I₀ and, as scatter follows the beam, a·b.

        dose : a > 0, or a factor per view or ray that broadcasts to the data (tube-current modulation)
        """
        factor = torch.as_tensor(dose)
        if not bool(((factor > 0) & torch.isfinite(factor)).all()):
            raise ValueError(f"LowDose.scaled dose: expected positive finite factors, got {dose}")
        return self._with(self.i0 * dose, self.background * dose)

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        counts = torch.poisson(self.expected(clean), generator=generator)
        electronic = torch.randn(counts.shape, generator=generator, dtype=counts.dtype)
        return counts + self.electronic_sigma * electronic

    def linearise(self, y: Tensor) -> Tensor:
        return -(self._signal(y)[0] / _like(self.i0, y)).log()

    def variance(self, y: Tensor) -> Tensor:
        signal, factor, replaced = self._signal(y)
        variance = (signal + _like(self.background, y) + self.electronic_sigma**2) / signal**2
        if factor is not None:
            variance = variance * factor
        return variance if replaced is None else torch.where(replaced > 0, replaced, variance)

    def average(self, clean: Tensor) -> Tensor:
        """−log mean exp(−p) over the last dimension: sub-bins add up their intensities."""
        return math.log(clean.shape[-1]) - torch.logsumexp(-clean, -1)

    def check(self, y: Tensor) -> None:
        self._check_counts("y", y, negative=self.electronic_sigma > 0)
        self._check_fits("i0", self.i0, y)
        self._check_fits("background", self.background, y)

    def _signal(self, y: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """s, what a mixture leaves of its variance, and the variance of −ln s where bins were replaced."""
        signal = y - _like(self.background, y)
        if self.starvation == "neighbour":
            return self._replaced(y, signal)
        if self.starvation == "trimmed-mean":
            signal, factor = self._trimmed(y, signal)
            return signal.clamp(min=self.floor), factor, None
        return signal.clamp(min=self.floor), None, None

    def _replaced(self, y: Tensor, signal: Tensor) -> tuple[Tensor, None, Tensor]:
        i0 = _like(self.i0, y)
        starved = signal < self.floor
        raw = (y + self.electronic_sigma**2) / i0**2
        mean, noise, count = rules.nearest_mean(
            torch.stack([signal / i0, raw]), ~starved, starved, self._detector(y)
        )
        found = count > 0
        place = starved.nonzero(as_tuple=True)
        i0 = torch.as_tensor(i0, dtype=y.dtype, device=y.device).expand_as(y)[place]
        signal = signal.index_put(place, torch.where(found, mean * i0, self.floor)).clamp(min=self.floor)
        variance = torch.where(found, noise / (count * mean**2), 0)
        return signal, None, torch.zeros_like(signal).index_put(place, variance)

    def _trimmed(self, y: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        i0 = _like(self.i0, y)
        panel = self._detector(y) == 2
        n, _, spread = rules.PANEL if panel else rules.ROW
        T = signal / i0
        m = i0 * rules.trimmed_mean(T.reshape(-1, *y.shape[-2 if panel else -1 :]), panel).reshape(y.shape)
        g = (m / rules.ENOUGH).clamp(0, 1)
        # a trimmed mean of n normal values has variance `spread` / n and with each of them a covariance 1 / n
        factor = g**2 + 2 * g * (1 - g) / n + (1 - g) ** 2 * spread / n
        return g * signal + (1 - g) * m, factor

    def _detector(self, y: Tensor) -> int:
        """Dimensions along which a rule looks: 2 on a panel, 1 on a row of bins or a panel of one row."""
        return 2 if self.data_ndim == 3 and y.shape[-2] > 1 else 1

    def _with(self, i0: Value, background: Value) -> LowDose:
        return LowDose(
            i0, self.electronic_sigma, background, self.floor, self.data_ndim, starvation=self.starvation
        )

    def _check_clean(self, clean: Tensor) -> None:
        super()._check_clean(clean)
        self._check_counts("clean", clean, negative=True)
        self._check_integrals(clean)
        self._check_fits("i0", self.i0, clean)
        self._check_fits("background", self.background, clean)
