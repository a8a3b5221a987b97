"""Simulated MR scans: what is in the data, what the truth is, motion, and what is refused."""

import math

import pytest
import torch

from operators import Fourier, Gaussian, Sense
from recon.data import (
    Ellipse,
    Ellipses,
    Motion,
    coil_fields,
    moved_image,
    multicoil_kspace,
    random_brain,
    random_motion,
    random_phase,
    shot_order,
    simulate_mri,
)
from recon.data.brains import FIELD
from recon.data.ellipses import disc
from recon.data.motion import moved_ellipses
from recon.data.mr_simulation import signal

OBJECT = Ellipses([Ellipse(1.0, (30, 18), (6, -4), 0.4), disc(-0.5, 9, (-8, 11))])
SHAPE, PIXEL = (48, 50), 2.0
FULL = torch.ones(SHAPE, dtype=torch.bool)
HALF = torch.arange(50) % 2 == 0
COILS, PHASE = coil_fields(4, seed=1), random_phase(3, 1.5)
DOUBLE = {"pixel_size": PIXEL, "shape": SHAPE, "dtype": torch.complex128}


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def fine_image(factor):
    size = (SHAPE[0] * factor, SHAPE[1] * factor)
    return OBJECT.rasterise(size, PIXEL / factor, 16)


def test_data_are_the_exact_k_space_where_sampled_and_zero_elsewhere():
    problem, truth = simulate_mri(OBJECT, HALF, COILS, phase=PHASE, **DOUBLE)
    exact = multicoil_kspace(OBJECT, COILS * PHASE, SHAPE, PIXEL)
    torch.testing.assert_close(problem.y[..., ::2], exact[..., ::2])
    assert not problem.y[..., 1::2].any()
    assert isinstance(problem.A, Sense) and problem.A.acceleration == 2.0
    assert truth.shape == SHAPE and truth.dtype == torch.complex128
    assert problem.A.spacing == (PIXEL, PIXEL)


def test_the_band_limited_truth_is_what_a_full_scan_shows():
    problem, truth = simulate_mri(OBJECT, FULL, COILS, phase=PHASE, **DOUBLE)
    maps = COILS.at(SHAPE)
    # the least-squares image: A is a unitary FFT of coil images, so the normal equations are pixelwise
    expected = problem.A.adjoint(problem.y) / maps.abs().square().sum(0)
    torch.testing.assert_close(truth, expected)
    ringing = error(problem.A(truth), problem.y)
    _, pixels = simulate_mri(OBJECT, FULL, COILS, phase=PHASE, truth="pixels", **DOUBLE)
    print(f"k-space the model cannot explain: {100 * ringing:.2f} %")  # noqa: T201
    print(f"pixel means against the band-limited image: {100 * error(pixels, truth):.1f} %")  # noqa: T201
    # coils and band limit do not commute exactly, and the object is not its pixels
    assert 1e-3 < ringing < 0.02
    assert 0.02 < error(pixels, truth) < 0.12


def test_data_lie_within_their_noise_of_the_band_limited_truth():
    found = {}
    for truth in ("band-limited", "pixels"):
        scan = {"shape": (64, 64), "pixel_size": FIELD / 64, "phase": PHASE, "snr": 40.0, "truth": truth}
        problem, x = simulate_mri(random_brain(0, "t2"), torch.arange(64) % 2 == 0, COILS, **scan)
        residual = (problem.A(x) - problem.y).abs().square() / problem.noise.sigma**2
        found[truth] = float(residual.sum()) / int(problem.A.sampled.expand(problem.y.shape).sum())
    print(f"χ² per datum of the truth: {found}")  # noqa: T201
    # the mean of 8192 exponentials is 1 ± 0.011; the rest is what coils and band limit do not commute
    assert 0.97 < found["band-limited"] < 1.15
    assert found["pixels"] > 1.5


def test_pixel_means_are_those_of_the_object_and_phase():
    _, truth = simulate_mri(OBJECT, FULL, COILS, phase=PHASE, truth="pixels", **DOUBLE)
    plain = OBJECT.rasterise(SHAPE, PIXEL, 32)
    flat = (plain > 0.499) & (plain < 0.501) | (plain > 0.999)
    # inside, the mean of the phase over a pixel is that at its centre but for its curvature
    assert float((truth - plain * PHASE.at(SHAPE))[flat].abs().max()) < 5e-3


def test_a_fine_image_gives_the_data_of_the_object_it_shows():
    problem, truth = simulate_mri(fine_image(8), HALF, COILS, phase=PHASE, **DOUBLE)
    exact, reference = simulate_mri(OBJECT, HALF, COILS, phase=PHASE, **DOUBLE)
    # what averaging over a fine pixel loses, as test_mr_kspace measures
    assert error(problem.y, exact.y) < 2e-3
    assert error(truth, reference) < 2e-3


def test_images_come_in_batches_and_maps_as_tensors():
    fine = torch.stack([fine_image(4), 2 * fine_image(4)])
    batch, truth = simulate_mri(fine, HALF, COILS, **DOUBLE)
    one, single = simulate_mri(fine[1], HALF, COILS, **DOUBLE)
    torch.testing.assert_close(batch.y[1], one.y)
    torch.testing.assert_close(truth[1], single)
    for size in (SHAPE, (192, 200)):
        by_raster, _ = simulate_mri(fine, HALF, COILS.at(size), **DOUBLE)
        # bicubic interpolation of smooth maps from the coarse grid; none from the fine one
        assert error(by_raster.y, batch.y) < (1e-3 if size == SHAPE else 1e-12)


def test_one_coil_without_maps():
    problem, truth = simulate_mri(OBJECT, FULL, None, **DOUBLE)
    assert problem.y.shape == SHAPE
    torch.testing.assert_close(problem.y, OBJECT.fourier(SHAPE, PIXEL), rtol=0, atol=1e-10)
    torch.testing.assert_close(Fourier(SHAPE)(truth), problem.y)


def test_on_the_very_grid_only_when_told():
    image = fine_image(1)
    with pytest.raises(ValueError, match="inverse_crime=True"):
        simulate_mri(image, FULL, COILS, **DOUBLE)
    problem, truth = simulate_mri(image, FULL, COILS, inverse_crime=True, **DOUBLE)
    torch.testing.assert_close(problem.y, problem.A(image.to(torch.complex128)))
    torch.testing.assert_close(truth, image.to(torch.complex128))


def test_noise_has_its_sigma_and_only_where_measured():
    clean, truth = simulate_mri(OBJECT, HALF, COILS, **DOUBLE)
    noisy, _ = simulate_mri(OBJECT, HALF, COILS, sigma=0.2, seed=4, **DOUBLE)
    n = (noisy.y - clean.y)[..., ::2]
    # |n|² is exponential: its deviation is its mean
    assert abs(float(n.abs().square().mean()) - 0.04) <= 4 * 0.04 / math.sqrt(n.numel())
    assert not noisy.y[..., 1::2].any()
    assert isinstance(noisy.noise, Gaussian) and noisy.noise.sigma == 0.2
    by_snr, _ = simulate_mri(OBJECT, HALF, COILS, snr=20.0, seed=4, **DOUBLE)
    assert float(by_snr.noise.sigma) == pytest.approx(float(signal(truth)) / 20)
    again, _ = simulate_mri(OBJECT, HALF, COILS, sigma=0.2, seed=4, **DOUBLE)
    torch.testing.assert_close(again.y, noisy.y, rtol=0, atol=0)


def test_masks_of_weights_weigh_the_data_as_the_operator():
    weights = torch.linspace(0, 1, 50, dtype=torch.float64)
    problem, _ = simulate_mri(OBJECT, weights, COILS, **DOUBLE)
    full, _ = simulate_mri(OBJECT, FULL, COILS, **DOUBLE)
    torch.testing.assert_close(problem.y, full.y * weights)


def still(shots=4, lines=50):
    return Motion(shot_order(lines, shots), torch.zeros(shots, 2), torch.zeros(shots))


@pytest.mark.parametrize("scene", [OBJECT, fine_image(2)], ids=["ellipses", "image"])
def test_no_motion_changes_nothing(scene):
    at_rest, truth = simulate_mri(scene, FULL, COILS, motion=still(), **DOUBLE)
    without, reference = simulate_mri(scene, FULL, COILS, **DOUBLE)
    torch.testing.assert_close(at_rest.y, without.y, rtol=0, atol=1e-12)
    torch.testing.assert_close(truth, reference)


@pytest.mark.parametrize("scene", [OBJECT, fine_image(4)], ids=["ellipses", "image"])
def test_a_translation_is_a_phase_ramp_on_the_lines_of_its_shot(scene):
    x, y = 3.3, -5.1
    motion = Motion(
        shot_order(50, 2, "interleaved"), torch.tensor([[0, 0], [x, y]], dtype=torch.float64), torch.zeros(2)
    )
    moved, truth = simulate_mri(scene, FULL, None, motion=motion, **DOUBLE)
    rest, reference = simulate_mri(scene, FULL, None, **DOUBLE)
    ky, kx = (2 * math.pi * (torch.arange(n) - n // 2).double() / n for n in SHAPE)
    ramp = torch.exp(-1j * (kx * x / PIXEL - ky[:, None] * y / PIXEL))
    torch.testing.assert_close(moved.y[:, ::2], rest.y[:, ::2], rtol=0, atol=1e-10)
    # shifts of a fine image wrap at its border, where it is zero
    torch.testing.assert_close(moved.y[:, 1::2], (rest.y * ramp)[:, 1::2], rtol=0, atol=1e-9)
    torch.testing.assert_close(truth, reference)  # what is to be found is at rest


def test_coils_stay_where_they_are():
    motion = Motion(torch.ones(50, dtype=torch.long), torch.tensor([[0.0, 0], [4.0, 2.0]]), torch.zeros(2))
    moved, _ = simulate_mri(OBJECT, FULL, COILS, phase=PHASE, motion=motion, **DOUBLE)
    elsewhere = moved_ellipses(OBJECT, (4.0, 2.0), 0.0)
    expected, _ = simulate_mri(elsewhere, FULL, COILS, phase=PHASE, **DOUBLE)
    torch.testing.assert_close(moved.y, expected.y)


@pytest.mark.parametrize("shape", [(96, 100), (95, 101)])
def test_a_moved_image_is_the_raster_of_the_moved_ellipses(shape):
    obj = Ellipses([Ellipse(1.0, (30, 18), (4, -6), 0.4)])
    smooth = _lowpass(shape)
    image = smooth(obj.rasterise(shape, 1.0, 32))
    moved = moved_image(image, (3.5, -2.25), 0.2)
    expected = smooth(moved_ellipses(obj, (3.5, -2.25), 0.2).rasterise(shape, 1.0, 32))
    assert error(moved, expected) < 2e-3  # pixel averages of an edge, low-passed
    assert error(image, expected) > 0.2
    back = moved_image(moved_image(image, (0.0, 0.0), 0.2), (0.0, 0.0), -0.2)
    torch.testing.assert_close(back, image.to(back.dtype), rtol=0, atol=1e-6)


def _lowpass(shape):
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in shape)
    response = torch.exp(-((fy[:, None] ** 2 + fx**2) / 0.1**2))
    return lambda image: torch.fft.ifft2(torch.fft.fft2(image) * response)


def test_motion_spoils_the_image_and_a_mask_of_one_shot_does_not():
    motion = random_motion(shot_order(50, 5), "drift", seed=2)
    moved, truth = simulate_mri(OBJECT, FULL, COILS, motion=motion, **DOUBLE)
    spoilt = moved.A.adjoint(moved.y) / COILS.at(SHAPE).abs().square().sum(0)
    assert error(spoilt, truth) > 0.03
    first = shot_order(50, 5) == 0
    only, _ = simulate_mri(OBJECT, first, COILS, motion=motion, **DOUBLE)
    rest, _ = simulate_mri(OBJECT, first, COILS, **DOUBLE)
    torch.testing.assert_close(only.y, rest.y)


@pytest.mark.parametrize("kind", ["step", "drift", "periodic"])
def test_random_motion_keeps_to_its_limits(kind):
    shots = shot_order(64, 8)
    found = [random_motion(shots, kind, seed, 3.0, 0.05) for seed in range(20)]
    for motion in found:
        assert len(motion) == 8
        assert float(motion.translations.abs().max()) <= 3 and float(motion.rotations.abs().max()) <= 0.05
        assert float(motion.translations.abs().max()) > 0
        if kind != "periodic":
            assert not motion.translations[0].any() and motion.rotations[0] == 0
    assert torch.equal(found[3].translations, random_motion(shots, kind, 3).translations)
    assert not torch.equal(found[3].translations, found[4].translations)


def test_shots_cover_the_lines():
    assert shot_order(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert shot_order(7, 3, "interleaved").tolist() == [0, 1, 2, 0, 1, 2, 0]


def trajectory(samples=60):
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.rand(samples, 2, generator=generator, dtype=torch.float64) - 1) * 3.1


def test_a_trajectory_measures_the_object_and_its_image_alike():
    pytest.importorskip("operators.nufft", reason="non-uniform operators are built in another branch")
    exact, truth = simulate_mri(OBJECT, None, COILS, trajectory=trajectory(), phase=PHASE, **DOUBLE)
    assert exact.y.shape == exact.A.out_shape == (4, 60)
    by_image, _ = simulate_mri(fine_image(8), None, COILS, trajectory=trajectory(), phase=PHASE, **DOUBLE)
    assert error(by_image.y, exact.y) < 3e-3
    # the model explains the low frequencies
    near = trajectory().square().sum(-1).sqrt() < 1.5
    assert error(exact.A(truth)[:, near], exact.y[:, near]) < 0.02
    shots = torch.arange(60) // 30
    moving = Motion(shots, torch.tensor([[0.0, 0], [4.0, 0.0]]), torch.tensor([0.0, 0.1]))
    moved, _ = simulate_mri(
        OBJECT, None, COILS, trajectory=trajectory(), motion=moving, phase=PHASE, **DOUBLE
    )
    torch.testing.assert_close(moved.y[:, :30], exact.y[:, :30])
    assert error(moved.y[:, 30:], exact.y[:, 30:]) > 0.05


BAD = {
    "exactly one of mask and trajectory": dict(mask=None),
    "truth": dict(truth="best"),
    "SmoothField": dict(maps=torch.ones(2, *SHAPE, dtype=torch.complex64)),
    "at most one of sigma": dict(sigma=1.0, snr=2.0),
    "broadcasts to": dict(mask=torch.ones(2, *SHAPE, dtype=torch.bool)),
    "another aspect": dict(scene=torch.ones(96, 96)),
    "not finer": dict(scene=torch.ones(24, 25)),
    "finite": dict(scene=torch.full((96, 100), math.nan)),
    "floating-point": dict(scene=torch.ones(96, 100, dtype=torch.int32)),
    "do not broadcast": dict(motion=still(2, 7)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    arguments = {"scene": OBJECT, "mask": FULL, "maps": COILS, **DOUBLE} | BAD[message]
    with pytest.raises(ValueError, match=message):
        simulate_mri(**arguments)


def test_bad_motion_is_named():
    lines = shot_order(8, 2)
    with pytest.raises(ValueError, match="from 0 to 0"):
        Motion(lines, torch.zeros(1, 2), torch.zeros(1))
    with pytest.raises(ValueError, match="integers"):
        Motion(lines.float(), torch.zeros(2, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="translations"):
        Motion(lines, torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="finite"):
        Motion(lines, torch.full((2, 2), math.inf), torch.zeros(2))
    with pytest.raises(ValueError, match="kind"):
        random_motion(lines, "jump")
    with pytest.raises(ValueError, match="shot_order"):
        shot_order(4, 5)
    with pytest.raises(ValueError, match="π/4"):
        moved_image(torch.ones(4, 4), (0, 0), 1.0)
