"""All losses by name."""

from __future__ import annotations

from collections.abc import Mapping

from . import adversarial, discriminated, frequency, gradients, perceptual, pixel, segmentation, structure
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
    structure.SSIM,
    structure.MSSSIM,
    structure.Structural,
    gradients.GradientConsistency,
    gradients.GradientDifference,
    gradients.TV,
    frequency.KSpace,
    perceptual.Perceptual,
    perceptual.Content,
    perceptual.Style,
    perceptual.VGGLoss,
    perceptual.DomainInvariant,
    perceptual.FeatureDistance,
    discriminated.DiscriminatorFeatures,
    discriminated.FeatureMargin,
    discriminated.Sharpness,
    segmentation.CrossEntropy,
    segmentation.Focal,
    segmentation.Dice,
    segmentation.Shape,
    adversarial.Mispair,
)

LOSSES: Mapping[str, type[Loss]] = {cls.name: cls for cls in _ALL}
