"""Numbers of weights and receptive fields of the published networks, on the meta device."""

import math

import pytest
import torch
from torch import nn

import priors.networks as networks
from priors.networks import count, receptive_field


def made(name, *arguments, **keywords):
    with torch.device("meta"):
        return getattr(networks, name)(*arguments, **keywords)


def weights(network):
    """Without biases and normalisations, as some papers count."""
    return sum(p.numel() for p in network.parameters() if p.ndim > 1)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("REDCNN", {}, 1_848_865),
        ("CNN10", {}, 24_513),
        ("WGANVGGGenerator", {}, 56_097),
        ("SRCNN", {}, 8_129),
        ("SRCNN", {"middle": 5}, 57_281),
        # layers as in the papers, each in·out·kernel² + out
        ("ESPCN", {"scale": 3}, 25 * 64 + 64 + 9 * 64 * 32 + 32 + 9 * 32 * 9 + 9),
        ("SMGANGenerator", {}, 27 * (32 + 6 * 32 * 32 + 32) + 7 * 32 + 1),
    ],
)
def test_exact_counts(name, arguments, expected):
    assert count(made(name, **arguments)) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "millions"),
    [
        ("UNetGenerator", {}, "54.41"),
        ("ResNetGenerator", {}, "11.37"),
        ("PatchDiscriminator", {"in_channels": 2}, "2.76"),
        ("PatchDiscriminator", {}, "2.76"),
        ("CasNet", {}, "326.42"),
        # the first U-Net, of one channel to two classes
        (
            "EncoderDecoder",
            {"out_channels": 2, "down": "max", "up": "transposed"},
            "31.03",
        ),
    ],
)
def test_counts_in_millions(name, arguments, millions):
    assert f"{count(made(name, **arguments)) / 1e6:.2f}" == millions


def test_weights_of_red_wgan_and_automap():
    assert f"{weights(made('REDWGANGenerator')) / 1e6:.2f}" == "2.32"
    automap = made("AUTOMAP")
    full = sum(m.weight.numel() for m in automap.full if isinstance(m, nn.Linear))
    assert full == 2 * 128**4 + 128**4 and f"{full / 1e9:.3f}" == "0.805"
    # what is left are the convolutions
    assert weights(automap) - full == 25 * 64 + 25 * 64 * 64 + 49 * 64


def test_every_network_has_its_defaults_and_a_name():
    with torch.device("meta"):
        for name in set(networks.__all__) - {"Critic", "ImageDiscriminator", "DAGANDiscriminator", *SMALL}:
            assert count(getattr(networks, name)()) > 0
    assert count(made("Critic", (8, 8))) and count(made("DAGANDiscriminator", (256, 256)))
    with pytest.raises(AttributeError, match="VGG20"):
        networks.VGG20


SMALL = {"count", "seeded", "receptive_field"}


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_patch_discriminators_see_the_papers_patches(layers, field):
    assert receptive_field(made("PatchDiscriminator", layers=layers, base=2)) == field
    D = networks.PatchDiscriminator(layers=layers, base=2, norm="none").double()
    assert seen(D, 96) == field


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("CNN10", {}, 1 + 8 + 2 + 4),
        ("SRCNN", {}, 1 + 8 + 4),
        ("WGANVGGGenerator", {}, 1 + 8 * 2),
        ("REDCNN", {"width": 3}, 1 + 10 * 4),
        # without normalisation, which sees the whole image
        ("ResNetGenerator", {"base": 2, "blocks": 1, "norm": "none"}, None),
        ("EncoderDecoder", {"channels": (2, 4, 4), "up": "linear"}, None),
        ("EncoderDecoder", {"channels": (2, 4, 4), "up": "nearest", "down": "avg"}, None),
        ("EncoderDecoder", {"channels": (2, 4, 4), "up": "transposed", "skips": "none"}, None),
        ("EncoderDecoder", {"channels": (2, 4, 4), "up": "shuffle", "skips": "add"}, None),
        ("UNet", {"channels": (2, 4, 4)}, None),
        ("IDCGANGenerator", {"base": 2, "growth": 2, "layers": 2, "depth": 2, "norm": "none"}, None),
        ("MultiScaleDiscriminator", {"base": 2, "layers": 2, "scales": 3}, None),
        ("KangGenerator", {"width": 2, "modules": 2, "norm": "none"}, 1 + 2 * (1 + 6 + 2)),
        ("ESPCN", {}, None),
    ],
)
def test_receptive_fields_are_what_gradients_reach(name, arguments, field):
    """Which inputs change an output, at every phase of the up-sampling."""
    network = getattr(networks, name)(**arguments).double()
    found = receptive_field(network)
    assert field in (None, found)
    assert seen(network, 4 * math.ceil((found + 12) / 4)) == found


def seen(network, side):
    """Most input pixels along a row that any output around the middle depends on, by positive weights."""
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(0.1) if p.ndim > 1 else p.fill_(1.0 if p.ndim else 0.1)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU | nn.LeakyReLU | nn.Tanh | nn.GroupNorm | nn.MaxPool2d):
                # a saturated tanh lets no gradient through, and normalisation everything
                setattr(
                    module, name, nn.Identity() if not isinstance(child, nn.MaxPool2d) else nn.AvgPool2d(2)
                )
    x = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    y = network.eval()(x)
    y = y.flatten(1, -3)[0, -1]  # of several scales the coarsest
    middle = y.shape[-1] // 2
    widest = 0
    for column in range(middle, min(middle + 8, y.shape[-1])):
        gradient = torch.autograd.grad(y[y.shape[-2] // 2, column], x, retain_graph=True)[0]
        columns = gradient[0, 0].abs().amax(0).nonzero()
        widest = max(widest, int(columns.max() - columns.min()) + 1)
    return widest


def test_receptive_field_of_chains_and_what_it_refuses():
    assert receptive_field([(3, 1), (3, 1), (3, 1)]) == 7
    assert receptive_field([(3, 1, 1), (3, 1, 2), (3, 1, 4)]) == 15
    assert receptive_field([(4, 2)] * 3) == 22
    assert receptive_field([nn.Conv3d(1, 1, (1, 3, 5))], axis=-2) == 3
    assert receptive_field([]) == 1
    with pytest.raises(ValueError, match="whole image"):
        receptive_field(made("ImageDiscriminator", (8, 8)))
    with pytest.raises(ValueError, match="attention"):
        receptive_field(made("Uformer"))


def test_u_net_256_reaches_one_pixel():
    """Its innermost scale is one pixel of 256²: every output sees beyond the image."""
    network = made("UNetGenerator")
    assert receptive_field(network) > 256
    with torch.device("meta"):
        assert network.down[0](torch.empty(1, 1, 256, 256)).shape == (1, 64, 128, 128)
        h = torch.empty(1, 1, 256, 256)
        for down in network.down:
            h = down(h)
        assert h.shape == (1, 512, 1, 1)
        assert network(torch.empty(2, 1, 256, 256)).shape == (2, 1, 256, 256)
        assert made("PatchDiscriminator", 2)(torch.empty(1, 2, 256, 256)).shape == (1, 1, 30, 30)
