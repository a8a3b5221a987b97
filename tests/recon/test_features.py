"""Feature networks, and the losses that look through them."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from priors.networks.seeds import seeded
from priors.networks.vgg import FIRST, VGG, VGG16, VGG19
from recon.checkpoints import ZOO, write_tensors
from recon.data import random_head
from recon.losses import LOSSES, TissueClassifier, feature_network
from recon.losses import features as module


@pytest.fixture
def nothing_local(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(("name", "blocks", "count"), [("vgg16", VGG16, 13), ("vgg19", VGG19, 16)])
def test_vgg_has_torchvision_s_weights(name, blocks, count):
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)().features.state_dict()
        mine = VGG(blocks, (f"relu5_{len(blocks[-1])}",)).features.state_dict()
    assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in theirs.items()}
    assert len(mine) == 2 * count
    weights = getattr(torchvision.models, f"{name.upper()}_Weights").IMAGENET1K_V1
    assert weights.url.endswith(module.FILES[name])
    assert torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.url.endswith(module.FILES["inception"])


def test_vgg_is_torchvision_s():
    vgg = pytest.importorskip("torchvision").models.vgg
    theirs = vgg.make_layers(["M" if k == "M" else int(k) // 8 for k in vgg.cfgs["E"]])
    mine = VGG([[n // 8 for n in block] for block in VGG19], ("relu2_2", "conv5_4", "conv1_1", "relu5_4"))
    mine.features.load_state_dict(
        {k: v for k, v in theirs.state_dict().items() if k in mine.features.state_dict()}
    )
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    inside = (x - mean) / std
    # theirs are in place: every one from the beginning
    expected = [theirs[: k + 1](inside) for k in (8, 34, 0, 35)]
    for a, b in zip(mine(2 * x - 1), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    grey = x[:, :1]
    for a, b in zip(mine(grey), mine(grey.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_vgg_ends_at_the_deepest_layer_and_refuses_what_is_not_there():
    network = VGG(VGG19, ("conv1_2",))
    assert len(network.features) == 3
    with pytest.raises(ValueError, match="some of conv1_1, conv1_2, conv2_1"):
        VGG(VGG19, ("conv6_1",))
    with pytest.raises(ValueError, match="VGG layers"):
        VGG(VGG19, ())
    small = VGG(((2,), (2,), (2,)), ("conv3_1",))
    assert small(torch.zeros(1, 1, 4, 4))[0].shape == (1, 2, 1, 1)
    for shape in ((1, 1, 3, 4), (1, 2, 8, 8), (1, 8, 8)):
        with pytest.raises(ValueError, match="at least 4 pixels"):
            small(torch.zeros(shape))


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "inception"])
def test_nothing_is_downloaded_and_it_is_said_where_weights_are_looked_for(name, nothing_local, monkeypatch):
    def never(*_, **__):
        raise AssertionError("tried to download")

    monkeypatch.setattr(torch.hub, "download_url_to_file", never)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", never)
    with pytest.raises(FileNotFoundError) as error:
        feature_network(name)
    for words in (str(nothing_local / module.FILES[name]), "weights=path", "vgg-small-tissue"):
        assert words in str(error.value)
    (nothing_local / module.FILES[name]).write_bytes(b"half a file")
    with pytest.raises(ValueError, match="damaged"):
        feature_network(name)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(suffix, tmp_path):
    with seeded(3):
        wanted = VGG(VGG16, ("conv1_2", "relu1_1"))
    file = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(wanted.state_dict(), file)
    else:
        write_tensors(file, wanted.state_dict())
    found = feature_network("vgg16", ("conv1_2", "relu1_1"), file)
    assert found.name == "vgg16[conv1_2, relu1_1]" and not found.training
    assert not any(p.requires_grad for p in found.parameters())
    x = torch.rand(1, 1, 9, 8)
    for a, b in zip(found(x), wanted(x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"torchvision's vgg16; features\.5\.weight is not in it"):
        feature_network("vgg16", ("conv2_1",), file)


def test_auto_takes_vgg_only_where_its_weights_are(nothing_local, monkeypatch):
    assert feature_network("auto").name.startswith("vgg-small-tissue[")
    file = nothing_local / "vgg.pth"
    with torch.random.fork_rng(devices=[]):
        torch.save(VGG(VGG19, ("conv1_1",)).state_dict(), file)
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(module.FILES, "vgg19", f"vgg19-{digits}.pth")
    file.rename(nothing_local / f"vgg19-{digits}.pth")
    assert feature_network("auto", ("relu1_1",)).name == "vgg19[relu1_1]"


def test_inception_is_asked_in_its_way():
    class Stub(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 1000)

        def forward(self, x):
            assert x.shape[1:] == (3, 299, 299)
            return self.fc(x.mean((2, 3)))

    x = torch.rand(2, 1, 40, 30)
    (found,) = module.Inception(Stub())(x)
    assert found.shape == (2, 3, 1, 1)
    # antialiased resizing keeps means but for the border
    torch.testing.assert_close(found[:, 0, 0, 0], x.mean((1, 2, 3)), rtol=0.05, atol=0)


def test_the_shipped_network_is_small_whole_and_has_learned():
    file = ZOO / "features-tissue.safetensors"
    assert file.stat().st_size < 1_000_000
    card = json.loads(file.with_suffix(".json").read_text())
    assert card["name"] == "vgg-small-tissue" and card["licence"] == "BSD-3-Clause"
    assert card["training"]["seconds"] > 0 and card["training"]["command"]
    assert set(card["scores"]) == {f"accuracy_{task}" for task in card["classes"]}
    for task, classes in card["classes"].items():
        assert card["scores"][f"accuracy_{task}"] > 1.5 / len(classes)
    assert module.shipped()[0] == card


def test_its_layers_are_the_nearest_there_are():
    network = feature_network("vgg-small-tissue", ("conv5_4", "relu3_1", "conv1_2"))
    assert network.name == "vgg-small-tissue[conv5_2, relu3_1, conv1_2]"
    assert [h.shape[1:] for h in network(torch.zeros(2, 3, 32, 48))] == [
        (64, 2, 3),
        (48, 8, 12),
        (12, 32, 48),
    ]
    assert feature_network("vgg-small-tissue").layers == FIRST
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for a, b in zip(network(x), network(x.expand(-1, 3, -1, -1)), strict=True):
        # the mean of three equal numbers rounds, and ten layers multiply it
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="VGG layers"):
        feature_network("vgg-small-tissue", ("conv7_1",))


def test_it_sees_noise_in_heads_it_was_never_shown():
    classify = TissueClassifier("noise")
    image = random_head(987_654).rasterise((128, 128), 220 / 128, 2) / 0.0206
    image = (image.float() - 1).clamp(-1, 1)[32:96, 32:96]
    noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    shown = torch.stack([(image + level * noise).clamp(-1, 1) for level in classify.classes])[:, None]
    p = classify(shown)
    torch.testing.assert_close(p.sum(1), torch.ones(4), rtol=1e-5, atol=0)
    level = p @ torch.tensor(classify.classes)
    assert bool((level.diff() > 0).all())
    with pytest.raises(ValueError, match="one of source"):
        TissueClassifier("age")


def test_a_damaged_file_is_told(monkeypatch, tmp_path):
    for suffix in (".json", ".safetensors"):
        content = bytearray((ZOO / f"features-tissue{suffix}").read_bytes())
        if suffix == ".safetensors":
            content[-5] ^= 1
        (tmp_path / f"features-tissue{suffix}").write_bytes(bytes(content))
    monkeypatch.setattr(module, "ZOO", tmp_path)
    with pytest.raises(ValueError, match="not those of their card"):
        feature_network("vgg-small-tissue")


class Moments(nn.Module):
    """Two layers of features without weights."""

    def forward(self, x):
        assert x.shape[1] == 1
        h = torch.cat([x, x**2, x.roll(1, -1) * x], 1)
        return [h, torch.nn.functional.avg_pool2d(h[:, 1:], 2)]


def pair(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, *shape, generator=generator, dtype=torch.float64).unbind()


X, T = pair(3, 1, 6, 8)
U, V = ([h.numpy() for h in Moments()(a)] for a in (X, T))


def grams(h):
    return np.einsum("ncij,ndij->ncd", h, h)


FORMULAS = {
    "perceptual": ({}, lambda u, v: np.abs(u - v).mean()),
    "perceptual, squared": ({"p": 2}, lambda u, v: ((u - v) ** 2).mean()),
    "content": ({}, lambda u, v: ((u - v) ** 2).mean()),
    "vgg": ({}, lambda u, v: ((u - v) ** 2).mean()),
    "style": (
        {},
        lambda u, v: (((grams(u) - grams(v)) / u[0].size) ** 2).sum((1, 2)).mean() / (4 * u.shape[1] ** 2),
    ),
    "style, gatys": (
        {"scaling": "gatys"},
        # as in the paper: Gram matrices without divisor, 1/(4 N² M²)
        lambda u, v: (
            ((grams(u) - grams(v)) ** 2).sum((1, 2)).mean() / (4 * u.shape[1] ** 2 * u[0, 0].size ** 2)
        ),
    ),
    "style, johnson": (
        {"scaling": "johnson"},
        lambda u, v: ((grams(u) / u[0].size - grams(v) / u[0].size) ** 2).sum((1, 2)).mean(),
    ),
    "domain-invariant": (
        {},
        lambda u, v: nn.functional.mse_loss(
            *(nn.functional.instance_norm(torch.tensor(h), eps=1e-5) for h in (u, v))
        ).item(),
    ),
    "feature-distance": (
        {},
        lambda u, v: (
            ((u / np.sqrt((u**2).sum(1, keepdims=True)) - v / np.sqrt((v**2).sum(1, keepdims=True))) ** 2)
            .sum(1)
            .mean()
        ),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_losses_of_features(name):
    options, formula = FORMULAS[name]
    loss = LOSSES[name.split(",")[0]](Moments(), weights=(2.0, 0.5), **options)
    expected = 2 * formula(U[0], V[0]) + 0.5 * formula(U[1], V[1])
    # the 1e-10 under the root of the feature distance
    assert float(loss(X, T)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", sorted({name.split(",")[0] for name in FORMULAS}))
def test_planes_windows_and_networks_that_are_no_part_of_a_loss(name):
    x, t = pair(2, 3, 4, 6, 8)
    loss = LOSSES[name](Moments(), reduction="none")
    planes = [loss(x[:, c : c + 1, z], t[:, c : c + 1, z]) for c in range(3) for z in range(4)]
    torch.testing.assert_close(loss(x, t), torch.stack(planes).mean(0), rtol=1e-10, atol=1e-14)
    shifted = LOSSES[name](Moments(), window=(-1000.0, 3000.0), reduction="none")
    torch.testing.assert_close(shifted(2000 * x + 1000, 2000 * t + 1000), loss(x, t))
    network = nn.Conv2d(1, 2, 3)
    held = LOSSES[name](network)
    assert held.network is network and not held.state_dict() and not list(held.parameters())


def test_colour_is_one_image():
    class Colour(nn.Module):
        def forward(self, x):
            assert x.shape[1] == 3
            return [x]

    x, t = pair(2, 3, 6, 8)
    assert float(LOSSES["content"](Colour(), colour=True)(x, t)) == pytest.approx(
        float((x - t).square().mean())
    )
    with pytest.raises(ValueError, match=r"\(n, 3,"):
        LOSSES["content"](Colour(), colour=True)(x[:, :2], t[:, :2])


def test_precisions():
    x, t = pair(2, 1, 32, 32)
    loss = LOSSES["vgg"]("vgg-small-tissue")
    assert loss.network.name == "vgg-small-tissue[conv5_2]"
    exact = loss(x, t)
    for dtype, near in ((torch.float32, 1e-4), (torch.bfloat16, 0.05)):
        found = loss(x.to(dtype), t.to(dtype))
        assert found.dtype == dtype
        # bfloat16 has three digits; inside it is float32
        torch.testing.assert_close(found.double(), exact, rtol=near, atol=0)
    torch.testing.assert_close(loss(x, t), exact, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: feature_network("vgg"), "expected 'auto', 'vgg19'"),
        (lambda: feature_network("inception", ("conv1_1",)), "layers"),
        (lambda: feature_network("vgg-small-tissue", weights="x.pth"), "shipped"),
        (lambda: LOSSES["content"](Moments(), weights=(-1.0,)), "weights"),
        (lambda: LOSSES["content"](Moments(), weights=(1.0,))(X, T), "one per layer"),
        (lambda: LOSSES["content"](Moments(), window=(1.0, 1.0)), "window"),
        (lambda: LOSSES["content"](Moments(), ("conv1_1",)), "layers"),
        (lambda: LOSSES["content"](Moments())(X[..., 0], T[..., 0]), r"\[nz,\] ny, nx"),
        (lambda: LOSSES["style"](Moments(), scaling="none"), "scaling"),
        (lambda: LOSSES["perceptual"](Moments(), p=0.1), "p: expected"),
        (lambda: LOSSES["domain-invariant"]("vgg-small-tissue")(*pair(1, 1, 16, 16)), "larger images"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_where_torchvision_is_missing(nothing_local, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models", None)
    monkeypatch.setattr(module, "_found", lambda *_: SimpleNamespace())
    with pytest.raises(ImportError, match="pip install torchvision"):
        feature_network("inception")


def test_its_distance_grows_with_noise_and_with_blur():
    heads = torch.stack([random_head(10**6 + k).rasterise((96, 96), 220 / 96, 2) / 0.0206 for k in range(3)])
    heads = (heads.float() - 1).clamp(-1, 1)[:, None]
    noise = torch.randn(heads.shape, generator=torch.Generator().manual_seed(0))
    loss = LOSSES["feature-distance"]("vgg-small-tissue", reduction="none")
    noisy = torch.stack([loss(heads + level * noise, heads) for level in (0.02, 0.06, 0.18)])
    kernels = [nn.functional.interpolate(heads[..., ::k, ::k], (96, 96), mode="bilinear") for k in (2, 4, 8)]
    coarse = torch.stack([loss(image, heads) for image in kernels])
    for values in (noisy, coarse):
        assert bool((values > 0).all()) and bool((values.diff(dim=0) > 0).all())
