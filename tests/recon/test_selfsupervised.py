"""Learning without truth: nothing of it is seen, and what is lowered instead is what it claims to be."""

import math

import pytest
import torch

from operators import Gaussian, LowDose, ParallelBeam, Sense, XRay, fbp
from recon import METHODS, EquivariantImaging, Noise2Inverse, Problem, SURETraining
from recon.adversarial import AdversarialRegularisation
from recon.data import Measurements, PairedData, UnpairedData
from recon.selfsupervised.base import parts
from recon.selfsupervised.equivariant import rotated, transformed
from recon.selfsupervised.sure import stein

METHOD = [Noise2Inverse, SURETraining, EquivariantImaging]
N, VIEWS = 16, 8


def geometry(views=VIEWS):
    return ParallelBeam((N, N), 1.0, [(k + 0.5) * math.pi / views for k in range(views)], 23, 1.0)


def discs(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    grid = torch.meshgrid(*2 * [torch.linspace(-1, 1, N, dtype=torch.float64)], indexing="ij")
    found = []
    for cy, cx, r, h in torch.rand(count, 4, generator=g, dtype=torch.float64).tolist():
        inside = ((grid[0] - cy + 0.5) ** 2 + (grid[1] - cx + 0.5) ** 2) < (0.3 + 0.4 * r) ** 2
        found.append(0.02 * (0.3 + 0.7 * h) * inside.double())
    return torch.stack(found)


def pairs(count=8, dtype=torch.float64, sigma=0.02, seed=0):
    A, x = XRay(geometry()), discs(count, seed)
    noise = Gaussian(sigma=sigma)
    pair = Problem(A, noise(A(x), seed=list(range(count))).to(dtype), noise), x.to(dtype)
    return PairedData(pair, pair, name="discs")


def fitted(cls, index=0, data=None, **changes):
    data = data or pairs()
    return cls(cls.examples()[index].config, **changes).fit(data.measurements()), data


CASES = [(c, k) for c in METHOD for k in range(len(c.examples()))]


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0].name}-{c[1]}")
def case(request):
    return request.param


def shaken(method, size=0.1, seed=1):
    """The method with weights away from zero, so that its network is no identity."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in method.parameters():
            w.add_(size * torch.randn(w.shape, generator=g, dtype=w.dtype))
    return method


# ---- what is seen


def test_measurements_hide_every_image():
    data = pairs().measurements()
    assert isinstance(data, UnpairedData)
    for problem, images in (data.train, data.validation, next(data.batches(3, torch.Generator()))):
        assert bool(images.isnan().all()) and images.shape == (len(problem.y), N, N)
    assert pairs().of_kind("measurements").name == "discs"
    assert isinstance(pairs().of_kind("paired"), PairedData)
    assert not isinstance(pairs().of_kind("unpaired"), Measurements)


def test_other_truths_give_the_same_weights(case):
    cls, index = case
    honest = pairs()
    problem, truth = honest.train
    lying = PairedData((problem, 1e3 - truth), (problem, torch.full_like(truth, torch.nan)))
    a, b = (fitted(cls, index, data)[0] for data in (honest, lying))
    c = cls(cls.examples()[index].config).fit(Measurements.of(problem))
    for other in (b, c):
        assert other.trained_for == a.trained_for
        assert other.record["validation"] == a.record["validation"]
        for v, w in zip(a.parameters(), other.parameters(), strict=True):
            assert torch.equal(v, w)


def test_only_measurements_are_taken_and_only_here():
    for cls in METHOD:
        for data in (pairs(), pairs().unpaired()):
            with pytest.raises(ValueError, match="expected Measurements"):
                cls.examples()[0].fit(data)
    with pytest.raises(ValueError, match="UnpairedData"):
        AdversarialRegularisation.examples()[0].fit(pairs().measurements())


def test_oracle_scores_are_of_the_truth_and_the_score_is_not():
    method, data = fitted(SURETraining)
    alone = method.scores(data.measurements())
    assert alone == {"held_out_db": method.score(data)} == {"held_out_db": method.record["validation"]}
    assert method.scores(data).keys() == {"psnr_db_range_truth", "ssim_range_truth", "held_out_db"}


def test_held_out_views_by_hand():
    """An untrained residual network is FBP itself: of the other views, projected on the views left out."""
    method, data = fitted(SURETraining, steps=1, learning_rate=1e-30)
    problem, scale = data.validation[0], method.trained_for.image_scale
    error = 0.0
    for j in range(2):
        others = geometry().subset(range(1 - j, VIEWS, 2))
        x = fbp(others, problem.y[:, 1 - j :: 2], filter="hann")
        error += float((XRay(geometry().subset(range(j, VIEWS, 2)))(x) - problem.y[:, j::2]).square().sum())
    size, found = method.held_out(problem)
    assert float(found.sum()) * scale**2 == pytest.approx(error, rel=1e-10)
    assert float(size.sum()) * scale**2 == pytest.approx(float(problem.y.square().sum()), rel=1e-10)


# ---- what every method promises


def test_alone_as_in_a_batch_saved_and_loaded(case, tmp_path):
    cls, index = case
    method, _ = fitted(cls, index)
    method = shaken(method, 0.02).float()
    problem, truth = pairs(dtype=torch.float32).validation
    x = method(problem)
    assert x.shape == truth.shape and bool(torch.isfinite(x).all())
    loud = Problem(problem.A, torch.stack([problem.y[2], 100 * problem.y[1]]), problem.noise)
    torch.testing.assert_close(method(loud)[0], x[2], rtol=1e-4, atol=1e-7)
    loaded = cls.load(method.save(tmp_path / "w"))
    assert loaded.config == method.config and torch.equal(loaded(problem), x)
    assert METHODS[cls.name] is cls


def test_training_lowers_the_loss_on_fixed_data(case):
    cls, index = case
    data, losses = pairs(), []
    problem, none = data.measurements().train
    method = cls(cls.examples()[index].config, steps=15, batch_size=8, learning_rate=1e-2)
    fixed = torch.Generator()

    def look(progress):
        if progress.step in (1, 15):
            with torch.no_grad():
                losses.append(float(method.loss(problem, none, fixed.manual_seed(5))))

    method.fit(data.measurements(), callback=look)
    assert losses[1] < 0.98 * losses[0]


def test_every_weight_gets_a_gradient(case):
    cls, index = case
    method, data = fitted(cls, index)
    shaken(method).requires_grad_(True).train()
    problem, none = data.measurements().train
    loss = method.loss(problem, none, torch.Generator().manual_seed(0))
    for name, w in zip(
        dict(method.named_parameters()),
        torch.autograd.grad(loss, list(method.parameters()), allow_unused=True),
        strict=True,
    ):
        # the last dual of a primal–dual network meets no image but the first
        assert (w is not None and bool(torch.isfinite(w).all())) or "dual" in name
    assert bool(torch.isfinite(loss))


# ---- Noise2Inverse


@pytest.mark.parametrize("domain", ["image", "data"])
@pytest.mark.parametrize("strategy", ["X:1", "1:X"])
def test_predicting_noisy_views_ranks_networks_as_predicting_clean_ones_does(domain, strategy, monkeypatch):
    """L_noisy(a) − L_noisy(b) and L_clean(a) − L_clean(b) have one mean, if noise is independent."""
    draws, A = 400, XRay(geometry())
    clean = A(discs(1)).expand(draws, -1, -1)
    independent = Gaussian(sigma=0.05)(clean, seed=3)
    shared = clean + (independent - clean)[:, :1]  # the same in all views
    a, _ = fitted(Noise2Inverse, 0, domain=domain, strategy=strategy)
    shaken(a, 0.02)
    s = a.trained_for.image_scale

    def loss(image, target):
        monkeypatch.setattr(a, "predicted", lambda *_: image)
        value = a.prediction_error(A, target / s, 0)
        monkeypatch.undo()
        return value

    for y, honest in ((independent, True), (shared, False)):
        x = a.predicted(A, y / s, 0)
        b = 0.3 * x.clamp(min=0)  # another network, which keeps less of the noise
        exact = loss(x, clean) - loss(b, clean)
        gap = loss(x, y) - loss(b, y) - exact
        error = float(gap.std()) / math.sqrt(draws)
        if honest:  # four standard errors, which are small against what is compared
            assert abs(float(gap.mean())) < 4 * error < 0.3 * abs(float(exact.mean()))
        else:  # and the test can tell
            assert abs(float(gap.mean())) > 8 * error


def test_an_identity_gives_the_mean_reconstruction_of_all_parts():
    for changes in ({}, {"strategy": "1:X"}):
        method, data = fitted(Noise2Inverse, splits=4, steps=1, learning_rate=1e-30, **changes)
        problem = data.validation[0]
        each = [
            fbp(geometry().subset(range(j, VIEWS, 4)), problem.y[:, j::4], filter="hann") for j in range(4)
        ]
        torch.testing.assert_close(method(problem), torch.stack(each).mean(0), rtol=1e-10, atol=1e-14)


def test_settings_of_the_network_are_those_of_its_parts():
    settings = {"base": 4, "depth": 2, "frequency_scaling": 0.4}
    method, data = fitted(Noise2Inverse, steps=1, learning_rate=1e-30, settings=settings)
    y = data.validation[0].y
    each = [fbp(geometry().subset(range(j, VIEWS, 2)), y[:, j::2], "hann", 0.4) for j in range(2)]
    torch.testing.assert_close(method(data.validation[0]), torch.stack(each).mean(0), rtol=1e-10, atol=1e-14)


def test_the_papers_values():
    c = Noise2Inverse().config
    assert (c.splits, c.strategy, c.domain, c.learning_rate) == (4, "X:1", "image", 1e-3)
    c = EquivariantImaging().config
    assert (c.weight, c.transforms, c.learning_rate, c.batch_size) == (100.0, 5, 5e-4, 2)


# ---- SURE


@pytest.mark.parametrize("kind", ["real", "uneven", "complex"])
def test_the_risk_is_unbiased(kind):
    """Stein's estimate minus the true squared error has mean 0, for a predictor that is not linear."""
    g = torch.Generator().manual_seed(0)
    draws, n = 4000, 12
    dtype = torch.complex128 if kind == "complex" else torch.float64
    W, V = (torch.randn(n, n, generator=g, dtype=dtype) / math.sqrt(n) for _ in range(2))
    clean = torch.randn(n, generator=g, dtype=dtype)
    variance = torch.full((n,), 0.3, dtype=torch.float64)
    if kind != "real":
        variance = variance * torch.linspace(0.2, 2, n, dtype=torch.float64)
        variance[3] = math.inf
    measured = torch.isfinite(variance)
    sigma = torch.where(measured, variance, 0).sqrt()

    def predict(y):  # z / √(1 + |z|²): smooth, not analytic
        z = y @ W
        return (z / (1 + z.abs().square()).sqrt()) @ V + 0.3 * y

    y = (clean + sigma * torch.randn(draws, n, generator=g, dtype=dtype)) * measured
    risk = stein(predict, y, variance.expand(draws, n), g, step=1e-4)
    error = ((predict(y) - clean).abs().square() * measured).sum(1) / measured.sum()
    gap = risk - error
    spread = float(gap.std()) / math.sqrt(draws)
    assert abs(float(gap.mean())) < 4 * spread < 0.2 * float(error.mean())
    fit = ((predict(y) - y).abs().square() * measured).sum(1) / measured.sum()
    # the misfit alone is no estimate, as this tells
    assert abs(float((fit - error).mean())) > 10 * spread


def test_the_risk_of_a_linear_predictor_in_closed_form():
    """For h = y − c (y − z) the divergence is Σ σ² (1 − c), whatever the probe's seed on average."""
    y = torch.randn(3000, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    risk = stein(lambda v: 0.4 * v, y, torch.ones_like(y), torch.Generator().manual_seed(2))
    expected = 0.36 * y.square().mean() - 1 + 2 * 0.4
    # a probe's square has standard deviation √2
    assert float(risk.mean()) == pytest.approx(float(expected), abs=4 * 0.8 * math.sqrt(2 / y.numel()))


def test_sure_learns_from_kspace_and_from_counts():
    mask = torch.zeros(N, dtype=torch.bool)
    mask[::2] = mask[6:10] = True
    A = Sense(mask, shape=(N, N))
    x = discs(4).to(torch.complex128)
    noise = Gaussian(sigma=0.002, mask=A.sampled)
    problem = Problem(A, noise(A(x), seed=0), noise)
    method = SURETraining(SURETraining.examples()[1].config).fit(Measurements.of(problem))
    assert method(problem).is_complex() and math.isfinite(method.record["validation"])
    A = XRay(geometry())
    noise = LowDose(i0=1e4)
    counts = Problem(A, noise(A(discs(4)), seed=0), noise)
    assert math.isfinite(SURETraining.examples()[0].fit(Measurements.of(counts)).record["validation"])


# ---- equivariant imaging


@pytest.mark.parametrize("shape", [(2, 6, 6), (2, 7, 7), (2, 3, 5, 5)])
def test_right_angles_are_exact(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for k in range(4):
        angles = torch.full((2,), k * math.pi / 2, dtype=torch.float64)
        torch.testing.assert_close(rotated(x, angles), torch.rot90(x, k, (-2, -1)), rtol=0, atol=1e-12)
        z = torch.complex(x, -2 * x)
        torch.testing.assert_close(rotated(z, angles), torch.rot90(z, k, (-2, -1)), rtol=0, atol=1e-12)


def test_turning_long_images_keeps_distances():
    """A blob on the axis of a 9 × 15 image comes to the right place, not to a squeezed one."""
    x = torch.zeros(1, 9, 15, dtype=torch.float64)
    x[0, 4, 10] = 1.0  # three columns right of the middle
    turned = rotated(x, torch.tensor([math.pi / 2], dtype=torch.float64))
    assert turned[0, 1, 7] == pytest.approx(1.0)  # three rows up
    half = rotated(x, torch.tensor([math.pi], dtype=torch.float64))
    torch.testing.assert_close(half, x.flip(-1, -2), rtol=0, atol=1e-12)


def test_every_image_has_an_angle_of_its_own():
    x = discs(3)
    angles = torch.tensor([0.3, 1.1, -0.4], dtype=torch.float64)
    together = rotated(x, angles)
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], rotated(x[k : k + 1], angles[k : k + 1]))
    g = torch.Generator().manual_seed(0)
    assert not torch.equal(transformed(x, "rotations", g), transformed(x, "rotations", g))


def test_quarter_turns_tell_nothing_about_evenly_spaced_views():
    """A T x are the same rays as A x, in another order: why rotations by any angle are the default."""
    A, x = XRay(geometry()), discs(2)
    quarter = VIEWS // 2
    y, seen = A(x), A(torch.rot90(x, 1, (-2, -1)))
    rolled = y.roll(quarter, 1)
    back = torch.cat([rolled[:, :quarter].flip(-1), rolled[:, quarter:]], 1)
    forth = torch.cat([rolled[:, :quarter], rolled[:, quarter:].flip(-1)], 1)
    gaps = [float((seen - z).abs().max() / y.abs().max()) for z in (back, forth)]
    assert min(gaps) < 1e-10
    turned = A(rotated(x, torch.full((2,), 0.2, dtype=torch.float64)))
    best = min(float((turned - y.roll(k, 1)).abs().max() / y.abs().max()) for k in range(VIEWS))
    assert best > 0.05


# ---- bad input


@pytest.mark.parametrize("cls", [Noise2Inverse, EquivariantImaging])
def test_dropout_takes_part_in_training(cls):
    small = {"base": 4, "depth": 2}
    plain, dropped, again = (fitted(cls, settings=small | {"dropout": p})[0] for p in (0.0, 0.5, 0.5))
    pairwise = list(zip(plain.parameters(), dropped.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b, _ in pairwise)
    assert all(torch.equal(b, c) for _, b, c in pairwise)


def test_wrong_settings_are_said():
    for cls, changes, word in (
        (Noise2Inverse, {"strategy": "2:2"}, "strategy"),
        (Noise2Inverse, {"domain": "moon"}, "domain"),
        (Noise2Inverse, {"splits": 1}, "splits"),
        (SURETraining, {"step": 0.0}, "step"),
        (SURETraining, {"settings": 3}, "settings"),
        (SURETraining, {"precision": "bfloat16"}, "SURETraining precision"),
        (EquivariantImaging, {"precision": "bfloat16", "robust": True}, "robust precision"),
        (SURETraining, {"settings": {"dropout": 0.2}}, "SURETraining settings: expected no dropout"),
        (EquivariantImaging, {"settings": {"dropout": 0.2}, "robust": True}, "robust settings"),
        (EquivariantImaging, {"group": "flips"}, "group"),
        (EquivariantImaging, {"weight": -1.0}, "weight"),
    ):
        with pytest.raises(ValueError, match=word):
            cls(**changes)
    with pytest.raises(ValueError, match="unrolled method"):
        SURETraining(method="automap").fit(pairs().measurements())
    with pytest.raises(ValueError, match="no such setting colour"):
        SURETraining(settings={"colour": 1}).fit(pairs().measurements())
    with pytest.raises(ValueError, match="splits"):
        fitted(Noise2Inverse, splits=5)
    with pytest.raises(ValueError, match="splitting views"):
        parts(Sense(torch.ones(4, 4)), 2)
