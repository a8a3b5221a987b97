"""Joint wavelet sparsity, volumes, sides of any length, and the fused prox."""

import math

import pytest
import torch

from operators import Wavelet
from priors import WaveletL1

G = torch.Generator().manual_seed(0)


def soft(c, threshold, dims=()):
    """Soft thresholding of lengths over `dims`, written out."""
    length = c.abs().square().sum(dims, keepdim=True).sqrt() if dims else c.abs()
    return c * ((length - threshold).clamp(min=0) / length.clamp(min=1e-300))


@pytest.mark.parametrize("joint", [1, 2])
def test_joint_value_and_prox_are_those_of_groups(joint):
    frames, h, step, weight = (3, 2)[:joint], 0.5, 0.4, 1.7
    shape = (*frames, 8, 12)
    x = torch.randn(4, *shape, generator=G, dtype=torch.complex128)
    W, dims = Wavelet((8, 12), "db2", 2), tuple(range(1, joint + 1))
    c = W(x)
    f = WaveletL1(shape, "db2", 2, h, weight, joint)
    lengths = c.abs().square().sum(dims).sqrt()
    lengths[:, :2, :3] = 0
    torch.testing.assert_close(f(x), weight * h * lengths.sum((1, 2)))
    z = soft(c, step * weight * h, dims)
    z[..., :2, :3] = c[..., :2, :3]
    torch.testing.assert_close(f.prox(x, step), W.adjoint(z), rtol=0, atol=1e-12)


def test_one_frame_is_no_group():
    x = torch.randn(1, 8, 8, generator=G, dtype=torch.complex128)
    joint, single = WaveletL1((1, 8, 8), joint=1), WaveletL1((8, 8))
    torch.testing.assert_close(joint(x), single(x)[0])
    torch.testing.assert_close(joint.prox(x, 0.3), single.prox(x, 0.3))


# rounding of four levels, twice, of numbers of the size of x
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 3e-6), (torch.complex64, 3e-6), (torch.float64, 2e-14), (torch.complex128, 2e-14)],
)
@pytest.mark.parametrize("shape", [(64, 48), (37, 50), (230, 180), (2, 3)])
def test_fused_prox_is_the_plain_one(shape, dtype, tolerance):
    x = torch.randn(2, 2, *shape, generator=G, dtype=dtype)
    steps = torch.tensor([[0.3, 1.0], [0.0001, 2.0]], dtype=x.real.dtype)
    f = WaveletL1(shape, weight=steps.flip(0) + 0.1, pixel_size=(0.5, 2.0))
    for step in (0.4, steps):
        plain = f.A.adjoint(f.f.prox(f.A(x), step))
        assert f.prox(x, step).dtype == dtype
        torch.testing.assert_close(f.prox(x, step), plain, rtol=0, atol=tolerance * float(x.abs().max()))


def test_prox_takes_views_and_lets_gradients_through():
    f = WaveletL1((4, 6), "haar", 1)
    x = torch.randn(6, 4, 2, generator=G, dtype=torch.complex128).permute(2, 1, 0)
    torch.testing.assert_close(f.prox(x, 0.3), f.prox(x.contiguous(), 0.3))
    torch.testing.assert_close(f.prox(x.conj(), 0.3), f.prox(x, 0.3).conj())
    z = torch.randn(4, 6, generator=G, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: f.prox(z, 0.3), z)


def test_an_image_of_an_mri_size_is_taken_as_it_is():
    f = WaveletL1((230, 180))
    assert f.A.levels == 4 and f.A.sides[-1] == (15, 12)
    x = torch.randn(230, 180, generator=G, dtype=torch.complex64)
    z = f.prox(x, 0.8)
    assert z.shape == x.shape and float(f(z)) < float(f(x))


def test_a_volume_costs_the_same_at_every_voxel_size():
    """h^{3/2} W x ≈ ∫ x ψ: one more level of haar on voxels of half the side adds details that vanish."""
    x = torch.randn(4, 8, 4, generator=G, dtype=torch.float64)
    fine = x.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
    coarse_value = WaveletL1(x.shape, "haar", 2, (1.0, 2.0, 0.5))(x)
    fine_value = WaveletL1(fine.shape, "haar", 3, (0.5, 1.0, 0.25))(fine)
    assert float(fine_value) == pytest.approx(float(coarse_value), rel=1e-12)


def test_bad_options():
    with pytest.raises(ValueError, match="after 2 joint axes"):
        WaveletL1((4, 4, 4), joint=2)
    with pytest.raises(ValueError, match="shape: expected"):
        WaveletL1((2, 4, 4, 4))
    with pytest.raises(ValueError, match="pixel_size"):
        WaveletL1((4, 4), pixel_size=math.nan)
    with pytest.raises(ValueError, match="expects shape"):
        WaveletL1((4, 4)).prox(torch.zeros(2, 8), 1.0)
