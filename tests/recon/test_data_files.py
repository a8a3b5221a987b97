"""Projection files of our own, NIfTI, TIFF, HTC and 2DeteCT: round trips, conventions, hostile files."""

import json
import math
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

import operators
from operators import (
    ConeBeam,
    FanBeam,
    Fourier,
    Gaussian,
    LowDose,
    NoiseModel,
    ParallelBeam,
    Poisson,
    XRay,
    fbp,
)
from operators.geometry import Geometry
from recon import Problem
from recon.data import (
    about_projections,
    axial,
    load_projections,
    noise_level,
    read_2detect,
    read_htc,
    read_nifti,
    read_tiff,
    read_tiff_scan,
    save_projections,
    write_nifti,
)
from recon.data.projection_files import geometry_from_dict, geometry_to_dict
from recon.data.volumes import Volume

FAN = FanBeam((6, 7), 1.1, (0.1, 1 / 3, 2.0), 5, 2.3, 50.0, 90.0, "arc", 0.3)
GENERATOR = torch.Generator().manual_seed(0)
COUNTS = torch.poisson(torch.full((2, 3, 5), 40.0), generator=GENERATOR)


def volume(nz=3, ny=4, nx=5):
    hu = torch.randint(-1000, 2000, (nz, ny, nx), generator=GENERATOR).float()
    c, s = math.cos(0.3), math.sin(0.3)
    affine = np.array(
        [[0.7 * c, -0.8 * s, 0, -11], [0.7 * s, 0.8 * c, 0, 22], [0, 0, 2.5, -33], [0, 0, 0, 1.0]]
    )
    return Volume(hu, affine)


# our own


def subclasses(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


GEOMETRIES = [
    FAN,
    ParallelBeam((4, 4), 0.7, (0.1 + 0.2,), 9, 0.5, 0.25),
    ConeBeam(
        (3, 4, 4), (2.0, 1.0, 1.0), (0.0, 1e-17, 7.1), (5, 6), 1.3, 60, 90, "arc", (0.1, 0.2), 5.5, -1 / 3
    ),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
def test_a_geometry_is_itself_after_json(geometry):
    assert geometry_from_dict(json.loads(json.dumps(geometry_to_dict(geometry)))) == geometry


def test_every_geometry_that_is_exported_can_be_saved():
    named = [getattr(operators, n) for n in operators.__all__]
    known = {c for c in named if isinstance(c, type) and issubclass(c, Geometry)}
    assert {type(g) for g in GEOMETRIES} <= known


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scan_is_itself_after_saving(tmp_path, suffix, dtype):
    i0 = torch.linspace(50, 80, 5, dtype=torch.float64)
    noise = LowDose(i0, electronic_sigma=1.5, background=0.25, floor=0.3)
    path = save_projections(
        Problem(XRay(FAN), COUNTS.to(dtype), noise), tmp_path / f"a{suffix}", {"slice": 3, "mu_water": 0.02}
    )
    problem = load_projections(path, backend="numba")
    assert problem.A.geometry == FAN and problem.A.backend == "numba"
    assert problem.y.dtype == dtype and torch.equal(problem.y, COUNTS.to(dtype))
    assert torch.equal(problem.noise.i0, i0) and problem.noise.i0.dtype == torch.float64
    assert repr(problem.noise) == repr(noise)
    assert about_projections(path) == {"slice": 3, "mu_water": 0.02}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_every_noise_model_is_itself_after_saving(tmp_path):
    models = {c for c in subclasses(NoiseModel) if c.__name__ in operators.__all__}
    assert {Gaussian, LowDose, Poisson} <= models
    for noise in (Gaussian(0.5), Gaussian([0.5, 0.7]), LowDose(3e4), Poisson(2.0), Poisson(scale=0.1)):
        path = save_projections(Problem(XRay(FAN), COUNTS, noise), tmp_path / "a.safetensors")
        again = load_projections(path).noise
        assert repr(again) == repr(noise) and type(again) is type(noise)
        assert torch.equal(again.variance(COUNTS), noise.variance(COUNTS))


def test_a_polyenergetic_detector_is_itself_after_saving(tmp_path):
    from operators import Beam, EnergyIntegrating

    beam = Beam(
        (40.0, 60.0, 80.0),
        (0.2, 0.5, 0.3),
        (40.0, 60.0, 80.0),
        ((0.027, 0.0206, 0.018),),
        (0.02,),
        62.0,
        ("water",),
    )
    noise = EnergyIntegrating(beam, i0=1e4, electronic_sigma=2.0)
    path = save_projections(Problem(XRay(FAN), COUNTS, noise), tmp_path / "a.safetensors")
    again = load_projections(path).noise
    torch.testing.assert_close(again.linearise(COUNTS), noise.linearise(COUNTS), rtol=1e-12, atol=0)


def test_what_is_no_scan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a problem of an XRay, got one of Fourier"):
        save_projections(
            Problem(Fourier((4, 4)), torch.zeros(4, 4, dtype=torch.complex64), Gaussian(1.0)),
            tmp_path / "a.npz",
        )
    with pytest.raises(ValueError, match=r"\.safetensors or \.npz"):
        save_projections(Problem(XRay(FAN), COUNTS, LowDose(1e4)), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="no such file"):
        load_projections(tmp_path / "absent.npz")


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-30])


def pickled(path):
    np.savez(path, y=np.array([Evil()], dtype=object), json=np.array("{}"))


def without_geometry(path):
    np.savez(path, sinogram=np.zeros((3, 5)))


def text(path):
    path.write_text("nothing of the kind")


def gigantic(path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000), }"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("y.npy", content)


def of_another_format(path):
    rewrite(path, format=99)


def of_an_unknown_geometry(path):
    rewrite(path, geometry={"class": "LinearOperator"})


def of_a_geometry_from_elsewhere(path):
    rewrite(path, geometry={"class": "os.system"})


def with_fields_nobody_knows(path):
    rewrite(path, geometry=geometry_to_dict(FAN) | {"colour": "red"})


def with_a_field_missing(path):
    values = geometry_to_dict(FAN)
    del values["n_bins"]
    rewrite(path, geometry=values)


def with_nan(path):
    rewrite(path, y=np.full((3, 5), np.nan))


def rewrite(path, **changes):
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(str(arrays.pop("json")))
    for key, value in changes.items():
        if key in header:
            header[key] = value
        else:
            arrays[key] = value
    np.savez(path, json=np.array(json.dumps(header)), **arrays)


@pytest.mark.parametrize(
    "damage, words",
    [
        (truncated, "whole"),
        (pickled, "numbers"),
        (without_geometry, "without geometry"),
        (text, "whole"),
        (gigantic, "whole"),
        (of_another_format, "format 99"),
        (of_an_unknown_geometry, "no geometry 'LinearOperator'"),
        (of_a_geometry_from_elsewhere, "no geometry 'os.system'"),
        (with_fields_nobody_knows, "colour"),
        (with_a_field_missing, "n_bins"),
        (with_nan, "NaN"),
    ],
)
def test_hostile_projection_files_are_refused_by_name(tmp_path, damage, words):
    path = save_projections(Problem(XRay(FAN), COUNTS, LowDose(1e4)), tmp_path / "scan.npz")
    damage(path)
    with pytest.raises(ValueError, match=words) as error:
        load_projections(path)
    assert "scan.npz" in str(error.value)


def test_a_safetensors_file_without_geometry_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"y": COUNTS}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors: projections without geometry"):
        load_projections(tmp_path / "a.safetensors")


# NIfTI


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_gives_back_what_was_written(tmp_path, suffix):
    given = volume()
    again = read_nifti(write_nifti(given, tmp_path / f"a{suffix}"))
    assert torch.equal(again.hu, given.hu)
    np.testing.assert_allclose(again.affine, given.affine, atol=1e-5)  # NIfTI-1 stores float32
    assert len(list(tmp_path.iterdir())) == 1


def test_nifti_means_the_same_place_to_nibabel(tmp_path):
    import nibabel

    given = volume()
    image = nibabel.load(write_nifti(given, tmp_path / "a.nii", dtype="int16"))
    k, j, i = 2, 1, 4
    assert image.get_fdata()[i, j, k] == float(given.hu[k, j, i])
    lps = (given.affine @ [i, j, k, 1])[:3]
    np.testing.assert_allclose((image.affine @ [i, j, k, 1])[:3], lps * [-1, -1, 1], atol=1e-4)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "ASR", "PIL", "SRA"])
def test_a_scan_reads_alike_however_it_is_stored(tmp_path, axes):
    import nibabel

    given = volume()
    image = nibabel.load(write_nifti(given, tmp_path / "a.nii"))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(image.as_reoriented(turn), tmp_path / "b.nii")
    again = read_nifti(tmp_path / "b.nii")
    assert torch.equal(again.hu, given.hu)
    np.testing.assert_allclose(again.affine, given.affine, atol=1e-4)


def test_a_gantry_tilt_survives_nifti(tmp_path):
    affine = np.diag([0.7, 0.7, 2.0, 1.0])
    affine[1, 2] = -0.5
    again = read_nifti(write_nifti(Volume(volume().hu, affine), tmp_path / "a.nii"))
    np.testing.assert_allclose(again.affine, affine, atol=1e-6)
    assert again.tilt == pytest.approx(math.degrees(math.atan2(0.5, 2)), abs=1e-4)


def test_scaled_nifti_values(tmp_path):
    import nibabel

    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(stored, np.diag([-1.0, -1, 1, 1]))
    image.header.set_slope_inter(2.0, -1000.0)
    nibabel.save(image, tmp_path / "a.nii")
    raw = nibabel.load(tmp_path / "a.nii").get_fdata()
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").hu.numpy(), raw.transpose(2, 1, 0))


def test_bad_nifti_is_refused(tmp_path):
    import nibabel

    path = write_nifti(volume(), tmp_path / "a.nii")
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"a\.nii: truncated"):
        read_nifti(path)
    zipped = write_nifti(volume(20, 20, 20), tmp_path / "b.nii.gz")
    zipped.write_bytes(zipped.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"b\.nii\.gz: truncated"):
        read_nifti(zipped)
    huge = bytearray(whole)
    huge[42:48] = struct.pack("<3h", 32767, 32767, 32767)  # dim[1..3]
    path.write_bytes(huge)
    with pytest.raises(ValueError, match="claims"):
        read_nifti(path)
    path.write_text("nothing of the kind")
    with pytest.raises(ValueError, match="not a NIfTI"):
        read_nifti(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), np.float32), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(ValueError, match="three dimensions"):
        read_nifti(tmp_path / "c.nii")
    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 2), np.nan, np.float32), np.eye(4)), tmp_path / "d.nii")
    with pytest.raises(ValueError, match="NaN"):
        read_nifti(tmp_path / "d.nii")
    with pytest.raises(ValueError, match="does not fit int16"):
        write_nifti(axial(torch.full((1, 2, 2), 1e5), (1, 1, 1)), tmp_path / "e.nii", dtype="int16")
    with pytest.raises(ValueError, match=r"\.nii"):
        write_nifti(volume(), tmp_path / "e.img")


# TIFF


def test_a_folder_of_tiffs_in_the_order_of_their_numbers(tmp_path):
    import tifffile

    pages = np.arange(12 * 3 * 4, dtype=np.uint16).reshape(12, 3, 4)
    for k, page in enumerate(pages):
        tifffile.imwrite(tmp_path / f"view_{k}.tif", page)
    np.testing.assert_array_equal(read_tiff(tmp_path).numpy(), pages)
    np.testing.assert_array_equal(
        read_tiff(tmp_path, rows=1, views=slice(2, None, 5)).numpy(), pages[2::5, 1]
    )
    np.testing.assert_array_equal(read_tiff(tmp_path, rows=slice(1, 3)).numpy(), pages[:, 1:3])
    tifffile.imwrite(tmp_path / "stack.TIFF", pages, compression="zlib", photometric="minisblack")
    np.testing.assert_array_equal(read_tiff(tmp_path / "stack.TIFF", views=slice(0, 4)).numpy(), pages[:4])


def test_bad_tiffs_are_refused(tmp_path):
    import tifffile

    def written(name, array, **options):
        tifffile.imwrite(tmp_path / name, array, **options)
        return tmp_path / name

    grey = np.ones((3, 4), np.uint16)
    with pytest.raises(ValueError, match=r"b\.tif.*one kind"):
        read_tiff([written("a.tif", grey), written("b.tif", grey[:2])])
    with pytest.raises(ValueError, match="grey values"):
        read_tiff(written("c.tif", np.ones((3, 4, 3), np.uint8), photometric="rgb"))
    with pytest.raises(ValueError, match="NaN"):
        read_tiff(written("d.tif", np.full((3, 4), np.nan, np.float32)))
    path = written("e.tif", np.ones((64, 64), np.uint16))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ValueError, match=r"e\.tif.*truncated"):
        read_tiff(path)
    path.write_text("nothing of the kind")
    with pytest.raises(ValueError, match=r"e\.tif: not a TIFF"):
        read_tiff(path)
    with pytest.raises(ValueError, match="no row 7"):
        read_tiff(tmp_path / "a.tif", rows=7)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no \.tif"):
        read_tiff(tmp_path / "empty")


def test_a_tiff_that_claims_to_be_gigantic_is_refused(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 4), np.uint16))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(60000)
    with pytest.raises(ValueError, match=r"a\.tif.*(claims|truncated|damaged)"):
        read_tiff(tmp_path / "a.tif")


def test_a_stack_with_dark_and_flat_is_a_problem_in_counts(tmp_path):
    import tifffile

    geometry = ParallelBeam((12, 12), 1.0, [0.2 * k for k in range(15)], 14, 1.0)
    clean = XRay(geometry)(torch.full((12, 12), 0.05)).numpy()
    rng = np.random.default_rng(0)
    dark, flat = 50.0 + np.arange(14) % 3, 2000.0 + 10 * np.arange(14)
    views = np.zeros((15, 3, 14))
    views[:, 1] = dark + (flat - dark) * np.exp(-clean)
    (tmp_path / "views").mkdir()
    for k, view in enumerate(views):
        tifffile.imwrite(tmp_path / "views" / f"{k}.tif", np.rint(view).astype(np.uint16))
    for name, level in (("dark", dark), ("flat", flat)):
        frames = np.broadcast_to(level, (8, 3, 14)) + rng.normal(0, 1, (8, 3, 14))
        tifffile.imwrite(tmp_path / f"{name}.tif", frames.astype(np.float32), photometric="minisblack")
    problem = read_tiff_scan(
        tmp_path / "views", tmp_path / "dark.tif", tmp_path / "flat.tif", geometry, rows=1, gain=2.0
    )
    assert isinstance(problem.noise, LowDose) and problem.y.shape == (15, 14)
    i0 = torch.from_numpy((flat - dark) / 2).float()
    torch.testing.assert_close(problem.noise.i0[0], i0, rtol=2e-3, atol=0)  # means of eight frames, sigma 1
    torch.testing.assert_close(problem.linear, torch.from_numpy(clean), rtol=0, atol=5e-3)
    with pytest.raises(ValueError, match="choose rows and views"):
        read_tiff_scan(tmp_path / "views", tmp_path / "dark.tif", tmp_path / "flat.tif", geometry)
    tifffile.imwrite(tmp_path / "sinogram.tif", views[:, 1].astype(np.float32))
    for name, level in (("dark", dark), ("flat", flat)):
        tifffile.imwrite(tmp_path / f"{name}1.tif", level[None].astype(np.float32))
    one = read_tiff_scan(*(tmp_path / f"{n}.tif" for n in ("sinogram", "dark1", "flat1")), geometry)
    torch.testing.assert_close(one.linear, torch.from_numpy(clean), rtol=0, atol=1e-4)


# laboratories


def disc(geometry, centre=(3.0, -2.0), radius=4.0):
    """Chords of a disc, exact."""
    points, directions = geometry.rays()
    to = np.asarray(centre) - points
    along = (to * directions).sum(-1)
    gap = radius**2 - ((to**2).sum(-1) - along**2)
    return 2 * np.sqrt(gap.clip(0))


HTC = {
    "distanceSourceOrigin": 410.66,
    "distanceSourceDetector": 553.74,
    "pixelSizePost": 0.2,
    "numDetectorsPost": 160,
    "angles": np.arange(0, 360, 3.0)[None],
}


def htc(path, name="CtDataFull", drop=(), **changes):
    from scipy.io import savemat

    parameters = {k: v for k, v in (HTC | changes).items() if k not in drop and k != "sinogram"}
    angles = np.deg2rad(np.ravel(HTC["angles"]))
    geometry = FanBeam((64, 64), 0.2, tuple(angles), 160, 0.2, 410.66, 553.74)
    sinogram = changes.get("sinogram", disc(geometry))
    savemat(path, {name: {"type": "2D", "sinogram": sinogram, "parameters": parameters}})
    return path


@pytest.mark.parametrize("name", ["CtDataFull", "CtDataLimited"])
def test_an_htc_file_reconstructs_where_the_object_is(tmp_path, name):
    geometry, y = read_htc(htc(tmp_path / "a.mat", name), image_shape=(128, 128), pixel_size=0.2)
    assert (geometry.source_to_centre, geometry.source_to_detector) == (410.66, 553.74)
    assert geometry.detector == "flat" and geometry.n_bins == 160 and y.dtype == torch.float32
    np.testing.assert_allclose(y.numpy(), disc(geometry), rtol=1e-6, atol=1e-6)
    x = fbp(XRay(geometry), y) > 0.5
    total = x.double().sum()
    grid = (torch.arange(128) - 63.5) * 0.2
    place = float((x.double().sum(0) * grid).sum() / total), float((x.double().sum(1) * -grid).sum() / total)
    # a discretised centroid of a disc of 40 pixels across: within a fifth of a pixel
    assert place == pytest.approx((3.0, -2.0), abs=0.04)
    mirrored, _ = read_htc(tmp_path / "a.mat", clockwise=True)
    np.testing.assert_allclose(mirrored.angles, -np.asarray(geometry.angles))
    assert read_htc(tmp_path / "a.mat")[0].pixel_size == pytest.approx(0.2 * 410.66 / 553.74)


@pytest.mark.parametrize(
    "drop, changes, words",
    [
        (("angles",), {}, "angles"),
        (("distanceSourceOrigin",), {}, "distanceSourceOrigin"),
        (("pixelSizePost",), {}, "pixelSizePost or pixelSize"),
        ((), {"distanceSourceDetector": -1.0}, "distanceSourceDetector"),
        ((), {"numDetectorsPost": 100}, "160 bins in the sinogram, but 100"),
        ((), {"angles": np.zeros((1, 4))}, "4 angles"),
        ((), {"angles": np.full((1, 120), np.nan)}, "angles"),
        ((), {"sinogram": np.full((120, 160), np.nan)}, "NaN"),
        ((), {"sinogram": "text"}, "sinogram"),
        ((), {"distanceSourceOrigin": 600.0}, "source_to_detector"),
    ],
)
def test_htc_files_that_do_not_fit_are_refused(tmp_path, drop, changes, words):
    with pytest.raises(ValueError, match=words):
        read_htc(htc(tmp_path / "a.mat", drop=drop, **changes))


def test_hostile_mat_files_are_refused(tmp_path):
    from scipy.io import savemat

    path = tmp_path / "a.mat"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"a\.mat: not a MATLAB file"):
        read_htc(path)
    htc(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"a\.mat.*truncated"):
        read_htc(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124, b" ") + b"\x00\x02IM" + b"\0" * 100)
    with pytest.raises(ValueError, match=r"7\.3"):
        read_htc(path)
    savemat(path, {"other": np.zeros(3)})
    with pytest.raises(ValueError, match="expected CtDataFull or CtDataLimited, found other"):
        read_htc(path)
    savemat(path, {"CtDataFull": np.zeros(3)})
    with pytest.raises(ValueError, match="not a struct"):
        read_htc(path)


def detect(folder, offset=0.0, views=120, bins=96):
    """A small 2DeteCT scan of a disc: counts of single detector pixels, far end first, dark, flats."""
    import tifffile

    angles = tuple(2 * math.pi * k / views for k in range(views))
    geometry = FanBeam((64, 64), 0.1, angles, bins, 0.1496, 431.019989, 529.000488, offset=offset)
    fine = FanBeam((64, 64), 0.1, angles, 2 * bins, 0.0748, 431.019989, 529.000488, offset=offset)
    p = disc(fine, centre=(1.0, -0.8), radius=2.0)[:, ::-1] * 0.05
    p = np.concatenate([p, p[:1]])
    column = np.arange(2 * bins)
    dark, flat = 100 + column % 7, 20000 + 50 * (column % 11)
    folder.mkdir(parents=True)
    for name, value in {
        "sinogram": dark + (flat - dark) * np.exp(-p),
        "dark": dark[None],
        "flat1": flat[None] - 30.0,
        "flat2": flat[None] + 30.0,
    }.items():
        tifffile.imwrite(folder / f"{name}.tif", np.asarray(value, np.float32))
    return geometry


@pytest.mark.parametrize(
    "number, shift", [(1, 0.0748), (2830, 0.0748), (2831, 0.0), (5521, 0.0748), (6000, 0.0)]
)
def test_2detect_is_calibrated_binned_and_placed(tmp_path, number, shift):
    folder = tmp_path / f"slice{number:05d}" / "mode2"
    expected = detect(folder, offset=shift)
    geometry, y = read_2detect(folder, image_shape=(64, 64), pixel_size=0.1)
    assert geometry == expected
    exact = torch.from_numpy(disc(geometry, centre=(1.0, -0.8), radius=2.0) * 0.05)
    # two pixels are added as intensities: at the disc's edge the chord of their middle is another
    assert float((y - exact).abs().mean()) < 3e-4 and y.shape == (120, 96)
    x = fbp(XRay(geometry), y).double()
    x = (x > 0.025).double()  # half the disc's value, without the ripple outside
    grid = (torch.arange(64) - 31.5) * 0.1
    place = float((x.sum(0) * grid).sum() / x.sum()), float((x.sum(1) * -grid).sum() / x.sum())
    assert place == pytest.approx((1.0, -0.8), abs=0.03)


def test_2detect_that_does_not_fit_is_refused(tmp_path):
    import tifffile

    folder = tmp_path / "slice00001" / "mode1"
    detect(folder)
    tifffile.imwrite(folder / "dark.tif", np.zeros((1, 90), np.float32))
    with pytest.raises(ValueError, match=r"dark\.tif: 1 × 90"):
        read_2detect(folder)
    tifffile.imwrite(folder / "dark.tif", np.full((1, 192), 1e6, np.float32))
    with pytest.raises(ValueError, match="no light"):
        read_2detect(folder)
    (folder / "flat2.tif").unlink()
    with pytest.raises(ValueError, match=r"flat2\.tif: there is no such file"):
        read_2detect(folder)
    plain = tmp_path / "scan"
    detect(plain)
    with pytest.raises(ValueError, match="sliceNNNNN"):
        read_2detect(plain)
    assert read_2detect(plain, shift=0.01)[0].offset == 0.01


def test_noise_level_is_that_of_white_noise():
    smooth = torch.linspace(0, 3, 400).sin().expand(300, 400)
    noise = 0.02 * torch.randn(300, 400, generator=torch.Generator().manual_seed(3))
    # the median of 120 000 correlated values: about half a per cent
    assert noise_level(smooth + noise) == pytest.approx(0.02, rel=0.02)
    with pytest.raises(ValueError, match="three bins"):
        noise_level(torch.zeros(4, 2))
