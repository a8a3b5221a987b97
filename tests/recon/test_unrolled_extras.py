"""Dual-domain networks, ISTA U-Net, and VarNet with coil maps of its own."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from operators import Gaussian, NonUniformSense, ParallelBeam, Sense, XRay, fbp, radial
from priors.networks.multiscale import MultiscaleDictionary, soft
from recon import (
    METHODS,
    DeepEquilibrium,
    DualDomain,
    ISTANet,
    ISTAUNet,
    ItNet,
    LearnedPDHG,
    Problem,
    VarNet,
)
from recon.data import PairedData
from recon.unrolled.sensitivity import Encoding, Sensitivities

N = 16


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.complex128)


def maps(coils=3, shape=(N, N)):
    grid = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    turns = [2 * math.pi * k / coils for k in range(coils)]
    along = [math.cos(t) * grid[-2] + math.sin(t) * grid[-1] for t in turns]
    found = torch.stack([torch.polar(torch.exp(a), 1.5 * a) for a in along])
    return found / found.abs().square().sum(0).sqrt()


def lines(n=N):
    mask = torch.zeros(n, dtype=torch.bool)
    mask[::2] = mask[n // 2 - 3 : n // 2 + 3] = True
    return mask


def pairs(A, count=6, sigma=1e-3):
    side = torch.linspace(-1, 1, N, dtype=torch.float64)
    radius = torch.linspace(0.4, 0.9, count, dtype=torch.float64)
    x = (side[:, None] ** 2 + side**2 < radius[:, None, None] ** 2).double()
    if getattr(A, "complex_data", False):
        x = torch.polar(x, side + radius[:, None, None])
    law = Gaussian(sigma=sigma, data_ndim=len(A.out_shape), mask=getattr(A, "sampled", None))
    pair = Problem(A, law(A(x), seed=list(range(count))), law), x
    return PairedData(pair, pair)


def ct():
    return XRay(ParallelBeam((N, N), 1.0, [(k + 0.5) * math.pi / 6 for k in range(6)], 23, 1.0))


# ---- coil maps that are learned

SMALL = {"cascades": 2, "base": 4, "depth": 2, "map_base": 4, "map_depth": 2, "maps": "learned"}


@pytest.mark.parametrize("form", ["image", "kspace"])
def test_learned_maps_from_fit_to_result(form, tmp_path):
    data, losses = pairs(Sense(lines(), maps(), shape=(N, N))), []
    method = VarNet(**SMALL, form=form, steps=15, batch_size=6, learning_rate=1e-2)
    method.fit(data, callback=lambda p: losses.append(p.losses[-1]))
    assert min(losses[-3:]) < 0.95 * losses[0]
    problem, truth = data.validation
    x = method(problem)
    assert x.shape == truth.shape and x.is_complex()
    one = Problem(problem.A, torch.stack([problem.y[2], 100 * problem.y[1]]), problem.noise)
    torch.testing.assert_close(method(one)[0], x[2], rtol=1e-6, atol=1e-10)
    for w in method.sensitivities.parameters():
        assert bool((w != 0).any())
    path = method.float().save(tmp_path / "w")
    single = Problem(problem.A, problem.y.to(torch.complex64), problem.noise)
    assert torch.equal(VarNet.load(path)(single), method(single))
    assert set(method.scores(data)) == {"psnr_db_range_truth", "ssim_range_truth"}


def test_the_maps_of_the_operator_are_not_looked_at():
    data = pairs(Sense(lines(), maps(), shape=(N, N)))
    problem = data.validation[0]
    method = VarNet(**SMALL, steps=2, batch_size=2).fit(data)
    method.any_geometry = True
    other = Sense(lines(), noise(3, N, N), shape=(N, N))
    torch.testing.assert_close(
        method(Problem(other, problem.y, problem.noise)), method(problem), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("frames", [(), (2,)])
def test_maps_have_norm_one_where_there_is_signal(frames):
    A = Sense(lines(), maps(), shape=(*frames, N, N))
    x = noise(2, *frames, N, N)
    x[1] = 0
    net = Sensitivities(4, 2, "group", side=6).double()
    with torch.no_grad():
        for k, w in enumerate(net.parameters()):
            w.add_(0.1 * noise(*w.shape, seed=k).real)
    S = net(A, A(x))
    power = S.abs().square().sum(1)
    assert S.shape == (2, 3, N, N)
    torch.testing.assert_close(power[0], torch.ones_like(power[0]), rtol=1e-12, atol=0)
    loss = (S * noise(3, N, N, seed=9)).real.square().sum()
    slopes = torch.autograd.grad(loss, list(net.parameters()))
    assert all(bool(torch.isfinite(g).all()) for g in slopes)
    # a bias of the last layer shifts all coils alike and so is felt, too
    assert all(bool((g != 0).any()) for g in slopes)
    silent = Sensitivities(4, 2, "group").double()(A, torch.zeros_like(A(x)))
    assert bool((silent == 0).all())


def test_untrained_maps_of_all_of_kspace_give_the_magnitude():
    """I_c = S_c x, so that the estimate is S_c x/|x| and Σ S̄_c I_c = |x|: exact with full sampling."""
    A = Sense(torch.ones(N, N), maps())
    x = noise(4, N, N)
    y = A(x)
    found = Encoding(A, Sensitivities(4, 2, "none", side=N).double()(A, y))
    torch.testing.assert_close(found.reduce(y), x.abs() + 0j, rtol=0, atol=1e-12)
    turned = Encoding(A, Sensitivities(4, 2, "none", side=N).double()(A, 7j * y))
    torch.testing.assert_close(turned.reduce(7j * y), 7 * x.abs() + 0j, rtol=0, atol=1e-11)


class Nothing(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


@pytest.mark.parametrize("form", ["image", "kspace"])
def test_full_sampling_is_reconstructed_exactly_by_the_data_term(form):
    data = pairs(Sense(torch.ones(N, N), maps()), sigma=1e-12)
    problem, truth = data.validation
    method = VarNet(**SMALL, form=form, steps=1, learning_rate=1e-30, start="zero").fit(data)
    method.refine = nn.ModuleList([Nothing(), Nothing()])
    torch.testing.assert_close(method(problem).abs(), truth.abs(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("frames", [(), (2,)])
@pytest.mark.parametrize("spatial", [(5, 4), (2, 3, 4)])
def test_an_encoding_of_shared_maps_is_sense(frames, spatial):
    S = maps(2, spatial)
    mask = torch.rand((*frames, *spatial), generator=generator()) < 0.6
    A = Sense(mask, S)
    E = Encoding(A, S.expand(3, *S.shape))
    x, y = noise(3, *A.in_shape), noise(3, *A.out_shape, seed=1)
    torch.testing.assert_close(E(x), A(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(E.adjoint(y), A.adjoint(y), rtol=1e-12, atol=1e-12)


def test_learned_maps_need_sense():
    with pytest.raises(ValueError, match="needs Sense"):
        VarNet(**SMALL).fit(pairs(ct()))
    with pytest.raises(ValueError, match="lower map_depth"):
        VarNet(**{**SMALL, "map_depth": 6}).fit(pairs(Sense(lines(), maps(), shape=(N, N))))
    with pytest.raises(ValueError, match="maps"):
        VarNet(maps="guessed")
    c = VarNet().config
    assert (c.map_base, c.map_depth, c.maps) == (8, 5, "given")


# ---- ISTA U-Net


def dictionary(channels=2, widths=(3, 5, 7)):
    torch.manual_seed(0)
    return MultiscaleDictionary(channels, widths).normalise().double()


def codes(D, n=2, side=8, seed=0):
    return [noise(n, w, side >> k, side >> k, seed=seed + k).real for k, w in enumerate(D.widths)]


def test_the_dictionary_is_linear_with_its_exact_adjoint():
    D = dictionary()
    a, b, x = codes(D), codes(D, seed=10), noise(2, 2, 8, 8, seed=20).real
    both = D([2 * u - v for u, v in zip(a, b, strict=True)])
    torch.testing.assert_close(both, 2 * D(a) - D(b), rtol=1e-10, atol=1e-12)
    left, right = (D(a) * x).sum(), sum((u * v).sum() for u, v in zip(a, D.adjoint(x), strict=True))
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)
    assert [tuple(z.shape) for z in D.adjoint(x)] == [(2, 3, 8, 8), (2, 5, 4, 4), (2, 7, 2, 2)]


def test_the_first_dictionary_has_norm_one():
    D, x = dictionary().requires_grad_(False), noise(1, 2, 8, 8).real
    for _ in range(300):
        x = D(D.adjoint(x))
        size = float(x.square().sum().sqrt())
        x = x / size
    assert 0.95 < math.sqrt(size) < 1.05  # twenty power iterations come that near


def test_as_many_weights_as_its_convolutions_have():
    w = (32, 64, 128, 256, 512)
    one = sum(4 * b * a + 9 * 2 * a * a for a, b in pairwise(w)) + 9 * w[0]
    assert sum(p.numel() for p in MultiscaleDictionary(1, w).parameters()) == one


def coded(**changes):
    changes = {"base": 3, "depth": 3, "thresholds": (0.05, 0.02), "tied": True, "step": 0.9} | changes
    return ISTAUNet(**changes, steps=1, learning_rate=1e-30).fit(pairs(ct())).network


def test_tied_steps_lower_the_objective_towards_its_minimum():
    net = coded(thresholds=(0.5, 0.5, 0.5)).requires_grad_(False)
    x = 1.5 * noise(2, 1, 8, 8).real
    D, weights = net.synthesis, net.thresholds

    def objective(z):
        sparse = sum(t * c.abs().flatten(1).sum(1) for t, c in zip(weights, z, strict=True))
        return 0.5 * (D(z) - x).flatten(1).square().sum(1) + sparse

    values = []
    for iterations in (1, 2, 3, 5, 10, 400):
        net.iterations = iterations
        values.append(objective(z := net.codes(x)))
    assert bool((torch.stack(values).diff(dim=0) < 0).all())
    slopes = D.adjoint(D(z) - x)
    for slope, code, t in zip(slopes, z, weights, strict=True):
        # 0 ∈ slope + t ∂|code|; ISTA comes near as 1/k at worst, after 400 steps to a hundredth
        assert float(slope.abs().max()) < 1.01 * float(t)
        used = code.abs() > 0.05
        torch.testing.assert_close(slope[used], -t * code[used].sign(), rtol=0.01, atol=0)


def test_without_thresholds_it_is_linear_and_with_them_not():
    x = noise(3, 1, 9, 7).real
    for thresholds, linear in (((), True), ((0.0, 0.05), False)):
        f = coded(thresholds=thresholds, tied=False)
        gap = f(2 * x[:1] - x[1:2]) - (2 * f(x[:1]) - f(x[1:2]))
        assert (float(gap.detach().abs().max()) < 1e-10) == linear
    z = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])
    assert torch.equal(soft(z, torch.tensor(1.0)), torch.tensor([-1.0, 0.0, 0.0, 0.0, 1.0]))


def test_thresholds_are_learned_and_stay_positive():
    method = ISTAUNet(base=3, depth=3, thresholds=(0.05, 0.0), steps=20, learning_rate=0.5, clip=None)
    method.fit(pairs(ct()))
    fine, *coarse = (float(t) for t in method.network.thresholds)
    assert 0 < fine != pytest.approx(0.05) and coarse == [0.0, 0.0]


def test_the_papers_settings():
    c = ISTAUNet().config
    widths = [c.base * 2**k for k in range(c.depth)]
    assert widths == [32, 64, 128, 256, 512] and c.thresholds == (0.1, 0.01) and c.iterations == 5
    assert (c.learning_rate, c.clip, c.batch_size) == (2e-4, 0.01, 2)
    with pytest.raises(ValueError, match="thresholds"):
        ISTAUNet(thresholds=(-0.1,))
    with pytest.raises(ValueError, match="thresholds"):
        ISTAUNet(depth=1, thresholds=(0.1, 0.1))
    assert METHODS["ista-unet"] is ISTAUNet


# ---- dual domain


def untrained(A, **changes):
    data = pairs(A, sigma=1e-12)
    small = {"data_base": 4, "image_base": 4, "depth": 2, "steps": 1, "learning_rate": 1e-30}
    return DualDomain(**small, **changes).fit(data), *data.validation


@pytest.mark.parametrize("rounds", [1, 2])
def test_untrained_it_is_the_inverse(rounds):
    method, problem, _ = untrained(ct(), rounds=1, filter="ram-lak")
    expected = fbp(problem.A, problem.y, filter="ram-lak")
    torch.testing.assert_close(method(problem), expected, rtol=1e-9, atol=1e-12)
    uneven = 1.5 * maps()  # maps that do not add to 1
    method, problem, truth = untrained(Sense(torch.ones(N, N), uneven), rounds=rounds)
    torch.testing.assert_close(method(problem), truth, rtol=0, atol=1e-9)
    method, problem, truth = untrained(Sense(torch.ones(N, N)), rounds=rounds)
    torch.testing.assert_close(method(problem), truth, rtol=0, atol=1e-9)


def test_a_mask_that_weighs_samples_is_undone():
    side = torch.linspace(0.5, 2, N, dtype=torch.float64)
    method, problem, truth = untrained(Sense(side, maps(), shape=(N, N)), rounds=2)
    torch.testing.assert_close(method(problem), truth, rtol=0, atol=1e-9)
    y, scale = method.inside(problem)
    for u, _, _ in method.rounds(problem.A, y):
        torch.testing.assert_close(u * scale, Sense(torch.ones(N, N), maps())(truth), rtol=0, atol=1e-9)


def test_without_a_direct_inverse_it_is_the_damped_pseudo_inverse():
    A = NonUniformSense(radial(8, N).flatten(0, 1).double(), maps())
    method, problem, _ = untrained(A, cg_iterations=500, damping=0.05)
    x, weight = method(problem), 0.05 * method.trained_for.norm**2
    left = A.adjoint(A(x) - problem.y) + weight * x
    assert float(left.abs().max()) < 1e-3 * float(A.adjoint(problem.y).abs().max())


def test_what_was_measured_of_kspace_stays():
    A = Sense(lines(), maps(), shape=(N, N))
    method, problem, _ = untrained(A, rounds=2)
    with torch.no_grad():
        for k, w in enumerate(method.parameters()):
            w.add_(0.1 * noise(*w.shape, seed=k).real)
    y, _ = method.inside(problem)
    for u, _, _ in method.rounds(A, y):
        measured = A.sampled.expand(u.shape)
        assert torch.equal(u[measured], y[measured]) and bool((u[~measured] != 0).any())


def test_the_loss_is_that_of_both_domains():
    method, problem, truth = untrained(ct(), data_weight=3.0, inverse_weight=0.5)
    s, norm = method.trained_for.image_scale, method.trained_for.norm
    x = fbp(problem.A, problem.y, filter="hann")
    image = float((x - truth).square().mean()) / s**2
    data = float((problem.y - problem.A(truth)).square().mean()) / (s * norm) ** 2
    loss = method.loss(problem, truth, generator())
    assert float(loss) == pytest.approx(1.5 * image + 3.0 * data, rel=1e-8)


# ---- settings and data of other number types


@pytest.mark.parametrize(
    "method",
    [
        ItNet(data_steps=(1, 1), base=4, depth=2, steps=2, batch_size=2),
        LearnedPDHG(sigma=1, tau=1, theta=1, iterations=2, hidden=4, steps=2, batch_size=2),
        ISTANet(threshold=0, phases=2, steps=2, batch_size=2),
    ],
    ids=lambda m: m.name,
)
def test_whole_numbers_will_do_where_numbers_are_asked_for(method):
    data = pairs(ct())
    assert method.fit(data)(data.validation[0]).isfinite().all()


def test_a_step_of_zero_has_no_logarithm():
    with pytest.raises(ValueError, match="ISTAUNet step"):
        ISTAUNet(step=0.0)


@pytest.mark.parametrize("form", ["image", "kspace"])
def test_double_data_go_through_a_single_varnet(form, tmp_path):
    data = pairs(Sense(lines(), maps(), shape=(N, N)))
    changes = {"cascades": 1, "base": 4, "depth": 2, "form": form, "steps": 1, "batch_size": 2}
    VarNet(**changes).fit(data).save(tmp_path / "w")
    single, problem = VarNet.load(tmp_path / "w"), data.validation[0]
    assert next(single.parameters()).dtype == torch.float32 and problem.y.dtype == torch.complex128
    assert single(problem).dtype == torch.complex128


def test_an_equilibrium_is_the_same_with_and_without_gradients():
    data = pairs(ct())
    method = DeepEquilibrium(iterations=3, hidden=4, steps=2, batch_size=2).fit(data)
    problem = data.validation[0]
    with torch.no_grad():
        expected = method(problem)
    assert torch.equal(method(problem), expected)
    y = problem.y.clone().requires_grad_()
    assert torch.equal(method(Problem(problem.A, y, problem.noise)).detach(), expected)
