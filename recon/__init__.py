"""Reconstruction: problems, solvers, methods, metrics, comparison."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adversarial import AdversarialRegularisation as AdversarialRegularisation
    from .adversarial_variants import ConvexAdversarialRegularisation as ConvexAdversarialRegularisation
    from .adversarial_variants import LocalAdversarialRegularisation as LocalAdversarialRegularisation
    from .base import METHODS as METHODS
    from .base import Reconstructor as Reconstructor
    from .baselines.automap import AUTOMAP as AUTOMAP
    from .baselines.bm3d import BM3D as BM3D
    from .baselines.filters import BandFilter as BandFilter
    from .baselines.filters import Bilateral as Bilateral
    from .baselines.filters import GaussianFilter as GaussianFilter
    from .baselines.gans.base import GAN as GAN
    from .baselines.gans.cycle import CycleGAN as CycleGAN
    from .baselines.gans.cycle_presets import DiscoGAN as DiscoGAN
    from .baselines.gans.cycle_presets import DualGAN as DualGAN
    from .baselines.gans.cycle_presets import Hiasa2018 as Hiasa2018
    from .baselines.gans.cycle_presets import Kang2019 as Kang2019
    from .baselines.gans.cycle_presets import Kida2020 as Kida2020
    from .baselines.gans.cycle_presets import Zhang2018 as Zhang2018
    from .baselines.gans.low_dose import REDWGAN as REDWGAN
    from .baselines.gans.low_dose import SAGAN as SAGAN
    from .baselines.gans.low_dose import SMGAN as SMGAN
    from .baselines.gans.low_dose import WGANVGG as WGANVGG
    from .baselines.gans.low_dose import Wolterink2017 as Wolterink2017
    from .baselines.gans.modes import LSGAN as LSGAN
    from .baselines.gans.modes import WGAN as WGAN
    from .baselines.gans.modes import WGANGP as WGANGP
    from .baselines.gans.modes import EnergyGAN as EnergyGAN
    from .baselines.gans.modes import HingeGAN as HingeGAN
    from .baselines.gans.modes import SpectralGAN as SpectralGAN
    from .baselines.gans.mri import DAGAN as DAGAN
    from .baselines.gans.mri import RefineGAN as RefineGAN
    from .baselines.gans.pix2pix import IDCGAN as IDCGAN
    from .baselines.gans.pix2pix import PAN as PAN
    from .baselines.gans.pix2pix import ConditionalGAN as ConditionalGAN
    from .baselines.gans.pix2pix import FilaSGAN as FilaSGAN
    from .baselines.gans.pix2pix import MedGAN as MedGAN
    from .baselines.gans.pix2pix import MedGANOne as MedGANOne
    from .baselines.gans.pix2pix import PerceptualGAN as PerceptualGAN
    from .baselines.gans.pix2pix import Pix2Pix as Pix2Pix
    from .baselines.gans.pix2pix import StyleContentGAN as StyleContentGAN
    from .baselines.gans.segmentation import SegAN as SegAN
    from .baselines.gans.simgan import SimGAN as SimGAN
    from .baselines.gans.super_resolution import SRGAN as SRGAN
    from .baselines.gans.unconditional import DCGAN as DCGAN
    from .baselines.gans.unconditional import ProgressiveGAN as ProgressiveGAN
    from .baselines.gans.unit import UNIT as UNIT
    from .baselines.gans.vagan import VAGAN as VAGAN
    from .baselines.iradonmap import IRadonMap as IRadonMap
    from .baselines.knn import AnchoredRegression as AnchoredRegression
    from .baselines.knn import PatchNearestNeighbours as PatchNearestNeighbours
    from .baselines.postprocess import FBPUNet as FBPUNet
    from .baselines.postprocess import PostProcessing as PostProcessing
    from .baselines.postprocess_networks import CNN10 as CNN10
    from .baselines.postprocess_networks import REDCNN as REDCNN
    from .baselines.postprocess_networks import FBPConvNet as FBPConvNet
    from .baselines.postprocess_networks import ResNet as ResNet
    from .baselines.postprocess_networks import Uformer as Uformer
    from .baselines.postprocess_networks import ZeroFilledUNet as ZeroFilledUNet
    from .baselines.postprocess_resolution import ESPCN as ESPCN
    from .baselines.postprocess_resolution import SRCNN as SRCNN
    from .chain import Chain as Chain
    from .dictionary import DictionaryReconstruction as DictionaryReconstruction
    from .diffusion import DDS as DDS
    from .diffusion import DPS as DPS
    from .diffusion import DiffPIR as DiffPIR
    from .diffusion import MomentMatching as MomentMatching
    from .dip import DeepImagePrior as DeepImagePrior
    from .direct import FBP as FBP
    from .direct import FDK as FDK
    from .direct import Adjoint as Adjoint
    from .educated_dip import EducatedDeepImagePrior as EducatedDeepImagePrior
    from .emission import MLEM as MLEM
    from .emission import OSEM as OSEM
    from .emission import EmissionFBP as EmissionFBP
    from .grappa import GRAPPA as GRAPPA
    from .iterative import CGLS as CGLS
    from .iterative import LSQR as LSQR
    from .iterative import OSSART as OSSART
    from .iterative import SART as SART
    from .iterative import SIRT as SIRT
    from .joint import JointReconstruction as JointReconstruction
    from .metrics import mae_hu as mae_hu
    from .metrics import nrmse as nrmse
    from .metrics import psnr as psnr
    from .metrics import rmse_hu as rmse_hu
    from .metrics import ssim as ssim
    from .mri import CGSENSE as CGSENSE
    from .mri import RootSumOfSquares as RootSumOfSquares
    from .mri import ZeroFilled as ZeroFilled
    from .nett import NETT as NETT
    from .nonlocal_means import FBPNonLocalMeans as FBPNonLocalMeans
    from .plug_and_play import RED as RED
    from .plug_and_play import GradientStepPlugAndPlay as GradientStepPlugAndPlay
    from .plug_and_play import PlugAndPlay as PlugAndPlay
    from .problem import Problem as Problem
    from .replicas import pseudo_replica as pseudo_replica
    from .scaling import CentreScaled as CentreScaled
    from .scaling import estimate_sigma as estimate_sigma
    from .scaling import kspace_scale as kspace_scale
    from .selfsupervised.equivariant import EquivariantImaging as EquivariantImaging
    from .selfsupervised.noise2inverse import Noise2Inverse as Noise2Inverse
    from .selfsupervised.sure import SURETraining as SURETraining
    from .sinogram_denoising import SinogramDenoisedFBP as SinogramDenoisedFBP
    from .solvers import Iterate as Iterate
    from .solvers import admm as admm
    from .solvers import cg as cg
    from .solvers import cgls as cgls
    from .solvers import fista as fista
    from .solvers import gauss_newton as gauss_newton
    from .solvers import gradient_descent as gradient_descent
    from .solvers import lbfgs as lbfgs
    from .solvers import levenberg_marquardt as levenberg_marquardt
    from .solvers import lsqr as lsqr
    from .solvers import minres as minres
    from .solvers import mlem as mlem
    from .solvers import nmapg as nmapg
    from .solvers import nonlinear_gradient as nonlinear_gradient
    from .solvers import os_sqs as os_sqs
    from .solvers import osem as osem
    from .solvers import pdhg as pdhg
    from .solvers import run as run
    from .solvers import sart as sart
    from .solvers import sart_on_disk as sart_on_disk
    from .solvers import sirt as sirt
    from .uncertainty import Conformal as Conformal
    from .uncertainty import DeepEnsemble as DeepEnsemble
    from .uncertainty import HeteroscedasticUNet as HeteroscedasticUNet
    from .uncertainty import MCDropout as MCDropout
    from .uncertainty import ParametricBootstrap as ParametricBootstrap
    from .unrolled.dual_domain import DualDomain as DualDomain
    from .unrolled.equilibrium import DeepEquilibrium as DeepEquilibrium
    from .unrolled.gradient import LearnedGradient as LearnedGradient
    from .unrolled.ista import ISTANet as ISTANet
    from .unrolled.ista_unet import ISTAUNet as ISTAUNet
    from .unrolled.itnet import ItNet as ItNet
    from .unrolled.modl import MoDL as MoDL
    from .unrolled.pdhg import LearnedPDHG as LearnedPDHG
    from .unrolled.primal_dual import LearnedPrimalDual as LearnedPrimalDual
    from .unrolled.variational import VariationalNetwork as VariationalNetwork
    from .unrolled.varnet import VarNet as VarNet
    from .variational import OSSQS as OSSQS
    from .variational import PICCS as PICCS
    from .variational import PWLSQGGMRF as PWLSQGGMRF
    from .variational import HuberTotalVariation as HuberTotalVariation
    from .variational import LocallyLowRankReconstruction as LocallyLowRankReconstruction
    from .variational import PWLSFair as PWLSFair
    from .variational import PWLSHuber as PWLSHuber
    from .variational import PWLSNonLocalMeans as PWLSNonLocalMeans
    from .variational import PWLSTotalVariation as PWLSTotalVariation
    from .variational import Tikhonov as Tikhonov
    from .variational import TotalGeneralisedVariation as TotalGeneralisedVariation
    from .variational import TotalVariation as TotalVariation
    from .variational import VariationalReconstruction as VariationalReconstruction
    from .variational import WaveletReconstruction as WaveletReconstruction
    from .variational.gradient_step_prior import GradientStepPrior as GradientStepPrior
    from .variational.learned_prior import LearnedPriorReconstruction as LearnedPriorReconstruction

_EXPORTS = {
    "AUTOMAP": "baselines.automap",
    "Adjoint": "direct",
    "AdversarialRegularisation": "adversarial",
    "AnchoredRegression": "baselines.knn",
    "BM3D": "baselines.bm3d",
    "BandFilter": "baselines.filters",
    "Bilateral": "baselines.filters",
    "CGLS": "iterative",
    "CGSENSE": "mri",
    "CNN10": "baselines.postprocess_networks",
    "CentreScaled": "scaling",
    "Chain": "chain",
    "ConditionalGAN": "baselines.gans.pix2pix",
    "Conformal": "uncertainty",
    "ConvexAdversarialRegularisation": "adversarial_variants",
    "CycleGAN": "baselines.gans.cycle",
    "DAGAN": "baselines.gans.mri",
    "DCGAN": "baselines.gans.unconditional",
    "DDS": "diffusion",
    "DPS": "diffusion",
    "DeepEnsemble": "uncertainty",
    "DeepEquilibrium": "unrolled.equilibrium",
    "DeepImagePrior": "dip",
    "DictionaryReconstruction": "dictionary",
    "DiffPIR": "diffusion",
    "DiscoGAN": "baselines.gans.cycle_presets",
    "DualDomain": "unrolled.dual_domain",
    "DualGAN": "baselines.gans.cycle_presets",
    "ESPCN": "baselines.postprocess_resolution",
    "EducatedDeepImagePrior": "educated_dip",
    "EmissionFBP": "emission",
    "EnergyGAN": "baselines.gans.modes",
    "EquivariantImaging": "selfsupervised.equivariant",
    "FBP": "direct",
    "FBPConvNet": "baselines.postprocess_networks",
    "FBPNonLocalMeans": "nonlocal_means",
    "FBPUNet": "baselines.postprocess",
    "FDK": "direct",
    "FilaSGAN": "baselines.gans.pix2pix",
    "GAN": "baselines.gans.base",
    "GRAPPA": "grappa",
    "GaussianFilter": "baselines.filters",
    "GradientStepPlugAndPlay": "plug_and_play",
    "GradientStepPrior": "variational.gradient_step_prior",
    "HeteroscedasticUNet": "uncertainty",
    "Hiasa2018": "baselines.gans.cycle_presets",
    "HingeGAN": "baselines.gans.modes",
    "HuberTotalVariation": "variational",
    "IDCGAN": "baselines.gans.pix2pix",
    "IRadonMap": "baselines.iradonmap",
    "ISTANet": "unrolled.ista",
    "ISTAUNet": "unrolled.ista_unet",
    "ItNet": "unrolled.itnet",
    "Iterate": "solvers",
    "JointReconstruction": "joint",
    "Kang2019": "baselines.gans.cycle_presets",
    "Kida2020": "baselines.gans.cycle_presets",
    "LSGAN": "baselines.gans.modes",
    "LSQR": "iterative",
    "LearnedGradient": "unrolled.gradient",
    "LearnedPDHG": "unrolled.pdhg",
    "LearnedPrimalDual": "unrolled.primal_dual",
    "LearnedPriorReconstruction": "variational.learned_prior",
    "LocalAdversarialRegularisation": "adversarial_variants",
    "LocallyLowRankReconstruction": "variational",
    "MCDropout": "uncertainty",
    "METHODS": "base",
    "MLEM": "emission",
    "MedGAN": "baselines.gans.pix2pix",
    "MedGANOne": "baselines.gans.pix2pix",
    "MoDL": "unrolled.modl",
    "MomentMatching": "diffusion",
    "NETT": "nett",
    "Noise2Inverse": "selfsupervised.noise2inverse",
    "OSEM": "emission",
    "OSSART": "iterative",
    "OSSQS": "variational",
    "PAN": "baselines.gans.pix2pix",
    "PICCS": "variational",
    "PWLSFair": "variational",
    "PWLSHuber": "variational",
    "PWLSNonLocalMeans": "variational",
    "PWLSQGGMRF": "variational",
    "PWLSTotalVariation": "variational",
    "ParametricBootstrap": "uncertainty",
    "PatchNearestNeighbours": "baselines.knn",
    "PerceptualGAN": "baselines.gans.pix2pix",
    "Pix2Pix": "baselines.gans.pix2pix",
    "PlugAndPlay": "plug_and_play",
    "PostProcessing": "baselines.postprocess",
    "Problem": "problem",
    "ProgressiveGAN": "baselines.gans.unconditional",
    "RED": "plug_and_play",
    "REDCNN": "baselines.postprocess_networks",
    "REDWGAN": "baselines.gans.low_dose",
    "Reconstructor": "base",
    "RefineGAN": "baselines.gans.mri",
    "ResNet": "baselines.postprocess_networks",
    "RootSumOfSquares": "mri",
    "SAGAN": "baselines.gans.low_dose",
    "SART": "iterative",
    "SIRT": "iterative",
    "SMGAN": "baselines.gans.low_dose",
    "SRCNN": "baselines.postprocess_resolution",
    "SRGAN": "baselines.gans.super_resolution",
    "SURETraining": "selfsupervised.sure",
    "SegAN": "baselines.gans.segmentation",
    "SimGAN": "baselines.gans.simgan",
    "SinogramDenoisedFBP": "sinogram_denoising",
    "SpectralGAN": "baselines.gans.modes",
    "StyleContentGAN": "baselines.gans.pix2pix",
    "Tikhonov": "variational",
    "TotalGeneralisedVariation": "variational",
    "TotalVariation": "variational",
    "UNIT": "baselines.gans.unit",
    "Uformer": "baselines.postprocess_networks",
    "VAGAN": "baselines.gans.vagan",
    "VarNet": "unrolled.varnet",
    "VariationalNetwork": "unrolled.variational",
    "VariationalReconstruction": "variational",
    "WGAN": "baselines.gans.modes",
    "WGANGP": "baselines.gans.modes",
    "WGANVGG": "baselines.gans.low_dose",
    "WaveletReconstruction": "variational",
    "Wolterink2017": "baselines.gans.low_dose",
    "ZeroFilled": "mri",
    "ZeroFilledUNet": "baselines.postprocess_networks",
    "Zhang2018": "baselines.gans.cycle_presets",
    "admm": "solvers",
    "cg": "solvers",
    "cgls": "solvers",
    "estimate_sigma": "scaling",
    "fista": "solvers",
    "gauss_newton": "solvers",
    "gradient_descent": "solvers",
    "kspace_scale": "scaling",
    "lbfgs": "solvers",
    "levenberg_marquardt": "solvers",
    "lsqr": "solvers",
    "mae_hu": "metrics",
    "minres": "solvers",
    "mlem": "solvers",
    "nmapg": "solvers",
    "nonlinear_gradient": "solvers",
    "nrmse": "metrics",
    "os_sqs": "solvers",
    "osem": "solvers",
    "pdhg": "solvers",
    "pseudo_replica": "replicas",
    "psnr": "metrics",
    "rmse_hu": "metrics",
    "run": "solvers",
    "sart": "solvers",
    "sart_on_disk": "solvers",
    "sirt": "solvers",
    "ssim": "metrics",
}

__all__ = sorted(_EXPORTS)


def _check_ours(name: str) -> None:
    """`operators` and `priors` are common names: say so when somebody else's file answers to one."""
    ours = Path(__file__).parents[1] / name / "__init__.py"
    spec = find_spec(name)
    if spec is None or spec.origin is None or not ours.samefile(spec.origin):
        found = spec and (spec.origin or list(spec.submodule_search_locations or []))
        raise ImportError(f"`import {name}` finds {found}, not {ours}: rename yours, or run `python -P`")


_check_ours("operators")
_check_ours("priors")


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
