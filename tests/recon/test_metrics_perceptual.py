"""MS-SSIM, UQI, VIFp and HaarPSI: scikit-image where it has a part, else written out in numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy import signal
from skimage.metrics import structural_similarity

from recon.metrics import haarpsi, ms_ssim, ssim, uqi, vifp
from recon.metrics.perceptual import WEIGHTS


def pair(*shape, noise=0.1):
    generator = torch.Generator().manual_seed(3)
    truth = torch.rand(shape, generator=generator, dtype=torch.float64).cumsum(-1).sin().cumsum(-2)
    truth = 100 * (truth - truth.amin((-2, -1), keepdim=True)) / (truth.amax() - truth.amin())
    return truth + 100 * noise * torch.randn(shape, generator=generator, dtype=torch.float64), truth


IMAGE, TRUTH = pair(2, 176, 182)
RANGE = 110.0
METRICS = {
    "ms_ssim": lambda x, t, r=RANGE: ms_ssim(x, t, data_range=r),
    "uqi": lambda x, t, r=None: uqi(x, t),
    "vifp": lambda x, t, r=RANGE: vifp(x, t, data_range=r),
    "haarpsi": lambda x, t, r=RANGE: haarpsi(x, t, data_range=r),
}


def slow_ms_ssim(x, t, data_range):
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    g = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    g = np.outer(g, g) / g.sum() ** 2

    def local(a):
        return signal.convolve2d(a, g, "valid")

    value = 1.0
    for scale, weight in enumerate(WEIGHTS):
        mx, mt = local(x), local(t)
        vx, vt, cov = local(x * x) - mx**2, local(t * t) - mt**2, local(x * t) - mx * mt
        contrast = (2 * cov + c2) / (vx + vt + c2)
        luminance = (2 * mx * mt + c1) / (mx**2 + mt**2 + c1)
        value *= (contrast * luminance if scale == 4 else contrast).mean() ** weight
        # the mean of a pixel and its neighbours right and below, mirrored at the end
        x, t = (np.pad(a, ((0, 1), (0, 1)), "symmetric") for a in (x, t))
        x, t = ((a[:-1, :-1] + a[1:, :-1] + a[:-1, 1:] + a[1:, 1:])[::2, ::2] / 4 for a in (x, t))
    return value


def slow_vifp(x, t, data_range):
    x, t, seen, total = 255 * x / data_range, 255 * t / data_range, 0.0, 0.0
    for scale in range(1, 5):
        n = 2 ** (4 - scale + 1) + 1
        at = np.arange(n) - n // 2
        g = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * (n / 5) ** 2))
        g /= g.sum()

        def local(a, g=g):
            return signal.convolve2d(a, g, "valid")

        if scale > 1:
            x, t = local(x)[::2, ::2], local(t)[::2, ::2]
        mx, mt = local(x), local(t)
        vx, vt, cov = local(x * x) - mx**2, local(t * t) - mt**2, local(x * t) - mx * mt
        for v, w, c in zip(vx.flat, vt.flat, cov.flat, strict=True):
            gain = max(c / w, 0.0)
            rest = v - gain * c
            seen += np.log10(1 + gain**2 * w / (rest + 2))
            total += np.log10(1 + w / 2)
    return seen / total


def slow_haarpsi(x, t, data_range):
    x, t = (
        signal.convolve2d(255 * a / data_range, np.full((2, 2), 0.25), "full")[1::2, 1::2] for a in (x, t)
    )
    above = below = 0.0
    for turn in (lambda k: k, np.transpose):
        found = []
        for a in (x, t):
            levels = []
            for j in (1, 2, 3):
                kernel = np.full((2**j, 2**j), 2.0**-j)
                kernel[: 2 ** (j - 1)] *= -1
                # Matlab's "same" begins one after scipy's for an even kernel
                full = signal.convolve2d(a, turn(kernel), "full")
                half = 2 ** (j - 1)
                levels.append(np.abs(full[half : half + a.shape[0], half : half + a.shape[1]]))
            found.append(levels)
        a, b = found
        for k in np.ndindex(x.shape):
            local = [(2 * a[j][k] * b[j][k] + 30) / (a[j][k] ** 2 + b[j][k] ** 2 + 30) for j in (0, 1)]
            weight = max(a[2][k], b[2][k])
            above += weight / (1 + np.exp(-4.2 * np.mean(local)))
            below += weight
    mean = above / below
    return (np.log(mean / (1 - mean)) / 4.2) ** 2


@pytest.mark.parametrize(
    ("metric", "slow", "shape"),
    [
        ("ms_ssim", slow_ms_ssim, (176, 176)),
        ("ms_ssim", slow_ms_ssim, (181, 187)),
        ("vifp", slow_vifp, (48, 61)),
        ("haarpsi", slow_haarpsi, (32, 48)),
        ("haarpsi", slow_haarpsi, (33, 40)),
    ],
)
def test_they_are_their_papers_written_out(metric, slow, shape):
    x, t = pair(*shape)
    expected = slow(x.numpy(), t.numpy(), RANGE)
    assert 0.05 < expected < 0.95
    # only rounding differs
    assert float(METRICS[metric](x, t)) == pytest.approx(expected, rel=1e-9)


def test_uqi_is_ssim_without_its_constants():
    expected = [
        structural_similarity(t, x, win_size=7, K1=1e-9, K2=1e-9, data_range=1.0, use_sample_covariance=False)
        for x, t in zip(IMAGE.numpy(), TRUTH.numpy(), strict=True)
    ]
    np.testing.assert_allclose(uqi(IMAGE, TRUTH, window=7).numpy(), expected, rtol=1e-9)


def test_one_scale_of_ms_ssim_is_ssim():
    found = ms_ssim(IMAGE, TRUTH, data_range=RANGE, weights=[1.0])
    torch.testing.assert_close(found, ssim(IMAGE, TRUTH, data_range=RANGE, gaussian=True), rtol=1e-12, atol=0)


def test_uqi_where_its_formula_is_nothing_by_nothing():
    zero, one = torch.zeros(8, 8, dtype=torch.float64), torch.ones(8, 8, dtype=torch.float64)
    assert float(uqi(zero, zero)) == 1.0
    assert float(uqi(3 * one, one)) == pytest.approx(2 * 3 / (3**2 + 1))
    slope = torch.arange(64, dtype=torch.float64).reshape(8, 8)
    assert float(uqi(one, slope)) == 0.0


@pytest.mark.parametrize("name", METRICS)
def test_laws_of_every_metric(name):
    metric = METRICS[name]
    together = metric(IMAGE, TRUTH)
    assert together.shape == (2,) and together.dtype == torch.float64
    # equal images are perfect; VIFp has no constant that could hide it, the others' logarithms round
    torch.testing.assert_close(metric(TRUTH, TRUTH), torch.ones(2, dtype=torch.float64), rtol=1e-9, atol=0)
    # an image's value does not depend on its neighbours in the batch
    torch.testing.assert_close(together[1], metric(IMAGE[1], TRUTH[1]), rtol=1e-12, atol=0)
    # more noise is worse
    assert bool((metric(TRUTH + 3 * (IMAGE - TRUTH), TRUTH) < together).all())
    # units do not matter, once the range has them
    torch.testing.assert_close(metric(0.01 * IMAGE, 0.01 * TRUTH, 0.01 * RANGE), together, rtol=1e-9, atol=0)
    # float32 is measured in float64
    x, t = IMAGE.float(), TRUTH.float()
    torch.testing.assert_close(metric(x, t), metric(x.double(), t.double()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["ms_ssim", "vifp", "haarpsi"])
def test_a_range_per_image(name):
    ranges = torch.tensor([RANGE, 2 * RANGE])
    alone = [METRICS[name](x, t, float(r)) for x, t, r in zip(IMAGE, TRUTH, ranges, strict=True)]
    torch.testing.assert_close(METRICS[name](IMAGE, TRUTH, ranges), torch.stack(alone), rtol=1e-12, atol=0)


def test_vifp_of_more_contrast_is_above_one():
    assert bool((vifp(1.5 * TRUTH, TRUTH, data_range=RANGE) > 1).all())


def test_uqi_counts_the_windows_of_the_mask():
    mask = torch.zeros(176, 182, dtype=torch.bool)
    mask[20:30, 40:60] = True
    # windows whose middle is in the mask reach 4 pixels before and 3 after it
    expected = uqi(IMAGE[:, 16:33, 36:63], TRUTH[:, 16:33, 36:63])
    torch.testing.assert_close(uqi(IMAGE, TRUTH, mask=mask), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ms_ssim(IMAGE, TRUTH, data_range=None), "data_range"),
        (lambda: vifp(IMAGE, TRUTH, data_range=0.0), "data_range"),
        (lambda: haarpsi(IMAGE, TRUTH, data_range=torch.ones(3)), "data_range"),
        (lambda: ms_ssim(IMAGE[:, :160], TRUTH[:, :160], data_range=1.0), "at least 161"),
        (lambda: ms_ssim(IMAGE, TRUTH, data_range=1.0, weights=[]), "weights"),
        (lambda: vifp(IMAGE[:, :40], TRUTH[:, :40], data_range=1.0), "at least 41"),
        (lambda: haarpsi(IMAGE[..., :15], TRUTH[..., :15], data_range=1.0), "at least 16"),
        (lambda: uqi(IMAGE[..., :7], TRUTH[..., :7]), "window"),
        (lambda: uqi(IMAGE, TRUTH[0]), "equal shapes"),
        (lambda: vifp(IMAGE * 1j, TRUTH * 1j, data_range=1.0), "real"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
