import math

import pytest
import torch

from operators import Gaussian, ParallelBeam, Sense, XRay
from recon import METHODS, EducatedDeepImagePrior, Problem
from recon.data.sets import PairedData
from recon.educated_dip import EducatedDeepImagePriorConfig

SMALL = {"channels": (8, 8), "skips": (4,), "steps": 30, "batch_size": 4, "learning_rate": 5e-3}
TUNE = {"tune_iterations": 25, "tune_learning_rate": 2e-3}


def boxes(count, shape, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.zeros(count, *shape)
    for image in x:
        top, left = (int(k) for k in torch.randint(1, 7, (2,), generator=g))
        image[top : top + 7, left : left + 6] = 0.5 + torch.rand((), generator=g)
    return 3.0 * x


def pairs(kind="ct"):
    shape = (16, 14)
    if kind == "ct":
        A = XRay(ParallelBeam(shape, 1.0, [(k + 0.5) * math.pi / 8 for k in range(8)], 23, 1.0))
        truth, noise = boxes(12, shape, 0), Gaussian(sigma=0.5)
    else:
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[::2], mask[6:10] = True, True
        A = Sense(mask)
        truth, noise = boxes(12, shape, 0) * (1 + 0.5j), Gaussian(sigma=0.2, mask=A.sampled)
    problem = Problem(A, noise(A(truth), seed=list(range(12))), noise)
    return PairedData(
        (Problem(A, problem.y[:8], noise), truth[:8]), (Problem(A, problem.y[8:], noise), truth[8:]), "boxes"
    )


@pytest.fixture(scope="module", params=["ct", "mri"])
def fitted(request):
    data = pairs(request.param)
    return EducatedDeepImagePrior(**SMALL, **TUNE).fit(data), data


def misfit(problem, x):
    r = (problem.A(x) - problem.y).abs().square() / problem.variance
    return r.flatten(1).sum(1)


def test_it_starts_from_the_network_and_fits_the_data_better(fitted):
    method, data = fitted
    problem, truth = data.validation
    method.tuning = False
    alone = method(problem)
    method.tuning = True
    tuned = method(problem)
    assert tuned.shape == truth.shape and tuned.dtype == truth.dtype and not tuned.requires_grad
    assert bool((misfit(problem, tuned) < 0.8 * misfit(problem, alone)).all())
    assert method.record["validation"] == pytest.approx(method.scores(data)["psnr_db_range_truth"])


def test_tuning_leaves_the_method_as_it_was_and_treats_images_alone(fitted):
    method, data = fitted
    problem = data.validation[0]
    before = {k: v.clone() for k, v in method.state_dict().items()}
    both = method(Problem(problem.A, problem.y[:2], problem.noise))
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    for i in (0, 1):
        alone = method(Problem(problem.A, problem.y[i], problem.noise))
        torch.testing.assert_close(alone, both[i], rtol=1e-5, atol=1e-5)


def test_saved_and_loaded(fitted, tmp_path):
    method, data = fitted
    problem = data.validation[0]
    method.save(tmp_path / "educated")
    again = EducatedDeepImagePrior.load(tmp_path / "educated")
    assert again.config == method.config
    one = Problem(problem.A, problem.y[0], problem.noise)
    torch.testing.assert_close(again(one), method(one), rtol=1e-6, atol=1e-6)


def test_the_papers_weight_is_for_images_of_size_one():
    """A thousand times brighter images and data: the same result, a thousand times brighter."""
    data = pairs()
    (problem, truth), (validation, others) = data.train, data.validation
    loud = Gaussian(sigma=500.0)

    def bright(p):
        return Problem(p.A, 1000 * p.y, loud)

    brighter = PairedData((bright(problem), 1000 * truth), (bright(validation), 1000 * others), "bright")
    small = {**SMALL, "steps": 3, "tune_iterations": 5, "weight": 1e-2}
    a, b = (EducatedDeepImagePrior(**small).fit(d)(d.validation[0]) for d in (data, brighter))
    torch.testing.assert_close(1000 * a, b, rtol=1e-3, atol=2.0)


def test_settings():
    c = EducatedDeepImagePriorConfig()
    assert METHODS["educated-deep-image-prior"] is EducatedDeepImagePrior
    assert (c.channels, c.skips, c.weight) == ((128,) * 6, (0, 0, 0, 4, 4), 1e-4)
    assert (c.tune_iterations, c.tune_learning_rate, c.batch_size, c.learning_rate) == (
        10_000,
        1e-4,
        32,
        5e-4,
    )
    for wrong in ({"weight": None}, {"weight": -1.0}, {"stop": "soon"}, {"tv": "x"}, {"objective": "x"}):
        with pytest.raises(ValueError, match="expected"):
            EducatedDeepImagePrior(**wrong)
