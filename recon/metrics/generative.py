"""Distances between sets of images, through features: FID, KID, inception score; and one between two images.

They say whether images look like others, not whether they are right, and rest on the network they look
through: one of natural images may not see what matters in medicine (Wolterink et al.'s caveat). Every result
carries the number of images and the network; compare only where all three agree.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

Network = nn.Module | str


class SetScore(NamedTuple):
    """value, its spread (0 where there is none), numbers of images, and the network it was seen through."""

    value: float
    spread: float
    n: int
    n_reference: int
    network: str


def fid(
    images: Tensor,
    reference: Tensor,
    network: Network = "auto",
    window: tuple[float, float] = (-1.0, 1.0),
) -> SetScore:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) of the pooled features of two sets. Heusel et al., NeurIPS 2017.

    It is too large for few images, by an amount that depends on their number N: fix N, or use `kid`. With
    N below the number of features the covariances are singular, which the formula allows. Published values
    are of Inception-v3, `network="inception"`; with another network it is a Fréchet distance of its own.

    images, reference : (N, [channels,] ny, nx), real
    network : x -> [features], the last of which is pooled, or a name for `recon.losses.feature_network`
    window : (low, high), brought to [−1, 1] for the network
    """
    seen, name = _network(network, images)
    a, b = (pooled_features(x, seen, window) for x in (images, reference))
    return SetScore(frechet_distance(a, b), 0.0, len(a), len(b), name)


def kid(
    images: Tensor,
    reference: Tensor,
    network: Network = "auto",
    window: tuple[float, float] = (-1.0, 1.0),
    subsets: int = 1,
    subset_size: int | None = None,
    seed: int = 0,
) -> SetScore:
    """Unbiased squared MMD of pooled features with kernel (x·y/d + 1)³. Bińkowski et al., ICLR 2018.

    subsets, subset_size : mean and standard deviation over so many draws of that size from either set,
        without replacement (100 of 1000 in the paper); 1 and None: all images at once
    The others as in `fid`. Zero on average for sets of one law, whatever N, and so also negative.
    """
    seen, name = _network(network, images)
    a, b = (pooled_features(x, seen, window) for x in (images, reference))
    size = subset_size or min(len(a), len(b))
    if subsets < 1 or not 2 <= size <= min(len(a), len(b)):
        raise ValueError(
            f"kid subsets, subset_size: expected at least 1, of 2 to {min(len(a), len(b))} images, got "
            f"{subsets} of {size}"
        )
    if subsets == 1 and subset_size is None:
        return SetScore(kernel_distance(a, b), 0.0, len(a), len(b), name)
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        u, v = (x[torch.randperm(len(x), generator=generator)[:size]] for x in (a, b))
        values.append(kernel_distance(u, v))
    found = torch.tensor(values, dtype=torch.float64)
    return SetScore(float(found.mean()), float(found.std(correction=0)), len(a), len(b), name)


@torch.no_grad()
def inception_score(
    images: Tensor, classifier: nn.Module, window: tuple[float, float] = (-1.0, 1.0), splits: int = 1
) -> SetScore:
    """exp E_x KL(p(l|x) ‖ p(l)), p(l) the mean of p(l|x); from 1 to the classes. Salimans et al. 2016.

    images : (N, [channels,] ny, nx), real
    classifier : (n, 1 or 3, ny, nx) in [−1, 1] -> probabilities (n, classes);
        `recon.losses.TissueClassifier()` is one. Other classes than Inception's 1000 give another score
    splits : mean and standard deviation over so many parts of the set, in its order
    """
    p = torch.cat([classifier(x) for x in _batches(images, window)])
    return SetScore(*score_of(p, splits), len(p), 0, getattr(classifier, "name", type(classifier).__name__))


def score_of(probabilities: Tensor, splits: int = 1) -> tuple[float, float]:
    """Inception score of class probabilities (N, classes): mean and standard deviation over the splits."""
    p = probabilities.double()
    if p.ndim != 2 or not bool((p >= 0).all()) or not torch.allclose(p.sum(1), p.new_ones(()), atol=1e-4):
        raise ValueError("inception score: expected probabilities (N, classes), each row of sum 1")
    if not 1 <= splits <= len(p):
        raise ValueError(f"inception score splits: expected 1 to {len(p)}, got {splits}")
    found = []
    for part in p.tensor_split(splits):
        # 0 log 0 is 0
        entropies = torch.special.entr(part).sum(1).mean(), torch.special.entr(part.mean(0)).sum()
        found.append((entropies[1] - entropies[0]).exp())
    values = torch.stack(found)
    return float(values.mean()), float(values.std(correction=0))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) of features (N, d) and (M, d), Σ over N − 1; in float64."""
    a, b = _features(a, b)
    first, second = (x - x.mean(0) for x in (a, b))
    first, second = first / (len(a) - 1) ** 0.5, second / (len(b) - 1) ** 0.5
    # Σ = XᵀX, so tr (Σ₁Σ₂)^½ is the sum of the singular values of X₁ X₂ᵀ: no root of a singular matrix
    overlap = torch.linalg.svdvals(_small(first) @ _small(second).mT).sum()
    traces = first.square().sum() + second.square().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + traces - 2 * overlap)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased MMD² with k(x, y) = (x·y/d + 1)³ of features (N, d) and (M, d); float64."""
    a, b = _features(a, b)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.mT / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:
        k, n = kernel(x, x), len(x)
        return (k.sum() - k.diagonal().sum()) / (n * (n - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


@torch.no_grad()
def feature_distance(
    image: Tensor,
    truth: Tensor,
    network: Network = "auto",
    window: tuple[float, float] = (-1.0, 1.0),
) -> Tensor:
    """Σ_l mean over places of Σ_c (φ̂_l(x) − φ̂_l(truth))², φ̂ of length 1 at every place; lower is nearer.

    In the manner of LPIPS (Zhang et al., CVPR 2018) without its channel weights and networks: it is not LPIPS
    and its values are not those of LPIPS. See `recon.losses.FeatureDistance`.

    image, truth : (*batch, ny, nx), real
    network, window : as in `fid`

    Returns (*batch,).
    """
    from ..losses.perceptual import FeatureDistance

    if image.shape != truth.shape or image.ndim < 2 or image.is_complex() or truth.is_complex():
        raise ValueError(
            f"feature_distance: expected real images of equal shape (*batch, ny, nx), got "
            f"{tuple(image.shape)} {image.dtype} and {tuple(truth.shape)} {truth.dtype}"
        )
    loss = FeatureDistance(network, window=window, reduction="none")
    x, t = (a.reshape(-1, 1, *a.shape[-2:]) for a in (image, truth))
    return loss(x, t).reshape(image.shape[:-2])


@torch.no_grad()
def pooled_features(images: Tensor, network: nn.Module, window: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Mean over places of the network's last features, (N, d), float64."""
    found = [network(x)[-1].flatten(2).mean(2).double() for x in _batches(images, window)]
    return torch.cat(found)


def _batches(images: Tensor, window: tuple[float, float], size: int = 32) -> list[Tensor]:
    """(n, 1 or 3, ny, nx) in [−1, 1]."""
    if not images.is_floating_point() or images.ndim not in (3, 4):
        raise ValueError(
            f"images: expected real (N, [channels,] ny, nx), got {tuple(images.shape)} {images.dtype}"
        )
    images = images[:, None] if images.ndim == 3 else images
    if images.shape[1] not in (1, 3):
        raise ValueError(f"images: expected 1 or 3 channels, got {images.shape[1]}")
    low, high = window
    if not low < high:
        raise ValueError(f"window: expected (low, high) with low < high, got {window}")
    return list((2 * (images.float() - low) / (high - low) - 1).split(size))


def _network(network: Network, images: Tensor) -> tuple[nn.Module, str]:
    from ..losses.features import feature_network

    seen = feature_network(network).to(images.device) if isinstance(network, str) else network
    return seen, getattr(seen, "name", type(seen).__name__)


def _features(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features: expected (N, d) and (M, d) with N, M ≥ 2, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    return a.double(), b.double()


def _small(x: Tensor) -> Tensor:
    """A matrix of at most d rows with the same XᵀX."""
    return torch.linalg.qr(x).R if x.shape[0] > x.shape[1] else x
