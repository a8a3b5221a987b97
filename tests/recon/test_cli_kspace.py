"""`recon reconstruct` of k-space: coil maps from the data, magnitudes in NIfTI, in their place."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from operators import Fourier, birdcage
from recon.cli import main
from recon.data import KSpace, read_nifti, write_kspace

pytest.importorskip("h5py", reason="the `mri` extra")
pytest.importorskip("nibabel", reason="the `formats` extra")

N, SLICES = 32, 2
SIGMA = 0.01


def disc(radius):
    y, x = torch.meshgrid(torch.arange(N) - N // 2, torch.arange(N) - N // 2, indexing="ij")
    # a smooth edge: an object that ESPIRiT's small kernels can follow
    return torch.sigmoid(2 * (radius - torch.hypot(y + 1.0, 0.8 * x)))


TRUTH = torch.stack([disc(10.0), disc(7.0)])


@pytest.fixture
def scan():
    maps = birdcage(4, (N, N)).to(torch.complex64)
    maps = maps / maps.abs().square().sum(0).sqrt()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 2000, dtype=torch.complex64, generator=generator) * SIGMA
    y = Fourier((N, N))(TRUTH[:, None] * maps) + SIGMA * torch.randn(
        SLICES, 4, N, N, dtype=torch.complex64, generator=generator
    )
    mask = (torch.arange(N) % 2 == 0) | ((torch.arange(N) - N // 2).abs() < 8)
    affine = np.array([[0, 3.0, 0, 5], [2, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    return KSpace(
        y * mask[:, None], mask=mask[:, None], noise=noise, field_of_view=(N * 3.0, N * 2.0), affine=affine,
        recon_shape=(24, 24), labels=({"slice": 0}, {"slice": 1}),
    )  # fmt: skip


def reconstruct(source, out, *options):
    arguments = ["reconstruct", source, "--out", out, *options]
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("name", ["scan.h5", "scan.npz"])
def test_images_of_a_file(tmp_path, scan, name):
    done = reconstruct(write_kspace(scan, tmp_path / name), tmp_path / "out")
    assert done.exit_code == 0, done.output
    volume = read_nifti(tmp_path / "out" / "scan.nii.gz")
    image = volume.hu
    truth = TRUTH[:, 4:28, 4:28].transpose(1, 2)  # the file's columns go to the back, rows to the left
    error = math.sqrt(float((image - truth).square().sum() / truth.square().sum()))
    assert error < 0.05, error  # R = 1.3, noise of 1 % of the image, maps from 16 lines
    np.testing.assert_allclose(volume.spacing, (4, 2, 3))
    inside = np.array([12, 12, 1, 1.0])  # the middle of the crop is the middle of the grid
    np.testing.assert_allclose(volume.affine @ inside, scan.affine @ [16, 16, 1, 1], atol=1e-4)


def test_bart_with_another_method(tmp_path, scan):
    source = write_kspace(scan, tmp_path / "scan.cfl")
    options = ["--method", "total-variation", "--param", "weight=1.0", "--param", "iterations=20"]
    done = reconstruct(source, tmp_path / "out", *options)
    assert done.exit_code == 0 and read_nifti(tmp_path / "out" / "scan.nii.gz").hu.shape == (2, N, N), (
        done.output
    )


def test_repetitions_are_series(tmp_path, scan):
    scan = replace(scan, labels=tuple({"slice": 0, "repetition": k} for k in range(2)))
    done = reconstruct(write_kspace(scan, tmp_path / "scan.h5"), tmp_path / "out", "--method", "zero-filled")
    assert done.exit_code == 0, done.output
    assert [p.name for p in sorted((tmp_path / "out").glob("*.nii.gz"))] == [
        "scan-repetition-0.nii.gz",
        "scan-repetition-1.nii.gz",
    ]


@pytest.mark.parametrize("method", ["fbp", "sinogram-denoised-fbp", "sirt", "mlem"])
def test_methods_of_other_data_say_so(tmp_path, scan, method):
    """A failure of every slice, told in a line, never a traceback."""
    source = write_kspace(scan, tmp_path / "scan.npz")
    done = reconstruct(source, tmp_path / "out", "--method", method)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    assert "scan, slice 1: " in done.output and "2 failed" in done.output


def test_slices_without_a_place_keep_their_distance(tmp_path, scan):
    """Heads without positions: the thickness that the header says."""
    scan = replace(scan, affine=None, attributes={"slice_spacing_mm": 3.5})
    done = reconstruct(write_kspace(scan, tmp_path / "scan.h5"), tmp_path / "out", "--method", "zero-filled")
    assert done.exit_code == 0, done.output
    assert read_nifti(tmp_path / "out" / "scan.nii.gz").spacing[0] == 3.5


def test_k_space_alone(tmp_path, scan):
    """NumPy's .npy, of one coil."""
    np.save(tmp_path / "scan.npy", Fourier((N, N))(TRUTH.to(torch.complex64)).numpy()[:, None])
    done = reconstruct(tmp_path / "scan.npy", tmp_path / "out", "--method", "zero-filled")
    assert done.exit_code == 0, done.output
    image = read_nifti(tmp_path / "out" / "scan.nii.gz").hu
    assert float((image - TRUTH).abs().max()) < 1e-5  # complex64


def test_without_nibabel_it_ends_before_it_begins(tmp_path, scan, monkeypatch):
    source = write_kspace(scan, tmp_path / "scan.npz")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    done = reconstruct(source, tmp_path / "out")
    assert done.exit_code != 0 and "hybrid-recon[formats]" in done.output
    assert not (tmp_path / "out").exists()


def test_wrong_use(tmp_path, scan):
    source = write_kspace(scan, tmp_path / "scan.npz")
    for options, words in (
        (["--format", "dicom"], "NIfTI only"),
        (["--mu-water", "0.02"], "--mu-water is of projections"),
    ):
        done = reconstruct(source, tmp_path / "out", *options)
        assert done.exit_code == 2 and words in done.output
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    done = reconstruct(tmp_path / "cut.h5", tmp_path / "out")
    assert done.exit_code == 2 and "cut.h5" in done.output and not (tmp_path / "out").exists()


def test_a_slice_without_a_centre_fails_alone(tmp_path, scan):
    """Its maps cannot be known; the other slice is reconstructed."""
    mask = scan.mask.expand(SLICES, N, 1).clone()
    mask[1] = (torch.arange(N) % 2 == 0)[:, None]
    scan = replace(scan, kspace=scan.kspace * mask[:, None], mask=mask)
    done = reconstruct(write_kspace(scan, tmp_path / "scan.npz"), tmp_path / "out")
    assert done.exit_code == 1 and "slice 2" in done.output and "1 failed" in done.output
    assert read_nifti(tmp_path / "out" / "scan.nii.gz").hu.shape == (1, 24, 24)
