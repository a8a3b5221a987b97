"""Windows, augmentation, patches, shifts, and the training data made of them."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from operators import Identity
from recon import Problem
from recon.data import PairedData, UnpairedData, axial, write_dicom
from recon.data.translation import (
    GREY,
    Augmentation,
    PairedImages,
    UnpairedImages,
    Window,
    barycentre_shift,
    body_mask,
    patchwise,
    phase_shift,
    register,
    resample,
    shifted,
    stackwise,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def identity(problem):
    return problem.y


# --- windows


def test_a_window_and_back():
    window = Window(-1000, 2000)
    x = torch.tensor([-3000.0, -1000, 500, 2000, 2001], dtype=torch.float64)
    assert window(x).tolist() == [-1, -1, 0, 1, 1]
    inside = torch.linspace(-1000, 2000, 301, dtype=torch.float64)
    torch.testing.assert_close(window.back(window(inside)), inside, rtol=0, atol=1e-9)  # rounding of 3000
    assert window.clipped(x) == 2 / 5 and window.back(torch.tensor(1.1)) == pytest.approx(2150)
    assert GREY(torch.tensor([0.0, 255.0])).tolist() == [-1, 1]
    assert Window.parse("−1000, 2000") == window and Window.parse("0,255,grey") == GREY
    for text in ("5", "2,1", "a,b", "1,2,HU,x", "0,inf"):
        with pytest.raises(ValueError, match=r"[Ww]indow"):
            Window.parse(text)


# --- patches


@pytest.mark.parametrize(
    ("shape", "patch", "overlap"),
    [
        ((40, 37), 16, 5),
        ((2, 33, 16), (16, 16), 0),
        ((5, 30, 31), (3, 16, 12), (1, 8, 11)),
        ((7, 9), 16, None),
    ],
)
def test_the_identity_by_patches_changes_nothing(shape, patch, overlap):
    x = torch.randn(shape, generator=generator()) * 1000
    assert torch.equal(patchwise(identity, x, patch, overlap, batch_size=3), x)


def test_patches_meet_without_a_seam():
    # an offset that is constant in a patch: the blend lies between the patches' values everywhere
    numbers = iter(range(100))

    def offset(problem):
        return torch.stack([y + next(numbers) for y in problem.y])

    out = patchwise(offset, torch.zeros(16, 40), (16, 16), 8)
    assert float(out[:, 0].max()) == 0 and float(out[:, -1].min()) == 3
    steps = out[0].diff()
    assert float(steps.min()) >= -1e-6 and float(steps.max()) < 0.25  # a hard cut would step by 1


def test_patches_see_their_own_place():
    x = torch.randn(2, 20, 24, generator=generator())
    seen = []

    def double(problem):
        seen.append(tuple(problem.y.shape))
        return 2 * problem.y

    assert torch.equal(patchwise(double, x, (8, 10), 4, batch_size=5), 2 * x)
    assert sum(s[0] for s in seen) == 2 * 4 * 4 and {s[1:] for s in seen} == {(8, 10)}
    assert math.ceil((20 - 4) / 4) == 4 and math.ceil((24 - 4) / 6) == 4


def test_wrong_patches():
    x = torch.zeros(8, 8)
    for patch, overlap in ((0, None), ((4, 4), 4), ((4, 4, 4), 1), ("x", 0)):
        with pytest.raises((ValueError, TypeError)):
            patchwise(identity, x, patch, overlap)


def test_stacks_keep_their_middle():
    x = torch.randn(5, 4, 3, generator=generator())

    def mean(problem):
        return problem.y.mean(1, keepdim=True).expand(problem.y.shape)

    out = stackwise(mean, x, 3, batch_size=2)
    padded = torch.cat([x[:1], x, x[-1:]])
    torch.testing.assert_close(out, (padded[:-2] + padded[1:-1] + padded[2:]) / 3)
    with pytest.raises(ValueError, match="odd number"):
        stackwise(mean, x, 2)


# --- augmentation


def test_input_and_target_move_alike():
    x = torch.rand(3, 20, 23, generator=generator(), dtype=torch.float64)
    turn = Augmentation(flip=True, flip_rows=True, translate=4, rotate=20, scale=0.2)
    for seed in range(8):
        y, z = turn(x, 2 * x + 1, generator(seed))
        torch.testing.assert_close(z, 2 * y + 1, rtol=0, atol=1e-12)
        again, _ = turn(x, None, generator(seed))
        assert torch.equal(y, again) and y.shape == x.shape and y.dtype == x.dtype


def test_noise_is_on_the_input_alone():
    x = torch.zeros(64, 64)
    y, z = Augmentation(noise=0.1)(x, x, generator())
    assert torch.equal(z, x)
    assert float(y.std()) == pytest.approx(0.1, rel=0.05)  # 4096 draws: 3σ is 3.3 %


def test_flips_and_shifts_are_exact():
    x = torch.rand(9, 11, generator=generator())
    found = {tuple(Augmentation(flip=True)(x, None, generator(s))[0].flatten().tolist()) for s in range(20)}
    assert found == {tuple(v.flatten().tolist()) for v in (x, x.flip(-1))}
    moved = [Augmentation(translate=2)(x, None, generator(s))[0] for s in range(60)]
    places = {
        (dy, dx)
        for m in moved
        for dy in range(-2, 3)
        for dx in range(-2, 3)
        if torch.equal(m[3:6, 3:8], x[3 - dy : 6 - dy, 3 - dx : 8 - dx])
    }
    assert all(torch.isin(m, x).all() for m in moved)
    assert {p[0] for p in places} == {p[1] for p in places} == set(range(-2, 3))


def test_a_quarter_turn_is_a_quarter_turn():
    from recon.data.translation.augment import _turned

    x = torch.rand(12, 12, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(_turned(x, math.pi / 2, 1.0), x.rot90(1), rtol=0, atol=1e-12)
    # twice as large about the middle: the smooth ramp has half the slope, away from the edge
    ramp = torch.arange(12.0, dtype=torch.float64).expand(12, 12).contiguous()
    torch.testing.assert_close(_turned(ramp, 0.0, 2.0)[:, 1:-1].diff().mean(), torch.tensor(0.5).double())


def test_an_oblong_image_keeps_its_shape_when_turned():
    from recon.data.translation.augment import _turned

    y, x = torch.meshgrid(torch.arange(31.0) - 15, torch.arange(41.0) - 20, indexing="ij")
    disc = torch.exp(-(x**2 + y**2) / 20)
    torch.testing.assert_close(_turned(disc, 0.5, 1.0), disc, rtol=0, atol=0.02)  # of bilinear interpolation


def test_wrong_augmentations():
    for wrong in ({"translate": 1.5}, {"rotate": -1}, {"scale": 1.0}, {"noise": math.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Augmentation(**wrong)


# --- shifts, masks, spacing


def blobs(shape=(48, 56)):
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    grid = torch.meshgrid(*axes, indexing="ij")
    centres = [[0.4, 0.5, 0.45], [0.6, 0.35, 0.6], [0.55, 0.6, 0.4]]
    return sum(
        torch.exp(-sum((g - c * n) ** 2 for g, c, n in zip(grid, centre, shape, strict=False)) / 18)
        for centre in centres
    )


@pytest.mark.parametrize(
    ("shape", "shift"), [((48, 56), (5, -3)), ((48, 56), (0, 0)), ((20, 32, 32), (2, -4, 6))]
)
def test_whole_shifts_are_found_by_phase(shape, shift):
    x = blobs(shape)
    moved = torch.roll(x, shift, tuple(range(len(shape))))
    found = phase_shift(moved, x)
    assert found == pytest.approx(shift, abs=0.3)  # the parabola gives a part of a pixel
    assert tuple(round(v) for v in found) == shift


def test_barycentres_do_not_mind_the_contrast():
    x = blobs()
    moved = torch.roll(x, (4, -6), (0, 1))
    assert barycentre_shift(3 * moved, x + 0.01 * x**2, 0.2) == pytest.approx((4, -6), abs=0.5)
    back, shift = register(moved, x, "barycentre", 0.2)
    assert shift == (4, -6)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-4)  # what is left of the blobs at the edge
    with pytest.raises(ValueError, match="nothing of the image"):
        barycentre_shift(x, x, 100.0)
    with pytest.raises(ValueError, match="the same everywhere"):
        phase_shift(torch.ones(8, 8), x[:8, :8])


def test_a_shift_by_halves_is_the_mean():
    x = torch.rand(6, 7, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(shifted(x, (0.5, 0.0))[1:], (x[1:] + x[:-1]) / 2)
    assert torch.equal(shifted(x, (2.0, 0.0), fill=-1.0)[:2], torch.full((2, 7), -1.0).double())


def test_the_body_is_one_piece_without_holes():
    hu = torch.full((20, 20), -1000.0)
    hu[4:16, 4:16] = 40
    hu[8:11, 8:11] = -900  # lung
    hu[1, 1] = 100  # table
    mask = body_mask(hu)
    assert int(mask.sum()) == 144 and bool(mask[9, 9]) and not bool(mask[1, 1])
    assert not bool(body_mask(torch.full((2, 5, 5), -1000.0)).any())


def test_a_coarser_grid_takes_means_and_stays_in_place():
    hu = torch.rand(4, 6, 8, generator=generator())
    volume = axial(hu, (1.0, 0.5, 0.5), (3.0, -2.0, 10.0))
    coarse = resample(volume, (2.0, 1.0, 1.0))
    torch.testing.assert_close(coarse.hu, hu.reshape(2, 2, 3, 2, 4, 2).mean((1, 3, 5)))
    assert coarse.spacing == pytest.approx((2, 1, 1))
    np.testing.assert_allclose(coarse.affine @ [0, 0, 0, 1], [3.25, -1.75, 10.5, 1])
    fine = resample(axial(torch.arange(6.0).expand(1, 1, 6).contiguous(), (1, 1, 1)), (1.0, 1.0, 0.5))
    torch.testing.assert_close(fine.hu[0, 0, 1:-1], (torch.arange(1, 11) + 0.5) / 2 - 0.5)


# --- training data


def folders(path, patients=4, slices=3, size=12, side=1.0, kind="png"):
    """A/p0/0.png …, B alike with other values; every image has its own grey value in its corner."""
    for p in range(patients):
        for k in range(slices):
            base = np.add.outer(np.arange(size), np.arange(size)) + 30 * p + 5 * k
            for name, values in (("A", base), ("B", base + side)):
                folder = path / name / f"p{p}"
                folder.mkdir(parents=True, exist_ok=True)
                if kind == "png":
                    Image.fromarray(values.astype(np.uint8)).save(folder / f"{k}.png")
                else:
                    np.save(folder / f"{k}.npy", values * 10.0 - 1000)
    return path / "A", path / "B"


def test_pairs_from_folders(tmp_path):
    data = PairedImages.folders(*folders(tmp_path), 0.25)
    assert isinstance(data, PairedData) and data.train_size == 9 and data.A.in_shape == (12, 12)
    problem, truth = data.validation
    assert isinstance(problem, Problem) and isinstance(problem.A, Identity) and problem.y.shape == (3, 12, 12)
    torch.testing.assert_close(truth, problem.y + 1, rtol=0, atol=0)
    batch, target = next(data.batches(4, generator()))
    torch.testing.assert_close(target, batch.y + 1, rtol=0, atol=0)
    assert len({float(v) for v in batch.y[:, 0, 0]}) == 4
    again, _ = next(data.batches(4, generator()))
    assert torch.equal(batch.y, again.y)
    assert data.about["patients_by"] == ["folder"] and data.seeds == "9 files of 3 patients"
    held = {float(v) // 30 for v in problem.y[:, 0, 0]}
    assert len(held) == 1 and held.isdisjoint({float(v) // 30 for v in data.train[0].y[:, 0, 0]})


def test_augmented_batches_are_decided_by_the_generator(tmp_path):
    turn = Augmentation(flip=True, translate=2, rotate=10, scale=0.1)
    data = PairedImages.folders(
        *folders(tmp_path), 0.25, augmentation=turn, crop=8, window=Window(0, 255, "grey")
    )
    state = generator(3)
    first, target = next(data.batches(5, state))
    at = state.get_state()
    following, _ = next(data.batches(5, state))
    resumed = generator()
    resumed.set_state(at)
    assert torch.equal(next(data.batches(5, resumed))[0].y, following.y)
    assert first.y.shape == (5, 8, 8) and float(first.y.abs().max()) <= 1
    torch.testing.assert_close(target, first.y + 2 / 255, rtol=0, atol=1e-5)  # one grey value, in the window
    assert torch.equal(data.validation[0].y, data.validation[0].y.clone())
    assert data.about["windows"][0] == {"low": 0, "high": 255, "unit": "grey"}


def test_no_room_in_memory_changes_nothing(tmp_path):
    paths = folders(tmp_path)
    rich, poor = (PairedImages.folders(*paths, 0.25, memory=m) for m in (2**20, 0))
    assert torch.equal(next(rich.batches(6, generator(1)))[0].y, next(poor.batches(6, generator(1)))[0].y)


def test_stacks_are_neighbours_of_one_patient(tmp_path):
    data = PairedImages.folders(*folders(tmp_path), 0.25, stack=3)
    assert data.A.in_shape == (3, 12, 12)
    problem, _ = data.train
    steps = problem.y[:, :, 0, 0].diff(dim=1)
    assert set(steps.flatten().tolist()) == {0.0, 5.0}  # neighbours differ by 5, repeated ends by 0
    with pytest.raises(ValueError, match="odd number"):
        PairedImages.folders(*folders(tmp_path), stack=2)


def test_volumes_and_their_crops(tmp_path):
    for name, side in (("A", 0), ("B", 1)):
        (tmp_path / name).mkdir()
        for p in range(3):
            np.save(
                tmp_path / name / f"{p}.npy", np.arange(4 * 6 * 6).reshape(4, 6, 6) * 2.5 + 1000 * p + side
            )
    data = PairedImages.folders(tmp_path / "A", tmp_path / "B", 0.3, volumes=True, crop=(2, 4, 4))
    batch, target = next(data.batches(2, generator()))
    assert batch.y.shape == (2, 2, 4, 4) and batch.A.in_shape == (2, 4, 4)
    torch.testing.assert_close(target, batch.y + 1, rtol=0, atol=0)
    assert data.about["patients_by"] == ["file"]
    slices = PairedImages.folders(tmp_path / "A", tmp_path / "B", 0.3, stack=3)
    assert slices.train_size == 8 and slices.A.in_shape == (3, 6, 6)


def test_kajis_folders_and_lists(tmp_path):
    a, b = folders(tmp_path)
    a.rename(tmp_path / "trainA"), b.rename(tmp_path / "trainB")
    data = PairedImages.root(tmp_path, swap=True, validation=0.25)
    problem, truth = data.validation
    torch.testing.assert_close(truth, problem.y - 1, rtol=0, atol=0)
    rows = [f"trainA/p{p}/0.png\ttrainB/p{p}/0.png" for p in range(4)]
    (tmp_path / "train.txt").write_text("\n".join(rows[:3]))
    (tmp_path / "val.txt").write_text(rows[3])
    listed = PairedImages.listed(tmp_path / "train.txt", tmp_path / "val.txt")
    assert listed.train_size == 3 and float(listed.validation[0].y[0, 0, 0]) == 90
    (tmp_path / "testA").mkdir()
    with pytest.raises(ValueError, match="no trainA there"):
        PairedImages.root(tmp_path / "testA")


def test_what_cannot_be_learned_from(tmp_path):
    a, b = folders(tmp_path)
    with pytest.raises(ValueError, match="expected HU, got 8-bit grey"):
        PairedImages.folders(a, b, window=Window(-1000, 2000))
    with pytest.raises(ValueError, match="1 image of 1 patient cannot make 2 parts"):
        PairedImages([(a / "p0/0.png", b / "p0/0.png")])
    with pytest.raises(ValueError, match="training images are \\(12, 12\\), validation"):
        Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "small.png")
        PairedImages.folders(a, b, (tmp_path / "small.png", tmp_path / "small.png"))
    with pytest.raises(ValueError, match="does not fit into 12 × 12"):
        PairedImages.folders(a, b, crop=16)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(b / "p0/0.png")
    with pytest.raises(ValueError, match=r"a pair must have one size, got .*0.png 12 × 12 and .*0.png 5 × 5"):
        PairedImages.folders(a, b)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(a / "p0/0.png")
    with pytest.raises(ValueError, match=r"mixed sizes, 5 × 5 .* and 12 × 12"):
        PairedImages.folders(a, b)
    with pytest.raises(ValueError, match=r"patient 'p1' .* is in two parts"):
        PairedImages([(a / "p1/0.png", b / "p1/0.png")], [(a / "p1/1.png", b / "p1/1.png")], root=a)
    np.save(a / "p0/0.npy", np.full((12, 12), np.nan))
    with pytest.raises(ValueError, match="expected finite values"):
        PairedImages([(a / "p0/0.npy", b / "p1/0.png"), (a / "p2/0.png", b / "p2/0.png")])


def test_one_side_has_one_modality(tmp_path):
    import shutil

    from pydicom.data import get_testdata_file

    for name in "AB":
        (tmp_path / name).mkdir()
        for modality in ("CT", "MR"):
            shutil.copy(get_testdata_file(f"{modality}_small.dcm", download=False), tmp_path / name)
    with pytest.raises(ValueError, match=r"must be of one modality, got CT .* and MR"):
        PairedImages.folders(tmp_path / "A", tmp_path / "B", 0.5, crop=32)


def test_a_dicom_series_at_another_pixel_size(tmp_path):
    for p in range(3):
        for name, add in (("A", 0.0), ("B", 10.0)):
            hu = torch.arange(2 * 8 * 8).reshape(2, 8, 8).float() * 2 + add + p
            write_dicom(axial(hu, (2.0, 0.5, 0.5)), tmp_path / name / f"p{p}", "x")
    data = PairedImages.folders(tmp_path / "A", tmp_path / "B", 0.34, spacing=1.0, window=Window(-1000, 1000))
    assert data.A.in_shape == (4, 4) and data.about["modalities"] == [["CT"], ["CT"]]
    problem, truth = data.validation
    torch.testing.assert_close(truth, problem.y + 0.01, rtol=0, atol=1e-5)  # 10 of 1000 HU a unit
    few = PairedImages.folders(tmp_path / "A", tmp_path / "B", 0.34, between=(-10.0, 0.0))
    assert few.train_size == 2


# --- unpaired


def test_pairs_as_unpaired_images_share_no_patient(tmp_path):
    data = PairedImages.folders(*folders(tmp_path, patients=5), 0.2)
    apart = data.unpaired()
    assert isinstance(apart, UnpairedData) and isinstance(apart, UnpairedImages)
    problem, images = next(apart.batches(6, generator()))
    inputs = {float(v) // 30 for v in problem.y[:, 0, 0]}
    assert inputs.isdisjoint({float(v - 1) // 30 for v in images[:, 0, 0]})
    torch.testing.assert_close(apart.validation[1], data.validation[1])
    hidden = data.measurements()
    assert bool(next(hidden.batches(2, generator()))[1].isnan().all())


def test_unpaired_folders(tmp_path):
    a, b = folders(tmp_path)
    for path in b.rglob("*.png"):
        path.rename(path.with_name(f"x{path.name}"))
    data = UnpairedImages.folders(a, b, 0.25, augmentation=Augmentation(flip=True, noise=0.5))
    problem, images = next(data.batches(20, generator()))
    assert len(problem.y) == len(images) == 9 and not data.paired_validation
    assert bool(data.validation[1].isnan().all()) and data.of_kind("unpaired") is data
    # noise is the input's
    assert torch.equal(images, images.round()) and not torch.equal(problem.y, problem.y.round())
    with pytest.raises(ValueError, match="learns from paired data"):
        data.of_kind("paired")
    assert data.train_size == 9 and data.seeds == "9 files of 3 patients and 12 files of 4 patients"
    a2, b2 = folders(tmp_path / "test", patients=1)
    scored = UnpairedImages.folders(a, b, (a2, b2))
    assert scored.paired_validation
    torch.testing.assert_close(scored.validation[1], scored.validation[0].y + 1)


def test_unpaired_slices_between_two_heights(tmp_path):
    for name, patients in (("A", (0, 1, 2)), ("B", (3, 4)), ("D", (5,))):
        for p in patients:
            hu = torch.rand((4, 8, 8), generator=generator(p))
            write_dicom(hu, tmp_path / name / f"p{p}", "x", spacing=(2.0, 1.0, 1.0))
    data = UnpairedImages.folders(tmp_path / "A", tmp_path / "B", 1 / 3, between=(1.0, 5.0))
    assert data.train_size == 4 and len(data.sides[1]) == 4 and len(data.held) == 2
    scored = UnpairedImages.folders(
        tmp_path / "A", tmp_path / "B", (tmp_path / "D", tmp_path / "D"), between=(1.0, 5.0)
    )
    assert scored.paired_validation and len(scored.held) == 2


def test_paired_validation_of_unpaired_images_shares_no_patient(tmp_path):
    a, b = folders(tmp_path)
    with pytest.raises(ValueError, match="in two parts"):
        UnpairedImages.folders(a, b, (a, b), patient=lambda path: path.parent.name)
