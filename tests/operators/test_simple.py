import math

import pytest
import torch

from operators import Identity, Mask, Select


def test_identity_is_a_copy():
    x = torch.rand(3, 4)
    y = Identity((3, 4))(x)
    assert torch.equal(x, y) and y.data_ptr() != x.data_ptr()


def test_mask_acts_on_the_trailing_dimensions():
    mask = torch.tensor([[True, False, True]])
    k = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    A = Mask(mask, shape=(4, 5, 3))
    assert torch.equal(A(k), k * mask) and A(k).dtype == torch.complex64
    assert A.norm() == 1
    assert A(k.to(torch.complex128)).dtype == torch.complex128
    assert Mask(-3 * mask.float()).norm() == 3


def test_a_float64_mask_leaves_float32_images_in_float32():
    assert Mask(torch.rand(3, 4).double())(torch.rand(3, 4)).dtype == torch.float32


@pytest.mark.parametrize(
    ("mask", "shape", "words"),
    [
        (torch.ones(3, 4), (4, 3), r"broadcasts to \(4, 3\), got \(3, 4\)"),
        (torch.ones(2, 3, 4), (3, 4), r"broadcasts to \(3, 4\), got \(2, 3, 4\)"),
        (torch.ones(3, 4), (1, 4), "broadcasts"),
        (torch.ones(3, 4) + 0j, None, "expected real or bool values, got torch.complex64"),
        (torch.tensor([1.0, math.nan]), None, "expected finite values"),
        (torch.ones(0), None, "none at all"),
    ],
)
def test_masks_that_are_refused(mask, shape, words):
    with pytest.raises(ValueError, match=f"Mask mask: .*{words}"):
        Mask(mask, shape)


def test_select_takes_entries_in_the_order_asked():
    x = torch.arange(24.0).reshape(2, 3, 4)
    A = Select(torch.tensor([5, 0, 7]), (3, 4))
    assert A(x).tolist() == [[5, 0, 7], [17, 12, 19]]
    assert torch.equal(A.gram(x), x * Select(torch.tensor([5, 0, 7]), (3, 4)).adjoint(torch.ones(3)))
    assert Select(x[0] % 2 == 0, (3, 4))(x).shape == (2, 6)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (torch.tensor([0, 12]), "each from 0 to 11"),
        (torch.tensor([], dtype=torch.long), "at least one"),
        (torch.tensor([3, 3]), "some twice"),
        (torch.tensor([0.0]), "got torch.float32"),
        (torch.ones(4, 3) > 0, r"bool \(3, 4\), got torch.bool \(4, 3\)"),
    ],
)
def test_selections_that_are_refused(index, words):
    with pytest.raises(ValueError, match=f"Select index: .*{words}"):
        Select(index, (3, 4))
