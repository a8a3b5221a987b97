"""BART's files: our order of dimensions and theirs, and their own programs as witnesses."""

import shutil
import subprocess

import numpy as np
import pytest
import torch

from operators import Fourier
from recon.data import KSpace, from_bart, read_cfl, read_kspace, to_bart, write_cfl, write_kspace

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="the program bart is not installed")


def bart(folder, *arguments):
    subprocess.run(["bart", *map(str, arguments)], cwd=folder, check=True, capture_output=True, timeout=60)


def random(*shape):
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def test_the_bytes_are_column_major(tmp_path):
    """Real and imaginary float32 in turn, the first dimension fastest; sixteen dimensions in the header."""
    array = random(3, 4, 1, 2)
    write_cfl(array, tmp_path / "a")
    assert (tmp_path / "a.hdr").read_text() == "# Dimensions\n3 4 1 2" + 12 * " 1" + "\n"
    raw = np.fromfile(tmp_path / "a.cfl", dtype=np.float32)
    assert raw[:4].tolist() == torch.view_as_real(array[:2, 0, 0, 0]).flatten().tolist()
    torch.testing.assert_close(read_cfl(tmp_path / "a.hdr"), array, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 4, 5), (1, 1, 4, 5)])
def test_there_and_back(shape):
    y = random(*shape)
    array = to_bart(y)
    assert array.shape == (*shape[:1:-1], 1, shape[1], *(1,) * 9, shape[0], 1, 1)
    torch.testing.assert_close(from_bart(array).reshape(shape), y, rtol=0, atol=0)
    z = random(2, 3, 4, 5, 6)
    torch.testing.assert_close(from_bart(to_bart(z, ndim=3, dimension="time")), z, rtol=0, atol=0)


def test_every_size_of_two_dimensions():
    """(x, y, 1), (1, y, z) and (x, 1, z) are images; four numbers of three axes stay three."""
    for shape in ((5, 4, 1), (1, 5, 4), (5, 1, 4), (5, 4, 3)):
        ours = tuple(reversed([n for n in shape if n > 1]))
        assert from_bart(random(*shape, 2)).shape == (2, *ours)


def test_kspace_there_and_back(tmp_path):
    mask = torch.rand(5, 6, generator=torch.Generator().manual_seed(1)) < 0.6
    scan = KSpace(random(3, 2, 5, 6) * mask, mask=mask, labels=tuple({"phase": k} for k in range(3)))
    again = read_kspace(write_kspace(scan, tmp_path / "scan.cfl", dimension="time"))
    assert again.labels == scan.labels and again.mask.shape == (5, 6)
    assert bool((again.mask == mask).all())
    for k in range(3):
        torch.testing.assert_close(again[k], scan[k], rtol=0, atol=0)
    assert len(read_kspace(tmp_path / "scan")) == 3  # as BART names them


@needs_bart
def test_their_phantom_is_our_kspace(tmp_path):
    """Their unitary FFT of their coil images is ours."""
    bart(tmp_path, "phantom", "-s", 4, "-x", 32, "images")
    bart(tmp_path, "fft", "-u", 3, "images", "kspace")
    scan = read_kspace(tmp_path / "kspace.cfl")
    assert scan.coils == 4 and scan.grid == (32, 32)
    images = from_bart(read_cfl(tmp_path / "images"))
    size = float(images.abs().max())
    ours = Fourier((32, 32)).adjoint(scan[0])
    torch.testing.assert_close(ours / size, images / size, rtol=0, atol=1e-6)  # float32


@needs_bart
def test_their_trajectory_is_ours(tmp_path):
    """Their sum along spokes is ours times √n; their gridding has our scale, up to its own error."""
    image = random(1, 1, 24, 20)
    write_cfl(to_bart(image), tmp_path / "image")
    bart(tmp_path, "traj", "-r", "-x", 20, "-y", 9, "trajectory")
    bart(tmp_path, "nufft", "-s", "trajectory", "image", "kspace")
    bart(tmp_path, "nufft", "trajectory", "image", "gridded")
    options = {"trajectory": tmp_path / "trajectory", "shape": (24, 20)}
    exact, gridded = (read_kspace(tmp_path / f"{name}.cfl", **options) for name in ("kspace", "gridded"))
    ours = exact.problem(sigma=1.0).A(image[0, 0])
    torch.testing.assert_close(exact[0] / 480**0.5, ours, rtol=0, atol=1e-4)  # float32, values about 1
    # noise up to the edge of the image is what gridding does worst
    assert float((gridded[0] - ours).norm() / ours.norm()) < 0.03
    with pytest.raises(ValueError, match=r"expected \(3, samples, spokes\)"):
        read_kspace(tmp_path / "kspace.cfl", trajectory=tmp_path / "image", shape=(24, 20))


@needs_bart
def test_they_read_what_we_write(tmp_path):
    """Their inverse FFT and sum of squares of our file."""
    y = random(1, 3, 6, 8)
    write_kspace(KSpace(y), tmp_path / "kspace.cfl")
    bart(tmp_path, "fft", "-iu", 3, "kspace", "images")
    bart(tmp_path, "rss", 8, "images", "rss")
    expected = Fourier((6, 8)).adjoint(y[0]).abs().square().sum(0).sqrt()
    torch.testing.assert_close(from_bart(read_cfl(tmp_path / "rss"))[0].real, expected, rtol=1e-5, atol=1e-6)
