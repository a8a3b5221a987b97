"""ESPIRiT finds the maps that made the k-space, as sigpy and BART do."""

import shutil
import subprocess
import warnings

import numpy as np
import pytest
import torch

from operators import birdcage, espirit, poisson_disc, random_mask
from operators.coils import to_images, to_kspace

DOUBLE = torch.complex128


def scan(shape, coils=6, sigma=0.0, dtype=DOUBLE, seed=0):
    """K-space, maps, object and where it is; noise of size σ in images of size about 1."""
    n = len(shape)
    *z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, m, dtype=torch.float64) for m in shape), indexing="ij")
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 + (z[0] ** 2 / 0.8 if z else 0) < 1
    size = inside * (1 + 0.5 * torch.cos(7 * x) * torch.sin(9 * y + 1))
    image = size * torch.exp(1j * (1.5 * x + y * y - 0.7))
    maps = birdcage(coils, shape, dtype=DOUBLE)
    clean = to_kspace(maps * image, range(-n, 0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return (clean + sigma * noise).to(dtype), maps, image, inside


def error(maps, truth, inside):
    """‖S − S₀‖ / ‖S₀‖ where both see the object, modulo the phase of every pixel."""
    maps = maps.to(truth)
    inside = inside & (maps != 0).any(0) & (truth != 0).any(0)
    turned = maps * (maps.conj() * truth).sum(0).sgn()
    return float((turned - truth)[:, inside].norm() / truth[:, inside].norm())


@pytest.mark.parametrize("shape", [(64, 64), (63, 48), (50, 65)])
@pytest.mark.parametrize("sigma", [0.0, 0.02])  # the second: images of SNR 50 in the root of summed squares
@pytest.mark.parametrize("dtype", [torch.complex64, DOUBLE])
def test_finds_smooth_maps(shape, sigma, dtype):
    y, maps, _, inside = scan(shape, sigma=sigma, dtype=dtype)
    found = espirit(y, crop=0.9)
    assert found.maps.dtype == dtype
    assert found.maps.shape == y.shape
    assert found.eigenvalues.shape == shape
    assert float((found.eigenvalues > 0.9)[inside].float().mean()) > 0.99
    assert error(found.maps, maps, inside) < 0.02  # the promise of the project; 0.004 and 0.007 measured
    power = found.maps.abs().square().sum(0)
    assert bool(((power - 1).abs() < 1e-5).logical_or(power == 0).all())
    assert bool((found.eigenvalues < 1 + 1e-5).all())  # G is a mean of projections


@pytest.mark.parametrize(("sigma", "allowed"), [(0.0, 0.01), (0.02, 0.02)])  # 0.4 and 0.7 % measured
def test_of_exact_kspace_without_an_inverse_crime(sigma, allowed):
    """Ellipses and loop coils whose k-space no FFT made, its ringing included."""
    from recon.data import coil_fields, multicoil_kspace, random_brain, random_phase

    shape, fields = (96, 90), coil_fields(8)
    y = multicoil_kspace(random_brain(0), fields * random_phase(1), shape, 2.4)
    size = torch.linalg.vector_norm(to_images(y, (-2, -1)), dim=0)
    inside = size > 0.1 * size.max()
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    found = espirit(y + sigma * float(size[inside].mean()) * noise)
    assert error(found.maps, fields.at(shape), inside) < allowed
    assert float((found.maps != 0).any(0)[inside].double().mean()) > 0.99


def test_of_volumes():
    y, maps, _, inside = scan((16, 21, 18), coils=4)
    found = espirit(y, calibration=12, kernel=4, crop=0.8, ndim=3)
    assert error(found.maps, maps, inside) < 0.02
    assert float((found.eigenvalues > 0.8)[inside].float().mean()) > 0.99


def test_the_image_comes_back_with_its_phase_but_for_the_reference():
    """x̂ = S*y has |x̂| = |x|, and the phase of x plus that of the reference, which is smooth."""
    y, maps, image, inside = scan((48, 48))
    x = (espirit(y, crop=0.8, reference=0).maps.conj() * to_images(y, (-2, -1))).sum(0)
    wanted = image * maps[0].sgn()
    assert float((x - wanted)[inside].norm() / wanted[inside].norm()) < 0.02


def test_blocks_and_batches_change_nothing(monkeypatch):
    y = torch.stack([scan((24, 25), coils=3, sigma=0.02, seed=s)[0] for s in range(2)])
    wanted = [espirit(k, 16, 5) for k in y]
    monkeypatch.setattr("operators.autocalibration._BLOCK", 9 * 25 * 2)
    found = espirit(y.unflatten(0, (2, 1)), 16, 5)
    assert found.maps.shape == (2, 1, 3, 24, 25)
    for k in range(2):
        torch.testing.assert_close(found.maps[k, 0], wanted[k].maps)
        torch.testing.assert_close(found.eigenvalues[k, 0], wanted[k].eigenvalues)


def test_only_the_calibration_region_is_used_and_found():
    y, *_ = scan((48, 40))
    lines = torch.zeros(40, dtype=torch.bool)
    lines[::4] = True
    lines[10:30] = True
    under = y * lines
    wanted = espirit(y, (32, 20)).maps
    torch.testing.assert_close(espirit(under, (32, 20)).maps, wanted)
    box = torch.zeros(48, 40, dtype=torch.bool)
    box[14:34, 10:30] = True
    torch.testing.assert_close(espirit(y * box, None).maps, espirit(y, 20).maps)
    # 10:30 and the lattice line at 8 leave line 9 out: the region is that of the lines
    torch.testing.assert_close(espirit(under, None).maps, wanted)


def test_kernels_evaluated_in_the_image_are_a_projection_of_patches():
    """G as its definition: the mean over patch positions of the projection, applied to one pixel's wave."""
    from operators.autocalibration import _evaluated, _lags

    coils, size, shape = 2, (2, 3), (5, 4)
    V = torch.linalg.qr(torch.randn(12, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)))[0]
    G = torch.cat(list(_evaluated(_lags(V, coils, size), shape))).reshape(*shape, coils, coils)
    j0, j1 = torch.meshgrid(torch.arange(2.0), torch.arange(3.0), indexing="ij")
    for r0, r1 in ((0, 0), (3, 1), (4, 3)):
        # a pixel at r is the wave e^{−2πi k·r/n}; one coil's patch of it
        wave = torch.exp(-2j * torch.pi * ((r0 - 2) * j0.double() / 5 + (r1 - 2) * j1.double() / 4)).flatten()
        patch = torch.zeros(12, 2, dtype=DOUBLE)
        patch[:6, 0] = patch[6:, 1] = wave
        torch.testing.assert_close(G[r0, r1], patch.mH @ V @ V.mH @ patch / 6)


@pytest.mark.parametrize("shape", [(40, 40), (36, 44)])
@pytest.mark.parametrize("sigma", [0.0, 0.02])
def test_agrees_with_sigpy(shape, sigma):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app = pytest.importorskip("sigpy.mri.app")
        y, *_ = scan(shape, sigma=sigma)
        calibration = app.EspiritCalib(
            y.numpy(), crop=0.9, max_iter=300, output_eigenvalue=True, show_pbar=False
        )
        wanted, eigenvalues = (torch.from_numpy(a) for a in calibration.run())
        eigenvalues = eigenvalues.squeeze()
    found = espirit(y, crop=0.9, reference=0)
    both = (found.eigenvalues > 0.9) & (eigenvalues > 0.9)
    # 300 power iterations leave the edge of the crop open, and where eigenvalues are close
    assert float((both != (found.eigenvalues > 0.9)).float().mean()) < 0.01
    inside = both & (scan(shape)[3])
    assert float((found.maps - wanted)[:, inside].abs().max()) < 1e-6
    torch.testing.assert_close(found.eigenvalues[inside], eigenvalues[inside], atol=1e-8, rtol=0)


@pytest.mark.skipif(shutil.which("bart") is None, reason="needs Debian's bart")
def test_agrees_with_bart(tmp_path):
    y, _, _, inside = scan((56, 64), sigma=0.02)
    dims = [*reversed(y.shape[1:]), 1, len(y)]  # column-major: x, y, z, coils
    (tmp_path / "k.hdr").write_text("# Dimensions\n" + " ".join(map(str, dims)) + "\n")
    y.to(torch.complex64).numpy().tofile(tmp_path / "k.cfl")
    options = ["-m1", "-k6", "-r24", f"-t{0.02**2}", "-c0.9"]  # -t is of squared singular values
    subprocess.run(["bart", "ecalib", *options, "k", "s"], cwd=tmp_path, check=True, capture_output=True)
    wanted = torch.from_numpy(np.fromfile(tmp_path / "s.cfl", np.complex64).reshape(y.shape))
    found = espirit(y, crop=0.9).maps
    # BART works in single precision, where a singular value next to the threshold may fall on either side
    assert error(found, wanted.to(DOUBLE), inside) < 3e-3


def test_two_maps_explain_an_object_larger_than_the_field_of_view():
    """Every other line of a full scan: two places of the object lie on one pixel."""
    y, *_ = scan((48, 96))
    y = y[..., ::2]
    images = to_images(y, (-2, -1))
    left = []
    for maps in (1, 2):
        found = espirit(y, 24, 6, crop=0.8, maps=maps)
        S = found.maps.reshape(maps, *y.shape)
        explained = (S * (S.conj() * images).sum(1, keepdim=True)).sum(0)
        left.append(float((images - explained).norm() / images.norm()))
    assert found.maps.shape == (2, *y.shape)
    assert found.eigenvalues.shape == (2, 48, 48)
    overlap = (found.maps[0].conj() * found.maps[1]).sum(0).abs().max()
    assert float(overlap) < 1e-12  # eigenvectors of one matrix
    assert left[0] > 0.05
    assert left[1] < left[0] / 10
    assert espirit(y, maps=3).maps.shape == (3, *y.shape)


@pytest.mark.parametrize("shape", [(25, 33), (25, 32)])
def test_calibrates_on_the_centre_of_our_masks(shape):
    """An even width on an odd side, which masks as fastMRI's and crops as BART's place one point apart."""
    y, maps, _, inside = scan(shape)
    mask = poisson_disc(shape, 2, calibration=16, seed=0)
    assert error(espirit(y * mask, 16, 5).maps, maps, inside) < 0.05  # of 16² points, without noise
    lines = random_mask(shape[1], 2, center_fraction=16 / shape[1], seed=0)
    assert error(espirit(y * lines, (12, 16), 5).maps, maps, inside) < 0.05


Y = scan((24, 24), coils=3)[0]
HOLE = Y.clone()
HOLE[:, 10, 12] = 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: espirit(Y.real), "complex"),
        (lambda: espirit(Y * 0), "zero everywhere"),
        (lambda: espirit(Y * torch.nan), "NaN"),
        (lambda: espirit(Y, 25), "sides between 1"),
        (lambda: espirit(HOLE, 12), "1 points of the centre 12 are zero in every coil"),
        (lambda: espirit(Y, 4), "smaller than the kernel"),
        (lambda: espirit(Y, kernel=0), "kernel"),
        (lambda: espirit(Y, maps=4), "maps ≤ 3"),
        (lambda: espirit(Y, threshold=1.0), "threshold"),
        (lambda: espirit(Y, crop=1.1), "no eigenvalue above"),
        (lambda: espirit(Y[0, 0]), "coils, ny, nx"),
        (lambda: espirit(Y, ndim=4), "ndim"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
