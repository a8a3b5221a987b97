import math

import pytest
import torch

from operators import Emission, FanBeam, Fourier, Gaussian, Identity, ParallelBeam, Poisson, Sense, XRay, fbp
from priors.networks.automap import Automap, weights
from priors.networks.seeds import count
from recon import METHODS, Problem
from recon.baselines.automap import AUTOMAP
from recon.baselines.iradonmap import IRadonMap
from recon.data import PairedData

TINY = {"steps": 3, "batch_size": 4, "features": 4, "hidden": 32}


def random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pairs(A, dtype=torch.float32, noise=None, n=6, name="pairs"):
    images = random(n, *A.in_shape, dtype=dtype, seed=3)
    images = images if dtype.is_complex else images.abs()
    noise = noise or Gaussian(0.01, data_ndim=len(A.out_shape))
    problem = Problem(A, noise(A(images), seed=list(range(n))), noise)
    return PairedData((problem, images), (problem, images), name)


def ct(size=(8, 8), views=6):
    angles = tuple((k + 0.5) * math.pi / views for k in range(views))
    return XRay(ParallelBeam(size, 1.0, angles, 15, 1.0))


def mri():
    mask = torch.rand(6, 8, generator=torch.Generator().manual_seed(1)) < 0.6
    maps = random(2, 6, 8, dtype=torch.complex64)
    return Sense(mask, maps / maps.abs().square().sum(0).sqrt())


@pytest.mark.parametrize(
    ("A", "dtype", "noise"),
    [
        (ct(), torch.float32, None),
        (mri(), torch.complex64, None),
        (Fourier((6, 8)), torch.complex64, None),
        (Emission(ct(), 0.02 * torch.ones(8, 8)), torch.float32, Poisson(scale=50.0, background=1.0)),
    ],
    ids=["ct", "mri-coils", "mri", "pet"],
)
def test_one_network_for_every_modality(A, dtype, noise, tmp_path):
    data = pairs(A, dtype, noise)
    method = AUTOMAP(**TINY).fit(data)
    x = method(data.validation[0])
    assert x.shape == data.validation[1].shape and x.dtype == dtype and bool(torch.isfinite(x.abs()).all())
    parts = 1 + dtype.is_complex
    # the full layers make nearly all of the weights, and the closed form tells how many
    full = weights(parts * math.prod(A.out_shape), math.prod(A.in_shape), 32, None, parts)
    assert count(method.network.full) == full
    method.save(tmp_path / "weights")
    torch.testing.assert_close(AUTOMAP.load(tmp_path / "weights")(data.validation[0]), x, rtol=0, atol=0)
    assert method.record["tier"] == "B"


def test_magnitude_output():
    data = pairs(mri(), torch.complex64)
    method = AUTOMAP(**TINY, output="magnitude").fit(data)
    x = method(data.validation[0])
    assert x.is_complex() and bool((x.imag == 0).all()) and method.network.last.out_channels == 1


def test_one_channel_is_as_it_was_and_two_are_two_images():
    y = random(3, 10)
    for channels, shape in ((1, (3, 4, 5)), (2, (3, 2, 4, 5))):
        image, features = Automap(10, (4, 5), 7, 6, channels=channels)(y)
        assert image.shape == shape and features.shape == (3, 6, 4, 5)


def test_low_rank_is_counted():
    for rank in (None, 3):
        for channels in (1, 2):
            network = Automap(11, (4, 5), 7, 2, rank, channels)
            assert count(network.full) == weights(11, 20, 7, rank, channels)


def test_too_many_weights_are_refused_before_they_are_made():
    method, data = AUTOMAP(steps=1), pairs(Fourier((256, 256)), torch.complex64, n=1)
    # 2·256² in, 256² hidden, 2·256² out: 17 billion weights, 206 GB to train
    with pytest.raises(ValueError, match=r"17,\d+,\d+,\d+ weights.* 206 GB .*memory_limit.*rank=128") as told:
        method.fit(data)
    assert "rmsprop" in str(told.value)
    small = pairs(ct())
    with pytest.raises(ValueError, match="memory_limit"):
        AUTOMAP(**TINY, memory_limit=1000.0).fit(small)
    needed = 4 * 3 * weights(90, 64, 32, None)
    AUTOMAP(**TINY, memory_limit=float(needed)).fit(small)
    with pytest.raises(ValueError, match="memory_limit"):
        AUTOMAP(**TINY, memory_limit=float(needed - 1)).fit(small)


def test_wrong_settings_and_images_are_refused():
    for changes, message in (
        ({"output": "phase"}, "output"),
        ({"jitter": -0.1}, "jitter"),
        ({"sparsity": float("nan")}, "sparsity"),
        ({"memory_limit": 0.0}, "memory_limit"),
        ({"rank": 0}, "rank"),
    ):
        with pytest.raises(ValueError, match=f"AUTOMAP {message}"):
            AUTOMAP(**changes)
    with pytest.raises(ValueError, match=r"expected images \(ny, nx\)"):
        AUTOMAP(**TINY).fit(pairs(Identity((2, 4, 5))))


ANGLES = tuple(2 * math.pi * k / 20 for k in range(20))
BEAMS = [
    ParallelBeam((9, 8), 1.3, tuple((0.3 + k) * math.pi / 14 for k in range(14)), 23, 0.8, offset=0.2),
    FanBeam((8, 9), 1.0, ANGLES, 36, 0.9, 30.0, 47.0, "flat"),
    FanBeam((8, 8), 1.0, ANGLES, 36, 0.9, 30.0, 47.0, "arc"),
    FanBeam((8, 8), 1.0, ANGLES[:14], 36, 0.9, 30.0, 47.0, "arc"),
]


@pytest.mark.parametrize("geometry", BEAMS, ids=["parallel", "flat", "arc", "short"])
def test_iradonmap_starts_as_filtered_back_projection(geometry):
    data = pairs(XRay(geometry))
    # one step of no length
    method = IRadonMap(features=2, blocks=1, steps=1, learning_rate=1e-30, filter="cosine").fit(data)
    problem = data.validation[0]
    expected = fbp(problem.A, problem.y, "cosine")
    # float32 through two different orders of summation
    torch.testing.assert_close(method(problem), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_iradonmap_learns_and_is_kept(tmp_path, monkeypatch):
    data = pairs(ct())
    few = {"features": 4, "blocks": 1, "batch_size": 6}
    before = IRadonMap(**few, steps=1, learning_rate=1e-30).fit(data)
    after = IRadonMap(**few, steps=25, learning_rate=4e-3).fit(data)
    assert after.scores(data)["psnr_db_range_truth"] > before.scores(data)["psnr_db_range_truth"] + 1
    after.save(tmp_path / "weights")
    loaded, problem = IRadonMap.load(tmp_path / "weights"), data.validation[0]
    torch.testing.assert_close(loaded(problem), after(problem), rtol=0, atol=0)
    # in pieces it is the same, gradients too
    y = problem.y.requires_grad_()
    whole = torch.autograd.grad(loaded(problem).square().sum(), y)[0]
    monkeypatch.setattr("priors.networks.iradonmap.TRACES", 100)
    pieces = torch.autograd.grad(loaded(problem).square().sum(), y)[0]
    torch.testing.assert_close(pieces, whole)


def test_iradonmap_is_for_rays_in_the_plane():
    assert METHODS["iradonmap"] is IRadonMap
    with pytest.raises(ValueError, match="geometry"):
        IRadonMap(steps=1).fit(pairs(Identity((4, 5))))
    with pytest.raises(ValueError, match="IRadonMap blocks"):
        IRadonMap(blocks=-1)
