"""From one modality to another by a known table: tissue classes, textures, partial volumes, noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators import Gaussian, NoiseModel, Rician, to_attenuation

from ..brains import FIELD
from ..heads import MU_WATER
from ..low_contrast import power_law_background
from ..modalities import UPTAKE, _blurred, mr_pairs
from ..mr_contrast import CONTRASTS, TISSUES, typical_sequence
from .pairs import TaskPairs

# Chosen within textbook ranges, not measured: no two tissues alike in HU
HU = {
    "air": -1000.0, "fat": -90.0, "csf": 8.0, "lesion": 20.0, "white": 28.0, "grey": 37.0, "muscle": 55.0,
    "bone": 1000.0,
}  # fmt: skip
HU_TEXTURE = {
    "air": 0.0, "fat": 8.0, "csf": 2.0, "lesion": 4.0, "white": 4.0, "grey": 4.0, "muscle": 6.0, "bone": 80.0,
}  # fmt: skip
LONGEST = 20.0  # [mm], the largest scale of the textures


@dataclass(frozen=True)
class Modality:
    """How every tissue looks: value and texture, then the scanner's blur and noise.

    values : tissue -> mean; texture : tissue -> standard deviation of its texture, same unit
    fwhm : of the scanner's Gaussian resolution [mm]; 0 for pixels alone
    noise : σ, same unit; `rician`: y = |x + n| with E|n|² = σ², else white and additive
    """

    values: Mapping[str, float]
    texture: Mapping[str, float]
    fwhm: float = 0.0
    noise: float = 0.0
    rician: bool = False

    @property
    def top(self) -> float:
        """Value of the brightest tissue."""
        return max(self.values.values())

    def scaled(self, factor: float) -> Modality:
        """In another unit: every value times `factor`."""
        values, texture = ({t: factor * v for t, v in d.items()} for d in (self.values, self.texture))
        return replace(self, values=values, texture=texture, noise=factor * self.noise)


def modality(name: str) -> Modality:
    """The tables of "ct" [1/mm], "pet" (grey matter 1), or an MR contrast (proton density of water 1)."""
    if name == "ct":
        values = {t: float(to_attenuation(torch.tensor(v).double(), MU_WATER)) for t, v in HU.items()}
        texture = {t: MU_WATER * v / 1000 for t, v in HU_TEXTURE.items()}
        return Modality(values, texture)
    if name == "pet":
        uptake = {"air": 0.0, **UPTAKE}
        return Modality(uptake, {t: 0.08 * v for t, v in uptake.items()}, 5.0, 0.05)
    if name in CONTRASTS:
        sequence = typical_sequence(name)
        signal = {t: abs(sequence.signal(tissue)) for t, tissue in TISSUES.items()}
        top = max(signal.values())
        return Modality(signal, {t: 0.05 * v for t, v in signal.items()}, 0.0, 0.02 * top, True)
    raise ValueError(f"modality: expected 'ct', 'pet' or one of {', '.join(CONTRASTS)}, got {name!r}")


def ambiguous(source: Modality, tolerance: float = 1e-9) -> list[set[str]]:
    """Groups of tissues that look alike in a modality; from one tissue to another value the table is exact
    for the rest. In MR air and bone give no signal, in PET liquor takes up none: only shape tells them apart.
    """
    groups: list[set[str]] = []
    for tissue, value in source.values.items():
        for group in groups:
            if abs(source.values[next(iter(group))] - value) <= tolerance:
                group.add(tissue)
                break
        else:
            groups.append({tissue})
    return [group for group in groups if len(group) > 1]


class ContrastPairs(TaskPairs):
    """From y, a head by one modality, to x, the same head by another.

        y = blur(Σₖ sₖ (aₖ + αₖ t)) + n,   x = Σₖ sₖ (bₖ + βₖ (ρ t + √(1 − ρ²) u))

    sₖ the share of tissue k in a pixel (`random_anatomy`), a and b its values, α and β its texture in source
    and target, t and u independent textures of variance 1, n noise (Rician for MR).

    What can be reached: u is nowhere in y, so nobody who sees y alone has a mean squared error below
    (1 − ρ²) Σ (Σₖ sₖ βₖ)² / pixels. `best(seed)` is the image that reaches it, drawn by who knows s and t;
    blur, noise and tissues that look alike (`ambiguous`) keep real methods above it.

    source, target : "ct", "pet", "t1", "t2", "pd", "flair", "t2-star", or a `Modality`
    correlation : ρ, how much of the target's texture is in the source
    matched : y is multiplied until its brightest tissue has the value of x's, as networks are given images of
        one scale, and units of MR and PET are arbitrary; False leaves the units of `modality`
    size : pixels a side of a field of 220 mm
    Others as in `TaskPairs`.
    """

    def __init__(
        self,
        source: str | Modality = "t1",
        target: str | Modality = "ct",
        size: int = 64,
        correlation: float = 0.5,
        matched: bool = True,
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = 256,
        name: str | None = None,
    ):
        if not 0 <= correlation <= 1:
            raise ValueError(f"ContrastPairs correlation: expected 0 to 1, got {correlation}")
        words = [m if isinstance(m, str) else "own" for m in (source, target)]
        name = name or f"{words[0]}-to-{words[1]}"
        super().__init__((size, size), FIELD / size, validation_size, test_size, train_size, name)
        self.source = modality(source) if isinstance(source, str) else source
        self.target = modality(target) if isinstance(target, str) else target
        self.correlation = float(correlation)
        if set(self.source.values) != set(self.target.values):
            raise ValueError("ContrastPairs: expected source and target with values for the same tissues")
        if matched:
            self.source = self.source.scaled(self.target.top / self.source.top)

    def shares(self, seed: int) -> dict[str, Tensor]:
        """Share of each tissue in every pixel, air among them; their sum is 1. (ny, nx), float64."""
        made = mr_pairs(seed, self.shape[0], contrasts=())
        shares = {k.removeprefix("tissue/"): v.double() for k, v in made.items()}
        return shares | {"air": 1 - sum(shares.values(), torch.zeros(self.shape, dtype=torch.float64))}

    def textures(self, seed: int) -> tuple[Tensor, Tensor]:
        """t, in both modalities, and u, in the target only: mean 0, variance 1, independent."""
        t, u = power_law_background(
            self.shape, self.pixel_size, 1.0, longest=LONGEST, seed=[2 * seed, 2 * seed + 1], count=2
        )
        return t, u

    def best(self, seed: int) -> Tensor:
        """E[x | s, t]: the target of one seed but for what no source image holds; (ny, nx), float32."""
        shares, (t, _) = self.shares(seed), self.textures(seed)
        return (_mixed(shares, self.target.values) + self._depth(shares) * self.correlation * t).float()

    def floor(self, seed: int) -> float:
        """Root of the least mean squared error that can be expected in this head, unit of the target."""
        return math.sqrt(1 - self.correlation**2) * float(
            self._depth(self.shares(seed)).square().mean().sqrt()
        )

    def pair(self, seed: int) -> tuple[Tensor, Tensor, NoiseModel]:
        shares, (t, u) = self.shares(seed), self.textures(seed)
        clean = _mixed(shares, self.source.values) + _mixed(shares, self.source.texture) * t
        if self.source.fwhm:
            clean = _blurred(clean, self.source.fwhm / self.pixel_size)
        texture = self.correlation * t + math.sqrt(1 - self.correlation**2) * u
        x = _mixed(shares, self.target.values) + self._depth(shares) * texture
        sigma = self.source.noise
        # of a magnitude only the part of n along x counts where x is bright
        law = Gaussian(sigma=max(sigma / math.sqrt(2) if self.source.rician else sigma, 1e-6))
        if not sigma:
            return clean, x, law
        drawn = Rician(sigma)(clean.clamp_min(0), seed=seed) if self.source.rician else law(clean, seed=seed)
        return drawn, x, law

    def _depth(self, shares: Mapping[str, Tensor]) -> Tensor:
        return _mixed(shares, self.target.texture)


def _mixed(shares: Mapping[str, Tensor], values: Mapping[str, float]) -> Tensor:
    """Σₖ sₖ vₖ."""
    return torch.stack([shares[k] * values[k] for k in sorted(shares)]).sum(0)
