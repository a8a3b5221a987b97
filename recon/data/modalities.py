"""Images of one synthetic head by several modalities: material for translation between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .brains import FIELD, random_anatomy
from .mr_contrast import CONTRASTS, TISSUES, random_sequence, typical_sequence

# Relative uptake of FDG: chosen, not measured; grey matter 4 : white 1, as phantoms for PET commonly have it
UPTAKE = {
    "csf": 0.0, "grey": 1.0, "white": 0.25, "lesion": 0.1, "fat": 0.05, "muscle": 0.2, "bone": 0.02,
}  # fmt: skip
PET_RESOLUTION = 5.0  # [mm], full width at half maximum


def mr_pairs(
    seed: int,
    size: int = 128,
    contrasts: Sequence[str] = ("t1", "t2", "pd", "pet"),
    vary: bool = False,
) -> dict[str, Tensor]:
    """Registered images of `random_anatomy(seed)`: {contrast: (size, size), float32}, and its tissues.

    Every image is value[tissue] averaged over pixels, so with `vary=False`, tissues and protocols those of
    the tables, one contrast follows from another wherever tissues are told apart by it: a mapping known
    exactly, for tests of translation. With `vary=True` relaxation, TE and TR vary from head to head and it
    holds in the mean only. Synthetic; nothing learned here says anything about patients.

    seed : one head a seed
    size : pixels a side of a field of 220 mm
    contrasts : of "t1", "t2", "pd", "flair", "t2-star" (magnitudes, in units of the proton density of water)
        and "pet" (uptake of FDG relative to grey matter, blurred to 5 mm)

    Also under "tissue/<name>": the share of each tissue in every pixel.
    """
    known = (*CONTRASTS, "pet")
    if unknown := [c for c in contrasts if c not in known]:
        raise ValueError(f"mr_pairs contrasts: expected some of {', '.join(known)}, got {unknown}")
    brain = random_anatomy(seed)
    random = np.random.default_rng([seed, 4])
    pixel = FIELD / size
    share = {
        name: brain.painted({t: float(t == name) for t in TISSUES}).rasterise((size, size), pixel)
        for name in TISSUES
        if name != "air"
    }
    images = {}
    for contrast in contrasts:
        if contrast == "pet":
            image = sum(UPTAKE[name] * part for name, part in share.items())
            images[contrast] = _blurred(torch.as_tensor(image), PET_RESOLUTION / pixel).float()
            continue
        tissues = brain.tissues if vary else TISSUES
        sequence = random_sequence(contrast, random) if vary else typical_sequence(contrast)
        image = sum(sequence.signal(tissues[name]) * part for name, part in share.items())
        images[contrast] = torch.as_tensor(image).abs().float()
    return images | {f"tissue/{name}": part.float() for name, part in share.items()}


def _blurred(image: Tensor, width: float) -> Tensor:
    """Convolved with a Gaussian of full width at half maximum `width` [pixels], periodic."""
    sigma = width / math.sqrt(8 * math.log(2))
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in image.shape)
    response = torch.exp(-2 * math.pi**2 * sigma**2 * (fy[:, None] ** 2 + fx**2))
    return torch.fft.ifft2(torch.fft.fft2(image) * response).real
