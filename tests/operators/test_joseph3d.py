"""The projectors of volumes: analytic truth, the plane's projector, each other, the adjoint by entries."""

import math
import multiprocessing
from itertools import pairwise

import numpy as np
import pytest
import torch

from operators import ConeBeam, ConeVectors, FanBeam, ParallelBeam, ParallelBeam3D, ParallelVectors, XRay
from operators.backends import joseph, joseph3d, oblique, stacked
from operators.backends.lanes import by_symmetry
from operators.backends.upright import upright_table
from operators.testing import check
from recon.data.ellipsoids import off_centre_solids


def turn(views, start=0.0):
    return [start + 2 * math.pi * k / views for k in range(views)]


SCATTERED = (0.1, 1.3, 2.9, -4.0, 7.5)
CIRCLE = ((7, 8, 8), 1.0, turn(8))


def vectors(cone, tilt=0.0, radius=None):
    """The same scan by vectors, its detector turned about the central ray by `tilt` [rad]."""
    f, (c, s) = cone.frames(), (math.cos(tilt), math.sin(tilt))
    grids = cone.volume_shape, cone.voxel_size, cone.detector_shape
    if f.parallel:
        return ParallelVectors(*grids, f.source, f.centre, c * f.u + s * f.v, c * f.v - s * f.u)
    return ConeVectors(*grids, f.source, f.centre, c * f.u + s * f.v, c * f.v - s * f.u, radius)


def generator():
    return torch.Generator().manual_seed(0)


def project_obliquely(x, geometry):
    y = np.zeros(geometry.out_shape, x.numpy().dtype)
    oblique.project(x.numpy(), y, geometry)
    return torch.from_numpy(y)


# what is left is the edges' interpolation: 0.025 at 64³ and, in benchmarks/cone_beam.py, half of it at 128³
N = 64
HALF = off_centre_solids(N / 2)
FAR = {"source_to_centre": 2.0 * N, "source_to_detector": 4.0 * N}
WIDE = ((N, N, N), 1.0, turn(9, 0.1), (N, N), 3.0)
TRUTHS = {
    "circle": ConeBeam(*WIDE, **FAR),
    "offset": ConeBeam(*WIDE, **FAR, offset=(5.0, -9.0)),
    "arc": ConeBeam(*WIDE, **FAR, detector="arc"),
    "helix": ConeBeam(*WIDE[:2], turn(9) + turn(9, 0.3), *WIDE[3:], **FAR, pitch=20.0, start=-10.0),
    "parallel": ParallelBeam3D(*WIDE[:4], 1.6, offset=(0.4, 0.2)),
    "anisotropic": ConeBeam((50, N, 80), (1.28, 1.0, 0.8), *WIDE[2:], **FAR),
    "tilted": vectors(ConeBeam(*WIDE, **FAR), 0.2),
    "tilted arc": vectors(ConeBeam(*WIDE, **FAR), 0.2, 200.0),
    "along z": ParallelVectors(
        *WIDE[:2], (N, N), [(0.2, 0.1, 1), (0, 0, -1)], [(0, 0, 0)] * 2, [(1.5, 0, 0)] * 2, [(0, 1.5, 0)] * 2
    ),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_projections_of_solids_are_their_line_integrals(name):
    geometry = TRUTHS[name]
    x = HALF.rasterise(geometry.volume_shape, geometry.voxel_size)
    truth = HALF.line_integrals(geometry)
    y = XRay(geometry)(x)
    assert float((y - truth).norm() / truth.norm()) <= 0.03
    y = XRay(geometry)(x.float())
    assert float((y - truth).norm() / truth.norm()) <= 0.03


ADJOINTS = [
    *(ConeBeam(*CIRCLE, (4, 7), spacing, 30.0, 60.0) for spacing in (1.0, 2.0, 3.4)),  # 0.5, 1, 1.7 voxels
    ConeBeam((12, 5, 6), 1.0, SCATTERED, (7, 4), (1.0, 2.0), 30.0, 60.0, "arc", (0.4, 0.7)),
    ConeBeam((5, 5, 5), 1.0, turn(4), (40, 3), (0.15, 3.0), 30.0, 60.0, pitch=2.0),  # many rows a slice
    ConeBeam((9, 6, 7), (0.2, 1.0, 1.3), turn(5), (4, 9), (5.0, 2.0), 12.0, 24.0),  # a slice a line and more
    ConeBeam((1, 6, 6), 1.0, turn(4), (1, 9), 2.0, 30.0, 60.0),
    ParallelBeam3D(*CIRCLE, (6, 9), (0.5, 1.7), offset=(0.2, 0.1)),
    ParallelBeam3D((8, 7, 6), (1.0, 0.8, 1.3), SCATTERED, (6, 9), 1.7),
    vectors(ConeBeam(*CIRCLE, (6, 9), 3.4, 30.0, 60.0), 0.3),
    vectors(ConeBeam(*CIRCLE, (6, 9), 1.0, 30.0, 60.0), 0.3, 40.0),
    ParallelVectors(
        (6, 5, 4), (1.0, 1.2, 0.8), (6, 7), [(0, 0, 1), (1, 0, 0)], [(0, 0, 0)] * 2, [(0, 1, 0)] * 2,
        [(0.7, 0, 0), (0, 0, 0.7)],
    ),  # rays exactly along axes
]  # fmt: skip


@pytest.mark.parametrize("geometry", ADJOINTS, ids=range(len(ADJOINTS)))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_adjoint_is_the_transpose_entry_by_entry(geometry, dtype, tolerance):
    A = XRay(geometry)
    n, m = math.prod(A.in_shape), math.prod(A.out_shape)
    # many at a time and, below, by itself: ways of dealing lanes
    columns = A(torch.eye(n, dtype=dtype).reshape(n, *A.in_shape)).reshape(n, m)
    rows = A.adjoint(torch.eye(m, dtype=dtype).reshape(m, *A.out_shape)).reshape(m, n)
    assert float(columns.max()) > 0
    assert float((columns - rows.T).abs().max()) <= 4 * tolerance * float(columns.max())
    for k in range(n // 9, n, 1 + n // 4):
        one = A(torch.eye(n, dtype=dtype)[k].reshape(A.in_shape)).flatten()
        assert float((one - columns[k]).abs().max()) <= 4 * tolerance * float(columns.max())
    for k in range(m // 9, m, 1 + m // 4):
        one = A.adjoint(torch.eye(m, dtype=dtype)[k].reshape(A.out_shape)).flatten()
        assert float((one - rows[k]).abs().max()) <= 4 * tolerance * float(columns.max())
    x = torch.randn(n, generator=generator(), dtype=dtype).reshape(A.in_shape)
    y = torch.randn(m, generator=generator(), dtype=dtype).reshape(A.out_shape)
    Ax = A(x)
    gap = float((Ax.double() * y).sum() - (x.double() * A.adjoint(y)).sum())
    assert abs(gap) <= tolerance * float(Ax.double().norm() * y.double().norm())


@pytest.mark.parametrize("detector", ["flat", "arc"])
@pytest.mark.parametrize("angles", [turn(8), SCATTERED], ids=["uniform", "scattered"])
def test_the_middle_row_of_equal_slices_is_the_fan(detector, angles):
    x = torch.rand(14, 15, generator=generator(), dtype=torch.float64)
    fan = FanBeam((14, 15), 1.0, angles, 21, 2.0, 30.0, 60.0, detector, offset=0.3)
    for nz, spacing in ((1, 1.0), (4, 0.7)):
        cone = ConeBeam(
            (nz, 14, 15), (spacing, 1.0, 1.0), angles, (1, 21), 2.0, 30.0, 60.0, detector, (0.0, 0.3)
        )
        y = XRay(cone)(x.expand(nz, 14, 15))
        torch.testing.assert_close(y[:, 0], XRay(fan, "numba")(x), rtol=1e-11, atol=1e-11)


def test_rows_of_a_parallel_beam_lie_between_projected_slices():
    scan = ParallelBeam3D((5, 14, 15), (2.0, 1.0, 1.0), SCATTERED, (7, 21), (1.0, 0.8), offset=(0.5, 0.1))
    flat = ParallelBeam((14, 15), 1.0, SCATTERED, 21, 0.8, offset=0.1)
    x = torch.rand(5, 14, 15, generator=generator(), dtype=torch.float64)
    slices = torch.cat([joseph.project(x, flat), torch.zeros(1, 5, 21)])
    y = XRay(scan)(x)
    for row, height in enumerate(np.arange(-3, 4) + 0.5):  # slices at −4, −2, 0, 2, 4 mm
        k, f = divmod((height + 4) / 2, 1)
        torch.testing.assert_close(y[:, row], (1 - f) * slices[int(k)] + f * slices[int(k) + 1])
    # and, with rows and slices out of step with each other, what rays by themselves say
    torch.testing.assert_close(y, project_obliquely(x, scan), rtol=1e-11, atol=1e-11)


SAME = [
    ConeBeam((70, 12, 12), 1.0, turn(8), (50, 17), (1.5, 2.0), 30.0, 60.0),  # more slices than a pack holds
    ConeBeam((9, 12, 12), 1.0, turn(8), (7, 17), 2.0, 30.0, 60.0, "arc", (1.0, 0.0)),
    ConeBeam((9, 10, 12), 1.0, SCATTERED, (7, 17), 2.0, 30.0, 60.0, offset=(0.0, 1.0)),
    ConeBeam((9, 10, 12), (0.7, 1.0, 1.1), turn(8), (7, 17), 2.0, 30.0, 60.0),
    ConeBeam((30, 12, 12), 1.0, turn(17), (7, 17), 2.0, 30.0, 60.0, pitch=8.0),
    ParallelBeam3D((9, 10, 12), (0.7, 1.0, 1.1), SCATTERED, (7, 17), 0.8),
]


@pytest.mark.parametrize("geometry", SAME, ids=range(len(SAME)))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
def test_every_way_gives_what_rays_by_themselves_give(geometry, dtype, tolerance):
    x = torch.randn(9, *geometry.in_shape, generator=generator(), dtype=dtype)
    y = torch.randn(9, *geometry.out_shape, generator=generator(), dtype=dtype)
    expected = torch.stack([project_obliquely(volume, geometry) for volume in x])
    back = torch.zeros_like(x)
    for data, volume in zip(y, back, strict=True):
        oblique.backproject(data.numpy(), volume.numpy(), geometry)
    curved = isinstance(geometry, ConeBeam) and geometry.detector == "arc"
    A, by_vectors = XRay(geometry), XRay(vectors(geometry, radius=60.0 if curved else None))
    assert upright_table(geometry) is not None
    for batch in (1, 9):
        for operator in (A, by_vectors):
            error = (operator(x[:batch]) - expected[:batch]).abs().max()
            assert error <= tolerance * expected.abs().max()
            error = (operator.adjoint(y[:batch]) - back[:batch]).abs().max()
            assert error <= tolerance * back.abs().max()


def test_ways_are_chosen_by_their_work():
    circle = SAME[0]
    assert joseph3d._plan(circle, 1, torch.float32).volumes == 1  # 8 symmetries of one volume
    assert len(joseph3d._plan(circle, 1, torch.float32).lanes[0]) == 8
    assert joseph3d._plan(SAME[2], 1, torch.float32).lanes is None
    assert joseph3d._plan(SAME[2], 8, torch.float32).volumes == 8
    assert (
        joseph3d._plan(SAME[4], 1, torch.float32).lanes is None
    )  # turned views of a helix are at other heights
    assert joseph3d._plan(vectors(circle, 0.1), 1, torch.float32) is None
    assert stacked.planar(SAME[5]) is None  # its pixels are not square
    fan = FanBeam((12, 12), 1.0, circle.angles, 17, 2.0, 30.0, 60.0)
    assert by_symmetry(fan).symmetries == 8


@pytest.mark.parametrize("geometry", [SAME[0], SAME[2], vectors(SAME[1], 0.1)], ids=["lanes", "rows", "rays"])
def test_threads_do_not_change_a_bit(monkeypatch, geometry):
    x = torch.randn(1, *geometry.in_shape, generator=generator())
    y = torch.randn(1, *geometry.out_shape, generator=generator())
    results = []
    monkeypatch.setattr(joseph3d, "_SERIAL", 0)
    for threads in (1, 2, 3):
        for module in (joseph3d, oblique):
            monkeypatch.setattr(module, "available", lambda threads=threads: threads)
        results.append((joseph3d.project(x, geometry), joseph3d.backproject(y, geometry)))
    for forward, back in results[1:]:
        assert torch.equal(forward, results[0][0])
        assert torch.equal(back, results[0][1])


@pytest.mark.parametrize("geometry", [*SAME[:5], vectors(SAME[0], 0.1), TRUTHS["parallel"]], ids=range(7))
def test_slabs_add_up(geometry):
    x = torch.randn(*geometry.in_shape, generator=generator(), dtype=torch.float64)
    y = torch.randn(*geometry.out_shape, generator=generator(), dtype=torch.float64)
    A, nz = XRay(geometry), geometry.volume_shape[0]
    cuts = [0, nz // 3, nz // 3 + 1, nz]
    slabs = [(slice(a, b), XRay(geometry.slab(a, b))) for a, b in pairwise(cuts)]
    torch.testing.assert_close(sum(S(x[part]) for part, S in slabs), A(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        torch.cat([S.adjoint(y) for _, S in slabs]), A.adjoint(y), rtol=1e-10, atol=1e-10
    )


def test_subsets_of_views():
    A = XRay(SAME[0])
    x = torch.randn(*A.in_shape, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(A.subset(slice(1, None, 3))(x), A(x)[1::3], rtol=1e-11, atol=1e-11)


def test_a_source_beside_the_volume_near_its_plane():
    """Rays that climb more than a slice a line, and those that leave by the top."""
    cone = ConeBeam((8, 6, 6), 1.0, turn(5), (20, 9), 2.0, 5.0, 12.0)
    assert upright_table(cone) is None
    check(XRay(cone))
    x = torch.ones(cone.in_shape, dtype=torch.float64)
    y = XRay(cone)(x)
    point, direction = cone.rays()
    # chords of the box through the middle of the outermost voxels, and of one that ends a voxel later
    low = box_chord(point, direction, (np.array(cone.extent[::-1]) - 1) / 2)
    high = box_chord(point, direction, (np.array(cone.extent[::-1]) + 1) / 2)
    assert bool((y.numpy() >= low - 1e-9).all())
    assert bool((y.numpy() <= high + 1.5).all())  # and a step of a ray, at most 1.5 mm for its slope


def box_chord(point, direction, half):
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([(-half - point) / direction, (half - point) / direction])
    ends = np.where(
        direction == 0, np.stack([np.full_like(point, -np.inf), np.full_like(point, np.inf)]), ends
    )
    return np.maximum(ends.max(0).min(-1) - ends.min(0).max(-1), 0)


def _child(queue, seed):
    A = XRay(SAME[0])
    queue.put(float(A(torch.ones(A.in_shape)).sum()))


def test_a_forked_child_projects():
    A = XRay(SAME[0])
    expected = float(A(torch.ones(A.in_shape)).sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue, 0))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()


def test_not_a_number_stays_where_rays_meet_it():
    A = XRay(SAME[0])
    x = torch.ones(A.in_shape)
    x[35, 6, 6] = torch.nan
    y = A(x)
    assert bool(y.isnan().any())
    assert torch.equal(A(torch.ones(A.in_shape)), A(torch.ones(A.in_shape)))
    assert not bool(A(torch.ones(A.in_shape)).isnan().any())


def test_bad_input():
    A = XRay(SAME[0])
    with pytest.raises(ValueError, match=r"expects shape \(\*batch, 70, 12, 12\), got \(70, 12, 13\)"):
        A(torch.zeros(70, 12, 13))
    with pytest.raises(ValueError, match="float32 or float64"):
        A(torch.zeros(70, 12, 12, dtype=torch.complex64))
    with pytest.raises(ValueError, match="'sparse' cannot do ConeBeam"):
        XRay(SAME[0], backend="sparse")
