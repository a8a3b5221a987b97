"""FDK of balls, cylinders and ellipsoids from their analytic projections."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from operators import ConeBeam, ConeVectors, FanBeam, ParallelBeam, ParallelBeam3D, ParallelVectors, fbp, fdk
from operators.backends import voxel
from operators.feldkamp import Feldkamp, VoxelBackprojection, fdk_by_slab
from operators.orbit import circular
from operators.upright import orbit_of
from recon.data.ellipsoids import Ellipsoid, Ellipsoids, ball

N = 64
CENTRE, RADIUS = (5.0, -4.0, 0.0), 20.0
BALL = Ellipsoids([ball(1.0, RADIUS, CENTRE)])


def over(length, views, begin=0.0):
    return tuple(begin + length * k / views for k in range(views))


TURN = over(2 * math.pi, 120)


def cone(detector="flat", angles=TURN, offset=(0.0, 0.0), columns=110, rows=90, distance=250.0, **other):
    grids = {"volume_shape": (N, N, N), "voxel_size": 1.0} | other
    return ConeBeam(
        **grids, angles=angles, detector_shape=(rows, columns), detector_pixel_size=2.0, offset=offset,
        source_to_centre=distance, source_to_detector=2 * distance, detector=detector,
    )  # fmt: skip


def inside_and_outside(geometry, inner=0.9, outer=1.1):
    z, y, x = (
        (np.arange(n) - (n - 1) / 2) * h
        for n, h in zip(geometry.volume_shape, geometry.voxel_size, strict=True)
    )
    apart = np.sqrt(
        (x - CENTRE[0]) ** 2 + (-y[:, None] - CENTRE[1]) ** 2 + (z[:, None, None] - CENTRE[2]) ** 2
    )
    return torch.from_numpy(apart < inner * RADIUS), torch.from_numpy(apart > outer * RADIUS)


def rotated(a, axis, angle):
    axis = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    along = axis * (axis * a).sum(-1, keepdims=True)
    return along + math.cos(angle) * (a - along) + math.sin(angle) * np.cross(axis, a)


def as_vectors(geometry, turned=0.0, tilted=0.0, askew=0.0, jitter=0.0, shifted=0.0):
    """The cone with its detectors turned in their plane, tilted back, turned aside, and moved at random."""
    f, rng = geometry.frames(), np.random.default_rng(0)
    u, v, normal = f.u, f.v, f.outward()
    u, v = rotated(u, normal, turned), rotated(v, normal, turned)
    v = rotated(v, u, tilted)
    u = rotated(u, v, askew)
    shape = f.source.shape
    source = f.source + jitter * rng.normal(size=shape)
    # along its rows and columns alone: stays upright
    centre = f.centre + shifted * (
        rng.normal(size=(shape[0], 1)) * f.u + rng.normal(size=(shape[0], 1)) * f.v
    )
    centre = centre + jitter * rng.normal(size=shape)
    return ConeVectors(
        geometry.volume_shape, geometry.voxel_size, geometry.detector_shape, source, centre, u, v, f.radius
    )


FAN = 2 * math.atan(110 / 500)
UNEVEN = tuple(
    (2 * math.pi * (np.arange(150) + np.random.default_rng(0).uniform(-0.4, 0.4, 150)) / 150).tolist()
)
SCANS = {
    "flat": cone(),
    "arc": cone("arc"),
    "short": cone(angles=over(math.pi + FAN + 0.1, 80, begin=0.3)),
    "short arc": cone("arc", over(math.pi + FAN + 0.1, 80)),
    "uneven": cone(angles=UNEVEN),
    "detector off centre": cone(angles=over(2 * math.pi, 240), offset=(0.0, 50.0), columns=70),
    "arc off centre, other side": cone("arc", over(2 * math.pi, 240), offset=(0.0, -50.0), columns=70),
    "rows off centre": cone(offset=(7.3, 0.0)),
    "source off the middle plane": cone(start=6.0),
    "flat voxels": cone(volume_shape=(32, 64, 48), voxel_size=(2.0, 1.0, 1.3)),
    "parallel": ParallelBeam3D((N, N, N), 1.0, over(math.pi, 120), (70, 110), (1.2, 1.0), (0.7, 0.2)),
    "turned detector": as_vectors(cone(), turned=0.03),
    "tilted detector": as_vectors(cone(), tilted=0.1),
    "detector askew": as_vectors(cone(), askew=0.15),
    "jitter": as_vectors(cone(), jitter=0.4),
    "jitter in the detector's plane": as_vectors(cone(), shifted=0.7),
    "short and turned": as_vectors(cone(angles=over(math.pi + FAN + 0.1, 80)), turned=-0.02),
}


@pytest.mark.parametrize("name", SCANS)
def test_middle_plane_of_a_ball(name):
    geometry = SCANS[name]
    y = BALL.line_integrals(geometry)
    x = fdk(geometry, y.float())
    assert x.dtype == torch.float32 and x.shape == geometry.in_shape
    middle = slice(geometry.volume_shape[0] // 2 - 1, geometry.volume_shape[0] // 2 + 1)
    inside, outside = (mask[middle] for mask in inside_and_outside(geometry))
    plane = x[middle]
    # the issue asks for 5e-3; what is left is the sampling of views and pixels, at most 4e-4 here
    assert abs(float(plane[inside].mean()) - 1) < 1e-3
    # no part of the ball is darker than another: cupping, or a wrong weight at some angle
    assert float((plane[inside] - 1).abs().quantile(0.99)) < 1.2e-2
    assert abs(float(plane[outside].mean())) < 1e-3


def test_single_and_double_precision_agree():
    geometry = SCANS["arc"].subset(slice(None, None, 3))
    y = BALL.line_integrals(geometry)
    x = fdk(geometry, y)
    assert x.dtype == torch.float64
    # positions of a few hundred pixels in float32 are off by 3e-5 pixels
    torch.testing.assert_close(fdk(geometry, y.float()).double(), x, rtol=0, atol=2e-3)


def test_values_fall_with_the_cone_angle():
    """What a circle cannot see: measured here, not hidden. Half the cone angle, some quarter of the loss."""
    losses = []
    for distance in (150.0, 300.0):
        geometry = cone(distance=distance, rows=110, columns=120)
        x = fdk(geometry, BALL.line_integrals(geometry))
        inside, _ = inside_and_outside(geometry)
        loss = [1 - float(x[k][inside[k]].mean()) for k in (31, 39, 47)]
        assert abs(loss[0]) < 1e-3
        assert loss[0] < loss[1] < loss[2]
        np.testing.assert_allclose(loss[2], 1 - float(x[63 - 47][inside[63 - 47]].mean()), rtol=1e-6)
        losses.append(loss[2])
    assert 0.01 < losses[0] < 0.03
    assert 3 < losses[0] / losses[1] < 5


@pytest.mark.parametrize("detector", ["flat", "arc"])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("offset", [0.0, 9.0])
def test_one_row_is_a_fan(detector, short, offset):
    angles = over(4.3 if short else 2 * math.pi, 50)
    geometry = ConeBeam((1, 20, 24), 1.5, angles, (1, 40), (2.0, 2.0), 100.0, 180.0, detector, (0.0, offset))
    fan = FanBeam((20, 24), 1.5, angles, 40, 2.0, 100.0, 180.0, detector, offset)
    y = torch.randn(2, *geometry.out_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(
        fdk(geometry, y, "hann", 0.9)[:, 0], fbp(fan, y[:, :, 0], "hann", 0.9), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("detector", ["flat", "arc"])
@pytest.mark.parametrize("angles", [over(2 * math.pi, 60), over(4.2, 40)], ids=["full", "short"])
def test_objects_that_do_not_change_along_z_are_those_of_the_fan(detector, angles):
    cylinder = Ellipsoids([Ellipsoid(1.0, (18.0, 12.0, 1e9), (5.0, -4.0, 0.0))])
    geometry = cone(detector, angles, volume_shape=(8, 32, 32), voxel_size=(5.0, 2.0, 2.0), rows=60)
    fan = FanBeam((32, 32), 2.0, angles, 110, 2.0, 250.0, 500.0, detector)
    flat = cone(detector, angles, rows=1, volume_shape=(1, 32, 32), voxel_size=(1.0, 2.0, 2.0))
    expected = fbp(fan, cylinder.line_integrals(flat)[:, 0])
    x = fdk(geometry, cylinder.line_integrals(geometry))
    # semi-axes of 1e9 mm cost nine of sixteen digits
    torch.testing.assert_close(x, expected.expand_as(x), rtol=0, atol=1e-6)


def test_parallel_beam_is_slice_by_slice():
    angles = over(math.pi, 30, 0.2)
    geometry = ParallelBeam3D((5, 18, 20), (2.0, 1.1, 1.1), angles, (5, 31), (2.0, 0.9), (0.0, 0.3))
    plane = ParallelBeam((18, 20), 1.1, angles, 31, 0.9, 0.3)
    y = torch.randn(geometry.out_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = fbp(plane, y.transpose(0, 1))
    torch.testing.assert_close(fdk(geometry, y), expected, rtol=0, atol=1e-13)
    # rows a quarter higher than the slices; the lowest slice still lies on the lowest row, half a row high
    raised = fdk(dataclasses.replace(geometry, offset=(0.5, 0.3)), y)
    torch.testing.assert_close(raised[1:], 0.75 * expected[1:] + 0.25 * expected[:-1], rtol=0, atol=1e-13)
    torch.testing.assert_close(raised[0], expected[0], rtol=0, atol=1e-13)
    assert float(fdk(dataclasses.replace(geometry, offset=(2.5, 0.3)), y)[0].abs().max()) == 0


def test_arc_and_flat_agree():
    inside, _ = inside_and_outside(cone(), 0.8)
    flat, arc = (fdk(SCANS[name], BALL.line_integrals(SCANS[name])) for name in ("flat", "arc"))
    # another sampling of the same rays, and another treatment of what a circle does not see
    assert float((flat - arc)[inside].abs().mean()) < 2e-3
    assert float((flat - arc)[30:34][inside[30:34]].abs().mean()) < 1e-3


def test_short_scan_argument_reaches_the_weights():
    geometry = cone(angles=over(2 * math.pi, 90), volume_shape=(1, N, N))
    y = BALL.line_integrals(geometry)
    full, short, plain = (fdk(geometry, y, short_scan=s) for s in (None, True, False))
    torch.testing.assert_close(full, plain)
    assert not torch.allclose(full, short, atol=1e-4)


def test_vectors_of_a_circle_are_the_circle():
    for name in ("arc", "detector off centre", "rows off centre"):
        geometry = SCANS[name].subset(slice(None, None, 10))
        vectors = as_vectors(geometry)
        assert orbit_of(vectors)[1] is None
        y = torch.randn(geometry.out_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        torch.testing.assert_close(fdk(vectors, y), fdk(geometry, y), rtol=0, atol=1e-10)
    f = SCANS["parallel"].frames()
    grids = (N, N, N), 1.0, (70, 110)
    vectors = ParallelVectors(*grids, 2 * f.source, f.centre + 9 * f.source, f.u, f.v)
    y = BALL.line_integrals(vectors)
    torch.testing.assert_close(fdk(vectors, y), fdk(SCANS["parallel"], y), rtol=0, atol=1e-10)


def test_a_detector_upside_down_is_the_same_detector():
    geometry = cone(angles=TURN[::6])
    vectors = as_vectors(geometry, turned=math.pi)
    y = BALL.line_integrals(geometry)
    torch.testing.assert_close(BALL.line_integrals(vectors), y.flip(-1, -2), rtol=0, atol=1e-9)
    torch.testing.assert_close(fdk(vectors, y.flip(-1, -2)), fdk(geometry, y), rtol=0, atol=1e-9)


def test_a_curved_detector_that_is_no_arc_about_the_source():
    geometry = as_vectors(cone("arc"))
    bent = dataclasses.replace(geometry, radius=300.0)
    orbit, resampling = orbit_of(bent)
    assert resampling is not None and orbit.kind == 1
    x = fdk(bent, BALL.line_integrals(bent))[31:33]
    inside, outside = (mask[31:33] for mask in inside_and_outside(bent))
    assert abs(float(x[inside].mean()) - 1) < 1e-3
    assert abs(float(x[outside].mean())) < 1e-3


@pytest.mark.parametrize("name", ["flat", "short arc", "parallel", "tilted detector"])
def test_a_slab_is_part_of_the_volume(name):
    geometry = SCANS[name].subset(slice(None, None, 4))
    y = BALL.line_integrals(geometry)
    x = fdk(geometry, y, short_scan=False)
    part = fdk(geometry, y, short_scan=False, slab=(40, 53))
    torch.testing.assert_close(part, x[40:53], rtol=0, atol=1e-12)
    torch.testing.assert_close(fdk(geometry.slab(40, 53), y, short_scan=False), part, rtol=0, atol=1e-12)
    assert not math.isclose(float(part[0, 32, 32]), float(x[0, 32, 32]), abs_tol=0.1)


class Recorded:
    """An array that remembers how much was read of it at a time."""

    def __init__(self, array):
        self.array, self.reads = array, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, index):
        part = self.array[index]
        self.reads.append(part.nbytes)
        return part


@pytest.mark.parametrize("name", ["flat", "turned detector"])
def test_out_of_core(name, tmp_path):
    geometry = SCANS[name].subset(slice(None, None, 5))
    y = BALL.line_integrals(geometry).float()
    path = tmp_path / "volume"
    volume = np.memmap(path, np.float32, "w+", shape=geometry.in_shape)
    projections, done = Recorded(y.numpy()), []
    memory = 2**20
    fdk_by_slab(geometry, projections, volume, memory=memory, progress=lambda k, n: done.append((k, n)))
    volume.flush()
    written = torch.from_numpy(np.fromfile(path, np.float32).reshape(geometry.in_shape))
    torch.testing.assert_close(written, fdk(geometry, y), rtol=0, atol=2e-5)
    assert done == [(min(k, N), N) for k in range(32, N + 32, 32)]
    # padded to twice the columns, and its transform beside it
    assert max(projections.reads) < memory / 8
    assert max(projections.reads) < y.numpy().nbytes / 20
    if name == "flat":
        assert sum(projections.reads) < 1.5 * y.numpy().nbytes


def test_linear_differentiable_and_the_same_in_a_batch():
    geometry = cone("arc", TURN[::10], volume_shape=(6, 12, 12), voxel_size=5.0, rows=20, offset=(0.3, 4.0))
    plan = Feldkamp(geometry, "cosine", 0.8)
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(2, 3, *geometry.out_shape, generator=generator, dtype=torch.float64, requires_grad=True)
    w = torch.randn(geometry.in_shape, generator=generator, dtype=torch.float64)
    x = fdk(geometry, y, "cosine", 0.8)
    assert x.shape == (2, 3, *geometry.in_shape)
    torch.testing.assert_close(x[1, 2], fdk(geometry, y[1, 2], "cosine", 0.8), rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad((x * w).sum(), y)
    torch.testing.assert_close(gradient[0, 1], plan.adjoint(w), rtol=0, atol=1e-13)


@pytest.mark.parametrize("detector", ["flat", "arc", "parallel"])
def test_back_projection_and_its_transpose_agree_to_rounding(detector):
    geometry = cone(detector, TURN[::15], (1.5, 7.0)) if detector != "parallel" else SCANS["parallel"]
    B = VoxelBackprojection(geometry.subset(range(8)))
    generator = torch.Generator().manual_seed(0)
    q, x = (torch.randn(2, *s, generator=generator, dtype=torch.float64) for s in (B.in_shape, B.out_shape))
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        p, z = q.to(dtype), x.to(dtype)
        forward, backward = (B(p) * z).sum(), (p * B.adjoint(z)).sum()
        assert abs(float(forward - backward)) < tolerance * float(B(p).norm() * z.norm())


@pytest.mark.parametrize("name", ["flat", "short arc", "parallel"])
def test_plain_torch_gives_the_same(name):
    orbit = circular(SCANS[name]).subset(slice(0, 5)).slab(20, 29)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 5, *orbit.detector_shape, generator=generator, dtype=torch.float64)
    x = torch.randn(2, *orbit.volume_shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        voxel._backproject_torch(q, orbit, torch.zeros_like(x)),
        voxel.backproject(q, orbit),
        rtol=0,
        atol=1e-12,
    )
    torch.testing.assert_close(voxel._project_torch(x, orbit), voxel.project(x, orbit), rtol=0, atol=1e-11)


def test_the_same_with_any_number_of_threads():
    geometry = cone(angles=TURN[::12])
    y = BALL.line_integrals(geometry)
    before = torch.get_num_threads()
    try:
        images = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            images.append(fdk(geometry, y))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*images)


def test_fbp_is_fdk_of_volumes():
    geometry = cone(angles=TURN[::12], volume_shape=(4, 16, 16), voxel_size=4.0)
    y = BALL.line_integrals(geometry)
    assert torch.equal(fbp(geometry, y, "hann", 0.7), fdk(geometry, y, "hann", 0.7))


def climbing():
    f = ParallelBeam3D((4, 8, 8), 1.0, (0.0, 1.0), (4, 8), 1.0).frames()
    return ParallelVectors((4, 8, 8), 1.0, (4, 8), f.source + np.array([0, 0, 0.1]), f.centre, f.u, f.v)


SMALL = ConeBeam((4, 8, 8), 1.0, TURN[::20], (4, 12), 1.0, 30.0, 50.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fdk(FanBeam((4, 4), 1.0, (0.0,), 4, 1.0, 9.0, 9.0), torch.zeros(1, 4)), "3-D geometry"),
        (lambda: fdk(torch.nn.Identity(), torch.zeros(1)), "3-D geometry"),
        (
            lambda: fdk(SMALL, torch.zeros(6, 4, 11)),
            r"expected shape \(\*batch, 6, 4, 12\), got \(6, 4, 11\)",
        ),
        (lambda: fdk(SMALL, torch.zeros(6, 4, 12, dtype=torch.int32)), "float32 or float64"),
        (lambda: fdk(SMALL, torch.full((6, 4, 12), math.nan)), "finite line integrals, got 288 NaN"),
        (lambda: fdk(SMALL, torch.zeros(6, 4, 12), "han"), "did you mean 'hann'"),
        (lambda: fdk(SMALL, torch.zeros(6, 4, 12), slab=(2, 5)), "slab: expected 0 ≤ start < stop ≤ 4"),
        (lambda: fdk(dataclasses.replace(SMALL, pitch=3.0), torch.zeros(6, 4, 12)), "helix of pitch 3 mm"),
        (lambda: fdk(as_vectors(dataclasses.replace(SMALL, pitch=9.0)), torch.zeros(6, 4, 12)), "CGLS"),
        (lambda: fdk(as_vectors(SMALL, jitter=2.0), torch.zeros(6, 4, 12)), "on a circle about the z axis"),
        (lambda: fdk(climbing(), torch.zeros(2, 4, 8)), "planes of constant z"),
        (lambda: VoxelBackprojection(as_vectors(SMALL, turned=0.1)), "rows along z"),
        (lambda: fdk_by_slab(SMALL, np.zeros((6, 4, 12)), np.zeros((4, 8, 7))), "fdk_by_slab volume"),
        (lambda: fdk_by_slab(SMALL, np.zeros((6, 4, 12)), np.zeros((4, 8, 8)), memory=500), "memory"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
