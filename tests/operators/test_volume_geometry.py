import math

import numpy as np
import pytest

from operators import ConeBeam, ConeVectors, FanBeam, ParallelBeam, ParallelBeam3D, ParallelVectors

ANGLES = (0.1, 1.0, 2.5, -4.0)


def cone(detector: str = "flat", **other) -> ConeBeam:
    return ConeBeam((5, 8, 9), 1.0, ANGLES, (3, 7), (1.0, 2.0), 40.0, 70.0, detector, **other)


def examples():
    return [
        cone(),
        cone("arc", offset=(0.5, -3.0)),
        cone(offset=(-1.0, 2.0), pitch=4.0, start=-1.0),
        ParallelBeam3D((5, 8, 9), (2.0, 1.0, 1.0), ANGLES, (3, 7), 1.5, offset=(0.5, 0.25)),
    ]


@pytest.mark.parametrize("geometry", examples(), ids=str)
def test_values(geometry):
    assert eval(repr(geometry)) == geometry
    assert hash(eval(repr(geometry))) == hash(geometry)
    assert geometry.out_shape == (4, 3, 7)
    assert geometry.subset([0, 2]).out_shape == (2, 3, 7)
    np.testing.assert_array_equal(geometry.subset(slice(1, None, 2)).rays()[1], geometry.rays()[1][1::2])


@pytest.mark.parametrize("detector", ["flat", "arc"])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_the_middle_of_a_cone_is_a_fan(detector, offset):
    point, direction = cone(detector, offset=(0.0, offset)).rays()
    fan = FanBeam((8, 9), 1.0, ANGLES, 7, 2.0, 40.0, 70.0, detector, offset=offset)
    np.testing.assert_allclose(point[:, 1, :, :2], fan.rays()[0], atol=1e-13)
    np.testing.assert_allclose(direction[:, 1, :, :2], fan.rays()[1], atol=1e-13)
    np.testing.assert_allclose(direction[:, 1, :, 2], 0, atol=1e-13)


def test_every_row_of_a_parallel_beam_is_a_parallel_beam():
    geometry = ParallelBeam3D((5, 8, 9), 1.0, ANGLES, (3, 7), (2.0, 1.5), offset=(0.5, 0.25))
    point, direction = geometry.rays()
    flat = ParallelBeam((8, 9), 1.0, ANGLES, 7, 1.5, offset=0.25)
    for row, height in enumerate([-1.5, 0.5, 2.5]):
        np.testing.assert_allclose(point[:, row, :, :2], flat.rays()[0], atol=1e-13)
        np.testing.assert_allclose(point[:, row, :, 2], height, atol=1e-13)
        np.testing.assert_allclose(direction[:, row, :, :2], flat.rays()[1], atol=1e-13)


def test_pixels_of_an_arc_are_equally_far_from_the_source_line():
    geometry = cone("arc", offset=(1.0, 2.0), pitch=3.0)
    frames = geometry.frames()
    away = frames.pixels(3, 7) - frames.source[:, None, None]
    np.testing.assert_allclose(np.hypot(away[..., 0], away[..., 1]), 70.0, rtol=1e-13)
    np.testing.assert_allclose(
        away[..., 2], np.broadcast_to(geometry.rows()[None, :, None], (4, 3, 7)), atol=1e-12
    )
    spread = np.arctan2(away[..., 1], away[..., 0])
    np.testing.assert_allclose(np.diff(np.unwrap(spread, axis=-1), axis=-1), -2.0 / 70.0, rtol=1e-10)


def test_a_helix_gains_its_pitch_in_a_turn():
    geometry = cone(pitch=4.0, start=-1.0)
    np.testing.assert_allclose(geometry.heights(), [-1 + 4 * a / (2 * math.pi) for a in ANGLES])
    np.testing.assert_allclose(geometry.frames().source[:, 2], geometry.heights())


@pytest.mark.parametrize("geometry", examples(), ids=str)
def test_vectors_describe_the_same_rays(geometry):
    f = geometry.frames()
    grids = (geometry.volume_shape, geometry.voxel_size, geometry.detector_shape)
    if f.parallel:
        vectors = ParallelVectors(*grids, f.source, f.centre, f.u, f.v)
    else:
        vectors = ConeVectors(*grids, f.source, f.centre, f.u, f.v, f.radius)
    assert eval(repr(vectors)) == vectors
    np.testing.assert_allclose(vectors.rays()[0], geometry.rays()[0], atol=1e-12)
    np.testing.assert_allclose(vectors.rays()[1], geometry.rays()[1], atol=1e-12)
    np.testing.assert_array_equal(vectors.subset([3, 0]).rays()[1], vectors.rays()[1][[3, 0]])


@pytest.mark.parametrize("geometry", examples(), ids=str)
def test_a_refined_scan_covers_the_same_field_and_detector(geometry):
    nz, ny, nx = geometry.volume_shape
    fine = geometry.refined((2 * nz, 2 * ny, 2 * nx), 3)
    assert fine.extent == pytest.approx(geometry.extent)
    pixels = fine.frames().pixels(*fine.detector_shape).reshape(4, 3, 3, 7, 3, 3)
    np.testing.assert_allclose(pixels[:, :, 1, :, 1], geometry.frames().pixels(3, 7), atol=1e-12)


@pytest.mark.parametrize("geometry", examples(), ids=str)
def test_a_slab_sees_the_same_rays_from_its_own_middle(geometry):
    f, grids = geometry.frames(), (geometry.volume_shape, geometry.voxel_size, geometry.detector_shape)
    vectors = (
        ParallelVectors(*grids, f.source, f.centre, f.u, f.v)
        if f.parallel
        else ConeVectors(*grids, f.source, f.centre, f.u, f.v, f.radius)
    )
    for scan in (geometry, vectors):
        slab = scan.slab(1, 3)
        assert type(slab) is type(scan)
        assert slab.volume_shape == (2, 8, 9)
        height = (2 - 2.5) * geometry.voxel_size[0]  # of the slab's middle in the volume
        np.testing.assert_allclose(slab.rays()[0] + [0, 0, height], scan.rays()[0], atol=1e-12)
        np.testing.assert_allclose(slab.rays()[1], scan.rays()[1], atol=1e-12)
        assert scan.slab(0, 5).rays()[0] == pytest.approx(scan.rays()[0])
    with pytest.raises(ValueError, match=r"slab: expected 0 ≤ start < stop ≤ 5 slices, got 3, 3"):
        geometry.slab(3, 3)


GRID = ((5, 8, 9), 1.0, ANGLES, (3, 7), 1.0)
BEAM = ((4, 4, 4), 1.0, (2, 2))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConeBeam((8, 9), *GRID[1:], 40.0, 70.0), r"volume_shape: expected \(nz, ny, nx\)"),
        (lambda: ConeBeam((5, 8, 9), -1.0, *GRID[2:], 40.0, 70.0), r"voxel_size \[mm\]: expected a positive"),
        (lambda: ConeBeam(*GRID, 4.0, 70.0), "lies inside the object"),
        (lambda: ConeBeam(*GRID, 40.0, 30.0), "source_to_detector"),
        (lambda: cone("bent"), "expected 'flat' or 'arc', got 'bent'"),
        (lambda: cone(offset=(1.0, 2.0, 3.0)), r"offset \[mm\]: expected \(row, column\)"),
        (lambda: cone(pitch=math.nan), r"pitch \[mm per turn\]: expected a finite"),
        (lambda: ConeVectors(*BEAM, [(0, 9, 0)], [(0, -9, 0)] * 2, [(1, 0, 0)], [(0, 0, 1)]), "as many"),
        (lambda: ConeVectors(*BEAM, [(0, 1, 0)], [(0, -9, 0)], [(1, 0, 0)], [(0, 0, 1)]), "inside"),
        (lambda: ConeVectors(*BEAM, [(0, 9, 0)], [(0, -9, 0)], [(1, 0, 0)], [(2, 0, 0)]), "plane"),
        (lambda: ParallelVectors(*BEAM, [(0, 0)], [(0, 0)], [(1, 0)], [(0, 1)]), "views, 3"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()
