"""Tissues and pulse sequences: how bright a tissue is in an MR image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """Proton density (water 1) and relaxation times [ms]."""

    pd: float
    t1: float
    t2: float
    t2_star: float

    def varied(self, random: np.random.Generator, by: float) -> Tissue:
        """Relaxation times times 1 − by to 1 + by, proton density a third of that."""
        pd, t1, t2 = random.uniform(-by, by, 3)
        factor = 1 + t2
        return Tissue(self.pd * (1 + pd / 3), self.t1 * (1 + t1), self.t2 * factor, self.t2_star * factor)


# At 1.5 T, of BrainWeb's simulator (Kwan, Evans, Pike, IEEE Trans. Med. Imaging 18 (1999) 1085; its file
# tissue_mr_parameters.txt). Lesion is its multiple sclerosis; bone and air give no signal.
TISSUES = {
    "csf": Tissue(1.0, 2569, 329, 58),
    "grey": Tissue(0.86, 833, 83, 69),
    "white": Tissue(0.77, 500, 70, 61),
    "fat": Tissue(1.0, 350, 70, 58),
    "muscle": Tissue(1.0, 900, 47, 30),
    "lesion": Tissue(0.76, 752, 237, 204),
    "bone": Tissue(0.0, 1, 1, 1),
    "air": Tissue(0.0, 1, 1, 1),
}


@dataclass(frozen=True)
class SpinEcho:
    """PD · (1 − 2 exp(−(TR − TE/2)/T1) + exp(−TR/T1)) · exp(−TE/T2), a 90° and a 180° pulse at TE/2.

    te, tr : [ms]
    """

    te: float
    tr: float

    def __post_init__(self) -> None:
        _check_times(self, 0 <= self.te < self.tr)

    def signal(self, tissue: Tissue) -> float:
        recovered = 1 - 2 * math.exp(-(self.tr - self.te / 2) / tissue.t1) + math.exp(-self.tr / tissue.t1)
        return tissue.pd * recovered * math.exp(-self.te / tissue.t2)


@dataclass(frozen=True)
class GradientEcho:
    """PD · sin α (1 − E₁)/(1 − cos α E₁) · exp(−TE/T2*), E₁ = exp(−TR/T1): spoiled, in its steady state.

    te, tr : [ms]; flip : α [rad]. Ernst & Anderson, Rev. Sci. Instrum. 37 (1966) 93.
    """

    te: float
    tr: float
    flip: float

    def __post_init__(self) -> None:
        _check_times(self, 0 <= self.te < self.tr and 0 < self.flip <= math.pi)

    def signal(self, tissue: Tissue) -> float:
        e1 = math.exp(-self.tr / tissue.t1)
        steady = math.sin(self.flip) * (1 - e1) / (1 - math.cos(self.flip) * e1)
        return tissue.pd * steady * math.exp(-self.te / tissue.t2_star)


@dataclass(frozen=True)
class InversionRecovery:
    """PD · (1 − 2 exp(−TI/T1) + exp(−TR/T1)) · exp(−TE/T2), a 180° pulse TI before the 90° one, TE ≪ TR.

    Signed: what has not yet passed its null is negative. te, tr, ti : [ms]
    """

    te: float
    tr: float
    ti: float

    def __post_init__(self) -> None:
        _check_times(self, 0 <= self.te < self.tr and 0 < self.ti < self.tr)

    def signal(self, tissue: Tissue) -> float:
        recovered = 1 - 2 * math.exp(-self.ti / tissue.t1) + math.exp(-self.tr / tissue.t1)
        return tissue.pd * recovered * math.exp(-self.te / tissue.t2)


def nulling_time(t1: float, tr: float) -> float:
    """TI = T1 ln(2/(1 + exp(−TR/T1))) [ms]: the inversion time at which a tissue of T1 is black."""
    return t1 * math.log(2 / (1 + math.exp(-tr / t1)))


CONTRASTS = ("t1", "t2", "pd", "flair", "t2-star")

Sequence = SpinEcho | GradientEcho | InversionRecovery


def typical_sequence(contrast: str) -> Sequence:
    """A common protocol: "t1", "t2", "pd" spin echoes, "flair" that nulls CSF, "t2-star" gradient echo."""
    sequences: dict[str, Sequence] = {
        "t1": SpinEcho(te=12, tr=500),
        "t2": SpinEcho(te=90, tr=4000),
        "pd": SpinEcho(te=15, tr=3500),
        "flair": InversionRecovery(te=110, tr=9000, ti=nulling_time(TISSUES["csf"].t1, 9000)),
        "t2-star": GradientEcho(te=25, tr=600, flip=math.radians(20)),
    }
    if contrast not in sequences:
        raise ValueError(f"contrast: expected one of {', '.join(CONTRASTS)}, got {contrast!r}")
    return sequences[contrast]


def random_sequence(contrast: str, random: np.random.Generator) -> Sequence:
    """`typical_sequence` with TE and TR up to 20 % shorter or longer."""
    typical = typical_sequence(contrast)
    te, tr = typical.te * random.uniform(0.8, 1.2), typical.tr * random.uniform(0.8, 1.2)
    if isinstance(typical, InversionRecovery):
        return replace(typical, te=te, tr=tr, ti=nulling_time(TISSUES["csf"].t1, tr))
    return replace(typical, te=te, tr=tr)


def _check_times(sequence: Sequence, fine: bool) -> None:
    if not fine:
        raise ValueError(f"{sequence!r}: expected 0 ≤ te < tr [ms], 0 < ti < tr, 0 < flip ≤ π")
