"""`recon train --paired`, `recon translate`: every kind of file, geometry of DICOM, resume, failures."""

import json
import shutil

import numpy as np
import pydicom
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from pydicom.data import get_testdata_file

from recon.base import Reconstructor
from recon.cli import main
from recon.data import axial, read_dicom, read_nifti, read_series, write_dicom, write_nifti
from recon.data.translation import PairedImages, Translation, UnpairedImages, Window, read_picture
from recon.data.volumes import Volume

N = 16


def recon(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def field(nz=1, n=N, seed=0):
    """Smooth HU, from −1000 to 400."""
    noise = torch.rand((nz, 4, 4), generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(noise[:, None], (n, n), mode="bilinear")[:, 0]
    return (1400 * fine - 1000).round()


def placed(hu, spacing=(2.0, 0.5, 0.5)):
    """An oblique stack away from the origin."""
    affine = axial(hu, spacing, (3.0, -20.0, 100.0)).affine
    c, s = np.cos(0.2), np.sin(0.2)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    return Volume(hu, turn @ affine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CT/p0 …: series of two slices; target 100 HU higher."""
    root = tmp_path_factory.mktemp("pairs")
    for p in range(4):
        for name, add in (("A", 0.0), ("B", 100.0)):
            write_dicom(placed(field(2, seed=p) + add), root / name / f"p{p}", "x")
    return root


def learn(folder, out, *options):
    return recon(
        "train",
        "fbp-unet",
        "--paired",
        folder / "A",
        folder / "B",
        *(
            "--steps",
            3,
            "--set",
            "base=4",
            "--set",
            "depth=2",
            "--set",
            "batch_size=2",
            "--full",
            "--out",
            out,
        ),
        *options,
    )


@pytest.fixture(scope="module")
def weights(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("weights")
    done = learn(folder, out, "--data", "window=-1000,1000", "--data", "flip=true")
    assert done.exit_code == 0, done.output
    return out / "fbp-unet-a-to-b"


@pytest.fixture(scope="module")
def deep(folder, tmp_path_factory):
    """Of stacks of three slices."""
    out = tmp_path_factory.mktemp("deep")
    done = learn(folder, out, "--data", "stack=3", "--data", "unit=HU")
    assert done.exit_code == 0, done.output
    return out / "fbp-unet-a-to-b"


def translated(weights, values):
    return Translation(Reconstructor.load(weights))(values).values


def test_the_card_knows_the_window_and_the_command(weights, folder):
    card = json.loads(weights.with_suffix(".json").read_text())
    images = card["training"]["images"]
    assert images["windows"] == [{"low": -1000.0, "high": 1000.0, "unit": "HU"}] * 2
    assert images["modalities"] == [["CT"], ["CT"]] and images["training"] == 6 and images["validation"] == 2
    assert "3 patients" in images["seeds"] and images["patients_by"] == ["folder"]
    words = card["training"]["command"].split()
    assert words[:4] == ["recon", "train", "fbp-unet", "--paired"] and "--problem" not in words
    assert "window=-1000,1000" in words and card["trained_for"]["in_shape"] == [N, N]


def test_a_folder_of_dicom_keeps_its_geometry(tmp_path, weights, folder):
    done = recon("translate", folder / "A", tmp_path / "out", "--weights", weights)
    assert done.exit_code == 0, done.output
    assert "images per second" in done.output and "8 images" in done.output
    for p in range(4):
        (before,), (after,) = read_series(folder / f"A/p{p}"), read_series(tmp_path / f"out/p{p}")
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-6)
        assert [f.name for f in after.files] == [f.name for f in before.files]
        torch.testing.assert_close(after.hu, translated(weights, before.hu), rtol=0, atol=0.501)  # whole HU
        a, b = (pydicom.dcmread(s.files[0]) for s in (before, after))
        assert (b.RescaleSlope, b.RescaleIntercept, b.RescaleType) == (1, 0, "HU")
        for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert a[name].value != b[name].value and b[name].value.startswith("2.25.")
        assert list(b.ImageType[:2]) == ["DERIVED", "SECONDARY"] and b.InstanceNumber == a.InstanceNumber
        assert b.PatientName == "ANONYMOUS" and b.SOPClassUID == a.SOPClassUID
    series = {pydicom.dcmread(f).SeriesInstanceUID for f in (tmp_path / "out").rglob("*.dcm")}
    assert len(series) == 4
    record = json.loads((tmp_path / "out/translation.json").read_text())
    assert len(record["images"]) == 8 and record["plan"]["windows"][0]["low"] == -1000


def test_an_interrupted_folder_goes_on(tmp_path, weights, folder):
    out = tmp_path / "out"
    first = recon("translate", folder / "A", out, "--weights", weights)
    assert first.exit_code == 0
    gone, kept = out / "p1/slice-00002.dcm", out / "p0/slice-00001.dcm"
    before = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    (out / "p2" / ".slice-00001.dcm.123").write_bytes(b"half")
    again = recon("translate", folder / "A", out, "--weights", weights)
    assert again.exit_code == 0 and "kept 7" in again.output and "1 images in" in again.output
    assert kept.stat().st_mtime_ns == before[1]
    a, b = (pydicom.dcmread(__import__("io").BytesIO(c)) for c in (before[0], gone.read_bytes()))
    assert a.SOPInstanceUID == b.SOPInstanceUID and a.PixelData == b.PixelData
    other = recon("translate", folder / "A", out, "--weights", weights, "--window=-1000,500")
    assert other.exit_code == 2 and "holds another translation (different windows)" in other.output
    fresh = recon("translate", folder / "A", out, "--weights", weights, "--window=-1000,500", "--fresh")
    assert fresh.exit_code == 0 and "8 images" in fresh.output


def test_a_file_that_fails_is_named_and_left_out(tmp_path, weights, folder):
    shutil.copytree(folder / "A", tmp_path / "in")
    bad = tmp_path / "in/p1/slice-00001.dcm"
    bad.write_bytes(bad.read_bytes()[:-100])
    shutil.copy(get_testdata_file("MR_small.dcm", download=False), tmp_path / "in/p2/mr.dcm")
    done = recon("translate", tmp_path / "in", tmp_path / "out", "--weights", weights)
    assert done.exit_code == 1 and "2 of 9 failed" in done.output and "7 images" in done.output
    assert "truncated" in done.output and "expected HU of a CT, got modality 'MR'" in done.output
    assert not (tmp_path / "out/p1/slice-00001.dcm").exists()
    assert not list((tmp_path / "out").rglob(".*.dcm*"))


def test_a_file_that_is_no_dicom_stops_nothing(tmp_path, weights, folder):
    shutil.copytree(folder / "A/p0", tmp_path / "in")
    (tmp_path / "in/junk.dcm").write_bytes(b"junk" * 100)
    done = recon("translate", tmp_path / "in", tmp_path / "out", "--weights", weights)
    assert done.exit_code == 1 and "1 of 3 failed" in done.output and "junk.dcm" in done.output
    (tmp_path / "out/translation.json").write_text('{"plan": 1}')
    again = recon("translate", tmp_path / "in", tmp_path / "out", "--weights", weights)
    assert again.exit_code == 2 and "damaged" in again.output


def test_no_input_is_overwritten(tmp_path, weights):
    """Not by --fresh, which takes away what is there, nor through links; and no output by another."""
    (tmp_path / "in").mkdir()
    source = tmp_path / "in/a.npy"
    np.save(source, field()[0].numpy())
    before = source.read_bytes()
    (tmp_path / "link").mkdir()
    (tmp_path / "link/a.npy").symlink_to(source)
    for given, out in ((source, tmp_path / "in"), (tmp_path / "in", tmp_path / "link")):
        done = recon("translate", given, out, "--weights", weights, "--fresh")
        assert done.exit_code == 2 and "overwrite an input" in done.output
        assert source.read_bytes() == before
    done = recon("translate", source, tmp_path / "a.dcm", "--weights", weights)
    assert done.exit_code == 2 and "kind of file" in done.output and not (tmp_path / "a.dcm").exists()


def test_one_file_in_one_file_out(tmp_path, weights):
    source = get_testdata_file("CT_small.dcm", download=False)
    done = recon("translate", source, tmp_path / "a.dcm", "--weights", weights)
    assert done.exit_code == 0, done.output
    before, after = read_dicom(source), read_dicom(tmp_path / "a.dcm")
    assert after.hu.shape == (128, 128) and after.spacing == before.spacing and after.modality == "CT"
    torch.testing.assert_close(
        after.hu, translated(weights, before.hu[None])[0].clamp(min=-1000), rtol=0, atol=0.501
    )
    again = recon("translate", source, tmp_path / "a.dcm", "--weights", weights)
    assert again.exit_code == 2 and "already there" in again.output
    whole = recon("translate", source, tmp_path / "b.dcm", "--weights", weights, "--patch", "whole")
    assert whole.exit_code == 0, whole.output
    # the network is nearly the identity after three steps, so patches and the whole differ by little
    assert float((read_dicom(tmp_path / "b.dcm").hu - after.hu).abs().mean()) < 20


def test_other_kinds_of_files(tmp_path, weights):
    hu = field(3, seed=9)
    source = tmp_path / "in"
    write_nifti(placed(hu), source / "a.nii.gz")
    np.save(source / "b.npy", hu.numpy())
    np.save(source / "c.npy", hu[0].numpy())
    np.savez(source / "d.npz", image=hu[0].numpy())
    np.savetxt(source / "e.csv", hu[0].numpy(), delimiter=",")
    done = recon("translate", source, tmp_path / "out", "--weights", weights)
    assert done.exit_code == 0, done.output
    wanted = translated(weights, hu)
    volume = read_nifti(tmp_path / "out/a.nii.gz")
    np.testing.assert_allclose(volume.affine, placed(hu).affine, atol=1e-4)  # float32 in the file
    torch.testing.assert_close(volume.hu, wanted)
    for name in ("b.npy", "c.npy", "d.npz", "e.csv"):
        found = read_picture(tmp_path / "out" / name)
        torch.testing.assert_close(found.values, wanted if name == "b.npy" else wanted[:1], rtol=0, atol=1e-3)
        assert found.volume == (name == "b.npy")


def test_grey_images_stay_grey(tmp_path):
    for name, add in (("A", 0), ("B", 10)):
        for p in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            values = (np.add.outer(np.arange(N), np.arange(N)) * 5 + 20 * p + add).astype(np.uint8)
            Image.fromarray(values).save(tmp_path / name / f"{p}.png")
    options = ["--data", "window=0,255,grey", "--data", "validation=0.3"]
    assert learn(tmp_path, tmp_path / "w", *options).exit_code == 0
    done = recon("translate", tmp_path / "A", tmp_path / "out", "--weights", tmp_path / "w/fbp-unet-a-to-b")
    assert done.exit_code == 0, done.output
    source, out = (read_picture(tmp_path / f / "1.png") for f in ("A", "out"))
    wanted = translated(tmp_path / "w/fbp-unet-a-to-b", source.values)
    torch.testing.assert_close(out.values, wanted.round().clamp(0, 255))
    assert out.bits == 8


def test_stacks_of_a_series(tmp_path, deep, folder):
    method = Translation(Reconstructor.load(deep))
    assert method.stack == 3 and method.shape == (3, N, N) and method.source_unit == "HU"
    done = recon("translate", folder / "A", tmp_path / "out", "--weights", deep)
    assert done.exit_code == 0, done.output
    (before,), (after,) = read_series(folder / "A/p3"), read_series(tmp_path / "out/p3")
    torch.testing.assert_close(after.hu, method(before.hu).values, rtol=0, atol=0.501)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-6)


def test_pixels_below_the_window_become_air(tmp_path, weights):
    hu = field()
    hu[0, :4] = -1000
    low = Translation(Reconstructor.load(weights), Window(-600, 400), air=True)
    out = low(hu)
    assert out.clipped == pytest.approx(float((hu < -600).double().mean() + (hu > 400).double().mean()))
    held = out.values
    assert bool(((held == -1000) | (held > -600)).all()) or float(held.min()) == -1000
    with pytest.raises(ValueError, match="window of the target in HU"):
        Translation(Reconstructor.load(weights), Window(0, 1, "grey"), air=True)


def test_wrong_calls(tmp_path, weights, folder):
    unet = "fbp-unet-ellipses-small"
    for arguments, words in (
        (["--weights", unet], "trained for ParallelBeam"),
        (["--weights", "none-there"], "there is no"),
        (["--weights", weights, "--patch", "a"], "expected NY,NX"),
        (["--weights", weights, "--patch", "8,8,8"], "expected 2 positive numbers"),
        (["--weights", weights, "--window", "5"], "expected LOW,HIGH"),
    ):
        done = recon("translate", folder / "A", tmp_path / "out", *arguments)
        assert done.exit_code != 0 and words in done.output, done.output
    assert (
        "outside of the input"
        in recon("translate", folder / "A", folder / "A/x", "--weights", weights).output
    )
    for extra, words in (
        ([], "exactly one of --problem"),
        (["--problem", "ellipses-small", "--paired", folder / "A", folder / "B"], "exactly one of --problem"),
        (["--paired", folder / "A", folder / "B", "--data", "colour=1"], "no such setting"),
        (["--unpaired", folder / "A", folder / "B"], "learns from paired data"),
        (["--problem", "ellipses-small", "--data", "stack=3"], "a problem has its own"),
    ):
        done = recon("train", "fbp-unet", "--out", tmp_path / "w", *extra)
        assert done.exit_code == 2 and words in done.output, done.output


def test_pairs_in_a_list_file(tmp_path, folder):
    files = sorted(folder.glob("A/*/*"))
    rows = [f"{f.relative_to(folder)}\tsecond\tB/{f.relative_to(folder / 'A')}" for f in files]
    (folder / "Low Dose.txt").write_text("# input, what else, target\n" + "\n".join(rows))
    small = [word for s in ("base=4", "depth=2", "batch_size=2") for word in ("--set", s)]

    def train(*options):
        return recon("train", "fbp-unet", "--steps", 2, *small, "--out", tmp_path, *options)

    listed, columns = ("--listed", folder / "Low Dose.txt"), ("--data", "target_column=2")
    done = train(*listed, *columns, "--data", "window=-1000,1000", "--data", "validation=0.25")
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "fbp-unet-low-dose.json").read_text())
    assert f"--listed '{folder}/Low Dose.txt' --data target_column=2" in card["training"]["command"]
    done = train(*listed)
    assert done.exit_code == 2 and "Low Dose.txt line 2: there is no file" in done.output, done.output
    done = train(*listed, "--data", "validation=none.txt")
    assert done.exit_code == 2 and "no such list of files" in done.output, done.output
    assert "exactly one of" in train(*listed, "--problem", "ellipses-small").output


def test_training_on_files_resumes_exactly(tmp_path, folder):
    from recon import FBPUNet

    def data():
        from recon.data import Augmentation

        turn = Augmentation(flip=True, translate=2, rotate=5, noise=0.01)
        return PairedImages.folders(
            folder / "A", folder / "B", 0.25, window=Window(-1000, 1000), crop=12, augmentation=turn
        )

    settings = {"base": 4, "depth": 2, "batch_size": 2, "steps": 4, "checkpoint_every": 1}
    straight = FBPUNet(**settings).fit(data())

    def stop(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FBPUNet(**settings).fit(data(), checkpoint=tmp_path / "c.safetensors", callback=stop)
    resumed = FBPUNet(**settings).fit(data(), checkpoint=tmp_path / "c.safetensors")
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    # without any pair nothing can be scored, and nothing is made up
    alone = UnpairedImages.folders(folder / "A", folder / "B", 0.25, window=Window(-1000, 1000), crop=12)
    assert straight.scores(alone) == {} and np.isnan(straight.score(alone))


def enhanced(path, frames=3):
    """An MR file of several frames, made of one."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    data = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    stored = data.pixel_array

    def frame(k):
        group, place, plane, measures = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = ["5", "-7", f"{2.0 * (frames - k)}"]  # the last frame lies lowest
        plane.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        measures.PixelSpacing, measures.SliceThickness = ["0.7", "0.7"], "2"
        group.PlanePositionSequence, group.PlaneOrientationSequence = Sequence([place]), Sequence([plane])
        group.PixelMeasuresSequence = Sequence([measures])
        return group

    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del data[name]
    data.NumberOfFrames = frames
    data.PerFrameFunctionalGroupsSequence = Sequence([frame(k) for k in range(frames)])
    data.PixelData = b"".join((stored + 100 * k).astype(stored.dtype).tobytes() for k in range(frames))
    data.save_as(path)
    return path


def test_frames_become_slices_of_their_modality(tmp_path):
    """One slice a file, where the frames lay; 16 bits of their own slope."""
    source = enhanced(tmp_path / "mr.dcm")
    for p in range(3):
        for name in "AB":
            (tmp_path / name).mkdir(exist_ok=True)
            np.save(tmp_path / name / f"{p}.npy", np.random.default_rng(p).normal(size=(N, N)))
    assert learn(tmp_path, tmp_path / "w").exit_code == 0
    weights = tmp_path / "w/fbp-unet-a-to-b"
    done = recon("translate", source, tmp_path / "out", "--weights", weights, "--patch", "whole")
    assert done.exit_code == 0, done.output
    (before,), (after,) = read_series(source), read_series(tmp_path / "out")
    assert after.modality == "MR" and len(after.files) == len(before.hu) == 3
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-6)
    wanted = Translation(Reconstructor.load(weights), patch="whole")(before.hu).values
    # half a step of 32000 to the largest value
    torch.testing.assert_close(after.hu, wanted, rtol=0, atol=float(wanted.abs().max()) / 64000 * 1.01)
    assert pydicom.dcmread(after.files[0]).SOPClassUID == pydicom.uid.MRImageStorage
    again = recon("translate", source, tmp_path / "out", "--weights", weights, "--patch", "whole")
    assert again.exit_code == 0 and "kept 1" in again.output


def test_unpaired_folders_train_and_translate(tmp_path, folder):
    small = json.dumps({"base": 4, "blocks": 1, "downs": 1})
    done = recon(
        *("train", "cycle-gan", "--unpaired", folder / "A", folder / "B", "--data", "window=-1000,1000"),
        *("--set", f"generator_options={small}", "--set", 'discriminator_options={"base": 4, "layers": 1}'),
        *("--steps", 2, "--full", "--out", tmp_path / "w"),
    )
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "w/cycle-gan-a-to-b.json").read_text())
    assert card["scores"] == {} and card["training"]["validation"] is None
    assert card["training"]["truths outside the window"] is None  # for there are none
    assert card["training"]["images"]["seeds"] == "6 files of 3 patients and 8 files of 4 patients"
    out = recon("translate", folder / "A", tmp_path / "out", "--weights", tmp_path / "w/cycle-gan-a-to-b")
    assert out.exit_code == 0 and "8 images" in out.output
    (after,) = read_series(tmp_path / "out/p0")
    (before,) = read_series(folder / "A/p0")
    torch.testing.assert_close(
        after.hu, translated(tmp_path / "w/cycle-gan-a-to-b", before.hu).clamp(min=-1000), rtol=0, atol=0.501
    )
