"""The built-in MR problems: what they say, that their data are what they say, and folders of scans."""

import itertools

import numpy as np
import pytest
import torch

from operators import Gaussian, Sense, acceleration
from recon import Problem, TotalVariation, ZeroFilled, psnr
from recon.comparison import problem as load
from recon.comparison.mri import HEAD, OTHER, SNR, TEST_SLICES, VALIDATION_SLICES
from recon.comparison.scores import scores
from recon.data import MRScans, example_mr
from recon.data.mr_simulation import signal
from recon.metrics.presets import preset

NAMES = ("mri-4x", "mri-8x", "mri-radial")
CARTESIAN = NAMES[:2]


def some(name, split="test", start=0, count=1):
    """Some pairs of a problem, made lazily."""
    return list(itertools.islice(load(name).pairs(split), start, start + count))


@pytest.fixture(scope="module")
def first():
    """The real slice of every problem."""
    return {name: some(name)[0] for name in NAMES}


def test_example_mr_is_the_real_slice():
    image, side = example_mr()
    assert image.shape == (300, 484) and image.dtype == torch.float32
    assert side == pytest.approx(350 / 484)  # a field of view of 350 mm
    assert float(torch.quantile(image.double().flatten(), 0.999)) == pytest.approx(1, abs=1e-6)
    assert float(image.min()) == 0 and float(image.max()) == pytest.approx(1123 / 821.8029, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_single_complex_images_of_maximum_one(first, name):
    (problem, truth), task = first[name], load(name)
    assert (
        problem.batch == () and truth.is_complex() and tuple(truth.shape) == problem.A.in_shape == (192, 192)
    )
    assert float(truth.abs().max()) == pytest.approx(1, abs=1e-6)
    assert problem.A.out_shape[0] == 8 and problem.A.spacing == pytest.approx((task.pixel_size,) * 2)
    assert float(truth.imag.abs().max()) > 0.1 * float(truth.abs().max()), "a phase that is not trivial"


@pytest.mark.parametrize("name", NAMES)
def test_twice_the_same(first, name):
    (problem, truth), (again, same) = first[name], some(name)[0]
    assert torch.equal(problem.y, again.y) and torch.equal(truth, same)
    assert load(name).hash == load(name).hash


def test_all_problems_have_the_same_images(first):
    truths = [truth for _, truth in first.values()]
    assert torch.equal(truths[0], truths[1]) and torch.equal(truths[0], truths[2])
    assert len({load(name).hash for name in NAMES}) == 3


def test_draws_share_truth_and_operator_but_not_noise():
    (a, x), (b, z) = some("mri-4x", count=2)
    assert torch.equal(x, z) and a.A is b.A and not torch.equal(a.y, b.y)


def test_validation_and_test_are_apart():
    ((_, tested),), ((_, tuned),) = some("mri-8x", start=3), some("mri-8x", "validation")
    assert float(psnr(tested.abs(), tuned.abs(), data_range=1.0)) < 25, "another brain"


@pytest.mark.parametrize(("name", "wanted"), [("mri-4x", 4), ("mri-8x", 8)])
def test_acceleration_is_as_named(first, name, wanted):
    A = first[name][0].A
    assert isinstance(A, Sense)
    exact = acceleration(A.mask)
    assert exact == wanted  # 192 lines, 48 and 24 of them
    assert f"acceleration {exact:.3f}" in load(name).notes["sampling"]()
    lines = A.mask.expand(192, 192)[0] != 0
    centre = round((0.08 if wanted == 4 else 0.04) * 192)
    start = (192 - centre + 1) // 2
    assert bool(lines[start : start + centre].all())


def test_spokes_are_those_of_the_golden_angle(first):
    A = first["mri-radial"][0].A
    assert A.out_shape == (8, 48, 384)
    ends = A.trajectory[:, 0]
    angles = torch.atan2(ends[:, 0], ends[:, 1])
    turned = torch.rad2deg(angles.diff()) % 180
    torch.testing.assert_close(turned, torch.full_like(turned, 111.24612), atol=1e-4, rtol=0)
    assert "acceleration 6.28" in load("mri-radial").notes["sampling"]()  # π/2 · 192 / 48


@pytest.mark.parametrize("name", NAMES)
def test_data_lie_within_their_noise_of_the_truth(first, name):
    # χ² per datum of 70 000 complex samples and more has σ < 0.004; the model adds what is beyond the band
    for problem, truth in [first[name], *some(name, "validation")]:
        v = problem.variance
        sampled = torch.isfinite(v)
        square = ((problem.y - problem.A(truth)).abs().square() / v)[sampled]
        assert float(square.mean()) == pytest.approx(1, abs=0.03)
        assert float(signal(truth) / problem.noise.sigma) == pytest.approx(SNR, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_total_variation_beats_what_has_no_prior(first, name):
    problem, truth = first[name]
    radial = name == "mri-radial"
    method = TotalVariation(10.0, 10 if radial else 30, algorithm="admm" if radial else "pdhg")

    def score(method):
        return float(psnr(method(problem).abs(), truth.abs(), data_range=1.0))

    # when written: 24.3 -> 30.8 dB at 4x, 20.1 -> 25.6 at 8x, 28.6 -> 38 with spokes
    assert score(method) > score(ZeroFilled()) + 2.5


def test_scores_are_those_of_fastmri_a_slice_at_a_time(first):
    problem, truth = first["mri-4x"]
    x = ZeroFilled()(problem)
    found, missing = scores(load("mri-4x"), x, truth)
    wanted = preset("fastmri-slice")(x, truth)
    assert not missing
    for key, value in found.items():
        assert value == pytest.approx(float(wanted[key]), rel=1e-6)


def test_training_data_come_from_the_same_scanner(first):
    task, problem = load("mri-8x"), first["mri-8x"][0]
    data = task.data("paired")
    assert torch.equal(data.A.maps, problem.A.maps) and torch.equal(data.A.mask, problem.A.mask)
    batch, truth = next(data.batches(2, torch.Generator().manual_seed(0)))
    assert batch.y.shape == (2, 8, 192, 192) and truth.shape == (2, 192, 192)
    torch.testing.assert_close(truth.abs().amax((-2, -1)), torch.ones(2))
    one, x = data.pair(data.objects(7), 7)
    both, xs = data.pairs([5, 7])
    assert torch.equal(both.y[1], one.y) and torch.equal(xs[1], x)
    assert float(both.noise.sigma[1]) == float(one.noise.sigma)


def test_scanner_needs_one_kind_of_sampling():
    with pytest.raises(ValueError, match="exactly one of mask and trajectory"):
        MRScans((8, 8), 1.0)


def test_gridding_of_a_full_scan_is_the_image():
    from operators import NonUniformSense, radial

    shape, n = (32, 32), 32
    axis = torch.linspace(-1, 1, n, dtype=torch.float64)
    disc = torch.exp(-8 * (axis[:, None] ** 2 + axis**2)).to(torch.complex128)
    maps = torch.stack([torch.ones(shape), 0.5j * torch.ones(shape)]).to(torch.complex128)
    A = NonUniformSense(radial(80, 64), maps)
    for density in ("voronoi", "pipe-menon"):
        x = ZeroFilled(density)(Problem(A, A(disc), Gaussian(sigma=1.0, data_ndim=3)))
        # the disc of k-space lacks the corners, where a Gaussian has nothing
        assert float((x - disc).norm() / disc.norm()) < 0.03


@pytest.fixture
def folder(tmp_path):
    """The layout of /work/shared/data, small: 64 × 48 pixels, 33 slices and one."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:48j]
    head = np.stack([(x**2 + y**2 < 0.8) * (1 + 0.2 * random.random((64, 48))) for _ in range(33)])
    np.savez(tmp_path / HEAD, image=head.astype(np.float32), pixel_spacing_mm=np.float32(3.4))
    np.savez(tmp_path / OTHER, image=np.pad(head[:1], ((0, 0), (0, 0), (8, 8))).astype(np.float32))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_real_slices(folder, name):
    task = load(name, folder)
    assert task.name == f"{name}-scans" and task.hash != load(name).hash
    tested, tuned = task.images("test"), task.images("validation")
    assert (len(tested), len(tuned)) == (len(TEST_SLICES) + 1, len(VALIDATION_SLICES))
    assert all(truth.is_complex() and tuple(truth.shape) == (32, 24) for _, truth in tested + tuned)
    assert tested[0][0].A.spacing == pytest.approx((6.8, 6.8))
    assert min(abs(a - b) for a in TEST_SLICES for b in VALIDATION_SLICES) > 1, "no neighbours"
    again = load(name, folder).images("test")
    assert all(torch.equal(a.y, b.y) for (a, _), (b, _) in zip(tested, again, strict=True))
    assert "Shimron" in task.notes["images"]


def test_what_a_folder_lacks_is_named(folder, tmp_path_factory):
    with pytest.raises(ValueError, match=f"{HEAD}: no such file"):
        load("mri-4x", tmp_path_factory.mktemp("empty"))
    (folder / OTHER).unlink()
    with pytest.raises(ValueError, match=f"{OTHER}: no such file"):
        load("mri-4x", folder)
    np.savez(folder / OTHER, picture=np.zeros((1, 64, 64), np.float32))
    with pytest.raises(ValueError, match="expected arrays image, image is missing"):
        load("mri-4x", folder)
    np.savez(folder / OTHER, image=np.zeros((1, 64, 40), np.float32))
    with pytest.raises(ValueError, match="at least 48 columns"):
        load("mri-4x", folder)
    np.savez(folder / HEAD, image=np.zeros((5, 64, 48), np.float32), pixel_spacing_mm=1.0)
    with pytest.raises(ValueError, match="more than 30 slices, got 5"):
        load("mri-4x", folder)
    np.savez(folder / HEAD, image=np.full((33, 64, 48), np.nan, np.float32), pixel_spacing_mm=1.0)
    with pytest.raises(ValueError, match="finite real slices"):
        load("mri-4x", folder)
