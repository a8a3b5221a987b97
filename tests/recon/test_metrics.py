"""Metrics against scikit-image, by hand, alone and in a batch."""

import numpy as np
import pytest
import torch
from skimage import metrics as oracle

from recon.metrics import METRICS, body_mask, haarpsi, mae_hu, nrmse, psnr, rmse_hu, ssim


def pair(*shape, dtype=torch.float64, noise=0.2):
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(shape, generator=generator, dtype=torch.float64)
    truth = truth.cumsum(-1).sin() + truth
    return (truth + noise * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype), truth.to(
        dtype
    )


IMAGE, TRUTH = pair(3, 33, 40)


@pytest.mark.parametrize("data_range", [1.0, 2.7])
def test_psnr_nrmse_and_ssim_are_scikit_image_s(data_range):
    for x, t, p, n, s, w in zip(
        IMAGE,
        TRUTH,
        psnr(IMAGE, TRUTH, data_range=data_range),
        nrmse(IMAGE, TRUTH),
        ssim(IMAGE, TRUTH, data_range=data_range),
        ssim(IMAGE, TRUTH, data_range=data_range, gaussian=True),
        strict=True,
    ):
        x, t = x.numpy(), t.numpy()
        assert float(p) == pytest.approx(
            oracle.peak_signal_noise_ratio(t, x, data_range=data_range), abs=1e-9
        )
        assert float(n) == pytest.approx(oracle.normalized_root_mse(t, x), rel=1e-12)
        assert float(s) == pytest.approx(oracle.structural_similarity(t, x, data_range=data_range), abs=1e-9)
        wang = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=data_range)
        assert float(w) == pytest.approx(oracle.structural_similarity(t, x, **wang), abs=1e-9)


def test_float32_images_are_measured_in_float64():
    x, t = pair(2, 33, 40, dtype=torch.float32, noise=1e-4)
    for metric in (psnr, ssim):
        found = metric(x, t, data_range=1.0)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, metric(x.double(), t.double(), data_range=1.0), rtol=0, atol=0)


def test_a_range_per_image_is_the_range_of_each():
    ranges = TRUTH.amax((1, 2)) - TRUTH.amin((1, 2))
    for metric in (psnr, ssim):
        together = metric(IMAGE, TRUTH, data_range=ranges)
        alone = [metric(x, t, data_range=float(r)) for x, t, r in zip(IMAGE, TRUTH, ranges, strict=True)]
        torch.testing.assert_close(together, torch.stack(alone), rtol=1e-13, atol=0)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (0,)])
def test_every_metric_gives_one_value_per_image(batch):
    x, t = pair(*batch, 161, 176)
    mask = torch.ones(161, 176, dtype=torch.bool)
    for metric in METRICS.values():
        found = metric(x, t, data_range=1.0, mask=mask, mu_water=0.02, pixel_size=1.0)
        assert found.shape == batch and found.dtype == torch.float64


def test_the_mask_chooses_pixels():
    mask = torch.zeros(33, 40, dtype=torch.bool)
    mask[10:20, 5:31] = True
    x, t = IMAGE[..., 10:20, 5:31], TRUTH[..., 10:20, 5:31]
    torch.testing.assert_close(nrmse(IMAGE, TRUTH, mask=mask), nrmse(x, t))
    torch.testing.assert_close(psnr(IMAGE, TRUTH, data_range=1, mask=mask), psnr(x, t, data_range=1))
    torch.testing.assert_close(rmse_hu(IMAGE, TRUTH, mu_water=0.02, mask=mask), rmse_hu(x, t, mu_water=0.02))
    full = oracle.structural_similarity(TRUTH[0].numpy(), IMAGE[0].numpy(), data_range=1.0, full=True)[1]
    expected = full[10:20, 5:31].mean()
    assert float(ssim(IMAGE, TRUTH, data_range=1.0, mask=mask)[0]) == pytest.approx(expected, abs=1e-9)


def test_hounsfield_errors_by_hand():
    truth = torch.full((2, 2), 0.02, dtype=torch.float64)
    image = truth + torch.tensor([[0.001, -0.001], [0.0, 0.003]], dtype=torch.float64)
    # 1000 / 0.02 per mm: 50, −50, 0, 150 HU
    assert float(mae_hu(image, truth, mu_water=0.02)) == pytest.approx(62.5)
    assert float(rmse_hu(image, truth, mu_water=0.02)) == pytest.approx(27500**0.5 / 2)


def test_equal_images_are_perfect():
    assert float(psnr(TRUTH[0], TRUTH[0], data_range=1.0)) == float("inf")
    assert float(ssim(TRUTH[0], TRUTH[0], data_range=1.0)) == pytest.approx(1.0, abs=1e-12)


def test_complex_images_are_compared_as_complex():
    x, t = torch.complex(IMAGE, TRUTH), torch.complex(TRUTH, IMAGE)
    expected = (((x - t).abs() ** 2).sum((1, 2)) / (t.abs() ** 2).sum((1, 2))).sqrt()
    torch.testing.assert_close(nrmse(x, t), expected)
    with pytest.raises(ValueError, match="real"):
        ssim(x, t, data_range=1.0)


def test_the_body_is_the_largest_region_with_its_holes_filled():
    image = torch.zeros(2, 40, 40)
    image[0, 5:30, 5:30] = 0.02
    image[0, 10:20, 12:18] = 0.0  # lungs
    image[0, 36:38, 2:38] = 0.02  # table
    image[1, 8:12, 8:12] = 0.02 * 0.71  # −290 HU
    image[1, 20:30, 20:30] = 0.02 * 0.69  # −310 HU
    expected = torch.zeros(2, 40, 40, dtype=torch.bool)
    expected[0, 5:30, 5:30] = True
    expected[1, 8:12, 8:12] = True
    assert torch.equal(body_mask(image, mu_water=0.02), expected)
    assert not bool(body_mask(torch.zeros(4, 4)).any())


def test_the_names_carry_the_units():
    perceptual = ["ms_ssim", "uqi", "vifp", "haarpsi"]
    tasks = ["agatston_error", "calcium_error_mm3", "metal_rmse_hu"]
    assert list(METRICS) == ["psnr_db", "ssim", "nrmse", "nmse", "rmse_hu", "mae_hu", *perceptual, *tasks]
    context = dict(data_range=2.0, mask=None, mu_water=0.02, pixel_size=1.0)
    image, truth = pair(2, 161, 170)
    found = {name: metric(image, truth, **context) for name, metric in METRICS.items()}
    assert torch.equal(found["psnr_db"], psnr(image, truth, data_range=2.0))
    assert torch.equal(found["ssim"], ssim(image, truth, data_range=2.0))
    assert torch.equal(found["rmse_hu"], rmse_hu(image, truth, mu_water=0.02))
    assert torch.equal(found["haarpsi"], haarpsi(image, truth, data_range=2.0))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: psnr(IMAGE, TRUTH, data_range=None), "data_range"),
        (lambda: ssim(IMAGE, TRUTH, data_range=None), "data_range"),
        (lambda: METRICS["ssim"](IMAGE, TRUTH), "data_range"),
        (lambda: psnr(IMAGE, TRUTH, data_range=0.0), "data_range"),
        (lambda: psnr(IMAGE, TRUTH, data_range=torch.ones(2)), "data_range"),
        (lambda: rmse_hu(IMAGE, TRUTH, mu_water=None), "mu_water"),
        (lambda: mae_hu(IMAGE, TRUTH, mu_water=-1.0), "mu_water"),
        (lambda: nrmse(IMAGE, TRUTH[0]), "equal shapes"),
        (lambda: rmse_hu(IMAGE, TRUTH[0], mu_water=1.0), "equal shapes"),
        (lambda: ssim(IMAGE[:, :6], TRUTH[:, :6], data_range=1.0), "at least 7"),
        (lambda: nrmse(IMAGE, TRUTH, mask=torch.zeros(33, 40, dtype=torch.bool)), "empty"),
        (lambda: nrmse(IMAGE, TRUTH, mask=torch.ones(33, 40)), "bool"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_shift_has_the_psnr_of_its_size():
    # a shift of all pixels changes PSNR by the formula and nothing else
    shifted = TRUTH + 0.1
    expected = np.full(3, 20 * np.log10(1 / 0.1))
    np.testing.assert_allclose(psnr(shifted, TRUTH, data_range=1.0).numpy(), expected, rtol=1e-12)
