"""`table`: methods side by side on data in memory."""

import math

import pytest
import torch

from operators import Gaussian, ParallelBeam, XRay
from recon import FBP, Problem, Tikhonov, psnr
from recon.comparison import table


@pytest.fixture(scope="module")
def pair():
    A = XRay(ParallelBeam((12, 14), 1.0, [(k + 0.5) * math.pi / 9 for k in range(9)], 21, 1.0))
    x = torch.rand(3, 12, 14, generator=torch.Generator().manual_seed(0))
    law = Gaussian(sigma=torch.tensor([0.01, 0.1, 1.0]))
    return Problem(A, law(A(x), seed=0), law), x


def test_scores_are_those_of_each_image_alone(pair):
    problem, truth = pair
    methods = {"fbp": FBP(), "tikhonov": Tikhonov(1.0), "truth": lambda p: truth[0]}
    found = table(methods, problem, truth, metrics=("psnr_db", "nrmse"))
    span = float(truth.max() - truth.min())
    torch.testing.assert_close(
        torch.tensor(found.values("fbp", "psnr_db")),
        psnr(FBP()(problem), truth, data_range=span),
        check_dtype=False,
    )
    batch = Tikhonov(1.0)(problem)
    error = (batch - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    nrmse = torch.tensor(found.values("tikhonov", "nrmse"))
    torch.testing.assert_close(nrmse, error, rtol=1e-4, atol=0, check_dtype=False)
    assert found.values("truth", "nrmse")[0] == 0
    assert [(r.method, r.image) for r in found[:4]] == [("fbp", 0), ("fbp", 1), ("fbp", 2), ("tikhonov", 0)]


def test_a_failure_is_a_row_and_told(pair):
    def broken(problem):
        raise ValueError("the coil is cold")

    text = str(found := table({"fbp": FBP(), "broken": broken}, *pair))
    assert "| broken | 0 | – | – | – |" in text and "the coil is cold" in text and "| fbp | 3 |" in text
    assert [r.failure != "" for r in found] == 3 * [False] + 3 * [True]


def test_one_image_has_no_spread(pair):
    problem, truth = pair
    one = Problem(problem.A, problem.y[1], problem.noise.select(1))
    text = str(table({"fbp": FBP()}, one, truth[1], data_range=1.0))
    assert "| fbp | 1 |" in text and "±" not in text


def test_what_does_not_fit_is_refused(pair):
    problem, truth = pair
    with pytest.raises(ValueError, match=r"table truth: expected \(3, 12, 14\)"):
        table({"fbp": FBP()}, problem, truth[0])
    with pytest.raises(ValueError, match="table metrics: no sharpness"):
        table({"fbp": FBP()}, problem, truth, metrics=("sharpness",))
