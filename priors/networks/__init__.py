"""Network definitions: the only place with layers. Each is built alike from the same seed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .automap import AUTOMAP as AUTOMAP
    from .critic import Critic as Critic
    from .critic import LocalCritic as LocalCritic
    from .dagan import DAGANDiscriminator as DAGANDiscriminator
    from .dagan import DAGANGenerator as DAGANGenerator
    from .dcgan import DCGANDiscriminator as DCGANDiscriminator
    from .dcgan import DCGANGenerator as DCGANGenerator
    from .dense_generator import IDCGANGenerator as IDCGANGenerator
    from .discriminators import ImageDiscriminator as ImageDiscriminator
    from .discriminators import MultiScaleDiscriminator as MultiScaleDiscriminator
    from .discriminators import PatchDiscriminator as PatchDiscriminator
    from .dncnn import DnCNN as DnCNN
    from .drunet import DRUNet as DRUNet
    from .encoder_decoder import EncoderDecoder as EncoderDecoder
    from .encoder_decoder import FBPConvNet as FBPConvNet
    from .encoder_decoder import VAGANGenerator as VAGANGenerator
    from .kang import KangGenerator as KangGenerator
    from .low_dose import CNN10 as CNN10
    from .low_dose import REDCNN as REDCNN
    from .low_dose import REDWGANGenerator as REDWGANGenerator
    from .low_dose import SMGANGenerator as SMGANGenerator
    from .low_dose import WGANVGGGenerator as WGANVGGGenerator
    from .low_dose import WolterinkGenerator as WolterinkGenerator
    from .progressive import ProgressiveDiscriminator as ProgressiveDiscriminator
    from .progressive import ProgressiveGenerator as ProgressiveGenerator
    from .reach import receptive_field as receptive_field
    from .resnet_generator import ResNetGenerator as ResNetGenerator
    from .resnet_generator import VAEGenerator as VAEGenerator
    from .seeds import count as count
    from .seeds import seeded as seeded
    from .super_resolution import ESPCN as ESPCN
    from .super_resolution import SRCNN as SRCNN
    from .super_resolution import SRResNet as SRResNet
    from .uformer import Uformer as Uformer
    from .unet import UNet as UNet
    from .unet_generator import CasNet as CasNet
    from .unet_generator import UNetGenerator as UNetGenerator

_EXPORTS = {
    "AUTOMAP": "automap",
    "CNN10": "low_dose",
    "CasNet": "unet_generator",
    "Critic": "critic",
    "DAGANDiscriminator": "dagan",
    "DAGANGenerator": "dagan",
    "DCGANDiscriminator": "dcgan",
    "DCGANGenerator": "dcgan",
    "DRUNet": "drunet",
    "DnCNN": "dncnn",
    "ESPCN": "super_resolution",
    "EncoderDecoder": "encoder_decoder",
    "FBPConvNet": "encoder_decoder",
    "IDCGANGenerator": "dense_generator",
    "ImageDiscriminator": "discriminators",
    "KangGenerator": "kang",
    "LocalCritic": "critic",
    "MultiScaleDiscriminator": "discriminators",
    "PatchDiscriminator": "discriminators",
    "ProgressiveDiscriminator": "progressive",
    "ProgressiveGenerator": "progressive",
    "REDCNN": "low_dose",
    "REDWGANGenerator": "low_dose",
    "ResNetGenerator": "resnet_generator",
    "SMGANGenerator": "low_dose",
    "SRCNN": "super_resolution",
    "SRResNet": "super_resolution",
    "UNet": "unet",
    "UNetGenerator": "unet_generator",
    "Uformer": "uformer",
    "VAEGenerator": "resnet_generator",
    "VAGANGenerator": "encoder_decoder",
    "WGANVGGGenerator": "low_dose",
    "WolterinkGenerator": "low_dose",
    "count": "seeds",
    "receptive_field": "reach",
    "seeded": "seeds",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
