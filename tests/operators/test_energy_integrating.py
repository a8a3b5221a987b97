"""The compound-Poisson detector: exact moments Σ g λ and Σ g² λ, and draws within three standard errors."""

import copy
import dataclasses
import math
import pickle

import pytest
import torch

from operators import Beam, EnergyIntegrating, LowDose, ParallelBeam, XRay
from recon import Problem
from recon.data import simulate
from recon.fidelity import weighted

BEAM = Beam(
    energies=(35.0, 50.0, 70.0, 100.0),
    quanta=(0.1, 0.3, 0.4, 0.2),
    gain=(35.0, 50.0, 70.0, 100.0),
    mu=((0.03, 0.0227, 0.0193, 0.0171), (0.17, 0.081, 0.05, 0.0356)),
    mu_reference=(0.0205, 0.06),
    reference=61.0,
    materials=("water", "bone"),
)
Q, G = (torch.tensor(v, dtype=torch.float64) for v in (BEAM.quanta, BEAM.gain))
MU = torch.tensor(BEAM.mu, dtype=torch.float64)


def moments(paths, i0):
    """Mean and variance of Σ g_k N_k / ε, written out."""
    photons = i0 * Q * (-torch.einsum("mk,m...->...k", MU, paths)).exp()
    unit = (Q * G**2).sum() / (Q * G).sum()
    return (G / unit * photons).sum(-1), ((G / unit) ** 2 * photons).sum(-1)


def test_the_open_beam_has_the_variance_of_its_mean():
    noise = EnergyIntegrating(BEAM, 1000.0)
    mean, variance = moments(torch.zeros(2, 1, dtype=torch.float64), 1000.0)
    assert noise.blank == pytest.approx(float(mean)) == pytest.approx(float(variance))
    zero = torch.zeros(1, 1, dtype=torch.float64)
    torch.testing.assert_close(noise.expected(zero), mean[None])
    torch.testing.assert_close(noise.signal_variance(zero), variance[None])
    # N_eff = (Σ E λ)² / Σ E² λ
    assert noise.blank == pytest.approx(1000 * float((Q * G).sum() ** 2 / (Q * G**2).sum()))


@pytest.mark.parametrize("correct", [True, False])
def test_expected_and_variance_are_the_sums(correct):
    L = torch.linspace(0, 300, 12, dtype=torch.float64)[None]
    noise = EnergyIntegrating(BEAM, 5e4, electronic_sigma=3.0, background=20.0, correct=correct)
    clean = 0.0205 * L if correct else BEAM.log_signal(BEAM.alone(L))
    mean, variance = moments(BEAM.alone(L), 5e4)
    torch.testing.assert_close(noise.expected(clean), mean + 20)
    torch.testing.assert_close(noise.signal_variance(clean), variance + 20 + 9)
    torch.testing.assert_close(noise.linearise(noise.expected(clean)), clean, rtol=1e-9, atol=1e-10)
    assert bool((variance / mean).diff().gt(0).all())  # hardened: fewer, larger quanta


def test_draws_behind_water_have_these_moments():
    """Three standard errors of a mean, σ/√n, and of a variance, σ² √(2/n) for what is near to normal."""
    n, clean = 40_000, torch.tensor([[0.0, 1.0, 4.0, 7.0]], dtype=torch.float64)
    noise = EnergyIntegrating(BEAM, 2e4, electronic_sigma=2.0, background=5.0)
    y = noise(clean.expand(n, 4).contiguous(), seed=3)
    mean, variance = noise.expected(clean)[0], noise.signal_variance(clean)[0]
    assert bool(((y.mean(0) - mean).abs() < 3 * (variance / n).sqrt()).all())
    kurtosis = 1 / variance  # excess, at most about that of Poisson counts
    assert bool(((y.var(0) / variance - 1).abs() < 3 * ((2 + kurtosis) / n).sqrt()).all())


def test_exposure_behind_two_materials():
    n = 40_000
    paths = torch.tensor([[0.0, 50.0, 150.0], [0.0, 20.0, 10.0]], dtype=torch.float64)
    noise = EnergyIntegrating(BEAM, 1e4)
    y = noise.expose(paths[:, None].expand(2, n, 3), seed=5)
    mean, variance = moments(paths, 1e4)
    assert bool(((y.mean(0) - mean).abs() < 3 * (variance / n).sqrt()).all())
    assert bool(((y.var(0) / variance - 1).abs() < 3 * ((2 + 3 / variance) / n).sqrt()).all())


def test_one_energy_is_low_dose():
    one = Beam((60.0,), (1.0,), (60.0,), ((0.02,),), (0.02,), 60.0, ("water",))
    ours, theirs = EnergyIntegrating(one, 900.0, 2.0, 3.0), LowDose(900.0, 2.0, 3.0)
    clean = torch.linspace(0, 4, 9, dtype=torch.float64)[None]
    y = theirs.expected(clean)
    torch.testing.assert_close(ours.expected(clean), y)
    torch.testing.assert_close(ours.linearise(y), theirs.linearise(y))
    torch.testing.assert_close(ours.variance(y), theirs.variance(y))
    torch.testing.assert_close(ours.average(clean), theirs.average(clean))
    assert ours.blank == 900


@pytest.mark.parametrize("correct", [True, False])
def test_variance_of_the_linearised_data(correct):
    """First order is right at thousands of quanta: 1 % is its own next term and the sampling error."""
    n, L = 30_000, torch.tensor([[0.0, 60.0, 150.0]], dtype=torch.float64)
    noise = EnergyIntegrating(BEAM, 1e5, electronic_sigma=10.0, background=100.0, correct=correct)
    clean = 0.0205 * L if correct else BEAM.log_signal(BEAM.alone(L))
    drawn = noise.linearise(noise(clean.expand(n, 3).contiguous(), seed=1))
    wanted = noise.variance(noise.expected(clean))[0]
    assert bool(((drawn.var(0) / wanted - 1).abs() < 3 * math.sqrt(2 / n) + 1e-2).all())
    bias = (drawn.mean(0) - clean[0]).abs()
    assert bool((bias < 3 * (wanted / n).sqrt() + wanted).all())  # E −ln is ½ var above −ln E


@pytest.mark.parametrize("correct", [True, False])
def test_average_adds_intensities(correct):
    noise = EnergyIntegrating(BEAM, 1000.0, correct=correct)
    clean = torch.tensor([[0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    mean = noise.expected(clean).mean(-1)
    torch.testing.assert_close(noise.expected(noise.average(clean)), mean)


def test_images_do_not_see_each_other():
    i0 = torch.tensor([500.0, 5000.0, 50.0], dtype=torch.float64).reshape(3, 1, 1)
    noise = EnergyIntegrating(BEAM, i0, electronic_sigma=1.0)
    clean = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = noise(clean, seed=[7, 8, 9])
    for i in range(3):
        assert torch.equal(y[i], noise.select(i)(clean[i], seed=[7 + i]))
    paths = BEAM.alone(clean / 0.0205)
    assert torch.equal(noise.expose(paths, seed=[7, 8, 9]), y)  # the same photons
    assert torch.equal(noise(clean, seed=4), noise(clean, seed=4))
    assert not torch.equal(noise(clean, seed=4), noise(clean, seed=5))


def test_it_survives_copies_and_says_what_it_is():
    noise = EnergyIntegrating(BEAM, 1000.0, 2.0, correct=False)
    clean = torch.ones(2, 3)
    for same in (copy.deepcopy(noise), pickle.loads(pickle.dumps(noise))):
        assert torch.equal(same(clean, seed=1), noise(clean, seed=1))
    assert noise(clean).dtype == torch.float32
    assert "i0=1000" in repr(noise) and "correct=False" in repr(noise) and "Beam(" in repr(noise)
    assert noise.config()["i0"] == 1000


def test_in_a_problem():
    """Simulated through XRay, corrected by `linearise`: the data are those of the reference energy."""
    geometry = ParallelBeam((16, 16), 12.0, [math.pi * k / 20 for k in range(20)], 24, 10.0)
    r = (torch.arange(32, dtype=torch.float64) - 15.5).square()
    fine = torch.where((r[:, None] + r).sqrt() < 13, 0.0205, 0.0)
    problem, truth = simulate(fine, geometry, EnergyIntegrating(BEAM, 1e7), seed=0)
    assert isinstance(problem, Problem)
    misfit = weighted(problem)(XRay(geometry)(truth)) * 2 / problem.y.numel()
    error = (problem.linear - XRay(geometry)(truth)).abs().max()
    # 1e7 photons: what is left is the partial volume of 12 mm pixels, not 20 % of beam hardening
    assert error < 0.08 * problem.linear.max() and bool(misfit.isfinite())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"i0": -1.0}, "i0: expected positive"),
        ({"i0": 10.0, "electronic_sigma": -1.0}, "electronic_sigma: expected non-negative"),
        ({"i0": 10.0, "background": -1.0}, "background: expected non-negative"),
        ({"i0": 10.0, "floor": 0.0}, "floor: expected positive"),
    ],
)
def test_bad_parameters(arguments, words):
    with pytest.raises(ValueError, match=words):
        EnergyIntegrating(BEAM, **arguments)


def test_bad_data():
    noise = EnergyIntegrating(BEAM, 10.0)
    with pytest.raises(ValueError, match="expected a Beam, got float"):
        EnergyIntegrating(1.0, 10.0)
    with pytest.raises(ValueError, match="expected no negative values"):
        noise.check(torch.tensor([[-1.0]]))
    with pytest.raises(ValueError, match="NaN or inf"):
        noise(torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match="paths: expected finite"):
        noise.expose(torch.full((2, 1, 1), math.inf))
    assert dataclasses.replace(BEAM) == noise.beam
