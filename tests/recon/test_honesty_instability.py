"""Attacks on methods whose worst case is known, and lesions of which it is known what becomes of them."""

import math

import pytest
import torch

from operators import Gaussian, Identity, LowDose, Mask, ParallelBeam, XRay
from recon import FBP, METHODS, Problem, Tikhonov, TotalVariation
from recon.honesty import (
    as_function,
    differentiable,
    linearised,
    stability_curve,
    worst_case,
    worst_image,
)

N, M = 5, 4
D = torch.float64
GENERATOR = torch.Generator().manual_seed(0)
B = torch.randn(N * N, N * N, generator=GENERATOR, dtype=D)
Y = torch.randn(3, N, N, generator=GENERATOR, dtype=D)
NOISE = Gaussian(sigma=1.0)
PROBLEM = Problem(Identity((N, N)), Y, NOISE)


def linear(problem):
    """x = B y + 7: a linear method with an offset."""
    return (problem.y.flatten(-2) @ B.T + 7).unflatten(-1, (N, N))


@pytest.mark.parametrize("attack, tolerance", [("power", 1e-6), ("padam", 0.08)])
def test_the_worst_case_of_a_linear_method_is_its_largest_singular_value(attack, tolerance):
    largest = float(torch.linalg.svdvals(B)[0])
    found = worst_case(linear, PROBLEM, 0.3, attack, iterations=400)
    # from below: power iteration by its gap, projected Adam since its direction is not the gradient
    torch.testing.assert_close(
        found.amplification, torch.full((3,), largest, dtype=D), rtol=tolerance, atol=0
    )
    assert bool((found.amplification <= largest * (1 + 1e-12)).all())
    torch.testing.assert_close(found.size, 0.3 * Y.flatten(1).norm(dim=1), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.change, (found.image - found.clean).flatten(1).norm(dim=1))
    if attack == "power":
        along = (found.data.flatten(1) / found.size[:, None]) @ torch.linalg.svd(B).Vh[0]
        torch.testing.assert_close(along.abs(), torch.ones(3, dtype=D), rtol=1e-6, atol=0)


def test_noise_of_that_norm_does_what_noise_does():
    radius = 0.3
    found = worst_case(linear, PROBLEM, radius, "noise", iterations=1)
    torch.testing.assert_close(found.size, radius * Y.flatten(1).norm(dim=1))
    # of random directions ‖B e‖²/‖e‖² is ‖B‖_F²/N², with few of them within a factor of two
    typical = float(torch.linalg.matrix_norm(B)) / N
    assert bool(((found.amplification / typical) < 2).all() and ((found.amplification / typical) > 0.5).all())
    assert bool((worst_case(linear, PROBLEM, radius, "power").change > found.change).all())
    many = worst_case(linear, PROBLEM, radius, "noise", iterations=20)
    assert many.history.shape == (20, 3) and bool((many.change == many.history.amax(0)).all())


def test_every_image_is_attacked_by_itself():
    together = worst_case(linear, PROBLEM, 0.1, "power", 3)
    first = Problem(PROBLEM.A, Y[:1], NOISE)
    torch.testing.assert_close(worst_case(linear, first, 0.1, "power", 3).data, together.data[:1])
    single = worst_case(linear, Problem(PROBLEM.A, Y[0], NOISE), 0.1, "power", 3)
    assert single.data.shape == (N, N) and single.change.shape == ()


def test_the_worst_image_grows_along_the_singular_vector_of_the_method_on_the_operator():
    keep = torch.ones(N, N, dtype=D)
    keep[1:3] = 0
    problem = Problem(Mask(keep), keep * Y, NOISE)
    found = worst_image(linear, problem, weight=0.1, iterations=300, step=4e-3)
    kept = B * keep.flatten()
    vector = torch.linalg.svd(kept).Vh[0]
    r = found.cause.flatten(1)
    # the component of the largest singular value outgrows the next at the rate of their difference
    torch.testing.assert_close((r / r.norm(dim=1, keepdim=True) @ vector).abs(), torch.ones(3, dtype=D),
                               rtol=1e-3, atol=0)  # fmt: skip
    torch.testing.assert_close(found.data, problem.A(found.cause))
    assert found.history.shape == (300, 3) and bool((found.history.diff(dim=0) > 0).all())


def test_the_penalty_bounds_the_worst_image():
    big = float(torch.linalg.svdvals(B)[0]) ** 2
    found = worst_image(linear, PROBLEM, weight=2 * big, iterations=200, step=0.2 / big, momentum=0.5)
    assert bool((found.cause.flatten(1).norm(dim=1) < 1e-9).all())  # r = 0 is the maximum


A = XRay(ParallelBeam((16, 16), 1.0, [math.pi * k / 12 for k in range(12)], 25, 1.0), backend="sparse")


def scan(n=2, sigma=0.3):
    truth = torch.zeros(n, 16, 16, dtype=D)
    truth[:, 4:12, 5:11] = 1.0
    noise = Gaussian(sigma=sigma)
    return Problem(A, noise(A(truth), seed=1), noise), truth


def test_filtered_back_projection_is_as_unstable_as_its_norm_says():
    problem, _ = scan()
    method = FBP(positive=False)
    columns = method(Problem(A, torch.eye(12 * 25, dtype=D).unflatten(1, (12, 25)), Gaussian(sigma=1.0)))
    largest = float(torch.linalg.matrix_norm(columns.flatten(1), 2))
    found = worst_case(method, problem, 0.05, "power", 30)
    # power iteration comes from below, and the singular values of FBP lie close together
    assert found.amplification.tolist() == pytest.approx([largest] * 2, rel=3e-2)
    assert float(found.amplification.max()) < largest * (1 + 1e-9)


def test_a_variational_method_is_attacked_through_its_solver():
    noise = Gaussian(sigma=0.3)
    problem = Problem(Identity((N, N)), Y[:1], noise)
    method = Tikhonov(weight=2.0, iterations=40, tolerance=1e-12, positive=False)
    f = as_function(method, problem)
    torch.testing.assert_close(f(problem.y), method(problem))
    assert differentiable(f, problem.y) and not differentiable(lambda y: y.detach(), problem.y)
    unit = torch.eye(N * N, dtype=D).unflatten(1, (N, N))
    matrix = method(Problem(problem.A, unit, noise)).flatten(1)  # without bounds it is linear
    largest = float(torch.linalg.matrix_norm(matrix, 2))
    found = worst_case(method, problem, 0.1, "power", 10)
    assert float(found.amplification) == pytest.approx(largest, rel=1e-2)


def test_curves_of_several_methods_under_one_norm():
    problem, truth = scan(1)
    methods = {"fbp": FBP(positive=False), "tv": TotalVariation(10.0, iterations=4)}
    rows = stability_curve(methods, problem, truth, [0.02, 0.05], ["power", "padam"], 2)
    assert [(r["radius"], r["method"]) for r in rows] == [(r, m) for r in (0.02, 0.05) for m in methods]
    for row in rows:
        assert row["change"] > row["noise_change"] > 0
    small, large = (next(r for r in rows if (r["method"], r["radius"]) == ("fbp", s)) for s in (0.02, 0.05))
    assert large["change"] == pytest.approx(2.5 * small["change"], rel=1e-6)  # FBP is linear
    assert rows[0]["error"] == rows[2]["error"]  # of clean data, whatever the radius


def test_counts_are_linearised_first():
    geometry = A.geometry
    noise = LowDose(i0=1e4)
    truth = torch.full((2, 16, 16), 0.02, dtype=D)
    problem = Problem(A, noise(A(truth), seed=0), noise)
    with pytest.raises(ValueError, match="linearised"):
        worst_case(FBP(), problem, 0.1)
    same = linearised(problem)
    assert torch.equal(same.y, problem.linear) and geometry == same.A.geometry
    expected = problem.variance.flatten(1).mean(1)
    torch.testing.assert_close(same.variance.flatten(1).mean(1), expected)
    assert float(worst_case(FBP(), same, 0.01, "power", 2).change.min()) > 0


def test_bad_input():
    for call, message in (
        (lambda: worst_case(linear, PROBLEM, 0.0), "radius > 0"),
        (lambda: worst_case(linear, PROBLEM, 0.1, "fgsm"), "'padam', 'power' or 'noise'"),
        (lambda: worst_case(lambda p: p.y.detach(), PROBLEM, 0.1), "attack='noise'"),
        (lambda: worst_image(linear, PROBLEM, momentum=1.0), "momentum"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(FloatingPointError, match="not finite"):
        worst_case(lambda p: 1 / (0 * p.y), PROBLEM, 0.1, "noise")
    assert "fbp" in METHODS
