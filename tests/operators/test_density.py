"""Density compensation: a Gaussian, whose transform is known, keeps its values; weights against geometry."""

import math

import pytest
import torch

from operators import (
    NonUniformFourier,
    NonUniformSense,
    cartesian,
    density_compensated_adjoint,
    koosh_ball,
    pipe_menon,
    radial,
    radial_ramp,
    spiral,
    stack_of_stars,
    voronoi,
)


def gaussian(shape, width):
    image = torch.ones((), dtype=torch.float64)
    for n in shape:
        r = torch.arange(n, dtype=torch.float64) - n // 2
        image = image[..., None] * torch.exp(-(r**2) / (2 * width**2))
    return image


def its_transform(k, shape, width):
    """(2π s²)^(d/2) exp(−s²k²/2): the sum over pixels equals the integral to exp(−2π²s²)."""
    d = len(shape)
    size = (2 * math.pi * width**2) ** (d / 2) / math.sqrt(math.prod(shape))
    return size * torch.exp(-(width**2) * (k**2).sum(-1) / 2) + 0j


# error allowed relative to the peak of 1. The cell around the centre of a star has an area that is right, but
# lies where the integrand has its tip: 4e-3 over the whole image; rings and Pipe–Menon know better
CASES = {
    "radial": (radial(60, 64), (32, 32), 3.0, {radial_ramp: 2e-3, voronoi: 5e-3, pipe_menon: 1e-3}),
    "odd": (radial(60, 65), (33, 31), 3.0, {radial_ramp: 2e-3, voronoi: 5e-3, pipe_menon: 1e-3}),
    "golden": (radial(70, 64, "golden"), (32, 32), 3.0, {voronoi: 5e-3, pipe_menon: 1e-3}),
    "spiral": (spiral(8, 600, 4.0), (32, 32), 3.0, {voronoi: 5e-3, pipe_menon: 1e-3}),
    "dense centre": (spiral(8, 600, 6.0, 1.5), (32, 32), 3.0, {voronoi: 2e-3, pipe_menon: 1e-3}),
    "stack": (stack_of_stars(16, 16, 8), (8, 8, 8), 1.2, {voronoi: 2e-2, pipe_menon: 2e-2}),
    "ball": (koosh_ball(400, 20), (10, 10, 10), 1.3, {radial_ramp: 2e-2, voronoi: 3e-2, pipe_menon: 2e-2}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_gaussian_keeps_its_values(name):
    k, shape, width, methods = CASES[name]
    A = NonUniformFourier(shape, k, 1e-6)
    y, wanted = its_transform(k, shape, width), gaussian(shape, width)
    for method, allowed in methods.items():
        w = method(k, shape)
        assert w.shape == k.shape[:-1] and w.dtype == torch.float64
        assert float((density_compensated_adjoint(A, y, w) - wanted).abs().max()) < allowed, method.__name__


@pytest.mark.parametrize("method", [voronoi, pipe_menon])
@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 3)])
def test_the_full_grid_has_weight_one(method, shape):
    w = method(cartesian(torch.ones(shape)), shape)
    torch.testing.assert_close(w, torch.ones_like(w), atol=1e-5, rtol=0)  # the tolerance of the transforms


def test_voronoi_areas_of_a_hand_made_set():
    """Columns at −π, 0, π/2 of a periodic square: as wide as half the distance to both neighbours."""
    kx = torch.tensor([-math.pi, 0, math.pi / 2], dtype=torch.float64)
    ky = 2 * math.pi * (torch.arange(4, dtype=torch.float64) - 2) / 4
    k = torch.stack(torch.meshgrid(ky, kx, indexing="ij"), -1)
    widths = torch.tensor([3 * math.pi / 4, 3 * math.pi / 4, math.pi / 2], dtype=torch.float64)
    wanted = (widths * 2 * math.pi / 4 * 16 / (2 * math.pi) ** 2).expand(4, 3)
    torch.testing.assert_close(voronoi(k, (4, 4)), wanted, rtol=1e-9, atol=0)


def test_voronoi_samples_in_one_place_share_their_cell():
    k = radial(12, 17)
    w = voronoi(k, (8, 8))
    assert float(w[:, 8].std()) < 1e-15  # the centre, twelve times
    twice = voronoi(torch.cat([k, k]), (8, 8))
    torch.testing.assert_close(twice, torch.cat([w, w]) / 2, rtol=1e-9, atol=0)
    # the cells fill the disc out to half a sample beyond the last, seen as a polygon with 24 sides
    edge = math.pi * (16 / 17 + 1 / 17)
    sides = 24 * math.tan(math.pi / 24) * edge**2
    assert float(w.sum()) == pytest.approx(64 * sides / (2 * math.pi) ** 2, rel=1e-9)


def test_voronoi_of_evenly_spread_spokes_is_the_ramp():
    """Away from the centre: trapezoids between bisectors, tan(Δθ/2) in place of Δθ/2."""
    spokes = 90
    k = radial(spokes, 33)
    step = math.pi / spokes
    ratio = voronoi(k, (16, 16)) / radial_ramp(k, (16, 16))
    away = torch.linalg.vector_norm(k, dim=-1) > 0.4
    wanted = torch.full_like(ratio[away], math.tan(step / 2) / (step / 2))
    torch.testing.assert_close(ratio[away], wanted, rtol=1e-9, atol=0)


def test_pipe_menon_answers_for_every_sample_once():
    """(ψ ∗ w)_j = 1, with ψ as the product of Fejér kernels that the triangle transforms to."""
    k, shape = spiral(3, 40, 3.0)[:, ::2], (10, 9)
    w = pipe_menon(k, shape, iterations=400, tolerance=1e-10).flatten()
    points = k.reshape(-1, 2)
    difference = points[:, None] - points
    psi = torch.ones(len(points), len(points), dtype=torch.float64)
    for d, n in enumerate(shape):
        half = difference[..., d] / 2
        inside = half.sin().abs() < 1e-9
        ratio = torch.where(inside, float(n), (n * half).sin() / torch.where(inside, 1.0, half.sin()))
        psi = psi * ratio**2 / n**2
    assert float((psi @ w - 1).abs().max()) < 2e-2  # converges like 1/iterations
    assert float(w.max()) <= 1 and float(w.min()) > 0


def test_weights_broadcast_over_coils():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 8, 8, generator=generator, dtype=torch.complex128)
    k = radial(12, 16)
    A, w = NonUniformSense(k, maps), radial_ramp(k, (8, 8))
    y = torch.randn(2, *A.out_shape, generator=generator, dtype=torch.complex128)
    torch.testing.assert_close(density_compensated_adjoint(A, y, w), A.adjoint(w * y))
    single = density_compensated_adjoint(A, y.to(torch.complex64), w)
    assert single.dtype == torch.complex64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: voronoi(radial(4, 8), (8,)), "2 positive sizes"),
        (lambda: voronoi(radial(1, 8), (8, 8)), "fill 2 dimensions"),
        (lambda: pipe_menon(2 * radial(4, 8), (8, 8)), "cycles per pixel"),
        (lambda: pipe_menon(radial(4, 8), (8, 8), iterations=0), "iterations"),
        (lambda: radial_ramp(spiral(2, 30, 3.0, 2.0)[:, :5], (8, 8)), "evenly"),
        (lambda: radial_ramp(stack_of_stars(4, 8, 3), (8, 8, 8)), "through the centre"),
        (lambda: radial_ramp(radial(4, 8).flatten(0, 1), (8, 8)), "spokes, readout"),
        (
            lambda: density_compensated_adjoint(
                NonUniformFourier((8, 8), radial(4, 8)), torch.ones(4, 8) + 0j, torch.ones(4)
            ),
            "shape ends",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
