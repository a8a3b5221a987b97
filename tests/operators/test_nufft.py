"""Non-uniform Fourier transforms against the sum they stand for, the FFT, and other libraries."""

import copy
import importlib.util
import math
import multiprocessing
import threading

import pytest
import torch
from torch import nn

from operators import Coils, Fourier, NonUniformFourier, NonUniformSense, cartesian, radial
from operators.testing import check


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, dtype=torch.complex128, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def points(*shape, seed=1):
    return math.pi * (2 * torch.rand(shape, generator=generator(seed), dtype=torch.float64) - 1)


def written_out(x, k):
    """n^(−½) Σ_r x(r) exp(−i k·r), term by term."""
    axes = [torch.arange(n, dtype=torch.float64) - n // 2 for n in x.shape]
    r = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    return torch.exp(-1j * (k @ r.T)) @ x.flatten() / math.sqrt(x.numel())


def distance(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture
def finufft():
    return pytest.importorskip("finufft")


HAS_FINUFFT = importlib.util.find_spec("finufft") is not None
BACKENDS = [
    "direct",
    pytest.param("finufft", marks=pytest.mark.skipif(not HAS_FINUFFT, reason="finufft is not installed")),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(6, 8), (7, 5), (4, 9), (3, 4, 5), (1, 6)])
def test_equals_the_centred_fft_on_the_full_grid(backend, shape):
    A = NonUniformFourier(shape, cartesian(torch.ones(shape)), 1e-12, backend)
    x, F = random(*shape), Fourier(shape, ndim=len(shape))
    assert distance(A(x), F(x).flatten()) < 1e-12
    assert distance(A.adjoint(F(x).flatten()), x) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(6, 8), (7, 5), (3, 4, 5)])
def test_equals_the_sum_written_out(backend, shape):
    k, x = points(40, len(shape)), random(*shape)
    assert distance(NonUniformFourier(shape, k, 1e-12, backend)(x), written_out(x, k)) < 2e-12


@pytest.mark.parametrize(
    "tolerance", [0.1, 0.05, 0.03, 0.02, 1e-2, 3e-3, 1e-3, 3e-4, 1e-5, 1e-6, 1e-8, 3e-9, 1e-10, 1e-12]
)
@pytest.mark.parametrize("shape", [(64, 64), (33, 20), (9, 10), (12, 13, 14), (7, 8, 9)])
def test_is_as_accurate_as_asked_for_and_the_adjoint_exact(finufft, tolerance, shape):
    k, x, y = points(1500, len(shape)), random(*shape), random(1500, seed=2)
    A, exact = NonUniformFourier(shape, k, tolerance), NonUniformFourier(shape, k, backend="direct")
    Ax, back = A(x), A.adjoint(y)
    assert distance(Ax, exact(x)) <= tolerance
    assert distance(back, exact.adjoint(y)) <= tolerance
    # both directions share kernel and grid: rounding of 1500 terms is all that is left
    gap = torch.vdot(y, Ax) - torch.vdot(back.flatten(), x.flatten())
    assert abs(gap) <= 1e-12 * float(Ax.norm() * y.norm())


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_single_precision(finufft, tolerance):
    shape = (48, 45)
    k, x, y = points(1500, 2), random(*shape), random(1500, seed=2)
    A, exact = NonUniformFourier(shape, k, tolerance), NonUniformFourier(shape, k, backend="direct")
    Ax, back = A(x.to(torch.complex64)), A.adjoint(y.to(torch.complex64))
    assert Ax.dtype == back.dtype == torch.complex64
    assert distance(Ax, exact(x)) <= tolerance
    assert distance(back, exact.adjoint(y)) <= tolerance
    # and below 1e-5 it says nothing louder than that: coordinates are rounded to 1e-7 · π, 24 pixels out
    assert distance(NonUniformFourier(shape, k, 1e-12)(x.to(torch.complex64)), exact(x)) < 1e-5
    gap = torch.vdot(y, Ax.to(y.dtype)) - torch.vdot(back.to(y.dtype).flatten(), x.flatten())
    assert abs(gap) <= 1e-6 * float(Ax.norm() * y.norm())


def test_direct_in_several_chunks(monkeypatch):
    from operators.backends import nufft_direct

    A = NonUniformFourier((4, 3, 5), points(50, 3), backend="direct")
    x, y = random(2, 4, 3, 5), random(2, 50)
    whole, back = A(x), A.adjoint(y)
    monkeypatch.setattr(nufft_direct, "_CHUNK", 200)
    torch.testing.assert_close(A(x), whole)
    torch.testing.assert_close(A.adjoint(y), back)


@pytest.mark.parametrize("backend", BACKENDS)
def test_shots_are_only_a_shape(backend):
    k, x = radial(3, 8), random(2, 6, 5)
    A, flat = (NonUniformFourier((2, 6, 5), t, backend=backend) for t in (k, k.flatten(0, 1)))
    assert A.out_shape == (2, 3, 8)
    torch.testing.assert_close(A(x).flatten(1), flat(x))
    torch.testing.assert_close(A.adjoint(A(x)), flat.adjoint(flat(x)))


def test_the_exact_sum_is_differentiable_in_the_trajectory():
    x, k = random(3, 4), points(5, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda k: NonUniformFourier((3, 4), k)(x), k)
    A = NonUniformFourier((3, 4), nn.Parameter(points(5, 2)))
    assert [name for name, _ in A.named_parameters()] == ["trajectory"]
    (grad,) = torch.autograd.grad(A.gram(x).abs().square().sum(), A.trajectory)
    assert float(grad.abs().max()) > 0
    B = NonUniformFourier((3, 4), points(5, 2).requires_grad_(), backend="finufft")
    with pytest.raises(ValueError, match="no gradient of the trajectory"):
        B(x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("frames", [False, True])
def test_coils_are_those_of_their_parts(backend, frames):
    S, k = random(3, 5, 6), points(2, 4, 9, 2) if frames else points(4, 9, 2)
    A = NonUniformSense(k, S, 1e-9, backend, frames=frames)
    x = random(*A.in_shape, seed=3)
    for t in range(2) if frames else [...]:
        parts = NonUniformFourier((3, 5, 6), k[t], 1e-9, backend) @ Coils(S)
        torch.testing.assert_close(A(x)[t], parts(x[t]))
        torch.testing.assert_close(A.adjoint(A(x))[t], parts.adjoint(parts(x[t])))


@pytest.mark.parametrize("backend", BACKENDS)
def test_differentiable_in_the_maps(backend):
    S, x, y = random(2, 3, 4).requires_grad_(), random(3, 4), random(2, 7)
    k = points(7, 2)
    assert torch.autograd.gradcheck(lambda s: NonUniformSense(k, s, 1e-12, backend)(x), S)
    assert torch.autograd.gradcheck(lambda s: NonUniformSense(k, s, 1e-12, backend).adjoint(y), S)
    assert torch.autograd.gradcheck(lambda s: NonUniformSense(k, s, 1e-12, backend).gram(x), S)
    A = NonUniformSense(k, nn.Parameter(random(2, 3, 4)), backend=backend)
    check(A)
    A.gram(x).abs().sum().backward()
    assert float(A.maps.grad.abs().max()) > 0
    assert set(A.state_dict()) == {"maps", "fourier.0.trajectory"}


@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (5, 4, 3)])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-12])
def test_the_normal_operator_is_a_convolution(shape, tolerance):
    from operators.toeplitz import toeplitz

    k, x = points(6, 20, len(shape)), random(2, *shape)
    w = torch.rand(6, 20, generator=generator(), dtype=torch.float64)
    A = NonUniformFourier((2, *shape), k, tolerance)
    exact = NonUniformFourier((2, *shape), k, backend="direct")
    allowed = max(tolerance, 1e-12)
    assert distance(A.gram(x), exact.adjoint(exact(x))) <= allowed
    assert distance(toeplitz(A, w)(x), exact.adjoint(w * exact(x))) <= allowed
    S = random(3, *shape)
    B = NonUniformSense(k, S, tolerance)
    exact = NonUniformSense(k, S, backend="direct")
    assert distance(B.gram(x), exact.adjoint(exact(x))) <= allowed
    assert distance(B.weighted_gram(w)(x), exact.adjoint(w * exact(x))) <= allowed


def test_the_normal_operator_is_made_once_and_follows_the_trajectory():
    A = NonUniformSense(radial(5, 8), random(2, 6, 6))
    x = random(6, 6)
    gram = A.gram
    gram(x)
    assert A.gram is gram and A.calls == {} and A.fourier[0].calls == {}
    assert set(A.state_dict()) == {"maps", "fourier.0.trajectory"}
    assert copy.deepcopy(A).gram is not gram
    B = NonUniformSense(radial(5, 8, "golden"), random(2, 6, 6))
    B.load_state_dict(A.state_dict())
    assert distance(B(x), A(x)) == 0
    B.gram(x)
    with torch.no_grad():
        for F in (A.fourier[0], B.fourier[0]):
            F.trajectory.mul_(0.5)
    fresh = NonUniformSense(radial(5, 8) / 2, random(2, 6, 6))
    for C in (A, B):
        assert distance(C(x), fresh(x)) == 0
        torch.testing.assert_close(C.gram(x), fresh.gram(x))


def test_conjugate_gradients_need_no_transform():
    from recon.solvers import cg, run

    A = NonUniformSense(radial(12, 16), random(4, 8, 8), 1e-12)
    x = random(8, 8, seed=3)
    b = A.adjoint(A(x))
    A.gram(x)
    before = [dict(F.calls) for F in (A, A.fourier[0])]
    found = run(cg(A.gram, b, torch.zeros_like(b)), 60)
    # the corners of k-space are not sampled, four coils still determine them: condition about 1e3
    assert distance(found, x) < 1e-6
    assert [dict(F.calls) for F in (A, A.fourier[0])] == before


def test_frames_have_a_normal_operator_each():
    k = points(2, 9, 2)
    A = NonUniformSense(k, random(2, 3, 4), 1e-12, frames=True)
    w = torch.rand(2, 9, generator=generator(), dtype=torch.float64)
    x = random(2, 3, 4, seed=3)
    torch.testing.assert_close(A.gram(x), A.adjoint(A(x)))
    torch.testing.assert_close(A.weighted_gram(w)(x), A.adjoint(w[:, None] * A(x)))


def test_threads_change_nothing(finufft, monkeypatch):
    from operators.backends import nufft_finufft

    A, x = NonUniformFourier((64, 64), points(130_000, 2), 1e-9), random(3, 64, 64)
    found = []
    for threads in (1, 2, 8):
        monkeypatch.setattr(nufft_finufft, "available", lambda n=threads: n)
        y = A(x)
        found.append((y, A(x[0]), A.adjoint(y), A.adjoint(y[0])))
    for more in found[1:]:
        assert all(distance(a, b) < 1e-13 for a, b in zip(more, found[0], strict=True))


def test_many_threads_at_once(finufft):
    A = NonUniformFourier((32, 32), points(4000, 2), 1e-9)
    x = random(6, 32, 32)
    wanted = A(x)
    found = [None] * 6

    def work(i):
        for _ in range(5):
            found[i] = A(x[i]) if i % 2 else A(x)[i]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert distance(torch.stack(found), wanted) < 1e-14


def _in_child(A, x, queue):
    queue.put(A(x).numpy())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_survives_a_fork(finufft, monkeypatch):
    from operators.backends import nufft_finufft

    monkeypatch.setattr(nufft_finufft, "available", lambda: 2)
    A, x = NonUniformFourier((64, 64), points(200_000, 2), 1e-3), random(64, 64)
    wanted = A(x)  # large enough for FINUFFT's own threads in the parent
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(A, x, queue))
    child.start()
    assert distance(torch.from_numpy(queue.get(timeout=30)), wanted) < 1e-12
    child.join(timeout=30)
    assert child.exitcode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 5), 128 * radial(3, 8) / math.pi), r"largest value is 128; it is cycles per pixel × 2π"),
        (((4, 5), points(9, 4)), r"\(samples, 2\|3\)"),
        (((4, 5), points(9, 2).long()), "floating-point"),
        (((4, 5), points(9, 2).numpy()), "floating-point tensor .* got ndarray"),
        (((4, 5), points(0, 2)), "samples"),
        (((4, 5), points(9, 2) * math.nan), "NaN"),
        (((5,), points(9, 2)), "2 positive sizes"),
        (((4, 5), points(9, 3)), "3 positive sizes"),
        (((4, 5), points(9, 2), 0.0), "tolerance: expected 1e-14"),
        (((4, 5), points(9, 2), 1e-3, "fftw"), "backend: expected one of auto, finufft"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonUniformFourier(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((points(9, 3), random(2, 4, 5)), "expected 2 components"),
        ((points(9, 2), random(2, 4, 5).real), "complex"),
        ((points(9, 2), random(2, 4, 5) * 0), "zero everywhere"),
        ((9 * points(9, 2), random(2, 4, 5)), "cycles per pixel"),
    ],
)
def test_bad_input_to_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonUniformSense(*arguments)
    with pytest.raises(ValueError, match=message):
        NonUniformSense(arguments[0].expand(2, 9, -1), arguments[1], frames=True)


def test_without_finufft_small_sizes_still_work(monkeypatch):
    from operators import nufft

    monkeypatch.setattr(nufft, "_installed", lambda name: name == "direct")
    k, x = points(9, 2), random(4, 5)
    assert distance(NonUniformFourier((4, 5), k)(x), written_out(x, k)) < 1e-14
    with pytest.raises(ImportError, match=r"pip install 'hybrid-recon\[mri\]'"):
        NonUniformFourier((4, 5), k, backend="finufft")(x)
    monkeypatch.setattr(nufft, "DIRECT_LIMIT", 100)
    with pytest.raises(ImportError, match=r"pip install 'hybrid-recon\[mri\]'"):
        NonUniformFourier((4, 5), k)(x)


def test_a_hair_over_pi_is_rounding():
    assert NonUniformFourier((4, 5), radial(3, 8).float() * (1 + 1e-6)).out_shape == (3, 8)


@pytest.mark.cuda
def test_cuda_equals_the_exact_sum():
    pytest.importorskip("cufinufft")
    shape, k = (33, 32), points(3, 500, 2)
    exact = NonUniformFourier(shape, k, backend="direct")
    A = NonUniformFourier(shape, k, 1e-9).cuda()
    for batch in ((), (3,)):
        x, y = random(*batch, *shape), random(*batch, 3, 500)
        assert distance(A(x.cuda()).cpu(), exact(x)) < 1e-8
        assert distance(A.adjoint(y.cuda()).cpu(), exact.adjoint(y)) < 1e-8
    check(A, device="cuda")
