"""Every unrolled method on CT, multi-coil MRI and non-uniform MRI: what all of them promise."""

import math

import pytest
import torch

from operators import Gaussian, NonUniformSense, ParallelBeam, Sense, XRay, radial
from recon import (
    METHODS,
    DeepEquilibrium,
    DualDomain,
    ISTANet,
    ISTAUNet,
    ItNet,
    LearnedGradient,
    LearnedPDHG,
    LearnedPrimalDual,
    MoDL,
    Problem,
    VariationalNetwork,
    VarNet,
)
from recon.data import PairedData

METHOD = [
    LearnedGradient,
    LearnedPrimalDual,
    LearnedPDHG,
    ISTANet,
    MoDL,
    VariationalNetwork,
    VarNet,
    ItNet,
    DeepEquilibrium,
    DualDomain,
    ISTAUNet,
]
N = 16


def maps(coils=3):
    grid = torch.meshgrid(*2 * [torch.linspace(-1, 1, N, dtype=torch.float64)], indexing="ij")
    sides = [(math.cos(2 * math.pi * k / coils), math.sin(2 * math.pi * k / coils)) for k in range(coils)]
    along = [a * grid[0] + b * grid[1] for a, b in sides]
    found = torch.stack([torch.polar(torch.exp(a), 1.5 * a) for a in along])
    return found / found.abs().square().sum(0).sqrt()


def operator(kind):
    if kind == "ct":
        angles = [(k + 0.5) * math.pi / 6 for k in range(6)]
        return XRay(ParallelBeam((N, N), 1.0, angles, 23, 1.0))
    if kind == "sense":
        mask = torch.zeros(N, dtype=torch.bool)
        mask[::2] = mask[6:10] = True
        return Sense(mask, maps(), shape=(N, N))
    return NonUniformSense(radial(8, N).flatten(0, 1).double(), maps())


def images(count, is_complex, seed=0):
    """Discs of random place and size; complex ones with a smooth phase. As large as attenuation, 0.02."""
    g = torch.Generator().manual_seed(seed)
    grid = torch.meshgrid(*2 * [torch.linspace(-1, 1, N, dtype=torch.float64)], indexing="ij")
    found = []
    for cy, cx, r, h, a in torch.rand(count, 5, generator=g, dtype=torch.float64).tolist():
        disc = ((grid[0] - cy + 0.5) ** 2 + (grid[1] - cx + 0.5) ** 2) < (0.3 + 0.4 * r) ** 2
        image = 0.02 * (0.3 + 0.7 * h) * disc.double()
        found.append(torch.polar(image, 2 * a * grid[0] + a) if is_complex else image)
    return torch.stack(found)


def pairs(kind, count=8, dtype=torch.float64):
    A, is_complex = operator(kind), kind != "ct"
    x = images(count, is_complex).to(dtype.to_complex() if is_complex else dtype)
    clean = A(x)
    sigma = 0.02 * float(clean.abs().square().mean().sqrt())
    noise = Gaussian(sigma=sigma, data_ndim=len(A.out_shape), mask=getattr(A, "sampled", None))
    pair = Problem(A, noise(clean, seed=list(range(count))), noise), x
    return PairedData(pair, pair, name=kind)


def fitted(cls, kind, index=0, **changes):
    data = pairs(kind)
    example = cls.examples()[index]
    return cls(example.config, **changes).fit(data), data


@pytest.fixture(params=METHOD, ids=lambda c: c.name)
def method(request):
    return request.param


@pytest.mark.parametrize("kind", ["ct", "sense", "nonuniform"])
@pytest.mark.parametrize("index", [0, 1])
def test_reconstructs_alone_as_in_a_batch(method, kind, index):
    trained, data = fitted(method, kind, index)
    problem, truth = data.validation
    x = trained(problem)
    assert x.shape == truth.shape and x.dtype == truth.dtype and bool(torch.isfinite(x).all())
    one = Problem(problem.A, problem.y[2], problem.noise)
    # the same sums in another order; conjugate gradients and Anderson stop per image
    torch.testing.assert_close(trained(one), x[2], rtol=1e-6, atol=1e-10)
    loud = Problem(problem.A, torch.stack([problem.y[2], 100 * problem.y[1]]), problem.noise)
    torch.testing.assert_close(trained(loud)[0], x[2], rtol=1e-6, atol=1e-10)
    many = Problem(problem.A, problem.y.reshape(2, 4, *problem.A.out_shape), problem.noise)
    torch.testing.assert_close(trained(many).flatten(0, 1), x, rtol=1e-6, atol=1e-10)
    assert trained(Problem(problem.A, problem.y[:0], problem.noise)).shape == (0, N, N)


@pytest.mark.parametrize("kind", ["ct", "sense"])
def test_training_lowers_the_loss_on_fixed_data(method, kind):
    data = pairs(kind)
    losses = []
    example = method.examples()[0]
    method(example.config, steps=15, batch_size=8, learning_rate=1e-2).fit(
        data, callback=lambda p: losses.append(p.losses[-1])
    )
    assert min(losses[-3:]) < 0.95 * losses[0]


@pytest.mark.parametrize("kind", ["ct", "sense"])
def test_scaled_by_the_data_the_image_scales_with_them(method, kind):
    trained, data = fitted(method, kind, normalise="data")
    problem, _ = data.validation
    louder = Problem(problem.A, 1e4 * problem.y, problem.noise)
    torch.testing.assert_close(trained(louder), 1e4 * trained(problem), rtol=1e-6, atol=1e-6)
    silent = Problem(problem.A, torch.zeros_like(problem.y), problem.noise)
    assert bool(torch.isfinite(trained(silent)).all())


@pytest.mark.parametrize("kind", ["ct", "sense"])
def test_saved_and_loaded(method, kind, tmp_path):
    for index in (0, 1):
        trained, data = fitted(method, kind, index)
        trained = trained.float()
        problem = data.validation[0]
        problem = Problem(
            problem.A, problem.y.to(torch.complex64 if kind == "sense" else torch.float32), problem.noise
        )
        path = trained.save(tmp_path / f"w{index}")
        loaded = method.load(path)
        assert loaded.config == trained.config and loaded.trained_for == trained.trained_for
        assert torch.equal(loaded(problem), trained(problem))


def test_wrong_problems_are_refused(method):
    trained, data = fitted(method, "ct")
    problem = data.validation[0]
    with pytest.raises(ValueError, match="not trained"):
        method()(problem)
    angles = [(k + 0.4) * math.pi / 6 for k in range(6)]
    turned = XRay(ParallelBeam((N, N), 1.0, angles, 23, 1.0))
    with pytest.raises(ValueError, match="any_geometry"):
        trained(Problem(turned, problem.y, problem.noise))
    with pytest.raises(ValueError, match="trained for images"):
        trained(pairs("sense").validation[0])
    with pytest.raises(ValueError, match="real data"):
        trained(Problem(problem.A, problem.y + 0j, problem.noise))
    assert METHODS[method.name] is method


@pytest.mark.parametrize("kind", ["ct", "sense"])
def test_gradient_with_respect_to_data_and_weights(method, kind):
    """Against central differences along a random direction, in float64."""
    changes = {"tolerance": 1e-13, "cg_iterations": 400} if method is MoDL else {}
    if method is DeepEquilibrium:
        changes = {"tolerance": 1e-11, "iterations": 60, "keep": 0.3}
    trained, data = fitted(method, kind, **changes)
    problem = data.validation[0]
    y = problem.y[:1]
    g = torch.Generator().manual_seed(1)
    probe = torch.randn(1, N, N, generator=g, dtype=y.dtype)
    h = torch.randn(y.shape, generator=g, dtype=y.dtype) * float(y.abs().mean()) * (y != 0)
    with torch.no_grad():  # away from zero, where all rectifiers have their corner
        for w in trained.parameters():
            w.add_(0.05 * torch.randn(w.shape, generator=g, dtype=w.dtype))

    def value(v):
        return (trained(Problem(problem.A, v, problem.noise)) * probe.conj()).real.sum()

    z = y.clone().requires_grad_()
    trained.requires_grad_(True)
    weights = list(trained.parameters())
    gradient, *slopes = torch.autograd.grad(value(z), [z, *weights], allow_unused=True)
    with torch.no_grad():
        step = 1e-7  # so small that hardly a rectifier changes side
        numeric = (value(y + step * h) - value(y - step * h)) / (2 * step)
        torch.testing.assert_close((gradient.conj() * h).real.sum(), numeric, rtol=1e-4, atol=1e-9)
        moves = [torch.randn(w.shape, generator=g, dtype=w.dtype) for w in weights]
        ends = []
        for sign in (1, -1):
            for w, m in zip(weights, moves, strict=True):
                w.add_(sign * step * m)
            ends.append(value(y))
            for w, m in zip(weights, moves, strict=True):
                w.sub_(sign * step * m)
    slope = sum((s * m).sum() for s, m in zip(slopes, moves, strict=True) if s is not None)
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-8)


def test_recomputing_gives_the_same_gradients(method):
    if method is DeepEquilibrium:
        pytest.skip("it keeps one iteration only: nothing to recompute")
    changes = {"norm": "none"} if method is MoDL else {}
    trained, data = fitted(method, "sense", **changes)
    problem, truth = data.validation
    trained.requires_grad_(True).train()
    found = []
    for checkpoint in (False, True):
        trained.config = type(trained.config)(**{**vars(trained.config), "checkpoint": checkpoint})
        if method is LearnedPrimalDual:
            trained.network.checkpoint = checkpoint
        loss = trained.loss(problem, truth, torch.Generator().manual_seed(0))
        found.append(torch.autograd.grad(loss, list(trained.parameters()), allow_unused=True))
    for a, b in zip(*found, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_wrong_settings_are_refused(method):
    with pytest.raises(ValueError, match="normalise"):
        method(normalise="never")
    with pytest.raises(ValueError, match="colour"):
        method(colour="red")
