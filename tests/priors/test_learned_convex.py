"""ICNN, CRR, WCRR: convexity, its loss to −ρ, Lipschitz bounds, and what training leaves of them."""

import pytest
import torch

from operators.tensors import norm, squared_norm
from priors import ConvexRegulariser, ConvexRidge, VariationalDenoiser, WeaklyConvexRidge
from priors.networks.icnn import InputConvexNetwork
from priors.networks.ridge import Filters, Profiles
from priors.networks.seeds import count, seeded
from recon.denoising import ConvexConfig, DenoisingConfig, train_convex, train_denoiser

CONVEX = [f for f, _ in ConvexRegulariser.examples() + ConvexRidge.examples()]


def points(n=200, shape=(9, 8), size=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [size * torch.randn(n, *shape, generator=g, dtype=torch.float64) for _ in range(2)]


def bend(f, rho=0.0, **options):
    """The least of ½(h(x) + h(z)) − h(½(x + z)) over random pairs, relative, h = f + ½ρ‖·‖²."""
    x, z = points(**options)
    h = lambda v: f(v) + 0.5 * rho * squared_norm(v, 2)  # noqa: E731
    with torch.no_grad():
        both = (h(x) + h(z)) / 2
        return float(((both - h((x + z) / 2)) / both.abs().clamp(min=1e-12)).min())


@pytest.mark.parametrize("f", CONVEX, ids=repr)
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_convex_ones_are_convex(f, size):
    assert bend(f.double(), size=size) >= -1e-12


@pytest.mark.parametrize("rho", [0.3, 1.0])
def test_weakly_convex_ones_are_weakly_convex_and_not_convex(rho):
    with seeded(1):
        f = WeaklyConvexRidge((1, 2, 4), 3, 7, reach=1.0, rho=rho).double()
        f.profiles.logits.data = torch.full((4, 3), -8.0, dtype=torch.float64)
    sizes = (0.05, 0.5, 1.0, 2.0)
    assert all(bend(f, rho, size=s) >= -1e-12 for s in sizes)
    # and ρ is not just a large number: without it, R is concave along the response to an impulse
    impulse = torch.zeros(1, 9, 8, dtype=torch.float64)
    impulse[0, 4, 4] = 1
    t = torch.linspace(0.2, 3, 60, dtype=torch.float64)[:, None, None]
    values = f(t * impulse).detach()
    assert float((values[2:] - 2 * values[1:-1] + values[:-2]).min()) < -1e-6


def test_strong_convexity_is_what_it_says():
    f = ConvexRegulariser(InputConvexNetwork(1, 2, 3, 3), scale=2.0, filters=2, kernel=3).double()
    f.weights.data[:] = torch.tensor([-2.0, 1.0])
    assert bend(f, -f.strong_convexity) >= -1e-12


@pytest.mark.parametrize("seed", range(4))
def test_filters_never_amplify_and_the_bound_is_not_slack(seed):
    with seeded(seed):
        W = Filters((1, 3, 5), 5).double()
    x = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for _ in range(60):
        z = x.detach().requires_grad_()
        back = torch.autograd.grad(0.5 * W(z).square().sum(), z)[0]
        x = back / back.norm()
    length = float(W(x).detach().norm())
    # 24 pixels a side see nearly every frequency, and the grid's bound is at most a few percent above
    assert 0.8 < length <= 1 + 1e-12
    constant = W(torch.ones(1, 1, 30, 30, dtype=torch.float64)).detach()
    assert float(constant[..., 12:-12, 12:-12].abs().max()) < 1e-12


def test_filters_are_one_convolution():
    """Shift the image inside a larger field of zeros: the response shifts along, edges included."""
    with seeded(0):
        W = Filters((1, 2, 3), 3).double()
    x = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    x[..., :5, :5] = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, b = W(x), W(x.roll((4, 3), (-2, -1)))
    torch.testing.assert_close(a.square().sum(), b.square().sum())


def test_profiles_have_the_slopes_they_promise():
    with seeded(0):
        psi = Profiles(3, 11, 0.5, rho=0.4).double()
        for p in psi.parameters():
            p.data += torch.randn(p.shape, dtype=torch.float64)
    t = torch.linspace(-2, 2, 4001, dtype=torch.float64).expand(1, 3, -1).contiguous().requires_grad_()
    value = psi(t)
    slope = torch.autograd.grad(value.sum(), t)[0]
    second = slope.diff(dim=-1) / (4 / 4000)
    assert float(second.min()) >= -0.4 - 1e-9 and float(second.max()) <= float(psi.beta.detach()) + 1e-9
    assert float(second.min()) < -0.1 and float(second.max()) > 0.1
    torch.testing.assert_close(value, value.flip(-1))
    torch.testing.assert_close(slope, -slope.flip(-1))
    # the spline integrates its own slope
    summed = (slope[..., 1:] + slope[..., :-1]).cumsum(-1) * (4 / 4000) / 2
    torch.testing.assert_close(value[..., 1:] - value[..., :1], summed, atol=1e-5, rtol=1e-5)


def test_lipschitz_bound_holds():
    for f in (ConvexRidge.examples()[0][0].double(), WeaklyConvexRidge.examples()[1][0].double()):
        x, z = points(100)
        apart = norm(f.grad(x) - f.grad(z), 2) / norm(x - z, 2)
        assert float(apart.max()) <= f.lipschitz


def test_sizes_of_the_papers():
    """Filters 1-4-8-60 of 5×5: 12 900 weights; 10 layers of 48 channels of 5×5."""
    with torch.device("meta"):
        assert count(Filters()) == 25 * (4 + 32 + 480)
        assert count(InputConvexNetwork()) == 10 * (25 * 48 + 48) + 9 * 25 * 48**2


def squares(n=16):
    x = torch.zeros(n, 12, 12)
    g = torch.Generator().manual_seed(0)
    for image in x:
        top, left = (int(torch.randint(0, 6, (), generator=g)) for _ in range(2))
        image[top : top + 5, left : left + 6] = 1
    return x


def test_training_a_ridge_to_denoise_keeps_it_convex_and_helps():
    with seeded(0):
        f = ConvexRidge((1, 2, 4), 3, 11, reach=0.3)
    D = VariationalDenoiser(20 * f, 4)
    options = {"steps": 30, "batch_size": 6, "learning_rate": 0.05, "lowest": 0.2, "highest": 0.2}
    # a clean image and noise of σ = 0.2: 14 dB before anything is learned
    progress = train_denoiser(D, squares(), DenoisingConfig(**options, validate_every=30))
    assert progress.scores[-1][1] > -20 * torch.tensor(0.2).log10() + 1
    assert bend(f.double()) >= -1e-12


def test_training_a_convex_critic_keeps_it_convex_and_tells_noise(tmp_path):
    with seeded(0):
        f = ConvexRegulariser(InputConvexNetwork(1, 2, 4, 3), filters=2, kernel=3)
    options = {"steps": 30, "batch_size": 8, "learning_rate": 3e-3, "lowest": 0.3, "highest": 0.3}
    config = ConvexConfig(**options, checkpoint_every=10)
    progress = train_convex(f, squares(), config, checkpoint=tmp_path / "run.safetensors")
    assert progress.scores[-1][1] == 1.0
    assert all(bool((w >= 0).all()) for w in f.network.nonnegative())
    assert bend(f.double()) >= -1e-12


def test_bad_input():
    tiny = InputConvexNetwork(1, 1, 1, 1)
    for make, text in (
        (lambda: Filters((2, 4)), "Filters channels"),
        (lambda: Profiles(3, 4), "odd number"),
        (lambda: InputConvexNetwork(kernel=4), "odd kernel"),
        (lambda: ConvexRidge(scale=0.0), "scale"),
        (lambda: ConvexRegulariser(tiny, scale=-1.0), "scale"),
        (lambda: ConvexRegulariser(tiny, filters=0)(torch.zeros(2, 2, dtype=torch.complex64)), "real image"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            make()


@pytest.mark.parametrize("size", [(6, 7), (12, 5)])
def test_ridge_filters_have_their_transpose(size):
    """⟨W x, h⟩ = ⟨x, Wᵀ h⟩, and so ∇R is autograd's, with the gradient to the weights that it has there."""
    with seeded(3):
        W = Filters((1, 2, 5), 3).double()
        R = WeaklyConvexRidge((1, 2, 5), 3, 7, reach=1.0, scale=0.7).double()
    for p in R.profiles.parameters():
        p.data += 0.3 * torch.sin(torch.arange(p.numel(), dtype=torch.float64)).reshape(p.shape)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((2, 1, *size), dtype=torch.float64, generator=generator)
    h = torch.randn(W(x).shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close((W(x) * h).sum(), (x * W.transpose(h)).sum(), rtol=1e-12, atol=0)
    z = x[:, 0].requires_grad_()
    by_graph = torch.autograd.grad(R(z).sum(), z, create_graph=True)[0]
    closed = R.grad(z)
    torch.testing.assert_close(closed, by_graph, rtol=1e-10, atol=1e-12)
    weights = (z, *R.parameters())
    for mine, theirs in zip(
        torch.autograd.grad(closed.sin().sum(), weights), torch.autograd.grad(by_graph.sin().sum(), weights),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)
    assert not R.grad(z.detach()).requires_grad
