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


# two scales of windows of 7 pixels, which pieces of any size here have room for
_STRUCTURE = ("structural", 1.0, {"data_range": 1.0, "window": 7, "weights": (0.5, 0.5)})
CT = (
    Row("bilateral filter", ("bilateral",), "classical"),
    Row("BM3D", ("bm3d",), "classical"),
    Row("TV in the image", ("totalvariation",), "classical"),
    Row("CNN-10", ("cnn10", "fbpcnn10"), "pixel"),
    Row("RED-CNN", ("redcnn", "fbpredcnn"), "pixel"),
    Row("U-Net", ("fbpunet",), "pixel"),
    Row("WGAN-VGG", ("wganvgg",), "adversarial"),
    # of volumes in their papers; slices here
    Row("RED-WGAN", ("redwgan",), "adversarial", {"dim": 2}),
    Row("SMGAN", ("smgan",), "adversarial", {"dim": 2, "losses": (_STRUCTURE,)}),
    Row("pix2pix", ("pix2pix",), "adversarial"),
    Row("SAGAN", ("sagan",), "adversarial"),
    Row("CycleGAN, unpaired", ("cyclegan",), "adversarial"),
)
ABLATION = (
    Row("cGAN", ("cgan",), "adversarial"),
    Row("perceptual", ("perceptualgan",), "adversarial"),
    Row("style–content", ("stylecontentgan",), "adversarial"),
    Row("MedGAN-1G", ("medgan1g",), "adversarial"),
    Row("MedGAN", ("medgan",), "adversarial"),
)

# settings of networks by size; "paper" leaves all as published, "tiny" is the presets' own `small`
NETWORKS: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "UNetGenerator": {"base": 16, "depth": 5},
        "CasNet": {"base": 16, "depth": 5, "blocks": 3},
        "ResNetGenerator": {"base": 16, "blocks": 4},
        "REDWGANGenerator": {"widths": (8, 16, 32, 64)},
        "PatchDiscriminator": {"base": 16},
        "ImageDiscriminator": {"channels": (16, 16, 32, 32), "strides": (2, 2, 2, 2), "hidden": 64},
    },
}
# settings of configurations themselves, where a method has them
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "fbpunet": {"base": 16, "depth": 4, "batch_size": 4},
        "redcnn": {"width": 32, "batch_size": 4, "learning_rate": 1e-3},
        "cnn10": {"batch_size": 4, "learning_rate": 1e-3},
        # rates of the papers are for days of training, which begin with the brightness of the image
        "wganvgg": {"batch_size": 4, "learning_rate": 5e-4, "pretrain": 1000},
        "redwgan": {"batch_size": 4, "learning_rate": 5e-4, "pretrain": 1000},
        "smgan": {"batch_size": 4, "learning_rate": 5e-4, "pretrain": 1000, "patch": 64},
    },
    "tiny": {
        "totalvariation": {"iterations": 10},
        "fbpunet": {"base": 4, "depth": 2, "batch_size": 2},
        "redcnn": {"width": 4, "batch_size": 2, "patch": 24},
        "cnn10": {"channels": (8, 4), "batch_size": 2, "patch": 24},
        "wganvgg": {"batch_size": 2, "d_steps": 1, "patch": 24},
        "redwgan": {"batch_size": 2, "d_steps": 1, "patch": 24},
        "smgan": {"batch_size": 2, "d_steps": 1, "patch": 24},
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
    default, own = config(), getattr(cls, "small", {}) if size == "tiny" else {}
    own = {**own, "precision": "bfloat16"} if size == "small" else own
    settings = {**own, **CONFIGS.get(size, {}).get(plain(name), {}), **training, **row.changes}
    for player in ("generator", "discriminator"):
        key, network = f"{player}_options", getattr(default, player, None)
        if key not in settings and isinstance(network, str):
            chosen = NETWORKS.get(size, {}).get(network, {})
            settings[key] = {**getattr(default, key), **_fitting(network, chosen)}
    there = {f.name for f in fields(config)}
    if missing := sorted(set(row.changes) - there):
        raise ValueError(f"{name}: no setting {', '.join(missing)}, which the row {row.title} changes")
    return cls(**{k: v for k, v in settings.items() if k in there})


def _fitting(network: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the network of that name has."""
    asked = inspect.signature(getattr(priors.networks, network)).parameters
    return {k: v for k, v in options.items() if k in asked}


def weights(method: Reconstructor) -> int:
    """Numbers that reconstruct: of the generator alone where there are two players."""
    return sum(p.numel() for p in getattr(method, "network", method).parameters())
