"""Time segmentation against the sum written out."""

import math

import pytest
import torch

from operators import NonUniformFourier, NonUniformSense, OffResonance, Sense, radial
from operators.off_resonance import off_resonance_sum
from operators.testing import check


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def field(*shape, hertz=100.0):
    """±100 Hz, smooth, of both signs."""
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape)
    return 2 * math.pi * hertz * (y[:, None] + 0.5 * x**2 - 0.3)


SHAPE, K, TIMES = (12, 11), radial(6, 24), torch.linspace(0, 0.02, 24, dtype=torch.float64)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6, 1e-9])
def test_as_accurate_as_asked_for(tolerance):
    A = NonUniformFourier(SHAPE, K, 1e-12, "direct")
    B = OffResonance(A, field(*SHAPE), TIMES, tolerance=tolerance)
    x = random(*SHAPE)
    exact = off_resonance_sum(x, K, field(*SHAPE), TIMES)
    assert B.error <= tolerance
    assert float((B(x) - exact).norm() / exact.norm()) <= tolerance
    # the worst pixel too: a bound on every phase is a bound on the 1-norm
    bound = B.error * float(x.abs().sum()) / math.sqrt(x.numel())
    assert float((B(x) - exact).abs().max()) <= bound + 1e-12


@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
def test_the_adjoint_is_exact(tolerance):
    A = NonUniformFourier((6, 5), K[:3], 1e-3, "direct")
    B = OffResonance(A, field(6, 5), TIMES, tolerance=tolerance)
    # weights of some hundred for 1e-9 amplify the rounding of single precision
    check(B, dtypes=(torch.float32, torch.float64) if tolerance > 1e-4 else (torch.float64,))


def test_more_segments_are_better_and_the_number_is_the_smallest():
    A = NonUniformFourier(SHAPE, K, backend="direct")
    # below Nyquist's number, five, it is 1
    errors = {n: OffResonance(A, field(*SHAPE), TIMES, segments=n).error for n in range(6, 14)}
    assert all(errors[n + 1] < errors[n] for n in range(6, 13))
    chosen = OffResonance(A, field(*SHAPE), TIMES, tolerance=1e-3).segments
    assert errors[chosen] <= 1e-3 < errors[chosen - 1]


def test_no_field_is_no_change_and_a_constant_one_a_phase():
    A, x = NonUniformFourier(SHAPE, K, backend="direct"), random(*SHAPE)
    still = OffResonance(A, torch.zeros(SHAPE), TIMES)
    assert still.segments == 1
    torch.testing.assert_close(still(x), A(x))
    turning = OffResonance(A, torch.full(SHAPE, 70.0), TIMES)
    assert turning.segments == 1
    torch.testing.assert_close(turning(x), A(x) * torch.exp(-70j * TIMES))


def test_many_different_times():
    k = radial(50, 100).flatten(0, 1)
    times = torch.linspace(0, 0.01, len(k), dtype=torch.float64)
    B = OffResonance(NonUniformFourier((5, 6), k, 1e-9, "direct"), field(5, 6), times, tolerance=1e-6)
    exact = off_resonance_sum(random(5, 6), k, field(5, 6), times)
    assert float((B(random(5, 6)) - exact).norm() / exact.norm()) <= 1e-6


def test_with_coils_and_on_the_cartesian_grid():
    S, x = random(3, 6, 8), random(6, 8, seed=1)
    k, times = radial(4, 10), torch.linspace(0, 0.01, 10, dtype=torch.float64)
    B = OffResonance(NonUniformSense(k, S, 1e-12, "direct"), field(6, 8), times, tolerance=1e-8)
    for c in range(3):
        exact = off_resonance_sum(S[c] * x, k, field(6, 8), times)
        assert float((B(x)[c] - exact).norm() / exact.norm()) < 1e-8
    # a readout along x: a constant field with times linear in kx only shifts the image, by whole pixels here
    omega, step = 2 * math.pi / 8 / 1e-3, 1e-3
    line = step * torch.arange(8, dtype=torch.float64)
    A = Sense(torch.ones(6, 8), torch.ones(1, 6, 8) + 0j)
    shifted = A.adjoint(OffResonance(A, torch.full((6, 8), omega), line)(x))
    torch.testing.assert_close(shifted.abs(), x.roll(1, 1).abs())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((field(3, 4), TIMES), "spatial shape"),
        ((field(*SHAPE), TIMES[:4]), "broadcasts to the data"),
        ((field(*SHAPE) * math.nan, TIMES), "finite"),
        ((field(*SHAPE), TIMES * 1j), "real, finite"),
        ((field(*SHAPE), 1e3 * TIMES), "in rad/s and are the times in s"),
        ((field(*SHAPE), TIMES, 0), "segments"),
        ((field(*SHAPE), TIMES, None, 0.0), "tolerance"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        OffResonance(NonUniformFourier(SHAPE, K), *arguments)
