import math

import pytest
import torch

from operators import Gaussian, ParallelBeam, XRay
from recon import DeepImagePrior, Problem
from recon.dip_stopping import Discrepancy


@pytest.fixture(scope="module")
def scan():
    geometry = ParallelBeam((20, 18), 1.0, [(k + 0.5) * math.pi / 10 for k in range(10)], 29, 1.0)
    A = XRay(geometry)
    truth = torch.zeros(2, 20, 18)
    truth[0, 5:14, 4:11] = 1.0
    truth[1, 3:9, 6:15] = 30.0
    noise = Gaussian(relative=0.03).at(A(truth))
    return Problem(A, noise(A(truth), seed=1), noise), truth


def prior(**changes):
    return DeepImagePrior(
        **{"iterations": 120, "channels": (8, 8), "skips": (4,), "learning_rate": 0.02, **changes}
    )


def test_it_improves_and_beats_the_bare_network(scan):
    problem, truth = scan
    objectives = []
    method = prior(callback=lambda image, k, value: objectives.append((image, k, value)))
    x = method(problem)
    error = ((x - truth).flatten(1).square().sum(1) / truth.flatten(1).square().sum(1)).sqrt()
    assert x.shape == truth.shape and bool((error < 0.3).all())
    first = [next(v for i, k, v in objectives if (i, k) == (image, 0)) for image in (0, 1)]
    last = [min(v for i, k, v in objectives if i == image) for image in (0, 1)]
    # it starts at five steps of CGLS, which already explain the data
    assert all(b < 0.5 * a for a, b in zip(first, last, strict=True))


def test_each_image_is_fitted_alone(scan):
    problem, _ = scan
    method = prior(iterations=5)
    both = method(problem)
    for i in (0, 1):
        alone = method(Problem(problem.A, problem.y[i], problem.noise.select(i)))
        torch.testing.assert_close(alone, both[i], rtol=1e-6, atol=1e-6)


def test_seed_decides(scan):
    problem, _ = scan
    torch.manual_seed(5)
    a, b, c = prior(iterations=3)(problem), prior(iterations=3)(problem), prior(iterations=3, seed=1)(problem)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_lowest_objective_is_kept(scan):
    """At a rate that diverges, the image returned is still the best one seen."""
    problem, _ = scan
    one = Problem(problem.A, problem.y[0], problem.noise.select(0))
    values = []
    method = prior(iterations=31, learning_rate=1.0, weight=0.0, callback=lambda i, k, v: values.append(v))
    x = method(one)
    objective = ((one.A(x) - one.y).square() / one.variance).sum() / 2 / one.y.numel()
    assert float(objective) == pytest.approx(min(values), rel=1e-4)
    assert max(values[values.index(min(values)) :]) > 2 * min(values)


def test_discrepancy_stops_early(scan):
    problem, _ = scan
    steps = []
    method = prior(iterations=400, weight=0.0, stop=Discrepancy(4.0), callback=lambda i, k, v: steps.append((i, k)))
    x = method(problem)
    assert len(steps) < 800
    misfit = ((problem.A(x) - problem.y).square() / problem.variance).flatten(1).mean(1)
    assert bool((misfit <= 4.0 * (1 + 1e-4)).all())


def test_total_variation_makes_it_smoother(scan):
    problem, _ = scan
    one = Problem(problem.A, problem.y[0], problem.noise.select(0))
    rough, smooth = (prior(weight=w)(one) for w in (0.0, 1000.0))

    def variation(x):
        return float(x.diff(dim=0).abs().sum() + x.diff(dim=1).abs().sum())

    assert variation(smooth) < 0.8 * variation(rough)


def test_needs_no_fit_and_works_in_float64(scan):
    problem, _ = scan
    one = Problem(problem.A, problem.y[0].double(), Gaussian(sigma=0.1))
    assert prior(iterations=2).fit(None)(one).dtype == torch.float64


@pytest.mark.parametrize("arguments", [{"weight": -1.0}, {"iterations": 0}])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DeepImagePrior(**arguments)
