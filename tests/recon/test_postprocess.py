import math

import pytest
import torch

from operators import (
    ConeBeam,
    Emission,
    FanBeam,
    Gaussian,
    Identity,
    Mask,
    ParallelBeam,
    Sense,
    XRay,
    fbp,
    fdk,
)
from recon import FBPUNet, Problem, ZeroFilled
from recon.baselines.postprocess import crops, direct, from_channels, to_channels
from recon.data import PairedData

ANGLES = tuple((k + 0.5) * math.pi / 9 for k in range(9))


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_direct_is_the_scanners_own_inversion():
    parallel = XRay(ParallelBeam((8, 9), 1.3, ANGLES, 17, 1.1))
    y = random(2, 9, 17)
    torch.testing.assert_close(direct(parallel, y), fbp(parallel, y, "hann"))
    torch.testing.assert_close(direct(parallel, y, "ram-lak", 0.7), fbp(parallel, y, "ram-lak", 0.7))
    torch.testing.assert_close(direct(0.5 * parallel, 0.5 * y), direct(parallel, y))
    turn = [2 * math.pi * k / 12 for k in range(12)]
    fan = XRay(FanBeam((8, 8), 1.0, turn, 20, 1.0, 30.0, 47.0))
    y = random(12, 20)
    torch.testing.assert_close(direct(fan, y), fbp(fan, y, "hann"))
    cone = XRay(ConeBeam((4, 6, 6), 1.0, turn, (8, 12), 1.0, 30.0, 47.0))
    y = random(12, 8, 12)
    torch.testing.assert_close(direct(cone, y), fdk(cone, y, "hann"))


def test_direct_undoes_attenuation_before_it_filters():
    xray = XRay(ParallelBeam((8, 9), 1.3, ANGLES, 17, 1.1))
    mu = 0.05 * random(8, 9).abs()
    y = random(9, 17)
    attenuated = y * (-xray(mu)).exp()
    torch.testing.assert_close(direct(Emission(xray, mu), attenuated), fbp(xray, y, "hann"))


def test_direct_of_images_and_of_kspace():
    x = random(3, 5, 7)
    torch.testing.assert_close(direct(Identity((5, 7)), x), x)
    mask = torch.rand(6, 8, generator=torch.Generator().manual_seed(1)) < 0.6
    maps = random(3, 6, 8, dtype=torch.complex128)
    for A in (Sense(mask, maps), Sense(mask, None, shape=(6, 8))):
        y = A(random(2, 6, 8, dtype=torch.complex128))
        torch.testing.assert_close(
            direct(A, y), ZeroFilled()(Problem(A, y, Gaussian(1.0, data_ndim=y.ndim - 1)))
        )


def test_direct_of_anything_else_is_the_step_of_steepest_descent():
    A = Mask(random(7, 6))
    x = A.adjoint(A(random(2, 7, 6)))
    y = A(x)
    found = direct(A, y)
    back = A.adjoint(y)
    for i in range(2):
        # least squares along A*y: the residual is orthogonal to A A*y
        assert abs(float(((A(found[i]) - y[i]) * A(back[i])).sum())) < 1e-10 * float(y[i].square().sum())


def test_direct_has_a_gradient_and_scales():
    mask = torch.rand(6, 8, generator=torch.Generator().manual_seed(1)) < 0.6
    maps = random(3, 6, 8, dtype=torch.complex128)
    for A in (XRay(ParallelBeam((6, 6), 1.0, ANGLES, 11, 1.0)), Mask(random(5, 5)), Sense(mask, maps)):
        dtype = torch.complex128 if isinstance(A, Sense) else torch.float64
        y = random(2, *A.out_shape, dtype=dtype).requires_grad_()
        assert torch.autograd.grad(direct(A, y).abs().sum(), y)[0].abs().sum() > 0
        torch.testing.assert_close(direct(A, 7 * y), 7 * direct(A, y))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_planes_there_and_back(dtype):
    for shape, dim in (((2, 5, 4), 2), ((2, 3, 5, 4), 2), ((2, 3, 5, 4), 3)):
        x = random(*shape, dtype=dtype)
        planes = to_channels(x, dim)
        assert planes.shape[1] == 1 + x.is_complex() and planes.shape[2:] == shape[-dim:]
        torch.testing.assert_close(from_channels(planes, x, dim), x)


def test_neighbours_are_channels_and_ends_are_repeated():
    x = random(2, 4, 3, 5)
    planes = to_channels(x, 2, 3).unflatten(0, (2, 4))
    for slice, wanted in ((0, (0, 0, 1)), (2, (1, 2, 3)), (3, (2, 3, 3))):
        torch.testing.assert_close(planes[:, slice], x[:, list(wanted)])
    z = torch.complex(x, -x)
    both = to_channels(z, 2, 3).unflatten(0, (2, 4))
    torch.testing.assert_close(both[:, :, :3], planes)
    torch.testing.assert_close(both[:, :, 3:], -planes)


def test_pieces_of_both_are_of_one_place():
    x = torch.arange(2 * 9 * 8.0).reshape(2, 9, 8)
    wide = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    seen = set()
    for seed in range(20):
        a, b = crops((x, wide), 4, 2, torch.Generator().manual_seed(seed), 2)
        torch.testing.assert_close(b, a.repeat_interleave(2, -1).repeat_interleave(2, -2))
        seen.add(tuple(a[:, 0, 0].tolist()))
        assert a.shape == (2, 4, 4)
    assert len(seen) > 10
    whole, _ = crops((x, x), 100, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(whole, x)


def test_settings_that_cannot_be_are_refused():
    for changes, message in (
        ({"filter": "hanning"}, "hann"),
        ({"frequency_scaling": 0.0}, "frequency_scaling"),
        ({"dim": 4}, "FBPUNet dim"),
        ({"stack": 2}, "FBPUNet stack"),
        ({"stack": 3, "dim": 3}, "FBPUNet (stack|dim)"),
        ({"patch": 0}, "FBPUNet patch"),
    ):
        with pytest.raises(ValueError, match=message):
            FBPUNet(**changes)


class Watching(FBPUNet):
    """Notes when it is asked."""

    def __init__(self, *arguments, **changes):
        super().__init__(*arguments, **changes)
        self.seen = []

    def before_fit(self, data):
        self.seen.append(("before", data, self.trained_for, self.record))

    def build(self, scanner):
        self.seen.append(("build",))
        super().build(scanner)

    def after_fit(self, data):
        self.seen.append(("after", data, self.trained_for is not None, self.record["steps"], self.training))
        self.record["noted"] = "here"


def test_a_method_is_asked_before_and_after_it_is_trained():
    A = Identity((4, 4))
    y = random(2, 4, 4, dtype=torch.float32)
    data = PairedData((seen := Problem(A, y, Gaussian(0.1)), y), (seen, y))
    method = Watching(base=2, depth=1, steps=1, batch_size=1).fit(data)
    assert method.seen == [("before", data, None, {}), ("build",), ("after", data, True, 1, False)]
    assert method.record["noted"] == "here" and method.record["tier"] == "B"
    with pytest.raises(ValueError, match="expected PairedData"):
        Watching(base=2, depth=1, steps=1).fit(data.unpaired())
