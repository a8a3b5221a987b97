"""Losses by name, each tested against its formula."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adversarial import ADVERSARIAL as ADVERSARIAL
    from .adversarial import GAN as GAN
    from .adversarial import LSGAN as LSGAN
    from .adversarial import WGAN as WGAN
    from .adversarial import AdversarialMode as AdversarialMode
    from .adversarial import Energy as Energy
    from .adversarial import Hinge as Hinge
    from .adversarial import Mispair as Mispair
    from .adversarial import adversarial_mode as adversarial_mode
    from .adversarial import clip_weights as clip_weights
    from .adversarial import gradient_penalty as gradient_penalty
    from .adversarial import mispaired as mispaired
    from .base import Loss as Loss
    from .base import Weighted as Weighted
    from .pixel import L1 as L1
    from .pixel import L2 as L2
    from .pixel import NMSE as NMSE
    from .pixel import Air as Air
    from .pixel import Cycle as Cycle
    from .pixel import Domain as Domain
    from .pixel import Huber as Huber
    from .pixel import Idempotence as Idempotence
    from .pixel import Identity as Identity
    from .pixel import LatentKL as LatentKL
    from .pixel import LatentL2 as LatentL2
    from .pixel import Lp as Lp
    from .pixel import SelfRegularisation as SelfRegularisation
    from .registry import LOSSES as LOSSES

_EXPORTS = {
    "ADVERSARIAL": "adversarial",
    "AdversarialMode": "adversarial",
    "Air": "pixel",
    "Cycle": "pixel",
    "Domain": "pixel",
    "Energy": "adversarial",
    "GAN": "adversarial",
    "Hinge": "adversarial",
    "Huber": "pixel",
    "Idempotence": "pixel",
    "Identity": "pixel",
    "L1": "pixel",
    "L2": "pixel",
    "LOSSES": "registry",
    "LSGAN": "adversarial",
    "LatentKL": "pixel",
    "LatentL2": "pixel",
    "Loss": "base",
    "Lp": "pixel",
    "Mispair": "adversarial",
    "NMSE": "pixel",
    "SelfRegularisation": "pixel",
    "WGAN": "adversarial",
    "Weighted": "base",
    "adversarial_mode": "adversarial",
    "clip_weights": "adversarial",
    "gradient_penalty": "adversarial",
    "mispaired": "adversarial",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
