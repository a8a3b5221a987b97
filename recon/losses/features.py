"""Feature networks x -> [φ_l(x)] for perceptual losses and distances: VGG, Inception, our own, or yours.

Any module works that maps (n, 1 or 3, ny, nx) in [−1, 1] to a list of tensors (n, channels, …). Weights are
never downloaded and never random: where there are none on this machine, it is said where they are looked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from priors.networks.vgg import FIRST, VGG, VGG16, VGG19, layer_places

from ..checkpoints import ZOO, read_tensors

FILES = {
    "vgg16": "vgg16-397923af.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "inception": "inception_v3_google-0cc3c7bd.pth",
}
"""Weights of ImageNet by the names torchvision gives its files; eight digits are of their SHA-256."""

SMALL = "vgg-small-tissue"


def feature_network(
    name: str = "auto", layers: Sequence[str] | None = None, weights: str | Path | None = None
) -> nn.Module:
    """The feature network of this name, frozen; its attribute `name` says what it is, for cards.

    name : "vgg19", "vgg16" or "inception", of ImageNet; "vgg-small-tissue", trained by us on simulated
        tissues, blur and noise (`benchmarks/train_features.py`), shipped; "auto": VGG-19 if its weights are
        on this machine, else ours
    layers : as "conv5_4" or "relu2_2"; None: the first convolution of every block. Ours has two convolutions
        a block: a later one asked for is its second, and `name` tells
    weights : a .safetensors or .pth file of torchvision's names; None: torchvision's file in the folder of
        torch.hub

    Raises ValueError for an unknown name or layer, and FileNotFoundError where weights are not there.
    """
    if name == "auto":
        name = "vgg19" if weights is not None or _place("vgg19").exists() else SMALL
    match name:
        case "vgg19" | "vgg16":
            return vgg19(layers, weights) if name == "vgg19" else vgg16(layers, weights)
        case "inception":
            if layers is not None:
                raise ValueError("feature_network layers: inception has one, its pooled features; give none")
            return inception(weights)
        case "vgg-small-tissue":
            if weights is not None:
                raise ValueError("feature_network weights: those of vgg-small-tissue are shipped; give none")
            return small(layers)
    raise ValueError(
        f"feature_network name: expected 'auto', 'vgg19', 'vgg16', 'inception' or {SMALL!r}, got {name!r}"
    )


def vgg19(layers: Sequence[str] | None = None, weights: str | Path | None = None) -> nn.Module:
    """Layers of VGG-19 with ImageNet's weights, up to the deepest asked for; see `feature_network`."""
    return _vgg("vgg19", VGG19, layers, weights)


def vgg16(layers: Sequence[str] | None = None, weights: str | Path | None = None) -> nn.Module:
    """Layers of VGG-16 with ImageNet's weights, up to the deepest asked for; see `feature_network`."""
    return _vgg("vgg16", VGG16, layers, weights)


def small(layers: Sequence[str] | None = None) -> nn.Module:
    """Layers of our own small VGG; see `feature_network`."""
    card, tensors = shipped()
    blocks = card["network"]["blocks"]
    have, taken = layer_places(blocks), []
    for layer in layers or FIRST:
        nearest = layer
        while nearest not in have and nearest[-1:].isdigit() and int(nearest[-1]) > 1:
            nearest = f"{nearest[:-1]}{int(nearest[-1]) - 1}"
        taken.append(nearest)
    network = VGG(blocks, taken, **{k: card["network"][k] for k in ("channels", "mean", "std")})
    network.load_state_dict({k: tensors[k].float() for k in network.state_dict()})
    return _frozen(network, f"{SMALL}[{', '.join(taken)}]")


def shipped() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and weights of our own feature network."""
    file = ZOO / "features-tissue.safetensors"
    card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    if hashlib.sha256(file.read_bytes()).hexdigest() != card["weights"]["sha256"]:
        raise ValueError(f"{file}: the weights are not those of their card; one of the two is damaged")
    return card, read_tensors(file)[0]


class TissueClassifier(nn.Module):
    """Class probabilities of our own network for one of the tasks it was trained on, for inception scores.

    task : "source", "blur", "noise" or "texture"

    x : (n, 1 or 3, ny, nx) in [−1, 1] -> (n, classes)
    """

    def __init__(self, task: str = "source"):
        super().__init__()
        card, tensors = shipped()
        if task not in card["classes"]:
            raise ValueError(
                f"TissueClassifier task: expected one of {', '.join(card['classes'])}, got {task!r}"
            )
        self.trunk = small(card["network"]["pooled"])
        self.register_buffer("weight", tensors[f"heads.{task}.weight"].float())
        self.register_buffer("bias", tensors[f"heads.{task}.bias"].float())
        self.classes, self.name = card["classes"][task], f"{SMALL}, {task}"

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([h.mean((-2, -1)) for h in self.trunk(x)], 1)
        return functional.linear(pooled, self.weight, self.bias).softmax(1)


def inception(weights: str | Path | None = None) -> nn.Module:
    """Inception-v3's 2048 pooled features, images resized to 299 × 299; needs torchvision and its weights.

    torchvision's weights, not the TensorFlow ones of most published FIDs: compare only with the same network.
    """
    file = _found("inception", weights)
    try:
        from torchvision.models import inception_v3  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError("inception: needs torchvision: pip install torchvision") from None
    network = inception_v3(weights=None, init_weights=False, aux_logits=True, transform_input=False)
    network.load_state_dict(_read(file))
    return _frozen(Inception(network), "inception-v3 (torchvision)")


class Inception(nn.Module):
    """x -> [pooled features (n, 2048, 1, 1)] of a torchvision Inception-v3."""

    def __init__(self, network: Any):
        super().__init__()
        network.fc = nn.Identity()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        x = functional.interpolate(x.expand(-1, 3, -1, -1), (299, 299), mode="bilinear", antialias=True)
        return [self.network(x)[:, :, None, None]]


def _vgg(
    name: str,
    blocks: Sequence[Sequence[int]],
    layers: Sequence[str] | None,
    weights: str | Path | None,
) -> nn.Module:
    # before its layers, which are large, are made
    file = _found(name, weights)
    with torch.device("meta"):
        network = VGG(blocks, layers or FIRST)
    tensors, wanted = _read(file), network.state_dict()
    missing = [k for k in wanted if k not in tensors or tensors[k].shape != wanted[k].shape]
    if missing:
        raise ValueError(f"{file}: expected the weights of torchvision's {name}; {missing[0]} is not in it")
    network = VGG(blocks, layers or FIRST)
    network.load_state_dict({k: tensors[k].float() for k in wanted})
    return _frozen(network, f"{name}[{', '.join(network.layers)}]")


def _place(name: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / FILES[name]


def _found(name: str, weights: str | Path | None) -> Path:
    file = _place(name) if weights is None else Path(weights)
    if not file.exists():
        raise FileNotFoundError(
            f"{name}: there are no weights at {file}; nothing is downloaded here. Fetch "
            f"https://download.pytorch.org/models/{FILES[name]} to that place, or give weights=path; "
            f"without them use feature_network({SMALL!r}), or any module x -> [features]"
        )
    digits = FILES[name].split("-")[-1].removesuffix(".pth")
    if weights is None and not hashlib.sha256(file.read_bytes()).hexdigest().startswith(digits):
        raise ValueError(f"{file}: damaged, its SHA-256 does not begin with {digits}; fetch it again")
    return file


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return read_tensors(file)[0]
    # torchvision's files are pickles; only tensors are taken from them
    return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251


def _frozen(network: nn.Module, name: str) -> nn.Module:
    network.requires_grad_(False).eval()
    network.name = name  # type: ignore[assignment]
    return network
