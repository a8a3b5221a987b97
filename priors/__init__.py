"""What an image should look like: functionals with gradient and prox."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adversarial import AdversarialRegulariser as AdversarialRegulariser
    from .base import Functional as Functional
    from .convex import ConvexRegulariser as ConvexRegulariser
    from .denoiser import Denoiser as Denoiser
    from .denoiser import FunctionDenoiser as FunctionDenoiser
    from .denoiser import NetworkDenoiser as NetworkDenoiser
    from .denoiser import NonLocalMeansDenoiser as NonLocalMeansDenoiser
    from .denoiser import ProximalDenoiser as ProximalDenoiser
    from .denoiser import VariationalDenoiser as VariationalDenoiser
    from .denoiser import as_denoiser as as_denoiser
    from .dictionary import PatchDictionary as PatchDictionary
    from .diffusion import DiffusionPrior as DiffusionPrior
    from .diffusion import WienerDenoiser as WienerDenoiser
    from .gradient_step import GradientStep as GradientStep
    from .gradient_step import GradientStepDenoiser as GradientStepDenoiser
    from .low_rank import LocallyLowRank as LocallyLowRank
    from .markov import QGGMRF as QGGMRF
    from .markov import FairMRF as FairMRF
    from .markov import HuberMRF as HuberMRF
    from .markov import MarkovRandomField as MarkovRandomField
    from .markov import QuadraticMRF as QuadraticMRF
    from .nett import NETTRegulariser as NETTRegulariser
    from .nonlocal_means import NonLocalQuadratic as NonLocalQuadratic
    from .norms import L1 as L1
    from .norms import L2 as L2
    from .norms import L21 as L21
    from .norms import Huber as Huber
    from .norms import HuberL21 as HuberL21
    from .norms import Parts as Parts
    from .norms import SquaredL2 as SquaredL2
    from .patches import PatchDenoiser as PatchDenoiser
    from .prior_image import PriorImageTV as PriorImageTV
    from .prior_image import Shifted as Shifted
    from .projection import LearnedProjection as LearnedProjection
    from .quadratic import Quadratic as Quadratic
    from .red import RegularisationByDenoising as RegularisationByDenoising
    from .ridge import ConvexRidge as ConvexRidge
    from .ridge import WeaklyConvexRidge as WeaklyConvexRidge
    from .sets import Box as Box
    from .sets import NonNegative as NonNegative
    from .sets import Zero as Zero
    from .tdv import TotalDeepVariation as TotalDeepVariation
    from .tuned import Tuned as Tuned
    from .tv import TV as TV
    from .tv import HuberTV as HuberTV
    from .wavelet import WaveletL1 as WaveletL1

_EXPORTS = {
    "AdversarialRegulariser": "adversarial",
    "Box": "sets",
    "ConvexRegulariser": "convex",
    "ConvexRidge": "ridge",
    "Denoiser": "denoiser",
    "DiffusionPrior": "diffusion",
    "FairMRF": "markov",
    "FunctionDenoiser": "denoiser",
    "Functional": "base",
    "GradientStep": "gradient_step",
    "GradientStepDenoiser": "gradient_step",
    "Huber": "norms",
    "HuberL21": "norms",
    "HuberMRF": "markov",
    "HuberTV": "tv",
    "L1": "norms",
    "L2": "norms",
    "L21": "norms",
    "LearnedProjection": "projection",
    "LocallyLowRank": "low_rank",
    "MarkovRandomField": "markov",
    "NETTRegulariser": "nett",
    "NetworkDenoiser": "denoiser",
    "NonLocalMeansDenoiser": "denoiser",
    "NonLocalQuadratic": "nonlocal_means",
    "NonNegative": "sets",
    "Parts": "norms",
    "PatchDenoiser": "patches",
    "PatchDictionary": "dictionary",
    "PriorImageTV": "prior_image",
    "ProximalDenoiser": "denoiser",
    "QGGMRF": "markov",
    "Quadratic": "quadratic",
    "QuadraticMRF": "markov",
    "RegularisationByDenoising": "red",
    "Shifted": "prior_image",
    "SquaredL2": "norms",
    "TV": "tv",
    "TotalDeepVariation": "tdv",
    "Tuned": "tuned",
    "VariationalDenoiser": "denoiser",
    "WaveletL1": "wavelet",
    "WeaklyConvexRidge": "ridge",
    "WienerDenoiser": "diffusion",
    "Zero": "sets",
    "as_denoiser": "denoiser",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
