"""Counts and their logarithm against exact moments, for every starvation rule, and what LowDose refuses."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import gammaln

from operators import LowDose
from operators.starvation import ENOUGH, PANEL, REACH, ROW

MEANS = [3, 5, 10, 20, 50, 400]
I0, FLOOR = 1000.0, 0.1


def law(mean_counts, sigma, kink, panels=400, order=20):
    """Nodes and weights of y = Poisson(mean) + N(0, σ²).

    The sum over the counts is exact; the electronic noise is integrated by Gauss–Legendre panels that end at
    the kink of what is to be averaged, up to 9 σ.
    """
    counts = np.arange(stats.poisson.ppf(1e-15, mean_counts), stats.poisson.ppf(1 - 1e-15, mean_counts) + 2)
    weights = stats.poisson.pmf(counts, mean_counts)
    if sigma == 0:
        return counts, weights
    ends = np.union1d(np.linspace(counts[0] - 9 * sigma, counts[-1] + 9 * sigma, panels), kink)
    t, v = np.polynomial.legendre.leggauss(order)
    half = np.diff(ends)[:, None] / 2
    y = ((ends[:-1, None] + half) + half * t).ravel()
    return y, (half * v).ravel() * (weights @ stats.norm.pdf(y, counts[:, None], sigma))


def moments(values, weights):
    """Mean, variance and fourth central moment."""
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    mean = (weights * values).sum()
    return mean, *((weights * (values - mean) ** k).sum() for k in (2, 4))


def log(signal):
    return math.log(I0) - np.log(np.maximum(signal, FLOOR))


def assert_moments(sample, exact, error=(0.0, 0.0)):
    """Mean and variance within three standard errors, of the sample and of the oracle together."""
    mean, variance, fourth = exact
    n = sample.size
    assert abs(sample.mean() - mean) <= 3 * math.hypot(math.sqrt(variance / n), error[0])
    assert abs(sample.var() - variance) <= 3 * math.hypot(math.sqrt((fourth - variance**2) / n), error[1])


def sample(noise, mean_counts, bins, views=60_000):
    """Counts and post-log data of independent windows of uniform rays: the bin in the middle of each."""
    p = torch.full((views, bins), math.log(noise.i0 / mean_counts), dtype=torch.float64)
    y = noise(p, seed=3)
    return y.numpy()[:, bins // 2], noise.linearise(y).numpy()[:, bins // 2]


@pytest.mark.parametrize("mean_counts", MEANS)
@pytest.mark.parametrize(("sigma", "background"), [(0.0, 0.0), (3.0, 0.0), (0.0, 2.0), (3.0, 2.0)])
def test_floor_has_the_exact_moments(mean_counts, sigma, background):
    noise = LowDose(I0, electronic_sigma=sigma, background=background, floor=FLOOR)
    y, post_log = sample(noise, mean_counts, 1, 200_000)
    nodes, weights = law(mean_counts + background, sigma, FLOOR + background)
    assert_moments(y, moments(nodes, weights))
    exact = moments(log(nodes - background), weights)
    assert_moments(post_log, exact)
    ours = noise.exact(torch.tensor([[math.log(I0 / mean_counts)]], dtype=torch.float64))
    # the tables of both are good to 1e-9; p itself is rounded to 1e-16
    assert float(ours.mean) == pytest.approx(exact[0], abs=1e-8 * math.sqrt(exact[1]))
    assert float(ours.variance) == pytest.approx(exact[1], rel=1e-8)


@pytest.mark.parametrize("mean_counts", MEANS)
@pytest.mark.parametrize("sigma", [0.0, 3.0])
def test_neighbour_has_the_exact_moments(mean_counts, sigma):
    """Of uniform rays: F the law of a bin with counts, q the chance that it has none.

    (1 − q) F + q Σᵣ q^(2(r−1)) [2 q (1 − q) F + (1 − q)² (mean of two F)] + q^(1 + 2 REACH) floor
    """
    noise = LowDose(I0, electronic_sigma=sigma, floor=FLOOR, starvation="neighbour")
    y, post_log = sample(noise, mean_counts, 2 * REACH + 1)
    nodes, weights = law(mean_counts, sigma, FLOOR, panels=100, order=8)
    assert_moments(y, moments(nodes, weights))
    good = nodes >= FLOOR
    q = weights[~good].sum()
    nodes, weights = nodes[good], weights[good] / (1 - q)
    rings = sum(q ** (2 * r - 1) for r in range(1, REACH + 1))
    one, two = (1 - q) + rings * 2 * q * (1 - q), rings * (1 - q) ** 2
    pairs = (nodes[:, None] + nodes) / 2
    values = np.concatenate([log(nodes), log(pairs).ravel(), [log(0.0)]])
    chances = np.concatenate(
        [one * weights, two * np.outer(weights, weights).ravel(), [q ** (1 + 2 * REACH)]]
    )
    assert_moments(post_log, moments(values, chances))


def trimmed(own, others):
    """The trimmed-mean rule for one bin and the four around it, by sums instead of sorting."""
    largest, smallest = np.maximum(own, others.max(-1)), np.minimum(own, others.min(-1))
    m = (own + others.sum(-1) - largest - smallest) / 3
    g = np.clip(m / ENOUGH, 0, 1)
    return log(g * own + (1 - g) * m)


@pytest.mark.parametrize("mean_counts", MEANS)
def test_trimmed_mean_has_the_exact_moments(mean_counts):
    """Of uniform rays, without electronic noise: every own count and every multiset of four others."""
    noise = LowDose(I0, floor=FLOOR, starvation="trimmed-mean")
    y, post_log = sample(noise, mean_counts, 5)
    nodes, weights = law(mean_counts, 0.0, FLOOR)
    assert_moments(y, moments(nodes, weights))
    if mean_counts >= 50:
        # m < 20 needs two of five below 20: then the rule acts, with a chance of less than
        assert 10 * stats.poisson.cdf(ENOUGH, mean_counts) ** 2 < 1e-9
        assert_moments(post_log, moments(log(nodes), weights))
        return
    keep = weights > 1e-7  # what is left out is 1e-4 of a standard error
    nodes, weights = nodes[keep], weights[keep] / weights[keep].sum()
    index = np.array(list(itertools.combinations_with_replacement(range(len(nodes)), 4)))
    counts = (index[:, :, None] == index[:, None, :]).sum(-1)
    # 4! / Π multiplicity!: every element of a multiplicity m contributes m!^(1/m)
    orders = np.exp(gammaln(5) - (gammaln(counts + 1) / counts).sum(-1))
    chance = orders * weights[index].prod(-1)
    total, square, fourth = [], [], []
    for own, weight in zip(nodes, weights, strict=True):
        values = trimmed(own, nodes[index])
        total.append(weight * (chance @ values))
        square.append(weight * (chance @ (values - 4) ** 2))
        fourth.append(weight * (chance @ (values - post_log.mean()) ** 4))
    mean = sum(total)
    assert weights.sum() * chance.sum() == pytest.approx(1, abs=1e-9)
    assert_moments(post_log, (mean, sum(square) - (mean - 4) ** 2, sum(fourth)))


@pytest.mark.parametrize("mean_counts", MEANS)
def test_trimmed_mean_with_electronic_noise(mean_counts):
    """Against numpy's own draws, 4e5 of them, whose standard errors are added."""
    noise = LowDose(I0, electronic_sigma=3.0, floor=FLOOR, starvation="trimmed-mean")
    y, post_log = sample(noise, mean_counts, 5)
    assert_moments(y, moments(*law(mean_counts, 3.0, FLOOR)))
    rng = np.random.default_rng(1)
    draws = rng.poisson(mean_counts, (400_000, 5)) + rng.normal(0, 3, (400_000, 5))
    values = trimmed(draws[:, 0], draws[:, 1:])
    exact = moments(values, np.full(len(values), 1 / len(values)))
    error = [math.sqrt(v / len(values)) for v in (exact[1], exact[2] - exact[1] ** 2)]
    assert_moments(post_log, exact, error)


def slowly(y, i0, background, rule, detector):
    """The rules as their definition says, bin by bin."""
    T = (y - background) / i0
    s = T * i0
    result = np.empty_like(T)
    for at in np.ndindex(*y.shape):
        here, where = at[: y.ndim - detector], at[y.ndim - detector :]
        shape = y.shape[y.ndim - detector :]
        if rule == "neighbour":
            value = s[at]
            if s[at] < FLOOR:
                value = FLOOR
                for r in range(1, REACH + 1):
                    ring = [
                        (*here, *w)
                        for w in np.ndindex(*shape)
                        if max(abs(a - b) for a, b in zip(w, where, strict=True)) == r
                    ]
                    found = [T[w] for w in ring if s[w] >= FLOOR]
                    if found:
                        value = i0[at] * np.mean(found)
                        break
        else:
            size, drop, _ = ROW if detector == 1 else PANEL
            half = 2 if detector == 1 else 1
            window = [
                T[(*here, *[np.clip(w + o, 0, n - 1) for w, o, n in zip(where, offset, shape, strict=True)])]
                for offset in itertools.product(range(-half, half + 1), repeat=detector)
            ]
            m = i0[at] * np.mean(sorted(window)[drop : size - drop])
            g = min(max(m, 0) / 20, 1)
            value = g * s[at] + (1 - g) * m
        result[at] = math.log(i0[at]) - math.log(max(value, FLOOR))
    return result


@pytest.mark.parametrize("rule", ["neighbour", "trimmed-mean"])
@pytest.mark.parametrize("shape", [(4, 30), (3, 5, 9), (2, 1, 12)])
def test_a_rule_is_its_definition(rule, shape):
    generator = torch.Generator().manual_seed(2)
    i0 = 3 + 20 * torch.rand(shape[1:], generator=generator, dtype=torch.float64)
    noise = LowDose(i0, 2.0, background=1.0, floor=FLOOR, data_ndim=len(shape), starvation=rule)
    y = noise(torch.full((2, *shape), 2.0, dtype=torch.float64), seed=1)
    assert 0.05 < float((y - 1 < FLOOR).double().mean()) < 0.9
    detector = 2 if len(shape) == 3 and shape[-2] > 1 else 1
    for image, found, variance in zip(y, noise.linearise(y), noise.variance(y), strict=True):
        expected = slowly(image.numpy(), i0.expand(shape).numpy(), 1.0, rule, detector)
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)
        assert torch.equal(noise.linearise(image), found) and torch.equal(noise.variance(image), variance)


def test_variances_follow_the_rule():
    """A replaced bin has the variance of −ln of the mean of its neighbours, others their own."""
    noise = LowDose(1000.0, 3.0, background=10.0, starvation="neighbour")
    y = torch.tensor([[110.0, 5.0, 60.0, 7.0, 8.0]], dtype=torch.float64)
    own = [(100 + 10 + 9) / 100**2, (50 + 10 + 9) / 50**2]
    replaced = ((110 + 9) + (60 + 9)) / 4 / 75**2
    expected = [own[0], replaced, own[1], own[1], own[1]]
    torch.testing.assert_close(noise.variance(y), torch.tensor([expected], dtype=torch.float64))
    torch.testing.assert_close(
        noise.linearise(y).exp().reciprocal() * 1000,
        torch.tensor([[100.0, 75.0, 50.0, 50.0, 50.0]], dtype=torch.float64),
    )
    floor, trimming = LowDose(1000.0, 3.0), LowDose(1000.0, 3.0, starvation="trimmed-mean")
    many = torch.full((2, 9), 30.0, dtype=torch.float64)
    assert torch.equal(trimming.variance(many), floor.variance(many))
    few = torch.full((2, 9), 10.0, dtype=torch.float64)
    factor = 0.25 + 2 * 0.25 / 5 + 0.25 * ROW[2] / 5
    torch.testing.assert_close(trimming.variance(few), factor * floor.variance(few))


@pytest.mark.parametrize(("count", "drop", "factor"), [ROW, PANEL])
def test_variance_of_a_trimmed_mean_of_normal_values(count, drop, factor):
    """Within three standard errors of a million draws."""
    draws = np.sort(np.random.default_rng(0).standard_normal((1_000_000, count)), axis=1)
    variance = draws[:, drop : count - drop].mean(1).var() * count
    assert abs(variance / factor - 1) <= 3 * math.sqrt(2 / 1e6)


@pytest.mark.parametrize("starvation", ["neighbour", "trimmed-mean"])
def test_a_bowtie_leaves_no_trace(starvation):
    """Rays of one transmission under any I0 stay what they are."""
    i0 = torch.linspace(20, 400, 11, dtype=torch.float64)
    noise = LowDose(i0, electronic_sigma=1.0, starvation=starvation)
    y = noise.expected(torch.full((2, 11), 3.0, dtype=torch.float64))
    torch.testing.assert_close(noise.linearise(y), torch.full((2, 11), 3.0, dtype=torch.float64))
    y[0, 4] = -1
    if starvation == "neighbour":
        torch.testing.assert_close(noise.linearise(y)[0], torch.full((11,), 3.0, dtype=torch.float64))


def test_exact_moments_of_many_rays():
    """Per-ray I0 and background, many counts and few: each ray as by itself."""
    p = torch.tensor([[0.0, 3.0, 6.0, 9.0], [1.0, 2.0, 20.0, 800.0]], dtype=torch.float64)
    i0 = torch.tensor([[1e6], [2e4]], dtype=torch.float64)
    background = torch.tensor([0.0, 1.0, 20.0, 1e4], dtype=torch.float64)
    found = LowDose(i0, 2.0, background).exact(p)
    for view, ray in np.ndindex(2, 4):
        one = LowDose(float(i0[view]), 2.0, float(background[ray])).exact(p[view : view + 1, ray : ray + 1])
        assert float(found.mean[view, ray]) == pytest.approx(float(one.mean), rel=1e-9)
        assert float(found.variance[view, ray]) == pytest.approx(float(one.variance), rel=1e-7)
    # many counts: 1/N̄ + σ²/N̄², the next order being 3/2 N̄²
    assert float(found.variance[0, 0]) == pytest.approx(1e-6 + 4e-12, rel=2e-6)


@pytest.mark.parametrize("sigma", [0.0, 3.0])
@pytest.mark.parametrize("background", [0.0, 40.0])
def test_a_table_of_moments_is_exact(sigma, background):
    """Enough rays for the table, some of them again by themselves."""
    noise = LowDose(1e5, sigma, background)
    p = torch.linspace(0, 30, 20_000, dtype=torch.float64).reshape(100, 200)
    found, one = noise.exact(p), noise.exact(p[::7, ::13])
    deviation = one.variance.sqrt()
    # the splines' error, (1/128)⁴
    assert float(((found.mean[::7, ::13] - one.mean) / deviation).abs().max()) < 1e-7
    torch.testing.assert_close(found.variance[::7, ::13], one.variance, rtol=1e-7, atol=0)


def test_first_order_variance_fails_below_twenty_counts():
    """At 10 counts and σ 5 the exact variance is 3.9 times, the bias 1.9 times, the formula's."""
    noise = LowDose(1000.0, electronic_sigma=5.0)
    p = torch.tensor([[math.log(100.0)]], dtype=torch.float64)
    exact = noise.exact(p)
    formula = noise.variance(noise.expected(p))
    assert float(exact.variance / formula) == pytest.approx(3.9, abs=0.05)
    assert float((exact.mean - p) / (formula / 2)) == pytest.approx(1.9, abs=0.05)


def test_scaled_dose():
    noise = LowDose(torch.tensor([10.0, 20.0]), 3.0, background=4.0, starvation="neighbour").scaled(0.25)
    assert noise.i0.tolist() == [2.5, 5.0] and noise.background == 1.0
    assert (noise.electronic_sigma, noise.starvation) == (3.0, "neighbour")
    factor = torch.tensor([[0.5], [1.5]])
    assert LowDose(100.0).scaled(factor).i0.tolist() == [[50.0], [150.0]]
    for bad in (0.0, -0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"LowDose.scaled dose: expected positive finite"):
            noise.scaled(bad)


def test_low_dose_formulas():
    noise = LowDose(1000.0, electronic_sigma=3.0, background=10.0, floor=0.1)
    y = torch.tensor([[110.0, 10.0, -5.0]], dtype=torch.float64)
    signal = torch.tensor([[100.0, 0.1, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(noise.linearise(y), -torch.log(signal / 1000))
    torch.testing.assert_close(noise.variance(y), (signal + 10 + 9) / signal**2)
    p = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(noise.expected(p), 1000 * torch.exp(-p) + 10)
    torch.testing.assert_close(noise.linearise(noise.expected(p)), p)


def test_per_ray_i0():
    i0 = torch.tensor([1e3, 1e4, 1e5])
    noise = LowDose(i0)
    p = torch.full((2, 3), 0.5)
    torch.testing.assert_close(noise.expected(p), (i0 * math.exp(-0.5)).expand(2, 3))
    torch.testing.assert_close(noise.linearise(noise.expected(p)), p)
    assert noise.linearise(p.double()).dtype == torch.float64


def test_an_unknown_rule():
    with pytest.raises(
        ValueError, match="LowDose starvation: expected one of 'floor', 'neighbour', 'trimmed"
    ):
        LowDose(10.0, starvation="median")


def test_a_default_rule_is_not_recorded():
    """So that the hash of a problem from before there was a choice stays."""
    assert "starvation" not in vars(LowDose(10.0)) and LowDose(10.0).starvation == "floor"
