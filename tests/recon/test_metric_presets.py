"""Metric presets against scikit-image, deepinv, bart, closed forms; magnitudes of complex images."""

import shutil
import subprocess
import warnings

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from recon.comparison.scores import decimals, label
from recon.metrics import METRICS, PRESETS, magnitude, nmse, nrmse, preset


def volumes(*shape, dark=0.2, seed=0):
    """Smooth magnitudes in [0, 1] and noisy ones; slice k is `dark`^k times as bright."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(shape, generator=generator, dtype=torch.float64).cumsum(-1).sin().abs()
    truth *= dark ** torch.arange(shape[-3], dtype=torch.float64)[:, None, None]
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (truth + 0.05 * noise).abs(), truth


IMAGE, TRUTH = volumes(2, 3, 24, 31)


def numbers(x):
    return x.numpy()


def test_fastmri_is_scikit_image_with_the_maximum_of_the_volume():
    found = preset("fastmri")(IMAGE, TRUTH)
    assert found["reference"] == "maximum of the truth's volume"
    for i, (x, t) in enumerate(zip(numbers(IMAGE), numbers(TRUTH), strict=True)):
        peak = t.max()
        assert float(found["data_range"][i]) == peak
        assert float(found["psnr_db"][i]) == pytest.approx(peak_signal_noise_ratio(t, x, data_range=peak))
        similar = [structural_similarity(b, a, data_range=peak) for a, b in zip(x, t, strict=True)]
        assert float(found["ssim"][i]) == pytest.approx(np.mean(similar), abs=1e-9)
        error = np.linalg.norm(t - x) ** 2 / np.linalg.norm(t) ** 2
        assert float(found["nmse"][i]) == pytest.approx(error, rel=1e-12)


def test_fastmri_by_slice_has_the_maximum_of_each():
    found = preset("fastmri-slice")(IMAGE, TRUTH)
    for i in np.ndindex(2, 3):
        x, t = numbers(IMAGE)[i], numbers(TRUTH)[i]
        assert float(found["psnr_db"][i]) == pytest.approx(peak_signal_noise_ratio(t, x, data_range=t.max()))
        assert float(found["ssim"][i]) == pytest.approx(
            structural_similarity(t, x, data_range=t.max()), abs=1e-9
        )
        assert float(found["nmse"][i]) == pytest.approx(((x - t) ** 2).sum() / (t**2).sum(), rel=1e-12)


def test_the_same_images_differ_by_decibels_between_volume_and_slice():
    # slices of maximum 1, a half, a quarter, and an error of 0.01 everywhere: by hand
    truth = torch.zeros(3, 8, 8, dtype=torch.float64)
    truth[:, 4, 4] = torch.tensor([1.0, 0.5, 0.25])
    image = truth + 0.01
    volume = preset("fastmri")(image, truth)["psnr_db"]
    slices = preset("fastmri-slice")(image, truth)["psnr_db"]
    assert float(volume) == pytest.approx(40, abs=1e-9)
    expected = 40 + 20 * np.log10([1, 0.5, 0.25])
    assert slices.tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    # 20 log10(2) = 6.02 dB on average, the order of what fastMRI's pull request 130 found
    assert float(volume - slices.mean()) == pytest.approx(6.0206, abs=1e-4)


def test_direct_can_be_pleased_by_one_bright_pixel():
    found = preset("direct")(IMAGE, TRUTH)
    x, t = numbers(IMAGE)[1, 2], numbers(TRUTH)[1, 2]
    by_hand = 20 * np.log10(x.max()) - 10 * np.log10(((x - t) ** 2).mean())
    assert float(found["psnr_db"][1, 2]) == pytest.approx(by_hand, abs=1e-9)
    assert float(found["data_range"][1, 2]) == x.max() and float(found["ssim_data_range"][1, 2]) == t.max()
    assert torch.equal(found["ssim"], preset("fastmri-slice")(IMAGE, TRUTH)["ssim"])
    # an error of 0.1 everywhere; one pixel at 10 costs 10²/4096 of mean square and gives 20 dB of range
    truth = torch.zeros(64, 64, dtype=torch.float64)
    truth[0] = 1
    poor = truth + 0.1
    worse = poor.clone()
    worse[30, 30] = 10
    better = preset("direct")(worse, truth)["psnr_db"] - preset("direct")(poor, truth)["psnr_db"]
    honest = (
        preset("fastmri-slice")(worse, truth)["psnr_db"] - preset("fastmri-slice")(poor, truth)["psnr_db"]
    )
    assert float(better) > 5 and float(honest) < -5


def test_calgary_campinas_has_the_range_of_both_images_of_the_slice():
    found = preset("calgary-campinas")(IMAGE, TRUTH)
    for i, (x, t) in enumerate(zip(numbers(IMAGE), numbers(TRUTH), strict=True)):
        values = []
        for a, b in zip(x, t, strict=True):
            a, b = a / b.max(), b / b.max()  # the script scales first, which changes nothing
            reach = max(a.max(), b.max()) - min(a.min(), b.min())
            values.append(
                (
                    peak_signal_noise_ratio(b, a, data_range=reach),
                    structural_similarity(b, a, data_range=reach),
                )
            )
        psnr_db, similar = np.mean(values, 0)
        assert float(found["psnr_db"][i]) == pytest.approx(psnr_db)
        assert float(found["ssim"][i]) == pytest.approx(similar, abs=1e-9)


def test_dagan_does_not_square_and_doubles_the_range_of_ssim():
    x, t = IMAGE[0], TRUTH[0]
    found = preset("dagan")(x, t)
    for i in range(3):
        a, b = numbers(x)[i], numbers(t)[i]
        assert float(found["psnr_db"][i]) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1))
        assert float(found["ssim"][i]) == pytest.approx(structural_similarity(b, a, data_range=2), abs=1e-9)
        assert float(found["nrmse"][i]) == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b))
    assert bool((found["ssim"] > preset("fastmri-slice")(x, t)["ssim"]).all())
    assert found["ssim_data_range"].tolist() == [2, 2, 2] and "nmse" not in found


def test_refinegan_has_a_peak_of_one():
    found = preset("refinegan")(IMAGE, TRUTH)["psnr_db"]
    by_hand = -10 * torch.log10(((IMAGE - TRUTH) ** 2).mean((-2, -1)))
    torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=0)
    flat = torch.full((8, 8), 3.0, dtype=torch.float64)
    # the truth is clipped at 1, the reconstruction is not: (3 − 1)² = 4
    assert float(preset("refinegan")(flat, flat)["psnr_db"]) == pytest.approx(-10 * np.log10(4))


def test_deepinv_agrees():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = pytest.importorskip("deepinv.loss.metric")
        x, t = IMAGE.reshape(6, 1, 24, 31), TRUTH.reshape(6, 1, 24, 31)
        phase = torch.exp(1j * torch.linspace(0, 3, 31, dtype=torch.float64))
        oracle = {
            "psnr_db": metric.PSNR(complex_abs=True)(x * phase, t + 0j),
            "ssim": metric.SSIM()(x, t),
            "nmse": metric.NMSE()(x, t),
        }
    found = preset("deepinv")((x * phase)[:, 0], t[:, 0])
    for key, value in oracle.items():
        # torchmetrics makes its Gaussian in float32 where it is told so; all else is double
        torch.testing.assert_close(found[key], value.double(), rtol=1e-6, atol=1e-6)


def test_deepinv_never_exceeds_80_db():
    found = preset("deepinv")(TRUTH[0], TRUTH[0])
    assert found["psnr_db"].tolist() == pytest.approx([80, 80, 80], abs=1e-9)


def complex_pair():
    generator = torch.Generator().manual_seed(4)
    draw = lambda: torch.randn(12, 9, generator=generator, dtype=torch.complex128)  # noqa: E731
    truth = draw()
    return (0.5 - 0.3j) * truth + 0.2 * draw(), truth


def test_bart_counts_the_phase_and_the_scaled_one_forgives_it():
    image, truth = complex_pair()
    plain = float(preset("bart")(image, truth)["nrmse"])
    error = torch.linalg.vector_norm(image - truth) / torch.linalg.vector_norm(truth)
    assert plain == pytest.approx(float(error), rel=1e-12)
    found = preset("bart-scaled")(image, truth)
    # the scale is that of the image, 0.5 − 0.3i, up to the noise: 0.2/√108 = 0.02
    assert abs(complex(found["scale"]) - (0.5 - 0.3j)) < 0.06
    fitted = preset("bart")(image / found["scale"], truth)["nrmse"]
    assert float(found["nrmse"]) == pytest.approx(float(fitted), rel=1e-12)
    rotated = preset("bart-scaled")(5j * image, truth)
    assert float(rotated["nrmse"]) == pytest.approx(float(found["nrmse"]), rel=1e-12)
    assert float(preset("bart-scaled")(0 * image, truth)["nrmse"]) == np.inf


@pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not installed")
def test_bart_itself_agrees(tmp_path):
    image, truth = complex_pair()
    for name, x in (("image", image), ("truth", truth)):
        shape = [*x.shape, *[1] * 14]
        (tmp_path / f"{name}.hdr").write_text("# Dimensions\n" + " ".join(map(str, shape)) + "\n")
        x.numpy().astype(np.complex64).ravel(order="F").tofile(tmp_path / f"{name}.cfl")
    for name, flags in (("bart", []), ("bart-scaled", ["-s"])):
        command = ["bart", "nrmse", *flags, "truth", "image"]
        out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        # it prints six digits, and computes in single precision
        assert float(preset(name)(image, truth)["nrmse"]) == pytest.approx(float(out.split()[-1]), abs=2e-6)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_one_number_per_image_and_its_reference(name):
    one = preset(name)
    together = one(IMAGE.float(), TRUTH.float())
    batch = (2,) if one.ndim == 3 else (2, 3)
    assert isinstance(together.pop("reference"), str)
    assert "data_range" in together
    for key, value in together.items():
        assert value.shape == batch and value.dtype in (torch.float64, torch.complex128)
        alone = one(IMAGE[1].float(), TRUTH[1].float())[key]
        torch.testing.assert_close(value[1], alone, rtol=1e-13, atol=0)
    assert one.compute.__doc__ and one.name == name


@pytest.mark.parametrize("name", [n for n in PRESETS if not n.startswith("bart")])
def test_of_complex_images_the_magnitude_is_taken(name):
    phase = torch.exp(1j * torch.linspace(0, 6, 31, dtype=torch.float64))
    real = preset(name)(IMAGE, TRUTH)
    for image, truth in ((IMAGE * phase, TRUTH), (IMAGE * phase, TRUTH * phase.conj())):
        for key, value in preset(name)(image, truth).items():
            if key != "reference":
                torch.testing.assert_close(value, real[key], rtol=1e-10, atol=1e-12)


def test_metrics_by_name_judge_magnitudes_and_hu_refuses_them():
    image, truth = volumes(1, 161, 176)
    phase = torch.exp(1j * torch.linspace(0, 6, 176, dtype=torch.float64))
    for name, metric in METRICS.items():
        if name.endswith("_hu") or name in ("agatston_error", "calcium_error_mm3"):
            with pytest.raises(ValueError, match=f"{name}: expected real attenuation"):
                metric(image * phase, truth, mu_water=0.02)
            continue
        found = metric(image * phase, truth, data_range=1.0)
        torch.testing.assert_close(found, metric(image, truth, data_range=1.0), rtol=1e-9, atol=1e-9)
    # but the functions themselves see the phase
    assert float(nrmse(image * phase, truth + 0j)) > 2 * float(nrmse(image, truth))
    signed = torch.tensor([[-1.0, 2.0]])
    assert torch.equal(magnitude(signed), signed)
    assert torch.equal(magnitude(signed + 0j), signed.abs())


def test_nmse_is_the_square_and_takes_a_mask():
    mask = torch.zeros(24, 31, dtype=torch.bool)
    mask[3:9, 4:20] = True
    found = nmse(IMAGE, TRUTH, mask=mask)
    torch.testing.assert_close(found, nmse(IMAGE[..., 3:9, 4:20], TRUTH[..., 3:9, 4:20]))
    torch.testing.assert_close(METRICS["nmse"](IMAGE, TRUTH), nrmse(IMAGE, TRUTH) ** 2)
    assert label("nmse") == "NMSE" and decimals("nmse") == 4


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: preset("fastMRI"), "expected one of fastmri, fastmri-slice"),
        (lambda: preset("fastmri")(IMAGE[0, 0], TRUTH[0, 0]), r"image\[None\]"),
        (lambda: preset("fastmri")(IMAGE, TRUTH[0]), "of one shape"),
        (lambda: preset("bart")(IMAGE[0, 0, 0], TRUTH[0, 0, 0]), "of one shape"),
        (lambda: preset("fastmri")(IMAGE / 0, TRUTH), "image: expected finite"),
        (lambda: preset("fastmri")(IMAGE, TRUTH * float("nan")), "truth: expected finite"),
        (lambda: preset("fastmri")(IMAGE, 0 * TRUTH), "positive values"),
        (lambda: preset("fastmri")(IMAGE[..., :6], TRUTH[..., :6]), "at least 7"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
