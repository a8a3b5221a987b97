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
    from .discriminated import DiscriminatorFeatures as DiscriminatorFeatures
    from .discriminated import FeatureMargin as FeatureMargin
    from .discriminated import Sharpness as Sharpness
    from .features import TissueClassifier as TissueClassifier
    from .features import feature_network as feature_network
    from .frequency import KSpace as KSpace
    from .gradients import TV as TV
    from .gradients import GradientConsistency as GradientConsistency
    from .gradients import GradientDifference as GradientDifference
    from .perceptual import Content as Content
    from .perceptual import DomainInvariant as DomainInvariant
    from .perceptual import FeatureDistance as FeatureDistance
    from .perceptual import FeatureLoss as FeatureLoss
    from .perceptual import Perceptual as Perceptual
    from .perceptual import Style as Style
    from .perceptual import VGGLoss as VGGLoss
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
    from .segmentation import CrossEntropy as CrossEntropy
    from .segmentation import Dice as Dice
    from .segmentation import Focal as Focal
    from .segmentation import Shape as Shape
    from .structure import MSSSIM as MSSSIM
    from .structure import SSIM as SSIM
    from .structure import Structural as Structural

_EXPORTS = {
    "ADVERSARIAL": "adversarial",
    "AdversarialMode": "adversarial",
    "Air": "pixel",
    "Content": "perceptual",
    "CrossEntropy": "segmentation",
    "Cycle": "pixel",
    "Dice": "segmentation",
    "DiscriminatorFeatures": "discriminated",
    "Domain": "pixel",
    "DomainInvariant": "perceptual",
    "Energy": "adversarial",
    "FeatureDistance": "perceptual",
    "FeatureLoss": "perceptual",
    "FeatureMargin": "discriminated",
    "Focal": "segmentation",
    "GAN": "adversarial",
    "GradientConsistency": "gradients",
    "GradientDifference": "gradients",
    "Hinge": "adversarial",
    "Huber": "pixel",
    "Idempotence": "pixel",
    "Identity": "pixel",
    "KSpace": "frequency",
    "L1": "pixel",
    "L2": "pixel",
    "LOSSES": "registry",
    "LSGAN": "adversarial",
    "LatentKL": "pixel",
    "LatentL2": "pixel",
    "Loss": "base",
    "Lp": "pixel",
    "MSSSIM": "structure",
    "Mispair": "adversarial",
    "NMSE": "pixel",
    "Perceptual": "perceptual",
    "SSIM": "structure",
    "SelfRegularisation": "pixel",
    "Shape": "segmentation",
    "Sharpness": "discriminated",
    "Structural": "structure",
    "Style": "perceptual",
    "TV": "gradients",
    "TissueClassifier": "features",
    "VGGLoss": "perceptual",
    "WGAN": "adversarial",
    "Weighted": "base",
    "adversarial_mode": "adversarial",
    "clip_weights": "adversarial",
    "feature_network": "features",
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
