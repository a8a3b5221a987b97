"""Our operators in deepinv, and deepinv's physics here; deepinv's own operator tests run on ours."""

import importlib
import math
import warnings

import pytest
import torch

from operators import FanBeam, Fourier, Gradient, ParallelBeam, XRay
from operators.interop import from_deepinv, to_deepinv
from operators.testing import check

pytest.importorskip("deepinv")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import deepinv

    theirs = importlib.import_module("deepinv.tests.test_physics")
    solvers = importlib.import_module("deepinv.tests.test_optim")

OPERATORS = {
    # as many rays as pixels: deepinv asks its solvers for the pseudo-inverse to 5 %
    "fan": XRay(FanBeam((8, 8), 1.0, [2 * math.pi * k / 12 for k in range(12)], 13, 1.5, 30.0, 50.0, "arc")),
    "parallel": XRay(ParallelBeam((8, 8), 1.0, [math.pi * k / 12 for k in range(12)], 13, 1.0), "numba"),
    "gradient": Gradient((8, 8)),
    "fourier": Fourier((8, 8)),
}


@pytest.fixture
def device():
    return torch.device("cpu")


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=list(OPERATORS))
def physics(request, monkeypatch):
    """One of ours, of norm 1, as what deepinv's tests ask for: operator, image size, norm², dtype."""
    A = (1 / OPERATORS[request.param].norm()) * OPERATORS[request.param]

    def find(name, device, imsize=None, get_physics_param=False):
        made = to_deepinv(A)
        found = (made, made.img_size, 1.0, torch.float32)
        return (*found, []) if get_physics_param else found

    for module in (theirs, solvers):
        monkeypatch.setattr(module, "find_operator", find)
    monkeypatch.setattr(theirs, "OPERATORS", ["ours"])
    return request.param


def test_deepinvs_adjointness(physics, device, rng):
    theirs.test_operators_adjointness("ours", device, rng)


def test_deepinvs_gradient_of_the_adjoint(physics, device):
    torch.manual_seed(0)
    theirs.test_adjoint_autograd("ours", device)


@pytest.mark.parametrize("implicit", [True, False])
def test_deepinvs_pseudo_inverse(physics, device, rng, implicit):
    theirs.test_pseudo_inverse("ours", device, rng, implicit)


def test_deepinvs_norm(physics, device, rng):
    theirs.test_operators_norm("ours", False, device, rng)


def test_deepinvs_differentiability(physics, device):
    theirs.test_operators_differentiability("ours", device)


@pytest.mark.filterwarnings("ignore:At least one input physics:UserWarning")  # deepinv's about its own
def test_deepinvs_concatenation(physics, device):
    theirs.test_concatenation("ours", device)


def test_deepinvs_state_dict(physics, device):
    theirs.test_physics_state_dict("ours", device)


@pytest.mark.parametrize("physics", ["fan"], indirect=True)
def test_deepinvs_clone(physics, device):
    theirs.test_clone("ours", device)


@pytest.mark.parametrize("solver", ["CG", "lsqr"])
@pytest.mark.parametrize("physics", ["parallel"], indirect=True)
def test_deepinvs_least_squares_solvers(physics, device, solver):
    torch.manual_seed(0)
    A = to_deepinv(OPERATORS[physics])
    x = torch.randn(2, *A.img_size)
    y = A(x)
    back = A.A_dagger(y, solver=solver, tol=1e-6, max_iter=200)
    assert float((A.A(back) - y).square().mean() / y.square().mean()) < 1e-4
    near = A.prox_l2(x, y, gamma=torch.ones(2, 1, 1, 1), solver=solver, tol=1e-6, max_iter=100)
    assert float((near - x).square().mean() / x.square().mean()) < 1e-4


def test_channels_are_images_and_complex_data_two_channels():
    A = OPERATORS["fan"]
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    P = to_deepinv(A, channels=3)
    assert P.img_size == (3, 8, 8) and P.A(x).shape == (2, 3, 12, 13)
    assert torch.equal(P.A(x)[1, 2], A(x[1, 2]))
    F = to_deepinv(OPERATORS["fourier"])
    z = x[:, :2]
    expected = Fourier((8, 8))(torch.complex(z[:, 0], z[:, 1]))
    torch.testing.assert_close(F.A(z), torch.stack([expected.real, expected.imag], 1))


def test_our_fourier_is_deepinvs_mri_without_a_mask():
    """One centred orthonormal transform on both sides."""
    x = torch.randn(2, 2, 8, 6, generator=torch.Generator().manual_seed(0))
    mri = deepinv.physics.MRI(mask=torch.ones(8, 6), img_size=(2, 8, 6))
    torch.testing.assert_close(to_deepinv(Fourier((8, 6))).A(x), mri.A(x), rtol=0, atol=1e-6)


def test_noise_models_are_theirs():
    P = to_deepinv(OPERATORS["fan"], noise_model=deepinv.physics.GaussianNoise(0.5))
    x = torch.zeros(1, 1, 8, 8)
    torch.manual_seed(0)
    assert float(P(x).std()) == pytest.approx(0.5, rel=0.2)  # 156 samples, four standard errors
    assert float(P.A(x).abs().max()) == 0


def test_second_derivatives():
    P = to_deepinv(XRay(ParallelBeam((4, 4), 1.0, [0.2, 1.0], 6, 1.0)))
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: P.A(x) ** 2, x, fast_mode=True)


def test_deepinvs_tomography_is_our_parallel_beam():
    """Its angle 0 is ours, its columns of data our rows; two ways of interpolating a smooth blob."""
    n, angles = 61, torch.tensor([0.0, 20.0, 90.0, 130.0])  # its 87 bins share the middle of 61 pixels
    tomography = deepinv.physics.Tomography(angles=angles, img_width=n, circle=False, normalize=False)
    A = from_deepinv(tomography, (1, n, n))
    assert (A.in_shape, A.out_shape) == ((n, n), (87, 4))
    y, x = torch.meshgrid(torch.arange(n) - 30.0, torch.arange(n) - 30.0, indexing="ij")
    blob = torch.exp(-((x - 8) ** 2 + (y + 5) ** 2) / 60)
    found = A(blob).T

    def error(sign):
        ours = XRay(ParallelBeam((n, n), 1.0, sign * torch.deg2rad(angles), 87, 1.0))(blob)
        return float((ours - found).norm() / found.norm())

    # 6e-4 was measured; angles of the other direction are 0.7 away
    assert error(1) <= 2e-3 and error(-1) >= 0.5


@pytest.mark.parametrize(
    "physics_of_theirs",
    [
        lambda: deepinv.physics.Blur(torch.ones(1, 1, 3, 3) / 9, padding="circular"),
        lambda: deepinv.physics.Inpainting((1, 6, 7), mask=0.5, rng=torch.Generator().manual_seed(0)),
    ],
    ids=["blur", "inpainting"],
)
def test_their_physics_keep_our_contract(physics_of_theirs):
    A = from_deepinv(physics_of_theirs(), (1, 6, 7))
    assert A.in_shape == (6, 7)
    check(A, dtypes=(torch.float32,))


def test_their_mri_keeps_our_contract_with_complex_images():
    mri = deepinv.physics.MRI(mask=torch.eye(6)[:, :5] + 0.0, img_size=(2, 6, 5))
    A = from_deepinv(mri, is_complex=True)
    assert A.in_shape == A.out_shape == (6, 5)
    check(A, dtypes=(torch.float32,), complex_input=True)


def test_there_and_back_is_the_operator():
    for name, A in OPERATORS.items():
        same = from_deepinv(to_deepinv(A), is_complex=name == "fourier")
        x = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
        assert (same.in_shape, same.out_shape) == (A.in_shape, A.out_shape)
        torch.testing.assert_close(same(x), A(x))
        check(same, complex_input=name == "fourier")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: from_deepinv(deepinv.physics.Denoising()), "does not know its img_size"),
        (lambda: from_deepinv(to_deepinv(OPERATORS["fan"]), is_complex=True), "expected two channels"),
        (lambda: from_deepinv(to_deepinv(OPERATORS["fan"]).stack(to_deepinv(OPERATORS["fan"])), (1, 8, 8)),
         "expected one tensor of data, got TensorList"),
    ],
)  # fmt: skip
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_shape_without_channels_is_refused_by_name():
    physics = deepinv.physics.Tomography(angles=6, img_width=8, normalize=False)
    with pytest.raises(ValueError, match=r"expected \(C, H, W\), as \(1, 8, 8\)"):
        from_deepinv(physics, (8, 8))
