import pytest
import torch

from priors import AdversarialRegulariser
from priors.networks.automap import Automap
from priors.networks.channels import Convolutions, Standardised, on_planes
from priors.networks.critic import Critic
from priors.networks.primal_dual import PrimalDual
from priors.networks.seeds import count, seeded
from priors.networks.unet import UNet


def weights(network):
    return torch.cat([p.flatten() for p in network.parameters()])


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 16), (17, 33)])
@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_unet_any_size(size, norm):
    network = UNet(2, 3, channels=(4, 6, 8), skips=(1, 0), norm=norm).eval()
    assert network(torch.randn(2, 2, *size)).shape == (2, 3, *size)


def test_unet_residual_starts_as_the_identity_and_sees_far():
    with seeded(0):
        network = UNet(channels=(4, 8, 8), residual=True).double()
    x = torch.randn(1, 1, 19, 21, dtype=torch.float64)
    assert torch.equal(network(x), x)
    torch.nn.init.ones_(network.last.weight)
    x.requires_grad_()
    reach = torch.autograd.grad(network(x)[0, 0, 9, 10], x)[0][0, 0] != 0
    assert reach[0, 0] and reach[-1, -1]


def test_unet_image_alone_as_in_a_batch():
    with seeded(0):
        network = UNet(channels=(4, 8), norm="group").double().eval()
    x = torch.randn(3, 1, 10, 9, dtype=torch.float64) * torch.tensor([1.0, 50.0, 0.1]).view(3, 1, 1, 1)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "arguments", [{"channels": (4, 8), "skips": (1, 1)}, {"channels": ()}, {"norm": "layer"}]
)
def test_unet_refuses(arguments):
    with pytest.raises(ValueError, match="UNet"):
        UNet(**{"channels": (4, 8), **arguments})


@pytest.mark.parametrize("norm", ["none", "group", "instance", "batch"])
def test_convolutions_normalise_and_keep_floating_point_numbers_only(norm):
    with seeded(0):
        a, b = (Convolutions(2, 3, 4, layers=4, norm=norm, activation="leaky", last=0.5) for _ in range(2))
    x = torch.randn(5, 2, 6, 7) * 3 + 1
    a.train()(x)
    saved = a.state_dict()
    assert all(v.is_floating_point() for v in saved.values())
    b.load_state_dict(dict(saved))
    assert torch.equal(a.eval()(x), b.eval()(x)) and a(x).shape == (5, 3, 6, 7)
    # in evaluation an image is alone, whatever the normalisation
    torch.testing.assert_close(a(x[1:2]), a(x)[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "ndim"), [((2, 3, 5, 4), 2), ((2, 3, 6, 5, 4), 2), ((2, 3, 2, 6, 5, 4), 2), ((2, 3, 6, 7), 1)]
)
@pytest.mark.parametrize("is_complex", [False, True])
def test_networks_on_planes(shape, ndim, is_complex):
    """The identity comes back; every plane is treated alone and alike."""
    dtype = torch.complex128 if is_complex else torch.float64
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert torch.equal(on_planes(torch.nn.Identity(), x, ndim), x)
    channels = 6 if is_complex else 3
    net = Convolutions(channels, channels, 4).double()
    out = on_planes(net, x, ndim)
    assert out.shape == x.shape and out.dtype == x.dtype
    if len(shape) > 4 or ndim == 1:
        torch.testing.assert_close(on_planes(net, x[:, :, 1:2], ndim), out[:, :, 1:2])
    torch.testing.assert_close(on_planes(net, x[1:], ndim), out[1:])


def test_convolutions_refuse():
    with pytest.raises(ValueError, match="activation"):
        Convolutions(1, 1, activation="sine")
    with pytest.raises(ValueError, match="norm"):
        Convolutions(1, 1, norm="layer")


def test_standardised_networks_follow_scale_and_offset():
    with seeded(0):
        network = Standardised(UNet(channels=(4, 8))).double()
    x = torch.randn(2, 1, 9, 8, dtype=torch.float64)
    # ε = 1e-12 beside a variance of 1
    torch.testing.assert_close(network(50 * x + 7), 50 * network(x) + 7, rtol=1e-6, atol=1e-6)


def test_learned_primal_dual_has_the_papers_size():
    network = PrimalDual(iterations=10, channels=5, hidden=32)
    convolutions = sum(count(m) for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    assert convolutions == 251_940


def test_automap_at_128_has_0_8_billion_weights():
    with torch.device("meta"):
        network = Automap(n_data=2 * 128**2, shape=(128, 128))
    assert sum(m.weight.numel() for m in network.full if isinstance(m, torch.nn.Linear)) == 805_306_368


def test_automap_low_rank_has_the_rank():
    with seeded(0):
        network = Automap(n_data=30, shape=(4, 5), hidden=17, features=3, rank=2).double()
    first, second = network.full[:2]
    assert torch.linalg.matrix_rank(second.weight @ first.weight) == 2
    image, features = network(torch.randn(6, 30, dtype=torch.float64))
    assert image.shape == (6, 4, 5) and features.shape == (6, 3, 4, 5)


def test_critic_layers_as_in_the_paper():
    network = Critic((128, 128))
    assert [m.stride[0] for m in network.convolutions if hasattr(m, "stride")] == [1, 1, 2, 2, 2, 2]
    assert network.full[0].in_features == 128 * 8 * 8
    assert Critic((7, 9), (2, 3), (2, 2), 4)(torch.zeros(5, 7, 9)).shape == (5,)


def test_critic_of_patches_does_not_care_where_they_lie():
    with seeded(0):
        local, full = (Critic((24, 24), (3, 4), (1, 2), hidden).double() for hidden in (None, 8))
    x = torch.zeros(2, 24, 24, dtype=torch.float64)
    x[0, 8:12, 8:13] = x[1, 12:16, 10:15] = 1.0
    a, b = local(x)
    torch.testing.assert_close(a, b)
    assert abs(float(full(x).detach().diff())) > 1e-6 and count(local) < count(full)


def test_seed_decides_weights_and_leaves_the_global_generator():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeded(0):
        a = UNet(channels=(4, 8))
    with seeded(0):
        b = UNet(channels=(4, 8))
    with seeded(1):
        c = UNet(channels=(4, 8))
    assert torch.equal(weights(a), weights(b)) and not torch.equal(weights(a), weights(c))
    assert torch.equal(torch.rand(3), expected)


def test_adversarial_regulariser_gradient_and_scale():
    f, shape = AdversarialRegulariser.examples()[1]
    f = f.double()
    x = torch.randn(2, 3, *shape, dtype=torch.float64) * f.scale
    assert f(x).shape == (2, 3)
    z = x.clone().requires_grad_()
    torch.testing.assert_close(f.grad(x), torch.autograd.grad(f(z).sum(), z)[0])
    # s·Ψ(x/s) has the slope of Ψ, in any unit
    plain = AdversarialRegulariser(f.critic)
    torch.testing.assert_close(f.grad(x), plain.grad(x / f.scale))
    h = torch.randn_like(x)
    difference = (f(x + 1e-7 * f.scale * h) - f(x - 1e-7 * f.scale * h)) / (2e-7 * f.scale)
    torch.testing.assert_close((f.grad(x) * h).sum((-2, -1)), difference, rtol=1e-5, atol=1e-6)
