"""The methods of translation.py: found by name when it runs, and made small enough for the machine.

What is not there (an older or a smaller installation) is a dash in the table.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import priors.networks
from recon import METHODS, Reconstructor

SIZES = ("tiny", "small", "paper")


@dataclass(frozen=True)
class Row:
    """A line of a table.

    names : under which it may be in METHODS, case and hyphens aside; changes : of its configuration
    kind : "classical", "pixel" (trained by distances of pixels), "adversarial"
    """

    title: str
    names: tuple[str, ...]
    kind: str
    changes: Mapping[str, Any] = field(default_factory=dict)


CT = (
    Row("bilateral filter", ("bilateral",), "classical"),
    Row("BM3D", ("bm3d",), "classical"),
    Row("TV in the image", ("totalvariation",), "classical"),
    Row("CNN-10", ("cnn10", "fbpcnn10"), "pixel"),
    Row("RED-CNN", ("redcnn", "fbpredcnn"), "pixel"),
    Row("U-Net", ("fbpunet",), "pixel"),
    Row("WGAN-VGG", ("wganvgg",), "adversarial"),
    Row("RED-WGAN", ("redwgan",), "adversarial"),
    Row("pix2pix", ("pix2pix",), "adversarial"),
    Row("SAGAN", ("sagan",), "adversarial"),
    Row("SMGAN", ("smgan",), "adversarial"),
    Row("CycleGAN, unpaired", ("cyclegan",), "adversarial"),
)
_ONE = {"generator_options": {"blocks": 1}}
ABLATION = (
    Row("cGAN", ("medgan",), "adversarial", {"hidden": 0.0, "losses": (), **_ONE}),
    Row("perceptual", ("medgan",), "adversarial", {"losses": (), **_ONE}),
    Row("style–content", ("medgan",), "adversarial", {"hidden": 0.0, **_ONE}),
    Row("MedGAN-1G", ("medgan",), "adversarial", _ONE),
    Row("MedGAN", ("medgan",), "adversarial"),
)

# settings of networks by size; "paper" leaves every one as it was published
NETWORKS: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "UNetGenerator": {"base": 16, "depth": 5},
        "CasNet": {"base": 16, "depth": 5, "blocks": 3},
        "ResNetGenerator": {"base": 16, "blocks": 4},
        "REDWGANGenerator": {"widths": (8, 16, 32, 64)},
        "PatchDiscriminator": {"base": 16},
        "ImageDiscriminator": {"channels": (16, 16, 32, 32, 64, 64), "hidden": 64},
        "MultiScaleDiscriminator": {"base": 16},
    },
    "tiny": {
        "UNetGenerator": {"base": 4, "depth": 3},
        "CasNet": {"base": 4, "depth": 3, "blocks": 2},
        "ResNetGenerator": {"base": 4, "blocks": 1},
        "WGANVGGGenerator": {"width": 4, "layers": 3},
        "REDWGANGenerator": {"widths": (4, 4, 8, 8)},
        "PatchDiscriminator": {"base": 4},
        "ImageDiscriminator": {"channels": (4, 4, 8, 8), "hidden": 8},
        "MultiScaleDiscriminator": {"base": 4, "layers": 2, "scales": 2},
    },
}
# settings of configurations themselves, where a method has them
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "fbpunet": {"base": 16, "depth": 4, "batch_size": 4},
        "redcnn": {"width": 32, "batch_size": 4, "learning_rate": 1e-3},
        "cnn10": {"batch_size": 4, "learning_rate": 1e-3},
    },
    "tiny": {
        "totalvariation": {"iterations": 10},
        "fbpunet": {"base": 4, "depth": 2, "batch_size": 2},
        "redcnn": {"width": 4, "batch_size": 2, "patch": 24},
        "cnn10": {"channels": (8, 4), "batch_size": 2, "patch": 24},
    },
}


def found(row: Row) -> str | None:
    """The name in METHODS, or None."""
    known = {plain(name): name for name in METHODS}
    return next((known[name] for name in row.names if name in known), None)


def plain(name: str) -> str:
    """Letters and digits, small."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def made(row: Row, size: str, training: Mapping[str, Any]) -> Reconstructor:
    """The method of a row, as small as `size` says, with `training` settings where it learns."""
    name = found(row)
    assert name is not None, "found() first"
    cls = METHODS[name]
    config = getattr(cls, "Config", None)
    if config is None:
        return cls(**CONFIGS.get(size, {}).get(plain(name), {}), **row.changes)
    default = config()
    settings = {**CONFIGS.get(size, {}).get(plain(name), {}), **training}
    changes = {k: v for k, v in row.changes.items() if not k.endswith("_options")}
    for player in ("generator", "discriminator"):
        key = f"{player}_options"
        network = getattr(default, player, None)
        if hasattr(default, key) and isinstance(network, str):
            chosen = {**getattr(default, key), **_fitting(network, NETWORKS.get(size, {}).get(network, {}))}
            settings[key] = {**chosen, **row.changes.get(key, {})}
    there = {f.name for f in fields(config)}
    settings = {k: v for k, v in settings.items() if k in there}
    if missing := sorted(set(changes) - there):
        raise ValueError(f"{name}: no setting {', '.join(missing)}, which the row {row.title} changes")
    return cls(**settings, **changes)


def _fitting(network: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the network of that name has."""
    asked = inspect.signature(getattr(priors.networks, network)).parameters
    return {k: v for k, v in options.items() if k in asked}


def weights(method: Reconstructor) -> int:
    """Numbers that reconstruct: of the generator where there are two players."""
    part = getattr(method, "generator", None) or getattr(method, "network", None) or method
    return sum(p.numel() for p in part.parameters())
