"""K-space containers, fastMRI's and NumPy's files: what is read is what was measured, and where."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from operators import Fourier, birdcage
from recon.data import KSpace, centre_crop, mri_problem, read_fastmri, read_kspace, write_kspace

h5py = pytest.importorskip("h5py", reason="the `mri` extra")

H, W, COILS, SLICES = 20, 14, 3, 2
HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<subjectInformation><patientID>Jane Roe</patientID></subjectInformation>
<acquisitionSystemInformation><systemFieldStrength_T>2.89</systemFieldStrength_T></acquisitionSystemInformation>
<encoding><encodedSpace><matrixSize><x>20</x><y>14</y><z>1</z></matrixSize>
<fieldOfView_mm><x>440</x><y>210</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>10</x><y>10</y><z>1</z></matrixSize>
<fieldOfView_mm><x>220</x><y>150</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>LAST</maximum><center>6</center>
</kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory></encoding>
<sequenceParameters><TR>2200</TR></sequenceParameters></ismrmrdHeader>"""


def coil_images(seed=0, shape=(SLICES, COILS, H, W)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.complex128, generator=generator)


def dft(n):
    """The centred orthonormal DFT as a matrix, written out."""
    k = torch.arange(n, dtype=torch.float64) - n // 2
    return torch.polar(torch.full((n, n), n**-0.5, dtype=torch.float64), -2 * math.pi * torch.outer(k, k) / n)


def measured(images):
    return torch.einsum("uy,vx,...yx->...uv", dft(images.shape[-2]), dft(images.shape[-1]), images)


def fastmri(path, images=None, mask=None, last=13, header=HEADER, kspace=None, **extra):
    images = coil_images() if images is None else images
    rss = images.abs().square().sum(1).sqrt() if images.ndim == 4 else images.abs()
    with h5py.File(path, "w") as file:
        values = measured(images).numpy().astype(np.complex64) if kspace is None else kspace
        file.create_dataset("kspace", data=values)
        file.create_dataset("reconstruction_rss", data=centre_crop(rss, (10, 10)).float().numpy())
        if header is not None:
            file.create_dataset("ismrmrd_header", data=header.replace("LAST", str(last)))
        if mask is not None:
            file.create_dataset("mask", data=mask)
        for name, value in extra.items():
            file.create_dataset(name, data=value)
        file.attrs.update({"max": 3.5, "norm": 7.0, "acquisition": "CORPD_FBK", "patient_id": "0f3a"})
    return path


def test_the_stored_rss_is_ours(tmp_path):
    scan = read_kspace(fastmri(tmp_path / "file1.h5", last=13))
    assert (len(scan), scan.coils, scan.grid, scan.recon_shape) == (SLICES, COILS, (H, W), (10, 10))
    x = Fourier((H, W)).adjoint(scan[1])
    rss = scan.cropped(x.abs().square().sum(0).sqrt())
    # complex64 k-space
    torch.testing.assert_close(rss, scan.references["rss"][1], rtol=1e-5, atol=1e-5)


def test_what_the_header_says(tmp_path):
    scan = read_fastmri(fastmri(tmp_path / "file1.h5"))
    assert scan.field_of_view == (440, 210) and scan.pixel_size == (22, 15)
    assert scan.attributes["max"] == 3.5 and scan.attributes["acquisition"] == "CORPD_FBK"
    assert scan.attributes["field_strength_T"] == 2.89 and scan.attributes["TR"] == 2200
    assert scan.labels == ({"slice": 0}, {"slice": 1})
    assert "Roe" not in repr(scan) and len(scan.attributes["patient_hash"]) == 16


def test_padding_was_not_measured(tmp_path):
    """The centre of the limits (6) lies at W // 2 = 7: columns 1 … 1 + 10."""
    scan = read_fastmri(fastmri(tmp_path / "a.h5", last=10))
    assert scan.sampled(0)[0].nonzero().flatten().tolist() == list(range(1, 12))
    full = read_fastmri(fastmri(tmp_path / "b.h5", header=None))
    assert full.mask is None and full.pixel_size == (1, 1)


def test_the_mask_of_a_test_file(tmp_path):
    mask = np.array([1, 0] * 7, dtype=np.float32)
    scan = read_fastmri(fastmri(tmp_path / "a.h5", mask=mask, header=None))
    problem = scan.problem(0, maps=torch.ones(COILS, H, W, dtype=torch.complex64), sigma=0.1)
    assert problem.A.acceleration == 2 and bool((problem.y[..., 1::2] == 0).all())
    torch.testing.assert_close(problem.y[..., ::2], scan[0][..., ::2])


def test_a_single_coil(tmp_path):
    images = coil_images(1, (SLICES, H, W))
    scan = read_fastmri(fastmri(tmp_path / "a.h5", images, reconstruction_esc=images.abs().numpy()))
    problem = scan.problem(1, sigma=1.0)
    assert problem.A.in_shape == problem.A.out_shape == (H, W) and set(scan.references) == {"rss", "esc"}
    seen = problem.A.adjoint(problem.y)
    torch.testing.assert_close(seen, images[1].to(torch.complex64), rtol=1e-4, atol=1e-5)


def test_pairs_of_reals(tmp_path):
    images = coil_images()
    pairs = np.zeros(images.shape, dtype=[("real", "<f8"), ("imag", "<f8")])
    y = measured(images).numpy()
    pairs["real"], pairs["imag"] = y.real, y.imag
    scan = read_fastmri(fastmri(tmp_path / "a.h5", kspace=pairs))
    torch.testing.assert_close(scan[0], torch.from_numpy(y[0]).to(torch.complex64))


def test_slices_travel_to_workers(tmp_path):
    """Nothing is open between reads, so that a copy in another process reads as well."""
    scan = read_fastmri(fastmri(tmp_path / "a.h5"))
    again = pickle.loads(pickle.dumps(scan))
    torch.testing.assert_close(again[1], scan[1])
    loader = torch.utils.data.DataLoader(
        scan.kspace, batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    torch.testing.assert_close(torch.stack(list(loader)), torch.stack([scan[0], scan[1]]))


def test_frames_share_one_problem():
    """(frames, ny, nx) with a mask each."""
    y = torch.randn(4, 2, 6, 5, dtype=torch.complex64)
    mask = torch.rand(4, 6, 1) < 0.6
    mask[:, 3] = True
    maps = torch.randn(2, 6, 5, dtype=torch.complex64)
    scan = KSpace(y, mask=mask, maps=maps, field_of_view=(12.0, 15.0))
    problem = scan.problem([0, 2], sigma=0.5)
    assert problem.A.in_shape == (2, 6, 5) and problem.A.spacing == (1, 2, 3)
    torch.testing.assert_close(problem.y[1], y[2] * mask[2])
    one = scan.problem(2, sigma=0.5)
    x = torch.randn(2, 6, 5, dtype=torch.complex64)
    torch.testing.assert_close(problem.A(x)[1], one.A(x[1]))


def test_retrospective_undersampling():
    y = torch.randn(1, 1, 6, 8, dtype=torch.complex64)
    scan = KSpace(y, mask=torch.arange(8) > 1)
    problem = scan.problem(mask=torch.arange(8) % 2 == 0)
    assert problem.A.sampled.expand(6, 8)[0].nonzero().flatten().tolist() == [2, 4, 6]


def test_prewhitening_makes_noise_white():
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(3, 3, dtype=torch.complex64, generator=generator)
    noise = mix @ torch.randn(3, 4000, dtype=torch.complex64, generator=generator)
    y = torch.randn(2, 3, 4, 5, dtype=torch.complex64, generator=generator)
    scan = KSpace(y, noise=noise, maps=torch.randn(3, 4, 5, dtype=torch.complex64, generator=generator))
    white = scan.prewhitened()
    covariance = white.noise @ white.noise.mH / 4000
    torch.testing.assert_close(covariance, torch.eye(3, dtype=torch.complex64), rtol=0, atol=1e-4)
    assert white.sigma == pytest.approx(1, rel=1e-5)
    # maps and data change alike: what fits one fits the other
    x = torch.randn(4, 5, dtype=torch.complex64, generator=generator)
    first, second = scan.problem(sigma=1.0).A(x), white.problem(sigma=1.0).A(x)
    back = torch.linalg.lstsq(white.noise.T, noise.T).solution.T
    torch.testing.assert_close(torch.einsum("cd,d...->c...", back, second), first, rtol=1e-3, atol=1e-3)


def test_whitened_maps_keep_the_image():
    """Coils that share noise: maps from whitened data see the image that is there, not a shaded one."""
    generator = torch.Generator().manual_seed(0)
    n = 32
    maps = birdcage(4, (n, n)).to(torch.complex64)
    maps = maps / maps.abs().square().sum(0).sqrt()
    r = torch.hypot(*torch.meshgrid(torch.arange(n) - 16.0, torch.arange(n) - 16.0, indexing="ij"))
    x = torch.sigmoid(10 - r)
    mix = torch.eye(4) + 0.5 * torch.randn(4, 4, generator=generator)
    noise = 1e-4 * mix.to(torch.complex64) @ torch.randn(4, 2000, dtype=torch.complex64, generator=generator)
    scan = KSpace(Fourier((n, n))(x * maps)[None], noise=noise).prewhitened()
    found = scan.coil_maps()
    image = Fourier((n, n)).adjoint(scan[0])
    seen = ((found.conj() * image).sum(0) / found.abs().square().sum(0).clamp(min=1e-9)).abs()
    inside = x > 0.5
    # ESPIRiT of this object errs by a few percent at its edge (2 % of the norm is what its own test asks)
    assert float((seen - x)[inside].norm() / x[inside].norm()) < 0.02


def test_sigma_from_the_edge():
    """Without a noise scan: of pure noise σ, up to the spread of a median of 0.1 · 0.5 · 4 · 64² values."""
    generator = torch.Generator().manual_seed(0)
    y = 3.0 * torch.randn(1, 4, 64, 64, dtype=torch.complex64, generator=generator)
    mask = torch.rand(64, 64, generator=generator) < 0.5
    maps = torch.ones(4, 64, 64, dtype=torch.complex64)
    problem = KSpace(y, mask=mask, maps=maps).problem()
    assert float(problem.noise.sigma) == pytest.approx(3, rel=0.09)  # four times 1/√800 · 0.72
    with pytest.raises(ValueError, match="no noise to measure"):
        KSpace(torch.zeros(1, 1, 4, 4, dtype=torch.complex64)).problem()


def test_crops_keep_the_centre():
    for n in (7, 8):
        for kept in (3, 4, 5, 9):
            image = torch.zeros(n, n)
            image[n // 2, n // 2] = 1
            small = centre_crop(image, (kept, kept))
            assert small.shape == (min(n, kept),) * 2 and small[min(n, kept) // 2, min(n, kept) // 2] == 1


def full_scan():
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(shape, dtype=torch.complex64, generator=generator)

    mask = torch.rand(7, 6, generator=generator) < 0.7
    return KSpace(
        random(2, 3, 7, 6) * mask, mask=mask, noise=random(3, 40), maps=random(3, 7, 6),
        references={"rss": torch.rand(2, 7, 6)}, field_of_view=(70.0, 90.0), recon_shape=(5, 5),
        affine=np.array([[15.0, 0, 0, 1], [0, 10, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]]),
        labels=({"slice": 0}, {"slice": 1}), attributes={"TR": 3.0},
    )  # fmt: skip


def test_npz_keeps_everything(tmp_path):
    scan = full_scan()
    again = read_kspace(write_kspace(scan, tmp_path / "scan.npz"))
    for name in ("mask", "noise", "maps"):
        torch.testing.assert_close(getattr(again, name), getattr(scan, name), rtol=0, atol=0)
    for k in (0, 1):
        torch.testing.assert_close(again[k], scan[k], rtol=0, atol=0)
    torch.testing.assert_close(again.references["rss"][1], scan.references["rss"][1], rtol=0, atol=0)
    assert again.field_of_view == (70, 90) and again.labels == scan.labels and again.attributes == {"TR": 3.0}
    assert again.recon_shape == (5, 5) and (again.affine == scan.affine).all()


def test_npz_keeps_that_coils_are_white(tmp_path):
    scan = replace(full_scan(), maps=None).prewhitened()
    again = read_kspace(write_kspace(scan, tmp_path / "scan.npz"))
    torch.testing.assert_close(again.whitening, scan.whitening, rtol=0, atol=0)


def test_trajectories_in_npz(tmp_path):
    k = (torch.rand(30, 2) - 0.5) * 2 * math.pi
    scan = KSpace(torch.randn(2, 3, 30, dtype=torch.complex64), trajectory=k, shape=(8, 9))
    again = read_kspace(write_kspace(scan, tmp_path / "scan.npz"))
    torch.testing.assert_close(again.trajectory, k, rtol=0, atol=0)
    assert again.grid == (8, 9) and len(again) == 2


def test_problems_of_trajectories():
    """One image, and frames with a path each; what fits the truth fits it here."""
    generator = torch.Generator().manual_seed(0)
    k = (torch.rand(2, 30, 2, generator=generator) - 0.5) * 2 * math.pi
    maps = torch.randn(3, 6, 5, dtype=torch.complex64, generator=generator)
    y = torch.randn(2, 3, 30, dtype=torch.complex64, generator=generator)
    scan = KSpace(y, trajectory=k, shape=(6, 5), maps=maps, field_of_view=(6.0, 10.0))
    both, one = scan.problem([0, 1], sigma=1.0), scan.problem(1, sigma=1.0)
    assert both.A.in_shape == (2, 6, 5) and both.A.spacing == (1, 1, 2) and one.A.spacing == (1, 2)
    x = torch.randn(2, 6, 5, dtype=torch.complex64, generator=generator)
    torch.testing.assert_close(both.A(x)[1], one.A(x[1]), rtol=1e-4, atol=1e-5)
    shared = KSpace(y[:, :1], trajectory=k[0], shape=(6, 5))
    assert shared.problem([0, 1], sigma=1.0).A.out_shape == (2, 1, 30)
    assert float(shared.problem(0).noise.sigma) > 0


def test_npz_of_others(tmp_path):
    """(coils, ky, kx), a mask or zeros instead of it, and strings about where it comes from."""
    scan = full_scan()
    np.savez(tmp_path / "a.npz", kspace=scan[0].numpy(), mask=scan.mask.numpy(), licence="BSD-3")
    np.savez(tmp_path / "b.npz", kspace=scan[0].numpy())
    np.save(tmp_path / "c.npy", scan[0].numpy())
    for name in ("a.npz", "b.npz", "c.npy"):
        again = read_kspace(tmp_path / name)
        assert len(again) == 1 and bool((again.sampled(0) == scan.mask).all())
        torch.testing.assert_close(again[0], scan[0])
    assert read_kspace(tmp_path / "a.npz").attributes == {"licence": "BSD-3"}


def test_a_volume_lies_where_it_lay():
    """Cropping moves the first pixel, not the others."""
    scan = full_scan()
    whole, cropped = scan.volume(torch.rand(2, 7, 6)), scan.volume(torch.rand(2, 5, 5))
    np.testing.assert_allclose(whole.affine, scan.affine)
    np.testing.assert_allclose(cropped.affine @ [2, 2, 1, 1], scan.affine @ [3, 3, 1, 1])
    assert scan.volume(torch.rand(7, 6, dtype=torch.complex64)).hu.is_complex()


def test_a_problem_of_a_volume():
    y = torch.randn(2, 3, 4, 5, dtype=torch.complex64)
    maps = torch.randn(2, 3, 4, 5, dtype=torch.complex64)
    problem = mri_problem(y, None, maps, 0.2, (2.0, 1.0, 1.0))
    assert problem.A.in_shape == (3, 4, 5) and problem.A.spacing == (2, 1, 1)
