"""Non-local means: the definition pixel by pixel, scikit-image, and the quadratic on its graph."""

import math

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_nl_means

from priors.markov import overlap
from priors.nonlocal_means import NonLocalQuadratic, non_local_means, similarities


def noisy(*shape, seed=0, sigma=0.2):
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(shape, dtype=torch.float64)
    x[tuple(slice(n // 4, 3 * n // 4) for n in shape)] = 1.0
    return x + sigma * torch.randn(shape, generator=generator, dtype=torch.float64)


def by_definition(x, sigma, strength, r, reach):
    """Pixel by pixel, with numpy's mirroring."""
    x, sigma = x.numpy(), np.broadcast_to(sigma, x.shape)
    padded, ndim = np.pad(x, r, mode="reflect"), x.ndim
    k = np.arange(-r, r + 1)
    g1 = np.exp(-2 * (k / max(r, 1)) ** 2)
    g = g1
    for _ in range(ndim - 1):
        g = np.multiply.outer(g, g1)
    g = g / g.sum()
    out = np.empty_like(x)
    for i in np.ndindex(x.shape):
        top = bottom = 0.0
        for j in np.ndindex(x.shape):
            if max(abs(a - b) for a, b in zip(i, j, strict=True)) <= reach:
                patches = [padded[tuple(slice(a, a + 2 * r + 1) for a in q)] for q in (i, j)]
                d = float((g * (patches[0] - patches[1]) ** 2).sum())
                s = sigma[i] ** 2 + sigma[j] ** 2
                w = 1.0 if i == j else math.exp(-max(0.0, d - s) / (0.5 * strength**2 * s))
                top, bottom = top + w * x[j], bottom + w
        out[i] = top / bottom
    return torch.from_numpy(out)


@pytest.mark.parametrize(("shape", "r", "reach"), [((9, 7), 2, 3), ((5, 4, 6), 1, 2), ((3, 20), 0, 4)])
def test_the_definition(shape, r, reach):
    x = noisy(*shape)
    sigma = torch.linspace(0.1, 0.4, x.numel(), dtype=torch.float64).reshape(shape)
    found = non_local_means(x, sigma, 0.8, r, reach, len(shape))
    torch.testing.assert_close(found, by_definition(x, sigma, 0.8, r, reach), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("h", [0.5, 0.8])
def test_scikit_image(h):
    x = noisy(20, 24)
    wanted = denoise_nl_means(x.numpy(), patch_size=5, patch_distance=4, h=h, fast_mode=False, sigma=0.2)
    found = non_local_means(x, 0.2, h / 0.2, 2, 4)
    # theirs takes exp from a table-like approximation (some 1 %) and drops weights below e⁻⁵
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=0.01)
    assert np.abs(wanted - x.numpy()).max() > 0.5


def test_other_paths_agree():
    x = noisy(3, 12, 13)
    sigma, strength = (
        torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64),
        torch.tensor([1.0, 0.5, 2.0]).double(),
    )
    together = non_local_means(x, sigma, strength)
    for i in range(3):
        alone = non_local_means(x[i], float(sigma[i]), float(strength[i]))
        torch.testing.assert_close(together[i], alone, rtol=1e-12, atol=1e-12)
        # numba's kernel and plain torch, which is differentiable
        torch.testing.assert_close(
            non_local_means(x[i].clone().requires_grad_(), float(sigma[i]), float(strength[i])).detach(),
            alone, rtol=1e-12, atol=1e-12,
        )  # fmt: skip
    single = non_local_means(x.float(), sigma.float(), strength.float())
    torch.testing.assert_close(single.double(), together, rtol=1e-4, atol=1e-4)


def test_limits():
    x = noisy(12, 12)
    # nothing is like anything: the image; everything is alike: means over the window, here of all
    torch.testing.assert_close(non_local_means(x, 1e-9), x)
    flat = non_local_means(x, 1e9, search_radius=12)
    torch.testing.assert_close(flat, x.mean().expand(12, 12))
    assert (non_local_means(x, 0.2)[4:8, 4:8] - 1).std() < 0.5 * (x[4:8, 4:8] - 1).std()


def test_the_quadratic_is_that_of_its_graph():
    reference, x = noisy(6, 5), noisy(6, 5, seed=1)
    f = NonLocalQuadratic(reference, 0.2, 0.7, 1, 2, volume=0.25)
    n = 30
    H = torch.stack([f.grad(e) for e in torch.eye(n, dtype=torch.float64).reshape(n, 6, 5)]).reshape(n, n)
    torch.testing.assert_close(H, H.T, rtol=0, atol=1e-15)
    torch.testing.assert_close(f(x), 0.5 * x.flatten() @ H @ x.flatten(), rtol=1e-12, atol=0)
    assert float(f(torch.ones(6, 5, dtype=torch.float64))) == 0.0
    # the same w makes the means: z = W x / s
    number = torch.arange(n).reshape(6, 5)
    W = torch.eye(n, dtype=torch.float64)
    for offset, w in similarities(reference, 0.2, 0.7, 1, 2, 2):
        here, there = overlap(offset)
        W[number[here], number[there]] = w
        W[number[there], number[here]] = w
    s = W.sum(1)
    z = non_local_means(reference, 0.2, 0.7, 1, 2)
    torch.testing.assert_close((W @ reference.flatten() / s).reshape(6, 5), z, rtol=1e-12, atol=0)
    graph = -0.25 * (W / (s[:, None] * s).sqrt()).fill_diagonal_(0.0)
    torch.testing.assert_close(H - torch.diag(H.diagonal()), graph, rtol=1e-12, atol=1e-15)
    # Gershgorin's bound, twice the diagonal
    torch.testing.assert_close(f.curvatures(x).flatten(), 2 * H.diagonal(), rtol=1e-12, atol=0)


def test_bad_input():
    x = noisy(6, 6)
    for call, said in [
        (lambda: non_local_means(x, 0.0), "positive"),
        (lambda: non_local_means(x, 0.1, 1.0, 6), "patch_radius"),
        (lambda: non_local_means(x.to(torch.complex128), 0.1), "real image"),
        (lambda: NonLocalQuadratic(x, 0.1, volume=0.0), "volume"),
    ]:
        with pytest.raises(ValueError, match=said):
            call()
