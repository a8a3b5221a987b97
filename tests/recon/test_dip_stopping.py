import math

import pytest
import torch

from operators import (
    Coils,
    Fourier,
    Gaussian,
    LowDose,
    Mask,
    NonUniformFourier,
    NonUniformSense,
    ParallelBeam,
    Sense,
    XRay,
)
from recon import DeepImagePrior, Problem
from recon.dip_stopping import Discrepancy, HeldOut, Stopping, Watch, WindowedVariance, held_out, rule
from recon.fidelity import LIKELIHOODS


def noisy_boxes(relative=0.4, seed=0):
    truth = torch.zeros(24, 24)
    truth[6:18, 5:12], truth[8:12, 12:19] = 1.0, 0.6
    A = XRay(ParallelBeam((24, 24), 1.0, [(k + 0.5) * math.pi / 24 for k in range(24)], 35, 1.0))
    noise = Gaussian(relative=relative).at(A(truth))
    return Problem(A, noise(A(truth), seed=seed), noise), truth


def mri():
    mask = torch.zeros(20, 17, dtype=torch.bool)
    mask[::2] = True
    mask[7:13] = True
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 20, 17, generator=g, dtype=torch.complex64)
    A = Sense(mask, maps / maps.abs().square().sum(0).sqrt())
    truth = torch.zeros(20, 17, dtype=torch.complex64)
    truth[5:12, 4:11] = 1 + 0.5j
    noise = Gaussian(sigma=0.05, data_ndim=3, mask=A.sampled)
    return Problem(A, noise(A(truth), seed=1), noise), truth


class Recorded(Stopping):
    """Keeps every output; never stops, never chooses."""

    def __init__(self, inner=None):
        self.inner, self.images = inner, []

    def begin(self, problem, d):
        watch, images = Watch(), self.images
        if self.inner:
            watch.keep = self.inner.begin(problem, d).keep

        def done(k, x, z):
            torch.testing.assert_close(problem.A(x), z, rtol=1e-4, atol=1e-4)
            images.append(x)
            return False

        watch.done = done
        return watch


class Together(Stopping):
    """Lets the fit run on and keeps what each of the rules would have returned."""

    def __init__(self, **rules):
        self.rules, self.watches = rules, {}

    def begin(self, problem, d):
        self.watches = {name: one.begin(problem, d) for name, one in self.rules.items()}
        watch, stopped = Watch(), set()

        def done(k, x, z):
            self.last = x
            for name, one in self.watches.items():
                if name not in stopped and one.done(k, x, z):
                    stopped.add(name)
            return False

        watch.done = done
        return watch


def test_early_stopping_beats_a_long_run_on_noisy_data():
    """Mean of three seeds, by each rule: at 40 % noise, a decoder left alone fits the noise."""
    problem, truth = noisy_boxes()
    settings = {
        "network": "conv-decoder",
        "channels": (24,) * 5,
        "learning_rate": 1e-2,
        "schedule": "constant",
    }
    errors = {"none": 0.0, "held-out": 0.0, "variance": 0.0, "discrepancy": 0.0}
    for seed in range(3):
        rules = Together(variance=WindowedVariance(10, 60), discrepancy=Discrepancy())
        DeepImagePrior(0.0, 300, **settings, seed=seed, stop=rules)(problem)
        # data held out leave the fit, which is therefore one of its own
        found = {name: watch.image for name, watch in rules.watches.items()} | {"none": rules.last}
        found["held-out"] = DeepImagePrior(0.0, 300, **settings, seed=seed, stop=HeldOut(patience=40))(
            problem
        )
        for name, x in found.items():
            errors[name] += float((x - truth).norm() / truth.norm()) / 3
    for name in ("held-out", "variance", "discrepancy"):
        # by a margin, for rounding sends such descents different ways on different machines
        assert errors[name] < 0.85 * errors["none"], errors


@pytest.mark.parametrize("z", ["noise", "data"])
@pytest.mark.parametrize("weight", [0.0, None])
def test_what_is_held_out_has_no_influence_on_the_fit(z, weight):
    """Not through z, nor the scale of the image, nor the weight that is chosen by a rough image."""
    problem, _ = noisy_boxes(0.1)
    settings = {"weight": weight, "iterations": 4, "channels": (4, 4), "z": z}
    d = LIKELIHOODS["weighted"](problem)
    held = held_out(problem, d, 0.2, seed=3)
    assert 0.15 < float(held.float().mean()) < 0.25
    other = problem.y + 5.0 * held
    runs = []
    for y in (problem.y, other):
        record = Recorded(HeldOut(0.2, seed=3))
        DeepImagePrior(**settings, stop=record)(Problem(problem.A, y, problem.noise))
        runs.append(torch.stack(record.images))
    assert torch.equal(*runs)


def test_held_out_score_is_the_likelihood_of_the_held_out_data():
    truth = 0.03 * noisy_boxes()[1]
    A = noisy_boxes()[0].A
    noise = LowDose(i0=500.0, electronic_sigma=2.0)
    problem = Problem(A, noise(A(truth), seed=0), noise)
    d = LIKELIHOODS["matching"](problem)
    watch = HeldOut(0.3).begin(problem, d)
    first, second = A(truth), A(2 * truth)
    constant = float(d(torch.where(watch.held, first, problem.linear)))
    watch.done(0, truth, first)
    assert watch.lowest == pytest.approx(constant) and watch.at == 0
    # what happens to data that are not held out is not seen
    watch.done(1, 2 * truth, torch.where(watch.held, first, second))
    assert watch.lowest == pytest.approx(constant) and watch.at == 0
    worse = watch.lowest
    watch.done(2, 2 * truth, torch.where(watch.held, second, first))
    assert watch.lowest == worse and torch.equal(watch.image, truth)


def test_coils_hold_out_the_same_positions_and_never_the_middle():
    problem, _ = mri()
    held = held_out(problem, LIKELIHOODS["weighted"](problem), 0.3)
    assert held.shape == problem.y.shape
    assert torch.equal(held, held[:1].expand_as(held))
    assert not bool((held & ~problem.A.sampled).any())
    assert not bool(held[:, 8:12, 6:10].any()) and bool(held.any())


@pytest.mark.parametrize("coils", [False, True])
def test_the_middle_of_k_space_stays_whatever_operator_makes_it(coils):
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 16, 12, generator=g, dtype=torch.complex64)
    shape = (3, 16, 12) if coils else (16, 12)
    grid = Mask(torch.ones(16, 12), shape) @ Fourier(shape)
    angles = torch.linspace(0, math.pi, 9)[:-1, None]
    radius = torch.linspace(-math.pi, math.pi, 33)[:-1]
    spokes = torch.stack([radius * angles.sin(), radius * angles.cos()], -1)
    radial = NonUniformFourier(shape, spokes)
    near = (spokes.abs() * torch.tensor([16, 12]) < 4 * math.pi).all(-1)
    middle = torch.zeros(16, 12, dtype=torch.bool)
    middle[6:10, 4:8] = True
    every = [(grid, middle), (0.5 * radial, near)]
    if coils:
        every = [(A @ Coils(maps), kept) for A, kept in every]
        every.append((NonUniformSense(spokes, maps), near))
    for A, kept in every:
        noise = Gaussian(sigma=0.1, data_ndim=len(A.out_shape))
        problem = Problem(A, A(torch.ones(16, 12, dtype=torch.complex64)), noise)
        held = held_out(problem, LIKELIHOODS["weighted"](problem), 0.6)
        assert not bool(held[..., kept].any()) and bool(held.any())
        assert not coils or torch.equal(held, held[:1].expand_as(held))


def test_windowed_variance_is_that_of_the_definition():
    g = torch.Generator().manual_seed(0)
    images = [torch.randn(5, 4, generator=g).mul(abs(k - 12) + 1.0).add(3.0) for k in range(30)]
    watch = WindowedVariance(window=4, patience=5).begin(None, None)
    direct = {}
    for k, x in enumerate(images):
        if k >= 3:
            window = torch.stack(images[k - 3 : k + 1]).double()
            direct[k] = float((window - window.mean(0)).square().sum((1, 2)).mean() / 20)
        stopped = watch.done(k, x, x)
        if k >= 3:
            assert watch.lowest == pytest.approx(min(direct.values()), rel=1e-9)
        if stopped:
            break
    assert watch.at == min(direct, key=direct.get) and torch.equal(watch.image, images[watch.at])
    assert k - watch.at == 5


def test_discrepancy_out_of_reach_leaves_the_lowest_objective():
    problem, _ = noisy_boxes(0.1)
    settings = {"weight": 0.0, "iterations": 12, "channels": (4, 4)}
    never = DeepImagePrior(**settings, stop=Discrepancy(1e-6))(problem)
    torch.testing.assert_close(never, DeepImagePrior(**settings)(problem), rtol=0, atol=0)


def test_discrepancy_of_counts_is_pearsons():
    truth = 0.03 * noisy_boxes()[1]
    A = noisy_boxes()[0].A
    noise = LowDose(i0=2000.0)
    problem = Problem(A, noise(A(truth), seed=0), noise)
    d = LIKELIHOODS["matching"](problem)
    mean = 2000.0 * (-A(truth)).exp()
    chi = float(((problem.y - mean).square() / mean).mean())
    assert not Discrepancy(0.99 * chi).begin(problem, d).done(0, truth, A(truth))
    assert Discrepancy(1.01 * chi).begin(problem, d).done(0, truth, A(truth))


def test_k_space_that_was_not_sampled_does_not_count():
    problem, truth = mri()
    d = LIKELIHOODS["weighted"](problem)
    residual = (problem.A(truth) - problem.y)[problem.A.sampled.expand_as(problem.y)]
    chi = float(residual.abs().square().sum() / (0.05**2 / 2) / (2 * len(residual)))
    assert not Discrepancy(0.99 * chi).begin(problem, d).done(0, truth, problem.A(truth))
    assert Discrepancy(1.01 * chi).begin(problem, d).done(0, truth, problem.A(truth))


def test_smooth_is_the_exponential_average_of_the_outputs():
    problem, _ = noisy_boxes(0.1)
    settings = {"weight": 0.0, "iterations": 6, "channels": (4, 4)}
    plain, smooth = Recorded(), Recorded()
    DeepImagePrior(**settings, stop=plain)(problem)
    x = DeepImagePrior(**settings, stop=smooth, smooth=0.8)(problem)
    expected = plain.images[0]
    for k, image in enumerate(plain.images):
        expected = expected if k == 0 else 0.8 * expected + 0.2 * image
        torch.testing.assert_close(smooth.images[k], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(x, smooth.images[-1])


def test_wrong_rules_are_refused():
    with pytest.raises(ValueError, match="'held-out', 'variance', 'discrepancy'"):
        DeepImagePrior(stop="soon")
    for wrong in (
        lambda: HeldOut(0.0),
        lambda: HeldOut(patience=0),
        lambda: WindowedVariance(1),
        lambda: Discrepancy(-1.0),
    ):
        with pytest.raises(ValueError, match="expected"):
            wrong()
    assert rule(None) is None and rule("variance") == WindowedVariance(100, 1000)
    problem, _ = noisy_boxes()
    with pytest.raises(ValueError, match="holds out 0"):
        held_out(problem, LIKELIHOODS["weighted"](problem), 1e-9)
