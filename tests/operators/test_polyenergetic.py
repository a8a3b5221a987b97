"""Beams and the polyenergetic model against sums over energies written out, in float64."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch

from operators import Beam, ParallelBeam, Polyenergetic, Spectrum, XRay
from operators.volume import ParallelBeam3D

BEAM = Beam(
    energies=(35.0, 50.0, 70.0, 100.0),
    quanta=(1.0, 3.0, 4.0, 2.0),
    gain=(35.0, 50.0, 70.0, 100.0),
    mu=((0.03, 0.0227, 0.0193, 0.0171), (0.17, 0.081, 0.05, 0.0356)),
    mu_reference=(0.0205, 0.06),
    reference=61.0,
    materials=("water", "bone"),
)
ANGLES = [math.pi * k / 7 for k in range(7)]
X = XRay(ParallelBeam((9, 8), 20.0, ANGLES, 14, 16.0))


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_out(paths, beam=BEAM):
    """−ln Σ w exp(−Σ μ L) with the whole (energies × data) array."""
    w = torch.tensor(beam.quanta, dtype=torch.float64) * torch.tensor(beam.gain, dtype=torch.float64)
    lines = torch.einsum("mk,m...->k...", torch.tensor(beam.mu, dtype=torch.float64), paths)
    return -torch.einsum("k,k...->...", w / w.sum(), (-lines).exp()).log()


def test_log_signal_is_the_sum_written_out():
    paths = 200 * random(2, 3, 5)
    torch.testing.assert_close(BEAM.log_signal(paths), written_out(paths))
    assert BEAM.log_signal(torch.zeros(2, 4)).abs().max() < 1e-6
    assert sum(BEAM.quanta) == pytest.approx(1) and sum(BEAM.weights) == pytest.approx(1)


def test_one_energy_is_lambert_beer():
    one = Beam((60.0,), (7.0,), (60.0,), ((0.02,), (0.06,)), (0.02, 0.06), 60.0, ("water", "bone"))
    paths = 100 * random(2, 6)
    torch.testing.assert_close(one.log_signal(paths), 0.02 * paths[0] + 0.06 * paths[1])
    torch.testing.assert_close(one.mono(paths), one.log_signal(paths))


def test_behind_much_matter_the_hardest_photons_are_left():
    """P -> μ_min L − ln w: no overflow where exp(−μ L) is zero in any precision."""
    for dtype in (torch.float32, torch.float64):
        L = torch.tensor([[2e5], [3e4]], dtype=dtype)
        wanted = 0.0171 * 2e5 + 0.0356 * 3e4 - math.log(BEAM.weights[3])
        torch.testing.assert_close(BEAM.log_signal(L), torch.tensor([wanted], dtype=dtype))
        torch.testing.assert_close(BEAM.slopes(L)[:, 0], torch.tensor([0.0171, 0.0356], dtype=dtype))


def test_slopes_and_all_derivatives():
    paths = 100 * random(2, 3, 2)
    (slope,) = torch.autograd.grad(written_out(z := paths.clone().requires_grad_()).sum(), z)
    torch.testing.assert_close(BEAM.slopes(paths), slope)
    paths.requires_grad_()
    assert torch.autograd.gradcheck(BEAM.log_signal, paths, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(BEAM.log_signal, paths)
    batched = torch.func.vmap(BEAM.log_signal, 1)(paths)
    torch.testing.assert_close(batched, BEAM.log_signal(paths))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_path_inverts_log_signal(dtype):
    """From the noise of an open beam (p < 0) to a metre of water."""
    L = torch.linspace(-60, 1000, 200, dtype=dtype)
    p = BEAM.log_signal(BEAM.alone(L))
    torch.testing.assert_close(BEAM.path(p), L, rtol=1e-9 if dtype == torch.float64 else 1e-4, atol=1e-4)


def test_the_beam_hardens():
    """The slope falls with the path, from the weighted mean of μ to the lowest μ."""
    slope = BEAM.slopes(BEAM.alone(torch.linspace(0, 2000, 50, dtype=torch.float64)))[0]
    assert bool((slope.diff() < 0).all())
    assert float(slope[0]) == pytest.approx(float(np.dot(BEAM.weights, BEAM.mu[0])))
    assert float(slope[-1]) == pytest.approx(0.0171, rel=1e-2)


def test_beams_are_values():
    assert pickle.loads(pickle.dumps(BEAM)) == BEAM and hash(BEAM) == hash(dataclasses.replace(BEAM))
    assert eval(repr(dataclasses.astuple(BEAM))) == dataclasses.astuple(BEAM)
    assert "water + bone" in repr(BEAM)


def test_beam_of_a_spectrum():
    pytest.importorskip("xraydb")
    from operators import attenuation

    spectrum = Spectrum((40.0, 60.0, 80.0, 110.0), (1.0, 2.0, 2.0, 1.0))
    beam = Beam.of(spectrum)
    np.testing.assert_allclose(beam.mu, [attenuation(m, spectrum.energies) for m in ("water", "bone")])
    # the default reference: 200 mm of water look as they do at that energy alone
    paths = beam.alone(torch.tensor([200.0], dtype=torch.float64))
    torch.testing.assert_close(beam.mono(paths), beam.log_signal(paths))
    assert 60 < beam.reference < 80
    counting = Beam.of(spectrum, detector="counting", reference=70.0)
    assert counting.weights == pytest.approx((1 / 6, 1 / 3, 1 / 3, 1 / 6))
    assert counting.mu_reference[0] == pytest.approx(float(attenuation("water", [70.0])[0]))
    thin = Beam.of(spectrum, efficiency=lambda E: 1 - np.exp(-attenuation("Gd2O2S", E) * 0.3))
    assert thin.quanta[0] > beam.quanta[0] and thin.quanta[3] < beam.quanta[3]
    np.testing.assert_allclose(Beam.of(spectrum, efficiency=0.4 * np.ones(4)).quanta, beam.quanta)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quanta": (1.0, 2.0)}, "Beam quanta: expected 4 finite numbers"),
        ({"gain": (1.0, -2.0, 1.0, 1.0)}, "Beam gain: expected 4 finite numbers ≥ 0"),
        ({"quanta": (0.0,) * 4}, "one of them above"),
        ({"quanta": (math.nan, 1.0, 1.0, 1.0)}, "Beam quanta"),
        ({"mu": BEAM.mu[:1]}, r"Beam mu \[1/mm\]: expected positive numbers of shape \(2, 4\), got \(1, 4\)"),
        ({"mu_reference": (0.02, -0.1)}, "Beam mu_reference"),
    ],
)
def test_bad_beams(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(BEAM, **change)


def test_bad_beam_of_and_paths():
    pytest.importorskip("xraydb")
    spectrum = Spectrum((40.0, 60.0), (1.0, 2.0))
    with pytest.raises(ValueError, match="expected 'integrating' or 'counting', got 'both'"):
        Beam.of(spectrum, detector="both")
    with pytest.raises(ValueError, match="expected 2 numbers from 0 to 1"):
        Beam.of(spectrum, efficiency=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"expected \(2, \*any\), a length per material"):
        BEAM.log_signal(torch.zeros(3, 4))


def image(*batch):
    """From air to dense bone at the reference energy, so that every part of the ramp is used."""
    return 0.0205 * (0.2 + 3.2 * random(*batch, *X.in_shape, seed=1))


def test_polyenergetic_is_the_sum_written_out():
    P, x = Polyenergetic(X, BEAM), image(2)
    hu = 1000 * (x / 0.0205 - 1)
    f = ((hu - 100) / 1400).clamp(0, 1)
    paths = torch.stack([X((1 - f) * x / 0.0205), X(f * x / 0.06)])
    torch.testing.assert_close(P(x), written_out(paths))
    torch.testing.assert_close(BEAM.mono(P.paths(x)), X(x))  # at the reference energy nothing is lost


def test_polyenergetic_derivative_on_the_ramp():
    P = Polyenergetic(X, BEAM)
    x, h, g = image(), random(*X.in_shape, seed=2) - 0.5, random(*X.out_shape, seed=3) - 0.5
    J = P.derivative(x)
    torch.testing.assert_close(J(h), torch.func.jvp(P, (x,), (h,))[1])
    torch.testing.assert_close(J.adjoint(g), torch.func.vjp(P, x)[1](g)[0])
    step = 1e-6
    torch.testing.assert_close(J(h), (P(x + step * h) - P(x - step * h)) / (2 * step), rtol=1e-5, atol=1e-5)


def test_one_material_needs_no_split():
    water = dataclasses.replace(
        BEAM, mu=BEAM.mu[:1], mu_reference=BEAM.mu_reference[:1], materials=("water",)
    )
    x = image(3)
    torch.testing.assert_close(Polyenergetic(X, water)(x), written_out(X(x)[None] / 0.0205, water))


def test_volumes():
    A = XRay(ParallelBeam3D((3, 5, 4), 20.0, ANGLES[:3], (3, 6), 20.0))
    P, x = Polyenergetic(A, BEAM), 0.0205 * (0.2 + 3.2 * random(2, 3, 5, 4))
    y = P(x)
    assert y.shape == (2, 3, 3, 6)
    torch.testing.assert_close(y[1], P(x[1]))
    torch.testing.assert_close(P.derivative(x[0])(x[1]), torch.func.jvp(P, (x[0],), (x[1],))[1])


def test_both_materials_are_projected_in_one_call_and_energies_are_not_remembered():
    fine = dataclasses.replace(
        BEAM,
        energies=tuple(np.linspace(20.0, 100.0, 80)),
        quanta=(1.0,) * 80,
        gain=(1.0,) * 80,
        mu=tuple(tuple(np.linspace(high, low, 80)) for high, low in ((0.06, 0.017), (0.4, 0.036))),
    )
    A = XRay(X.geometry)
    P, x = Polyenergetic(A, fine), image(4).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        y = P(x)
    assert A.calls["forward"] == 1
    # the split keeps some images and the beam the two paths: far from 80 sinograms
    assert sum(kept) < 12 * x.numel() + 4 * y.numel()
    y.sum().backward()
    assert A.calls == {"forward": 1, "adjoint": 1}


def test_what_polyenergetic_refuses():
    with pytest.raises(ValueError, match="expected a linear operator"):
        Polyenergetic(Polyenergetic(X, BEAM), BEAM)
    with pytest.raises(ValueError, match="−1000 ≤ low < high"):
        Polyenergetic(X, BEAM, ramp=(1500, 100))
    three = dataclasses.replace(
        BEAM, mu=(*BEAM.mu, BEAM.mu[0]), mu_reference=(0.02, 0.06, 0.02), materials=("water", "bone", "fat")
    )
    with pytest.raises(ValueError, match="expected 1 or 2 materials, got water, bone, fat"):
        Polyenergetic(X, three)
    with pytest.raises(ValueError, match=r"expects one image of shape \(9, 8\), got \(1, 9, 8\)"):
        Polyenergetic(X, BEAM).derivative(image(1))
