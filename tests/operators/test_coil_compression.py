"""Coil compression keeps the energy of its singular values and leaves noise white."""

import pytest
import torch

from operators import birdcage, compress_coils, compress_coils_along, mix_coils
from operators.coils import to_images, to_kspace

DOUBLE = torch.complex128


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def scan(coils=8, shape=(24, 20)):
    x = random(*shape, seed=3)
    return to_kspace(birdcage(coils, shape, dtype=DOUBLE) * x, (-2, -1))


@pytest.mark.parametrize("coils", [1, 3, 5])
def test_keeps_the_energy_of_the_largest_singular_values(coils):
    y = random(5, 6, 7) * torch.tensor([5.0, 3, 1, 0.5, 0.1])[:, None, None]
    squares = torch.linalg.svdvals(y.flatten(1)).square()
    done = compress_coils(y, coils)
    wanted = squares[:coils].sum() / squares.sum()
    torch.testing.assert_close(done.energy, wanted)
    torch.testing.assert_close(done.kspace.abs().square().sum() / y.abs().square().sum(), wanted)
    torch.testing.assert_close(done.matrix @ done.matrix.mH, torch.eye(coils, dtype=DOUBLE))


def test_by_energy_takes_the_fewest_coils_that_suffice():
    y = scan()
    squares = torch.linalg.svdvals(y.flatten(1)).square()
    kept = squares.cumsum(0) / squares.sum()
    for energy in (0.5, 0.9, 0.99):
        done = compress_coils(y, energy=energy)
        n = len(done.kspace)
        assert kept[n - 1] >= energy
        assert n == 1 or kept[n - 2] < energy
    assert len(compress_coils(y, energy=1.0).kspace) == 8


def test_of_data_of_few_coils_nothing_is_lost():
    few = random(2, 6, 5)
    y = mix_coils(random(7, 2, seed=1), few)
    done = compress_coils(y, 2)
    assert float(done.energy) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(mix_coils(done.matrix.mH, done.kspace), y)


def test_data_maps_and_noise_take_the_same_matrix():
    """y = A x stays true: compressed k-space is that of the compressed maps."""
    S, x = birdcage(8, (12, 11), dtype=DOUBLE), random(12, 11)
    done = compress_coils(to_kspace(S * x, (-2, -1)), 4)
    torch.testing.assert_close(to_kspace(mix_coils(done.matrix, S) * x, (-2, -1)), done.kspace)
    along = compress_coils_along(to_kspace(S * x, (-2, -1)), 4)
    torch.testing.assert_close(to_kspace(mix_coils(along.matrix, S, axis=-2) * x, (-2, -1)), along.kspace)


def test_every_image_alone_or_one_matrix_for_all():
    y = torch.stack([scan(), random(8, 24, 20)])
    done = compress_coils(y, 3)
    for k in range(2):
        torch.testing.assert_close(done.energy[k], compress_coils(y[k], 3).energy)
        torch.testing.assert_close(done.kspace[k], compress_coils(y[k], 3).kspace)
    shared = compress_coils(y, 3, shared=True)
    assert shared.matrix.shape == (2, 3, 8)
    assert torch.equal(shared.matrix[0], shared.matrix[1])
    squares = torch.linalg.svdvals(y.movedim(1, 0).flatten(1)).square()
    torch.testing.assert_close(shared.energy[0], squares[:3].sum() / squares.sum())
    assert compress_coils(y.to(torch.complex64), 3).kspace.dtype == torch.complex64


@pytest.mark.parametrize("axis", [-1, -2])
def test_geometric_compression_is_unitary_smooth_and_keeps_more(axis):
    y = scan(shape=(24, 21))
    done = compress_coils_along(y, 3, axis=axis)
    n = y.shape[axis]
    assert done.matrix.shape == (n, 3, 8)
    torch.testing.assert_close(done.matrix @ done.matrix.mH, torch.eye(3, dtype=DOUBLE).expand(n, 3, 3))
    torch.testing.assert_close(done.kspace.abs().square().sum() / y.abs().square().sum(), done.energy)
    assert float(done.energy) > float(compress_coils(y, 3).energy)
    # aligned to its neighbour no unitary turn brings a row nearer: U(x) U(x')* is positive semidefinite
    for x in range(n - 1):
        product = done.matrix[x] @ done.matrix[x + 1].mH
        torch.testing.assert_close(product, product.mH, atol=1e-10, rtol=0)
        assert float(torch.linalg.eigvalsh(product).min()) > 0


def test_geometric_compression_with_a_window_of_one_is_an_svd_at_every_position():
    y = random(2, 5, 6, 7)
    done = compress_coils_along(y, 2, axis=-1, window=1)
    lines = to_images(y, (-1,)).movedim(-1, 1)  # (batch, positions, coils, ky)
    squares = torch.linalg.svdvals(lines).square()
    torch.testing.assert_close(done.energy, squares[..., :2].sum((1, 2)) / squares.sum((1, 2)))


def test_of_volumes_with_a_batch():
    y = random(2, 4, 3, 5, 6)
    done = compress_coils_along(y, 2, axis=-3, ndim=3)
    assert done.kspace.shape == (2, 2, 3, 5, 6)
    assert done.matrix.shape == (2, 3, 2, 4)
    torch.testing.assert_close(
        compress_coils(y, 4, ndim=3).kspace.abs().square().sum(1), y.abs().square().sum(1)
    )


def test_mixing_is_a_matrix_product_at_every_point():
    M, y = random(2, 3), random(4, 3, 5, 6, seed=1)
    torch.testing.assert_close(mix_coils(M, y), torch.einsum("vc,bcyx->bvyx", M, y))
    along = random(5, 2, 3)
    torch.testing.assert_close(mix_coils(along, y, axis=-2), torch.einsum("yvc,bcyx->bvyx", along, y))
    torch.testing.assert_close(mix_coils(M, y[0].flatten(1), ndim=1), (M @ y[0].flatten(1)))


Y = random(3, 6, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compress_coils(Y), "exactly one"),
        (lambda: compress_coils(Y, 2, 0.5), "exactly one"),
        (lambda: compress_coils(Y, 4), "1 to 3"),
        (lambda: compress_coils(Y, energy=1.5), "fraction"),
        (lambda: compress_coils(torch.stack([Y, Y]), energy=0.9), "shared=True"),
        (lambda: compress_coils(Y.real, 2), "complex"),
        (lambda: compress_coils(Y * 0, 2), "zero everywhere"),
        (lambda: compress_coils(Y * torch.nan, 2), "NaN"),
        (lambda: compress_coils_along(Y, 2, axis=-3), "axis"),
        (lambda: compress_coils_along(Y, 2, window=4), "odd"),
        (lambda: compress_coils_along(Y, 4), "1 to 3"),
        (lambda: mix_coils(random(2, 4), Y), "new, coils"),
        (lambda: mix_coils(random(6, 2, 3), Y, axis=-1), "positions, new, coils"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
