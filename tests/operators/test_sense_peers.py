"""Sense and Fourier against independent code: sigpy, MRpro, deepinv and BART."""

import importlib
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import torch

from operators import Fourier, Sense
from operators.interop import from_deepinv, sense_from_deepinv, to_deepinv
from operators.testing import check

SHAPES = [(3, 6, 8), (4, 7, 5), (2, 6, 5), (2, 4, 6, 8), (3, 3, 5, 7)]  # coils, [nz,] ny, nx
SINGLE = 1e-6  # of the norm: rounding of complex64; 2e-7 was measured


def quietly(name):
    """A peer that warns when it is imported, or a skip."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def problem(shape):
    """Mask, maps, image, data, and what Sense makes of the two."""
    generator = torch.Generator().manual_seed(0)
    spatial = shape[1:]
    S, x, y = (torch.randn(s, generator=generator, dtype=torch.complex64) for s in (shape, spatial, shape))
    mask = torch.rand(spatial, generator=generator) < 0.6
    A = Sense(mask, S)
    return mask, S, x, y, A(x), A.adjoint(y)


def close(found, wanted, tolerance=SINGLE):
    found = torch.as_tensor(found).reshape(wanted.shape)
    assert float((found - wanted).norm()) <= tolerance * float(wanted.norm())


@pytest.mark.parametrize("shape", SHAPES)
def test_sigpy(shape):
    quietly("sigpy")
    linop = importlib.import_module("sigpy.mri.linop")
    mask, S, x, y, Ax, back = problem(shape)
    theirs = linop.Sense(S.numpy(), weights=mask.float().numpy())
    close(theirs(x.numpy()), Ax)
    close(theirs.H(y.numpy()), back)
    close(theirs.N(x.numpy()), Sense(mask, S).gram(x))


@pytest.mark.parametrize("shape", SHAPES)
def test_mrpro(shape):
    ops = quietly("mrpro.operators")
    mask, S, x, y, Ax, back = problem(shape)
    ndim, pad = x.ndim, (1,) * (3 - x.ndim)  # other, coils, z, y, x
    A = (
        ops.CartesianMaskingOp(mask.reshape(1, 1, *pad, *mask.shape))
        @ ops.FastFourierOp(dim=tuple(range(-ndim, 0)))
        @ ops.SensitivityOp(S.reshape(1, len(S), *pad, *mask.shape))
    )
    close(A(x.reshape(1, 1, *pad, *x.shape))[0], Ax)
    close(A.adjoint(y.reshape(1, len(S), *pad, *x.shape))[0], back)


@pytest.mark.parametrize("shape", SHAPES)
def test_deepinvs_several_coils(shape):
    physics = quietly("deepinv.physics")
    mask, S, x, y, Ax, back = problem(shape)
    theirs = physics.MultiCoilMRI(mask.float(), S[None], img_size=x.shape, three_d=x.ndim == 3)
    for A in (from_deepinv(theirs), sense_from_deepinv(theirs)):
        assert (A.in_shape, A.out_shape) == (tuple(x.shape), tuple(y.shape))
        close(A(x), Ax)
        close(A.adjoint(y), back)
    check(from_deepinv(theirs), dtypes=(torch.float32,), complex_input=True)
    ours = to_deepinv(Sense(mask, S))
    two = torch.stack([x.real, x.imag])[None].repeat(2, *(1,) * (x.ndim + 1))
    assert ours.A(two).shape == theirs.A(two).shape == (2, 2, *y.shape)
    for found, wanted in ((ours.A, theirs.A), (ours.A_adjoint_A, theirs.A_adjoint_A)):
        close(found(two), wanted(two))
    data = theirs.A(two)
    close(ours.A_adjoint(data), theirs.A_adjoint(data))


@pytest.mark.parametrize("shape", [(6, 5), (4, 6)])
def test_deepinvs_one_coil_and_frames(shape):
    physics = quietly("deepinv.physics")
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    masks = torch.rand(3, *shape, generator=torch.Generator().manual_seed(1)) < 0.5
    one = physics.MRI(masks[0].float(), img_size=(2, *shape))
    moving = physics.DynamicMRI(masks.float(), img_size=(2, 3, *shape))
    for theirs, image in ((one, x[0]), (moving, x)):
        A, ours = from_deepinv(theirs), sense_from_deepinv(theirs)
        assert A.in_shape == ours.in_shape == ours.out_shape == tuple(image.shape)
        close(ours(image), A(image))
        close(ours.adjoint(image), A.adjoint(image))
        two = torch.stack([image.real, image.imag])[None]
        close(to_deepinv(ours).A(two), theirs.A(two))


@pytest.mark.parametrize("shape", [(3, 6, 8), (2, 5, 7)])
def test_deepinvs_own_tests(shape):
    """Its adjointness, and the pseudo-inverse by its least squares, on Sense as its physics."""
    quietly("deepinv.physics")
    A = to_deepinv(Sense(problem(shape)[0], problem(shape)[1]))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *A.img_size, generator=generator)
    # deepinv's ⟨Ax, y⟩ − ⟨x, Aᵀy⟩, of some 200 products of order 1
    assert abs(float(A.adjointness_test(x))) <= 1e-3
    y = A.A(x)
    back = A.A_dagger(y, solver="CG", tol=1e-6, max_iter=300)
    assert float((A.A(back) - y).norm() / y.norm()) < 1e-3


def test_what_is_not_mri_is_refused():
    physics = quietly("deepinv.physics")
    with pytest.raises(ValueError, match=r"expected MRI, MultiCoilMRI or DynamicMRI, got Denoising"):
        sense_from_deepinv(physics.Denoising())
    with pytest.raises(ValueError, match="one mask and one set of maps"):
        sense_from_deepinv(physics.MRI(torch.ones(2, 2, 4, 5), img_size=(2, 4, 5)))
    halves = torch.ones(1, 2, 4, 5)
    halves[:, 1, 0] = 0
    with pytest.raises(ValueError, match="real and imaginary"):
        sense_from_deepinv(physics.MRI(halves, img_size=(2, 4, 5)))


@pytest.fixture
def bart(tmp_path):
    """bart("fft -u 3", array, …) of arrays whose last axis is BART's first."""
    command = shutil.which("bart")
    if command is None:
        pytest.skip("bart is not installed (Debian: apt install bart)")

    def run(arguments, *arrays):
        for k, array in enumerate(arrays):
            array.numpy().astype(np.complex64).tofile(tmp_path / f"in{k}.cfl")
            sizes = " ".join(map(str, reversed(array.shape)))
            (tmp_path / f"in{k}.hdr").write_text(f"# Dimensions\n{sizes}\n")
        names = [f"in{k}" for k in range(len(arrays))]
        subprocess.run(
            [command, *arguments.split(), *names, "out"], cwd=tmp_path, check=True, capture_output=True
        )
        sizes = [int(n) for n in (tmp_path / "out.hdr").read_text().splitlines()[1].split()]
        return torch.from_numpy(np.fromfile(tmp_path / "out.cfl", np.complex64).reshape(sizes[::-1]))

    return run


@pytest.mark.parametrize("shape", [(6, 8), (7, 5), (6, 5)])
def test_barts_unitary_transform(bart, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    close(bart("fft -u 3", x), Fourier(shape)(x))
    close(bart("fft -u -i 3", x), Fourier(shape).adjoint(x))


@pytest.mark.parametrize("shape", SHAPES)
def test_bart(bart, shape):
    """Products by `fmac`, transforms by `fft -u`; coils are its dimension 3."""
    mask, S, x, y, Ax, back = problem(shape)
    pad = (1,) * (3 - x.ndim)
    axes, S, image = 2**x.ndim - 1, S.reshape(len(S), *pad, *x.shape), x.reshape(1, *pad, *x.shape)
    sampled = mask.reshape(1, *pad, *x.shape)
    close(bart("fmac", bart(f"fft -u {axes}", bart("fmac", image, S)), sampled), Ax)
    data = bart(f"fft -u -i {axes}", bart("fmac", y.reshape(S.shape), sampled))
    close(bart("fmac -C -s 8", data, S), back)
