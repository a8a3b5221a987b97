"""What goes in and comes out of the networks, and what their bricks do."""

import copy
import pickle

import pytest
import torch
from torch import nn

import priors.networks as networks
from priors.networks.blocks import (
    InstanceNorm,
    PixelShuffle,
    block,
    extended,
    initialise,
    normalisation,
    upsampling,
)
from priors.networks.dropout import dropping
from priors.networks.progressive import pixel_norm, with_spread
from priors.networks.seeds import seeded
from priors.networks.spectral import Spectral
from priors.networks.uformer import WindowAttention

SMALL = {
    "CNN10": {"channels": (4, 3)},
    "CasNet": {"blocks": 2, "base": 2, "depth": 3},
    "DAGANGenerator": {"down": (4, 8, 8), "up": (8, 4, 4)},
    "EncoderDecoder": {"channels": (3, 4, 5), "skips": ("add", "concat"), "norm": "layer", "residual": True},
    "FBPConvNet": {"channels": (3, 4)},
    "IDCGANGenerator": {"base": 4, "growth": 2, "layers": 2, "depth": 2},
    "KangGenerator": {"width": 4, "modules": 2},
    "REDCNN": {"width": 4},
    "REDWGANGenerator": {"widths": (2, 3, 4)},
    "ResNetGenerator": {"base": 2, "blocks": 2},
    "SMGANGenerator": {},
    "SRCNN": {},
    "SRResNet": {"scale": 1, "base": 4, "blocks": 2},
    "UNetGenerator": {"base": 2, "depth": 3, "norm": "instance", "residual": True},
    "VAEGenerator": {"base": 2, "blocks": 1},
    "VAGANGenerator": {"channels": (2, 3, 4)},
    "WGANVGGGenerator": {"width": 3, "layers": 3},
    "WolterinkGenerator": {"channels": (2, 3)},
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_images_keep_their_shape_planes_and_volumes_odd_and_small(name):
    for dim, shape in ((2, (7, 5)), (2, (22, 3)), (3, (3, 9, 6))):
        with seeded(0):
            a = getattr(networks, name)(dim=dim, **SMALL[name])
        with seeded(0):
            b = getattr(networks, name)(dim=dim, **SMALL[name])
        x = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
        y = a.eval()(x)
        assert y.shape == x.shape and bool(torch.isfinite(y).all())
        # the seed decides the weights; in evaluation an image is alone
        torch.testing.assert_close(b.eval()(x[:1]), y[:1], rtol=1e-4, atol=1e-6)
        assert all(v.is_floating_point() for v in a.state_dict().values())
        a.train()(x).square().sum().backward()
        assert all(p.grad is not None for p in a.parameters())


def test_uformer_any_size_starts_as_the_identity_and_learns():
    with seeded(0):
        network = networks.Uformer(base=4, depths=(2, 1, 1), window=4)
    x = torch.randn(2, 1, 13, 18)
    assert torch.equal(network(x), x)
    nn.init.normal_(network.last.weight)
    y = network(x)
    torch.testing.assert_close(network(x[1:]), y[1:], rtol=1e-4, atol=1e-5)
    y.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())


def test_attention_stays_in_its_window_and_shifted_ones_do_not_wrap_around():
    for shift in (False, True):
        with seeded(0):
            attention = WindowAttention(4, 2, window=4, shift=shift).double()
        x = torch.randn(1, 8, 12, 4, dtype=torch.float64, requires_grad=True)
        y = attention(x)
        assert y.shape == x.shape
        reach = torch.autograd.grad(y[0, 1, 1].sum(), x, retain_graph=True)[0][0].abs().sum(-1) > 0
        expected = torch.zeros(8, 12, dtype=torch.bool)
        # the window of pixel (1, 1): rows and columns 0 … 3, or, moved by two, 0 and 1
        expected[: 2 if shift else 4, : 2 if shift else 4] = True
        assert torch.equal(reach, expected)
        reach = torch.autograd.grad(y[0, 3, 5].sum(), x)[0][0].abs().sum(-1) > 0
        expected = torch.zeros(8, 12, dtype=torch.bool)
        expected[2:6, 2:6] = shift
        expected[:4, 4:8] |= not shift
        assert torch.equal(reach, expected)


def test_window_attention_is_what_torch_computes_for_one_window():
    """One window without a bias is multi-head attention of its pixels."""
    with seeded(0):
        mine, torchs = WindowAttention(6, 2, window=3).double(), nn.MultiheadAttention(6, 2, batch_first=True)
    torchs = torchs.double()
    nn.init.zeros_(mine.bias)
    torchs.load_state_dict(
        {
            "in_proj_weight": mine.qkv.weight,
            "in_proj_bias": mine.qkv.bias,
            "out_proj.weight": mine.out.weight,
            "out_proj.bias": mine.out.bias,
        }
    )
    x = torch.randn(2, 3, 3, 6, dtype=torch.float64)
    pixels = x.flatten(1, 2)
    torch.testing.assert_close(mine(x).flatten(1, 2), torchs(pixels, pixels, pixels)[0])


@pytest.mark.parametrize("dim", [2, 3])
def test_discriminators_give_verdicts_and_features(dim):
    shape = (16,) * dim
    x = torch.randn(3, 2, *shape)
    patch = networks.PatchDiscriminator(2, base=2, layers=1, dim=dim)
    assert patch(x).shape == (3, 1, *(6,) * dim) and [len(f[0]) for f in patch.features(x)] == [2, 4]
    scales = networks.MultiScaleDiscriminator(2, base=2, layers=2, scales=2, dim=dim)
    assert scales(x).shape == (3, 1, 2, *(4,) * dim) and len(scales.features(x)) == 4
    whole = networks.ImageDiscriminator(shape, 2, channels=(2, 3, 4), hidden=5, spectral=True)
    assert whole(x).shape == (3, 1) and [f.shape[-1] for f in whole.features(x)] == [16, 8, 8]
    one = networks.ImageDiscriminator(shape, 2, channels=(2, 3), strides=(2, 2), kernel=4, hidden=None)
    assert one(x).shape == (3, 1)
    dagan = networks.DAGANDiscriminator(shape, 2, base=4, depth=3, dim=dim)
    assert dagan(x).shape == (3, 1) and len(dagan.features(x)) == 4
    with pytest.raises(ValueError, match="made for"):
        whole(x[..., :8])
    with pytest.raises(ValueError, match="shape"):
        networks.DAGANDiscriminator((16, 16), depth=5)


def test_images_too_small_to_be_judged_are_told():
    """One pixel more a side than what is refused gives a verdict."""
    for judge, least in (
        (networks.PatchDiscriminator(base=2), 24),
        (networks.PatchDiscriminator(base=2, layers=1), 6),
        (networks.MultiScaleDiscriminator(base=2, layers=2, scales=2), 7),
    ):
        assert judge(torch.rand(1, 1, least, 30)).numel() > 0
        with pytest.raises(ValueError, match="too small"):
            judge(torch.rand(1, 1, least - 1, 30))


def test_the_mean_score_of_several_scales_is_the_mean_of_their_means():
    D = networks.MultiScaleDiscriminator(base=2, layers=2, scales=3)
    scores = D(torch.randn(2, 1, 32, 32))
    assert scores.shape == (2, 1, 3, 8, 8)
    coarse = scores[:, :, 1]  # every verdict four times
    assert torch.equal(coarse, coarse[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 5, 4, 2, 1), nn.Conv3d(2, 3, 3), nn.Linear(6, 4)], ids=["2d", "3d", "full"]
)
def test_spectral_norm_has_largest_singular_value_1(layer):
    with seeded(0):
        initialise(layer)
        spectral = Spectral(layer).double()
    for _ in range(40):
        spectral.settle()
    W = layer.weight.detach().flatten(1)
    x = torch.randn(
        2, *((6,) if W.ndim == layer.weight.ndim else (layer.in_channels, *(7,) * (layer.weight.ndim - 2)))
    )
    x = x.double()
    sigma = torch.linalg.matrix_norm(W, 2)
    plain = copy.deepcopy(layer)
    with torch.no_grad():
        plain.weight /= sigma
    # 615 steps of the power iteration
    torch.testing.assert_close(spectral(x), plain(x), rtol=1e-8, atol=1e-8)
    again = pickle.loads(pickle.dumps(spectral.eval()))
    assert torch.equal(again(x), spectral(x))


def test_spectral_norm_moves_only_in_training_and_resumes():
    with seeded(0):
        D = networks.PatchDiscriminator(base=4, layers=1, spectral=True)
    # near 1 from the start
    for m in D.modules():
        if isinstance(m, Spectral):
            (u, v), W = m._step(), m.layer.weight.detach().flatten(1)
            # 16 steps of the power iteration, from below
            assert 0.9 < float(u @ W @ v / torch.linalg.matrix_norm(W, 2)) <= 1 + 1e-6
    x, held = torch.randn(1, 1, 16, 16), copy.deepcopy(D.state_dict())
    D.eval()(x)
    assert all(torch.equal(v, held[k]) for k, v in D.state_dict().items())
    D.train()
    first = D(x)
    other = networks.PatchDiscriminator(base=4, layers=1, spectral=True)
    other.load_state_dict(held)
    assert torch.equal(other(x), first)
    with pytest.raises(ValueError, match="Spectral"):
        Spectral(nn.ReLU())


def test_pixel_shuffle_is_torchs_and_its_volume_kind_inverts():
    x = torch.randn(2, 18, 4, 5)
    assert torch.equal(PixelShuffle(3)(x), nn.PixelShuffle(3)(x))
    v = torch.randn(2, 16, 3, 2, 4)
    y = PixelShuffle(2)(v)
    assert y.shape == (2, 2, 6, 4, 8)
    # voxel (2a+i, 2b+j, 2c+k) of channel m is channel 8m+4i+2j+k
    for number in range(8):
        i, j, k = number >> 2 & 1, number >> 1 & 1, number & 1
        assert torch.equal(y[:, :, i::2, j::2, k::2], v[:, number::8])


def test_normalisations_are_torchs():
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(InstanceNorm(4)(x), nn.functional.instance_norm(x))
    volume = torch.randn(3, 4, 6, 5, 2)
    torch.testing.assert_close(
        normalisation("layer", 4, 3)[0](volume), nn.functional.layer_norm(volume, volume.shape[1:])
    )
    one = torch.randn(2, 4, 1, 1)
    assert torch.equal(InstanceNorm(4)(one), one)
    for arguments in ({"norm": "whitening"}, {"activation": "sine"}, {"dim": 4}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            block(1, 1, **arguments)


def test_extension_repeats_the_edge():
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    y = extended(x, 4, least=5)
    assert y.shape == (1, 1, 8, 8) and torch.equal(y[..., :2, :3], x) and bool((y[..., 2:, 3:] == 5).all())
    assert extended(x, 1) is x


def test_dropout_of_pix2pix_is_drawn_from_what_is_given():
    with seeded(0):
        network = networks.UNetGenerator(base=1, depth=6, norm="instance")
    x = torch.randn(1, 1, 64, 64)
    plain = network(x)
    assert torch.equal(network(x), plain)
    draws = []
    for seed in (0, 0, 1):
        with dropping(network, torch.Generator().manual_seed(seed)):
            draws.append(network(x))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(network(x), plain)


@pytest.mark.parametrize(("scale", "dim"), [(2, 2), (3, 2), (4, 2), (2, 3)])
def test_super_resolution_enlarges(scale, dim):
    x = torch.randn(1, 1, *(5, 4, 3)[:dim])
    expected = (1, 1, *(scale * n for n in x.shape[2:]))
    assert networks.SRResNet(scale=scale, base=4, blocks=1, dim=dim)(x).shape == expected
    assert networks.ESPCN(scale=scale, dim=dim)(x).shape == expected
    with pytest.raises(ValueError, match="scale"):
        networks.SRResNet(scale=6)


def test_dcgan_sizes():
    z = torch.randn(3, 7)
    x = networks.DCGANGenerator(latent=7, size=16, base=2)(z)
    assert x.shape == (3, 1, 16, 16) and bool((x.abs() <= 1).all())
    D = networks.DCGANDiscriminator(size=16, base=2)
    assert D(x).shape == (3, 1) and [f.shape[-1] for f in D.features(x)] == [8, 4]
    with torch.device("meta"):
        G = networks.DCGANGenerator()
    widths = [m.in_channels for m in G.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert widths == [100, 1024, 512, 256, 128]
    with pytest.raises(ValueError, match="size"):
        networks.DCGANGenerator(size=24)


def test_progressive_pair_fades_in_and_keeps_its_laws():
    with seeded(0):
        G = networks.ProgressiveGenerator(latent=5, size=16, widest=6, product=48).double()
        D = networks.ProgressiveDiscriminator(size=16, widest=6, product=48).double()
    assert G.widths == [6, 6, 3]
    z = torch.randn(4, 5, dtype=torch.float64)
    for level, side in enumerate((4, 8, 16)):
        G.grown(level)
        D.grown(level)
        x = G(z)
        assert x.shape == (4, 1, side, side) and D(x).shape == (4, 1)
    # a scale with alpha = 0 is the one before, its pixels repeated, and its discriminator's verdict the same
    G.grown(1)
    D.grown(1)
    small, verdict = G(z), D(G(z))
    G.grown(2, alpha=0.0)
    D.grown(2, alpha=0.0)
    torch.testing.assert_close(G(z), small.repeat_interleave(2, -1).repeat_interleave(2, -2))
    torch.testing.assert_close(D(G(z)), verdict)
    h = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(
        pixel_norm(h).square().mean(1), torch.ones(2, 3, 3, dtype=torch.float64), atol=1e-6, rtol=0
    )
    same = with_spread(h[:1].expand(4, -1, -1, -1))
    # √1e-8 is what no spread gives
    torch.testing.assert_close(same[:, -1], torch.full_like(same[:, -1], 1e-4))
    for level, alpha in ((3, 1.0), (0, 2.0)):
        with pytest.raises(ValueError, match="grown"):
            G.grown(level, alpha)
    with pytest.raises(ValueError, match="side"):
        D(torch.zeros(1, 1, 8, 8, dtype=torch.float64))


def test_what_encoder_decoders_are_made_of():
    x = torch.randn(1, 1, 8, 8)
    network = networks.EncoderDecoder(channels=(2, 4), residual=True)
    assert torch.equal(network(x), x)
    for down in ("stride", "max", "avg"):
        for up in ("linear", "nearest", "transposed", "shuffle"):
            assert networks.EncoderDecoder(1, 2, (2, 4, 4), "none", down=down, up=up)(x).shape == (1, 2, 8, 8)
    for wrong in (
        {"skips": "cat"},
        {"skips": ("add",)},
        {"up": "bicubic"},
        {"down": "sum"},
        {"channels": ()},
    ):
        with pytest.raises(ValueError, match="EncoderDecoder"):
            networks.EncoderDecoder(**{"channels": (2, 4, 4), **wrong})
    with pytest.raises(ValueError, match="residual"):
        networks.EncoderDecoder(1, 2, residual=True)
    assert upsampling(2, dim=3)(torch.randn(1, 1, 2, 2, 2)).shape == (1, 1, 4, 4, 4)
