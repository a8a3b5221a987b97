"""Locally low rank against singular value decompositions, block by block."""

import math

import pytest
import torch

from priors import LocallyLowRank

G = torch.Generator().manual_seed(0)


def by_svd(x, sides, shift, threshold):
    """Σ of singular values, and the prox, over a grid of blocks that is cut off at the edges."""
    value, z = 0.0, torch.zeros_like(x)
    starts = [[0, *range(s % b, n, b)] if s % b else list(range(0, n, b)) for s, b, n in
              zip(shift, sides, x.shape[1:], strict=True)]  # fmt: skip
    spans = [list(zip(s, [*s[1:], n], strict=True)) for s, n in zip(starts, x.shape[1:], strict=True)]
    grid = [()]
    for axis in spans:
        grid = [(*g, slice(*span)) for g in grid for span in axis]
    for block in grid:
        part = x[(slice(None), *block)]
        U, s, V = torch.linalg.svd(part.flatten(1), full_matrices=False)
        value = value + s.sum()
        z[(slice(None), *block)] = ((U * (s - threshold).clamp(min=0)) @ V).reshape(part.shape)
    return value, z


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(
    ("shape", "block", "shift"),
    [
        ((5, 12, 8), (4, 4), (0, 0)),
        ((3, 13, 7), (4, 3), (1, 2)),
        ((30, 6, 6), (3, 3), (2, 5)),  # more frames than pixels
        ((4, 5, 6), (8, 8), (0, 0)),  # a block larger than the image
        ((4, 5, 6), (8, 8), (3, 2)),
        ((3, 4, 5, 6), (2, 2, 4), (1, 0, 3)),
    ],
)
def test_value_and_prox_are_those_of_the_blocks(shape, block, shift, dtype):
    x = torch.randn(shape, generator=G, dtype=dtype)
    f = LocallyLowRank(shape, block, weight=1.5, shift=shift)
    value, z = by_svd(x, block, shift, 1.5 * 0.8)
    assert float(f(x)) == pytest.approx(1.5 * float(value), rel=1e-13)
    torch.testing.assert_close(f.prox(x, 0.8), z, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 2e-6), (torch.complex128, 1e-9)])
def test_prox_of_nearly_low_rank_blocks(dtype, tolerance):
    """Singular values over eight decades, thresholds among them: a Gram matrix must not lose the small."""
    U = torch.linalg.qr(torch.randn(10, 10, generator=G, dtype=torch.complex128))[0]
    V = torch.linalg.qr(torch.randn(64, 10, generator=G, dtype=torch.complex128))[0]
    s = torch.logspace(0, -8, 10, dtype=torch.float64)
    x = ((U * s) @ V.mH).reshape(10, 8, 8)
    f = LocallyLowRank((10, 8, 8), 8)
    for threshold in (1e-1, 1e-3, 1e-5, 1e-7):
        _, exact = by_svd(x, (8, 8), (0, 0), threshold)
        error = (f.prox(x.to(dtype), threshold).to(torch.complex128) - exact).abs().max()
        assert float(error) <= tolerance * float(x.abs().max()), threshold


def test_one_block_for_everything_is_the_nuclear_norm():
    x = torch.randn(2, 6, 5, 4, generator=G, dtype=torch.complex128)
    f = LocallyLowRank((6, 5, 4), None)
    expected = torch.linalg.matrix_norm(x.flatten(2), "nuc")
    torch.testing.assert_close(f(x), expected)


def test_series_of_low_rank_costs_less_than_one_of_the_same_energy():
    still = torch.randn(1, 8, 8, generator=G, dtype=torch.complex128).expand(6, 8, 8)
    moving = torch.randn(6, 8, 8, generator=G, dtype=torch.complex128)
    moving = moving * (still.abs().square().sum() / moving.abs().square().sum()).sqrt()
    f = LocallyLowRank((6, 8, 8), 4)
    assert float(f(still)) < 0.6 * float(f(moving))
    torch.testing.assert_close(f.prox(still, 0.5)[0], f.prox(still, 0.5)[3])  # stays still


def test_strong_thresholds_leave_nothing_and_zero_stays_zero():
    f = LocallyLowRank((3, 6, 6), 4, shift=1)
    x = torch.randn(3, 6, 6, generator=G)
    assert not f.prox(x, 1e3).any() and not f.prox(0 * x, 0.1).any()


def test_multiples_keep_the_blocks():
    f = 2 * LocallyLowRank((3, 6, 6), (4, 2), 1.5, (1, 0))
    assert isinstance(f, LocallyLowRank) and f.weight == 3.0
    assert repr(f) == "LocallyLowRank((3, 6, 6), block=(4, 2), weight=3.0, shift=(1, 0))"


def test_arguments_are_checked():
    for call, text in (
        (lambda: LocallyLowRank((6, 6)), "shape: expected"),
        (lambda: LocallyLowRank((3, 6, 6), 0), "block: expected 2 numbers ≥ 1"),
        (lambda: LocallyLowRank((3, 6, 6), (2, 2, 2)), "block: expected 2 numbers"),
        (lambda: LocallyLowRank((3, 6, 6), shift=-1), "shift: expected 2 numbers ≥ 0"),
        (lambda: LocallyLowRank((3, 6, 6), None, shift=1), "shift: expected 0"),
        (lambda: LocallyLowRank((3, 6, 6), weight=0.0), "weight: expected a positive"),
        (lambda: LocallyLowRank((3, 6, 6), weight=math.nan), "weight: expected a positive"),
        (lambda: LocallyLowRank((3, 6, 6))(torch.zeros(3, 6, 7)), "expects shape"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(NotImplementedError, match="use its prox"):
        LocallyLowRank((3, 6, 6)).grad(torch.zeros(3, 6, 6))
