"""Noise of a detector that adds up energies: compound Poisson signals behind a polyenergetic beam."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .beam import Beam
from .noise_model import NoiseModel, Value, _like, image_seeds


class EnergyIntegrating(NoiseModel):
    """y = Σ_k (g_k/ε) Poisson(I₀ q_k exp(−Σ_m μ_mk L_m)) + Poisson(b) + N(0, σₑ²), in effective quanta.

    A photon of energy k adds its gain g_k to the signal (Whiting et al., Med. Phys. 33 (2006)); q_k are the
    fractions of the open beam's photons. The unit ε = Σ q g² / Σ q g makes the variance of the open beam
    equal to its mean, so it counts `blank` = I₀ (Σ q g)² / Σ q g² effective quanta; behind an object, where
    harder photons are left, the variance is a little above the mean. With gain 1 it counts photons.

    Clean data are either of two, and `linearise` brings raw data back to the same:

    correct=True   A x = μ_ref L: A an `XRay`, x attenuation at `beam.reference`. All matter hardens the beam
                   like the first material, water; `linearise` undoes just that (the water correction).
    correct=False  A x = −ln of the signal: A a `Polyenergetic`. `linearise` is −ln(max(y − b, floor)/blank).

    Draws through either know of one material: behind bone the mean is that of A x, the variance that of the
    water path with the same signal. `expose(paths)` draws behind several materials exactly.

    variance(y): to first order as `LowDose`, with var y of the water path; too small below some 20 quanta.

    Parameters
    ----------
    beam : spectrum, detector and materials
    i0 : detected photons per ray of the open beam; a number, or (bowtie) a tensor that broadcasts to the data
    electronic_sigma : standard deviation of the electronic noise [effective quanta]
    background : expected scatter [effective quanta]; a number or a tensor that broadcasts to the data
    floor : least signal that the logarithm sees [effective quanta]
    """

    fields = ("i0", "electronic_sigma", "background", "floor")
    i0: Value
    background: Value
    electronic_sigma: float
    floor: float

    def __init__(
        self,
        beam: Beam,
        i0: Value,
        electronic_sigma: float = 0.0,
        background: Value = 0.0,
        floor: float = 0.1,
        correct: bool = True,
        data_ndim: int = 2,
    ):
        super().__init__(data_ndim)
        if not isinstance(beam, Beam):
            raise ValueError(f"EnergyIntegrating beam: expected a Beam, got {type(beam).__name__}")
        self.beam, self.correct = beam, bool(correct)
        self._set("i0", i0)
        self._set("background", background)
        self.electronic_sigma, self.floor = float(electronic_sigma), float(floor)
        self._require("i0", 0, strict=True)
        self._require("electronic_sigma", 0, strict=False)
        self._require("background", 0, strict=False)
        self._require("floor", 0, strict=True)
        q, g = np.asarray(beam.quanta), np.asarray(beam.gain)
        self.unit = float(q @ g**2 / (q @ g))
        # of `unit`s and of `unit`²s per photon
        self._mean, self._square = float(q @ g) / self.unit, float(q @ g**2) / self.unit**2
        squares = tuple((g**2 * q).tolist())
        # the same beam seen by a detector that adds squares: its signal is the variance
        self._squared = Beam(
            beam.energies,
            squares,
            (1.0,) * len(q),
            beam.mu,
            beam.mu_reference,
            beam.reference,
            beam.materials,
        )

    @property
    def blank(self) -> Value:
        """Effective quanta of the open beam, its mean and its variance."""
        return self.i0 * self._mean

    def expected(self, clean: Tensor) -> Tensor:
        """E y = blank · exp(−p) + b [effective quanta]."""
        p = self._poly(clean) if self.correct else clean
        return _like(self.blank, clean) * (-p).exp() + _like(self.background, clean)

    def signal_variance(self, clean: Tensor) -> Tensor:
        """Var y = Σ_k (g_k/ε)² λ_k + b + σₑ² [effective quanta²]."""
        L = self._length(clean)
        photons = _like(self.i0, clean) * self._square * (-self._squared.log_signal(self.beam.alone(L))).exp()
        return photons + _like(self.background, clean) + self.electronic_sigma**2

    @torch.no_grad()
    def expose(self, paths: Tensor, seed: int | Sequence[int] = 0) -> Tensor:
        """Raw data behind several materials, each image with its own seed as for `noise(clean, seed)`.

        paths : length of each material on each ray [mm], (materials, *batch, *data shape)
        """
        self._check_finite("paths", paths)
        batch = paths.shape[1 : paths.ndim - self.data_ndim]
        images = (
            paths.cpu().double().flatten(1, -self.data_ndim - 1) if batch else paths.cpu().double()[:, None]
        )
        y = torch.empty(images.shape[1:], dtype=torch.float64)
        for i, image_seed in enumerate(image_seeds(seed, images.shape[1])):
            generator = torch.Generator().manual_seed(image_seed)
            y[i] = self.select(i)._exposed(images[:, i], generator)
        return y.reshape(paths.shape[1:]).to(paths.device, paths.dtype)

    def select(self, index: int | slice | Tensor) -> EnergyIntegrating:
        i0, background = self._selected(self.i0, index), self._selected(self.background, index)
        return EnergyIntegrating(
            self.beam, i0, self.electronic_sigma, background, self.floor, self.correct, self.data_ndim
        )

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return self._exposed(self.beam.alone(self._length(clean)), generator)

    def linearise(self, y: Tensor) -> Tensor:
        p = self._log(y)
        return self.beam.mu_reference[0] * self.beam.path(p) if self.correct else p

    def variance(self, y: Tensor) -> Tensor:
        p = self._log(y)
        L = self.beam.path(p)
        signal = _like(self.blank, y) * (-p).exp()
        clean = self.beam.mu_reference[0] * L if self.correct else p
        first = self.signal_variance(clean) / signal**2
        if not self.correct:
            return first
        return first * (self.beam.mu_reference[0] / self.beam.slopes(self.beam.alone(L))[0]) ** 2

    def average(self, clean: Tensor) -> Tensor:
        """Sub-bins add up their intensities; the −ln of it, corrected if `correct`."""
        p = self._poly(clean) if self.correct else clean
        mean = math.log(p.shape[-1]) - torch.logsumexp(-p, -1)
        return self.beam.mu_reference[0] * self.beam.path(mean) if self.correct else mean

    def check(self, y: Tensor) -> None:
        self._check_counts("y", y, negative=self.electronic_sigma > 0)
        self._check_fits("i0", self.i0, y)
        self._check_fits("background", self.background, y)

    def __repr__(self) -> str:
        rest = "" if self.correct else ", correct=False"
        return super().__repr__().replace("(", f"({self.beam!r}, ", 1)[:-1] + rest + ")"

    def _exposed(self, paths: Tensor, generator: torch.Generator) -> Tensor:
        """One image, energy by energy."""
        y = torch.zeros(paths.shape[1:], dtype=paths.dtype)
        for k, (q, g) in enumerate(zip(self.beam.quanta, self.beam.gain, strict=True)):
            line = sum(row[k] * L for row, L in zip(self.beam.mu, paths, strict=True))
            photons = _like(self.i0, y) * q * (-torch.as_tensor(line)).exp()
            y += g / self.unit * torch.poisson(photons, generator=generator)
        if not isinstance(self.background, float) or self.background > 0:
            y += torch.poisson(_like(self.background, y) + torch.zeros_like(y), generator=generator)
        if self.electronic_sigma > 0:
            y += self.electronic_sigma * torch.randn(y.shape, generator=generator, dtype=y.dtype)
        return y

    def _poly(self, clean: Tensor) -> Tensor:
        return self.beam.log_signal(self.beam.alone(self._length(clean)))

    def _length(self, clean: Tensor) -> Tensor:
        """Water path of clean data [mm]."""
        return clean / self.beam.mu_reference[0] if self.correct else self.beam.path(clean)

    def _log(self, y: Tensor) -> Tensor:
        return -((y - _like(self.background, y)).clamp(min=self.floor) / _like(self.blank, y)).log()

    def _check_clean(self, clean: Tensor) -> None:
        super()._check_clean(clean)
        self._check_counts("clean", clean, negative=True)
        self._check_integrals(clean)
        self._check_fits("i0", self.i0, clean)
        self._check_fits("background", self.background, clean)
