"""SENSE: the fused operator equals its parts."""

import pytest
import torch

from operators import Coils, Fourier, Mask, Sense

MASK_ROWS = torch.tensor([1, 0, 1, 1, 0, 1, 0]) > 0


def maps(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)


@pytest.mark.parametrize("spatial", [(4, 6), (5, 7), (6, 5), (2, 3, 4), (3, 5, 5)])
def test_equals_its_parts(spatial):
    S = maps(3, *spatial)
    mask = torch.rand(spatial, generator=torch.Generator().manual_seed(1)) < 0.5
    A = Sense(mask, S)
    parts = Mask(mask, S.shape) @ Fourier(tuple(S.shape), ndim=len(spatial)) @ Coils(S)
    x, y = maps(2, *spatial), maps(2, *S.shape)
    torch.testing.assert_close(A(x), parts(x))
    torch.testing.assert_close(A.adjoint(y), parts.adjoint(y))
    torch.testing.assert_close(A.gram(x), parts.adjoint(parts(x)))


def test_frames_are_sampled_one_by_one():
    S, x = maps(2, 4, 5), maps(3, 4, 5)
    mask = torch.rand(3, 1, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    y = Sense(mask, S)(x)
    assert y.shape == (3, 2, 4, 5)
    for t in range(3):
        torch.testing.assert_close(y[t], Sense(mask[t], S)(x[t]))


def test_one_coil_of_sensitivity_one_is_no_coil():
    x = maps(4, 7)
    torch.testing.assert_close(
        Sense(MASK_ROWS, shape=(4, 7))(x), Sense(MASK_ROWS, torch.ones(1, 4, 7) + 0j)(x)[0]
    )
    assert Sense(MASK_ROWS, shape=(4, 7)).acceleration == pytest.approx(7 / 4)


def test_differentiable_in_the_maps():
    S, x = maps(2, 3, 4).requires_grad_(), maps(3, 4)
    mask = torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    assert torch.autograd.gradcheck(lambda s: Sense(mask, s)(x), S)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(4, 5), None), "samples nothing"),
        ((torch.ones(4, 6), maps(2, 4, 5)), "broadcasts to"),
        ((torch.ones(4, 5) * 1j, None), "real or bool"),
        ((torch.ones(4, 5), maps(2, 4, 5).real), "complex"),
        ((torch.ones(4, 5), maps(2, 4, 5) * 0), "zero everywhere"),
        ((torch.ones(4, 5), maps(2, 4, 5) * torch.nan), "NaN"),
        ((torch.ones(5), maps(4, 5)), "coils, ny, nx"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sense(*arguments)
