"""From detector readings to counts: dark and air scans, gain, dead cells, and the noise that they add."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import check_positive
from .lowdose import LowDose
from .starvation import nearest_mean

MEND = 16  # how far a dead cell looks for live ones [cells]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Counts with their law: what a `Problem` needs, and −ln T for those who want line integrals.

    counts : y of `noise`, (*batch, views, *detector); those of dead cells mean nothing but are finite
    noise : I₀ per cell (1, *detector), background and electronic noise, all in counts
    dead : cells that measure nothing, (*detector), bool; their counts and I₀ are the mean of the nearest
        live ones
    ring_variance : of −ln T, from the noise of dark and air scans alone, (*batch, views, *detector): it is
        common to all views of a cell and makes rings, which more views do not lower
    """

    counts: Tensor
    noise: LowDose
    dead: Tensor
    ring_variance: Tensor

    @property
    def transmission(self) -> Tensor:
        """T = (N − dark)/(air − dark), as measured: it can be negative."""
        background, i0 = (torch.as_tensor(v).to(self.counts) for v in (self.noise.background, self.noise.i0))
        return (self.counts - background) / i0

    @property
    def linear(self) -> Tensor:
        """−ln T by the starvation rule of `noise`, (*batch, views, *detector)."""
        return self.noise.linearise(self.counts)

    @property
    def variance(self) -> Tensor:
        """Of `linear`: `noise.variance`, to which the part of the calibration is added."""
        return self.noise.variance(self.counts) + self.ring_variance


def normalise(
    raw: Tensor,
    dark: Tensor,
    flat: Tensor,
    gain: float | Tensor = 1.0,
    counting: bool = False,
    electronic_sigma: float | None = None,
    dead: Tensor | None = None,
    floor: float = 0.1,
    starvation: str = "floor",
    data_ndim: int = 2,
) -> Calibrated:
    """T = (N − dark)/(air − dark), kept as counts y = (N − dark)/gain behind I₀ = (air − dark)/gain.

    Dark and air are means over their frames. A counting detector, `counting=True`, has no offset but a
    background that is Poisson as well (PET: randoms and scatter): it is not subtracted, y = N/gain and
    b = dark/gain.

    Parameters
    ----------
    raw : readings N, (*batch, views, bins), or (*batch, views, rows, columns) with data_ndim=3
    dark : readings without beam, (*detector) or (frames, *detector)
    flat : readings of the open beam (air), (*detector) or (frames, *detector)
    gain : reading per count, see `photon_gain`; with the wrong one weights are off, line integrals are not
    electronic_sigma : [counts]; by default what the frames of `dark` scatter; counting detectors 0
    dead : cells known to be dead, (*detector), bool; those whose air − dark is not finite, or below a tenth
        of its median, are found
    floor, starvation : of `LowDose`

    Raises
    ------
    ValueError for shapes that do not match, no live cell near a dead one, NaN in live cells, and readings
    below the dark with no electronic noise to explain them
    """
    if not isinstance(raw, Tensor):
        raise ValueError(f"normalise raw: expected a tensor, got {type(raw).__name__}; use torch.as_tensor")
    if data_ndim not in (2, 3):
        raise ValueError(f"normalise data_ndim: expected 2 (bins) or 3 (rows, columns), got {data_ndim!r}")
    detector = raw.shape[1 - data_ndim :]
    raw = raw if raw.is_floating_point() else raw.double()
    if raw.ndim < data_ndim:
        raise ValueError(f"normalise raw: expected (*batch, views, *detector), got shape {tuple(raw.shape)}")
    gains = torch.as_tensor(gain, dtype=torch.float64)
    if not bool((torch.isfinite(gains) & (gains > 0)).all()):
        raise ValueError(f"normalise gain: expected positive readings per count, got {gain}")
    darks, flats = (_frames(name, f, detector) / gains for name, f in (("dark", dark), ("flat", flat)))
    offset, air = darks.mean(0), flats.mean(0)
    i0 = air - offset
    broken = _dead_cells(i0, dead)
    sigma = _electronic(darks, broken, counting, electronic_sigma)

    y = raw.double() / gains if counting else raw.double() / gains - offset
    bad = int((~torch.isfinite(y) & ~broken).sum())
    if bad:
        raise ValueError(f"normalise raw: expected finite readings in live cells, got {bad} NaN or inf")
    if sigma == 0 and bool(((y < 0) & ~broken).any()):
        raise ValueError(
            f"normalise raw: {int(((y < 0) & ~broken).sum())} readings lie below the dark, but no electronic "
            "noise explains them; give several frames of dark, or electronic_sigma"
        )
    y, i0, offset = (_mended(v, broken) for v in (y, i0, offset))
    noise = LowDose(
        i0[None].to(raw.dtype),
        sigma,
        offset[None].clamp(min=0).to(raw.dtype) if counting else 0.0,
        floor,
        data_ndim,
        starvation,
    )
    y = y.to(raw.dtype)
    # ∂(−ln T)/∂air = 1/I₀, and ∂/∂dark = 1/(N − dark) − 1/I₀
    signal = (y - (offset if counting else 0)).clamp(min=floor)
    air_variance = (air.clamp(min=0) * counting + i0 * (not counting) + sigma**2) / len(flats)
    dark_variance = ((offset.clamp(min=0) if counting else 0) + sigma**2) / len(darks)
    ring = _mended(air_variance, broken) / i0**2 + dark_variance * (1 / signal - 1 / i0) ** 2
    return Calibrated(y, noise, broken, ring.to(raw.dtype))


def photon_gain(flat: Tensor, dark: Tensor) -> float:
    """Reading per count = Σ var(air) − var(dark) / Σ mean(air) − mean(dark): the photon-transfer method.

    Of an energy-integrating detector it gives the effective quanta, (Σ E λ)²/Σ E² λ, which is what a weight
    needs. Drift of the tube between frames is taken out by the mean of each frame.

    flat, dark : (frames, *detector), at least two frames each
    """
    variances, means = [], []
    for name, frames in (("flat", flat), ("dark", dark)):
        if frames.ndim < 2 or len(frames) < 2:
            raise ValueError(
                f"photon_gain {name}: expected at least two frames (frames, *detector), got shape "
                f"{tuple(frames.shape)}"
            )
        f = frames.double().flatten(1)
        level = f.mean(1, keepdim=True)
        steady = f - level + level.mean()
        # the mean of a frame takes up one of its n values
        variances.append(steady.var(0).sum() * f.shape[1] / max(1, f.shape[1] - 1))
        means.append(f.mean(0).sum())
    gain = float((variances[0] - variances[1]) / (means[0] - means[1]))
    return check_positive("photon_gain of these frames (air should be brighter and noisier than dark)", gain)


def _frames(name: str, frames: Tensor, detector: torch.Size) -> Tensor:
    frames = torch.as_tensor(frames).double()
    frames = frames[None] if frames.ndim == len(detector) else frames
    if frames.shape[1:] != detector or not len(frames):
        shape = ", ".join(map(str, detector))
        raise ValueError(
            f"normalise {name}: expected ({shape}) or (frames, {shape}) as raw has it, got shape "
            f"{tuple(frames.shape)}"
        )
    return frames


def _dead_cells(i0: Tensor, dead: Tensor | None) -> Tensor:
    finite = torch.isfinite(i0)
    if not bool(finite.any()) or float(i0[finite].median()) <= 0:
        raise ValueError("normalise flat: expected an air scan brighter than the dark; are they exchanged?")
    broken = ~finite | ~(i0 > 0.1 * i0[finite].median())
    if dead is None:
        return broken
    if dead.dtype != torch.bool or dead.shape != i0.shape:
        raise ValueError(
            f"normalise dead: expected a bool tensor {tuple(i0.shape)}, got {dead.dtype} {tuple(dead.shape)}"
        )
    return broken | dead


def _electronic(darks: Tensor, broken: Tensor, counting: bool, given: float | None) -> float:
    if given is not None:
        return float(given)
    if counting or len(darks) < 2:
        return 0.0
    return math.sqrt(float(darks.var(0)[~broken].mean()))


def _mended(values: Tensor, broken: Tensor) -> Tensor:
    """Dead cells take the mean of the nearest live ones, (*any, *detector)."""
    if not bool(broken.any()):
        return values
    flat = values.reshape(-1, *broken.shape)
    mean = nearest_mean(flat, ~broken, broken, broken.ndim, reach=MEND)
    if not bool((mean[-1] > 0).all()):
        raise ValueError(
            f"normalise: {int((mean[-1] == 0).sum())} dead cells have no live one within {MEND} cells; leave "
            "that part of the detector out"
        )
    mended = flat.clone()
    mended[:, broken] = mean[:-1]
    return mended.reshape(values.shape)
