"""Motion in MR: magnitude images whose k-space was measured while the head moved."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from operators import Fourier, Gaussian, NoiseModel

from ..brains import FIELD, random_anatomy
from ..motion import KINDS, Motion, random_motion, shot_order
from ..mr_contrast import typical_sequence
from ..mr_simulation import simulate_mri
from .pairs import TaskPairs


class MotionPairs(TaskPairs):
    """From |F⁻¹ y|, y(k) measured of a moving head, to |x| of the head at rest, both band-limited.

    Every shot measures its lines of the exact k-space of the head in its pose (`recon.data.motion.Motion`),
    one coil of sensitivity 1; then noise. Without motion and noise input and truth are the same to rounding.
    "At rest" is where the head is when the middle of k-space is measured, for there y shows it; a place it
    had at the rim would be a shift of the truth that nobody can see in y.
    The law of y says what the noise alone does to bright pixels, σ/√2; motion is no noise.

    contrast : "t1", "t2", "pd", "flair" or "t2-star"
    kinds : of motion, drawn evenly: "step", "drift", "periodic"
    shots : blocks of lines, measured one after another
    translation, rotation : largest displacement [mm] and angle [rad] from there
    snr : mean of bright |x| over σ, E|n|² = σ²; None: no noise
    size : pixels a side of a field of 220 mm
    Others as in `TaskPairs`.
    """

    def __init__(
        self,
        size: int = 64,
        contrast: str = "t1",
        kinds: tuple[str, ...] = KINDS,
        shots: int = 8,
        translation: float = 5.0,
        rotation: float = 0.08,
        snr: float | None = 40.0,
        validation_size: int = 8,
        test_size: int = 16,
        train_size: int | None = 256,
        name: str = "mr-motion",
    ):
        if not kinds or set(kinds) - set(KINDS):
            raise ValueError(f"MotionPairs kinds: expected some of {', '.join(KINDS)}, got {kinds}")
        if not min(translation, rotation) >= 0:
            raise ValueError(
                f"MotionPairs translation, rotation: expected numbers ≥ 0, got {translation}, {rotation}"
            )
        super().__init__((size, size), FIELD / size, validation_size, test_size, train_size, name)
        self.sequence, self.kinds, self.snr = typical_sequence(contrast), tuple(kinds), snr
        self.translation, self.rotation = translation, rotation
        self.shots = shot_order(size, shots)[:, None].expand(size, size)
        self.mask = torch.ones(self.shape, dtype=torch.bool)

    def motion(self, seed: int) -> Motion:
        """Poses of the head of one seed, that of the middle of k-space at rest."""
        random = np.random.default_rng([seed, 5])
        kind = self.kinds[int(random.integers(len(self.kinds)))]
        path = random_motion(self.shots, kind, int(random.integers(2**31)), self.translation, self.rotation)
        middle = int(self.shots[self.shape[0] // 2, 0])
        t, r = (pose - pose[middle] for pose in (path.translations, path.rotations))
        return Motion(self.shots, _within(t, self.translation), _within(r, self.rotation))

    def pair(self, seed: int) -> tuple[Tensor, Tensor, NoiseModel]:
        scene = random_anatomy(seed).image(self.sequence)
        problem, x = simulate_mri(
            scene,
            self.mask,
            motion=self.motion(seed),
            snr=self.snr,
            seed=seed,
            shape=self.shape,
            pixel_size=self.pixel_size,
        )
        y = Fourier(self.shape).adjoint(problem.y).abs()
        sigma = 0.0 if self.snr is None else float(problem.noise.sigma)  # type: ignore[arg-type]
        # a law needs a σ above 0
        return y, x.abs(), Gaussian(sigma=max(sigma / 2**0.5, 1e-6))


def _within(path: Tensor, limit: float) -> Tensor:
    """A path made smaller as a whole where it goes beyond the limit."""
    return path * min(1.0, limit / max(float(path.abs().max()), 1e-12))
