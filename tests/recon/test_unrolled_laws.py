"""Unrolled methods with known parts are known algorithms; their sizes; implicit gradients."""

import math

import pytest
import torch

from operators import Gaussian, LinearOperator, ParallelBeam, Sense, XRay
from priors.networks.experts import Experts
from priors.networks.seeds import count
from recon import (
    DeepEquilibrium,
    ISTANet,
    ItNet,
    LearnedGradient,
    LearnedPDHG,
    LearnedPrimalDual,
    MoDL,
    Problem,
    VariationalNetwork,
    VarNet,
    cg,
    cgls,
    run,
)
from recon.learned import TrainedFor
from recon.unrolled.base import first_image
from recon.unrolled.implicit import cg_solve, fixed_point

N = 12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def operator(is_complex=False):
    """Of norm 1."""
    if is_complex:
        mask = torch.zeros(N, dtype=torch.bool)
        mask[::2] = mask[5:8] = True
        maps = torch.randn(2, N, N, generator=generator(), dtype=torch.complex128)
        A = Sense(mask, maps / maps.abs().square().sum(0).sqrt(), shape=(N, N))
    else:
        A = XRay(ParallelBeam((N, N), 1.0, [0.1, 0.9, 1.7, 2.5], 17, 1.0))
    return (1 / A.norm()) * A


def data(A, count=2, seed=1):
    dtype = torch.complex128 if isinstance(A.A, Sense) else torch.float64
    return A(torch.randn(count, *A.in_shape, generator=generator(seed), dtype=dtype))


def built(method, is_complex=False):
    A = operator(is_complex)
    method.build(TrainedFor(A.in_shape, A.out_shape, "A", "", 1.0, 1.0, is_complex))
    return method.double().requires_grad_(False), A, data(A)


def descent(A, y, x, step, iterations):
    for _ in range(iterations):
        x = x - step * A.adjoint(A(x) - y)
    return x


@torch.no_grad()
def linear(net, outside, taps):
    """Make `net` (three convolutions, ReLU or PReLU) the map out_k = Σ taps[k][j]·in_j, pixel by pixel."""
    first, _, middle, _, last = net
    for layer in (first, middle, last):
        layer.weight.zero_()
        layer.bias.zero_()
    inside = first.weight.shape[1]
    for j in range(inside):  # t = relu(t) − relu(−t)
        first.weight[2 * j, j, 1, 1], first.weight[2 * j + 1, j, 1, 1] = 1.0, -1.0
    for j in range(2 * inside):
        middle.weight[j, j, 1, 1] = 1.0
    for k in range(outside):
        for j, value in taps[k].items():
            last.weight[k, 2 * j, 1, 1], last.weight[k, 2 * j + 1, 1, 1] = value, -value


@pytest.mark.parametrize("is_complex", [False, True])
def test_learned_gradient_is_gradient_descent(is_complex):
    method, A, y = built(LearnedGradient(iterations=5, memory=1, hidden=16), is_complex)
    # channels: x, memory, gradient of the data term, of the smoothness; complex: their imaginary parts after
    taps = {0: {2: -0.7}, 1: {}} if not is_complex else {0: {2: -0.7}, 1: {}, 2: {6: -0.7}, 3: {}}
    linear(method.nets[0], len(taps), taps)
    torch.testing.assert_close(method.iterate(A, y), descent(A, y, first_image(A, y), 0.7, 5))


def test_learned_gradient_sees_the_smoothness():
    method, A, y = built(LearnedGradient(iterations=1, memory=0, hidden=16))
    linear(method.nets[0], 1, {0: {2: 1.0}})
    x = first_image(A, y)
    moved = method.iterate(A, y) - x
    z = x.clone().requires_grad_()
    rough = sum(z.diff(dim=d).square().sum() for d in (-2, -1)) / 2
    expected = torch.autograd.grad(rough, z)[0]
    torch.testing.assert_close(moved / moved.norm(), expected / expected.norm())


@pytest.mark.parametrize("is_complex", [False, True])
def test_learned_pdhg_is_chambolle_pock(is_complex):
    """With the prox of the data term and no prior, all iterates are those of the textbook."""
    sigma, tau, theta = 0.8, 0.9, 0.6
    method, A, y = built(LearnedPDHG(iterations=7, sigma=sigma, tau=tau, theta=theta, hidden=16), is_complex)
    c = -sigma / (1 + sigma)  # (u − σ y)/(1 + σ) = u + c u + c y, as c = −σ/(1 + σ)
    taps = {0: {0: c, 1: c}} if not is_complex else {0: {0: c, 1: c}, 1: {2: c, 3: c}}
    linear(method.dual, len(taps), taps)
    linear(method.primal, len(taps), {k: {} for k in taps})
    h, x = torch.zeros_like(y), torch.zeros(2, N, N, dtype=y.dtype)
    bar = x
    for _ in range(7):
        h = (h + sigma * A(bar) - sigma * y) / (1 + sigma)
        new = x - tau * A.adjoint(h)
        x, bar = new, new + theta * (new - x)
    # σ, τ, θ were stored in single precision
    torch.testing.assert_close(method.iterate(A, y), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("plus", [True, False])
def test_ista_net_without_its_transform_is_landweber(plus):
    method, A, y = built(ISTANet(phases=4, features=4, plus=plus, step=0.5))
    with torch.no_grad():
        for net in method.shrinkage:
            net.threshold.zero_()
            for layer in net.modules():
                if isinstance(layer, torch.nn.Conv2d):
                    layer.weight.zero_()
            if not plus:  # H̃ H = 1: a rectifier's two halves
                net.forth[0].weight[0, 0, 1, 1], net.forth[0].weight[1, 0, 1, 1] = 1.0, -1.0
                net.back[2].weight[0, 0, 1, 1], net.back[2].weight[0, 1, 1, 1] = 1.0, -1.0
                for j in (0, 1):
                    net.forth[2].weight[j, j, 1, 1] = net.back[0].weight[j, j, 1, 1] = 1.0
    x, asymmetry = method.phases(A, y)
    torch.testing.assert_close(x, descent(A, y, first_image(A, y), 0.5, 4))
    assert float(asymmetry.detach()) == pytest.approx(0.0, abs=1e-25)


def test_ista_net_thresholds_and_punishes_asymmetry():
    method, A, y = built(ISTANet(phases=1, features=4))
    net = method.shrinkage[0]
    r = torch.randn(2, 1, N, N, generator=generator(), dtype=torch.float64)
    with torch.no_grad():
        net.threshold.fill_(1e6)
    assert torch.equal(net(r), r)  # everything is shrunk to zero
    d = net.into(r)
    expected = (net.back(net.forth(d)) - d).square().mean()
    torch.testing.assert_close(net.asymmetry(r), expected)
    method.any_geometry = True
    problem = Problem(A, y, Gaussian(sigma=1.0))
    truth = torch.zeros(2, N, N, dtype=y.dtype)
    loss = method.loss(problem, truth, generator())
    x, asymmetry = method.phases(A, y)
    torch.testing.assert_close(loss, x.square().mean() + 0.01 * asymmetry)


@pytest.mark.parametrize("is_complex", [False, True])
def test_modl_without_a_denoiser_is_tikhonov(is_complex):
    method, A, y = built(
        MoDL(iterations=3, weight=0.3, norm="none", cg_iterations=300, tolerance=1e-13), is_complex
    )
    with torch.no_grad():
        for p in method.denoiser.parameters():
            p.zero_()
    method.denoiser.forward = lambda x: -x  # D(x) = x − x = 0
    weight = float(method.log_weight.exp())
    expected = run(cgls(A, y, 0 * A.adjoint(y), weight), 500, 1e-13)
    torch.testing.assert_close(method.iterate(A, y), expected, rtol=1e-8, atol=1e-10)


def test_modl_with_the_identity_is_iterated_tikhonov():
    method, A, y = built(MoDL(iterations=4, norm="none", start="zero", cg_iterations=300, tolerance=1e-13))
    with torch.no_grad():
        for p in method.denoiser.parameters():
            p.zero_()
    weight, x = float(method.log_weight.exp()), 0 * A.adjoint(y)
    for _ in range(4):
        x = run(cg(lambda v: A.gram(v) + weight * v, A.adjoint(y) + weight * x, x, 2), 500, 1e-13)
    torch.testing.assert_close(method.iterate(A, y), x, rtol=1e-8, atol=1e-10)


def test_variational_network_without_activations_is_landweber():
    method, A, y = built(VariationalNetwork(stages=6, filters=2, size=3, nodes=5, weight=0.5))
    with torch.no_grad():
        for experts in method.experts:
            experts.activation.zero_()
    torch.testing.assert_close(method.iterate(A, y), descent(A, y, first_image(A, y), 0.5, 6))


def test_experts_are_the_gradient_of_their_energy():
    experts = Experts(2, filters=3, size=5, nodes=9).double()
    with torch.no_grad():
        experts.activation.normal_(generator=generator())
    x = 0.4 * torch.randn(2, 2, 9, 8, generator=generator(), dtype=torch.float64)
    z = x.clone().requires_grad_()
    expected = torch.autograd.grad(experts.energy(z).sum(), z)[0]
    torch.testing.assert_close(experts(x), expected)
    # filters: mean 0 in every channel, norm 1
    w = experts.filters.detach()
    assert float(w.mean((-2, -1)).abs().max()) < 1e-15
    torch.testing.assert_close(w.square().sum((1, 2, 3)), torch.ones(3, dtype=w.dtype))


def test_experts_start_as_a_small_multiple_of_the_filtered_image():
    experts = Experts(1, filters=4, size=5, slope=0.04).double()
    z = 0.6 * (2 * torch.rand(1, 4, 6, 6, generator=generator(), dtype=torch.float64) - 1)
    # away from the ends of the nodes the Gaussians reproduce a line; their sum is flat to e^(−2π²)
    torch.testing.assert_close(experts.slope(z), 0.04 * z, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("form", ["image", "kspace"])
def test_varnet_without_refinement_descends(form):
    method, A, y = built(VarNet(cascades=4, base=4, depth=2, form=form, step=0.5), is_complex=True)
    for k in range(4):
        method.refine[k] = Zero()
    x = method.iterate(A, y)
    if form == "image":
        torch.testing.assert_close(x, descent(A, y, first_image(A, y), 0.5, 4))
    else:  # k-space already agrees with the data: the zero-filled image, coils combined
        torch.testing.assert_close(x, A.A.adjoint(y / A.scale))


def test_varnet_in_kspace_refines_and_needs_sense():
    method, A, y = built(VarNet(cascades=2, base=4, depth=2, form="kspace"), is_complex=True)
    x = method.iterate(A, y)
    assert x.shape == (2, N, N) and float((x - A.A.adjoint(y / A.scale)).abs().max()) > 1e-3
    method, A, y = built(VarNet(cascades=1, base=4, depth=2, form="kspace"))
    with pytest.raises(ValueError, match="Sense"):
        method.iterate(A, y)
    with pytest.raises(ValueError, match="one pixel"):
        built(VarNet(base=4, depth=5))


class Zero(torch.nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def test_itnet_starts_as_steps_on_the_data():
    steps = (1.0, 0.5, 0.25)
    method, A, y = built(ItNet(base=4, depth=2, data_steps=steps), is_complex=True)
    x = first_image(A, y)
    for step in steps:
        x = descent(A, y, x, step, 1)
    torch.testing.assert_close(method.iterate(A, y), x)


def test_itnet_jitters_only_measured_data_and_only_in_training():
    method, A, y = built(ItNet(base=4, depth=2, jitter=0.5), is_complex=True)
    loud = method.perturbed(y, generator())
    sampled = (y != 0).to(torch.bool)
    difference = (loud - y).abs()
    assert bool((difference[~sampled] == 0).all()) and float(difference[sampled].min()) > 0
    rms = (y.abs().square().mean((1, 2, 3))).sqrt()
    level = (difference.square().sum((1, 2, 3)) / sampled.sum((1, 2, 3))).sqrt() / rms
    assert bool((level < 0.5 * 1.2).all()) and not torch.isclose(level[0], level[1])
    assert torch.equal(method.iterate(A, y), method.iterate(A, y))


def test_sizes_as_published():
    """`methods.md` H3, H4; the others from their layers, by hand."""
    gradient, *_ = built(LearnedGradient())
    assert count(gradient) == 13_318
    dual, *_ = built(LearnedPrimalDual())
    convolutions = sum(count(m) for m in dual.modules() if isinstance(m, torch.nn.Conv2d))
    assert convolutions == 251_940
    shared, *_ = built(LearnedPrimalDual(shared=True))
    assert 10 * count(shared) == count(dual)
    ista, *_ = built(ISTANet())
    assert count(ista) == 9 * (9 * (32 + 4 * 32**2 + 32) + 2)
    network, *_ = built(VariationalNetwork(filters=48), is_complex=True)
    assert count(network) == 10 * (48 * 2 * 121 + 48 * 31 + 1)
    modl, *_ = built(MoDL(norm="none"), is_complex=True)
    assert count(modl) == (2 * 64 * 9 + 64) + 3 * (64 * 64 * 9 + 64) + (64 * 2 * 9 + 2) + 1


def test_shared_weights_and_unets_in_the_primal_dual():
    method, A, y = built(LearnedPrimalDual(iterations=3, hidden=4, shared=True, primal="unet", depth=2))
    assert len(method.network.dual) == len(method.network.primal) == 1
    assert method.iterate(A, y).shape == (2, N, N)
    longer, *_ = built(LearnedPrimalDual(iterations=6, hidden=4, shared=True, primal="unet", depth=2))
    longer.load_state_dict(method.state_dict())
    assert not torch.allclose(longer.iterate(A, y), method.iterate(A, y))


# the differentiable solution


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("each", [False, True])
def test_implicit_gradient_is_that_of_the_unrolled_iterations(is_complex, each):
    A = operator(is_complex)
    b = A.adjoint(data(A)).requires_grad_()
    raw = torch.tensor([0.2, 0.5] if each else 0.2, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(b.shape, generator=generator(3), dtype=b.dtype)

    def unrolled(v):
        w = raw.view(2, 1, 1) if each else raw
        return A.gram(v) + w * v

    iterations = cg(unrolled, b, torch.zeros_like(b), 2)
    for _ in range(80):
        x = next(iterations).x
    y = cg_solve(A.gram, b, raw, 300, 1e-14)
    torch.testing.assert_close(y, x.detach(), rtol=1e-9, atol=1e-10)
    first = torch.autograd.grad((y * probe.conj()).real.square().sum(), [b, raw])
    second = torch.autograd.grad((x * probe.conj()).real.square().sum(), [b, raw])
    for a, c in zip(first, second, strict=True):
        assert a.shape == c.shape
        torch.testing.assert_close(a, c, rtol=1e-6, atol=1e-9)


def test_implicit_gradient_by_finite_differences_twice():
    A = operator()
    b = A.adjoint(data(A, 1))
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    z = b.clone().requires_grad_()
    f = lambda b, w: cg_solve(A.gram, b, w, 400, 1e-14)[:, 3:5, 4:6]  # noqa: E731
    assert torch.autograd.gradcheck(f, (z, weight), atol=1e-6, rtol=1e-5, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, (z, weight), atol=1e-5, rtol=1e-4, fast_mode=True)


def test_implicit_gradient_refuses_a_learned_operator():
    maps = torch.nn.Parameter(torch.randn(2, N, N, dtype=torch.complex128))
    A = Sense(torch.ones(N), maps, shape=(N, N))
    with pytest.raises(ValueError, match="learned"):
        cg_solve(A.gram, torch.zeros(1, N, N, dtype=maps.dtype), torch.tensor(1.0))


def test_anderson_finds_the_fixed_point_of_every_image():
    """An affine contraction with eigenvalues up to 0.99: solved in few steps, alone as in a batch."""
    g = generator()
    q = torch.linalg.qr(torch.randn(9, 9, generator=g, dtype=torch.float64))[0]
    matrix = q @ torch.diag(torch.linspace(-0.5, 0.99, 9, dtype=torch.float64)) @ q.T
    b = torch.randn(3, 9, generator=g, dtype=torch.float64) * torch.tensor([[1.0], [1e3], [1e-3]])
    step = lambda b: lambda x: x @ matrix + b  # noqa: E731
    expected = torch.linalg.solve((torch.eye(9, dtype=b.dtype) - matrix).T, b.T).T
    x, residual = fixed_point(step(b), torch.zeros_like(b), 80, 1e-10)
    assert float(residual.max()) <= 1e-10
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-9)
    alone, _ = fixed_point(step(b[1:2]), torch.zeros_like(b[1:2]), 80, 1e-10)
    torch.testing.assert_close(alone, x[1:2], rtol=1e-7, atol=0)
    plain = torch.zeros_like(b)
    for _ in range(80):
        plain = step(b)(plain)
    assert float((plain - expected).norm()) > 0.1 * float(expected.norm())  # what it spares


def test_anderson_says_when_nothing_stands_still():
    _, residual = fixed_point(lambda x: -1.0 * x + torch.randn_like(x), torch.ones(1, 4), 5, 1e-6)
    assert float(residual) > 1e-3


def test_equilibrium_is_a_fixed_point_and_its_contraction_is_measured():
    method, A, y = built(DeepEquilibrium(layers=2, hidden=4, keep=0.6, iterations=200, tolerance=1e-12))
    problem = Problem(A, y, Gaussian(sigma=1.0))
    method.any_geometry = True
    x = method.iterate(A, y)
    with torch.no_grad():
        torch.testing.assert_close(method.once(A, y, x), x, rtol=1e-8, atol=1e-9)
    residual, contraction = method.equilibrium(problem, iterations=60)
    assert float(residual.max()) < 1e-11
    at, basis = x[:1].repeat(N * N, 1, 1), torch.eye(N * N, dtype=x.dtype).reshape(-1, N, N)
    jacobian = torch.func.jvp(lambda v: method.once(A, y[:1], v), (at,), (basis,))[1]
    exact = torch.linalg.matrix_norm(jacobian.flatten(1), 2)
    # power iteration comes from below
    assert 0.97 * exact < contraction[0] <= 1.0001 * exact and contraction[0] < 1


def test_equilibrium_gradient_is_that_of_many_iterations():
    method, A, y = built(DeepEquilibrium(layers=2, hidden=3, keep=0.5, iterations=200, tolerance=1e-13))
    method.requires_grad_(True)
    weights = list(method.parameters())
    probe = torch.randn(2, N, N, generator=generator(3), dtype=torch.float64)
    implicit = torch.autograd.grad((method.iterate(A, y) * probe).sum(), weights)
    x = first_image(A, y)
    for _ in range(120):
        x = method.once(A, y, x)
    unrolled = torch.autograd.grad((x * probe).sum(), weights)
    for a, b in zip(implicit, unrolled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_gram_of_a_multiple_is_that_of_the_operator():
    mask = torch.ones(N, dtype=torch.bool)
    A = Sense(mask, torch.randn(2, N, N, dtype=torch.complex128), shape=(N, N))
    B: LinearOperator = (0.5 - 2j) * A
    x = torch.randn(2, N, N, dtype=torch.complex128)
    torch.testing.assert_close(B.gram(x), B.adjoint(B(x)))
    assert math.isclose(B.gram.norm(), B.norm() ** 2, rel_tol=1e-3)
