"""Non-uniform Fourier transforms of other libraries, on one problem, each at the accuracy it has."""

import math
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import torch

from operators import NonUniformFourier, NonUniformSense, radial


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def distance(a, b):
    return float((a - b).norm() / b.norm())


SHAPE, SPOKES = (24, 20), radial(9, 40)


@pytest.fixture(scope="module")
def ours():
    A = NonUniformSense(SPOKES, random(2, *SHAPE), 1e-12, backend="direct")
    x = random(*SHAPE, seed=5)
    return A, x, A(x), A.adjoint(A(x))


def test_agrees_with_sigpy(ours):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sigpy = pytest.importorskip("sigpy")
    A, x, y, back = ours
    coord = SPOKES.numpy() * np.array(SHAPE) / (2 * math.pi)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sigpy.nufft((A.maps * x).numpy(), coord, oversamp=2, width=6)
        again = sigpy.nufft_adjoint(y.numpy(), coord, (2, *SHAPE), oversamp=2, width=6)
    # 6e-6 is what its kernel of six points reaches; its image side is Σ_c conj(S_c) of the coil images
    assert distance(torch.from_numpy(theirs), y) < 1e-5
    assert distance((A.maps.conj() * torch.from_numpy(again)).sum(0), back) < 1e-5


def test_agrees_with_mrpro(ours):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("mrpro")
        from mrpro.data import KTrajectory, SpatialDimension
        from mrpro.operators import NonUniformFastFourierOp

        A, x, y, _ = ours
        ky, kx = (SPOKES * torch.tensor(SHAPE) / (2 * math.pi)).unbind(-1)
        matrix = SpatialDimension(1, *SHAPE)
        path = KTrajectory(*(k[None, None, None].float() for k in (torch.zeros_like(ky), ky, kx)))
        operator = NonUniformFastFourierOp(("y", "x"), matrix, matrix, path)
        (theirs,) = operator((A.maps * x).to(torch.complex64)[None, :, None])
    assert distance(theirs.reshape(y.shape).to(y.dtype), y) < 1e-5


def test_agrees_with_bart(ours, tmp_path):
    if not shutil.which("bart"):
        pytest.skip("bart is not installed")
    x = ours[1]
    n = min(SHAPE)
    spokes = 0.8 * SPOKES  # its gridding does not wrap around at the edge of k-space
    square = NonUniformFourier((n, n), spokes, 1e-12, backend="direct")
    image = x[:n, :n]
    k = torch.stack([spokes[..., 1], spokes[..., 0], torch.zeros_like(spokes[..., 0])]) * n / (2 * math.pi)
    _write_cfl(tmp_path / "k", k.permute(0, 2, 1))  # Fortran order: (3, readout, spokes)
    _write_cfl(tmp_path / "x", image.T)  # (nx, ny)
    subprocess.run(
        ["bart", "nufft", "k", "x", "y"], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    theirs = _read_cfl(tmp_path / "y").reshape(40, 9).T
    wanted = square(image)
    scale = torch.vdot(wanted.flatten(), theirs.flatten()) / wanted.norm() ** 2
    # its grid and kernel scale by 1.0013, constant over k-space and images; beyond that single precision
    assert abs(scale - 1) < 2e-3
    assert distance(theirs / scale, wanted) < 2e-4


def _write_cfl(path, array):
    array = np.asarray(array, np.complex64)
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n")
    path.with_suffix(".cfl").write_bytes(array.tobytes(order="F"))


def _read_cfl(path):
    sizes = [int(n) for n in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    values = np.frombuffer(path.with_suffix(".cfl").read_bytes(), np.complex64)
    return torch.from_numpy(values.reshape([n for n in sizes if n > 1], order="F").astype(complex))
