"""Every network after a direct reconstruction: what it starts as, learns, keeps, refuses."""

import math

import pytest
import torch

from operators import Gaussian, Identity, ParallelBeam, Sense, XRay
from operators.base import LinearOperator
from priors.networks.seeds import count
from recon import METHODS, Problem
from recon.baselines.postprocess import FBPUNet, PostProcessing, direct
from recon.baselines.postprocess_networks import CNN10, REDCNN, FBPConvNet, ResNet, Uformer, ZeroFilledUNet
from recon.baselines.postprocess_resolution import ESPCN, SRCNN, enlarged
from recon.data import PairedData

ALL = [FBPUNet, FBPConvNet, ZeroFilledUNet, REDCNN, CNN10, ResNet, Uformer, SRCNN]
STARTING = [FBPUNet, FBPConvNet, ZeroFilledUNet, Uformer]
CT = XRay(ParallelBeam((16, 14), 1.0, tuple((k + 0.5) * math.pi / 8 for k in range(8)), 23, 1.0))


def random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pairs(A, dtype=torch.float32, n=4, sigma=0.05):
    smooth = random(n, *A.in_shape, dtype=dtype, seed=3).cumsum(-1).cumsum(-2)
    images = (smooth if dtype.is_complex else smooth.abs()) / smooth.abs().amax()
    noise = Gaussian(sigma, data_ndim=len(A.out_shape))
    problem = Problem(A, noise(A(images), seed=list(range(n))), noise)
    return PairedData((problem, images), (problem, images), "pairs")


def mri():
    mask = torch.rand(12, 16, generator=torch.Generator().manual_seed(1)) < 0.6
    maps = random(2, 12, 16, dtype=torch.complex64)
    return Sense(mask, maps / maps.abs().square().sum(0).sqrt())


class Blocks(LinearOperator):
    """Means of 2 × 2 pixels."""

    factor = 2

    def __init__(self, ny, nx):
        super().__init__()
        self.in_shape, self.out_shape = (ny, nx), (ny // 2, nx // 2)

    def _forward(self, x):
        return torch.nn.functional.avg_pool2d(x[:, None], 2)[:, 0]

    def _adjoint(self, y):
        return y.repeat_interleave(2, -1).repeat_interleave(2, -2) / 4


def tiny(cls, **changes):
    return cls(cls.examples()[0].config, **changes)


CASES = [(cls, CT) for cls in ALL] + [(cls, mri()) for cls in (ZeroFilledUNet, Uformer, SRCNN)]


@pytest.mark.parametrize(("cls", "A"), CASES, ids=lambda c: getattr(c, "name", type(c).__name__))
def test_trains_and_is_kept(cls, A, tmp_path):
    dtype = torch.complex64 if isinstance(A, Sense) else torch.float32
    data = pairs(A, dtype)
    method = tiny(cls).fit(data)
    problem, truth = data.validation
    x = method(problem)
    assert METHODS[cls.name] is cls and method.record["tier"] == "B"
    assert x.shape == truth.shape and x.dtype == dtype and bool(torch.isfinite(x.abs()).all())
    alone = method(Problem(A, problem.y[1], Gaussian(0.05, data_ndim=len(A.out_shape))))
    # convolutions of one image and of four are summed in different orders
    torch.testing.assert_close(alone, x[1], rtol=1e-4, atol=1e-5)
    method.save(tmp_path / "weights")
    torch.testing.assert_close(cls.load(tmp_path / "weights")(problem), x, rtol=0, atol=0)


@pytest.mark.parametrize("cls", STARTING, ids=lambda c: c.name)
def test_starts_as_the_direct_reconstruction(cls):
    for A, dtype in ((CT, torch.float32), (mri(), torch.complex64)):
        data = pairs(A, dtype)
        method = tiny(cls, steps=1, learning_rate=1e-30, weight_decay=0.0).fit(data)
        problem = data.validation[0]
        torch.testing.assert_close(
            method(problem), direct(A, problem.y, method.config.filter), rtol=1e-4, atol=1e-6
        )


def test_translation_is_post_processing_of_the_data_themselves():
    data = pairs(Identity((16, 14)))
    problem, truth = data.validation
    target = 1 - truth
    inverted = PairedData((problem, target), (problem, target), "inverted")
    before = FBPUNet(base=4, depth=2, steps=1, learning_rate=1e-30).fit(inverted)
    after = FBPUNet(base=4, depth=2, steps=25, batch_size=4, learning_rate=1e-2).fit(inverted)
    torch.testing.assert_close(before(problem), problem.y, rtol=1e-4, atol=1e-6)
    key = "psnr_db_range_truth"
    assert after.scores(inverted)[key] > before.scores(inverted)[key] + 3


def test_sizes_by_the_papers_values():
    """One channel in and out; the meta device makes no numbers."""
    with torch.device("meta"):
        made = {cls: cls().make(1, 1) for cls in (REDCNN, CNN10, SRCNN)}
    assert count(made[REDCNN]) == 1_848_865
    assert count(made[CNN10]) == 24_513
    assert count(made[SRCNN]) == 8_129


def test_pieces_are_what_is_trained_on():
    data = pairs(CT)
    method = tiny(CNN10, patch=5)
    seen = []
    make = method.make

    def watched(inside, outside):
        network = make(inside, outside)
        network.register_forward_hook(lambda m, x, y: seen.append(tuple(x[0].shape)))
        return network

    method.make = watched
    method.fit(data)
    assert (2, 1, 5, 5) in seen  # training
    assert (4, 1, 16, 14) in seen  # validation: whole images
    assert set(seen) == {(2, 1, 5, 5), (4, 1, 16, 14)}


class Middle(PostProcessing):
    """The mean of the slices it sees."""

    def make(self, inside, outside):
        layer = torch.nn.Conv2d(inside, outside, 1, bias=False)
        torch.nn.init.constant_(layer.weight, 1 / inside)
        return layer


def test_slices_are_seen_with_their_neighbours():
    data = pairs(Identity((5, 6, 7)))
    y = data.validation[0].y
    found = Middle(stack=3, steps=1, learning_rate=1e-30).fit(data)(data.validation[0])
    wide = torch.cat([y[:, :1], y, y[:, -1:]], 1)
    torch.testing.assert_close(found, (wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]) / 3)


@pytest.mark.parametrize("cls", [FBPUNet, ResNet], ids=lambda c: c.name)
def test_stacks_of_real_and_complex_volumes(cls):
    for dtype in (torch.float32, torch.complex64):
        data = pairs(Identity((3, 8, 9)), dtype, n=2)
        x = tiny(cls, stack=3, batch_size=1, patch=6).fit(data)(data.validation[0])
        assert x.shape == (2, 3, 8, 9) and x.dtype == dtype


@pytest.mark.parametrize("cls", [FBPConvNet, REDCNN, CNN10, ResNet], ids=lambda c: c.name)
def test_volumes(cls):
    data = pairs(Identity((6, 8, 9)), n=2)
    method = tiny(cls, dim=3, batch_size=1, patch=5).fit(data)
    assert method(data.validation[0]).shape == (2, 6, 8, 9)
    assert any(isinstance(m, torch.nn.Conv3d) for m in method.modules())


def test_zero_filled_unet_scales_with_the_data():
    data = pairs(mri(), torch.complex64)
    method = tiny(ZeroFilledUNet, steps=5, learning_rate=1e-2, clip=1.0).fit(data)
    problem = data.validation[0]
    x = method(problem)
    assert float((x - direct(problem.A, problem.y)).abs().max()) > 1e-3
    bright = Problem(problem.A, 8 * problem.y, problem.noise)
    # the spread is kept above 0 by 1e-12 of its square
    torch.testing.assert_close(method(bright), 8 * x, rtol=1e-3, atol=1e-4)


def test_super_resolution():
    A = Blocks(12, 16)
    data = pairs(A)
    problem, truth = data.validation
    for method in (tiny(SRCNN), tiny(ESPCN), tiny(ESPCN, scale=2, patch=None)):
        assert method.fit(data)(problem).shape == truth.shape
    # what ESPCN starts with knows nothing; it learns
    first = tiny(ESPCN, steps=1, learning_rate=1e-30).fit(data).scores(data)["psnr_db_range_truth"]
    last = tiny(ESPCN, steps=30, batch_size=4, learning_rate=1e-2).fit(data).scores(data)
    assert last["psnr_db_range_truth"] > first + 2
    with pytest.raises(ValueError, match=r"ESPCN: expected data that are images.*scale=3"):
        tiny(ESPCN, scale=3).fit(data)
    with pytest.raises(ValueError, match="ESPCN: expected data"):
        tiny(ESPCN).fit(pairs(CT))


def test_enlarged_images_keep_their_place():
    """Cubic interpolation of the means of 2 × 2 pixels of a plane gives the plane, away from the border."""
    row, column = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    plane = 3 + 0.5 * row - 0.2 * column
    coarse = Blocks(12, 16)(plane)[None]
    fine = enlarged(coarse, 2, (12, 16))
    torch.testing.assert_close(fine[0, 4:-4, 4:-4], plane[4:-4, 4:-4])
    assert enlarged(coarse, 2, (11, 15)).shape == (1, 11, 15)
    both = enlarged(torch.complex(coarse, -coarse), 2, (12, 16))
    torch.testing.assert_close(both, torch.complex(fine, -fine))


def test_wrong_settings_are_refused():
    for make, message in (
        (lambda: REDCNN(stack=3), "REDCNN stack"),
        (lambda: Uformer(dim=3), "Uformer dim"),
        (lambda: FBPConvNet(depth=0), "FBPConvNet depth"),
        (lambda: CNN10(channels=(3,)), "CNN10 channels"),
        (lambda: ResNet(blocks=0), "ResNet blocks"),
        (lambda: SRCNN(middle=0), "SRCNN middle"),
        (lambda: ESPCN(scale=0), "ESPCN scale"),
        (lambda: FBPUNet(steps=1, stack=3).fit(pairs(CT)), "needs images of 3 axes"),
        (lambda: CNN10(steps=1, dim=3).fit(pairs(CT)), "needs images of 3 axes"),
        (lambda: FBPUNet(dim=3), "FBPUNet dim.*FBPConvNet"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
