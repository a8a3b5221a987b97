"""The Triton kernels under the interpreter, on the CPU: run by `test_triton.py` in its own process."""

import math

import numpy as np
import pytest
import torch

from operators import ConeBeam, ConeVectors, FanBeam, ParallelBeam, ParallelBeam3D, XRay
from operators.backends import triton_joseph
from operators.testing import check

assert triton_joseph.interpreted(), "run by test_triton.py, with TRITON_INTERPRET=1 before Triton is imported"

TURN = tuple(2 * math.pi * k / 3 + 0.1 for k in range(3))
SCATTERED = (0.1, 1.3, -4.0)
GEOMETRIES = [
    ParallelBeam((5, 6), 1.0, TURN, n_bins=23, bin_size=0.3),
    ParallelBeam((4, 7), 0.8, SCATTERED, n_bins=10, bin_size=0.8, offset=0.3),
    ParallelBeam((5, 5), 1.0, SCATTERED, n_bins=1, bin_size=1.0),
    FanBeam((5, 5), 1.0, TURN, 7, 3.4, 20.0, 40.0),
    FanBeam((4, 6), 1.0, SCATTERED, 9, 1.1, 20.0, 30.0, "arc", offset=0.7),
    FanBeam((6, 4), 2.0, (0.4,), 11, 2.0, 30.0, 30.0, offset=-1.0),
    ConeBeam((3, 4, 5), 1.0, SCATTERED[:2], (4, 7), 1.6, 30.0, 50.0),
    ConeBeam(
        (3, 5, 4), (1.5, 1.0, 1.2), SCATTERED, (4, 5), (2.5, 1.6), 30.0, 50.0, "arc", (0.7, 1.0), 4.0, -1.0
    ),
    ParallelBeam3D((3, 4, 5), (0.7, 1.0, 1.2), SCATTERED, (6, 8), (0.5, 0.8), offset=(0.3, -0.4)),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
def test_equals_numba(geometry, dtype):
    A, reference = XRay(geometry, "triton"), XRay(geometry, "numba")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *A.in_shape, generator=generator, dtype=dtype)
    y = torch.randn(2, *A.out_shape, generator=generator, dtype=dtype)
    # entries of float32 sums of some 20 terms near 1, their places rounded as well
    tolerance = 1e-12 if dtype == torch.float64 else 3e-5
    torch.testing.assert_close(A(x), reference(x), atol=tolerance, rtol=0)
    torch.testing.assert_close(A.adjoint(y), reference.adjoint(y), atol=tolerance, rtol=0)


def test_every_entry_of_the_adjoint():
    small = ConeBeam((2, 2, 2), 1.0, (0.3, 2.0), (2, 3), 1.6, 30.0, 50.0)
    for geometry in (GEOMETRIES[1], small):
        A = XRay(geometry, "triton")
        forward = A(torch.eye(math.prod(A.in_shape)).reshape(-1, *A.in_shape)).flatten(1)
        back = A.adjoint(torch.eye(math.prod(A.out_shape)).reshape(-1, *A.out_shape)).flatten(1)
        torch.testing.assert_close(forward, back.T, atol=3e-6, rtol=0)
        assert A.adjoint_is_exact


def test_keeps_the_contract():
    check(XRay(FanBeam((3, 3), 1.0, (0.4, 2.0), 4, 2.4, 20.0, 40.0), "triton"))


def test_which_scans_it_has():
    cone = GEOMETRIES[6]
    f = cone.frames()
    tilted = f.v + 0.2 * f.u
    vectors = ConeVectors(cone.volume_shape, 1.0, cone.detector_shape, f.source, f.centre, f.u, tilted)
    assert not triton_joseph.supports(vectors)
    with pytest.raises(ValueError, match="'triton' cannot do this ConeVectors: it needs detector columns"):
        XRay(vectors, "triton")(torch.zeros(3, 4, 5))
    upright = ConeVectors(cone.volume_shape, 1.0, cone.detector_shape, f.source, f.centre, f.u, f.v)
    x = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(XRay(upright, "triton")(x), XRay(cone, "numba")(x), atol=1e-12, rtol=0)


def test_a_cpu_tensor_without_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(ValueError, match="'triton' runs on CUDA, got a tensor on cpu"):
        XRay(GEOMETRIES[0], "triton")(torch.zeros(5, 6))


def test_no_ray_meets_the_image():
    A = XRay(ParallelBeam((3, 3), 1.0, (0.3,), 4, 1.0, offset=100.0), "triton")
    assert not A(torch.ones(3, 3)).any()
    assert not A.adjoint(torch.ones(1, 4)).any()
    assert A(torch.ones(0, 3, 3)).shape == (0, 1, 4)


def test_the_arctangent_of_the_kernels():
    kernels = triton_joseph._kernels()
    t = np.linspace(-10, 10, 4001)
    # the kernel's formula in plain numpy: the interpreter runs it only inside a launch
    half = t
    for _ in range(2):
        half = half / (1 + np.sqrt(1 + half * half))
    square = half * half
    series = 1 / 15 - square / 17
    for n in (13, 11, 9, 7, 5, 3):
        series = 1 / n - square * series
    assert kernels.arctangent is not None
    np.testing.assert_allclose(4 * half * (1 - square * series), np.arctan(t), atol=3e-8)
