import math
import os
import pickle

import numpy as np
import pytest
import torch

from operators import ConeBeam, ConeVectors, FanBeam, Fourier, Gradient, ParallelBeam, ParallelBeam3D, XRay
from operators.interop import from_odl, from_odl_geometry, to_odl, to_odl_geometry
from operators.interop.odl import toolbox
from operators.interop.odl_geometry import image_for_odl, image_from_odl, panel_for_odl
from operators.testing import check

pytest.importorskip("odl")

ANGLES = (-0.4, 0.1, 1.0, 2.5, 8.0)
FLAT = ((8, 9), 0.7, ANGLES, 13, 1.3)
SOLID = ((5, 8, 9), (2.0, 0.7, 0.75), ANGLES, (3, 7), (1.1, 1.3))
GEOMETRIES = [
    ParallelBeam(*FLAT),
    ParallelBeam(*FLAT, offset=-0.4),
    FanBeam(*FLAT, 431.02, 529.0),
    FanBeam(*FLAT, 20.0, 30.0, offset=0.3),
    FanBeam(*FLAT, 541.0, 949.075, "arc"),
    FanBeam(*FLAT, 20.0, 30.0, "arc", offset=-0.7),
    ParallelBeam3D(*SOLID),
    ParallelBeam3D(*SOLID, offset=(0.5, 0.25)),
    ConeBeam(*SOLID, 541.0, 949.075),
    ConeBeam(*SOLID, 40.0, 70.0, offset=(0.5, 0.25), pitch=4.0, start=-1.0),
    ConeBeam(*SOLID, 40.0, 70.0, "arc", offset=(0.5, -0.25), pitch=4.0),
]


def name(geometry):
    return f"{type(geometry).__name__}-{getattr(geometry, 'detector', '')}-{geometry.offset}"


def random(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_importing_odl_leaves_no_trace():
    options, environment = np.get_printoptions(), dict(os.environ)
    toolbox()
    assert np.get_printoptions() == options
    assert dict(os.environ) == environment


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=name)
def test_there_and_back_is_the_same_value(geometry):
    found = from_odl_geometry(*to_odl_geometry(geometry))
    assert found == geometry


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=name)
def test_rays_are_where_odl_has_them(geometry):
    """ODL's own source and detector points, one by one."""
    _, theirs = to_odl_geometry(geometry)
    points, directions = geometry.rays()
    grid = theirs.det_partition.meshgrid
    for k, angle in enumerate(ANGLES):
        for index in np.ndindex(*geometry.out_shape[1:]):
            parameters = [g.ravel()[i] for g, i in zip(grid, index[::-1], strict=True)]
            pixel = theirs.det_point_position(angle, parameters[0] if len(parameters) == 1 else parameters)
            apart = pixel - points[k][index]
            along = directions[k][index]
            np.testing.assert_allclose(apart - (apart @ along) * along, 0, atol=1e-10)
            if hasattr(theirs, "src_radius"):
                np.testing.assert_allclose(theirs.src_position(angle), points[k][index], atol=1e-10)


@pytest.mark.parametrize(
    "geometry",
    [
        ParallelBeam((64, 64), 0.5, (0.0, 0.3, 1.2, 2.0, 4.0), 80, 0.6),
        FanBeam((64, 64), 0.5, (0.0, 0.3, 1.2, 2.0, 4.0), 80, 0.9, 60.0, 90.0, offset=0.4),
    ],
    ids=lambda g: type(g).__name__,
)
def test_odl_sees_the_same_disc(geometry):
    """Direction and origin of angles and axes: an off-centre disc through ODL's own ray transform."""
    pytest.importorskip("astra")
    odl = toolbox()
    grid, theirs = to_odl_geometry(geometry)
    space = odl.uniform_discr_frompartition(grid, dtype="float32")
    y, x = np.mgrid[15.75:-16:-0.5, -15.75:16:0.5]
    disc = torch.from_numpy(np.clip((6 - np.hypot(x - 5, y + 3)) / 0.5 + 0.5, 0, 1)).float()
    transform = odl.applications.tomo.RayTransform(space, theirs, impl="astra_cpu")
    expected = np.asarray(transform(space.element(image_for_odl(disc).contiguous().numpy())).data)
    found = XRay(geometry)(disc).numpy()
    mirrored = XRay(geometry)(disc.flip(-2)).numpy()
    size = np.linalg.norm(expected)
    assert (
        np.linalg.norm(found - expected) <= 0.02 * size
    )  # two discretisations of fans, one of parallel beams
    assert np.linalg.norm(mirrored - expected) >= 0.5 * size


def test_layouts():
    x = random(2, 3, 4)
    assert torch.equal(image_from_odl(image_for_odl(x)), x)
    assert image_for_odl(x)[3, 0, 1] == x[1, 2, 3]  # x = 3, the lowest y, z = 1
    assert panel_for_odl(x)[0, 3, 2] == x[0, 2, 3]


def test_shifts_become_vectors_in_three_dimensions():
    odl = toolbox()
    geometry = GEOMETRIES[8]
    grid, theirs = to_odl_geometry(geometry)
    shifted = odl.applications.tomo.ConeBeamGeometry(
        theirs.motion_partition,
        theirs.det_partition,
        theirs.src_radius,
        theirs.det_radius,
        src_shift_func=lambda angle: np.array([0.0, 0.5, 0.0], ndmin=2),
    )
    found = from_odl_geometry(grid, shifted)
    assert isinstance(found, ConeVectors)
    np.testing.assert_allclose(found.sources, shifted.src_position(np.array(ANGLES)), atol=1e-12)
    np.testing.assert_allclose(found.frames().pixels(3, 7), geometry.frames().pixels(3, 7), atol=1e-10)


def test_a_turned_start_is_an_angle():
    odl = toolbox()
    grid, theirs = to_odl_geometry(GEOMETRIES[3])
    turned = odl.applications.tomo.FanBeamGeometry(
        theirs.motion_partition, theirs.det_partition, 20.0, 10.0, src_to_det_init=(-1, 0)
    )
    found = from_odl_geometry(grid, turned)
    np.testing.assert_allclose(found.angles, np.array(ANGLES) + math.pi / 2, atol=1e-14)


def fan_with(**options):
    grid, theirs = to_odl_geometry(GEOMETRIES[3])
    parts = (theirs.motion_partition, theirs.det_partition, 20.0, 10.0)
    return grid, toolbox().applications.tomo.FanBeamGeometry(*parts, **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fan_with(det_axis_init=(-1, 0)), "mirrored"),
        (lambda: fan_with(translation=(1.0, 0.0)), "translation"),
        (lambda: fan_with(det_curvature_radius=25.0), "cylinder about the source, of radius 30 mm"),
    ],
)
def test_what_cannot_be_said_is_an_error(make, words):
    with pytest.raises(ValueError, match=words):
        from_odl_geometry(*make())


def test_unsorted_angles_and_vectors_are_errors():
    with pytest.raises(ValueError, match="view angles that increase"):
        to_odl_geometry(ParallelBeam((4, 4), 1.0, (1.0, 0.5), 5, 1.0))
    beam = ConeVectors((1, 2, 2), 1.0, (1, 2), [(0, 9, 0)], [(0, -9, 0)], [(1, 0, 0)], [(0, 0, 1)])
    with pytest.raises(ValueError, match="no scan by vectors, got ConeVectors"):
        to_odl_geometry(beam)


# operators


def small():
    return XRay(FanBeam((6, 7), 0.8, (0.1, 1.3, 2.9, 4.0), 8, 2.0, 20.0, 40.0, "arc", offset=0.3))


@pytest.mark.parametrize("impl", ["pytorch", "numpy"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain range", "weighted range"])
def test_the_adjoint_answers_to_the_weighted_inner_products(impl, weighted):
    odl, A = toolbox(), small()
    space = odl.uniform_discr([0, -8], [4, 8], A.out_shape, dtype="float64", impl=impl) if weighted else None
    T = to_odl(A, range=space, impl=impl, dtype="float64")
    assert T.domain.cell_volume == pytest.approx(0.64)
    x, y = (s.element(random(*s.shape, dtype=torch.float64).numpy()) if impl == "numpy"
            else s.element(random(*s.shape, dtype=torch.float64)) for s in (T.domain, T.range))  # fmt: skip
    left, right = float(T(x).inner(y)), float(x.inner(T.adjoint(y)))
    assert left == pytest.approx(right, rel=1e-12)
    assert T.adjoint.adjoint is T
    np.testing.assert_allclose(np.asarray(T(x).data), A(random(6, 7, dtype=torch.float64)), rtol=1e-12)


def test_gradients_flow_through_the_torch_spaces_to_second_order():
    T = to_odl(small(), dtype="float64")
    x = random(6, 7, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: T(T.domain.element(x)).data ** 2, x, fast_mode=True)


@pytest.mark.parametrize("impl", ["pytorch", "numpy"])
def test_there_and_back_is_the_operator(impl):
    A = small()
    same = from_odl(to_odl(A, impl=impl, dtype="float64"))
    check(same, dtypes=(torch.float64,))
    x, y = random(2, *A.in_shape, dtype=torch.float64), random(2, *A.out_shape, dtype=torch.float64)
    torch.testing.assert_close(same(x), A(x), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(same.adjoint(y), A.adjoint(y), rtol=1e-13, atol=1e-13)


def test_complex_data():
    T = to_odl(Fourier((4, 5)), dtype="complex128")
    check(from_odl(T), dtypes=(torch.float64,), complex_input=True)


def test_odls_own_operators_keep_our_contract():
    odl = toolbox()
    plain, heavy = odl.rn((3, 4)), odl.rn((3, 4), weighting=np.arange(1.0, 13.0).reshape(3, 4))
    scale = odl.MultiplyOperator(plain.element(np.linspace(-1, 2, 12).reshape(3, 4)))
    check(from_odl(scale), dtypes=(torch.float64,))
    same = from_odl(to_odl(Gradient((3, 4), 0.5), domain=heavy, dtype="float64", impl="numpy"))
    check(same, dtypes=(torch.float64,))  # Aᵀ, whatever the weights are


def test_odls_ray_transform_is_ours():
    """ODL's transform as our operator: its transpose is exact, and it is our projector's matrix."""
    pytest.importorskip("astra")
    odl = toolbox()
    geometry = ParallelBeam((6, 7), 0.8, (0.1, 1.3, 2.0, 2.9), 9, 0.8)
    grid, theirs = to_odl_geometry(geometry)
    space = odl.uniform_discr_frompartition(grid, dtype="float32")
    A = from_odl(odl.applications.tomo.RayTransform(space, theirs, impl="astra_cpu"))
    x, y = random(7, 6), random(4, 9)
    gap = float((A(x) * y).sum() - (x * A.adjoint(y)).sum())
    assert abs(gap) <= 1e-5 * float(A(x).norm() * y.norm())  # ASTRA sums in float32
    ours = XRay(geometry)(image_from_odl(x))
    assert (A(x) - ours).norm() <= 1e-4 * ours.norm()


def test_odls_pdhg_minimises_with_our_operator():
    """min ½‖Ax − b‖² + λ‖∇x‖₁, its optimum found by our own solver as well: equal objective."""
    from priors import TV, SquaredL2
    from recon import pdhg, run

    odl = toolbox()
    geometry = ParallelBeam((12, 12), 1.0, [math.pi * k / 8 for k in range(8)], 17, 1.0)
    A = XRay(geometry)
    truth = torch.zeros(12, 12, dtype=torch.float64)
    truth[3:8, 4:9] = 1.0
    b = A(truth) + 0.1 * random(*A.out_shape, dtype=torch.float64)
    T = to_odl(A, dtype="float64", impl="numpy")
    slopes = odl.Gradient(T.domain, pad_mode="order0")
    stacked, F = odl.BroadcastOperator(T, slopes), odl.functionals
    data = 0.5 * F.L2NormSquared(T.range).translated(T.range.element(b.numpy()))
    terms = F.SeparableSum(data, 0.5 * F.GroupL1Norm(slopes.range))
    norm = 1.05 * odl.power_method_opnorm(stacked, maxiter=30)
    x = T.domain.zero()
    odl.solvers.pdhg(
        x, F.ZeroFunctional(T.domain), terms, stacked, niter=300, tau=0.1 / norm, sigma=10 / norm
    )

    def objective(image):
        return float(0.5 * ((A(image) - b) ** 2).sum() + TV((12, 12), 1.0, weight=0.5)(image))

    terms = [SquaredL2(b) @ A, TV((12, 12), 1.0, weight=0.5)]
    ours = run(pdhg(terms, None, torch.zeros_like(truth)), 3000, 1e-7)
    theirs = torch.from_numpy(np.array(x.data))
    # 4e-4 above the minimum after 300 iterations, 1e-4 after 600: a first-order method on its way
    assert objective(theirs) == pytest.approx(objective(ours), rel=1e-3)
    assert objective(theirs) < 0.5 * objective(torch.zeros_like(truth))


def test_it_survives_pickle():
    T = to_odl(small())
    same = pickle.loads(pickle.dumps(T))
    x = T.domain.element(random(6, 7))
    assert torch.equal(same(x).data, T(x).data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda odl: to_odl(small(), domain=odl.rn((6, 6))), r"domain: expected a space of shape \(6, 7\)"),
        (lambda odl: from_odl(odl.PowerOperator(odl.rn(3), 2)), "expected a linear operator"),
        (lambda odl: from_odl(odl.Gradient(odl.uniform_discr([0, 0], [1, 1], (3, 3)))), "discretised spaces"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make(toolbox())
