"""Losses against their formulas, written out in numpy or by somebody else."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch import nn

from priors import TV as PriorTV
from recon.losses import LOSSES
from recon.metrics import ms_ssim, nmse, ssim

random = np.random.default_rng(1)


def images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(shape, generator=generator, dtype=torch.float64).cumsum(-1).sin()
    return (truth + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(-1, 1), truth


X, T = images(3, 2, 7, 6)
x, t = X.numpy(), T.numpy()
AIR = (x < -0.1) != (t < -0.1)

PIXELS = {
    "l1": ({}, np.abs(x - t)),
    "l2": ({}, (x - t) ** 2),
    "lp": ({"p": 1.7}, np.abs(x - t) ** 1.7),
    "huber": (
        {"delta": 0.2},
        np.where(np.abs(x - t) <= 0.2, (x - t) ** 2 / 2, 0.2 * (np.abs(x - t) - 0.1)),
    ),
    "cycle": ({"p": 2}, (x - t) ** 2),
    "identity": ({}, np.abs(x - t)),
    "domain": ({}, np.abs(x - t)),
    "self-regularisation": ({}, np.abs(x - t)),
    "idempotence": ({}, np.abs(x - t)),
    "air": ({"threshold": -0.1}, np.where(AIR, np.abs(x - t), 0)),
    "latent-l2": ({}, x**2),
    "latent-kl": ({}, 0.5 * (x**2 + np.exp(t) - 1 - t)),
}


@pytest.mark.parametrize("name", PIXELS)
def test_pixel_losses(name):
    options, values = PIXELS[name]
    assert 0 < AIR.mean() < 1
    loss = LOSSES[name](**options)
    assert float(loss(X, T)) == pytest.approx(values.mean(), rel=1e-12)
    weight = random.random((3, 1, 7, 6))
    if loss.takes_mask:
        expected = [(w * v).sum() / (2 * w.sum()) for w, v in zip(weight, values, strict=True)]
        assert float(loss(X, T, torch.tensor(weight))) == pytest.approx(np.mean(expected), rel=1e-12)


def test_unit_s_posterior_has_half_the_square():
    half = LOSSES["latent-kl"]()(X)
    torch.testing.assert_close(half, 0.5 * LOSSES["latent-l2"]()(X), rtol=1e-12, atol=0)
    torch.testing.assert_close(half, LOSSES["latent-kl"]()(X, torch.zeros_like(X)), rtol=1e-12, atol=0)
    normal, unit = torch.distributions.Normal(X, (0.5 * T).exp()), torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(normal, unit).mean()
    torch.testing.assert_close(LOSSES["latent-kl"]()(X, T), expected, rtol=1e-6, atol=0)


def test_nmse_is_the_metric():
    expected = [nmse(a.flatten(0, 1), b.flatten(0, 1)) for a, b in zip(X, T, strict=True)]
    torch.testing.assert_close(LOSSES["nmse"](reduction="none")(X, T), torch.stack(expected))
    root = torch.stack(expected).sqrt().mean()
    torch.testing.assert_close(LOSSES["nmse"](root=True)(X, T), root)


def test_pooled_before_compared():
    expected = np.abs((x - t)[:, :, :6].reshape(3, 2, 3, 2, 3, 2).mean((3, 5))).mean()
    assert float(LOSSES["l1"](pool=2)(X, T)) == pytest.approx(expected, rel=1e-12)


def test_ssim_and_ms_ssim_are_the_metrics():
    u, v = images(2, 1, 48, 45)
    for window in (11, (11, 11)):
        found = 1 - LOSSES["ssim"](1.7, window=window, reduction="none")(u, v)
        expected = ssim(u, v, data_range=1.7, gaussian=True)[:, 0]
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    found = 1 - LOSSES["ms-ssim"](1.7, weights=(0.3, 0.5, 0.2), reduction="none")(u, v)
    expected = ms_ssim(u, v, data_range=1.7, weights=(0.3, 0.5, 0.2))[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    u, v = images(1, 1, 170, 163, seed=2)
    found = 1 - LOSSES["ms-ssim"](reduction="none")(u, v)
    torch.testing.assert_close(found, ms_ssim(u, v, data_range=2.0)[:, 0], rtol=1e-10, atol=0)
    l1 = (u - v).abs().mean()
    expected = 0.7 * (1 - found.mean()) + 0.3 * l1
    torch.testing.assert_close(LOSSES["structural"](0.7)(u, v), 0.7 * (1 - found.mean()) + 0.3 * l1)


def test_ssim_of_volumes_and_of_channels():
    u, v = images(1, 2, 13, 15, 12)
    pairs = [(u[0, c].numpy(), v[0, c].numpy()) for c in range(2)]
    options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 2.0}
    expected = 1 - np.mean([structural_similarity(b, a, **options) for a, b in pairs])
    # another order of the same sums
    assert float(LOSSES["ssim"]()(u, v)) == pytest.approx(expected, rel=1e-8)
    # a window of 1 along z: every slice by itself
    flat = LOSSES["ssim"](window=(1, 11, 11))(u, v)
    slices = [LOSSES["ssim"]()(u[:, :, z], v[:, :, z]) for z in range(13)]
    torch.testing.assert_close(flat, torch.stack(slices).mean(), rtol=1e-10, atol=0)


def test_an_inverted_image_has_no_ms_ssim_but_finite_slopes():
    u = images(1, 1, 30, 30)[1]
    z = (-u).clone().requires_grad_(True)
    value = LOSSES["ms-ssim"](weights=(0.5, 0.5))(z, u)
    assert value.item() == 1.0
    (slope,) = torch.autograd.grad(value, z)
    assert not slope.any()
    (slope,) = torch.autograd.grad(LOSSES["structural"](weights=(0.5, 0.5))(z, u), z)
    assert bool(torch.isfinite(slope).all()) and slope.any()


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.mark.parametrize("filter", ["sobel", "difference"])
@pytest.mark.parametrize("shape", [(3, 2, 8, 7), (2, 1, 5, 6, 7)])
@pytest.mark.parametrize("absolute", [False, True])
def test_gradient_consistency_is_hiasa_s(filter, shape, absolute):
    u, v = images(*shape)
    inside = (slice(1, -1),) * (len(shape) - 2)
    found = []
    for n in range(shape[0]):
        for c in range(shape[1]):
            for axis in range(len(shape) - 2):
                if filter == "sobel":
                    a, b = (ndimage.sobel(i[n, c].numpy(), axis)[inside] for i in (u, v))
                else:
                    a, b = (np.diff(i[n, c].numpy(), axis=axis) for i in (u, v))
                found.append(correlation(a, b))
    found = np.abs(found) if absolute else found
    loss = LOSSES["gradient-consistency"](filter, absolute)
    # ε is 1e-8 of a variance of 0.1
    assert float(loss(u, v)) == pytest.approx(1 - np.mean(found), rel=1e-7)


def test_gradient_consistency_of_contrast_and_of_flat_images():
    loss = LOSSES["gradient-consistency"]()
    assert float(loss(0.3 * X + 0.1, X)) == pytest.approx(0, abs=1e-9)
    assert float(loss(-X, X)) == pytest.approx(2)
    assert float(LOSSES["gradient-consistency"](absolute=True)(-X, X)) == pytest.approx(0, abs=1e-9)
    flat = torch.ones_like(X, requires_grad=True)
    value = loss(flat, X)
    assert value.item() == 1.0
    assert bool(torch.isfinite(torch.autograd.grad(value, flat)[0]).all())


def test_gradient_difference_is_nie_s():
    expected = sum(np.mean((np.abs(np.diff(x, axis=k)) - np.abs(np.diff(t, axis=k))) ** 2) for k in (2, 3))
    assert float(LOSSES["gradient-difference"]()(X, T)) == pytest.approx(expected, rel=1e-12)
    expected = 0.0
    for k in (2, 3):
        for c, d in ((c, d) for c in range(3) for d in range(2)):
            a, b = (ndimage.sobel(i[c, d], k - 2)[1:-1, 1:-1] / 8 for i in (x, t))
            expected += np.abs(a - b).mean() / 6
    loss = LOSSES["gradient-difference"]("sobel", absolute=False, p=1)
    assert float(loss(X, T)) == pytest.approx(expected, rel=1e-12)
    # moduli do not see the sign of an edge
    assert float(LOSSES["gradient-difference"]()(-X, X)) == 0.0


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("shape", [(2, 1, 6, 5), (1, 2, 3, 4, 5)])
def test_tv_is_the_prior(isotropic, shape):
    u = images(*shape)[0]
    spacing = (0.5, 2.0, 0.7)[: len(shape) - 2]
    prior = PriorTV(shape[2:], spacing, isotropic)
    volume = np.prod(spacing) * np.prod(shape[2:])
    loss = LOSSES["tv"](isotropic, smoothing=0.0, pixel_size=spacing)
    torch.testing.assert_close(loss(u), prior(u).mean() / volume, rtol=1e-12, atol=0)
    # smoothing takes at most τ
    smooth = LOSSES["tv"](isotropic, smoothing=1e-3, pixel_size=spacing)(u)
    assert 0 < float(loss(u) - smooth) < 1e-3
    g = np.stack([np.diff(u.numpy(), axis=k, append=u.numpy().take([-1], k)) for k in range(2, u.ndim)])
    g = g / np.reshape(spacing, (-1, *[1] * u.ndim))
    g = (g**2).sum(0) if isotropic else np.abs(g).sum(0) ** 2
    assert float(LOSSES["tv"](isotropic, 0.2, spacing)(u)) == pytest.approx((np.sqrt(g + 0.04) - 0.2).mean())


def test_tv_across_the_slices_of_a_stack():
    stack = images(2, 3, 6, 5)[0]
    spacing = (3.0, 1.0, 1.0)
    found = LOSSES["tv"](pixel_size=spacing, across=True)(stack)
    torch.testing.assert_close(found, LOSSES["tv"](pixel_size=spacing)(stack[:, None]), rtol=1e-12, atol=0)


def test_k_space():
    a, b = (np.abs(np.fft.fft2(i)) / np.sqrt(42) for i in (x, t))
    assert float(LOSSES["k-space"]()(X, T)) == pytest.approx(((a - b) ** 2).mean(), rel=1e-12)
    # Parseval
    torch.testing.assert_close(LOSSES["k-space"](magnitude=False)(X, T), LOSSES["l2"]()(X, T))
    a, b = (np.abs(np.fft.fft2(i[:, 0] + 1j * i[:, 1])) / np.sqrt(42) for i in (x, t))
    assert float(LOSSES["k-space"](paired=True)(X, T)) == pytest.approx(((a - b) ** 2).mean(), rel=1e-12)
    found = LOSSES["k-space"](magnitude=False, paired=True)(X, T)
    torch.testing.assert_close(found, 2 * LOSSES["l2"]()(X, T))
    # moduli do not see where an object is
    assert float(LOSSES["k-space"]()(X.roll((2, 1), (2, 3)), X)) == pytest.approx(0, abs=1e-25)


LOGITS = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.randint(4, (3, 5, 6), generator=torch.Generator().manual_seed(1))
CLASS_WEIGHT = [0.1, 1.0, 2.0, 0.0]


def test_cross_entropy_is_torch_s():
    for weight in (None, CLASS_WEIGHT):
        given = None if weight is None else torch.tensor(weight, dtype=torch.float64)
        expected = [
            nn.functional.cross_entropy(a[None], b[None], given) for a, b in zip(LOGITS, LABELS, strict=True)
        ]
        found = LOSSES["cross-entropy"](weight)(LOGITS, LABELS)
        torch.testing.assert_close(found, torch.stack(expected).mean(), rtol=1e-12, atol=0)
    binary, truth = LOGITS[:, :1], LABELS % 2
    expected = nn.functional.binary_cross_entropy_with_logits(binary[:, 0], truth.double())
    torch.testing.assert_close(LOSSES["cross-entropy"]()(binary, truth), expected, rtol=1e-12, atol=0)
    shares = truth[:, None].double()
    torch.testing.assert_close(LOSSES["cross-entropy"]()(binary, shares), expected, rtol=1e-12, atol=0)
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[1:3, 2:] = True
    expected = nn.functional.cross_entropy(LOGITS[:, :, 1:3, 2:], LABELS[:, 1:3, 2:])
    found = LOSSES["cross-entropy"]()(LOGITS, LABELS, mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_focal_is_lin_s():
    p = np.exp(LOGITS.numpy())
    p = np.take_along_axis(p / p.sum(1, keepdims=True), LABELS.numpy()[:, None], 1)
    expected = (-((1 - p) ** 2.5) * np.log(p)).mean()
    assert float(LOSSES["focal"](2.5)(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-12)
    found = LOSSES["focal"](0.0, CLASS_WEIGHT)(LOGITS, LABELS)
    torch.testing.assert_close(found, LOSSES["cross-entropy"](CLASS_WEIGHT)(LOGITS, LABELS))


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_dice(squared, background):
    p = np.exp(LOGITS.numpy())
    p /= p.sum(1, keepdims=True)
    q, values = 2 if squared else 1, []
    for n in range(3):
        for c in range(0 if background else 1, 4):
            mine, truth = p[n, c], LABELS[n].numpy() == c
            values.append(2 * (mine * truth).sum() / ((mine**q).sum() + truth.sum()))
    loss = LOSSES["dice"](background, squared, epsilon=1e-12)
    assert float(loss(LOGITS, LABELS)) == pytest.approx(1 - np.mean(values), rel=1e-10)
    probable = LOSSES["dice"](background, squared, epsilon=1e-12, probabilities=True)
    assert float(probable(torch.tensor(p), LABELS)) == pytest.approx(1 - np.mean(values), rel=1e-10)


def test_dice_of_what_is_right_wrong_and_not_there():
    loss = LOSSES["dice"](background=False, probabilities=True)
    truth = torch.zeros(1, 1, 4, 4)
    assert float(loss(truth, truth)) == 0.0  # nothing there, nothing found
    truth[..., :2] = 1
    assert float(loss(truth, truth)) == pytest.approx(0, abs=1e-6)
    assert float(loss(1 - truth, truth)) == pytest.approx(1, abs=1e-5)


def test_shape_segments_what_was_translated():
    segmentor = nn.Conv2d(1, 4, 3, padding=1).double()
    image = images(3, 1, 5, 6)[0].requires_grad_(True)
    loss = LOSSES["shape"](segmentor)
    value = loss(image, LABELS)
    torch.testing.assert_close(value, nn.functional.cross_entropy(segmentor(image), LABELS))
    assert torch.autograd.grad(value, image)[0].any()
    assert not list(loss.parameters()) and not loss.state_dict()
    later = LOSSES["shape"]()
    with pytest.raises(ValueError, match="no segmentor"):
        later(image, LABELS)
    later.segmentor = segmentor
    torch.testing.assert_close(later(image, LABELS), value)


class TwoLayers(nn.Module):
    """A discriminator."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.second = (nn.Conv2d(a, b, 3).double() for a, b in ((channels, 4), (4, 2)))

    def features(self, x):
        h = torch.relu(self.first(x))
        return [h, torch.relu(self.second(h))]


def test_losses_in_a_discriminator():
    D = TwoLayers(2)
    u, v = (features for features in (D.features(X), D.features(T)))
    terms = [(a - b).abs().mean() for a, b in zip(u, v, strict=True)]
    loss = LOSSES["discriminator-features"](D, weights=(2.0, 0.5), pixel=20.0)
    expected = 20 * (X - T).abs().mean() + 2 * terms[0] + 0.5 * terms[1]
    torch.testing.assert_close(loss(X, T), expected, rtol=1e-12, atol=0)
    assert not list(loss.parameters())
    margin = LOSSES["feature-margin"](D, weights=(2.0, 0.5), margin=9.0)
    each = [(a - b).abs().mean((1, 2, 3)).detach() for a, b in zip(u, v, strict=True)]
    distances = 2 * each[0] + 0.5 * each[1]
    torch.testing.assert_close(margin(X, T), distances.mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(margin.discriminated(X, T), 9 - distances.mean(), rtol=1e-12, atol=0)
    # the margin is one of every image
    margin.margin = float(distances.sort().values[1])
    expected = (margin.margin - distances).clamp(min=0).mean()
    assert expected > 0
    torch.testing.assert_close(margin.discriminated(X, T), expected, rtol=1e-12, atol=1e-15)
    slopes = torch.autograd.grad(margin.discriminated(X, T), list(D.parameters()), allow_unused=True)
    assert any(s is not None and s.any() for s in slopes)


def test_a_conditional_discriminator_and_one_given_later():
    D, loss = TwoLayers(3), LOSSES["discriminator-features"]()
    with pytest.raises(ValueError, match="no discriminator"):
        loss(X, T)
    loss.discriminator = D
    condition = X[:, :1] * T[:, :1]
    layers = [D.features(torch.cat([a, condition], 1)) for a in (X, T)]
    expected = (X - T).abs().mean() + sum((a - b).abs().mean() for a, b in zip(*layers, strict=True))
    torch.testing.assert_close(loss(X, T, condition=condition), expected, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="one per layer"):
        LOSSES["discriminator-features"](D, weights=(1.0,))(X, T, condition=condition)


def test_sharpness_through_any_network():
    network = nn.Conv2d(2, 3, 2).double()
    loss = LOSSES["sharpness"](network)
    torch.testing.assert_close(loss(X, T), (network(X) - network(T)).square().mean())
    assert not loss.state_dict()
    with pytest.raises(ValueError, match="no network"):
        LOSSES["sharpness"]()(X, T)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LOSSES["ssim"](data_range=0.0), "data_range"),
        (lambda: LOSSES["ssim"](window=4), "window"),
        (lambda: LOSSES["ssim"]()(X, T), "at least"),
        (lambda: LOSSES["ssim"](window=(3, 3, 3))(X, T), "window: expected 2 sizes"),
        (lambda: LOSSES["ms-ssim"](weights=[]), "weights"),
        (lambda: LOSSES["structural"](tau=2.0), "tau"),
        (lambda: LOSSES["gradient-consistency"]("canny"), "filter"),
        (lambda: LOSSES["gradient-consistency"]()(X[..., :2], T[..., :2]), "at least 3 pixels"),
        (lambda: LOSSES["gradient-difference"](p=0.5), "p: expected"),
        (lambda: LOSSES["tv"](smoothing=-1.0), "smoothing"),
        (lambda: LOSSES["k-space"](paired=True)(X[:, :1], T[:, :1]), "even number"),
        (lambda: LOSSES["cross-entropy"]()(LOGITS, LABELS + 1), "labels from 0 to 3"),
        (lambda: LOSSES["cross-entropy"]()(LOGITS, LABELS[:, :4]), "labels"),
        (lambda: LOSSES["cross-entropy"]([1.0])(LOGITS, LABELS), "class_weight: expected 4"),
        (lambda: LOSSES["cross-entropy"]()(LOGITS, None), "NoneType"),
        (lambda: LOSSES["dice"](class_weight=[0.0, 0.0]), "not all 0"),
        (lambda: LOSSES["dice"]()(LOGITS, LABELS, torch.ones(3, 4, 5, 6)), "one for all classes"),
        (lambda: LOSSES["focal"](gamma=-1.0), "gamma"),
        (lambda: LOSSES["dice"](epsilon=0.0), "epsilon"),
        (lambda: LOSSES["shape"](loss="l1"), "one of cross-entropy"),
        (lambda: LOSSES["feature-margin"](margin=0.0), "margin"),
        (lambda: LOSSES["discriminator-features"](weights=()), "weights"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
