import math

import pytest
import torch

from operators import to_attenuation, to_hu


def test_water_and_air():
    hu = torch.tensor([-1000.0, 0.0, 1000.0], dtype=torch.float64)
    mu = to_attenuation(hu, mu_water=0.02)
    torch.testing.assert_close(mu, torch.tensor([0.0, 0.02, 0.04], dtype=torch.float64))
    assert float(mu[0]) == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-4), (torch.float64, 1e-12)])
def test_round_trip(dtype, tolerance):
    """Rounding: a few ulp of 1 + HU/1000, times 1000."""
    hu = torch.arange(-1024, 3072, dtype=dtype)
    assert float((to_hu(to_attenuation(hu)) - hu).abs().max()) <= tolerance * 4
    mu = torch.linspace(-0.01, 0.1, 1001, dtype=dtype)
    torch.testing.assert_close(to_attenuation(to_hu(mu)), mu, rtol=0, atol=tolerance * 1e-4)


def test_scanner_integers():
    mu = to_attenuation(torch.tensor([0, 1000], dtype=torch.int16))
    torch.testing.assert_close(mu, torch.tensor([0.0206, 0.0412]))


def test_clip():
    hu = torch.tensor([-2000.0, 0.0])
    assert float(to_attenuation(hu)[0]) < 0
    assert to_attenuation(hu, clip=True).tolist() == pytest.approx([0.0, 0.0206])


@pytest.mark.parametrize("mu_water", [0.0, -0.02, math.nan, math.inf])
def test_bad_water(mu_water):
    for convert in (to_hu, to_attenuation):
        with pytest.raises(ValueError, match=r"mu_water \[1/mm\]: expected a positive number"):
            convert(torch.ones(2), mu_water=mu_water)
