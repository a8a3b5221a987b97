"""All losses by name."""

from __future__ import annotations

from collections.abc import Mapping

from . import adversarial, pixel
from .base import Loss

_ALL: tuple[type[Loss], ...] = (
    pixel.L1,
    pixel.L2,
    pixel.Lp,
    pixel.Huber,
    pixel.NMSE,
    pixel.Cycle,
    pixel.Identity,
    pixel.SelfRegularisation,
    pixel.Domain,
    pixel.Idempotence,
    pixel.Air,
    pixel.LatentL2,
    pixel.LatentKL,
    adversarial.Mispair,
)

LOSSES: Mapping[str, type[Loss]] = {cls.name: cls for cls in _ALL}
