"""Hybrid methods, with the weights that are shipped for a problem."""

from __future__ import annotations

from ...adversarial import AdversarialRegularisation
from ...adversarial_variants import LocalAdversarialRegularisation
from ...dip import DeepImagePrior
from ...unrolled.gradient import LearnedGradient
from ...unrolled.modl import MoDL
from ...unrolled.primal_dual import LearnedPrimalDual
from ...variational.gradient_step_prior import GradientStepPrior
from ..method import Log, Method

METHODS = {
    "deep-image-prior": Method(DeepImagePrior, space={"weight": Log(1e-1, 1e2)}),
    "adversarial-regularisation": Method(
        AdversarialRegularisation, space={"weight": Log(1e-3, 1e1)}, pretrained=True
    ),
    "local-adversarial-regularisation": Method(
        LocalAdversarialRegularisation, space={"weight": Log(1e-3, 1e1)}, pretrained=True
    ),
    "gradient-step-prior": Method(GradientStepPrior, pretrained=True),
    "modl": Method(MoDL, pretrained=True),
    "learned-gradient": Method(LearnedGradient, pretrained=True),
    "learned-primal-dual": Method(LearnedPrimalDual, pretrained=True),
}
