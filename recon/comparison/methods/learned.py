"""Hybrid and learned methods, with the weights that are shipped for a problem."""

from __future__ import annotations

from ...adversarial import AdversarialRegularisation
from ...baselines.automap import AUTOMAP
from ...baselines.postprocess import FBPUNet
from ...dip import DeepImagePrior
from ...unrolled.gradient import LearnedGradient
from ...unrolled.primal_dual import LearnedPrimalDual
from ..method import Log, Method

METHODS = {
    "deep-image-prior": Method(DeepImagePrior, space={"weight": Log(1e-1, 1e2)}),
    "adversarial-regularisation": Method(
        AdversarialRegularisation, space={"weight": Log(1e-3, 1e1)}, pretrained=True
    ),
    "learned-gradient": Method(LearnedGradient, pretrained=True),
    "learned-primal-dual": Method(LearnedPrimalDual, pretrained=True),
    "fbp-unet": Method(FBPUNet, pretrained=True),
    "automap": Method(AUTOMAP, pretrained=True),
}
