"""Materials and spectra against spekpy's own (NIST) tables and model, and against closed forms."""

import math
import sys

import numpy as np
import pytest
import torch

from operators import Spectrum, attenuation, split_materials, tube_spectrum
from operators.materials import MATERIALS, Material, material, split_slopes
from operators.spectrum import ELECTRON, _recoil_fraction

pytest.importorskip("xraydb", reason="attenuation needs the `physics` extra")


@pytest.fixture
def spekpy():
    return pytest.importorskip("spekpy", reason="tube spectra need the `physics` extra")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("water", "Water, Liquid"),
        ("bone", "Bone, Cortical (ICRU)"),
        ("air", "Air"),
        ("pmma", "Polymethyl Methacrylate (Lucite Perspex or Plexiglas)"),
        ("Al", "Al"),
        ("Cu", "Cu"),
        ("iodine", "I"),
        ("Sn", "Sn"),
    ],
)
def test_attenuation_is_that_of_another_table(spekpy, ours, theirs):
    """By what a filter leaves of spekpy's spectrum, which is attenuated by its own NIST tables."""
    tube = spekpy.Spek(kvp=150, dk=1.0)
    E, before = tube.get_spectrum(edges=False)
    thickness = 2.0 / float(attenuation(ours, [60.0])[0])  # mm, two mean free paths
    tube.filter(theirs, thickness)
    after = tube.get_spectrum(edges=False)[1]
    E, transmitted = E[20:], (after / before)[20:]  # above 20 keV, where two mean free paths leave something
    some = transmitted > 1e-9
    error = np.abs(attenuation(ours, E[some]) * thickness / -np.log(transmitted[some]) - 1)
    edge = ours in ("iodine", "Sn")
    # two tables of cross-sections agree within 1.5 % for light elements; beside a K edge within 5 %
    assert np.median(error) < (0.007 if edge else 0.003)
    assert error.max() < (0.05 if edge else 0.015)


def test_density_and_formula():
    E = np.array([[20.0, 60.0], [33.0, 140.0]])
    assert attenuation("water", E).shape == (2, 2)
    np.testing.assert_allclose(attenuation("H2O", E, density=1.0), attenuation("water", E))
    np.testing.assert_allclose(attenuation("water", E, density=0.5), attenuation("water", E) / 2)
    parts = [attenuation("bone", E, kind=k) for k in ("photo", "coh", "incoh")]
    np.testing.assert_allclose(sum(parts), attenuation("bone", E))
    mixture = Material("NaI", 3.67, (("Na", 22.98977 / 149.89424), ("I", 126.90447 / 149.89424)))
    np.testing.assert_allclose(attenuation(mixture, E), attenuation("NaI", E, density=3.67), rtol=1e-4)
    assert material("iodine", 0.01).density == 0.01


@pytest.mark.parametrize("name", MATERIALS)
def test_every_material_is_known_and_attenuates_less_at_higher_energy(name):
    mu = attenuation(name, [100.0, 120.0, 150.0])
    assert (np.diff(mu) < 0).all() and mu[-1] > 0
    assert sum(MATERIALS[name].fractions().values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("unobtainium", [60.0]), "expected one of water, bone"),
        (("Xy2", [60.0], 1.0), "nor a chemical formula"),
        (("water", [0.5]), r"expected 1 to 800, got 0.5 to 0.5"),
        (("water", [60.0, 900.0]), r"got 60 to 900"),
        (("water", [math.nan]), "expected 1 to 800"),
        (("water", []), "got none"),
        (("water", [60.0], -1.0), "expected a positive number, got -1"),
    ],
)
def test_bad_materials(arguments, words):
    with pytest.raises(ValueError, match=words):
        attenuation(*arguments)


def test_bad_composition():
    with pytest.raises(ValueError, match=r"mass fractions ≥ 0 that add to 1, got 0\.9"):
        Material("half", 1.0, (("H", 0.4), ("O", 0.5)))


def test_without_the_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "xraydb", None)
    with pytest.raises(ImportError, match=r"needs xraydb: pip install .hybrid-recon\[physics\]"):
        attenuation("water", [60.0])
    monkeypatch.setitem(sys.modules, "spekpy", None)
    with pytest.raises(ImportError, match="or give a Spectrum by hand"):
        tube_spectrum(120)


@pytest.mark.usefixtures("spekpy")
@pytest.mark.parametrize("kvp", [60, 80, 100, 120, 140])
def test_tube_spectrum_in_numbers(spekpy, kvp):
    ours = tube_spectrum(kvp, filters=(("Al", 2.5),), width=0.5)
    theirs = spekpy.Spek(kvp=kvp, th=12, dk=0.5).filter("Al", 2.5)
    # spekpy attenuates 2.5 mm Al by NIST's table, ours by Elam's: 0.5 % of photons at 60 kVp
    assert ours.total == pytest.approx(theirs.get_flu() / 100, rel=0.006)  # per mm² instead of cm²
    assert ours.mean_energy == pytest.approx(theirs.get_emean(), rel=0.002)
    # air kerma by Klein and Nishina with Elam's photoelectric part, against NIST's μ_en
    assert ours.hvl("Al") == pytest.approx(theirs.get_hvl1(), rel=0.015)
    assert ours.hvl("Cu") == pytest.approx(theirs.get_hvl1(matl="Cu"), rel=0.02)
    assert ours.effective_energy("Al") == pytest.approx(theirs.get_eeff(), rel=0.01)
    assert max(ours.energies) < kvp


@pytest.mark.usefixtures("spekpy")
def test_filters_are_laws_of_exponents():
    raw = tube_spectrum(100, filters=())
    once = raw.filtered(("Cu", 0.1), ("Al", 1.0))
    twice = raw.filtered(("Al", 1.0)).filtered(("Cu", 0.04)).filtered(("Cu", 0.06))
    np.testing.assert_allclose(once.fluence, twice.fluence, rtol=1e-12)
    assert once.mean_energy > raw.mean_energy
    assert tube_spectrum(100, filters=(("Cu", 0.1), ("Al", 1.0))) == once


@pytest.mark.usefixtures("spekpy")
@pytest.mark.parametrize(("bins", "stated"), [(10, 3.1e-2), (20, 8e-3)])
@pytest.mark.parametrize("kvp", [60, 100, 140])
def test_bins_keep_photons_and_energy_and_the_stated_error(kvp, bins, stated):
    fine = tube_spectrum(kvp, width=0.5)
    coarse = fine.binned(bins)
    assert len(coarse.energies) <= bins
    assert coarse.total == pytest.approx(fine.total, rel=1e-12)
    assert coarse.mean_energy == pytest.approx(fine.mean_energy, rel=1e-12)
    L = np.linspace(0, 500, 26)

    def p(s):
        E, phi = s.arrays
        return -np.log(np.exp(-np.outer(L, attenuation("water", E))) @ (phi * E) / (phi @ E))

    error = np.abs(p(coarse) - p(fine)).max()
    assert error <= (stated if kvp == 60 else stated / 1.8)
    assert fine.binned(10**4).arrays[1].sum() == pytest.approx(fine.total)


def test_a_single_energy():
    line = Spectrum((61.0,), (5.0,))
    mu = float(attenuation("Al", [61.0])[0])
    assert line.hvl("Al") == pytest.approx(math.log(2) / mu, rel=1e-9)
    two = Spectrum((40.0, 61.0, 90.0), (0.0, 7.0, 0.0))
    assert two.effective_energy("Cu") == pytest.approx(61.0, rel=1e-6)
    assert line.mean_energy == 61.0 and line.total == 5.0


def test_the_recoil_of_slow_photons():
    """T̄/E -> E/mc² for E -> 0: Thomson scattering is symmetric, 1 − cos θ is 1 on average."""
    E = np.array([1e-3, 1e-2])
    np.testing.assert_allclose(_recoil_fraction(E), E / ELECTRON, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Spectrum((60.0,), (1.0, 2.0)), "one fluence for each"),
        (lambda: Spectrum((60.0, 50.0), (1.0, 2.0)), "increasing numbers from 1 to 800, got 60…50"),
        (lambda: Spectrum((60.0, 900.0), (1.0, 2.0)), "got 60…900"),
        (lambda: Spectrum((60.0, 70.0), (1.0, -2.0)), "finite numbers ≥ 0"),
        (lambda: Spectrum((60.0, 70.0), (0.0, 0.0)), "some above"),
        (lambda: Spectrum((), ()), "one fluence for each"),
        (lambda: Spectrum((60.0,), (1.0,)).binned(0), "whole number of at least 1, got 0"),
        (lambda: Spectrum((60.0,), (1.0,)).filtered(("Al", -1.0)), "a thickness ≥ 0, got -1"),
        (lambda: tube_spectrum(10), r"kvp \[kV\]: expected 20 to 300, got 10"),
        (lambda: tube_spectrum(-120), "got -120"),
        (lambda: tube_spectrum(450), "got 450"),
        (lambda: tube_spectrum(math.nan), "got nan"),
        (lambda: tube_spectrum(120, anode_angle=0), "anode_angle"),
        (lambda: tube_spectrum(120, width=5), "width"),
    ],
)
def test_spectra_out_of_range(make, words):
    with pytest.raises(ValueError, match=words):
        make()


MU_WATER, MU_BONE = 0.0206, 0.0573


def test_split_into_water_and_bone():
    hu = torch.tensor([-1000.0, -1100, 0.0, 100.0, 800.0, 1500.0, 3000.0], dtype=torch.float64)
    x = MU_WATER * (1 + hu / 1000)
    water, bone = split_materials(x, MU_WATER, MU_BONE)
    torch.testing.assert_close(MU_WATER * water + MU_BONE * bone, x)
    assert bone[:3].abs().tolist() == [0] * 3 and water[-2:].tolist() == [0] * 2
    torch.testing.assert_close(bone[4], x[4] / MU_BONE / 2)  # half way up the ramp
    # one number of water is water
    torch.testing.assert_close(water[2], torch.tensor(1.0, dtype=torch.float64))


def test_slopes_of_the_split():
    x = torch.linspace(-0.01, 0.08, 60, dtype=torch.float64).requires_grad_()
    for value, slope in zip(
        split_materials(x, MU_WATER, MU_BONE), split_slopes(x, MU_WATER, MU_BONE), strict=True
    ):
        (wanted,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
        torch.testing.assert_close(slope, wanted)
