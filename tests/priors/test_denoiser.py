import warnings

import pytest
import torch

from priors import (
    TV,
    FunctionDenoiser,
    NetworkDenoiser,
    NonLocalMeansDenoiser,
    ProximalDenoiser,
    SquaredL2,
    VariationalDenoiser,
    WaveletL1,
    as_denoiser,
)
from priors.networks.dncnn import DnCNN
from priors.networks.drunet import DRUNet
from priors.networks.seeds import count, seeded


def images(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(kind="parts", channels=1):
    with seeded(0):
        return NetworkDenoiser(DRUNet(channels, (4, 6), 1), complex_images=kind).double().eval()


def every():
    return [
        network(),
        NetworkDenoiser(_dncnn()).double(),
        FunctionDenoiser(lambda x, s: x / (1 + s.reshape(-1, 1, 1, 1))),
        ProximalDenoiser(0.3 * TV((9, 12))),
        ProximalDenoiser(WaveletL1((9, 12), "haar", 1)),
        NonLocalMeansDenoiser(1.0, 1, 2),
        VariationalDenoiser(SquaredL2(), 5),
    ]


def _dncnn():
    with seeded(0):
        net = DnCNN(1, 3, 4, noise_map=True)
        torch.nn.init.normal_(net.layers[-1].weight, std=0.1)
    return net


@pytest.mark.parametrize("D", every(), ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_every_image_by_itself_in_its_own_precision(D, dtype):
    x, sigma = images(2, 3, 9, 12, dtype=dtype), torch.rand(2, 3, dtype=torch.float64) + 0.1
    with torch.no_grad():
        z = D(x, sigma)
        assert z.shape == x.shape and z.dtype == dtype
        torch.testing.assert_close(z[1, 2], D(x[1, 2], float(sigma[1, 2])), rtol=1e-10, atol=1e-10)
        bright = torch.stack([x[0, 0], 100 * x[1, 1]])
        torch.testing.assert_close(D(bright, 0.2)[0], D(x[0, 0], 0.2), rtol=1e-10, atol=1e-10)
        assert D(x[:0], 0.2).shape == (0, 3, 9, 12)
        # at a scale: what it does to an image of size s is s times what it does to one of size 1
        scale = torch.tensor([2.0, 5.0], dtype=torch.float64)
        y = torch.stack([2 * x[0, 0], 5 * x[0, 0]])
        scaled = D.at_scale(scale)(y, 0.3 * scale)
        torch.testing.assert_close(scaled[0] / 2, scaled[1] / 5)
        torch.testing.assert_close(scaled[0] / 2, D(x[0, 0], 0.3))


def test_parameter_counts_are_those_of_other_implementations():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = pytest.importorskip("deepinv").models
        theirs = (
            models.DRUNet(1, 1, pretrained=None),
            models.DRUNet(2, 2, pretrained=None),
            models.DnCNN(1, 1, pretrained=None),
        )
    with torch.device("meta"):
        ours = DRUNet(), DRUNet(2), DnCNN()
    assert [count(n) for n in ours] == [count(n) for n in theirs]
    # 3·3·(2·64 + 64) at both ends, and per block and joint as the paper's figure says
    widths, ends = (64, 128, 256, 512), 9 * (2 * 64 + 64)
    blocks = sum(2 * 4 * 2 * 9 * w * w for w in widths[:-1]) + 4 * 2 * 9 * 512**2
    assert count(ours[0]) == ends + blocks + 2 * sum(4 * a * 2 * a for a in widths[:-1])


def test_drunet_computes_what_deepinv_computes_with_the_same_weights():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = pytest.importorskip("deepinv").models
        theirs = models.DRUNet(1, 1, nc=[4, 6, 8, 10], nb=2, pretrained=None).double()
    ours = DRUNet(1, (4, 6, 8, 10), 2).double()
    theirs_by_part = {name: list(part.parameters()) for name, part in theirs.named_children()}
    parts = {"m_head": [ours.first], "m_body": [ours.body], "m_tail": [ours.last]}
    parts |= {f"m_down{k + 1}": [ours.down[k]] for k in range(3)}
    parts |= {f"m_up{k + 1}": [ours.up[k]] for k in range(3)}
    for name, (part,) in parts.items():
        for p, q in zip(part.parameters(), theirs_by_part[name], strict=True):
            p.data.copy_(q.data)
    x, sigma = images(2, 1, 32, 40), torch.tensor([0.1, 0.3], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, sigma), theirs(x, sigma), rtol=1e-10, atol=1e-10)


def test_drunet_is_homogeneous():
    """Without bias f(c x, c σ) = c f(x, σ), for every c > 0 and odd sizes too."""
    D, x = network(), images(3, 7, 11)
    with torch.no_grad():
        torch.testing.assert_close(D(5 * x, 0.5), 5 * D(x, 0.1), rtol=1e-10, atol=1e-10)


def test_data_range_is_an_affine_map():
    D = network()
    hounsfield = NetworkDenoiser(D.network, data_range=(-1000.0, 1000.0))
    u = images(5, 8).abs()
    with torch.no_grad():
        expected = 2000 * D(u, 0.05) - 1000
        torch.testing.assert_close(hounsfield(2000 * u - 1000, 100.0), expected)


def test_complex_images():
    x = images(2, 8, 9, dtype=torch.complex128)
    with torch.no_grad():
        parts = network()
        torch.testing.assert_close(parts(x, 0.2), torch.complex(parts(x.real, 0.2), parts(x.imag, 0.2)))
        both = network("channels", 2)
        pair = both.network(torch.stack([x.real, x.imag], 1), torch.full((2,), 0.2, dtype=torch.float64))
        torch.testing.assert_close(both(x, 0.2), torch.complex(pair[:, 0], pair[:, 1]))


def test_adapters():
    x = images(2, 8, 8)
    f = 0.7 * WaveletL1((8, 8))
    torch.testing.assert_close(as_denoiser(f)(x, 0.5), f.prox(x, 0.25))
    halved = as_denoiser(lambda v, s: v / 2)
    assert torch.equal(halved(x, 0.1), x / 2) and halved.unit
    assert isinstance(as_denoiser(DnCNN(1, 2, 2)), NetworkDenoiser)
    D = network()
    assert as_denoiser(D) is D


def test_deepinv_denoisers_are_functionals_with_a_prox_and_so_denoisers():
    pytest.importorskip("deepinv")
    from priors.interop import from_deepinv_denoiser

    theirs = lambda x, sigma: x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)  # noqa: E731
    x = images(3, 6, 6)
    torch.testing.assert_close(as_denoiser(from_deepinv_denoiser(theirs))(x, 0.5), x / 1.25)


def test_variational_denoiser_reaches_the_minimiser():
    # argmin ½‖z − x‖² + σ²·½‖z‖² = x/(1 + σ²): one step of exactly 1/L
    x = images(2, 5, 5)
    torch.testing.assert_close(VariationalDenoiser(SquaredL2(), 1)(x, 2.0), x / 5)


def test_variational_denoiser_takes_a_weight_per_image():
    weight = torch.tensor([1.0, 3.0])[:, None, None]
    x = images(2, 5, 5)
    found = VariationalDenoiser(SquaredL2(weight=weight), 1)(x, 2.0)
    torch.testing.assert_close(found, x / (1 + 4 * weight))


def test_bad_input():
    x = images(2, 8, 8)
    with pytest.raises(ValueError, match="sigma: expected positive"):
        network()(x, 0.0)
    with pytest.raises(ValueError, match="sigma: expected positive"):
        network()(x, torch.tensor([0.1, float("nan")]))
    with pytest.raises(ValueError, match=r"one per image \(2,\)"):
        network()(x, torch.full((3,), 0.1))
    with pytest.raises(ValueError, match=r"expected 1 channels .* got 2"):
        NetworkDenoiser(DRUNet(2, (4,), 1))
    with pytest.raises(ValueError, match="data_range"):
        NetworkDenoiser(DnCNN(1, 2, 2), (1.0, 0.0))
    with pytest.raises(ValueError, match="complex images in two channels"):
        network("channels", 2)(x, 0.1)
    with pytest.raises(ValueError, match=r"expected images .* back, got"):
        as_denoiser(lambda v, s: v[..., :-1])(x, 0.1)
    with pytest.raises(ValueError, match="NaN or inf for finite images"):
        as_denoiser(lambda v, s: v / 0)(x, 0.1)
    with pytest.raises(ValueError, match="finite lipschitz"):
        VariationalDenoiser(TV((8, 8)))(x, 0.1)
    with pytest.raises(ValueError, match="denoiser: expected"):
        as_denoiser(3)


def test_a_network_that_is_told_no_noise_level_is_blind():
    blind = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False).requires_grad_(False)
    x = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(0))
    expected = blind(x[:, None])[:, 0]
    for given in (blind, lambda image: blind(image)):
        D = as_denoiser(given)
        for sigma in (0.01, 0.5):
            torch.testing.assert_close(D(x, sigma), expected)
    with pytest.raises(TypeError):
        as_denoiser(lambda: x)(x, 0.1)
