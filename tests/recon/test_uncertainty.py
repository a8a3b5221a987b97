"""Spreads and intervals: what they promise, on data where the truth is known."""

import math

import pytest
import torch

from operators import Gaussian, Identity, LowDose, ParallelBeam, Poisson, XRay
from priors.networks.dropout import Dropout, dropping
from priors.networks.seeds import seeded
from priors.networks.unet import UNet
from recon import (
    CGLS,
    FBP,
    METHODS,
    Conformal,
    DeepEnsemble,
    HeteroscedasticUNet,
    MCDropout,
    ParametricBootstrap,
    Problem,
    Reconstructor,
)
from recon.baselines.postprocess import FBPUNet
from recon.data.sets import PairedData
from recon.uncertainty import Prediction, calibration_curve, coverage, gaussian_nll, prediction
from recon.uncertainty.base import mixture

N = 8
A = XRay(ParallelBeam((N, N), 1.0, [math.pi * k / 6 for k in range(6)], 13, 1.0), backend="sparse")
SMALL = {"base": 4, "depth": 3, "steps": 4, "batch_size": 4, "learning_rate": 1e-2}


def images(n, seed=0):
    """Steps of the image's own height between two halves, float32."""
    g = torch.Generator().manual_seed(seed)
    x = torch.full((n, N, N), 0.2)
    x[:, :, 4:] += torch.rand(n, 1, 1, generator=g)
    return x


def scans(n, seed=0, sigma=0.1):
    x, noise = images(n, seed), Gaussian(sigma=sigma)
    return Problem(A, noise(A(x), seed=seed), noise), x


PAIRS = PairedData(scans(32), scans(4, seed=1))


def test_dropout_leaves_out_channels_and_keeps_the_mean():
    layer, h = Dropout(0.25), torch.ones(500, 40, 2, 2)
    assert layer.train()(h) is h and layer.eval()(h) is h
    with dropping(layer, torch.Generator().manual_seed(0)):
        out = layer(h)
    assert layer(h) is h
    kept = out[:, :, 0, 0]
    assert torch.equal(out, kept[..., None, None].expand(out.shape))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    # 20 000 draws: √(0.25·0.75/20000) = 0.003, three times
    assert float((kept == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    with dropping(layer, torch.Generator().manual_seed(0), shared=True):
        assert torch.equal(layer(h)[0], layer(h)[0]) is False  # the next draw is another
    with dropping(layer, torch.Generator().manual_seed(0), shared=True):
        one = layer(h)
    assert torch.equal(one, one[:1].expand(one.shape))


def test_dropout_is_no_part_of_the_weights():
    with seeded(0):
        a, b = UNet(channels=(4, 8, 8)), UNet(channels=(4, 8, 8), dropout=0.5)
    b.load_state_dict(a.state_dict())
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(a(x), b(x))
    with dropping(b, torch.Generator().manual_seed(1)):
        assert not torch.equal(a(x), b(x))


def test_training_with_dropout_is_repeatable():
    state = torch.get_rng_state()
    x, y = (FBPUNet(**SMALL, dropout=0.3).fit(PAIRS) for _ in range(2))
    without = FBPUNet(**SMALL).fit(PAIRS)
    assert torch.equal(torch.get_rng_state(), state)
    for p, q in zip(x.parameters(), y.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(x.network.first[0].weight, without.network.first[0].weight)


@pytest.fixture(scope="module")
def trained():
    return {
        "mc-dropout": MCDropout(FBPUNet(**SMALL, dropout=0.3).fit(PAIRS), 5),
        "deep-ensemble": DeepEnsemble.trained(FBPUNet, PAIRS, range(2), **SMALL),
        "heteroscedastic-unet": HeteroscedasticUNet(**SMALL).fit(PAIRS),
        "parametric-bootstrap": ParametricBootstrap(FBP(), 4),
    }


@pytest.mark.parametrize(
    "name", ["mc-dropout", "deep-ensemble", "heteroscedastic-unet", "parametric-bootstrap"]
)
def test_alone_as_in_a_batch(name, trained):
    method, (problem, _) = trained[name], scans(3, 5)
    assert METHODS[name] is type(method)
    found = method.predict(problem)
    assert found.mean.shape == found.spread.shape == (3, N, N) and float(found.spread.max()) > 0
    torch.testing.assert_close(method(problem), found.mean)
    alone = method.predict(Problem(A, problem.y[2], problem.noise))
    torch.testing.assert_close(alone.mean, found.mean[2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(alone.spread, found.spread[2], rtol=1e-4, atol=1e-6)
    again = method.predict(problem)
    assert torch.equal(again.spread, found.spread)
    empty = method.predict(Problem(A, problem.y[:0], problem.noise))
    assert empty.spread.shape == (0, N, N)


def test_the_law_of_total_variance():
    g = torch.Generator().manual_seed(0)
    mean, spread = torch.randn(2, 5, 3, generator=g, dtype=torch.float64)
    found = mixture(Prediction(m, s.abs()) for m, s in zip(mean, spread, strict=True))
    torch.testing.assert_close(found.mean, mean.mean(0))
    torch.testing.assert_close(found.epistemic, mean.std(0))
    torch.testing.assert_close(found.aleatoric, spread.square().mean(0).sqrt())
    torch.testing.assert_close(found.spread.square(), found.aleatoric.square() + found.epistemic.square())


def test_an_ensemble_of_methods_and_of_those_that_know_their_spread(trained, tmp_path):
    problem, _ = scans(2)
    methods = [FBP(filter=f) for f in ("ram-lak", "hann", "cosine")]
    stack = torch.stack([m(problem) for m in methods])
    found = DeepEnsemble(methods).predict(problem)
    torch.testing.assert_close(found.spread, stack.std(0), rtol=1e-4, atol=1e-6)
    assert float(found.aleatoric.max()) == 0
    members = trained["deep-ensemble"].methods
    assert [m.config.seed for m in members] == [0, 1] and members[0].record["seed"] == 0
    own = [HeteroscedasticUNet(**SMALL, seed=s).fit(PAIRS) for s in range(2)]
    both = DeepEnsemble(own).predict(problem)
    said = torch.stack([m.predict(problem).spread for m in own]).square().mean(0).sqrt()
    torch.testing.assert_close(both.aleatoric, said)
    assert float((both.spread - both.aleatoric).min()) >= 0 and float(both.epistemic.max()) > 0
    DeepEnsemble.trained(FBPUNet, PAIRS, [3, 4], checkpoint=tmp_path / "run", **SMALL)
    assert {"run-3.safetensors", "run-4.safetensors"} <= {f.name for f in tmp_path.iterdir()}


def test_the_likelihood_is_least_at_mean_and_variance():
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 2
    mean = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    log = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([mean, log], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        value = gaussian_nll(mean, log.exp(), x).mean()
        value.backward()
        return value

    solver.step(closure)
    assert float(mean.detach()) == pytest.approx(float(x.mean()), abs=1e-5)
    assert float(log.detach().exp()) == pytest.approx(float(x.var(correction=0)), rel=1e-5)


def test_the_variance_learned_is_that_of_the_truth():
    """Truths that scatter by 0.05 in one half and by 0.2 in the other, whatever the data say."""
    g = torch.Generator().manual_seed(0)
    level = torch.full((N, N), 0.05)
    level[:, 4:] = 0.2
    x = images(512) * 0 + 0.2
    x[:, :, 4:] = 1.0
    y = A(x)
    data = PairedData(
        (Problem(A, y, Gaussian(sigma=0.1)), x + level * torch.randn(x.shape, generator=g)), scans(4)
    )
    method = HeteroscedasticUNet(base=8, depth=1, steps=250, batch_size=32, learning_rate=1e-2, average=0.95)
    found = method.fit(data).predict(Problem(A, y[:1], Gaussian(sigma=0.1)))
    # 16 000 pixels a half and a small network: a tenth
    for part, wanted in ((slice(0, 3), 0.05), (slice(5, 8), 0.2)):
        assert float(found.spread[..., part].mean()) == pytest.approx(wanted, rel=0.1)
    assert float((found.mean - x[:1])[..., 5:].abs().mean()) < 0.05


def test_the_bootstrap_of_a_linear_method_is_its_covariance():
    """√diag(R Σ R*), R = FBP."""
    problem = Problem(A, torch.ones(6, 13, dtype=torch.float64), Gaussian(sigma=0.3))
    basis = torch.eye(6 * 13, dtype=torch.float64).reshape(-1, 6, 13)
    method = FBP(positive=False)
    R = method(Problem(A, basis, problem.noise))
    exact = 0.3 * R.square().sum(0).sqrt()
    found = ParametricBootstrap(method, 400).predict(problem)
    # 400 replicas: 1/√800 = 3.5 % per pixel
    torch.testing.assert_close(found.spread, exact, rtol=0.15, atol=0)
    assert float((found.spread / exact).mean()) == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(found.mean, method(problem))


def test_the_bootstrap_draws_other_noise_than_data_have():
    """Raw seeds 0, 1, … are those of validation images; 2³² more are the same to torch's generator."""
    drawn = []

    class Recorded(FBP):
        def forward(self, problem):
            drawn.append(problem.y)
            return super().forward(problem)

    noise = Gaussian(sigma=1.0)
    ParametricBootstrap(Recorded(), 8).predict(Problem(A, torch.zeros(6, 13).double(), noise))
    replicas = torch.stack(drawn[1:])
    own = noise(torch.zeros(40, 6, 13).double(), seed=[*range(20), *range(2**32, 2**32 + 20)])
    first = noise(torch.zeros(20, 6, 13).double(), seed=0)
    together = torch.corrcoef(torch.cat([replicas, own, first]).flatten(1))
    # 78 numbers: 0.11 by chance, and its largest of 480 four times that
    assert float(together[:8, 8:].abs().max()) < 0.6
    assert float((together[:8, :8] - torch.eye(8)).abs().max()) < 0.6


def test_the_bootstrap_of_emission_where_an_image_is_negative():
    x = torch.zeros(N, N, dtype=torch.float64)
    x[3:5, 3:5] = 0.2
    noise = Poisson(scale=20.0)
    problem = Problem(A, noise(A(x), seed=0), noise)
    method = CGLS(iterations=10)
    assert float(A(method(problem)).min()) < 0
    assert bool((ParametricBootstrap(method, 3).predict(problem).spread > 0).any())


def test_the_bootstrap_of_counts():
    noise = LowDose(i0=1e4)
    problem = Problem(A, noise(A(0.02 * images(2).double())), noise)
    wide = ParametricBootstrap(FBP(), 30).predict(problem).spread
    few = LowDose(i0=1e3)
    wider = ParametricBootstrap(FBP(), 30).predict(Problem(A, few(A(0.02 * images(2).double())), few)).spread
    # a tenth of the photons: √10; 30 replicas of 64 pixels that go together
    assert float(wider.mean() / wide.mean()) == pytest.approx(10**0.5, rel=0.15)


class Told(Reconstructor):
    """The data for an image; its spread is its second channel, or unknown."""

    def __init__(self, spread=None):
        super().__init__()
        self.known = spread

    def forward(self, problem):
        return problem.y

    def predict(self, problem):
        return Prediction(problem.y, self.known.expand(problem.y.shape))


class Silent(Told):
    predict = None


def told(n, seed, level, shared=0.0):
    """Images whose pixels are off by level·t, t Laplacian; `shared`: of a size of their own."""
    g = torch.Generator().manual_seed(seed)
    u = torch.rand(n, N, N, generator=g, dtype=torch.float64) - 0.5
    size = (shared * torch.randn(n, 1, 1, generator=g, dtype=torch.float64)).exp()
    error = -level * size * u.sign() * (1 - 2 * u.abs()).log()
    truth = torch.rand(n, N, N, generator=g, dtype=torch.float64)
    return Problem(Identity((N, N)), truth + error, Gaussian(sigma=1.0)), truth


SPREAD = torch.linspace(0.01, 0.3, N * N, dtype=torch.float64).reshape(N, N)


@pytest.mark.parametrize("rule", ["risk", "pixel", "pooled"])
def test_ninety_per_cent_is_ninety_per_cent(rule):
    """On images exchangeable with those of the calibration, whatever law the errors have."""
    method = Conformal(Told(SPREAD), 0.9, rule).calibrate([told(300, 0, SPREAD)])
    problem, truth = told(300, 1, SPREAD)
    lower, upper = method.interval(problem)
    inside = coverage(lower, upper, truth)
    assert inside.shape == (300,) and 0.88 < float(inside.mean()) < 0.92
    raw = coverage(*prediction(Told(0.3 * SPREAD), problem).interval(0.9), truth)
    assert float(raw.mean()) < 0.6  # a spread too small by itself
    again = method.predict(problem)
    torch.testing.assert_close(again.interval(0.9)[1], upper)
    assert torch.equal(again.mean, method(problem))


def test_what_is_promised_holds_for_few_images_whose_pixels_go_together():
    """Means over 300 calibrations on 12 images: "risk" and "pixel" keep 90 %, "pooled" does not."""
    found = {"risk": [], "pixel": [], "pooled": []}
    for seed in range(300):
        every, truth = told(13, seed, 0.1, shared=1.0)
        noise = every.noise
        known = [(Problem(every.A, every.y[:12], noise), truth[:12])]
        new = Problem(every.A, every.y[12:], noise)
        for rule, values in found.items():
            method = Conformal(Told(torch.tensor(0.1)), 0.9, rule).calibrate(known)
            values.append(float(coverage(*method.interval(new), truth[12:])))
    mean = {rule: sum(values) / 300 for rule, values in found.items()}
    # the standard deviation of one image's coverage is 0.12 here: its mean to 0.007
    assert mean["risk"] > 0.9 - 0.014 and 0.9 - 0.014 < mean["pixel"] < 0.9 + 1 / 13 + 0.014
    assert mean["risk"] < 0.9 + 2 / 13 + 0.014 and mean["pooled"] < mean["risk"] - 0.03


def test_a_spread_that_knows_where_makes_intervals_short():
    calibration, (problem, truth) = told(200, 0, SPREAD), told(200, 1, SPREAD)
    aware = Conformal(Told(SPREAD)).calibrate([calibration]).radius(problem)
    blind = Conformal(Silent()).calibrate([calibration])
    assert float(blind.radius(problem).std()) < 1e-12 and aware.mean() < 0.95 * blind.radius(problem).mean()
    assert 0.88 < float(coverage(*blind.interval(problem), truth).mean()) < 0.93
    # though half of the pixels, the noisy ones, are held less often
    assert float(coverage(*blind.interval(problem), truth, SPREAD > 0.15).mean()) < 0.87


def test_complex_images_have_discs():
    g = torch.Generator().manual_seed(0)
    truth = torch.randn(100, N, N, generator=g, dtype=torch.complex128)
    y = truth + 0.1 * torch.randn(100, N, N, generator=g, dtype=torch.complex128)
    problem = Problem(Identity((N, N)), y, Gaussian(sigma=0.1))
    method = Conformal(Silent()).calibrate([(Problem(problem.A, y[:50], problem.noise), truth[:50])])
    held = ((y - truth).abs() <= method.radius(problem))[50:].double().mean()
    # P(|n| > r) = exp(−r²/σ²) of circular noise: r = σ√ln 10, a little more for 50 images (2/51)
    assert 0.88 < float(held) < 0.96
    assert float(method.radius(problem).mean()) == pytest.approx(0.1 * math.log(10) ** 0.5, rel=0.1)
    for ask in (method.interval, lambda p: method.predict(p).interval()):
        with pytest.raises(ValueError, match="complex"):
            ask(problem)


def test_calibration_from_paired_data_and_from_a_list(trained):
    a = Conformal(trained["mc-dropout"], 0.5).calibrate(PAIRS)
    problem, truth = PAIRS.validation
    singles = [(Problem(A, y, problem.noise), x) for y, x in zip(problem.y, truth, strict=True)]
    b = Conformal(trained["mc-dropout"], 0.5).calibrate(singles)
    assert a.images == b.images == 4
    torch.testing.assert_close(a.quantile, b.quantile, rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(5, 7), (6, 1)])
def test_pixel_by_pixel_serves_one_size(shape):
    def pair(n, shape):
        y = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return Problem(Identity(shape), y, Gaussian(sigma=1.0)), torch.zeros_like(y)

    method = Conformal(Silent(), 0.9, "pixel").calibrate([pair(20, (6, 6))])
    lower, upper = method.interval(pair(2, (6, 6))[0])
    assert bool((lower < upper).all())
    with pytest.raises(ValueError, match=r"for images \(6, 6\), got images"):
        method.interval(pair(1, shape)[0])


def test_heteroscedastic_unet_learns_from_patches():
    drawn = []

    class Recorded(HeteroscedasticUNet):
        def both(self, x):
            drawn.append(tuple(x.shape[1:]))
            return super().both(x)

    method = Recorded(**SMALL, patch=4).fit(PAIRS)
    assert (4, 4) in drawn and method(PAIRS.validation[0]).shape == (4, N, N)


def test_spread_against_error():
    g = torch.Generator().manual_seed(0)
    spread = 0.1 + torch.rand(50, N, N, generator=g, dtype=torch.float64)
    error = spread * torch.randn(spread.shape, generator=g, dtype=torch.float64)
    right = calibration_curve(Prediction(torch.zeros_like(spread), spread), error, 5)
    # 640 pixels a group: 1/√1280 = 3 %
    torch.testing.assert_close(right.error, right.spread, rtol=0.1, atol=0)
    assert right.mismatch < 0.06 and int(right.count.sum()) == spread.numel()
    half = calibration_curve(Prediction(torch.zeros_like(spread), spread / 2), error, 5)
    assert half.mismatch == pytest.approx(0.5, abs=0.05)


def flat(n):
    y = torch.zeros(n, 2, 2, dtype=torch.float64)
    return Problem(Identity((2, 2)), y, Gaussian(sigma=1.0)), y


def test_bad_input():
    problem, truth = scans(2)
    fbp = FBP()
    for make, text in (
        (lambda: DeepEnsemble([fbp]), "at least 2"),
        (lambda: DeepEnsemble([fbp, fbp]), "the same method twice"),
        (lambda: MCDropout(fbp), None),
        (lambda: MCDropout(fbp).predict(problem), "has no dropout"),
        (lambda: MCDropout(FBPUNet(dropout=0.2)).predict(problem), "FBPUNet: not trained"),
        (lambda: MCDropout(fbp, 1), "samples"),
        (lambda: FBPUNet(dropout=1.0), "dropout"),
        (lambda: HeteroscedasticUNet(first_spread=0.0), "least_spread"),
        (lambda: HeteroscedasticUNet(stack=3), "HeteroscedasticUNet stack: expected 1"),
        (lambda: DeepEnsemble.trained(HeteroscedasticUNet, None, [0]), "seeds: expected at least 2"),
        (lambda: DeepEnsemble.trained(HeteroscedasticUNet, None, [0, 0]), "all different"),
        (lambda: HeteroscedasticUNet().predict(problem), "not trained"),
        (lambda: ParametricBootstrap(fbp, 1), "replicas"),
        (lambda: ParametricBootstrap(CGLS), "method"),
        (lambda: Conformal(fbp, 1.0), "level"),
        (lambda: Conformal(fbp, rule="sure"), "rule"),
        (lambda: Conformal(fbp, floor=-1.0), "floor"),
        (lambda: Conformal(fbp).interval(problem), "not calibrated"),
        (lambda: Conformal(fbp).calibrate([]), "at least one"),
        (lambda: Conformal(fbp).calibrate([(problem, truth)]), "at least 9 images"),
        (lambda: Conformal(fbp).calibrate([(problem, truth[:1])]), "truth"),
        (lambda: Prediction(truth, truth).interval(2.0), "level"),
        (lambda: calibration_curve(Prediction(truth, truth), truth, 0), "groups"),
        (lambda: calibration_curve(Prediction(truth[0], truth[0]), truth), "calibration_curve truth"),
        (lambda: Conformal(Silent()).calibrate([told(9, 0, SPREAD), flat(9)]), "of one shape"),
    ):
        if text is None:
            make()
            continue
        with pytest.raises(ValueError, match=text):
            make()


@pytest.mark.parametrize("rule", ["risk", "pixel"])
def test_a_calibration_is_kept(tmp_path, rule):
    problem, _ = scans(2, seed=9)
    method = Conformal(FBP(), 0.9, rule).calibrate(PairedData(PAIRS.train, PAIRS.train))
    file = method.save_calibration(tmp_path / "interval.safetensors")
    again = Conformal(FBP(), 0.9, rule).load_calibration(file)
    assert again.images == 32 and torch.equal(again.radius(problem), method.radius(problem))
    for other in (Conformal(CGLS(), 0.9, rule), Conformal(FBP(), 0.8, rule), Conformal(FBP(), floor=0.1)):
        with pytest.raises(ValueError, match="made with"):
            other.load_calibration(file)
    with pytest.raises(ValueError, match="nothing to save"):
        Conformal(FBP()).save_calibration(file)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match="not a whole"):
        again.load_calibration(file)
