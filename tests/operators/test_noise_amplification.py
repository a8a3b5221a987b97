"""The g-factor in closed form is that of the matrix written down."""

import pytest
import torch

from operators import Sense, birdcage, g_factor

DOUBLE = torch.complex128


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def dense(A):
    """(diag((A*A)⁻¹) Σ|S|²/R)^½ from A as a matrix, pixels that no coil sees left out."""
    n = A.maps[0].numel()
    matrix = A(torch.eye(n, dtype=DOUBLE).reshape(n, *A.in_shape)).reshape(n, -1).T
    power = A.maps.abs().square().sum(0).flatten()
    seen = power > 0
    inverse = torch.linalg.inv(matrix[:, seen].mH @ matrix[:, seen]).diagonal().real
    g = torch.zeros(n, dtype=torch.float64)
    g[seen] = (inverse * power[seen] / A.acceleration).sqrt()
    return g.reshape(A.in_shape)


def mask(shape, *pattern):
    m = torch.zeros(shape, dtype=torch.bool)
    for index in pattern:
        m[index] = True
    return m


EVERY = slice(None)
CASES = {
    "lines, R=2": mask((6, 8), (EVERY, slice(1, None, 2))),
    "lines, R=3": mask((5, 9), (EVERY, slice(2, None, 3))),
    "R not a divisor": mask((4, 8), (EVERY, slice(0, None, 3))),
    "lines and a centre": mask((4, 9), (EVERY, slice(0, None, 3)), (EVERY, slice(3, 6))),
    "along ky": mask((6, 5), (slice(1, None, 2), EVERY)),
    "2 x 2": mask((6, 8), (slice(0, None, 2), slice(1, None, 2))),
    "shifted 2 x 2": mask(
        (8, 6), (slice(0, None, 2), slice(0, None, 2)), (slice(1, None, 2), slice(1, None, 2))
    ),
    "a volume": mask((4, 3, 4), (slice(0, None, 2), EVERY, slice(1, None, 2))),
    "weights": torch.tensor([0.0, 2.0, 0.0, 0.5, 0.0, 1.0, 0.0, 1.0]).expand(5, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_matrix_written_down(case):
    A = Sense(CASES[case], random(6, *CASES[case].shape))
    # the inverse of a matrix of condition about 100
    torch.testing.assert_close(g_factor(A), dense(A), rtol=1e-8, atol=1e-10)


def test_pixels_that_no_coil_sees_are_zero_and_help_the_others():
    S = random(3, 6, 8)
    whole = g_factor(Sense(CASES["lines, R=2"], S))
    S[:, :, :3] = 0
    A = Sense(CASES["lines, R=2"], S)
    g = g_factor(A)
    torch.testing.assert_close(g, dense(A))
    assert not (g[:, :3] != 0).any()
    # 4 and 5, 6 of the other half have lost their aliases
    torch.testing.assert_close(g[:, 4:7], torch.ones(6, 3, dtype=torch.float64))
    torch.testing.assert_close(g[:, 7], whole[:, 7])


def test_fully_sampled_is_one_and_blocks_change_nothing(monkeypatch):
    S = birdcage(8, (12, 10))
    g = g_factor(Sense(torch.ones(10), S))
    torch.testing.assert_close(g, torch.ones(12, 10))
    A = Sense(CASES["lines, R=2"], random(4, 6, 8))
    wanted = g_factor(A)
    monkeypatch.setattr("operators.noise_amplification._BLOCK", 8)
    torch.testing.assert_close(g_factor(A), wanted)


def test_grows_with_the_acceleration_and_is_at_least_one():
    S = birdcage(8, (24, 24), dtype=DOUBLE)
    means = []
    for R in (1, 2, 3, 4):
        g = g_factor(Sense(mask((24, 24), (EVERY, slice(0, None, R))), S))
        assert float(g.min()) > 1 - 1e-9
        means.append(float(g.mean()))
    assert means == sorted(means)


def test_aliases_that_look_alike_are_infinite():
    assert bool(torch.isinf(g_factor(Sense(CASES["lines, R=2"], torch.ones(3, 6, 8) + 0j))).all())


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (Sense(torch.ones(4, 4)), "Sense with maps"),
        (Sense(torch.ones(2, 1, 4), random(2, 4, 4)), "frames"),
        (
            Sense(torch.rand(40, 40, generator=torch.Generator().manual_seed(0)) < 0.5, random(2, 40, 40)),
            "1600",
        ),
    ],
)
def test_bad_input(A, message):
    with pytest.raises(ValueError, match=message):
        g_factor(A)
