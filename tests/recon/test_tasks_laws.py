"""Translation tasks: what each simulator promises, and that its parts are apart."""

import math

import pytest
import torch

from operators import Downsample, Identity, LowDose, Rician, sigma_hu_water, thin_counts
from recon.comparison.describe import fingerprint
from recon.comparison.translation import _configuration
from recon.data.heads import MU_WATER
from recon.data.sets import TEST, TRAIN, VALIDATION, UnpairedData
from recon.data.tasks import (
    TASKS,
    ContrastPairs,
    CountPairs,
    InpaintingPairs,
    LowDosePairs,
    Modality,
    MotionPairs,
    PatientSlices,
    SparseViewPairs,
    SuperResolutionPairs,
    SynthesisPairs,
    ambiguous,
    holes,
    stored_slices,
    task_geometry,
)
from recon.data.tasks.contrast import HU, modality
from recon.data.tasks.slices import on_field, part_of

SMALL = {"size": 32, "validation_size": 2, "test_size": 2, "train_size": 4}


@pytest.fixture(scope="module")
def small():
    """Every task at 32², made once."""
    return {name: make(**SMALL) for name, make in TASKS.items()}


@pytest.mark.parametrize("name", TASKS)
def test_seeds_reproduce_alone_and_in_a_batch(small, name):
    data = small[name]
    assert data.name == name
    problem, truth = data.pairs([5, TRAIN])
    again, same = TASKS[name](**SMALL).pairs([TRAIN])
    assert torch.equal(problem.y[1], again.y[0]) and torch.equal(truth[1], same[0])
    assert truth.shape == (2, 32, 32) and truth.dtype == problem.y.dtype == torch.float32
    assert problem.A.in_shape == (32, 32) and problem.A is data.A
    assert torch.isfinite(problem.y).all() and torch.isfinite(truth).all()


@pytest.mark.parametrize("name", TASKS)
def test_parts_share_no_image(small, name):
    data = small[name]
    (_, train), (_, validation), (_, test) = data.train, data.validation, data.test
    assert [len(part) for part in (train, validation, test)] == [4, 2, 2]
    for a, b in ((train, validation), (train, test), (validation, test)):
        assert not any(torch.equal(one, two) for one in a for two in b)


@pytest.mark.parametrize("name", TASKS)
def test_unpaired_images_are_others_than_the_data_s(small, name):
    data = small[name].unpaired()
    assert isinstance(data, UnpairedData)
    problem, images = data.train
    whole = small[name].train
    assert torch.equal(problem.y, whole[0].y[:2]) and torch.equal(images, whole[1][2:])
    first = next(data.batches(2, torch.Generator().manual_seed(0)))
    again = next(data.batches(2, torch.Generator().manual_seed(0)))
    assert torch.equal(first[0].y, again[0].y) and torch.equal(first[1], again[1])


def test_low_dose_noise_is_as_stated():
    """Of water, σ in the middle by many draws is `sigma_water`, which `sigma_hu_water` says as well."""
    side = torch.arange(128) - 63.5
    water = MU_WATER * ((side[:, None] ** 2 + side**2) * (220 / 128) ** 2 < 100**2).float()
    data = LowDosePairs(lambda seed: water, 32, sigma_water=40.0, views=60, validation_size=1, test_size=1)
    assert sigma_hu_water(data.geometry, data.noise) == pytest.approx(40.0, rel=1e-6)
    problem, truth = data.pairs(range(40))
    assert isinstance(data.noise, LowDose) and float(problem.noise.sigma[0]) == pytest.approx(
        0.04 * MU_WATER, rel=1e-6
    )
    middle = 1000 / MU_WATER * problem.y[:, 13:19, 13:19].double()
    # 40 draws of 36 pixels, neighbours anti-correlated: σ to some 3 %, 12 % is four times that
    assert float(middle.std(0).square().mean().sqrt()) == pytest.approx(40.0, rel=0.12)
    # unbiased: the mean of them is water, to the noise of the mean (40 HU / √(36 · 40) = 1 HU) and the
    # partial volumes of coarse bins
    assert float(middle.mean()) == pytest.approx(1000.0, abs=8)
    assert float(truth[0, 16, 16]) == pytest.approx(MU_WATER, rel=1e-5)


def test_few_views_keep_the_photons_of_a_ray():
    a, b = (SparseViewPairs(size=32, views=v) for v in (15, 31))
    assert a.noise.i0 == pytest.approx(b.noise.i0) and a.A.out_shape == (15, 48)
    full = LowDose(i0=a.noise.i0, electronic_sigma=3.0)
    assert sigma_hu_water(task_geometry(32), full) == pytest.approx(5.0, rel=1e-6)


def test_geometry_sees_the_whole_circle():
    g = task_geometry(64, 500.0)
    reach = (g.n_bins - 1) / 2 * g.bin_size / g.source_to_detector
    assert math.sin(reach) * g.source_to_centre == pytest.approx(250.0)
    with pytest.raises(ValueError, match="field"):
        task_geometry(64, 2000.0)


def test_head_at_rest_is_the_truth():
    """Zero motion, no noise: input and truth are one image, to the rounding of complex64."""
    problem, truth = MotionPairs(translation=0.0, rotation=0.0, snr=None, **SMALL).pairs([3, TEST])
    torch.testing.assert_close(problem.y, truth, rtol=1e-4, atol=2e-6)


def test_motion_spoils():
    still, moved = (
        MotionPairs(translation=t, rotation=0.0, snr=None, kinds=("step",), **SMALL) for t in (0.0, 6.0)
    )
    (rest, truth), (problem, same) = still.pairs([3]), moved.pairs([3])
    torch.testing.assert_close(truth, same, rtol=1e-4, atol=2e-6)
    assert float((problem.y - truth).abs().max()) > 100 * float((rest.y - truth).abs().max())


@pytest.mark.parametrize("kind", ["step", "drift", "periodic"])
def test_the_truth_is_where_the_middle_of_k_space_saw_the_head(kind):
    """Else input and truth would be shifted by what nobody who sees the input can know."""
    data = MotionPairs(kinds=(kind,), translation=3.0, rotation=0.05, **SMALL)
    found = [data.motion(seed) for seed in range(20)]
    middle = int(data.shots[16, 0])
    for motion in found:
        assert not motion.translations[middle].any() and not motion.rotations[middle]
        assert motion.translations.abs().max() <= 3.0 + 1e-9 and motion.rotations.abs().max() <= 0.05 + 1e-9
    assert all(motion.translations.any() for motion in found)


def test_motion_s_noise_is_as_stated():
    """Where |x| is bright, |x + n| has the standard deviation σ/√2 of n along x."""
    quiet, noisy = (MotionPairs(translation=0.0, rotation=0.0, snr=s, **SMALL) for s in (None, 20.0))
    (clean, _), (problem, truth) = quiet.pairs(range(4)), noisy.pairs(range(4))
    ratio = (problem.y - clean.y) / problem.noise.sigma[:, None, None].float()
    # some 1200 bright pixels: 2 % of σ
    assert float(ratio[truth > 0.25].std()) == pytest.approx(1.0, rel=0.08)


def test_thinned_counts_are_poisson_of_a_quarter():
    """Mean and variance of Binomial(Poisson(m), a) are a m; and kept and left counts are independent."""
    mean = torch.full((200, 200), 30.0, dtype=torch.float64)
    whole = torch.poisson(mean, generator=torch.Generator().manual_seed(0))
    kept = thin_counts(whole, 0.25, seed=1)
    left = whole - kept
    # 40 000 draws: standard error of the mean √(7.5/40000) = 0.014, of the variance 7.5 √(2/40000) = 0.053
    assert float(kept.mean()) == pytest.approx(7.5, abs=0.06)
    assert float(kept.var()) == pytest.approx(7.5, abs=0.25)
    correlation = float(torch.corrcoef(torch.stack([kept.flatten(), left.flatten()]))[0, 1])
    assert abs(correlation) < 0.02  # 4/√40000


def test_pet_expects_the_stated_counts():
    data = CountPairs(counts=2e5, background=0.5, **SMALL)
    mean, A, s, b, activity = data.expected(4)
    assert float(mean.double().sum()) == pytest.approx(3e5, rel=1e-5)
    assert b * mean.numel() == pytest.approx(1e5) and float(mean.min()) >= b * (1 - 1e-6)
    # the image of the expected counts is the activity but for the resolution of the scanner
    image = data._image(A, mean.double(), s, b)
    assert float(image.sum()) == pytest.approx(float(activity.sum()), rel=0.03)


def test_a_quarter_of_the_counts_has_four_times_the_variance():
    data, full = (CountPairs(share=a, lesions=0, **SMALL) for a in (0.25, 0.999))
    quarter, whole = data.pairs(range(6))[0].noise.sigma, full.pairs(range(6))[0].noise.sigma
    ratio = (quarter.double() / whole.double()).square().mean()
    # six images of 1024 correlated pixels each
    assert float(ratio) == pytest.approx(4.0, rel=0.15)


def test_pet_target_is_activity_or_all_counts():
    activity, full = (CountPairs(target=t, counts=1e9, **SMALL).pairs([7]) for t in ("activity", "full"))
    assert torch.equal(activity[0].y, full[0].y) and not torch.equal(activity[1], full[1])
    # so many counts that all of them and a quarter make one image
    torch.testing.assert_close(full[1], full[0].y, rtol=0, atol=0.02)
    with pytest.raises(ValueError, match="target"):
        CountPairs(target="counts")


@pytest.mark.parametrize("source", ["t1", "t2", "pd", "flair", "t2-star", "pet", "ct"])
def test_the_table_is_invertible_where_tissues_differ(source):
    a, b = modality(source), modality("ct")
    alike = set().union(*ambiguous(a))
    back = {value: tissue for tissue, value in a.values.items() if tissue not in alike}
    assert len(back) == len(a.values) - len(alike)
    for tissue in set(a.values) - alike:
        assert b.values[back[a.values[tissue]]] == pytest.approx(MU_WATER * (1 + HU[tissue] / 1000))
    # FLAIR is made to null liquor
    groups = {"ct": set(), "pet": {"air", "csf"}, "flair": {"air", "bone", "csf"}}
    assert alike == groups.get(source, {"air", "bone"})


def test_pure_pixels_are_mapped_exactly():
    """Without texture, blur and noise, a pixel of one tissue has its values in both images."""
    bare = {n: Modality(modality(n).values, dict.fromkeys(HU, 0.0)) for n in ("t1", "ct")}
    data = ContrastPairs(bare["t1"], bare["ct"], matched=False, name="bare", **SMALL)
    shares = data.shares(2)
    assert float((sum(shares.values()) - 1).abs().max()) < 1e-6
    problem, truth = data.pairs([2])
    seen = 0
    for tissue, share in shares.items():
        pure = share > 1 - 1e-6
        seen += int(pure.sum())
        for image, table in ((problem.y[0], bare["t1"]), (truth[0], bare["ct"])):
            torch.testing.assert_close(
                image[pure], torch.full_like(image[pure], table.values[tissue]), rtol=1e-4, atol=1e-6
            )
    assert seen > 300
    torch.testing.assert_close(data.best(2), truth[0])
    assert data.floor(2) == 0
    matched = ContrastPairs(bare["t1"], bare["ct"], name="bare", **SMALL)
    torch.testing.assert_close(matched.pairs([2])[0].y * bare["t1"].top, problem.y * bare["ct"].top)
    assert matched.source.top == pytest.approx(bare["ct"].top)


def test_best_image_has_the_stated_error():
    data = ContrastPairs("t1", "ct", correlation=0.6, **SMALL)
    seeds = range(16)
    truth = data.pairs(seeds)[1].double()
    best = torch.stack([data.best(s) for s in seeds]).double()
    floor = torch.tensor([data.floor(s) for s in seeds]).double()
    error = (best - truth).square().mean((-2, -1))
    # mean over 16 heads of a field correlated over 20 mm, some 100 independent patches each
    assert float((error / floor**2).mean()) == pytest.approx(1.0, rel=0.15)
    # E[x | s, t]: the error is uncorrelated with the best image's own texture
    shrunk = 0.98 * best
    assert float((shrunk - truth).square().mean()) > float(error.mean())


def test_noise_of_the_source_is_rician():
    """Air has the mean σ √π/2 of a Rayleigh magnitude, E|n|² = σ², and is never negative."""
    data = ContrastPairs("t1", "ct", **SMALL)
    problem, _ = data.pairs(range(6))
    air = torch.cat(
        [p[s["air"] > 1 - 1e-9] for p, s in zip(problem.y, map(data.shares, range(6)), strict=True)]
    )
    sigma = data.source.noise
    # some 2500 pixels, standard error 1.0 % of the mean
    assert float(air.mean()) == pytest.approx(sigma * math.sqrt(math.pi) / 2, rel=0.06)
    assert float(problem.y.min()) >= 0 and Rician(sigma).sigma == sigma


def test_super_resolution_has_block_means():
    data = SuperResolutionPairs(2, sigma=1e-9, **SMALL)
    problem, truth = data.pairs([1])
    blocks = truth.unflatten(-1, (16, 2)).unflatten(-3, (16, 2)).mean((-1, -3))
    torch.testing.assert_close(problem.y, blocks, rtol=1e-5, atol=1e-7)
    A = Downsample((7, 5), 3)
    assert A.out_shape == (3, 2) and A.norm() == pytest.approx(1 / math.sqrt(2))
    x = torch.ones(7, 5, dtype=torch.float64)
    torch.testing.assert_close(A(x), torch.ones(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="factor"):
        Downsample((7, 5), 6)


def test_inpainting_hides_what_is_in_the_holes():
    data = InpaintingPairs(sigma=1e-9, share=0.3, **SMALL)
    problem, truth = data.pairs([1])
    kept = holes((32, 32), 0.3)
    assert 0.3 <= float((~kept).float().mean()) < 0.45
    assert float(problem.y[0][~kept].abs().max()) < 1e-7
    torch.testing.assert_close(problem.y[0][kept], truth[0][kept], rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="share"):
        holes((8, 8), 1.0)


def test_latent_of_synthesis_is_white_and_knows_nothing():
    data = SynthesisPairs(size=32)
    problem, truth = data.pairs(range(8))
    assert float(problem.y.mean()) == pytest.approx(0, abs=0.05) and float(problem.y.std()) == pytest.approx(
        1, abs=0.05
    )
    pair = torch.stack([problem.y.flatten(), truth.flatten()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.05  # 8192 pixels: 4.5 standard errors
    torch.testing.assert_close(data.images_of([3]), truth[3:4])
    assert isinstance(data.A, Identity)


def patients(**names):
    slices = {part: [torch.zeros(8, 8) + k for k in range(len(who))] for part, who in names.items()}
    return PatientSlices(slices, {part: list(who) for part, who in names.items()}, 100.0)


def test_patients_are_kept_apart():
    found = patients(train="aab", validation="c", test="dd")
    assert [int(found(TRAIN + k)[0, 0]) for k in range(4)] == [0, 1, 2, 0]
    assert (
        found.sizes == {"train_size": 3, "validation_size": 1, "test_size": 2}
        and part_of(TEST + 1) == ("test", 1)
        and part_of(VALIDATION) == ("validation", 0)
    )
    for names in (
        {"train": "ab", "validation": "b", "test": "c"},
        {"train": "ab", "validation": "c", "test": "a"},
        {"train": "ab", "validation": "c", "test": "c"},
    ):
        with pytest.raises(ValueError, match="split by patient"):
            patients(**names)
    with pytest.raises(ValueError, match="validation"):
        patients(train="a", test="b")


def test_stored_slices_keep_their_millimetres(tmp_path):
    import numpy as np

    for k, name in enumerate(("ct_train256", "ct_abdomen_totalseg", "ct_chest_lidc0001")):
        hu = np.full((2, 40, 40), 0, dtype=np.int16)
        np.savez(tmp_path / f"{name}.npz", hu=hu, pixel_spacing_mm=np.float64(2.0), subject=np.array(f"p{k}"))
    found = stored_slices(tmp_path, 16, field=100.0)
    image = found(TRAIN)
    assert image.shape == (50, 50) and float((image > 0).double().sum() * 4) == pytest.approx(80.0**2)
    data = LowDosePairs(found, 16, 100.0, 30, validation_size=2, test_size=2, train_size=2)
    problem, truth = data.train
    assert float(truth[0, 8, 8]) == pytest.approx(MU_WATER) and problem.y.shape == (2, 16, 16)
    assert not torch.equal(problem.y[0], problem.y[1])
    # a slice that no first image shows makes another problem of it
    found.slices["test"][1][3, 3] += 0.01
    other = LowDosePairs(
        stored_slices(tmp_path, 16, field=100.0), 16, 100.0, 30, validation_size=2, test_size=2, train_size=2
    )
    assert _configuration(data)["seen"] == _configuration(other)["seen"]
    assert fingerprint(_configuration(data)) != fingerprint(_configuration(other))
    with pytest.raises(ValueError, match="ct_train256"):
        stored_slices(tmp_path / "none", 16)
    assert on_field(torch.ones(11, 11), 1.0, 8.0).shape == (8, 8)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LowDosePairs(test_size=0), "test_size"),
        (lambda: MotionPairs(kinds=("jump",)), "kinds"),
        (lambda: MotionPairs(translation=-1.0), "translation"),
        (lambda: CountPairs(lesions=-1), "lesions"),
        (lambda: CountPairs(share=1.0), "share"),
        (lambda: ContrastPairs("us", "ct"), "modality"),
        (lambda: ContrastPairs(correlation=2.0), "correlation"),
    ],
)
def test_bad_input_is_told(make, says):
    with pytest.raises(ValueError, match=says):
        make()
