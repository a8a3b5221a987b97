"""Foreground masks of MR magnitudes: phantoms in Rician noise, Otsu against scikit-image."""

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu

from recon.metrics import foreground
from recon.metrics.thresholds import otsu


def head(n=64, sigma=0.04, seed=0, centre=(0.0, 0.0), size=0.7):
    """A bright rim, a skull without signal, tissue of 0.3 and 0.6, air; in Rician noise; the true support."""
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j]
    r = np.hypot((y - centre[0]) / size, (x - centre[1]) / (0.8 * size))
    image = np.where(r < 1, 1.0, 0.0)
    image[r < 0.9] = 0.0  # skull
    image[r < 0.8] = 0.6
    image[(r < 0.8) & (x > 0)] = 0.3
    image[np.hypot((y + 0.2) / 0.1, x / 0.1) < 1] = 0.0  # air
    rng = np.random.default_rng(seed)
    noise = sigma * (rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)))
    return torch.from_numpy(np.abs(image + noise)), torch.from_numpy(r < 1)


def dice(a, b):
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.05, 0.1])
def test_the_head_is_found_in_rician_noise(sigma):
    image, support = head(128, sigma=sigma)
    mask = foreground(image)
    assert mask.dtype == torch.bool and mask.shape == image.shape
    # smoothing moves the edge, 250 pixels long, outwards by up to 2 pixels: 500 of 2 · 7100 pixels
    assert dice(mask, support) > 0.966
    if sigma < 0.1:  # without it a closed rim is met exactly
        assert dice(foreground(image, smooth=0), support) > 0.999
    assert bool((mask | ~support).double().mean() > 0.999)  # skull and air inside are filled


def test_the_scale_of_the_image_does_not_matter():
    image, _ = head()
    assert torch.equal(foreground(image), foreground(1e4 * image))


def test_the_contrasts_of_the_body_do_not_divide_it():
    # half air, a quarter each of 0.25 and 1: Otsu of the values themselves would cut at 0.25, by hand
    image = torch.zeros(8, 16, dtype=torch.float64)
    image[:, 8:12], image[:, 12:] = 0.25, 1.0
    assert otsu(image.numpy()) == 0.25
    assert torch.equal(foreground(image, smooth=0), image > 0)


def test_only_the_largest_region_counts():
    image, support = head(sigma=0.02, size=0.5, centre=(-0.3, -0.3))
    image[55:60, 55:60] = 1.0
    mask = foreground(image)
    assert not bool(mask[50:, 50:].any()) and dice(mask, support) > 0.92


def test_every_slice_has_its_own_threshold_and_volumes_have_one():
    images = torch.stack([head(seed=0)[0], 0.01 * head(seed=1)[0]])
    apart = foreground(images)
    for one, mask in zip(images, apart, strict=True):
        assert torch.equal(mask, foreground(one))
    support = head()[1]
    # the same at 64 pixels: the edge is 125 pixels long, 250 of 2 · 1770 pixels
    assert dice(apart[1], support) > 0.93
    together = foreground(images, ndim=3, smooth=0.5)
    assert dice(together[0], support) > 0.9 and not bool(together[1].any())
    volume = torch.stack([head(seed=s)[0] for s in range(6)])
    assert dice(foreground(volume, ndim=3), support.expand(6, -1, -1)) > 0.85
    batch = foreground(torch.stack([volume, 3 * volume]), ndim=3)
    assert torch.equal(batch[0], batch[1]) and torch.equal(batch[0], foreground(volume, ndim=3))


def test_dilation_grows_by_one_pixel_a_step():
    image = torch.zeros(15, 15)
    image[5:8, 5:8] = 1.0
    grown = foreground(image, smooth=0, dilation=2)
    expected = torch.zeros(15, 15, dtype=torch.bool)
    y, x = torch.meshgrid(torch.arange(15), torch.arange(15), indexing="ij")
    distance = (y - 6).abs().sub(1).clamp(min=0) + (x - 6).abs().sub(1).clamp(min=0)
    expected[distance <= 2] = True
    assert torch.equal(grown, expected)


def test_a_threshold_is_in_the_unit_of_the_image():
    image = torch.tensor([[0.0, 5.0, 4.0], [0.0, 6.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.nonzero(foreground(image, threshold=4.5, smooth=0)).tolist() == [[0, 1], [1, 1]]


def test_otsu_is_scikit_image_s_up_to_its_bins():
    image = head(sigma=0.05)[0].numpy()
    bins = 4096
    # its thresholds are bin centres
    width = np.ptp(image) / bins
    found = otsu(image)
    ordered = np.sort(image.ravel())
    above = ordered[ordered > found].min()
    assert found - 2 * width <= threshold_otsu(image, nbins=bins) <= above + 2 * width


def test_otsu_maximises_the_variance_between_classes():
    values = np.random.default_rng(2).integers(0, 12, 60).astype(float)
    scores = {}
    for t in np.unique(values)[:-1]:
        low, high = values[values <= t], values[values > t]
        scores[t] = len(low) * len(high) * (low.mean() - high.mean()) ** 2
    assert otsu(values) == max(scores, key=scores.get)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: foreground(torch.ones(8, 8)), "every value is 1; a constant image"),
        (lambda: foreground(torch.stack([head()[0], torch.zeros(64, 64)])), r"every value is 0 \(number 1"),
        (lambda: foreground(torch.ones(8, 8, dtype=torch.complex64)), r"give image.abs\(\)"),
        (lambda: foreground(-head()[0]), "negative values"),
        (lambda: foreground(head()[0] / 0), "finite"),
        (lambda: foreground(head()[0], ndim=3), "at least 3 dimensions"),
        (lambda: foreground(head()[0], ndim=1), "expected 2 for slices"),
        (lambda: foreground(head()[0], threshold=100.0), "nothing is above 100"),
        (lambda: foreground(head()[0], dilation=-1), "whole dilation"),
        (lambda: foreground(head()[0], smooth=-1), "smooth ≥ 0"),
        (lambda: foreground(torch.ones(8, 8, dtype=torch.int64)), "floating-point"),
        (lambda: otsu(np.ones(4)), "at least two different numbers"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
