"""PET of a part of the counts: the same list of events, thinned, reconstructed as the whole."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from operators import Emission, Gaussian, NoiseModel, ParallelBeam, XRay, fbp, thin_counts

from ..brains import FIELD, random_anatomy
from ..modalities import UPTAKE
from ..simulation import averaged
from .pairs import TaskPairs

WATER_511 = 0.0096  # [1/mm] at 511 keV
DENSE_511 = 0.0151  # of skull, chosen: 1.57 times water's


class CountPairs(TaskPairs):
    """From FBP of a quarter of the counts to the activity (or to FBP of all of them).

    Events n ~ Poisson(s A x + b) of the whole scan, A with the attenuation of the head; the input has each
    with probability `share`, so its counts are Poisson(share (s A x + b)) and a part of the same events. Both
    are corrected for background, attenuation and s, then filtered back projection (Hann), not cut at 0, and
    scaled to activity: grey matter 1. The law of y says white noise of the size that the pixels have there.

    counts : expected true events of the whole scan in this slice; share : kept of them, (0, 1)
    background : randoms and scatter over true events, even over all lines
    target : "activity", mean over pixels, known exactly; or "full", what MedGAN learned: the image of all
    lesions : hot spots drawn per head, from none to so many; each adds 2 to 4 times grey matter,
        of a FWHM of 3 to 7 mm
    size, views : pixels a side of a field of 220 mm, angles over a half turn
    Others as in `TaskPairs`.
    """

    def __init__(
        self,
        size: int = 64,
        counts: float = 1e6,
        share: float = 0.25,
        background: float = 0.3,
        target: Literal["activity", "full"] = "activity",
        lesions: int = 3,
        views: int = 90,
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = 256,
        name: str = "pet-quarter",
    ):
        if not 0 < share < 1 or not 0 < counts < math.inf or not 0 <= background < math.inf:
            raise ValueError(
                f"CountPairs: expected counts > 0, share in (0, 1), background ≥ 0, got {counts}, {share}, "
                f"{background}"
            )
        if lesions < 0:
            raise ValueError(f"CountPairs lesions: expected a number ≥ 0, got {lesions}")
        if target not in ("activity", "full"):
            raise ValueError(f"CountPairs target: expected 'activity' or 'full', got {target!r}")
        super().__init__((size, size), FIELD / size, validation_size, test_size, train_size, name)
        self.counts, self.share, self.background = float(counts), float(share), float(background)
        self.target, self.lesions = target, lesions
        bins = math.ceil(1.5 * size)
        angles = tuple(k * math.pi / views for k in range(views))
        self.geometry = ParallelBeam(self.shape, self.pixel_size, angles, bins, 1.5 * FIELD / bins)
        self.xray = XRay(self.geometry)
        fine = (2 * size, 2 * size)
        self.fine = XRay(self.geometry.refined(fine, 1))

    def activity(self, seed: int) -> tuple[Tensor, Tensor]:
        """Activity (grey matter 1) and attenuation at 511 keV [1/mm] on twice as many pixels."""
        brain, side = random_anatomy(seed), 2 * self.shape[0]
        random = np.random.default_rng([seed, 6])
        uptake = {"air": 0.0, **UPTAKE}
        mu = {t: {"air": 0.0, "bone": DENSE_511}.get(t, WATER_511) for t in uptake}
        h = FIELD / side
        x, attenuation = (brain.painted(v).rasterise((side, side), h) for v in (uptake, mu))
        at = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * h
        for _ in range(int(random.integers(0, self.lesions + 1))):
            place, width = random.uniform(-45, 45, 2), random.uniform(3, 7) / math.sqrt(8 * math.log(2))
            r2 = (at[:, None] - place[0]) ** 2 + (at[None] - place[1]) ** 2
            x = x + random.uniform(2, 4) * torch.exp(-r2 / (2 * width**2))
        return x.clamp_min(0).float(), attenuation.clamp_min(0).float()

    def expected(self, seed: int) -> tuple[Tensor, Emission, float, float, Tensor]:
        """Means of the whole scan's counts, A on the image's grid, s, b, and the activity on that grid."""
        activity, mu = self.activity(seed)
        clean = Emission(self.fine, mu)(activity)
        s = self.counts / float(clean.double().sum())
        b = self.background * self.counts / clean.numel()
        A = Emission(self.xray, averaged(mu, self.shape))
        return s * clean + b, A, s, b, averaged(activity, self.shape)

    def pair(self, seed: int) -> tuple[Tensor, Tensor, NoiseModel]:
        mean, A, s, b, activity = self.expected(seed)
        whole = torch.poisson(mean.double(), generator=torch.Generator().manual_seed(seed))
        part = thin_counts(whole, self.share, seed)
        kept = self.share
        y = self._image(A, part / kept, s, b)
        noise = y - self._image(A, mean.double(), s, b)
        x = activity if self.target == "activity" else self._image(A, whole, s, b)
        return y, x, Gaussian(sigma=float(noise.square().mean().sqrt()))

    def _image(self, A: Emission, counts: Tensor, s: float, b: float) -> Tensor:
        """FBP of counts in units of the whole scan."""
        return fbp(self.xray, A.corrected((counts - b) / s), "hann").float()
