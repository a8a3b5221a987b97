import math

import pytest
import torch

from operators import Gaussian, LowDose, Mask, ParallelBeam, Sense, Wavelet, XRay
from operators.tensors import norm
from priors import (
    FunctionDenoiser,
    GradientStepDenoiser,
    NonLocalMeansDenoiser,
    ProximalDenoiser,
    RegularisationByDenoising,
    WaveletL1,
)
from priors.networks.drunet import DRUNet
from priors.networks.seeds import seeded
from priors.red import _smooth
from recon import METHODS, RED, GradientStepPlugAndPlay, PlugAndPlay, Problem
from recon.data_step import DataProx, noise_in_start, peak
from recon.fidelity import unweighted
from recon.plug_and_play import Schedule
from recon.solvers import fista, run
from recon.solvers.terms import MARGIN

N = 8


def real(sigma=0.05):
    """Singular values from 0.5 to 1 in a basis that is not that of the priors: all converge, and soon."""
    g = torch.Generator().manual_seed(5)
    A = Mask(0.5 + 0.5 * torch.rand(N, N, generator=g, dtype=torch.float64)) @ Wavelet((N, N), "db4", 2)
    x = torch.rand(2, N, N, generator=g, dtype=torch.float64)
    noise = torch.randn(2, N, N, generator=g, dtype=torch.float64)
    return Problem(A, A(x) + sigma * noise, Gaussian(sigma=sigma))


def complex_():
    """The same, of Fourier coefficients."""
    g = torch.Generator().manual_seed(6)
    A = Sense(0.5 + 0.5 * torch.rand(N, N, generator=g, dtype=torch.float64), shape=(N, N))
    y = torch.randn(2, N, N, generator=g, dtype=torch.complex128)
    return Problem(A, y, Gaussian(sigma=0.05))


def ct(sigma=0.05, batch=2):
    angles = [math.pi * (k + 0.5) / 14 for k in range(14)]
    A = XRay(ParallelBeam((N, N), 1.0, angles, 14, 1.0)).double()
    g = torch.Generator().manual_seed(0)
    x = torch.rand(batch, N, N, generator=g, dtype=torch.float64)
    noise = torch.randn(batch, *A.out_shape, generator=g, dtype=torch.float64)
    return Problem(A, A(x) + sigma * noise, Gaussian(sigma=sigma))


def mri(sigma=0.05, fraction=0.7):
    g = torch.Generator().manual_seed(1)
    mask = torch.rand(N, N, generator=g) < fraction
    A = Sense(mask, shape=(N, N))
    x = torch.rand(2, N, N, generator=g, dtype=torch.float64).to(torch.complex128)
    noise = sigma * torch.randn(2, N, N, generator=g, dtype=torch.complex128)
    return Problem(A, (A(x) + noise) * mask, Gaussian(sigma=sigma, mask=A.sampled))


def minimiser(problem, f, weight):
    d = unweighted(problem)
    L = float(torch.as_tensor(d.weight).max()) * (MARGIN * problem.A.norm()) ** 2
    x = torch.zeros_like(problem.A.adjoint(problem.linear))
    return run(fista(d @ problem.A, weight * f, L, x), 1000, 1e-13)


def precise(method):
    """Free of bounds, and run until nothing moves."""
    method.positive, method.iterations, method.tolerance = False, 150, 1e-9
    return method


@pytest.mark.parametrize("algorithm", ["pgd", "fista", "admm", "drs"])
@pytest.mark.parametrize("make", [real, complex_])
def test_with_a_prox_it_is_the_variational_method(algorithm, make):
    problem, f, weight = make(), WaveletL1((N, N), "haar", 2), 30.0
    sigma = 0.3 if algorithm in ("admm", "drs") else 1.0  # of gradients at most √(λ/L)
    method = PlugAndPlay(f, weight, algorithm=algorithm, sigma=sigma, inner_iterations=20)
    torch.testing.assert_close(precise(method)(problem), minimiser(problem, f, weight), rtol=1e-6, atol=1e-6)


def test_half_quadratic_splitting_minimises_its_own_objective():
    """(x, z) of min d(A x) + ρ/2‖x − z‖² + λf(z): x the data step of z, z the prox of x."""
    problem, f, weight, sigma = real(), WaveletL1((N, N), "haar", 2), 30.0, 0.5
    z = precise(PlugAndPlay(f, weight, algorithm="hqs", sigma=sigma, inner_iterations=20))(problem)
    near = DataProx(problem, unweighted(problem), 200, 1e-13)
    x = near.near(z, torch.tensor(weight / sigma**2, dtype=torch.float64), z)
    torch.testing.assert_close(f.prox(x, sigma**2), z, rtol=1e-6, atol=1e-6)
    apart = [
        float((precise(PlugAndPlay(f, weight, algorithm="hqs", sigma=s, inner_iterations=20))(problem)
               - minimiser(problem, f, weight)).abs().max())
        for s in (0.5, 0.25)
    ]  # fmt: skip
    assert apart[1] < apart[0] / 2  # the objective of the others as σ → 0


def smoothing():
    """A linear symmetric filter that is nowhere expansive."""
    return FunctionDenoiser(_smooth, channel=False, unit=False, complex_images="whole")


@pytest.mark.parametrize("make", [real, complex_])
def test_all_algorithms_have_one_fixed_point(make):
    """Also for a D that is no prox written down: with one σ, t = σ²/λ, all end in x = D(x − t∇d)."""
    problem, sigma, step = make(), 0.04, 1e-3
    weight = sigma**2 / step
    found = {
        name: precise(PlugAndPlay(smoothing(), weight, algorithm=name, sigma=sigma, inner_iterations=20))(
            problem
        )
        for name in ("pgd", "fista", "admm", "drs")
    }
    d, A = unweighted(problem), problem.A
    x = found["pgd"]
    torch.testing.assert_close(smoothing()(x - step * (d @ A).grad(x), sigma), x, rtol=1e-6, atol=1e-6)
    for other in found.values():
        torch.testing.assert_close(other, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [real, complex_])
def test_red_balances_data_and_denoiser(make):
    problem, sigma, weight = make(), 0.3, 10.0
    found = [
        precise(RED(smoothing(), weight, algorithm=name, sigma=sigma, inner_iterations=20))(problem)
        for name in ("gradient", "fixed-point", "admm")
    ]
    d, R = unweighted(problem) @ problem.A, RegularisationByDenoising(smoothing(), sigma)
    slope = d.grad(found[1]) + weight * R.grad(found[1])
    assert float(slope.abs().max()) < 1e-6 * float(d.grad(0 * found[1]).abs().max())
    for other in found:
        torch.testing.assert_close(other, found[1], rtol=1e-6, atol=1e-6)


def test_red_has_an_energy_where_the_jacobian_is_symmetric_and_else_not():
    x = torch.randn(2, N, N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def error(D):
        R, z = RegularisationByDenoising(D, 0.3), x.clone().requires_grad_()
        true = torch.autograd.grad(R(z).sum(), z)[0]
        return float(norm(R.grad(x) - true, 2).max() / norm(true, 2).max())

    assert error(smoothing()) < 1e-12
    lopsided = FunctionDenoiser(lambda v, s: (v + v.roll(1, -1)) / 2, channel=False)
    thresholded = ProximalDenoiser(WaveletL1((N, N), "haar", 1))  # symmetric, not homogeneous
    assert error(lopsided) > 0.05 and error(thresholded) > 0.05


def gradient_step(channels=1):
    with seeded(0):
        return GradientStepDenoiser(DRUNet(channels, (4, 6), 1, "softplus")).double().eval()


@pytest.mark.parametrize("positive", [False, True])
def test_gradient_step_plug_and_play_descends(positive):
    problem = ct()
    method = GradientStepPlugAndPlay(gradient_step(), 3.0, 15, 0.0, positive, sigma=0.2, inner_iterations=40)
    found = method.solve(problem)
    values = torch.stack([objective for _, objective, _ in found.history])
    # rounding, and a data step solved to 1e-6
    assert bool((values[1:] <= values[:-1] + 1e-7 * values[0].abs()).all())
    assert bool((values[-1] < 0.9 * values[0]).all())
    energy = unweighted(problem) @ problem.A + 3.0 * method.potential(problem)
    torch.testing.assert_close(energy(found.x), values[-1], rtol=1e-6, atol=1e-6)
    assert not positive or float(found.x.min()) >= 0


@pytest.mark.parametrize("inner", [1, 3])
def test_gradient_step_plug_and_play_descends_by_hasty_data_steps(inner):
    """CG from the last image only improves on it, however soon it ends."""
    method = GradientStepPlugAndPlay(gradient_step(), 1.0, 25, 0.0, inner_iterations=inner)
    values = torch.stack([objective for _, objective, _ in method.solve(ct(0.3)).history])
    assert bool((values[1:] <= values[:-1] * (1 + 1e-12)).all())


@pytest.mark.parametrize("algorithm", ["gradient", "fixed-point", "admm"])
def test_red_stays_within_its_bounds(algorithm):
    found = RED(smoothing(), 0.1, 10, algorithm=algorithm, upper=0.6, sigma=0.1)(ct(0.3))
    assert float(found.min()) >= 0 and float(found.max()) <= 0.6


@pytest.mark.parametrize("algorithm", ["pgd", "fista"])
def test_the_sigma_of_gradients_is_that_of_the_start_too(algorithm):
    problem = ct()
    seen = []
    D = FunctionDenoiser(lambda x, s: (seen.append(s.clone()), x)[1], channel=False, unit=False)
    PlugAndPlay(D, 100.0, 2, algorithm=algorithm)(problem)
    torch.testing.assert_close(seen[-1], noise_in_start(problem))


@pytest.mark.parametrize("algorithm", ["admm", "drs", "hqs"])
def test_a_schedule_is_gone_through_to_its_end(algorithm):
    """A tolerance that every step meets ends it where σ is the last; without a schedule at once."""
    options = {"iterations": 10, "tolerance": 10.0, "algorithm": algorithm}
    falling = PlugAndPlay(smoothing(), 1.0, **options, sigma=Schedule(0.5, 0.01)).solve(ct())
    assert bool((falling.iterations >= 9).all())
    assert bool((PlugAndPlay(smoothing(), 1.0, **options).solve(ct()).iterations == 1).all())


def test_denoiser_of_a_potential_is_its_gradient_step():
    D = gradient_step()
    x = torch.randn(3, 7, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sigma, scale = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), 4.0
    step = x - D.potential(sigma, 2.0, scale).grad(x) / 2
    torch.testing.assert_close(D.at_scale(scale)(x, sigma), step)


def test_data_step_closed_form_and_conjugate_gradients():
    problem = mri()
    d = unweighted(problem)
    v = torch.randn(2, N, N, generator=torch.Generator().manual_seed(4), dtype=torch.complex128)
    steps = torch.tensor([0.1, 2.0], dtype=torch.float64)
    exact, iterated = DataProx(problem, d), DataProx(problem, d, 100, 1e-13)
    assert exact.coil is not None
    iterated.coil = None
    z = exact.prox(v, steps)
    torch.testing.assert_close(z, iterated.prox(v, steps))
    # ∇ of ½‖z − v‖² + t d(A z)
    slope = z - v + steps.view(-1, 1, 1) * exact.grad(z)
    assert float(slope.abs().max()) < 1e-9
    weighted = Problem(problem.A, problem.y, problem.noise)
    assert noise_in_start(weighted).shape == (2,)


def test_noise_in_the_start_image_is_measured():
    """A unitary transform keeps white noise: σ/√2 in each part."""
    A = Sense(torch.ones(64, 64, dtype=torch.bool), shape=(64, 64))
    problem = Problem(A, torch.zeros(64, 64, dtype=torch.complex128), Gaussian(sigma=0.2, data_ndim=2))
    # 8192 numbers: 4 standard deviations are 4/√(2·8192) = 3 %
    assert abs(float(noise_in_start(problem)) / (0.2 / math.sqrt(2)) - 1) < 0.03


def test_peak():
    x = torch.zeros(2, 10, 10)
    x[0] = -torch.arange(100.0).reshape(10, 10)
    assert peak(x, 2).tolist() == [98.0, 1.0]


def test_schedule():
    levels = Schedule(0.2, 0.05).levels(4, torch.tensor([1.0, 10.0]), torch.ones(2))
    found = torch.stack([levels(k) for k in range(6)])
    torch.testing.assert_close(
        found[:, 0], torch.tensor([0.2, 0.2 / 4 ** (1 / 3), 0.2 / 4 ** (2 / 3), 0.05, 0.05, 0.05])
    )
    torch.testing.assert_close(found[:, 1], 10 * found[:, 0])
    rising = Schedule(0.01, None).levels(4, torch.ones(2), torch.tensor([0.3, 0.3]))
    assert rising(0).tolist() == rising(9).tolist()


@pytest.mark.parametrize(
    "method", PlugAndPlay.examples() + RED.examples() + GradientStepPlugAndPlay.examples()
)
@pytest.mark.parametrize("make", [ct, mri])
def test_an_image_is_the_same_alone_and_in_a_batch(method, make):
    if getattr(method, "upper", None) is not None and make is mri:
        pytest.skip("complex images have no bounds")
    assert METHODS[method.name] is type(method)
    problem = make()
    method = method.double()
    x = method(problem)
    assert x.shape == (2, N, N) and bool(torch.isfinite(x).all())
    alone = method(Problem(problem.A, problem.y[1], problem.noise))
    torch.testing.assert_close(alone, x[1], rtol=1e-7, atol=1e-7)


def test_brightness_does_not_matter_to_a_scaled_denoiser():
    """Data, noise and so the image a thousand times larger."""
    problem, D = ct(), NonLocalMeansDenoiser(1.0, 1, 2)
    D.unit = True
    bright = Problem(problem.A, 1000 * problem.y, Gaussian(sigma=50.0))
    for method in (PlugAndPlay(D, iterations=5), PlugAndPlay.dpir(D, 4), RED(D, iterations=5)):
        torch.testing.assert_close(method(bright), 1000 * method(problem), rtol=1e-6, atol=1e-5)


def test_weight_without_the_truth_meets_the_noise():
    problem = ct(0.2)
    options = {"algorithm": "fista", "sigma": 1.0}  # steps of 1/L
    found = PlugAndPlay(WaveletL1((N, N), "haar", 2), None, 60, 1e-6, **options).solve(problem)
    misfit = 2 * unweighted(problem)(problem.A(found.x)) / problem.A.out_shape[0] / problem.A.out_shape[1]
    assert bool(((misfit - 1).abs() < 0.1).all()) and found.criterion == "discrepancy"


def test_bad_input():
    D, problem = smoothing(), ct()
    for make, text in (
        (lambda: PlugAndPlay(D, algorithm="newton"), "algorithm: expected 'admm'"),
        (lambda: PlugAndPlay(D, sigma=-1.0), "sigma: expected a positive"),
        (lambda: PlugAndPlay(D, scale=0.0), "scale: expected a positive"),
        (lambda: PlugAndPlay(D, sigma=Schedule(), algorithm="fista"), "has one σ"),
        (lambda: PlugAndPlay(D, inner_iterations=0), "inner_iterations"),
        (lambda: PlugAndPlay(3), "denoiser: expected a Denoiser"),
        (lambda: RED(D, algorithm="pgd"), "RED algorithm"),
        (lambda: RED(D, sigma=Schedule()), "RED has one σ"),
        (lambda: GradientStepPlugAndPlay(D), "expected a GradientStepDenoiser"),
        (lambda: Schedule(0.0), "Schedule start"),
        (lambda: PlugAndPlay(FunctionDenoiser(lambda x, s: x, ndim=3))(problem), "takes 3-D images"),
        (lambda: PlugAndPlay(lambda x, s: x * math.nan)(problem), "NaN or inf for finite"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
    counts = Problem(problem.A, torch.full((14, 14), 1e3, dtype=torch.float64), LowDose(i0=1e4))
    with pytest.raises(ValueError, match="Gaussian likelihood"):
        PlugAndPlay(D, likelihood="poisson")(counts)
    with pytest.raises(ValueError, match="likelihood: expected 'unweighted'"):
        PlugAndPlay(D, likelihood="poisson", algorithm="pgd")(counts)
