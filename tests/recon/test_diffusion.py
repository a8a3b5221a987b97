"""Diffusion priors and samplers of the posterior, against Gaussian images, whose posterior is known."""

import math

import pytest
import torch

from operators import Fourier, Gaussian, LowDose, Mask, ParallelBeam, Sense, XRay
from priors import Denoiser, DiffusionPrior, WienerDenoiser
from priors.diffusion import score
from recon import DDS, DPS, METHODS, DiffPIR, MomentMatching, PlugAndPlay, Problem
from recon.denoising import load_prior, save_prior
from recon.diffusion import DiffusionConfig, Levels, sample_prior, train_diffusion
from recon.diffusion.noise import Draws, towards

N, MEAN = 8, 0.5
NARROW = Levels(4.0, 0.005)  # enough for images whose pixels vary by 0.14, with few steps


def spectrum(n=N):
    k = torch.fft.fftfreq(n, dtype=torch.float64)
    return 0.25 / (1 + 150 * (k[:, None].square() + k.square()))


PRIOR = WienerDenoiser(MEAN, spectrum())
UNITS = torch.eye(N * N, dtype=torch.float64).reshape(-1, N, N)


def covariance():
    """F* S F, entry by entry."""
    found = torch.fft.ifft2(spectrum() * torch.fft.fft2(UNITS)).real
    return found.reshape(N * N, N * N)


def posterior(problem, sigma):
    """Mean and standard deviation of x given y, and the matrix of A."""
    M, C = problem.A(UNITS).reshape(N * N, -1).T, covariance()
    gain = C @ M.T @ torch.linalg.inv(M @ C @ M.T + sigma**2 * torch.eye(len(M), dtype=torch.float64))
    prior = torch.full((N * N,), MEAN, dtype=torch.float64)
    mean = prior + gain @ (problem.linear.flatten() - M @ prior)
    return mean.reshape(N, N), (C - gain @ M @ C).diagonal().sqrt().reshape(N, N)


def drawn(seed=0, n=None):
    """Images of the prior, by the root of its covariance."""
    g = torch.Generator().manual_seed(seed)
    white = torch.randn(n or 1, N, N, generator=g, dtype=torch.float64)
    x = MEAN + torch.fft.ifft2(spectrum().sqrt() * torch.fft.fft2(white)).real
    return x if n else x[0]


def pixels(sigma=0.02, seed=3):
    """Two thirds of the pixels are seen."""
    g = torch.Generator().manual_seed(0)
    A = Mask(torch.rand(N, N, generator=g) < 0.67, (N, N))
    seen = Gaussian(sigma=sigma)
    return Problem(A, seen(A(drawn()), seed=seed), seen)


def scan(batch=2, sigma=0.05, scale=1.0):
    A = XRay(ParallelBeam((N, N), 1.0, [math.pi * k / 6 for k in range(6)], 13, 1.0), backend="sparse")
    noise = Gaussian(sigma=scale * sigma)
    return Problem(A, noise(A(scale * drawn(5, batch)), seed=list(range(batch))), noise)


def off(samples, mean):
    """Error of the samples' mean."""
    return float((samples.mean(0) - mean).square().mean().sqrt())


def test_levels():
    pairs = Levels(80.0, 0.002, 7.0)(18)
    # Karras et al. 2022: 18 steps from 80 to 0.002, the second level (80^(1/7) + (…)/17)^7
    second = (80 ** (1 / 7) + (0.002 ** (1 / 7) - 80 ** (1 / 7)) / 17) ** 7
    assert pairs[0] == pytest.approx((80.0, second)) and pairs[-1] == pytest.approx((0.002, 0.0))
    assert all(a > b for a, b in pairs) and len(pairs) == 18
    assert Levels()(1) == [(pytest.approx(40.0), 0.0)]


@pytest.mark.parametrize("fresh", [0.0, 0.5, 1.0])
def test_a_step_leaves_the_right_amount_of_noise(fresh):
    g = torch.Generator().manual_seed(0)
    noise, draw = torch.randn(2, 40_000, generator=g, dtype=torch.float64)
    now, after = torch.tensor(2.0), torch.tensor(1.5)
    x = towards(torch.zeros(()), noise, now, after, fresh, draw)
    # 40 000 draws: the standard deviation to 0.35 %, three times
    assert float(x.std()) == pytest.approx(1.5, rel=0.011)
    same = float((x * noise).mean())
    assert same == pytest.approx((2.25 - (fresh * 1.5) ** 2 * (1 - 2.25 / 4)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_wieners_denoiser_is_the_conditional_mean(dtype):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, N, N, generator=g, dtype=dtype)
    C, sigma = covariance(), torch.tensor([0.1, 2.0], dtype=torch.float64)
    for image, s, found, slope in zip(x, sigma, PRIOR(x, sigma), score(PRIOR, x, sigma), strict=True):
        noisy = C + s**2 * torch.eye(N * N, dtype=torch.float64)
        r = (image - MEAN).flatten()
        inverse = torch.linalg.solve(noisy.to(dtype), r)
        torch.testing.assert_close((C.to(dtype) @ inverse).reshape(N, N) + MEAN, found)
        torch.testing.assert_close(-inverse.reshape(N, N), slope)  # Tweedie: ∇ log N(μ, C + σ²)


def test_the_prior_is_drawn_from():
    """Mean and spectrum of unconditional samples; what is left of the steps goes as their inverse."""
    power = spectrum(16)
    D = WienerDenoiser(MEAN, power)
    ratios = []
    for steps in (40, 80):
        x = sample_prior(D, (16, 16), 60, steps, seed=1, dtype=torch.float64)
        F = torch.fft.fft2(x - MEAN, norm="ortho").abs().square().mean(0)
        ratios.append(float((F / power).mean()))
        # the mean of 60 images: √(S(0)/60/256) = 0.004, three times
        assert abs(float(x.mean()) - MEAN) < 0.012
    assert ratios[0] < ratios[1] < 1
    # 60 images of 256 numbers: √(2/15360) = 1.1 %, extrapolation doubles it, three times
    assert 2 * ratios[1] - ratios[0] == pytest.approx(1, abs=0.07)
    flow = sample_prior(D, (16, 16), 60, 80, fresh=0.0, seed=1, dtype=torch.float64)
    F = torch.fft.fft2(flow - MEAN, norm="ortho").abs().square().mean(0)
    assert float((F / power).mean()) == pytest.approx(1, abs=0.2)  # Euler's error in 80 steps


def test_moment_matching_samples_the_posterior():
    problem = pixels()
    mean, sd = posterior(problem, 0.02)
    method = MomentMatching(PRIOR, 80, 20, samples=150, positive=False, at_once=150, levels=NARROW)
    found = method.predict(problem)
    # 150 samples: the mean to sd/√150 = 0.08 sd per pixel, neighbours go together
    assert float((found.mean - mean).square().mean().sqrt()) < 0.2 * float(sd.mean())
    seen = problem.A(torch.ones(N, N, dtype=torch.float64)) > 0
    ratio = (found.spread / sd).flatten()
    # the steps take a few per cent of the spread, see the test of the prior; 64 pixels × 6 %
    for where in (seen.flatten(), ~seen.flatten()):
        assert 0.85 < float(ratio[where].mean()) < 1.06
    # the prior alone would be twice as wide, and the seen pixels are known to about σ
    assert float(sd[seen].mean()) < 0.021 < 0.04 < float(sd[~seen].mean())


@pytest.mark.parametrize(
    ("kind", "options", "sigma"),
    [(DiffPIR, (1.0, 1.0), 0.02), (DiffPIR, (1.0, 1.0), 0.2), (DDS, (), 0.005), (DDS, (), 0.02)],
    ids=["diffpir", "diffpir-noisy", "dds", "dds-noisier"],
)
def test_the_mean_comes_near_that_of_the_posterior(kind, options, sigma):
    """In parts of the posterior's standard deviation; 150 samples alone are off by 0.08 of it."""
    problem = pixels(sigma)
    mean, sd = posterior(problem, sigma)
    errors = []
    for steps in (10, 50):
        method = kind(PRIOR, steps, *options, positive=False, at_once=150, levels=NARROW)
        errors.append(off(method.sample(problem, 150), mean) / float(sd.square().mean().sqrt()))
    assert errors[1] < 0.25 and errors[1] < 0.7 * errors[0]


def test_the_known_faults_of_dds_and_dps():
    """DDS fits noise the more, the more levels; DPS does not look at how large the noise is."""
    problem = scan(1, 0.5)
    misfits = []
    for steps in (10, 40):
        x = DDS(PRIOR, steps, positive=False).sample(problem, 16)
        misfits.append(float(((problem.A(x) - problem.y) / 0.5).square().mean()))
    assert misfits[1] < misfits[0] < 1
    louder = Problem(problem.A, problem.y, Gaussian(sigma=5.0))
    a, b = (DPS(PRIOR, 20, positive=False).sample(p, 2) for p in (problem, louder))
    torch.testing.assert_close(a, b)
    exact = MomentMatching(PRIOR, 20, 20, positive=False)
    assert off(exact.sample(louder, 16), 0.5) < 0.7 * off(exact.sample(problem, 16), 0.5)


@pytest.mark.parametrize("sigma", [0.02, 0.2])
def test_how_much_of_the_spread_dds_has(sigma):
    """A quarter to two fifths where data are, nearly all where none are: 60 samples, 9 % a pixel."""
    problem = pixels(sigma)
    sd = posterior(problem, sigma)[1]
    method = DDS(PRIOR, 100, positive=False, levels=NARROW, at_once=60)
    ratio = method.sample(problem, 60).std(0) / sd
    seen = problem.A(torch.ones(N, N, dtype=torch.float64)) > 0
    assert 0.2 < float(ratio[seen].mean()) < 0.47 and 0.8 < float(ratio[~seen].mean()) < 1.05


def test_complex_images_from_some_of_their_frequencies():
    """The posterior is one number per frequency: S/(S + σ²/2) of the datum, or 0."""
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(N, N, generator=g) < 0.6
    power, sigma = spectrum(), 0.3
    truth = torch.fft.ifft2(
        (2 * power).sqrt() * torch.randn(N, N, generator=g, dtype=torch.complex128), norm="ortho"
    )
    A = Mask(mask, (N, N)) @ Fourier((N, N))
    noise = Gaussian(sigma=sigma)
    problem = Problem(A, noise(A(truth), seed=1), noise)
    kept = torch.fft.fftshift(power / (power + sigma**2 / 2))
    mean = Fourier((N, N)).adjoint(mask * kept * problem.y)
    prior = WienerDenoiser(0.0, power)
    method = MomentMatching(prior, 60, 20, samples=100, at_once=100, levels=Levels(4.0, 0.01))
    found = method.predict(problem)
    left = torch.where(torch.fft.ifftshift(mask), power * (1 - torch.fft.ifftshift(kept)), power)
    sd = float((2 * left).mean().sqrt())  # of |x − mean|, the same in every pixel
    assert found.mean.is_complex() and not found.spread.is_complex()
    # 100 samples: 0.1 sd
    assert float((found.mean - mean).abs().square().mean().sqrt()) < 0.15 * sd
    assert float(found.spread.mean()) == pytest.approx(sd, rel=0.1)  # 60 steps


class Counted(Denoiser):
    """A denoiser of images of size 1 that counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def denoise(self, x, sigma):
        self.calls += 1
        return PRIOR.denoise(x, sigma)


SAMPLERS = [DPS(PRIOR, 8), DDS(PRIOR, 8), DiffPIR(PRIOR, 8), MomentMatching(PRIOR, 8)]


@pytest.mark.parametrize("method", SAMPLERS, ids=lambda m: m.name)
def test_alone_as_in_a_batch_and_however_many(method):
    problem, kind = scan(), type(method)
    assert METHODS[method.name] is kind
    together = method.sample(problem, 5)
    assert together.shape == (5, 2, N, N) and float(together.min()) >= 0
    assert torch.equal(together, method.sample(problem, 5))
    alone = method.sample(Problem(problem.A, problem.y[1], problem.noise), 5)
    torch.testing.assert_close(alone, together[:, 1], rtol=1e-6, atol=1e-9)
    in_parts = kind(PRIOR, 8, at_once=2)
    torch.testing.assert_close(in_parts.sample(problem, 3), together[:3], rtol=1e-6, atol=1e-9)
    spread_out = kind(PRIOR, 8, samples=5).predict(problem)
    torch.testing.assert_close(spread_out.mean, together.mean(0), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(spread_out.spread, together.std(0), rtol=1e-6, atol=1e-9)
    own = kind(PRIOR, 8, seed=[0, 7]).sample(problem, 1)
    assert not torch.allclose(own[:, 1], together[:1, 1])
    empty = Problem(problem.A, problem.y[:0], problem.noise)
    assert method.sample(empty, 2).shape == (2, 0, N, N)
    assert not torch.allclose(kind(PRIOR, 8, seed=1).sample(problem, 1), together[:1])


def test_draws_are_no_noise_of_data():
    """Not that of seed 0 for all images, nor of raw seeds 0, 1, …"""
    noise, zero = Gaussian(sigma=1.0), torch.zeros(20, N, N, dtype=torch.float64)
    data = torch.cat([noise(zero, seed=0), noise(zero, seed=range(20))])
    draws = torch.cat([Draws(s, range(4), (), (N, N)).like(zero[0, 0, 0]) for s in (0, 1)])
    together = torch.corrcoef(torch.cat([draws, data]).flatten(1))
    # 64 numbers: 0.125 by chance, and its largest of 320 four times that
    assert float(together[:8, 8:].abs().max()) < 0.6
    assert float((together[:8, :8] - torch.eye(8)).abs().max()) < 0.6
    with pytest.raises(ValueError, match="non-negative"):
        Draws(-1, [0], (), (N, N))


@pytest.mark.parametrize("likelihood", ["weighted", "unweighted"])
def test_dds_without_noise_on_one_coil(likelihood):
    """radius=inf: what was not sampled is D's, and the few steps of CG are those of any operator."""
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(N, N, generator=g) < 0.6
    noise = Gaussian(sigma=0.1)
    x = torch.randn(N, N, generator=g, dtype=torch.complex128)
    D = WienerDenoiser(0.0, spectrum())
    found = []
    for A in (Sense(mask), Mask(mask, (N, N)) @ Fourier((N, N))):
        problem = Problem(A, noise(Fourier((N, N))(x), seed=0) * mask, noise)
        found.append(DDS(D, 6, math.inf, samples=2, likelihood=likelihood).sample(problem))
    assert bool(found[0].isfinite().all())
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", SAMPLERS, ids=lambda m: m.name)
def test_inference_mode(method):
    problem = scan()
    x = method.sample(problem, 1)
    with torch.inference_mode():
        assert torch.equal(method.sample(problem, 1), x)


@pytest.mark.parametrize("likelihood", ["weighted", "unweighted"])
@pytest.mark.parametrize("method", SAMPLERS, ids=lambda m: m.name)
def test_alone_as_in_a_batch_where_noise_differs(method, likelihood):
    A = scan().A
    noise = Gaussian(sigma=[0.05, 1.0])
    problem = Problem(A, noise(A(drawn(5, 2)), seed=[0, 1]), noise)
    own = type(method)(PRIOR, 8, likelihood=likelihood)
    alone = own.sample(Problem(A, problem.y[1], noise.select(1)), 2)
    torch.testing.assert_close(own.sample(problem, 2)[:, 1], alone, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", [DPS, DDS, DiffPIR, MomentMatching])
def test_another_unit_and_the_price(kind):
    """A scale that is given or found takes the images' unit away; D is called as often as is said."""
    D = Counted()
    method = kind(D, 6, samples=2, scale=1.0)
    x = method(scan())
    assert D.calls == method.evaluations == 6
    milli = kind(D, 6, samples=2, scale=1000.0)(scan(scale=1000.0))
    torch.testing.assert_close(milli, 1000 * x, rtol=1e-6, atol=1e-6)
    found, larger = (kind(D, 6, samples=2)(scan(scale=c)) for c in (1.0, 1000.0))
    torch.testing.assert_close(larger, 1000 * found, rtol=1e-6, atol=1e-6)
    assert method.gradients == {DPS: 6, MomentMatching: 24}.get(kind, 0)


def test_low_dose_and_single_precision():
    A = XRay(ParallelBeam((N, N), 1.0, [math.pi * k / 6 for k in range(6)], 13, 1.0), backend="sparse")
    noise = LowDose(i0=1e4)
    counts = noise(A(0.1 * drawn(5, 2)), seed=0)
    problem = Problem(A, counts.float(), noise)
    for kind in (DPS, DDS, DiffPIR, MomentMatching):
        x = kind(Counted(), 30, samples=2, scale=0.1)(problem)
        assert x.dtype == torch.float32
        # a tenth of the image; an image of zeros would be off by 0.05
        assert float((x - 0.1 * drawn(5, 2)).square().mean().sqrt()) < 0.02, kind


def squares(seeds):
    x = torch.zeros(len(seeds), 16, 16)
    for image, seed in zip(x, seeds, strict=True):
        g = torch.Generator().manual_seed(int(seed))
        top, left = (int(torch.randint(1, 8, (), generator=g)) for _ in range(2))
        image[top : top + 6, left : left + 7] = 0.5 + 0.5 * float(torch.rand((), generator=g))
    return x


def small(**options):
    return DiffusionPrior(0.3, (8, 16), embedding=8, **options)


def quick(**changes):
    return DiffusionConfig(**{"steps": 60, "batch_size": 8, "learning_rate": 3e-3, "average": 0.9, **changes})


def test_what_the_prior_is_before_it_has_learned():
    """c_skip x: the best linear guess for images of mean square size²."""
    x = squares(range(2))
    for sigma in (0.01, 0.3, 20.0):
        torch.testing.assert_close(small()(x, sigma), 0.09 / (0.09 + sigma**2) * x)
    prior = small(data_range=(0.0, 1000.0))
    assert prior.size == 300.0
    torch.testing.assert_close(prior(1000 * x, 300.0), 500 * x)
    z = torch.complex(x, x.mT)
    for kind in ("parts", "channels"):
        torch.testing.assert_close(small(complex_images=kind)(z, 0.3), 0.5 * z)
    odd = torch.zeros(1, 7, 9)
    assert small()(odd, 1.0).shape == (1, 7, 9)
    assert sum(p.numel() for p in DiffusionPrior().parameters()) < 1e6


def test_training(tmp_path):
    prior = small()
    progress = train_diffusion(prior, squares, quick())
    start = -train_diffusion(small(), squares, quick(steps=1, learning_rate=1e-12)).scores[-1][1]
    # before: 1, of what c_skip x leaves (Karras et al. 2022), up to squares being no white noise
    assert start == pytest.approx(1, abs=0.2) and -progress.scores[-1][1] < 0.6 * start
    x = squares(range(8))
    noisy = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert float((prior(noisy, 0.2) - x).square().mean()) < 0.5 * 0.04
    save_prior(prior, tmp_path / "prior", seed=0)
    again = load_prior(small(seed=1), tmp_path / "prior")
    assert torch.equal(again(noisy, 0.2), prior(noisy, 0.2))

    path = tmp_path / "run.safetensors"

    def kill(progress):
        if progress.step == 9:
            raise KeyboardInterrupt

    whole, broken, resumed = small(), small(), small()
    options = quick(steps=12, checkpoint_every=4)
    train_diffusion(whole, squares, options)
    with pytest.raises(KeyboardInterrupt):
        train_diffusion(broken, squares, options, checkpoint=path, callback=kill)
    train_diffusion(resumed, squares, options, checkpoint=path)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_unit_of_the_images_changes_nothing_in_training():
    for bounds in ({}, {"lowest": 0.3, "highest": 0.4}):
        config, found = quick(steps=3, **bounds), []
        for unit in (1.0, 1000.0):
            prior = small(data_range=(0.0, unit))
            found.append(train_diffusion(prior, lambda seeds, c=unit: c * squares(seeds), config).losses)
        assert found[1] == pytest.approx(found[0], rel=1e-4)  # float32


def test_a_data_range_is_the_scale_and_nothing_scales_twice():
    """A network for (0, 1000) on images of size 1000 is that for (0, 1) on images of size 1."""
    one, thousand = small(), small(data_range=(0.0, 1000.0))
    assert one.unit and not thousand.unit
    for kind in (DPS, DDS, DiffPIR, MomentMatching):
        x = kind(one, 4, samples=2, scale=1.0)(scan())
        torch.testing.assert_close(
            kind(thousand, 4, samples=2)(scan(scale=1000.0)) / 1000, x, rtol=1e-4, atol=1e-5
        )
    x = PlugAndPlay(one, iterations=4, sigma=0.1, scale=1.0)(scan())
    y = PlugAndPlay(thousand, iterations=4, sigma=100.0)(scan(scale=1000.0))
    torch.testing.assert_close(y / 1000, x, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        drawn = [sample_prior(D, (N, N), 2, 4) for D in (one, thousand)]
    torch.testing.assert_close(drawn[1] / 1000, drawn[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"PlugAndPlay scale: .* takes images as they are"):
        PlugAndPlay(thousand, scale=1000.0)


def test_a_trained_prior_as_sampler_and_as_denoiser():
    """Squares from six views: samples and plug and play come nearer than zero does, and fit the data."""
    prior = small()
    train_diffusion(prior, squares, quick(steps=100))
    A, truth = (
        XRay(ParallelBeam((16, 16), 1.0, [math.pi * k / 6 for k in range(6)], 25, 1.0)),
        squares(range(3)),
    )
    problem = Problem(A, Gaussian(sigma=0.2)(A(truth)), Gaussian(sigma=0.2))
    for method in (
        DiffPIR(prior, 20, samples=4, scale=1.0),
        PlugAndPlay(prior, iterations=10, sigma=0.1, scale=1.0),
    ):
        x = method(problem)
        error = (x - truth).square().mean() / truth.square().mean()
        assert float(error) < 0.15, method


def test_bad_input():
    problem = scan()
    for make, text in (
        (lambda: Levels(1.0, 2.0), "0 < lowest < highest"),
        (lambda: DPS(PRIOR, zeta=0.0), "DPS zeta"),
        (lambda: DDS(PRIOR, eta=2.0), "DDS eta"),
        (lambda: DDS(PRIOR, radius=-1.0), "DDS radius"),
        (lambda: DiffPIR(PRIOR, weight=0.0), "DiffPIR weight"),
        (lambda: DiffPIR(PRIOR, zeta=2.0), "DiffPIR zeta"),
        (lambda: MomentMatching(PRIOR, iterations=0), "MomentMatching iterations"),
        (lambda: DDS(PRIOR, steps=0), "DDS steps"),
        (lambda: DDS(PRIOR, likelihood="poisson"), "Gaussian"),
        (lambda: DDS(PRIOR, scale=-1.0), "DDS scale"),
        (lambda: DDS(PRIOR, samples=1).predict(problem), "at least 2"),
        (lambda: DDS(PRIOR).sample(problem, 0), "sample n"),
        (lambda: DDS(PRIOR, 4, seed=[1, 2, 3]).sample(problem, 1), "one per image, 2"),
        (lambda: DDS(WienerDenoiser(0.0, torch.ones(4)), 4).sample(problem, 1), "1-D images"),
        (lambda: PRIOR(torch.zeros(9, 9), 1.0), "made for images"),
        (lambda: WienerDenoiser(0.0, -torch.ones(4, 4)), "spectrum"),
        (lambda: sample_prior(PRIOR, (N, N), 0), "samples"),
        (lambda: DiffusionConfig(width=0.0), "width"),
        (lambda: small(seed=0).network.__class__(torch.nn.Identity(), 0.0), "size"),
        (lambda: DiffusionPrior(widths=()), "widths"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
