"""FBP and the scaled adjoint as methods."""

import math

import pytest
import torch

from operators import FanBeam, Fourier, Gaussian, ParallelBeam, XRay, fbp
from recon.direct import FBP, Adjoint
from recon.problem import Problem

ANGLES = [math.pi * k / 40 for k in range(40)]
GEOMETRY = ParallelBeam((24, 20), 1.5, ANGLES, 41, 1.1, 0.2)


def problem(batch=(), dtype=torch.float64):
    A = XRay(GEOMETRY)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(*batch, *A.in_shape, dtype=torch.float64, generator=generator) - 0.4
    y = A(x) + torch.randn(*batch, *A.out_shape, dtype=torch.float64, generator=generator)
    return Problem(A, y.to(dtype), Gaussian(1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fbp_is_the_function_of_the_linear_data(dtype):
    p = problem((2,), dtype)
    raw = FBP("cosine", frequency_scaling=0.8, positive=False)(p)
    assert raw.dtype == dtype
    torch.testing.assert_close(raw, fbp(GEOMETRY, p.linear, "cosine", 0.8))
    assert float(raw.min()) < 0
    torch.testing.assert_close(FBP("cosine", frequency_scaling=0.8)(p), raw.clamp_min(0))


def test_arguments_are_attributes():
    method = FBP()
    assert (method.filter, method.frequency_scaling, method.short_scan, method.positive) == (
        "hann",
        1.0,
        None,
        True,
    )
    assert (FBP.name, Adjoint.name, FBP.data_kind) == ("fbp", "adjoint", None)
    assert Adjoint(scaled=False).scaled is False
    assert method.fit(None) is method


def test_short_scan_reaches_fbp():
    g = FanBeam((24, 20), 1.5, [4.2 * k / 60 for k in range(60)], 41, 2.0, 60.0, 100.0)
    p = Problem(
        XRay(g), torch.rand(g.sinogram_shape, generator=torch.Generator().manual_seed(0)), Gaussian(1.0)
    )
    weighted, plain = FBP(positive=False)(p), FBP(positive=False, short_scan=False)(p)
    torch.testing.assert_close(weighted, fbp(g, p.linear, "hann"))
    torch.testing.assert_close(plain, fbp(g, p.linear, "hann", short_scan=False))
    assert not torch.allclose(weighted, plain, rtol=0.05)


def test_wrong_filter_and_wrong_operator_are_errors():
    with pytest.raises(ValueError, match="no filter 'ramlak'; did you mean 'ram-lak'"):
        FBP("ramlak")
    F = Fourier((8, 8))
    p = Problem(F, torch.zeros(8, 8, dtype=torch.complex64), Gaussian(1.0))
    with pytest.raises(
        ValueError, match=r"expected an operator with a ParallelBeam or FanBeam geometry.*CGLS"
    ):
        FBP()(p)


def test_scaled_adjoint_fits_the_data_best():
    p = problem((3,))
    x = Adjoint()(p)
    back = Adjoint(scaled=False)(p)
    torch.testing.assert_close(back, p.A.adjoint(p.linear))
    # at the least-squares amplitude the residual is orthogonal to what x explains
    residual = p.A(x) - p.linear
    cosine = (residual * p.A(x)).sum((-2, -1)) / (residual.norm(dim=(-2, -1)) * p.A(x).norm(dim=(-2, -1)))
    assert float(cosine.abs().max()) < 1e-10
    ratio = x / back
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio))


def test_an_image_is_the_same_alone_and_beside_brighter_ones():
    p = problem((3,))
    bright = p.y.clone()
    bright[1:] *= 1e4
    alone = Problem(p.A, p.y[0], p.noise)
    together = Problem(p.A, bright, p.noise)
    for method in [*FBP.examples(), *Adjoint.examples()]:
        torch.testing.assert_close(method(together)[0], method(alone), rtol=1e-11, atol=1e-11)


def test_adjoint_of_nothing_is_nothing():
    p = problem((2,))
    y = p.y.clone()
    y[0] = 0
    x = Adjoint()(Problem(p.A, y, p.noise))
    assert (x[0] == 0).all()
    assert torch.isfinite(x).all()


def test_adjoint_of_an_orthonormal_operator_is_its_inverse():
    F = Fourier((8, 8))
    x = torch.randn(8, 8, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Adjoint()(Problem(F, F(x), Gaussian(1.0))), x)
