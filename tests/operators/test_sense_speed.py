"""What makes Sense fast keeps its numbers: pieces, folded phases, A*A with fewer transforms, learned maps."""

import copy
import math

import pytest
import torch

from operators import Coils, Fourier, Mask, Sense
from operators.backends import coils
from operators.testing import check


def random(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def points(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.6


def by_parts(mask, S, x):
    """M F S x and its adjoint of it, by the three operators."""
    mask = mask if mask.ndim < S.ndim else mask.unsqueeze(-S.ndim)
    shape = (*x.shape[: x.ndim - S.ndim + 1], *S.shape)
    S = Coils(S, x.shape[: x.ndim - S.ndim + 1])
    A = Mask(mask, shape) @ Fourier(shape, ndim=S.ndim) @ S
    return A(x), A.adjoint(A(x))


CASES = {
    "even": (points(4, 6), (3, 4, 6), ()),
    "odd": (points(5, 7), (3, 5, 7), ()),
    "lines": (points(6), (3, 4, 6), ()),
    "rows": (points(5, 1), (3, 5, 4), ()),
    "weights": (random(4, 5, dtype=torch.float64), (2, 4, 5), ()),
    "constant": (torch.full((1, 1), -0.5, dtype=torch.float64), (3, 4, 5), ()),
    "frames": (points(5, 4, 6), (3, 4, 6), (5,)),
    "frames of lines": (points(5, 1, 3), (3, 4, 3), (5,)),
    "one mask, frames": (points(4, 6), (3, 4, 6), (5,)),
    "readout first": (points(1, 4, 5), (2, 6, 4, 5), ()),
    "volume": (points(3, 4, 2), (2, 3, 4, 2), ()),
}


@pytest.mark.parametrize("cache", [1, 1000, 2**22], ids=["one coil", "several", "whole"])
@pytest.mark.parametrize("case", CASES)
def test_pieces_frames_and_grams(monkeypatch, case, cache):
    """Coil images have 320 to 1920 bytes: one at a time, two or three, all; in memory of torch or numpy."""
    monkeypatch.setattr(coils, "_CACHE", cache)
    monkeypatch.setattr(coils, "_REUSED", 2**25 if cache == 1 else 0)
    mask, shape, frames = CASES[case]
    S, x = random(*shape), random(2, *frames, *shape[1:], seed=2)
    A = Sense(mask, S, shape=(*frames, *shape[1:]))
    for z in (x, x.conj(), x.real):
        for image, found, gram, back in zip(z, A(z), A.gram(z), A.adjoint(A(z)), strict=True):
            y, wanted = by_parts(mask, S, image)
            torch.testing.assert_close(found, y, rtol=1e-12, atol=1e-12)  # rounding of some 30 sums
            torch.testing.assert_close(gram, wanted, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(back, wanted, rtol=1e-12, atol=1e-12)
    y = random(2, *A.out_shape, seed=3)
    torch.testing.assert_close(A.adjoint(y.conj()), A.adjoint(y.conj().resolve_conj()))


@pytest.mark.parametrize(
    "mask", [points(3, 2), points(2, 1, 3), points(1, 3, 2)], ids=["odd", "lines", "3-D"]
)
def test_the_contract_holds_in_pieces(monkeypatch, mask):
    monkeypatch.setattr(coils, "_CACHE", 1)
    A = Sense(mask, random(2, *((2, 3, 2) if len(mask) == 1 else (3, 2) if mask.ndim == 2 else (2, 3))))
    check(A)
    check(A.gram)


@pytest.mark.parametrize(("shape", "ndim"), [((6, 4), 2), ((3, 5, 4), 2), ((3, 4, 5), 3), ((2, 6), 1)])
def test_fourier_in_pieces(monkeypatch, shape, ndim):
    A, x = Fourier(shape, ndim), random(4, *shape)
    whole = A(x), A.adjoint(x)
    monkeypatch.setattr(coils, "_CACHE", 1)
    torch.testing.assert_close((A(x), A.adjoint(x)), whole, rtol=0, atol=1e-15)
    torch.testing.assert_close(A(x.real), A(x.real + 0j))


def test_signs_are_exact():
    p, q = coils.centring((6, 8), torch.device("cpu"))
    assert torch.equal(p.abs(), torch.ones(6, 8).double()) and not p.imag.any() and not q.imag.any()


def test_a_gram_counts_as_both():
    A = Sense(points(4, 6), random(2, 4, 6))
    A.gram(random(4, 6))
    assert A.calls == {"forward": 1, "adjoint": 1}


@pytest.mark.parametrize(
    ("A", "norm"),
    [
        (Sense(random(4, 6, dtype=torch.float64)), None),
        (Sense(torch.full((3, 1, 1), 0.5), random(2, 4, 5)), None),
        (Sense(points(4, 6), torch.full((1, 4, 6), 2j)), 2.0),
    ],
    ids=["one coil", "fully sampled", "power iteration"],
)
def test_norms(A, norm):
    units = torch.eye(math.prod(A.in_shape), dtype=torch.complex128).reshape(-1, *A.in_shape)
    largest = float(torch.linalg.matrix_norm(A(units).flatten(1), 2))
    tolerance = 1e-3 if norm else 1e-7  # of the power iteration; of a closed form from float32 masks
    assert A.norm() == pytest.approx(largest, rel=tolerance)
    assert norm is None or largest == pytest.approx(norm)
    assert A.gram.norm() == pytest.approx(largest**2, rel=2 * tolerance)


def test_a_mask_that_changes_and_maps_that_change():
    """Nothing computed from them outlives them."""
    A, x = Sense(points(4, 5), random(2, 4, 5)), random(4, 5, seed=2)
    before = A(x), A.gram(x)
    with torch.no_grad():
        A.mask.mul_(3)
        A.maps.mul_(2)
    torch.testing.assert_close((A(x), A.gram(x)), (6 * before[0], 36 * before[1]))
    A.load_state_dict({"mask": A.mask / 3, "maps": A.maps / 2})
    torch.testing.assert_close((A(x), A.gram(x)), before)
    A.mask = A.mask * 0 + 1
    torch.testing.assert_close(A.gram(x), A.maps.abs().square().sum(0) * x)


def test_copies_leave_what_was_kept_behind():
    A, x = Sense(points(4, 5), random(2, 4, 5)), random(4, 5)
    y = A(x)
    same = copy.deepcopy(A)
    assert A._kept and not same._kept
    assert torch.equal(same(x), y) and same.state_dict().keys() == {"mask", "maps"}


def test_single_precision_maps_of_a_double_image():
    S = random(2, 5, 4)
    A, x = Sense(points(5, 4), S.to(torch.complex64)), random(5, 4)
    wanted = Sense(points(5, 4), A.maps.to(torch.complex128))(x)
    torch.testing.assert_close(A(x), wanted, rtol=1e-13, atol=1e-13)
    assert A(x.to(torch.complex64)).dtype == A(x.real.float()).dtype == torch.complex64


@pytest.mark.parametrize("spatial", [(3, 4), (2, 2, 3)])
def test_derivatives_in_maps_mask_and_image(spatial):
    S, x, mask = random(2, *spatial), random(*spatial, seed=2), points(*spatial).double()
    S, x, mask, y = S.requires_grad_(), x.requires_grad_(), mask.requires_grad_(), random(2, *spatial, seed=3)

    def apply(S, x, mask):
        A = Sense(mask, S)
        return A(x), A.gram(x), A.adjoint(y)

    assert torch.autograd.gradcheck(apply, (S, x, mask))
    assert torch.autograd.gradgradcheck(apply, (S, x, mask), fast_mode=True)


def test_derivatives_in_the_image_alone():
    A = Sense(points(5, 4), random(2, 5, 4))
    x = random(5, 4).requires_grad_()
    y = random(2, 5, 4).requires_grad_()
    for B, z in ((A, x), (A.gram, x), (A.H, y)):
        assert torch.autograd.gradcheck(B, z) and torch.autograd.gradgradcheck(B, z, fast_mode=True)


def test_learned_maps():
    """A parameter: by autograd while it learns, the fast way without grad; both give the same."""
    S, x = torch.nn.Parameter(random(2, 5, 4)), random(3, 5, 4)
    A, frozen = Sense(points(5, 4), S), Sense(points(5, 4), S.detach())
    torch.testing.assert_close(A(x), frozen(x))
    with torch.no_grad():
        assert torch.equal(A(x), frozen(x)) and not A(x).requires_grad
    (grad,) = torch.autograd.grad(A.gram(x).abs().square().sum(), S)
    assert float(grad.abs().max()) > 0


def test_transforms_of_the_maps():
    """vmap and forward mode over maps that torch.func puts in."""
    A, x, t = Sense(points(5, 4), random(2, 5, 4)), random(5, 4), random(2, 5, 4, seed=4)
    many = random(3, 2, 5, 4, seed=3)

    def by(apply, s):
        return torch.func.functional_call(apply, {"maps": s} if apply is A else {"A.maps": s}, (x,))

    for apply, of in (
        (A, lambda s: Sense(points(5, 4), s)(x)),
        (A.gram, lambda s: Sense(points(5, 4), s).gram(x)),
    ):
        found = torch.func.vmap(lambda s, apply=apply: by(apply, s))(many)
        torch.testing.assert_close(found, torch.stack([of(s) for s in many]))
        value, moved = torch.func.jvp(lambda s, apply=apply: by(apply, s), (many[0],), (t,))
        torch.testing.assert_close(value, of(many[0]))
        step = 1e-6  # central differences: rounding over the step
        torch.testing.assert_close(
            moved, (of(many[0] + step * t) - of(many[0] - step * t)) / (2 * step), rtol=0, atol=1e-8
        )


def test_no_image_is_changed_by_another():
    A = Sense(points(3, 1, 6), random(4, 4, 6))
    x = random(5, 3, 4, 6)
    for apply, z in ((A, x), (A.gram, x), (A.adjoint, random(5, 3, 4, 4, 6))):
        before, whole = z.clone(), apply(z)
        assert torch.equal(z, before)
        for one, alone in zip(whole, z, strict=True):
            torch.testing.assert_close(one, apply(alone), rtol=1e-14, atol=1e-14)


@pytest.mark.cuda
@pytest.mark.parametrize("A", Sense.examples(), ids=repr)
def test_on_a_gpu(A):
    A = copy.deepcopy(A).cuda()
    check(A, device="cuda")
    check(A.gram, device="cuda")
