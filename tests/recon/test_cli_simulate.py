"""`recon simulate`: doses, seeds, DICOM pairs, resume after an interruption, wrong use."""

from importlib import import_module

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from operators import FanBeam, LowDose, XRay, to_attenuation
from recon.cli import main
from recon.data import about_projections, axial, load_projections, read_series, write_dicom, write_nifti
from recon.data.simulation import averaged


def phantom(nz=2, n=24):
    """A disc of water with a denser one beside its middle, pixels of 4 mm, 2 mm apart."""
    y, x = torch.meshgrid(torch.arange(n) - (n - 1) / 2, torch.arange(n) - (n - 1) / 2, indexing="ij")
    hu = torch.where(torch.hypot(x, y) < 0.4 * n, 0.0, -1000.0)
    hu = torch.where(torch.hypot(x - 3, y + 2) < 3, 120.0, hu)
    return axial(torch.stack([hu + 10 * k * (hu > -1000) for k in range(nz)]), (2.0, 4.0, 4.0), (-40, -50, 7))


OPTIONS = ["--views", "60", "--dose", "0.25,1", "--i0", "2e6", "--seed", "3"]


def recon(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def simulate(source, out, *options):
    return recon("simulate", source, "--out", out, *OPTIONS, *options)


@pytest.fixture
def source(tmp_path):
    write_dicom(phantom(), tmp_path / "in", "phantom")
    return tmp_path / "in"


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_projections_and_pairs(tmp_path, source):
    out = tmp_path / "out"
    done = simulate(source, out)
    assert done.exit_code == 0, done.output
    assert f"dicom: {out / 'dicom'}" in done.output
    doses = ("dose-0.25", "dose-1")
    expected = {f"projections/slice-{k:05d}_{d}.safetensors" for k in (1, 2) for d in doses}
    expected |= {f"dicom/{d}/slice-{k:05d}.dcm" for k in (1, 2) for d in (*doses, "reference")}
    assert set(files(out)) == expected | {"simulation.json"}
    problem = load_projections(out / "projections" / "slice-00002_dose-0.25.safetensors")
    geometry = problem.A.geometry
    assert isinstance(geometry, FanBeam) and geometry.views == 60 and geometry.source_to_centre == 595
    assert problem.noise.i0 == 0.25 * 2e6 and problem.y.shape == geometry.sinogram_shape
    about = about_projections(out / "projections" / "slice-00002_dose-0.25.safetensors")
    assert (about["slice"], about["dose"], about["mu_water"]) == (1, 0.25, 0.0206)
    series = {s.description: s for s in read_series(out / "dicom")}
    assert len(series) == 3
    for found in series.values():
        np.testing.assert_allclose(found.affine, phantom().affine, atol=1e-8)
    reference = series["simulated: noise-free reference"]
    assert float((reference.hu - phantom().hu).abs().max()) <= 0.5  # written as whole HU


def test_counts_are_those_of_the_dose(tmp_path, source):
    simulate(source, tmp_path / "out")
    scans = {
        d: load_projections(tmp_path / f"out/projections/slice-00001_dose-{d}.safetensors")
        for d in ("1", "0.25")
    }
    geometry = scans["1"].A.geometry
    fine = to_attenuation(phantom().hu[0], clip=True).repeat_interleave(2, 0).repeat_interleave(2, 1)
    noise = LowDose(1.0)
    clean = noise.average(XRay(geometry.refined((48, 48), 2))(fine).unflatten(-1, (geometry.n_bins, 2)))
    for dose, problem in scans.items():
        mean = float(dose) * 2e6 * (-clean).exp()
        spread = (problem.y - mean) / (mean + 9).sqrt()  # Poisson and σ = 3 of the electronics
        # standardised: mean 0 ± 1/√n, variance 1 ± √(2/n), n = 44160; 4 standard errors
        n = spread.numel()
        assert abs(float(spread.double().mean())) < 4 / n**0.5
        assert float(spread.double().var()) == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
    # noise of the doses is independent
    pair = [(p.y / p.noise.i0 - (-clean).exp()).flatten() for p in scans.values()]
    assert abs(float(torch.corrcoef(torch.stack(pair).double())[0, 1])) < 4 / pair[0].numel() ** 0.5


def test_a_run_goes_on_where_it_was(tmp_path, source, monkeypatch):
    module = import_module("recon.cli.simulate")  # the package's attribute of that name is the command
    whole, part = tmp_path / "whole", tmp_path / "part"
    simulate(source, whole)
    real, calls = module.Plan._slice, []

    def stops(self, k, doses, bar):
        if k == 1:
            raise KeyboardInterrupt
        real(self, k, doses, bar)

    monkeypatch.setattr(module.Plan, "_slice", stops)
    assert simulate(source, part).exit_code == 1
    assert len(files(part)) == 6 and not [f for f in files(part) if "/." in f or f.startswith(".")]
    kept = {f: (part / f).stat().st_mtime_ns for f in files(part) if f != "simulation.json"}
    monkeypatch.setattr(module.Plan, "_slice", lambda self, *a: calls.append(a[0]) or real(self, *a))
    done = simulate(source, part)
    assert done.exit_code == 0 and "kept 2 scans" in done.output and calls == [1]
    assert kept == {f: (part / f).stat().st_mtime_ns for f in kept}
    assert files(part) == files(whole)
    for name in files(whole):
        if name.startswith("projections"):
            a, b = load_projections(whole / name), load_projections(part / name)
            assert torch.equal(a.y, b.y)
    assert len({s.uid for s in read_series(part / "dicom")}) == 3  # one series before and after


def test_a_dose_may_be_added_and_other_settings_not(tmp_path, source):
    out = tmp_path / "out"
    simulate(source, out)
    before = load_projections(out / "projections/slice-00001_dose-0.25.safetensors").y
    done = recon("simulate", source, "--out", out, *OPTIONS[:2], "--dose", "0.25,1,0.1", *OPTIONS[4:])
    assert done.exit_code == 0 and (out / "dicom/dose-0.1/slice-00002.dcm").exists()
    other = simulate(source, out, "--seed", "4")
    assert other.exit_code == 2 and "different seed" in other.output
    assert torch.equal(before, load_projections(out / "projections/slice-00001_dose-0.25.safetensors").y)
    assert simulate(source, out, "--seed", "4", "--fresh").exit_code == 0
    assert not (out / "dicom/dose-0.1").exists()
    assert not torch.equal(before, load_projections(out / "projections/slice-00001_dose-0.25.safetensors").y)


def test_coarser_images_lie_where_the_fine_ones_do(tmp_path, source):
    done = simulate(source, tmp_path / "out", "--pixels", "12", "--slices", "2:2")
    assert done.exit_code == 0, done.output
    (found,) = [s for s in read_series(tmp_path / "out" / "dicom") if "reference" in s.description]
    assert found.hu.shape == (1, 12, 12) and found.spacing[1:] == (8, 8)
    # the middle of the second slice is the middle of the volume's
    given = phantom().affine @ [11.5, 11.5, 1, 1]
    np.testing.assert_allclose(found.affine @ [5.5, 5.5, 0, 1], given, atol=1e-8)
    expected = averaged(phantom().hu[1], (12, 12))
    assert float((found.hu[0] - expected).abs().max()) <= 0.51


@pytest.mark.parametrize("kind", ["nifti", "npy", "npz", "file"])
def test_other_images(tmp_path, kind):
    volume = phantom(1)
    options = ["--pixel-size", "4"] if kind in ("npy", "npz") else []
    path = tmp_path / f"image.{kind}"
    if kind == "nifti":
        path = write_nifti(volume, tmp_path / "image.nii.gz")
    elif kind == "npy":
        np.save(path, volume.hu[0].numpy())
    elif kind == "npz":
        np.savez(path, hu=volume.hu[0].numpy(), note="a text")
    else:
        (path,) = write_dicom(volume, tmp_path / "in", "phantom")
    done = simulate(path, tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    first = load_projections(tmp_path / "out/projections/slice-00001_dose-1.safetensors")
    assert first.A.geometry.pixel_size == pytest.approx(4, rel=1e-6)


def test_what_lies_outside_the_field_of_view_is_air(tmp_path):
    # 24 pixels of 30 mm: the corners lie at 509 mm, the scanner sees 250 mm about the centre
    write_dicom(axial(torch.zeros(1, 24, 24), (2, 30, 30)), tmp_path / "in", "water everywhere")
    assert simulate(tmp_path / "in", tmp_path / "out").exit_code == 0
    (found,) = [s for s in read_series(tmp_path / "out/dicom") if "reference" in s.description]
    assert float(found.hu[0, 12, 12]) == 0 and float(found.hu[0, 0, 0]) == float(found.hu[0, 12, 0]) == -1000


def test_dose_by_tube_current(tmp_path, source):
    arguments = ["--views", "60", "--dose", "1", "--slices", "1:1"]
    assert recon("simulate", source, "--out", tmp_path / "a", *arguments, "--mas", "200").exit_code == 0
    assert recon("simulate", source, "--out", tmp_path / "b", *arguments, "--mas", "100").exit_code == 0
    name = "projections/slice-00001_dose-1.safetensors"
    i0 = [float(torch.as_tensor(load_projections(tmp_path / n / name).noise.i0).max()) for n in "ab"]
    assert i0[0] == pytest.approx(2 * i0[1], rel=1e-6)
    # 1.2e6 photons per mAs and mm² at 1 m, 60 views, cells of about a square millimetre at 1085.6 mm
    assert 1e5 < i0[0] < 1e7
    # routine: 1e9 a cell and rotation
    assert recon("simulate", source, "--out", tmp_path / "c", *arguments).exit_code == 0
    noise = load_projections(tmp_path / "c/projections/slice-00001_dose-1.safetensors").noise
    assert noise.i0 == pytest.approx(1e9 / 60)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--geometry", "philips"], "got 'philips'"),
        (["--dose", "1,-0.5"], "positive fractions"),
        (["--dose", "some"], "numbers with commas"),
        (["--mas", "-3"], "mas"),
        (["--i0", "0"], "--i0"),
        (["--i0", "1e5", "--mas", "3"], "got both"),
        (["--electronic", "-1"], "--electronic"),
        (["--mu-water", "0"], "--mu-water"),
        (["--filter", "ramlak"], "ram-lak"),
        (["--pixels", "48"], "--pixels 48"),
        (["--slices", "2:9"], "from 1 to 2"),
        (["--slices", "a"], "FIRST:LAST"),
        (["--series", "1.2.3"], "no series 1.2.3"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_wrong_use_ends_with_2_and_says_so(tmp_path, source, options, words):
    done = recon("simulate", source, "--out", tmp_path / "out", "--views", "8", *options)
    assert done.exit_code == 2 and words in " ".join(done.output.split()), done.output
    assert not (tmp_path / "out" / "simulation.json").exists()


def test_sources_that_are_no_images(tmp_path, source):
    out = tmp_path / "out"
    assert "no such file or folder" in simulate(tmp_path / "absent", out).output
    (tmp_path / "empty").mkdir()
    assert "no DICOM images" in simulate(tmp_path / "empty", out).output
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    assert "--pixel-size" in simulate(tmp_path / "a.npy", out).output
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], dtype=object))
    assert "not a NumPy file" in simulate(tmp_path / "b.npy", out, "--pixel-size", "1").output
    write_dicom(phantom(), tmp_path / "in" / "second", "another")
    done = simulate(source, out)
    assert done.exit_code == 2 and "several series" in done.output
    (source / "slice-00001.dcm").write_bytes((source / "slice-00001.dcm").read_bytes()[:-40])
    uid = read_series(tmp_path / "in" / "second")[0].uid
    assert simulate(source, out, "--series", uid).exit_code == 0
