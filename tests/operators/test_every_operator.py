"""The promises of LinearOperator, for the examples of every operator there is."""

import copy
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

import operators
from operators import Gradient, Identity, LinearOperator, Mask, Operator, Transmission, Wavelet
from operators.base import Adjoint, Composition, Jacobian, NonLinearComposition, Scaled, Sum
from operators.fourier import Fourier
from operators.testing import check

OPTIONAL = {"astra", "odl", "deepinv", "tomosipo", "triton", "cupy"}
MADE_BY_ALGEBRA = {Adjoint, Composition, Jacobian, Scaled, Sum}


def import_all():
    """Every module of `operators`; those of absent optional backends are returned."""
    missing = []
    for module in pkgutil.walk_packages(operators.__path__, "operators."):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            if (error.name or "").split(".")[0] not in OPTIONAL:
                raise
            missing.append(module.name)
    return missing


def subclasses(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


MISSING = import_all()
CLASSES = sorted(
    {
        c
        for c in subclasses(LinearOperator)
        if c.__module__.startswith("operators.") and not inspect.isabstract(c)
    }
    - MADE_BY_ALGEBRA,
    key=lambda c: c.__name__,
)
EXAMPLES = [
    pytest.param(A, id=f"{c.__name__}-{i}")
    for c in CLASSES
    if hasattr(c, "examples")
    for i, A in enumerate(c.examples())
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_optional_backends():
    if MISSING:
        pytest.skip(f"{', '.join(MISSING)}: the packages they need are not installed")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_has_several_small_examples(cls):
    examples = cls.examples()
    assert len(examples) >= 2
    assert all(torch.Size(A.in_shape).numel() <= 4096 for A in examples)


@pytest.mark.parametrize("A", EXAMPLES)
def test_keeps_its_promises(A):
    report = check(A)
    assert report.adjoint <= 1
    assert report.largest is not None and report.entries is not None


@pytest.mark.cuda
@pytest.mark.parametrize("cls", [Identity, Mask, Gradient, Wavelet, Fourier])
def test_keeps_its_promises_on_a_gpu(cls):
    for A in cls.examples():
        check(copy.deepcopy(A).cuda(), device="cuda")


@pytest.mark.parametrize("A", EXAMPLES)
def test_survives_pickle_and_deepcopy(A):
    x = torch.randn(A.in_shape, generator=generator(), dtype=torch.float64)
    for same in (copy.deepcopy(A), nn.ModuleList([copy.deepcopy(A)])[0]):
        assert torch.equal(same(x), A(x))
    assert torch.equal(pickled(A)(x), A(x))


def pickled(A):
    import pickle

    return pickle.loads(pickle.dumps(A))


@pytest.mark.parametrize("A", EXAMPLES)
def test_the_adjoint_of_the_adjoint(A):
    assert A.H.H is A
    assert (A.H.in_shape, A.H.out_shape) == (A.out_shape, A.in_shape)
    assert A.H.norm() == A.norm()


def small():
    mask = torch.randn(4, 3, generator=generator(1), dtype=torch.float64)
    return Gradient((4, 3), 0.7), Mask(mask), Fourier((4, 3)), Identity((4, 3))


D, M, F, I_ = small()
ALGEBRA = {
    "composition": D @ M,
    "three": Gradient((2, 4, 3)) @ D @ M,
    "complex composition": F @ M,
    "sum": M + I_,
    "difference": F - M,
    "scaled": 2 * D,
    "complex scale": 2j * D,
    "negative": -D,
    "gram": D.gram,
    "complex gram": (F @ M).gram,
    "mixed": (1 - 2j) * (F @ M) + 0.5 * F.H,
    "derivative": Transmission(D).derivative(torch.ones(4, 3, dtype=torch.float64)),
    "chain rule": (Transmission(Identity((2, 4, 3))) @ Transmission(D)).derivative(torch.ones(4, 3).double()),
}


@pytest.mark.parametrize("A", [pytest.param(A, id=name) for name, A in ALGEBRA.items()])
@pytest.mark.parametrize("adjoint", [False, True])
def test_algebra_keeps_the_promises(A, adjoint):
    check(A.H if adjoint else A)


@pytest.mark.parametrize("A", [D, M, Identity((4, 3))], ids=repr)
def test_real_operators_take_complex_images(A):
    check(A, complex_input=True)


def test_algebra_is_that_of_matrices():
    x = torch.randn(5, 4, 3, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close((D @ M)(x), D(M(x)))
    torch.testing.assert_close((M + I_)(x), M(x) + x)
    torch.testing.assert_close((F - M)(x), F(x) - M(x))
    torch.testing.assert_close((-D)(x), -D(x))
    torch.testing.assert_close((2j * D)(x), 2j * D(x))
    torch.testing.assert_close((2j * D).adjoint(D(x) + 0j), -2j * D.adjoint(D(x)))
    torch.testing.assert_close(D.gram(x), D.adjoint(D(x)))
    assert D.H.H is D and D.H.in_shape == D.out_shape


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"cannot compose .*\(2, 4, 3\) comes out, \(4, 3\) is expected"):
        M @ D
    with pytest.raises(ValueError, match="must have the same in_shape and out_shape"):
        M + D
    for wrong in (lambda: M * 2, lambda: M @ 2, lambda: "2" * M, lambda: M + 1):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match=r"expects a torch.Tensor, got ndarray"):
        M(torch.ones(4, 3).numpy())
    with pytest.raises(
        ValueError, match=r"derivative of .* expects one image of shape \(4, 3\), got \(1, 4, 3\)"
    ):
        Transmission(D).derivative(torch.ones(1, 4, 3))


class WrongAdjoint(Gradient):
    """Positive test vectors miss it: only one sign is wrong."""

    def _adjoint(self, y):
        return super()._adjoint(y) * torch.tensor([1.0, 1.0, -1.0]).to(y)


class Aliasing(Identity):
    def _forward(self, x):
        return x


class InPlace(Identity):
    def _forward(self, x):
        return x.mul_(2).clone() / 2


class Affine(Identity):
    def _forward(self, x):
        return x + 1


class Mixing(Identity):
    """What happens to one image depends on its batch."""

    def _forward(self, x):
        return x - x.mean(0) + x[:1] * 0 if len(x) > 1 else x.clone()

    _adjoint = _forward


class TooSmallNorm(Gradient):
    def _norm(self, iterations=500):
        return 0.95 * super()._norm()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (WrongAdjoint((4, 3)), "`_adjoint` is not the adjoint"),
        (Aliasing((4, 3)), "shares memory"),
        (InPlace((4, 3)), "changes its input"),
        (Affine((4, 3)), "adjoint"),
        (Mixing((4, 3)), "images one by one|entry"),
        (TooSmallNorm((4, 3)), r"norm\(\) = "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_check_finds_what_is_broken(broken, words):
    with pytest.raises(AssertionError, match=words):
        check(broken)


class Learned(LinearOperator):
    """A small convolution with a trainable kernel."""

    in_shape = out_shape = (6, 5)

    def __init__(self):
        super().__init__()
        kernel = torch.randn(1, 1, 3, 3, generator=generator(3), dtype=torch.float64)
        self.kernel = nn.Parameter(kernel)

    def _forward(self, x):
        return nn.functional.conv2d(x[:, None], self.kernel.to(x), padding=1)[:, 0]

    def _adjoint(self, y):
        return nn.functional.conv_transpose2d(y[:, None], self.kernel.to(y), padding=1)[:, 0]


def test_a_learned_operator_is_differentiated_by_autograd():
    A = Learned()
    check(A)
    x = torch.randn(2, 6, 5, generator=generator(), dtype=torch.float64)
    for value in (A(x), A.adjoint(x), A.H(x), (2 * A)(x), (A @ A)(x), (A + A)(x), A.gram(x)):
        (grad,) = torch.autograd.grad(value.square().sum(), A.kernel)
        assert float(grad.abs().max()) > 0

    def loss(kernel):
        return torch.func.functional_call(A, {"kernel": kernel}, (x,)).square().sum()

    assert torch.autograd.gradcheck(loss, A.kernel)


def test_a_learned_operator_forgets_its_norm():
    A = Learned()
    before = A.norm()
    with torch.no_grad():
        A.kernel.mul_(2)
    assert A.norm() == pytest.approx(2 * before, rel=1e-5)


@pytest.mark.parametrize("parameter", [False, True])
def test_a_mask_that_requires_grad(parameter):
    values = torch.rand(4, 3, generator=generator(), dtype=torch.float64)
    mask = nn.Parameter(values) if parameter else values.requires_grad_()
    A = D @ Mask(mask)
    x = torch.randn(4, 3, generator=generator(1), dtype=torch.float64, requires_grad=True)
    g = torch.randn(2, 4, 3, generator=generator(2), dtype=torch.float64)
    by_mask, by_x = torch.autograd.grad(A(x), (mask, x), g)
    torch.testing.assert_close(by_mask, D.adjoint(g) * x.detach())
    torch.testing.assert_close(by_x, A.adjoint(g).detach())
    assert (len(list(A.parameters())) == 1) is parameter


class ByNumpy(Identity):
    """Autograd cannot see inside, as inside a numba kernel."""

    def _forward(self, x):
        return torch.from_numpy(3 * x.detach().numpy())

    _adjoint = _forward

    def _norm(self, iterations=500):
        return 3.0


def test_a_learned_part_does_not_hide_the_gradient_of_a_foreign_one():
    A = ByNumpy((4, 3)) @ Mask(nn.Parameter(torch.full((4, 3), 2.0))) @ ByNumpy((4, 3))
    x = torch.ones(4, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(A(x).sum(), x)
    torch.testing.assert_close(grad, torch.full((4, 3), 18.0))
    check(A)


def test_a_real_image_under_a_complex_operator_has_a_real_gradient():
    x = torch.randn(4, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    g = torch.randn(4, 3, generator=generator(1), dtype=torch.complex128)
    (grad,) = torch.autograd.grad(F(x), x, g)
    torch.testing.assert_close(grad, F.adjoint(g).real)


def test_calls_are_counted():
    A = Gradient((4, 3))
    x = torch.ones(5, 4, 3, requires_grad=True)
    A(x).sum().backward()
    A.H(A(x.detach()))
    assert A.calls == {"forward": 2, "adjoint": 2}
    B = A.gram
    B(x.detach())
    assert A.calls == {"forward": 3, "adjoint": 3}
    assert B.calls == {"forward": 1}


def test_power_iteration_is_deterministic_and_close():
    class Plain(Gradient):
        _norm = LinearOperator._norm

    A = Plain((9, 8))
    assert A.norm() == Plain((9, 8)).norm()
    assert A.norm() == pytest.approx(Gradient((9, 8)).norm(), rel=1e-3)
    assert A.norm() <= Gradient((9, 8)).norm() * (1 + 1e-6)
    zero = Mask(torch.zeros(3, 3)) @ Mask(torch.ones(3, 3))
    assert zero.norm() == 0


class Square(Operator):
    in_shape = out_shape = (4, 3)

    def _forward(self, x):
        return x**2 + x.sum((-2, -1), keepdim=True)


@pytest.mark.parametrize(
    "operator",
    [Square(), Transmission(D), Square() @ Square(), Transmission(D) @ Square(), Transmission(D) @ M],
    ids=repr,
)
def test_derivative(operator):
    x = torch.randn(4, 3, generator=generator(), dtype=torch.float64) / 3
    A = operator.derivative(x)
    check(A)
    jacobian = torch.autograd.functional.jacobian(operator, x)
    units = torch.eye(12, dtype=torch.float64).reshape(12, 4, 3)
    torch.testing.assert_close(A(units).movedim(0, -1), jacobian.flatten(-2), rtol=1e-12, atol=1e-12)


class SquaredSpectrum(Operator):
    """A complex result of a real image, and holomorphic for a complex one."""

    in_shape = out_shape = (4, 3)

    def _forward(self, x):
        return F(x) ** 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_derivative_of_complex_results(dtype):
    x, h = torch.randn(2, 4, 3, generator=generator(), dtype=dtype)
    A = SquaredSpectrum().derivative(x)
    check(A)
    torch.testing.assert_close(A(h), 2 * F(x) * F(h))


NON_LINEAR = sorted(
    {
        c
        for c in subclasses(Operator)
        if c.__module__.startswith("operators.")
        and not issubclass(c, LinearOperator)
        and c is not NonLinearComposition
    },
    key=lambda c: c.__name__,
)


@pytest.mark.parametrize(
    "cls", [c for c in NON_LINEAR if not inspect.isabstract(c)], ids=lambda c: c.__name__
)
def test_every_non_linear_operator(cls):
    """Leading batches, and the derivative against automatic differentiation."""
    for operator in cls.examples():
        x = torch.rand(2, 3, *operator.in_shape, generator=generator(), dtype=torch.float64)
        y = operator(x)
        assert y.shape == (2, 3, *operator.out_shape)
        torch.testing.assert_close(y[1, 2], operator(x[1, 2]))
        A, h = operator.derivative(x[0, 0]), x[1, 1]
        torch.testing.assert_close(A(h), torch.func.jvp(operator, (x[0, 0],), (h,))[1])
        check(A)
        with pytest.raises(ValueError, match="expects shape"):
            operator(x[..., :-1])


def test_a_linear_operator_is_its_own_derivative():
    assert D.derivative(torch.zeros(4, 3)) is D


def test_transmission_is_differentiable():
    x = torch.rand(2, 4, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Transmission(D), x)
    torch.testing.assert_close(Transmission(I_)(x), torch.exp(-x))
