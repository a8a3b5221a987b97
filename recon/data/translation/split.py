"""Parts of a data set that share no patient."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from .slices import Scan


def split_by_patient(
    scans: Sequence[Scan], shares: Mapping[str, float] | Sequence[float], seed: int = 0
) -> list[list[Scan]]:
    """Scans in parts of about these shares, all scans of a patient in one part.

    Patients are shuffled by the seed, then each goes, in that order, to the
    part that lacks most of its share of slices; every part gets at least one patient.

    scans : with their patients
    shares : of the parts, by name or in order; they are divided by their sum
    seed : of the shuffling

    Raises ValueError where there are fewer patients than parts.
    """
    values = [float(v) for v in (shares.values() if isinstance(shares, Mapping) else shares)]
    if not values or not all(math.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"split_by_patient shares: expected positive numbers, got {shares!r}")
    by: dict[str, list[Scan]] = {}
    for scan in scans:
        by.setdefault(scan.patient, []).append(scan)
    if len(by) < len(values):
        held = f"{sum(map(len, scans))} image{'s' * (sum(map(len, scans)) != 1)} of {len(by)}"
        raise ValueError(
            f"split_by_patient: {held} patient{'s' * (len(by) != 1)} cannot make {len(values)} parts "
            "(training, validation); name a folder or list of images to validate on, or say how names tell "
            "the patient"
        )
    order = np.random.default_rng(seed).permutation(len(by))
    names = sorted(by)
    shuffled = [names[i] for i in order]
    sizes = {name: sum(map(len, by[name])) for name in by}
    whole, wanted = sum(sizes.values()), [v / sum(values) for v in values]
    parts: list[list[Scan]] = [[] for _ in values]
    filled = [0] * len(values)
    for position, name in enumerate(shuffled):
        empty = [i for i, part in enumerate(parts) if not part]
        # the last patients are kept for parts that would stay empty
        among = empty if len(shuffled) - position <= len(empty) else range(len(parts))
        best = max(among, key=lambda i: wanted[i] * whole - filled[i])
        parts[best] += by[name]
        filled[best] += sizes[name]
    check_apart(*parts)
    return parts


def check_apart(*parts: Sequence[Scan]) -> None:
    """ValueError if a patient is in two parts."""
    seen: dict[Hashable, int] = {}
    for number, part in enumerate(parts):
        for scan in part:
            if seen.setdefault((scan.known, scan.patient), number) != number:
                raise ValueError(
                    f"patient {scan.patient!r} (by {scan.known}) is in two parts, as in {scan.name}: what is "
                    "validated on would be learned from; split by patient, or give other folders"
                )
