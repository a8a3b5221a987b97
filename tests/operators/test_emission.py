"""PET's forward model: attenuation in closed form, efficiencies, subsets; the contract elsewhere."""

import math

import pytest
import torch

from operators import ConeBeam, Emission, Gradient, ParallelBeam, XRay

GEOMETRY = ParallelBeam((40, 40), 5.0, [math.pi * k / 9 for k in range(9)], 41, 5.0)


def disc(radius):
    fine = (torch.arange(320, dtype=torch.float64) - 159.5) * 0.625
    inside = (fine[:, None] ** 2 + fine[None] ** 2 < radius**2).double()
    return inside.reshape(40, 8, 40, 8).mean((1, 3))


def test_attenuation_of_a_disc_of_water():
    mu = 0.0096  # of water at 511 keV, to two digits [1/mm]; here any number
    A = Emission(XRay(GEOMETRY, "sparse"), attenuation=mu * disc(80.0))
    u = (torch.arange(41, dtype=torch.float64) - 20) * 5
    chord = 2 * (80.0**2 - u**2).clamp(min=0).sqrt()
    inside = u.abs() < 60  # at the edge pixels of 5 mm say another chord
    factors = A(torch.ones(40, 40, dtype=torch.float64)) / A.xray(torch.ones(40, 40, dtype=torch.float64))
    truth = (-mu * chord).exp()[inside]
    # pixels change a chord by less than one of them: 0.0096 · 5 mm
    assert (factors[:, inside] / truth - 1).abs().max() < 0.048
    assert (factors[:, u.abs() > 95] == 1).all()


def test_it_is_the_diagonal_times_the_transform():
    n = torch.rand(9, 41, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    xray, mu = XRay(GEOMETRY, "sparse"), 0.01 * disc(60.0)
    A = Emission(xray, mu, n)
    x = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(A(x), n * (-xray(mu)).exp() * xray(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(A.corrected(A(x)), xray(x), rtol=1e-12, atol=1e-12)
    assert A.adjoint_is_exact
    assert A.geometry == GEOMETRY


def test_subsets_are_rows():
    n = torch.rand(9, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    A = Emission(XRay(GEOMETRY, "sparse"), 0.01 * disc(60.0), n)
    x = disc(50.0)
    for views in ([1, 4, 7], slice(0, None, 2)):
        torch.testing.assert_close(A.subset(views)(x), A(x)[views], rtol=1e-12, atol=0)


def test_dead_detectors_count_nothing():
    n = torch.ones(41, dtype=torch.float64)
    n[20] = 0
    A = Emission(XRay(GEOMETRY, "sparse"), normalisation=n)
    y = A(disc(50.0))
    assert (y[:, 20] == 0).all() and (A.corrected(y)[:, 20] == 0).all()


def test_single_precision_and_three_dimensions():
    A = Emission(XRay(GEOMETRY, "sparse"), (0.01 * disc(60.0)).float())
    assert A(disc(50.0).float()).dtype == torch.float32
    cone = ConeBeam((4, 5, 5), (2.0, 2.0, 2.0), (0.0, 1.0), (6, 7), (2.0, 2.0), 50.0, 80.0)
    B = Emission(XRay(cone), 0.01 * torch.ones(4, 5, 5), torch.rand(2, 6, 7))
    assert B(torch.ones(4, 5, 5)).shape == (2, 6, 7)
    assert B.subset([1])(torch.ones(4, 5, 5)).shape == (1, 6, 7)


@pytest.mark.parametrize(
    "make",
    [
        lambda xray: Emission(Gradient((3, 3))),
        lambda xray: Emission(xray, torch.ones(3, 3)),
        lambda xray: Emission(xray, -torch.ones(40, 40)),
        lambda xray: Emission(xray, normalisation=torch.ones(7)),
        lambda xray: Emission(xray, normalisation=-1.0),
        lambda xray: Emission(xray, normalisation=math.nan),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r"Emission .*expected"):
        make(XRay(GEOMETRY, "sparse"))
