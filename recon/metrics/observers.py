"""Model observers on images: the channelised Hotelling observer, its AUC and what is known about both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .rois import real_images


@dataclass(frozen=True)
class Observation:
    """What an observer reached on n₀ images without and n₁ with the signal.

    auc : mean over splits of the area under the ROC curve of held-out scores
    auc_error : its standard error over images, see `channelised_hotelling`
    d_prime : mean over splits of (mean t₁ − mean t₀)/√((s₁² + s₀²)/2)
    order : mean over splits of [t₁ > t₀] + ½[t₁ = t₀] for every pair of images, (n₀, n₁); its mean is `auc`,
        and its mean over resampled rows and columns a bootstrap of it
    split_aucs : AUC of every split, (splits, 2)
    """

    auc: float
    auc_error: float
    d_prime: float
    order: Tensor
    split_aucs: Tensor


def channelised_hotelling(
    absent: Tensor,
    present: Tensor,
    channels: Tensor,
    splits: int = 10,
    internal_noise: float = 0.0,
    remove_mean: bool = False,
    groups: tuple[Sequence[int], Sequence[int]] | None = None,
    seed: int = 0,
) -> Observation:
    """t = wᵀv, w = K⁻¹ (mean v₁ − mean v₀), v = Uᵀg, K = (K₀ + K₁)/2; trained on half, tested on half.

    Myers and Barrett, J. Opt. Soc. Am. A 4 (1987); Barrett, Yao, Rolland, Myers, PNAS 90 (1993). In every
    split both halves are once for training and once for testing, so every image is scored in every split. AUC
    and d′ are those of an observer who learned from half of the images: below those of one who knows, the
    more so the more channels there are (see `hotelling_d_prime`).

    The standard error is DeLong's, of AUCs averaged over splits: how far the test images matter, all of
    them. That training differs too is not in it; with ten images a channel and class for training it is
    small beside.

    Parameters
    ----------
    absent, present : regions without and with the signal, (n, ny, nx)
    channels : U, (channels, ny, nx)
    splits : random halvings
    internal_noise : σ of noise added to every score, as a multiple of the scores' own σ; d′ falls by
        √(1 + internal_noise²)
    remove_mean : take the mean off every region first, as in the FDA's LCD-CT
    groups : for every image of absent and of present a number, the same for images that are not independent
        (regions of one scan): they stay in one half, and the standard error counts groups
    seed : of splits and internal noise
    """
    name = "channelised_hotelling"
    v0, v1 = channel_outputs(absent, channels, remove_mean), channel_outputs(present, channels, remove_mean)
    ids = _groups(name, groups, len(v0), len(v1))
    if splits < 1 or internal_noise < 0:
        raise ValueError(
            f"{name}: expected splits ≥ 1 and internal_noise ≥ 0, got {splits} and {internal_noise}"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.zeros(len(v0), len(v1), dtype=torch.float64)
    compared, aucs, distances = torch.zeros_like(order), [], []
    for _ in range(splits):
        halves = _halves(ids, generator)
        row = []
        for test in (0, 1):
            train0, train1 = (half != test for half in halves)
            w = _template(name, v0[train0], v1[train1])
            t0, t1 = v0[~train0] @ w, v1[~train1] @ w
            if internal_noise:
                sigma = internal_noise * ((t0.var() + t1.var()) / 2).sqrt()
                t0, t1 = (
                    t + sigma * torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in (t0, t1)
                )
            pairs = pair_order(t0, t1)
            order[(~train0).nonzero(), (~train1).nonzero().T] += pairs
            compared[(~train0).nonzero(), (~train1).nonzero().T] += 1
            row.append(pairs.mean())
            distances.append((t1.mean() - t0.mean()) / ((t0.var() + t1.var()) / 2).sqrt())
        aucs.append(torch.stack(row))
    split_aucs = torch.stack(aucs)
    # a pair that never met in a test takes the mean of the pairs its images were in
    order = _completed(order, compared)
    error = auc_error(order, ids if groups else None)
    return Observation(
        float(split_aucs.mean()), error, float(torch.stack(distances).mean()), order, split_aucs
    )


def channel_outputs(images: Tensor, channels: Tensor, remove_mean: bool = False) -> Tensor:
    """v = Uᵀg, (*batch, ny, nx) and (c, ny, nx) -> (*batch, c), float64; means of images off if asked for."""
    g, u = real_images("channel_outputs images", images), real_images("channel_outputs channels", channels, 3)
    if g.shape[-2:] != u.shape[-2:]:
        raise ValueError(
            f"channel_outputs: expected images and channels of one size, got {tuple(g.shape[-2:])} and "
            f"{tuple(u.shape[-2:])}"
        )
    if remove_mean:
        g = g - g.mean((-2, -1), keepdim=True)
    return g.flatten(-2) @ u.flatten(-2).T


@dataclass(frozen=True)
class HotellingDistance:
    """Unbiased estimate of d′² as its root, and a confidence interval of d′.

    d_prime : √max(0, unbiased d′²)
    interval : exact where the channels' outputs are Gaussian with one covariance
    plain : √(Δv̄ᵀ K⁻¹ Δv̄), which is too large
    """

    d_prime: float
    interval: tuple[float, float]
    plain: float


def hotelling_d_prime(
    absent: Tensor,
    present: Tensor,
    channels: Tensor,
    remove_mean: bool = False,
    confidence: float = 0.95,
) -> HotellingDistance:
    """d′² ≈ (ν − p − 1)/ν · Δv̄ᵀ K⁻¹ Δv̄ − p/m, ν = n₀ + n₁ − 2, m = n₀n₁/(n₀ + n₁), all images at once.

    With Gaussian outputs of p channels and one covariance m·Δv̄ᵀK⁻¹Δv̄ is Hotelling's T², (ν − p + 1)/(νp)
    T² a non-central F(p, ν − p + 1; m d′²), which gives the expectation and, turned round, the interval:
    Wunderlich, Noo, Gallas, Heilbrun, IEEE Trans. Med. Imaging 34 (2015). This is the d′ of an observer who
    knows the covariance.

    Arguments as in `channelised_hotelling`; images are independent. confidence : of the interval.
    """
    name = "hotelling_d_prime"
    v0, v1 = channel_outputs(absent, channels, remove_mean), channel_outputs(present, channels, remove_mean)
    if not 0 < confidence < 1:
        raise ValueError(f"{name} confidence: expected a number in (0, 1), got {confidence}")
    n0, n1, p = len(v0), len(v1), v0.shape[-1]
    nu, m = n0 + n1 - 2, n0 * n1 / (n0 + n1)
    if nu - p - 1 <= 0:
        raise ValueError(f"{name}: {n0} + {n1} images are too few for {p} channels; expected {p + 4} or more")
    _, difference, covariance = _statistics(name, v0, v1, pooled=True)
    plain = float(difference @ torch.linalg.solve(covariance, difference))
    unbiased = (nu - p - 1) / nu * plain - p / m
    ratio, tail = (nu - p + 1) / (nu * p) * m * plain, (1 - confidence) / 2
    low, high = (math.sqrt(_noncentrality(ratio, p, nu - p + 1, q) / m) for q in (1 - tail, tail))
    return HotellingDistance(math.sqrt(max(unbiased, 0.0)), (low, high), math.sqrt(plain))


def auc(absent: Tensor, present: Tensor) -> tuple[float, float]:
    """AUC = P(t₁ > t₀) + ½P(t₁ = t₀) of scores (Mann–Whitney), and its standard error by DeLong.

    DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988). absent, present : scores, (n,)
    """
    for name, t in (("absent", absent), ("present", present)):
        if t.ndim != 1 or len(t) < 2 or not bool(torch.isfinite(t).all()):
            raise ValueError(f"auc {name}: expected at least 2 finite scores (n,), got {tuple(t.shape)}")
    order = pair_order(absent.double(), present.double())
    return float(order.mean()), auc_error(order)


def auc_error(order: Tensor, groups: tuple[Tensor, Tensor] | None = None) -> float:
    """√(var V₀/n₀ + var V₁/n₁), V₀, V₁ the means over rows and columns of `order`: DeLong's standard error.

    With `groups` (numbers of those of every row and column that belong together) the square root of
    G/(G − 1) Σ_g (Σ_{i∈g} (V₀ᵢ − A)/n₀ + Σ_{j∈g} (V₁ⱼ − A)/n₁)², after Obuchowski, Biometrics 53 (1997).

    order : (n₀, n₁), see `pair_order`
    """
    v0, v1 = order.mean(1), order.mean(0)
    if groups is None:
        return float((v0.var() / len(v0) + v1.var() / len(v1)).sqrt())
    every, index = torch.unique(torch.cat([torch.as_tensor(g) for g in groups]), return_inverse=True)
    parts = torch.cat([(v - order.mean()) / len(v) for v in (v0, v1)])
    sums = torch.zeros(len(every), dtype=parts.dtype).index_add(0, index, parts)
    return float((len(every) / max(len(every) - 1, 1) * (sums**2).sum()).sqrt())


def hanley_mcneil_error(auc: float, absent: int, present: int) -> float:
    """√((A(1−A) + (n₁−1)(Q₁−A²) + (n₀−1)(Q₂−A²))/(n₀n₁)), Q₁ = A/(2−A), Q₂ = 2A²/(1+A).

    Standard error of an AUC from its value alone, for scores of exponential law: Hanley and McNeil, Radiology
    143 (1982), for planning how many images a study needs. absent, present : n₀, n₁
    """
    if not 0 <= auc <= 1 or min(absent, present) < 1:
        raise ValueError(
            f"hanley_mcneil_error: expected auc in [0, 1] and images, got {auc}, {absent}, {present}"
        )
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (present - 1) * (q1 - auc**2) + (absent - 1) * (q2 - auc**2)
    return math.sqrt(variance / (absent * present))


def pair_order(absent: Tensor, present: Tensor) -> Tensor:
    """[t₁ > t₀] + ½[t₁ = t₀] for every pair of scores: (n₀,), (n₁,) -> (n₀, n₁), float64."""
    difference = present[None] - absent[:, None]
    return (difference > 0).double() + 0.5 * (difference == 0).double()


def _statistics(name: str, v0: Tensor, v1: Tensor, pooled: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of the means, their difference, and K = (K₀ + K₁)/2, or weighted by degrees of freedom."""
    n0, n1, p = len(v0), len(v1), v0.shape[-1]
    if n0 + n1 - 2 < p or min(n0, n1) < 2:
        raise ValueError(
            f"{name}: {n0} and {n1} images to learn from cannot give a covariance of {p} channels; use more "
            f"images or fewer channels"
        )
    k0, k1 = (torch.cov(v.T).reshape(p, p) for v in (v0, v1))
    share = (n0 - 1) / (n0 + n1 - 2) if pooled else 0.5
    covariance = share * k0 + (1 - share) * k1
    # channels of very different size are no reason to call a covariance singular
    scale = covariance.diagonal().sqrt()
    if not bool((scale > 0).all()):
        raise ValueError(f"{name}: a channel sees no noise at all; leave it out, or check the images")
    correlation = covariance / scale / scale[:, None]
    if float(torch.linalg.eigvalsh(correlation)[0]) < 1e-10:
        raise ValueError(
            f"{name}: the channels' outputs are linearly dependent; use fewer or narrower channels, and not "
            f"remove_mean with a channel that is flat"
        )
    return (v0.mean(0) + v1.mean(0)) / 2, v1.mean(0) - v0.mean(0), covariance


def _template(name: str, v0: Tensor, v1: Tensor) -> Tensor:
    _, difference, covariance = _statistics(name, v0, v1)
    return torch.linalg.solve(covariance, difference)


def _groups(
    name: str, groups: tuple[Sequence[int], Sequence[int]] | None, n0: int, n1: int
) -> tuple[Tensor, Tensor]:
    if groups is None:
        return torch.arange(n0), torch.arange(n0, n0 + n1)
    ids = tuple(torch.as_tensor(g).reshape(-1) for g in groups)
    if len(ids) != 2 or (len(ids[0]), len(ids[1])) != (n0, n1):
        raise ValueError(
            f"{name} groups: expected one number for each of {n0} images without and {n1} with the signal, "
            f"got {[len(g) for g in ids]}"
        )
    return ids[0], ids[1]


def _halves(ids: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """0 or 1 for every image: halves of the groups, drawn apart for groups that only one class has."""
    in0, in1 = set(ids[0].tolist()), set(ids[1].tolist())
    half: dict[int, int] = {}
    for kind in (in0 - in1, in1 - in0, in0 & in1):
        members = sorted(kind)
        drawn = torch.randperm(len(members), generator=generator).tolist()
        half |= {members[k]: place % 2 for place, k in enumerate(drawn)}
    first, second = (torch.tensor([half[i] for i in g.tolist()]) for g in ids)
    return first, second


def _completed(order: Tensor, compared: Tensor) -> Tensor:
    mean = order / compared.clamp(min=1)
    met = compared > 0
    overall = mean[met].mean()
    rows = torch.where(met, mean - overall, 0).sum(1) / met.sum(1).clamp(min=1)
    columns = torch.where(met, mean - overall, 0).sum(0) / met.sum(0).clamp(min=1)
    return torch.where(met, mean, overall + rows[:, None] + columns[None])


def _noncentrality(ratio: float, p: int, q: int, level: float) -> float:
    """λ with P(F(p, q; λ) ≤ ratio) = level, 0 if there is none."""
    from scipy.optimize import brentq
    from scipy.stats import f, ncf

    if f.cdf(ratio, p, q) <= level:
        return 0.0
    high = max(1.0, 2 * p * ratio)
    while ncf.cdf(ratio, p, q, high) > level:
        high *= 2
    return float(brentq(lambda nc: ncf.cdf(ratio, p, q, nc) - level, 1e-12, high, xtol=1e-9))
