"""The built-in problems: what they say, and that what was tuned for them still belongs to them."""

import math

import pytest
import torch

from operators import FanBeam, LowDose
from recon.comparison import Method, Task, Window
from recon.comparison import problem as load
from recon.comparison.describe import describe, fingerprint
from recon.comparison.dose import water_noise_hu
from recon.comparison.files import read_json
from recon.comparison.method import load_methods, method_names
from recon.comparison.parameters import Parameters, parameter_file
from recon.comparison.task import task_names


@pytest.mark.parametrize("name", task_names())
def test_committed_parameters_belong_to_the_problem(name):
    task, path = load(name), parameter_file(name)
    if not path.exists():
        pytest.skip("not tuned yet")
    store = Parameters(task, path)
    for method, made in load_methods(list(store.methods)).items():
        parameters, origin = store.of(method, made)
        assert set(parameters) == set(made.space) and origin.startswith("tuned in")
    trials = {len(entry["trials"]) for entry in read_json(path)["methods"].values()}
    assert len(trials) == 1, "the same number of trials for every method"


@pytest.mark.parametrize("name", task_names())
def test_methods_of_a_problem_exist(name):
    assert set(load(name).methods) <= set(method_names())


def test_head_lowdose_is_what_it_says():
    from recon.comparison.problems.head_lowdose import GEOMETRY, NOISE

    task = load("head-lowdose")
    assert (GEOMETRY.views, GEOMETRY.n_bins, GEOMETRY.detector) == (180, 368, "arc")
    assert NOISE.i0 * GEOMETRY.views == pytest.approx(1e8, rel=0.02), "a tenth of about 1e9"
    pairs = task.images("test", 2)
    (first, truth), (second, same) = pairs
    assert torch.equal(truth, same) and not torch.equal(first.y, second.y) and first.A is second.A
    assert len(task.images("test")) == 10
    mask = task.mask(truth)
    assert 0.3 < float(mask.float().mean()) < 0.8
    (tuned, head), *_ = task.images("validation", 1)
    learned, truth = task.data("paired").validation
    assert torch.equal(head, truth[0])
    # two draws of the same counts: their difference has the variance of both
    a, b = tuned.y.double(), learned.y[0].double()
    assert float(((a - b) ** 2 / (a + b + 2 * NOISE.electronic_sigma**2)).mean()) == pytest.approx(
        1, abs=0.03
    )


def test_ellipses_small_keeps_its_splits_apart():
    task = load("ellipses-small")
    test, validation = task.images("test"), task.images("validation")
    again = load("ellipses-small").images("test")
    assert len(test) == len(validation) == 20
    assert all(
        torch.equal(a.y, b.y) and torch.equal(x, z) for (a, x), (b, z) in zip(test, again, strict=True)
    )
    assert not any(torch.equal(x, z) for _, x in test for _, z in validation)


def test_water_noise_follows_the_dose():
    angles = tuple(2 * math.pi * k / 120 for k in range(120))
    geometry = FanBeam((128, 128), 1.8, angles, 220, 4.3, 595.0, 1085.6, "arc")
    low, high = (water_noise_hu(geometry, LowDose(i0=i0), 0.0206) for i0 in (1e5, 4e5))
    assert low / high == pytest.approx(2, rel=0.05)  # σ ∝ 1/√I0


def test_hash_knows_what_decides_the_data():
    def task(**changes):
        settings = {"metrics": ("psnr_db",), "data_range": 1.0, "configuration": {"noise": LowDose(1e4)}}
        return Task("some-problem", lambda split: [], windows=[Window("full", 0, 1)], **settings | changes)

    assert task().hash == task(title="another").hash
    different = [
        task(configuration={"noise": LowDose(2e4)}),
        task(configuration={"noise": LowDose(1e4, electronic_sigma=1.0)}),
        task(metrics=("ssim",)),
        task(data_range=2.0),
    ]
    assert len({t.hash for t in [task(), *different]}) == 5


def test_descriptions_are_plain_and_stable():
    geometry = FanBeam((8, 8), 1.0, (0.0, 1.0), 9, 1.0, 50.0, 80.0)
    found = describe({"geometry": geometry, "weights": torch.zeros(2), "infinite": math.inf})
    assert found["geometry"]["angles"] == [0.0, 1.0] and found["infinite"] == "inf"
    assert found["weights"]["shape"] == [2]
    assert fingerprint(found) == fingerprint(
        describe({"infinite": math.inf, "weights": torch.zeros(2), "geometry": geometry})
    )


def test_a_parameter_is_searched_or_fixed():
    from recon.comparison import Log

    with pytest.raises(ValueError, match=r"weight both searched .* and fixed"):
        Method(dict, space={"weight": Log(1, 2)}, fixed={"weight": 1.0})


def test_ellipses_dival_is_dival():
    from recon.data import dival_problem

    task = load("ellipses-dival")
    (first, truth), (second, _) = task.images("test", 2)
    problem, expected = dival_problem(1, "test")
    assert torch.equal(second.y, problem.y) and first.A is second.A
    assert float(truth.min()) == 0 and float(truth.max()) == 1 == task.data_range
    assert not torch.equal(expected, task.images("validation", 2)[1][1])
