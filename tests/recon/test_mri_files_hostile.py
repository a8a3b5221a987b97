"""Damaged and hostile k-space files: a ValueError that names the file, and no bytes left behind."""

import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch

from recon.data import (
    KSpace,
    mri_problem,
    read_cfl,
    read_fastmri,
    read_ismrmrd,
    read_kspace,
    write_cfl,
    write_kspace,
)
from recon.data.mr_header import parse_header

h5py = pytest.importorskip("h5py", reason="the `mri` extra")

Y = torch.randn(2, 3, 6, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def refused(words, path, reader=read_kspace, **options):
    with pytest.raises(ValueError, match=words) as error:
        reader(path, **options)
    assert path.stem in str(error.value)


def hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return path


@pytest.mark.parametrize("name", ["scan.h5", "scan.npz", "scan.cfl"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_truncated_files(tmp_path, name, kept):
    path = write_kspace(KSpace(Y, noise=Y[0, :, 0]), tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    refused("damaged|truncated|whole", path)


def test_truncated_fastmri(tmp_path):
    path = hdf5(tmp_path / "cut.h5", kspace=np.repeat(Y.numpy(), 200, 0))
    whole = path.read_bytes()
    for kept in (0.3, 0.9):
        path.write_bytes(whole[: int(len(whole) * kept)])
        refused("damaged|truncated", path)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_never_crash(tmp_path, seed):
    """Whatever is broken, the answer is data or a ValueError."""
    generator = np.random.default_rng(seed)
    for name in ("scan.h5", "scan.npz"):
        path = write_kspace(KSpace(Y), tmp_path / name)
        raw = bytearray(path.read_bytes())
        for at in generator.integers(0, len(raw), 8):
            raw[at] = generator.integers(256)
        path.write_bytes(raw)
        try:
            assert read_kspace(path)[0].is_complex()
        except ValueError as error:
            assert name in str(error)


def test_a_dataset_larger_than_its_file(tmp_path):
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("kspace", shape=(10**6, 16, 640, 368), dtype="c8", chunks=(1, 1, 640, 368))
    refused("claims .* bytes", tmp_path / "huge.h5")


def test_a_compression_bomb(tmp_path):
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset(
            "kspace", data=np.zeros((40, 8, 256, 256), "c8"), compression=9, chunks=(1, 8, 256, 256)
        )
    assert (tmp_path / "bomb.h5").stat().st_size < 10**6
    refused("claims .* bytes", tmp_path / "bomb.h5")
    np.savez_compressed(tmp_path / "bomb.npz", kspace=np.zeros((40, 8, 256, 256), "c8"))
    refused("claims .* bytes", tmp_path / "bomb.npz")


def test_nothing_outside_the_file(tmp_path):
    secret = hdf5(tmp_path / "secret.h5", kspace=Y.numpy())
    path = tmp_path / "link.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = h5py.ExternalLink("secret.h5", "/kspace")
    refused("external link", path)
    with h5py.File(path, "w") as file:
        file["other"] = Y.numpy()
        file["kspace"] = h5py.SoftLink("/other")
    refused("soft link", path)
    layout = h5py.VirtualLayout(shape=Y.shape, dtype="c8")
    layout[:] = h5py.VirtualSource(secret, "kspace", shape=Y.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("kspace", layout)
    refused("other files", path)
    (tmp_path / "raw.bin").write_bytes(Y.numpy().tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", Y.shape, "c8", external=[(tmp_path / "raw.bin", 0, Y.numel() * 8)])
    refused("other files", path)
    with h5py.File(path, "w") as file:
        file["a"] = 1.0
        values = np.array([[[file["a"].ref]]], dtype=h5py.ref_dtype)
        file.create_dataset("kspace", data=values, dtype=h5py.ref_dtype)
    refused("references", path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (Y.abs().numpy(), "complex numbers, got float32"),
        (Y.numpy()[0, 0], r"slices, \[coils,\] H, W"),
        (Y.numpy()[:, :0], "none of them 0"),
    ],
)
def test_fastmri_that_is_not(tmp_path, values, words):
    refused(words, hdf5(tmp_path / "odd.h5", kspace=values))


def test_a_group_in_place_of_kspace(tmp_path):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file.create_group("kspace")
    refused("not an array", tmp_path / "odd.h5")


def test_masks_of_another_width(tmp_path):
    refused("mask: expected", hdf5(tmp_path / "odd.h5", kspace=Y.numpy(), mask=np.ones(9)))
    refused("samples nothing", hdf5(tmp_path / "odd.h5", kspace=Y.numpy(), mask=np.zeros(8)))


def test_nan_is_found_when_read(tmp_path):
    bad = Y.clone()
    bad[1, 0, 0, 0] = torch.nan
    scan = read_fastmri(hdf5(tmp_path / "nan.h5", kspace=bad.numpy()))
    assert bool(torch.isfinite(scan[0].abs()).all())
    with pytest.raises(ValueError, match=r"nan\.h5.*image 1.*NaN"):
        scan[1]
    np.savez(tmp_path / "nan.npz", kspace=bad.numpy())
    refused("NaN", tmp_path / "nan.npz")
    write_kspace(KSpace(Y), tmp_path / "nan2.h5")
    with pytest.raises(ValueError, match="NaN"):
        write_kspace(KSpace(bad), tmp_path / "nan2.h5")
    torch.testing.assert_close(read_kspace(tmp_path / "nan2.h5")[1], Y[1])  # the old file is still there
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nan.h5", "nan.npz", "nan2.h5"]


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ismrmrdHeader>&b;</ismrmrdHeader>'
ENCODING = (
    "<encoding><encodedSpace><matrixSize><x>{}</x><y>6</y><z>1</z></matrixSize></encodedSpace></encoding>"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "DOCTYPE"),
        ("<!doctype x><ismrmrdHeader/>", "not XML"),
        ("<ismrmrdHeader>", "not XML"),
        ("<other/>", "expected an ismrmrdHeader"),
        ("<ismrmrdHeader/>", "no encoding"),
        (f"<ismrmrdHeader>{ENCODING.format('many')}</ismrmrdHeader>", "expected a number, got 'many'"),
        (f"<ismrmrdHeader>{ENCODING.format('1e9')}</ismrmrdHeader>", "1 … 65536"),
        (f"<ismrmrdHeader>{ENCODING.format('-8')}</ismrmrdHeader>", "1 … 65536"),
        (f"<ismrmrdHeader>{ENCODING.format('inf')}</ismrmrdHeader>", "expected a number"),
    ],
)
def test_headers(text, words):
    with pytest.raises(ValueError, match=f"scan: .*{words}"):
        parse_header("scan", text)


def edited(path, change, xml=None):
    """One of our ISMRMRD files with its heads changed."""
    write_kspace(KSpace(Y), path)
    with h5py.File(path, "r+") as file:
        rows = file["dataset/data"][()]
        change(rows)
        file["dataset/data"][...] = rows
        if xml is not None:
            file["dataset/xml"][0] = xml(file["dataset/xml"][0].decode())
    return path


def replaced(text, changes):
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def test_heads_that_lie(tmp_path):
    path = tmp_path / "lie.h5"

    def claim(field, value):
        def change(rows):
            rows["head"][field][3] = value

        return change

    def outside(rows):
        rows["head"]["idx"]["kspace_encode_step_1"][3] = 60

    refused("claim .* bytes", edited(path, claim("number_of_samples", 60000)))
    refused("readout 3 has 24 numbers", edited(path, claim("number_of_samples", 7)))
    refused("no samples or no coils", edited(path, claim("active_channels", 0)))
    refused("coils", edited(path, claim("active_channels", 2)))
    refused("readout 3: kspace_encode_step_1 = 60", edited(path, outside))
    refused("does not fit", edited(path, claim("discard_pre", 8)))
    refused("no encoding space", edited(path, lambda rows: rows["head"]["encoding_space_ref"].fill(4)))
    refused("only 12 of noise", edited(path, lambda rows: rows["head"]["flags"].fill(1 << 18)))
    larger = {"<y>6</y>": "<y>60000</y>", "<z>1</z>": "<z>20</z>"}
    refused("claims k-space", edited(path, len, lambda x: replaced(x, larger)))
    refused("not fit", edited(path, lambda rows: None, lambda x: x.replace("<x>8</x>", "<x>4</x>")))


def test_ismrmrd_without_its_parts(tmp_path):
    refused("expected one ISMRMRD group", hdf5(tmp_path / "odd.h5", other=Y.numpy()))
    parts = {"dataset/data": np.ones(3), "dataset/xml": one_encoding()}
    refused("no table of ISMRMRD readouts", hdf5(tmp_path / "a.h5", **parts))
    refused("no group 'b'", write_kspace(KSpace(Y), tmp_path / "c.h5"), read_ismrmrd, dataset_name="b")


def one_encoding():
    return f"<ismrmrdHeader>{ENCODING.format(8)}</ismrmrdHeader>"


class Trap:
    """Would leave a file behind if it were unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


def test_pickles_stay_closed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "trap.npz", kspace=np.array([Trap()], dtype=object))
    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.npz", "trap.npy"):
        refused("pickled", tmp_path / name)
    refused("not a whole", tmp_path / "bare.npz")
    assert not (tmp_path / "trapped").exists()


def test_npy_headers_that_lie(tmp_path):
    header = b"{'descr': '<c8', 'fortran_order': False, 'shape': (1000000, 1000000)}"
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (tmp_path / "lie.npy").write_bytes(raw)
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("kspace.npy", raw)
    for name in ("lie.npy", "lie.npz"):
        refused("claims 8000000000000 bytes", tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"data": Y.numpy()}, "no array 'kspace'"),
        ({"kspace": Y.real.numpy()}, "complex numbers, got torch.float32"),
        ({"kspace": np.zeros((3, 6, 8), "c8")}, "zero everywhere"),
        ({"kspace": Y.numpy(), "mask": np.ones((5, 5), bool)}, "mask: expected bool that broadcasts"),
        ({"kspace": Y.numpy(), "mask": np.zeros((6, 8))}, "samples nothing"),
        ({"kspace": Y.numpy(), "maps": Y.numpy()[0, :2]}, "maps: expected complex"),
        ({"kspace": Y.numpy(), "about": np.array("[1]")}, "does not describe"),
    ],
)
def test_npz_that_is_not(tmp_path, arrays, words):
    np.savez(tmp_path / "odd.npz", **arrays)
    refused(words, tmp_path / "odd.npz")


def test_cfl_that_is_not(tmp_path):
    write_cfl(Y, tmp_path / "odd")
    header = tmp_path / "odd.hdr"
    for text, words in (
        ("# Dimensions\n8 6 3 3\n", "truncated, or not its header"),
        ("# Dimensions\n8 6 -3 2\n", "positive dimensions"),
        ("# Dimensions\n99999999999999999999 6 3 2\n", "positive dimensions"),
        ("8 6 3 2\n", "no header of BART"),
        ("# Dimensions", "no header of BART"),
    ):
        header.write_text(text)
        refused(words, tmp_path / "odd.cfl", read_cfl)
    header.unlink()
    refused("there is no such file", tmp_path / "odd.cfl")


def test_other_files(tmp_path):
    for name, words in (
        ("meas.dat", "siemens_to_ismrmrd"),
        ("scan.7", "ge_to_ismrmrd"),
        ("scan.txt", "fastMRI or"),
    ):
        (tmp_path / name).write_bytes(b"something else")
        refused(words, tmp_path / name)
    refused("no such file", tmp_path / "absent.h5")
    with pytest.raises(ValueError, match=r"ends in \.h5"):
        write_kspace(KSpace(Y), tmp_path / "scan.txt")


def test_without_h5py(tmp_path, monkeypatch):
    path = write_kspace(KSpace(Y), tmp_path / "scan.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    for act in (lambda: read_kspace(path), lambda: write_kspace(KSpace(Y), tmp_path / "b.h5")):
        with pytest.raises(ImportError, match=r"hybrid-recon\[mri\]"):
            act()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan.h5"]


def test_problems_that_are_none():
    with pytest.raises(ValueError, match="3 coils need sensitivities"):
        KSpace(Y).problem()
    with pytest.raises(ValueError, match="complex tensor, got"):
        mri_problem(Y.real)
    with pytest.raises(ValueError, match="samples nothing"):
        KSpace(Y[:, :1]).problem(mask=torch.zeros(8, dtype=torch.bool))
    with pytest.raises(ValueError, match="no noise scan"):
        KSpace(Y).prewhitened()
    with pytest.raises(ValueError, match="have no noise at all"):
        KSpace(Y, noise=torch.zeros(3, 50, dtype=torch.complex64)).prewhitened()
    with pytest.raises(ValueError, match="none of them 0"):
        KSpace(Y[:, :0])
