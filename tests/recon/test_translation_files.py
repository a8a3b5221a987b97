"""Image files of every kind: read as they are, refused where hostile; folders, lists, scans, splits."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from recon.data import axial, write_dicom, write_nifti
from recon.data.translation import (
    check_apart,
    image_files,
    listed_files,
    paired_files,
    read_picture,
    scans,
    split_by_patient,
)
from recon.data.translation.slices import Scan


def grey(path, values, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=dtype)).save(path)
    return path


def ramp(ny=4, nx=5, nz=None):
    count = ny * nx * (nz or 1)
    return np.arange(count).reshape((ny, nx) if nz is None else (nz, ny, nx))


# --- what is in a file


def test_png_of_8_and_16_bits(tmp_path):
    eight = read_picture(grey(tmp_path / "a.png", ramp()))
    assert eight.bits == 8 and eight.values.shape == (1, 4, 5) and not eight.volume
    np.testing.assert_array_equal(eight.values[0], ramp())
    deep = read_picture(grey(tmp_path / "b.png", ramp() * 3000, np.uint16))
    assert deep.bits is None and float(deep.values.max()) == 57000


def test_colours_with_equal_channels_are_grey(tmp_path):
    Image.fromarray(np.repeat(ramp().astype(np.uint8)[..., None], 3, 2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").values[0], ramp())


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".txt"])
def test_arrays_and_tables(tmp_path, suffix):
    path, values = tmp_path / f"a{suffix}", ramp() - 7.5
    match suffix:
        case ".npy":
            np.save(path, values)
        case ".npz":
            np.savez(path, image=values)
        case _:
            np.savetxt(path, values, delimiter="," if suffix == ".csv" else "\t")
    found = read_picture(path)
    np.testing.assert_array_equal(found.values[0], values)
    assert found.bits is None


def test_a_volume_says_that_it_is_one(tmp_path):
    np.save(tmp_path / "a.npy", ramp(nz=3))
    np.save(tmp_path / "b.npy", ramp(nz=1))
    assert read_picture(tmp_path / "a.npy").values.shape == (3, 4, 5)
    assert (
        read_picture(tmp_path / "b.npy").volume and not read_picture(grey(tmp_path / "c.png", ramp())).volume
    )


def test_dicom_and_nifti_keep_units_and_spacing(tmp_path):
    hu = torch.from_numpy(ramp(nz=2)).float() - 500
    write_dicom(axial(hu, (2.0, 0.5, 0.5)), tmp_path / "ct", "x")
    first = read_picture(tmp_path / "ct" / "slice-00001.dcm")
    assert first.modality == "CT" and first.spacing == (None, 0.5, 0.5)
    torch.testing.assert_close(first.values[0], hu[0], rtol=0, atol=0)
    write_nifti(axial(hu, (2.0, 0.5, 0.5)), tmp_path / "ct.nii.gz")
    volume = read_picture(tmp_path / "ct.nii.gz")
    torch.testing.assert_close(volume.values, hu, rtol=0, atol=0)
    assert volume.spacing == pytest.approx((2, 0.5, 0.5)) and volume.affine is not None


def test_8_bit_where_hu_are_expected(tmp_path):
    with pytest.raises(ValueError, match="expected HU, got 8-bit grey"):
        read_picture(grey(tmp_path / "a.png", ramp())).expect("HU")
    np.save(tmp_path / "a.npy", ramp().astype(np.float32))
    with pytest.raises(ValueError, match="whole numbers from 0 to 19, as 8-bit grey"):
        read_picture(tmp_path / "a.npy").expect("HU")
    np.save(tmp_path / "b.npy", ramp() - 1000.0)
    read_picture(tmp_path / "b.npy").expect("HU")


def test_another_modality_where_hu_are_expected():
    from pydicom.data import get_testdata_file

    with pytest.raises(ValueError, match="expected HU of a CT, got modality 'MR'"):
        read_picture(get_testdata_file("MR_small.dcm", download=False)).expect("HU")


# --- hostile files


def test_pickled_arrays_are_not_opened(tmp_path):
    for name, save in (("a.npy", np.save), ("a.npz", np.savez)):
        with (tmp_path / name).open("wb") as file:
            save(file, np.array([{"a": 1}], dtype=object))
        with pytest.raises(ValueError, match=f"{name}: not a NumPy file of numbers"):
            read_picture(tmp_path / name)


def test_an_array_that_claims_more_than_there_is(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": (2**20, 2**20)}
    )
    (tmp_path / "a.npy").write_bytes(buffer.getvalue() + b"0" * 64)
    with pytest.raises(ValueError, match="damaged"):
        read_picture(tmp_path / "a.npy")


def test_a_zip_bomb_is_refused_before_it_unfolds(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", b"0" * 1000)
    # the directory of the archive claims 5 GB; a real one of that size would take minutes to make
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(bytes(content))
    from recon.data.translation import pictures

    old, pictures.MOST = pictures.MOST, 2**31
    try:
        with pytest.raises(ValueError, match="refused, it unfolds to 4294967294 bytes"):
            read_picture(path)
    finally:
        pictures.MOST = old


def test_a_png_bomb_is_refused(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="refused, it unfolds to too many pixels"):
        read_picture(tmp_path / "a.png")


def test_truncated_files(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64))
    whole = grey(tmp_path / "a.png", noise).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.png: truncated or damaged"):
        read_picture(tmp_path / "a.png")
    (path,) = write_dicom(axial(torch.zeros(1, 8, 8), (1, 1, 1)), tmp_path / "ct", "x")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_picture(path)
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"b\.png: the file is empty"):
        read_picture(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["a.dcm", "a.npy", "a.nii.gz", "a.csv", "a.tif", "a.jpg"])
def test_a_wrong_suffix_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(grey(tmp_path / "x.png", ramp()).read_bytes())
    with pytest.raises(ValueError, match="its content is PNG; rename it"):
        read_picture(tmp_path / name)


def test_nonsense(tmp_path):
    for name, content in (
        ("a.png", b"hello"),
        ("a.npy", b"hello"),
        ("a.csv", b"1,2\n3"),
        ("b.csv", b"\xff\xfe"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_picture(tmp_path / name)
    np.save(tmp_path / "b.npy", np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match=r"b\.npy: expected finite values, got 1 NaN"):
        read_picture(tmp_path / "b.npy")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 4, 3)).astype(np.uint8)).save(
        tmp_path / "c.png"
    )
    with pytest.raises(ValueError, match="got colours"):
        read_picture(tmp_path / "c.png")
    with pytest.raises(ValueError, match="no such file"):
        read_picture(tmp_path / "none.png")
    (tmp_path / "a.doc").write_bytes(b"x")
    with pytest.raises(ValueError, match="no kind of image file"):
        read_picture(tmp_path / "a.doc")


# --- which files belong together


def test_pairs_have_equal_names_in_natural_order(tmp_path):
    for n in (10, 2, 1):
        grey(tmp_path / f"A/p{n % 2}/s-{n}.png", ramp())
        np.savetxt(tmp_path / "x.csv", ramp())
        (tmp_path / f"B/p{n % 2}").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"B/p{n % 2}/s-{n}.npy", ramp())
    (tmp_path / "A" / ".hidden.png").write_bytes(b"")
    (tmp_path / "A" / "notes.md").write_text("x")
    pairs = paired_files(tmp_path / "A", tmp_path / "B")
    assert [p.name for p, _ in pairs] == ["s-2.png", "s-10.png", "s-1.png"]
    assert all(a.stem == b.stem and a.parent.name == b.parent.name for a, b in pairs)
    assert len(image_files(tmp_path / "A", "s-1*")) == 2 and len(image_files(tmp_path / "A", "s-2")) == 1
    with pytest.raises(ValueError, match="no image files"):
        image_files(tmp_path / "A", depth=0)


def test_unpaired_counts_are_named(tmp_path):
    for n in range(4):
        grey(tmp_path / f"A/{n}.png", ramp())
    grey(tmp_path / "B/0.png", ramp())
    with pytest.raises(
        ValueError,
        match=r"3 of 4 images in .*A have no partner of the same name in .*B, which has 1: 1, 2, 3",
    ):
        paired_files(tmp_path / "A", tmp_path / "B")
    with pytest.raises(ValueError, match=r"3 of 4 images in .*A have no partner"):
        paired_files(tmp_path / "B", tmp_path / "A")
    grey(tmp_path / "B/0.jpg", ramp())
    with pytest.raises(ValueError, match="have one name"):
        paired_files(tmp_path / "B", tmp_path / "B")
    (tmp_path / "C").mkdir()
    with pytest.raises(ValueError, match="C: no image files in it"):
        paired_files(tmp_path / "C", tmp_path / "B")
    with pytest.raises(ValueError, match="there is no such folder"):
        image_files(tmp_path / "D")


def test_lists_of_files(tmp_path):
    for n in "abc":
        grey(tmp_path / f"{n}.png", ramp())
    (tmp_path / "tabs.txt").write_text("# low\tother\thigh\na.png\tx\tb.png\n\nb.png\tx\tc.png\n")
    (tmp_path / "commas.csv").write_text('"a.png",b.png\n')
    rows = listed_files(tmp_path / "tabs.txt", target_column=2)
    assert [(a.name, b.name) for a, b in rows] == [("a.png", "b.png"), ("b.png", "c.png")]
    assert listed_files(tmp_path / "commas.csv", tmp_path) == [(tmp_path / "a.png", tmp_path / "b.png")]
    with pytest.raises(ValueError, match="line 2: expected at least 6 columns"):
        listed_files(tmp_path / "tabs.txt", target_column=5)
    with pytest.raises(ValueError, match=r"line 2: there is no file .*x"):
        listed_files(tmp_path / "tabs.txt")
    with pytest.raises(ValueError, match="several columns as channels are not supported"):
        listed_files(tmp_path / "tabs.txt", target_column=[1, 2])


# --- scans and patients


def test_slices_are_ordered_by_position_not_by_name(tmp_path):
    hu = torch.arange(4.0)[:, None, None].expand(4, 6, 6).contiguous()
    files = write_dicom(axial(hu, (2.0, 1, 1), (0, 0, -30)), tmp_path / "ct", "x")
    for path, name in zip(files, "dbca", strict=True):
        path.rename(tmp_path / "ct" / f"{name}.dcm")
    (scan,) = scans([(p,) for p in image_files(tmp_path / "ct")], lambda p, side: 1)
    assert [p.stem for p, _ in scan.sides[0]] == ["d", "b", "c", "a"]
    assert scan.heights == (-30, -28, -26, -24) and scan.known == "series"
    middle = scan.between(-29, -26)
    assert [p.stem for p, _ in middle.sides[0]] == ["b", "c"]
    assert scan.between(0, 1) is None


def test_the_patient_is_found_where_he_is(tmp_path):
    from pydicom.data import get_testdata_file

    (scan,) = scans([(image_files(get_testdata_file("CT_small.dcm", download=False))[0],)], lambda p, side: 1)
    assert scan.known == "PatientID" and scan.patient == "1CT1"
    folders = [grey(tmp_path / f"p{n}/{k}.png", ramp()) for n in range(2) for k in range(3)]
    found = scans([(p,) for p in folders], lambda p, side: 1, tmp_path)
    assert [(s.patient, s.known, len(s)) for s in found] == [("p0", "folder", 3), ("p1", "folder", 3)]
    flat = [grey(tmp_path / f"flat/case{n}_{k}.png", ramp()) for n in range(2) for k in range(3)]
    assert len(scans([(p,) for p in flat], lambda p, side: 1, tmp_path / "flat")) == 6
    named = scans([(p,) for p in flat], lambda p, side: 1, patient=r"case(\d)")
    assert {s.patient for s in named} == {"0", "1"}
    with pytest.raises(ValueError, match="has no patient"):
        scans([(flat[0],)], lambda p, side: 1, patient="nobody")


def people(sizes):
    return [
        Scan(f"{p}/{k}", f"p{p}", "folder", (tuple((f"{p}/{k}", i) for i in range(3)),))
        for p, size in enumerate(sizes)
        for k in range(size)
    ]


def test_no_patient_is_in_two_parts():
    every = people([4, 1, 3, 2, 2, 5, 1, 2])
    for seed in range(5):
        parts = split_by_patient(every, {"train": 0.6, "validation": 0.2, "test": 0.2}, seed)
        who = [{s.patient for s in part} for part in parts]
        assert all(who) and not who[0] & who[1] and not who[0] & who[2] and not who[1] & who[2]
        assert sorted(s.name for part in parts for s in part) == sorted(s.name for s in every)
        # the largest patient has a quarter of the slices, no part can be further off than that
        assert abs(sum(map(len, parts[0])) / sum(map(len, every)) - 0.6) <= 0.25
    assert split_by_patient(every, [0.8, 0.2], 1) == split_by_patient(every, [0.8, 0.2], 1)
    assert split_by_patient(every, [0.8, 0.2], 1) != split_by_patient(every, [0.8, 0.2], 2)


def test_a_shared_patient_is_found():
    with pytest.raises(ValueError, match=r"patient 'p0' .* is in two parts"):
        check_apart(people([1, 1]), people([1]))
    with pytest.raises(ValueError, match="3 images of 1 patient cannot make 2 parts"):
        split_by_patient(people([1]), [0.8, 0.2])
