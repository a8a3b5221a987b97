"""Filters and patch regression after a direct reconstruction: laws, closed forms, peers."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means

from operators import Gaussian, Identity, ParallelBeam, Sense, XRay, fbp
from recon import METHODS, Problem, psnr
from recon.baselines.bm3d import BM3D, _forward, _haar, _tables, bm3d
from recon.baselines.filters import (
    BandFilter,
    Bilateral,
    GaussianFilter,
    level_of_image,
    mirrored,
    noise_level,
)
from recon.baselines.knn import AnchoredRegression, PatchNearestNeighbours
from recon.data import PairedData

EVERY = [Bilateral, GaussianFilter, BandFilter, BM3D]
LEARNING = [PatchNearestNeighbours, AnchoredRegression]
CT = XRay(ParallelBeam((16, 14), 1.0, tuple((k + 0.5) * math.pi / 12 for k in range(12)), 23, 1.0))


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def squares(n=32):
    """A picture with edges and a texture, in [0, 1]."""
    row, column = torch.meshgrid(torch.arange(n).double(), torch.arange(n).double(), indexing="ij")
    x = 0.3 + 0.3 * (row // 8 % 2 == column // 8 % 2).double()
    return x + 0.2 * (column > n / 2) * (1 + torch.sin(2 * math.pi * row / 4)) / 2


def seen(y, sigma=0.1, A=None):
    A = A or Identity(tuple(y.shape[-2:]))
    return Problem(A, y, Gaussian(sigma, data_ndim=len(A.out_shape)))


def test_names():
    names = [cls.name for cls in EVERY + LEARNING]
    assert all(METHODS[name] is cls for name, cls in zip(names, EVERY + LEARNING, strict=True))
    assert names[3:] == ["bm3d", "patch-nearest-neighbours", "anchored-regression"]


@pytest.mark.parametrize("cls", EVERY, ids=lambda c: c.name)
def test_every_filter_on_every_kind_of_data(cls):
    mask = torch.rand(12, 10, generator=torch.Generator().manual_seed(1)) < 0.7
    kspace = Sense(mask, None, shape=(12, 10))
    x = random(2, 12, 10, dtype=torch.complex128)
    volume = Identity((3, 9, 11))
    for A, y in ((CT, CT(random(2, 16, 14).abs())), (kspace, kspace(x)), (volume, random(2, 3, 9, 11))):
        problem = Problem(A, y, Gaussian(0.1, data_ndim=len(A.out_shape)))
        for method in cls.examples():
            z = method(problem)
            assert z.shape == (2, *A.in_shape) and z.is_complex() == y.is_complex()
            # an image is filtered as if it were alone
            alone = Problem(A, y[1], Gaussian(0.1, data_ndim=len(A.out_shape)))
            torch.testing.assert_close(method(alone), z[1])
            if A is CT and method.positive is None:
                assert float(z.min()) >= 0
        assert method(Problem(A, y[:0], Gaussian(0.1, data_ndim=len(A.out_shape)))).shape == (0, *A.in_shape)


@pytest.mark.parametrize("cls", EVERY, ids=lambda c: c.name)
def test_a_flat_image_stays_as_it_is(cls):
    y = torch.full((1, 17, 15), 0.7, dtype=torch.float64)
    for method in cls.examples():
        torch.testing.assert_close(method(seen(y)), y)


@pytest.mark.parametrize("cls", [Bilateral, BM3D], ids=lambda c: c.name)
def test_brightness_and_unit_do_not_matter(cls):
    y = squares(20)[None] + 0.1 * random(1, 20, 20)
    z = cls()(seen(y, 0.1))
    torch.testing.assert_close(cls()(seen(7 * y, 0.7)), 7 * z)
    torch.testing.assert_close(cls()(seen(y + 3, 0.1)), z + 3)
    # and without noise nothing is taken away
    torch.testing.assert_close(cls(sigma=0.0)(seen(y)), y)


def test_sigma_of_the_noise_model_is_that_of_the_reconstruction():
    y = CT(squares(16)[None, :, 1:15])
    problem = seen(y, 0.3, CT)
    found = noise_level(problem, fbp(CT, y, "hann"), draws=200)
    e = random(400, *CT.out_shape, seed=5)
    expected = (0.3 * fbp(CT, e, "hann")).square().mean().sqrt()
    # √(2/(n·draws)) for as many draws of correlated pixels
    torch.testing.assert_close(found, expected[None], rtol=0.02, atol=0)
    # two draws, as by default, of some fifty independent pixels
    torch.testing.assert_close(noise_level(problem, fbp(CT, y, "hann")), found, rtol=0.25, atol=0)
    two = seen(torch.cat([y, y]), 0.3, CT)
    torch.testing.assert_close(
        noise_level(two, fbp(CT, two.y, "hann"))[1:], noise_level(problem, fbp(CT, y, "hann"))
    )


def test_sigma_of_the_image():
    for dtype in (torch.float64, torch.complex128):
        noise = 0.2 * random(3, 128, 128, dtype=dtype)
        # 16 129 overlapping details: a percent or so
        torch.testing.assert_close(level_of_image(5 + noise).tolist(), [0.2] * 3, rtol=0.04, atol=0)


def test_mirrored_is_symmetric_even_beyond_the_image():
    x = random(1, 2, 3)
    wide = mirrored(x, (5, 4, 3, 2))
    assert wide.shape == (1, 7, 12)
    torch.testing.assert_close(wide[0], torch.tensor(np.pad(x[0].numpy(), ((3, 2), (5, 4)), "symmetric")))


def test_bilateral_is_its_formula():
    """Pixel by pixel; scikit-image's window is not centred, so that it is no oracle."""
    y = squares(8) + 0.05 * random(8, 8)
    found = Bilateral(1.5, 2.0, sigma=0.1, positive=False)(seen(y))
    wide = mirrored(y[None], 3)[0]
    for i, j in ((0, 0), (3, 4), (7, 2)):
        top = bottom = 0.0
        for di in range(-3, 4):
            for dj in range(-3, 4):
                q = float(wide[i + 3 + di, j + 3 + dj])
                w = math.exp(-(di**2 + dj**2) / (2 * 1.5**2) - (q - float(y[i, j])) ** 2 / (2 * 0.2**2))
                top, bottom = top + w * q, bottom + w
        assert abs(float(found[i, j]) - top / bottom) < 1e-12


def test_gaussian_is_that_of_scipy():
    y = random(24, 24)
    fwhm = 3.0
    theirs = gaussian_filter(y.numpy(), fwhm / math.sqrt(8 * math.log(2)), mode="nearest", truncate=4.5)
    ours = GaussianFilter(fwhm, positive=False)(seen(y))
    # it ends at four standard deviations, theirs a little later
    torch.testing.assert_close(ours, torch.tensor(theirs), rtol=0, atol=1e-3)


def test_band_is_what_its_formula_says():
    n = 32
    column = torch.arange(n).double()
    for k in (0, 3, 9):
        # cosines about the border are the modes of a mirrored image
        wave = torch.cos(math.pi * k * (column + 0.5) / n).expand(n, n)[None]
        f = k / (2 * n)
        gain = math.exp(-((2.0 * f) ** 2)) * (1 - math.exp(-((8.0 * f) ** 2))) if k else 1.0
        torch.testing.assert_close(BandFilter(2.0, 8.0, positive=False)(seen(wave)), gain * wave)


def test_transforms_of_bm3d_are_orthonormal():
    for size in (1, 2, 4, 8, 16):
        haar = _haar(size, torch.float64, torch.device("cpu"))
        torch.testing.assert_close(haar @ haar.T, torch.eye(size).double())
        torch.testing.assert_close(haar[0], torch.full((size,), size**-0.5).double())
    group = random(4, 3, 8, 8)
    transform, window = _tables(torch.float64, torch.device("cpu"))
    torch.testing.assert_close(transform @ transform.T, torch.eye(64).double())
    coefficients = _forward(group, transform, _haar(4, torch.float64, torch.device("cpu")))
    torch.testing.assert_close(coefficients.square().sum(), group.square().sum())
    assert float(window.min()) > 0


def test_bm3d_takes_noise_away_and_more_than_its_peers():
    x = squares(48)
    y = x + 0.1 * random(48, 48)
    span = 1.0
    quality = {
        "noisy": y,
        "bm3d": bm3d(y, 0.1, search=10),
        "bilateral": Bilateral(sigma=0.1)(seen(y)),
        "nlm": torch.tensor(denoise_nl_means(y.numpy(), 5, 9, 0.08, fast_mode=False, sigma=0.1)),
    }
    db = {name: float(psnr(image, x, data_range=span)) for name, image in quality.items()}
    assert db["bm3d"] > db["noisy"] + 6 and db["bm3d"] > max(db["nlm"], db["bilateral"]) + 0.5, db
    # of noise alone on a flat image hardly anything is left: a group keeps little but its mean
    rest = bm3d(0.1 * random(40, 40, seed=3), 0.1, search=8)
    assert float(rest.std()) < 0.025


@pytest.mark.parametrize("shape", [(8, 8), (5, 21), (9, 30)])
def test_bm3d_of_small_and_odd_images(shape):
    y = random(*shape)
    z = bm3d(y, 0.5, search=4)
    assert z.shape == y.shape and bool(torch.isfinite(z).all())


def pairs(A, n=4, sigma=0.1, dtype=torch.float64):
    images = torch.stack([squares(32)[k : k + A.in_shape[-2], k : k + A.in_shape[-1]] for k in range(n)])
    images = images.to(dtype) * (1 - 0.5j if dtype.is_complex else 1)
    noise = Gaussian(sigma, data_ndim=len(A.out_shape))
    problem = Problem(A, noise(A(images), seed=list(range(n))), noise)
    return PairedData((problem, images), (problem, images), "pairs")


@pytest.mark.parametrize("cls", LEARNING, ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_patch_regression_learns_and_is_kept(cls, dtype, tmp_path):
    data = pairs(Identity((20, 21)), dtype=dtype)
    problem, truth = data.validation
    with pytest.raises(ValueError, match="not trained"):
        cls()(problem)
    method = cls(images=4, samples=2000, neighbours=8 if cls is PatchNearestNeighbours else 400).fit(data)
    x = method(problem)
    error = lambda z: float((z - truth).abs().square().mean())  # noqa: E731
    assert x.shape == truth.shape and x.dtype == dtype and error(x) < 0.5 * error(problem.y)
    torch.testing.assert_close(method(seen(problem.y[1], A=problem.A)), x[1])
    method.save(tmp_path / "tables")
    torch.testing.assert_close(cls.load(tmp_path / "tables")(problem), x)
    with pytest.raises(ValueError, match=r"expected a file by|expected"):
        LEARNING[cls is LEARNING[0]].load(tmp_path / "tables")
    with pytest.raises(ValueError, match="expected pairs"):
        cls().fit(data.unpaired())


def test_nearest_neighbours_know_by_heart_what_they_have_seen():
    """With one neighbour, every patch stored and no noise, the training images come back exactly."""
    x = random(2, 9, 8)
    problem = seen(1 - x, 0.1)
    data = PairedData((problem, x), (problem, x))
    method = PatchNearestNeighbours(1, images=2, samples=10_000, size=5, target=3).fit(data)
    torch.testing.assert_close(method(problem), x)


def test_one_anchor_is_one_ridge_regression():
    data = pairs(Identity((20, 21)))
    problem, truth = data.validation
    method = AnchoredRegression(1, 10**6, ridge=0.1, images=4, samples=10**6, size=3, target=1).fit(data)
    wide = mirrored(problem.y, 1)
    f = wide.unfold(1, 3, 1).unfold(2, 3, 1).reshape(-1, 9)
    mean = f.mean(1, keepdim=True)
    f, t = f - mean, truth.reshape(-1, 1) - mean
    gram = f.T @ f / len(f)
    solved = torch.linalg.solve(gram + 0.1 * gram.diagonal().mean() * torch.eye(9).double(), f.T @ t / len(f))
    torch.testing.assert_close(method(problem), (f @ solved + mean).reshape(truth.shape))


def test_wrong_settings_are_refused():
    for make, message in (
        (lambda: Bilateral(width=0.0), "Bilateral width"),
        (lambda: Bilateral(strength=math.inf), "Bilateral strength"),
        (lambda: Bilateral(sigma="median"), "Bilateral sigma"),
        (lambda: BM3D(sigma=-1.0), "BM3D sigma"),
        (lambda: BM3D(step=9), "BM3D search, step"),
        (lambda: GaussianFilter(math.nan), "GaussianFilter fwhm"),
        (lambda: BandFilter(3.0, 2.0), "BandFilter largest"),
        (lambda: PatchNearestNeighbours(size=4), "size, target"),
        (lambda: PatchNearestNeighbours(0), "neighbours"),
        (lambda: AnchoredRegression(ridge=0.0), "ridge"),
        (
            lambda: Bilateral()(Problem(Identity((4,)), torch.zeros(4), Gaussian(1.0, data_ndim=1))),
            "two axes",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
