"""Total deep variation: its invariances, its values far out, and a weight and scale around it."""

import pytest
import torch

from priors import HuberTV, SquaredL2, TotalDeepVariation, Tuned
from priors.networks.icnn import InputConvexNetwork
from priors.networks.seeds import seeded
from priors.networks.tdv import TotalDeepVariationNetwork, blur, enlarged, kernel, log_cosh, student_t


def tdv(*size, **options):
    with seeded(3):
        return TotalDeepVariation(*(size or (3, 2, 1)), **options).double().requires_grad_(False)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 8), (9, 9)])
@pytest.mark.parametrize("size", [(2, 1, 1), (2, 3, 2)])
def test_constants_are_invisible_whatever_the_size(size, shape):
    f, x = tdv(*size), noise(2, *shape)
    torch.testing.assert_close(f(x + 3.7), f(x), rtol=1e-9, atol=1e-9)
    assert float(f(torch.full((1, *shape), 2.0, dtype=torch.float64))) < 1e-25
    # the gradient is that of a function that constants do not change
    assert float(f.grad(x).sum((-2, -1)).abs().max()) < 1e-9 * float(1 + f.grad(x).abs().max())


def test_an_object_far_from_the_edge_may_be_moved():
    """By a multiple of 2^(scales − 1) pixels, on any background."""
    f, x = tdv(), torch.full((40, 40), 0.4, dtype=torch.float64)
    moved = x.clone()
    x[16:20, 16:21] += noise(4, 5)
    moved[20:24, 18:23] += noise(4, 5)
    assert float(f(x)) > 1e-4
    torch.testing.assert_close(f(moved), f(x), rtol=1e-12, atol=0)
    shifted = x.roll(1, 0)  # but not by one: strides are seen
    assert abs(float(f(shifted) / f(x)) - 1) > 1e-6


def test_scale_is_the_size_of_an_image():
    x = noise(3, 6, 7)
    torch.testing.assert_close(tdv(scale=4.0)(4 * x), 16 * tdv()(x))


def test_student_t_keeps_it_positive_and_linear_does_not():
    x = 3 * noise(40, 8, 8)
    assert float(tdv()(x).min()) >= 0 and float(tdv(potential="log-cosh")(x).min()) >= 0
    assert float(tdv(potential="linear")(x).min()) < 0


def test_complex_images_are_their_parts():
    x, f = torch.complex(noise(2, 5, 6), noise(2, 5, 6, seed=1)), tdv()
    torch.testing.assert_close(f(x), f(x.real) + f(x.imag))
    torch.testing.assert_close(f.grad(x), torch.complex(f.grad(x.real), f.grad(x.imag)))


def test_potentials():
    t = torch.tensor([-800.0, -1e-4, 0.0, 1e-4, 800.0], dtype=torch.float64)
    torch.testing.assert_close(log_cosh(t)[[0, 4]], t[[0, 4]].abs() - torch.tensor(2.0).log().double())
    for phi in (student_t, log_cosh):
        # t²/2 near zero: the next terms are 1e-8 smaller
        torch.testing.assert_close(phi(t)[[1, 3]], t[[1, 3]].square() / 2, rtol=1e-6, atol=1e-16)


def test_second_derivatives_far_out_are_finite():
    with seeded(0):
        network = InputConvexNetwork(1, 2, 2, 3, smooth=0.05)
    x = 1e4 * noise(1, 1, 4, 4).float().requires_grad_()
    for f in (log_cosh, network):
        (slope,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
        assert bool(torch.autograd.grad(slope.sum(), x)[0].isfinite().all())


def test_up_is_the_adjoint_of_down():
    with seeded(0):
        weight = kernel(3, 3).detach().double()
    for shape in ((6, 7), (5, 8), (1, 2)):
        x = noise(2, 3, *shape)
        down = torch.nn.functional.conv2d(blur(x), weight, stride=2, padding=1)
        z = noise(*down.shape, seed=1)
        torch.testing.assert_close((down * z).sum(), (x * enlarged(z, weight, x)).sum())


def test_the_published_size():
    network = TotalDeepVariationNetwork()
    assert len(network.blocks) == 3 and len(network.blocks[0].left) == 3
    assert network.filters.shape == (32, 1, 3, 3)


def test_second_derivatives():
    f = tdv(2, 2, 1)
    assert torch.autograd.gradgradcheck(lambda x: f(x), noise(1, 3, 4).requires_grad_())


def test_tuned_weight_and_scale():
    E, x = HuberTV((5, 6), delta=0.1).double(), noise(3, 5, 6)
    f = Tuned(E, 3.0, 0.5).double()
    f.requires_grad_(False)
    torch.testing.assert_close(f(x), 3 * 0.25 * E(x / 0.5), rtol=1e-6, atol=0)  # logarithms were float32
    assert f.lipschitz == pytest.approx(3 * E.lipschitz, rel=1e-6)
    f.set(2.0, 0.1)
    assert f.weight == pytest.approx(2.0) and f.scale == pytest.approx(0.1)
    # of degree 2: the scale makes no difference
    square = Tuned(SquaredL2(), 2.0, 7.0).double().requires_grad_(False)
    torch.testing.assert_close(square(x), 2 * SquaredL2()(x), rtol=1e-6, atol=0)


def test_bad_input():
    for make, text in (
        (lambda: TotalDeepVariation(0), "features"),
        (lambda: TotalDeepVariation(2, 1, 1, "cubic"), "potential"),
        (lambda: TotalDeepVariation(2, 1, 1, scale=0.0), "scale"),
        (lambda: Tuned(SquaredL2(), -1.0), "weight"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
