"""Losses by name: `LOSSES["l1"]()(x, truth)`, a scalar; each is tested against its formula.

x and truth are (n, channels, *spatial), real; the value is the mean over the batch of one value per image.
mean is over channels and pixels of an image. G : A → B and F : B → A translate, a ∈ A, b ∈ B; what a trainer
gives as x and truth is in `compares`. Networks are given, and are no part of a loss.

    name                    value                                              after
    l1                      mean |x − t|
    l2                      mean (x − t)²
    lp                      mean |x − t|^p
    huber                   mean h_δ(x − t)                                    Huber 1964
    nmse                    ‖x − t‖²/‖t‖², or its root                         DAGAN, Yang 2018
    ssim                    1 − SSIM, Gaussian windows, 2-D and 3-D            Wang 2004
    ms-ssim                 1 − Π_j c_j^w_j · l_M^w_M                          Wang 2003
    structural              τ (1 − MS-SSIM) + (1 − τ) mean |x − t|             SMGAN, You 2018
    gradient-consistency    1 − mean over axes of NCC(∂x, ∂t)                  Hiasa 2018
    gradient-difference     Σ over axes of mean ||∂x| − |∂t||²                 Nie 2017
    tv                      mean √(|∇x|² + τ²) − τ                             Rudin 1992, Kaji
    k-space                 mean (|Fx| − |Ft|)²                                DAGAN, Yang 2018
    perceptual              Σ_l λ_l mean |φ_l(x) − φ_l(t)|^p                   Johnson 2016
    content                 Σ_l λ_l ‖φ_l(x) − φ_l(t)‖²/(hwd)                   Gatys 2016, MedGAN
    style                   Σ_l λ_l s ‖Gr φ_l(x) − Gr φ_l(t)‖²_F               Gatys 2016, MedGAN
    vgg                     ‖φ(x) − φ(t)‖²/(hwd), conv5_4 of VGG-19            WGAN-VGG, Yang 2018
    domain-invariant        Σ_l λ_l mean (IN φ_l(x) − IN φ_l(t))²              UNIT, MUNIT 2018
    feature-distance        Σ_l λ_l mean Σ_c (φ̂_l(x) − φ̂_l(t))²                manner of LPIPS, not it
    discriminator-features  λ_0 mean |x − t| + Σ_i λ_i mean |D_i(x) − D_i(t)|  MedGAN, Armanious 2020
    feature-margin          Σ_i λ_i P_i;  for D [m − Σ_i λ_i P_i]₊             PAN, Wang 2018
    sharpness               mean (S(x) − S(t))²                                SAGAN, Yi & Babyn 2018
    cycle                   mean |F(G(a)) − a|^p                               Zhu 2017
    identity, domain        mean |G(b) − b|^p                                  Zhu 2017; Kaji
    self-regularisation     mean |G(a) − a|^p                                  SimGAN, Shrivastava 2017
    idempotence             mean |G(G(a)) − G(a)|^p                            Kaji
    air                     mean 1[(x < τ) ≠ (t < τ)] |x − t|                  Kaji, Kida 2020
    latent-l2               mean z²                                            Kaji, UNIT's code
    latent-kl               mean ½(μ² + σ² − 1 − log σ²)                       Kingma & Welling 2014
    cross-entropy           −Σ w t log p / Σ w t
    focal                   −Σ w t (1 − p)^γ log p / Σ w t                     Lin 2017
    dice                    1 − mean over classes of 2 Σ p t/(Σ p + Σ t)       Milletari 2016
    shape                   cross entropy of S(G(a)) and the labels of a       Zhang 2018
    mispair                 a discriminator's loss on a wrong pair as fake     Reed 2016, Kaji

`adversarial_mode(name)` is two players' loss on D's scores (logits), one of `ADVERSARIAL`:

    name    discriminator                                           generator       after
    gan     −log σ(D(real)) − log(1 − σ(D(fake)))                   −log σ(D(fake)) Goodfellow 2014
    lsgan   (D(real) − 1 − σξ)² + (D(fake) − σξ')²                  (D(fake) − 1)²  Mao 2017, jitter of Kaji
    wgan    D(fake) − D(real) + drift·D(real)²                      −D(fake)        Arjovsky 2017
    hinge   [1 − D(real)]₊ + [1 + D(fake)]₊                         −D(fake)        Lim & Ye 2017
    energy  E(real) + [m − E(fake)]₊                                E(fake)         Zhao 2017

with `gradient_penalty` (Gulrajani 2017) and `clip_weights`. `Weighted({"l1": 100.0, "tv": 1e-4})` adds.
`feature_network("auto")` is φ: VGG-19 of ImageNet where its weights are on this machine, else a small network
of ours that is shipped; its `name` says which.
"""

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
