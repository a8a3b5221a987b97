"""`recon reconstruct`: from every kind of projections to DICOM and NIfTI, resume, failures, wrong use."""

import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from operators import FanBeam, Gaussian, LowDose, ParallelBeam3D, XRay, to_hu
from recon import FBP, METHODS, Problem, TotalVariation
from recon.cli import main
from recon.cli.reconstruct import parameters
from recon.data import axial, load_projections, read_nifti, read_series, save_projections, write_dicom

N = 20
GEOMETRY = FanBeam((N, N), 4.0, [2 * math.pi * k / 40 for k in range(40)], 40, 5.0, 595.0, 1085.6, "arc", 1.0)


def water(radius=32.0):
    y, x = torch.meshgrid(torch.arange(N) - (N - 1) / 2, torch.arange(N) - (N - 1) / 2, indexing="ij")
    return 0.02 * (torch.hypot(x, y) * 4 < radius)


@pytest.fixture
def source(tmp_path):
    A, noise = XRay(GEOMETRY), LowDose(1e5)
    for k in range(3):
        clean = A(water(20.0 + 5 * k))
        problem = Problem(A, noise(clean, seed=k), noise)
        affine = axial(torch.zeros(3, N, N), (2.5, 4, 4), (-38, -38, 100)).affine.tolist()
        save_projections(
            problem,
            tmp_path / f"in/scan-{k}.safetensors",
            {"slice": k, "mu_water": 0.02, "affine": affine, "kvp": 120},
        )
    return tmp_path / "in"


def recon(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def reconstruct(source, out, *options):
    return recon("reconstruct", source, "--out", out, *options)


def expected(source, method=None):
    method = method or FBP()
    return torch.stack(
        [to_hu(method(load_projections(source / f"scan-{k}.safetensors")), 0.02) for k in range(3)]
    )


def test_dicom_of_every_slice(tmp_path, source):
    done = reconstruct(source, tmp_path / "out")
    assert done.exit_code == 0 and f"images: {tmp_path / 'out' / 'dicom'}" in done.output, done.output
    (series,) = read_series(tmp_path / "out" / "dicom")
    torch.testing.assert_close(series.hu, expected(source), atol=0.501, rtol=0)  # whole HU
    np.testing.assert_allclose(series.affine @ [0, 0, 0, 1], [-38, -38, 100, 1], atol=1e-8)
    assert series.spacing == (2.5, 4, 4) and series.kvp == 120 and series.description.startswith("fbp")


def test_nifti_of_a_method_with_parameters(tmp_path, source):
    options = [
        "--method",
        "total-variation",
        "--param",
        "weight=0.5",
        "--param",
        "iterations=20",
        "--format",
        "nifti",
    ]
    done = reconstruct(source, tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    volume = read_nifti(tmp_path / "out" / "in.nii.gz")
    torch.testing.assert_close(
        volume.hu, expected(source, TotalVariation(weight=0.5, iterations=20)), atol=1e-2, rtol=0
    )
    np.testing.assert_allclose(volume.affine @ [0, 0, 0, 1], [-38, -38, 100, 1], atol=1e-4)


def test_a_run_goes_on_where_it_was(tmp_path, source, monkeypatch):
    out = tmp_path / "out"
    real = FBP.forward
    calls = []

    def stops(self, problem):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, problem)

    monkeypatch.setattr(FBP, "forward", stops)
    assert reconstruct(source, out).exit_code == 1
    there = sorted(out.rglob("*.dcm"))
    assert len(there) == 2
    done = reconstruct(source, out)
    assert done.exit_code == 0 and "kept 2 scans" in done.output and len(calls) == 4
    (series,) = read_series(out / "dicom")
    assert len(series.hu) == 3
    other = reconstruct(source, out, "--param", "filter=cosine")
    assert other.exit_code == 2 and "different params" in other.output
    assert reconstruct(source, out, "--param", "filter=cosine", "--fresh").exit_code == 0
    assert not torch.equal(read_series(out / "dicom")[0].hu, series.hu)


def test_a_slice_that_fails_is_named_and_the_others_are_made(tmp_path, source, monkeypatch):
    real = FBP.forward
    monkeypatch.setattr(FBP, "forward", lambda self, p: real(self, p) * (math.nan if fails(p) else 1))
    third = load_projections(source / "scan-2.safetensors").y

    def fails(problem):
        return torch.equal(problem.y, third)

    done = reconstruct(source, tmp_path / "out")
    assert done.exit_code == 1 and "slice 3: the method returned" in done.output and "1 failed" in done.output
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 2


def test_damaged_projections_are_named(tmp_path, source):
    file = source / "scan-1.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    done = reconstruct(source, tmp_path / "out")
    assert done.exit_code == 2 and "scan-1.safetensors" in done.output.replace("\n", "")


def test_what_simulate_wrote(tmp_path):
    hu = torch.where(water() > 0, 0.0, -1000.0)
    write_dicom(axial(hu, (2, 4, 4)), tmp_path / "in", "x")
    arguments = ["--views", "40", "--dose", "1,0.5", "--i0", "1e6"]
    assert recon("simulate", tmp_path / "in", "--out", tmp_path / "sim", *arguments).exit_code == 0
    done = reconstruct(tmp_path / "sim", tmp_path / "out", "--param", "positive=false")
    assert done.exit_code == 0, done.output
    for dose in ("dose-1", "dose-0.5"):
        (ours,), (theirs,) = (read_series(tmp_path / f / "dicom" / dose) for f in ("out", "sim"))
        assert torch.equal(ours.hu, theirs.hu)
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-8)


def test_a_volume_and_a_batch(tmp_path):
    geometry = ParallelBeam3D((3, N, N), 4.0, [math.pi * k / 30 for k in range(30)], (3, 30), 4.0)
    volume = torch.stack([water(20.0 + 5 * k) for k in range(3)])
    problem = Problem(XRay(geometry), XRay(geometry)(volume), Gaussian(1e-3, data_ndim=3))
    save_projections(problem, tmp_path / "volume.npz")
    done = reconstruct(tmp_path / "volume.npz", tmp_path / "a", "--mu-water", "0.02", "--method", "sirt")
    assert done.exit_code == 0, done.output
    (series,) = read_series(tmp_path / "a")
    assert series.hu.shape == (3, N, N) and series.spacing == (4, 4, 4)
    np.testing.assert_allclose(series.affine @ [9.5, 9.5, 1, 1], [0, 0, 0, 1], atol=1e-8)
    flat = Problem(XRay(GEOMETRY), XRay(GEOMETRY)(volume), Gaussian(1e-3))
    save_projections(flat, tmp_path / "batch.safetensors")
    assert reconstruct(tmp_path / "batch.safetensors", tmp_path / "b", "--mu-water", "0.02").exit_code == 0
    assert read_series(tmp_path / "b")[0].hu.shape == (3, N, N)


def test_volumes_of_one_folder_are_series_of_their_own(tmp_path):
    geometry = ParallelBeam3D((3, N, N), 4.0, [math.pi * k / 30 for k in range(30)], (3, 30), 4.0)
    noise = Gaussian(1e-3, data_ndim=3)
    for name, radius in (("first", 20.0), ("second", 30.0)):
        y = XRay(geometry)(torch.stack([water(radius)] * 3))
        save_projections(Problem(XRay(geometry), y, noise), tmp_path / f"in/{name}.npz")
    done = reconstruct(tmp_path / "in", tmp_path / "out", "--mu-water", "0.02")
    assert done.exit_code == 0 and "kept" not in done.output, done.output
    size = {s.description: (s.hu > -500).sum() for s in read_series(tmp_path / "out")}
    # radii of 30 and 20 mm; a tenth for the pixels of the edge
    assert len(size) == 2 and float(size["fbp, second"] / size["fbp, first"]) == pytest.approx(2.25, rel=0.1)


def test_two_files_of_one_slice(tmp_path):
    A, noise = XRay(GEOMETRY), LowDose(1e5)
    for name in "ab":
        save_projections(Problem(A, noise(A(water())), noise), tmp_path / f"in/{name}.npz", {"slice": 4})
    done = reconstruct(tmp_path / "in", tmp_path / "out")
    assert done.exit_code == 2 and "a.npz" in done.output and "b.npz are both slice 5" in done.output


def test_a_laboratory_scan(tmp_path):
    from scipy.io import savemat

    geometry = FanBeam((32, 32), 1.0, [2 * math.pi * k / 60 for k in range(60)], 80, 1.0, 410.66, 553.74)
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
    sinogram = XRay(geometry)(0.02 * (torch.hypot(x, y) < 10)).numpy()
    noise = np.random.default_rng(0).normal(0, 0.002, sinogram.shape)
    parameters = {
        "angles": np.arange(60) * 6.0, "distanceSourceOrigin": 410.66, "distanceSourceDetector": 553.74,
        "pixelSize": 1.0, "numDetectors": 80,
    }  # fmt: skip
    savemat(tmp_path / "a.mat", {"CtDataFull": {"sinogram": sinogram + noise, "parameters": parameters}})
    options = ["--pixels", "32", "--pixel-size", "1", "--mu-water", "0.02", "--method", "total-variation"]
    options += ["--param", "iterations=20"]
    done = reconstruct(tmp_path / "a.mat", tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    (series,) = read_series(tmp_path / "out")
    inside = torch.hypot(x, y) < 8
    assert float(series.hu[0][inside].mean()) == pytest.approx(0, abs=15)  # 1.5 %: a disc of square pixels


def test_trained_weights_are_asked_for(tmp_path, source):
    learned = next(n for n, c in METHODS.items() if c.data_kind is not None)
    done = reconstruct(source, tmp_path / "out", "--method", learned)
    assert done.exit_code == 2 and "--weights" in done.output


@pytest.mark.parametrize(
    "options, words",
    [
        (["--method", "fbq"], "fbp"),
        (["--param", "filter"], "KEY=VALUE"),
        (["--param", "filter=hann", "--param", "filter=hann"], "given twice"),
        (["--param", "colour=red"], "no parameter 'colour'; it has filter"),
        (["--param", "filter=ramlak"], "ram-lak"),
        (["--pixel-size", "-1"], "--pixel-size"),
        (["--mu-water", "0"], "--mu-water"),
    ],
)
def test_wrong_use_ends_with_2_and_says_so(tmp_path, source, options, words):
    done = reconstruct(source, tmp_path / "out", *options)
    assert done.exit_code == 2 and words in " ".join(done.output.split()), done.output
    assert not (tmp_path / "out" / "reconstruction.json").exists()


def test_images_are_no_projections(tmp_path):
    (file,) = write_dicom(torch.zeros(4, 4), tmp_path / "in", "x", spacing=(1, 1, 1))
    for source in (tmp_path / "in", file):
        done = reconstruct(source, tmp_path / "out")
        assert done.exit_code == 2 and "recon simulate" in done.output
    (tmp_path / "empty").mkdir()
    assert "no projections" in reconstruct(tmp_path / "empty", tmp_path / "out").output
    assert "no such file" in reconstruct(tmp_path / "absent", tmp_path / "out").output
    text = tmp_path / "a.txt"
    text.write_text("nothing of the kind")
    assert "expected projections" in reconstruct(text, tmp_path / "out").output


def test_parameters_are_json_or_text():
    texts = ["a=1", "b=0.5", "c=true", "d=null", "e=hann", "f=[1, 2]", "g=x=y"]
    found = {"a": 1, "b": 0.5, "c": True, "d": None, "e": "hann", "f": [1, 2], "g": "x=y"}
    assert parameters(texts) == found
