"""Ellipsoids against quadrature, an ellipse of the plane, and values known by hand."""

import math

import numpy as np
import pytest
import torch

from operators import ConeBeam, ConeVectors, FanBeam, ParallelBeam, ParallelBeam3D
from recon.data import Ellipse, Ellipses, Ellipsoid, Ellipsoids, shepp_logan_ellipses, shepp_logan_ellipsoids
from recon.data.ellipsoids import ball, off_centre_solids

PAIR = Ellipsoids([Ellipsoid(0.02, (30, 18, 12), (6, -4, 5), (0.4, 0.7, -0.2)), ball(-0.01, 9, (-8, 11, -3))])
GRID = ((20, 64, 80), (2.0, 1.0, 1.5), [0.0, 0.7, 2.0, 4.5], (7, 9), (6.0, 12.0))
CONE = ConeBeam(*GRID, 200.0, 350.0, offset=(1.0, 2.0), pitch=3.0)
FRAMES = CONE.frames()
GEOMETRIES = [
    ParallelBeam3D(*GRID, offset=(0.8, -1.0)),
    CONE,
    ConeBeam(*GRID, 200.0, 350.0, detector="arc"),
    ConeVectors(
        *GRID[:2],
        (7, 9),
        FRAMES.source,
        FRAMES.centre,
        FRAMES.u + np.array([0, 0, 2.0]),
        FRAMES.v + np.array([1.0, 0, 0]),
    ),
]


def turn(angle, about):
    c, s = math.cos(angle), math.sin(angle)
    return np.array(
        [[c, -s, 0], [s, c, 0], [0, 0, 1]] if about == "z" else [[1, 0, 0], [0, c, -s], [0, s, c]]
    )


def inside(e, points):
    phi, theta, psi = e.angles
    axes = turn(phi, "z") @ turn(theta, "x") @ turn(psi, "z")  # columns
    return (((points - e.centre) @ axes / e.semi_axes) ** 2).sum(-1) <= 1


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=["parallel", "helix", "arc", "vectors"])
def test_line_integrals_are_those_of_quadrature_along_each_ray(geometry):
    point, direction = geometry.rays()
    # 0.01 mm steps, each of two edges an ellipsoid errs by at most one
    step = 0.01
    t = np.arange(-80, 80, step) + step / 2 + (200 if not isinstance(geometry, ParallelBeam3D) else 0)
    found = PAIR.line_integrals(geometry).numpy()
    assert (found > 0.1).sum() > 10
    for view in range(4):
        for row, column in ((0, 3), (3, 4), (4, 5), (6, 8)):
            points = point[view, row, column] + t[:, None] * direction[view, row, column]
            expected = sum(e.value * step * inside(e, points).sum() for e in PAIR)
            assert abs(found[view, row, column] - expected) <= step * sum(abs(e.value) for e in PAIR)


def test_the_chunks_of_views_make_no_difference(monkeypatch):
    whole = PAIR.line_integrals(CONE)
    monkeypatch.setattr("recon.data.ellipsoids._AT_ONCE", 130)
    assert torch.equal(PAIR.line_integrals(CONE), whole)


def test_the_middle_plane_of_a_standing_ellipsoid_is_an_ellipse():
    solid = Ellipsoids([Ellipsoid(0.02, (30, 18, 1e6), (6, -4, 0), (0.3, 0.0, 0.1))])
    flat = Ellipses([Ellipse(0.02, (30, 18), (6, -4), 0.4)])
    (nz, ny, nx), _, angles, _, _ = GRID
    cone = ConeBeam((nz, ny, nx), 1.5, angles, (1, 9), 12.0, 200.0, 350.0)
    fan = FanBeam((ny, nx), 1.5, angles, 9, 12.0, 200.0, 350.0)
    # the ellipsoid's own curvature along z leaves (100 / 1e6)²
    torch.testing.assert_close(
        solid.line_integrals(cone)[:, 0], flat.line_integrals(fan), rtol=1e-7, atol=1e-9
    )
    torch.testing.assert_close(
        solid.rasterise((1, 64, 80), 1.5, 8)[0], flat.rasterise((64, 80), 1.5, 8), rtol=0, atol=1e-8
    )


def test_a_ball_has_its_chord_through_the_centre():
    geometry = ParallelBeam3D((4, 64, 64), 1.0, [0.3], (3, 3), 5.0)
    half = [math.sqrt(max(100 - 25 * r, 0)) for r in (2, 1, 2, 1, 0, 1, 2, 1, 2)]
    expected = 0.04 * torch.tensor(half, dtype=torch.float64)
    found = Ellipsoids([ball(0.02, 10)]).line_integrals(geometry)
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-14, atol=0)


def test_slices_run_up_rows_down_and_columns_to_the_right():
    volume = Ellipsoids([ball(1.0, 2.0, (10, 7, -3))]).rasterise((30, 40, 40), (0.5, 1.0, 1.0))
    index = torch.meshgrid(*(torch.arange(float(n)) for n in (30, 40, 40)), indexing="ij")
    middle = [float((volume * i).sum() / volume.sum()) for i in index]
    assert middle == pytest.approx([14.5 - 3 / 0.5, 19.5 - 7, 19.5 + 10], abs=1e-9)


def test_a_raster_keeps_the_mass_and_averages_over_voxels():
    volume = sum(e.value * 4 / 3 * math.pi * math.prod(e.semi_axes) for e in PAIR)
    errors = [
        float(PAIR.rasterise((40, 80, 90), (1.5, 1.0, 1.0), n).sum() * 1.5 / volume - 1) for n in (1, 8)
    ]
    assert abs(errors[1]) < 1e-4  # 8² chords a voxel across 30 voxels, midpoint rule
    fine = PAIR.rasterise((40, 80, 90), (1.5, 1.0, 1.0), 4)
    coarse = PAIR.rasterise((20, 40, 45), (3.0, 2.0, 2.0), 8)
    means = torch.nn.functional.avg_pool3d(fine[None, None], 2)[0, 0]
    torch.testing.assert_close(means, coarse, rtol=0, atol=1e-15)


def test_shepp_logan():
    solids = shepp_logan_ellipsoids(field=64.0)
    volume = solids.rasterise((64, 64, 64))
    assert float(volume.max()) == pytest.approx(1.0)
    # the middle slice has the contrasts of the plane's phantom in the skull, the brain and a ventricle
    flat = shepp_logan_ellipses(field=64.0).rasterise((64, 64), 1.0)
    for row, column in ((32, 32), (3, 32), (32, 25)):
        assert float(volume[32, row, column]) == pytest.approx(float(flat[row, column]), abs=1e-12)
    original = shepp_logan_ellipsoids(modified=False, scale=0.5, field=64.0).rasterise((64, 64, 64))
    assert float(original.max()) == pytest.approx(1.0)
    assert float(original[32, 32, 32]) == pytest.approx(0.51)


def test_phantoms_add():
    both = PAIR + off_centre_solids(32.0)
    assert len(both) == 4
    assert "Ellipsoid(value=0.02" in repr(both)
    torch.testing.assert_close(
        both.line_integrals(CONE), PAIR.line_integrals(CONE) + off_centre_solids(32.0).line_integrals(CONE)
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ellipsoid(1.0, (1, 2)), "semi_axes: expected three finite numbers"),
        (lambda: Ellipsoid(1.0, (1, 2, 0)), r"semi_axes \[mm\]: expected positive"),
        (lambda: Ellipsoid(math.nan, (1, 2, 3)), r"value \[1/mm\]"),
        (lambda: PAIR.rasterise((4, 4)), "expected a positive"),
        (lambda: PAIR.rasterise((4, 4, 4), -1.0), "voxel_size"),
        (lambda: PAIR.line_integrals(ParallelBeam((4, 4), 1.0, [0.0], 4, 1.0)), "three dimensions"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()
