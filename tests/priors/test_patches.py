import math
from itertools import pairwise

import pytest
import torch

from priors import LearnedProjection, PatchDenoiser
from priors.networks.seeds import seeded
from priors.networks.unet import UNet
from priors.patches import GaussianMixture
from recon.denoising import DenoisingConfig, spoiled, train_projection


def drawn(weights, covariances, m, seed=0):
    g = torch.Generator().manual_seed(seed)
    kinds = torch.multinomial(torch.tensor(weights), m, True, generator=g)
    roots = torch.linalg.cholesky(covariances)
    return torch.einsum(
        "mij,mj->mi", roots[kinds], torch.randn(m, roots.shape[-1], generator=g, dtype=torch.float64)
    )


def test_expectation_maximisation_climbs_and_finds_the_mixture():
    C = torch.stack([torch.diag(torch.tensor([4.0, 4.0, 0.04])), 0.01 * torch.eye(3)]).double()
    z = drawn([0.3, 0.7], C, 4000)
    mixture, history = GaussianMixture.fit(z, 2, 100)
    assert all(b >= a - 1e-6 for a, b in pairwise(history))
    order = mixture.weights.argsort()
    # 1200 and 2800 draws: relative standard errors of a variance √(2/1200) = 4 %, four of them 16 %
    torch.testing.assert_close(mixture.weights[order], torch.tensor([0.3, 0.7]).double(), atol=0.03, rtol=0)
    for k, true in zip(order.tolist(), C, strict=True):
        found = mixture.covariances[k].diagonal()
        torch.testing.assert_close(found, true.diagonal(), rtol=0.2, atol=1e-3)


def test_log_terms_are_those_of_torch():
    C = torch.stack([torch.diag(torch.tensor([1.0, 2.0])), torch.tensor([[2.0, 1.0], [1.0, 3.0]])]).double()
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = GaussianMixture(torch.tensor([0.4, 0.6]).double(), C).log_terms(z, 0.5)
    for k, w in enumerate((0.4, 0.6)):
        law = torch.distributions.MultivariateNormal(torch.zeros(2).double(), C[k] + 0.5 * torch.eye(2))
        torch.testing.assert_close(ours[:, k], law.log_prob(z) + math.log(w))


def test_one_gaussian_is_the_wiener_filter():
    """With one Gaussian c·1 without mean every patch shrinks by c/(c + σ²) towards its mean."""
    D = PatchDenoiser(GaussianMixture(torch.ones(1).double(), 0.5 * torch.eye(4).double()[None]), 2)
    x = torch.randn(2, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    patches = torch.nn.functional.unfold(x[:, None], 2)
    mean = patches.mean(1, keepdim=True)
    clean = mean + (patches - mean) * 0.5 / (0.5 + 0.3**2)
    fold = lambda p: torch.nn.functional.fold(p, (7, 6), 2)[:, 0]  # noqa: E731
    torch.testing.assert_close(D(x, 0.3), fold(clean) / fold(torch.ones_like(clean)))


def squares(n=12):
    x = torch.zeros(n, 24, 24)
    g = torch.Generator().manual_seed(0)
    for image in x:
        top, left = (int(torch.randint(1, 12, (), generator=g)) for _ in range(2))
        image[top : top + 9, left : left + 10] = 1
    return x


def test_patches_of_clean_images_denoise_others():
    images = squares()
    D = PatchDenoiser.fit(images[:9], 4, 6, 2000)
    y = images[9:] + 0.2 * torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(1))
    error = float((D(y, 0.2) - images[9:]).square().mean())
    assert error < 0.25 * 0.2**2  # 6 dB


def test_projection_learns_to_undo_and_does_not_hear_sigma():
    with seeded(0):
        P = LearnedProjection(UNet(channels=(6, 12), residual=True))
    images = squares()
    config = DenoisingConfig(steps=40, batch_size=6, learning_rate=3e-3, highest=0.5, validate_every=40)
    before = spoiled(images[-1:], 0.5, torch.Generator().manual_seed(0))
    start = -10 * math.log10(float((before - images[-1:]).square().mean()))
    assert train_projection(P, images, config).scores[-1][1] > start + 1
    assert torch.equal(P(before, 0.1), P(before, 3.0))


def test_patches_in_pieces_are_the_same(monkeypatch):
    images = squares(4)
    D, y = PatchDenoiser.fit(images, 4, 3, 700), images[:1] + 0.1
    x = D(y, 0.2)
    monkeypatch.setattr("priors.patches.CHUNK", 100)
    again = PatchDenoiser.fit(images, 4, 3, 700)
    torch.testing.assert_close(again.mixture.covariances, D.mixture.covariances)
    torch.testing.assert_close(again(y, 0.2), x)


def test_memory_is_bounded_by_pieces(monkeypatch):
    seen = []
    terms = GaussianMixture.log_terms
    monkeypatch.setattr("priors.patches.CHUNK", 100)
    monkeypatch.setattr(
        GaussianMixture, "log_terms", lambda s, z, v=0.0: (seen.append(len(z)), terms(s, z, v))[1]
    )
    PatchDenoiser.fit(squares(2), 4, 2, 300)(squares(1), 0.1)
    assert max(seen) <= 100


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (torch.full((3, 16, 16), 0.1), "contrast, got constant"),
        (torch.zeros(3, 16, 16), "contrast, got constant"),
        (torch.full((3, 16, 16), math.nan), "finite patches"),
        (torch.rand(3, 3, 16), r"at least 4 pixels a side, got torch.float32 \(3, 3, 16\)"),
        (torch.rand(16, 16), r"\(n, ny, nx\)"),
        (torch.rand(1, 5, 5), "at least 16 patches"),
    ],
)
def test_images_that_teach_nothing(images, text):
    with pytest.raises(ValueError, match=text):
        PatchDenoiser.fit(images, 4, 3)


def test_bad_input():
    with pytest.raises(ValueError, match=r"expected 1 to 2, a dth of the 10 patches"):
        GaussianMixture.fit(torch.randn(10, 4), 3)
    with pytest.raises(ValueError, match="covariances"):
        GaussianMixture(torch.ones(2), torch.zeros(3, 4, 4))
    D = PatchDenoiser(GaussianMixture(torch.ones(1), torch.eye(9)[None]), 3)
    with pytest.raises(ValueError, match="at least 3 pixels"):
        D(torch.zeros(2, 8), 0.1)
    with pytest.raises(ValueError, match="side²"):
        PatchDenoiser(GaussianMixture(torch.ones(1), torch.eye(9)[None]), 4)
