"""The projectors on a CUDA device: Triton against numba, ASTRA against both, streams, devices and batches."""

import importlib.util
import math

import pytest
import torch

from operators import ConeBeam, FanBeam, ParallelBeam, ParallelBeam3D, XRay
from operators.backends import astra, astra_cuda
from operators.testing import check, mismatch

pytestmark = pytest.mark.cuda
TURN = [2 * math.pi * k / 24 + 0.1 for k in range(24)]
HALF = [math.pi * k / 24 for k in range(24)]
PLANAR = [
    ParallelBeam((24, 30), 1.0, HALF, 44, 0.9, offset=0.3),
    FanBeam((24, 30), 1.0, TURN, 40, 2.1, 60.0, 110.0, offset=-0.7),
    FanBeam((24, 30), 1.0, TURN, 40, 2.1, 60.0, 110.0, "arc", offset=0.7),
]
VOLUMES = [
    ConeBeam((12, 24, 20), 1.0, TURN, (16, 40), 1.8, 60.0, 110.0, offset=(0.4, -0.7)),
    ConeBeam((12, 24, 20), (1.4, 1.0, 1.0), TURN, (16, 40), 1.8, 60.0, 110.0, "arc", pitch=6.0),
    ParallelBeam3D((12, 24, 20), 1.0, HALF, (14, 36), 0.9, offset=(0.3, 0.2)),
]
by_astra = pytest.mark.skipif(importlib.util.find_spec("astra") is None, reason="ASTRA is not installed")


def named(geometry) -> str:
    return type(geometry).__name__ + getattr(geometry, "detector", "")


def smooth(shape: tuple[int, ...]) -> torch.Tensor:
    """A blob off centre, which two discretisations see alike."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    return torch.exp(-8 * sum((a - 0.1 * (k + 1)) ** 2 for k, a in enumerate(axes)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("geometry", PLANAR + VOLUMES, ids=named)
def test_triton_equals_numba(geometry, dtype):
    A, reference = XRay(geometry, "triton"), XRay(geometry, "numba")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, *A.in_shape, generator=generator, dtype=dtype)
    y = torch.randn(3, *A.out_shape, generator=generator, dtype=dtype)
    tolerance = 1e-11 if dtype == torch.float64 else 2e-4  # sums of 100 terms, positions near 40 in float32
    torch.testing.assert_close(A(x.cuda()).cpu(), reference(x), atol=tolerance, rtol=0)
    torch.testing.assert_close(A.adjoint(y.cuda()).cpu(), reference.adjoint(y), atol=tolerance, rtol=0)
    assert mismatch(A.cuda(), dtype=dtype, device="cuda") < (1e-6 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("geometry", [PLANAR[1], VOLUMES[0]], ids=named)
def test_triton_keeps_the_contract(geometry):
    check(XRay(geometry, "triton").cuda(), device="cuda")


@by_astra
@pytest.mark.parametrize("geometry", PLANAR[:2] + VOLUMES, ids=named)
def test_astra_sees_the_same_image(geometry):
    A, reference = XRay(geometry, "astra"), XRay(geometry, "numba")
    x = smooth(A.in_shape)
    expected = reference(x)
    found = A(x.cuda()).cpu()
    # ASTRA reads its textures with weights of 8 bits
    assert float((found - expected).norm() / expected.norm()) < 2e-2
    back, wanted = A.adjoint(expected.cuda()).cpu(), reference.adjoint(expected)
    assert float((back - wanted).norm() / wanted.norm()) < 5e-2
    assert mismatch(A, dtype=torch.float32, device="cuda") < (
        1e-3 if astra_cuda.has_exact_adjoint(geometry) else 1e-1
    )


@by_astra
@pytest.mark.parametrize("backend", ["triton", "astra"])
def test_a_side_stream_sees_what_was_written_on_it(backend):
    A = XRay(PLANAR[0], backend)
    x = torch.rand(8, *A.in_shape, device="cuda")
    expected = A(2 * x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        y = A(2 * x)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("geometry", PLANAR + VOLUMES, ids=named)
def test_a_batch_is_its_images(geometry):
    A = XRay(geometry)
    x = torch.rand(5, *A.in_shape, device="cuda")
    torch.testing.assert_close(A(x)[3], A(x[3]), atol=1e-4, rtol=1e-5)


def test_auto_prefers_triton_and_is_exact():
    A = XRay(VOLUMES[0])
    assert A._on_cuda(torch.float32) == "triton"
    assert A.adjoint_is_exact


@by_astra
def test_bad_input_for_astra():
    A = XRay(VOLUMES[0], "astra")
    assert astra.usable_on_cuda()
    with pytest.raises(ValueError, match=r"computes in float32, got torch\.float64"):
        A(torch.zeros(A.in_shape, dtype=torch.float64, device="cuda"))
