"""Spread and intervals: never more than the images allow."""

import numpy as np
import pytest

from recon.comparison.rows import Row
from recon.comparison.statistics import bootstrap, difference, summarise


def rows(values, truths=None, method="a"):
    truths = truths or [str(k) for k in range(len(values))]
    return [
        Row(
            "p",
            method,
            k,
            t,
            {} if v is None else {"psnr_db": v},
            {},
            "key",
            failure="" if v is not None else "no",
        )
        for k, (v, t) in enumerate(zip(values, truths, strict=True))
    ]


def test_one_image_shows_its_spread_over_noise_and_says_so():
    found = summarise(rows([1.0, 2.0, 3.0] * 4, ["same"] * 12), "psnr_db")
    assert (found.n, found.images, found.over, found.interval) == (12, 1, "noise draws", None)
    assert found.note == "one image, 12 noise draws: the spread over noise is all it shows"
    assert found.sd == pytest.approx(np.std([1.0, 2.0, 3.0] * 4, ddof=1))


def test_no_interval_below_five_images():
    found = summarise(rows([1.0, 2.0, 3.0, 4.0]), "psnr_db")
    assert found.interval is None and "too few for an interval" in found.note
    assert summarise(rows([1.0, 2.0, 3.0, 4.0, 5.0]), "psnr_db").interval is not None


def test_draws_of_one_image_count_once():
    found = summarise(rows([1.0, 3.0, 10.0, 10.0], ["a", "a", "b", "b"]), "psnr_db")
    assert (found.mean, found.images, found.n) == (6.0, 2, 4)
    assert found.sd == pytest.approx(np.std([2.0, 10.0], ddof=1))


def test_failures_are_counted_not_averaged():
    found = summarise(rows([1.0, None, 3.0]), "psnr_db")
    assert (found.mean, found.n, found.failures) == (2.0, 2, 1)
    assert summarise(rows([None]), "psnr_db").note == "no image was reconstructed"


def test_differences_are_paired():
    base, other = rows([10.0, 20.0, 30.0, 40.0, 50.0, 60.0]), rows([11.0, 21.5, 31.0, 41.5, 51.0])
    found = difference(other, base, "psnr_db")
    assert (found.n, found.images) == (5, 5)
    assert found.mean == pytest.approx(1.2)
    low, high = found.interval
    assert 1.0 <= low < 1.2 < high <= 1.5, "the spread between images does not enter"


def test_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for k in range(60):
        low, high = bootstrap(generator.normal(3.0, 1.0, 40), seed=k)
        hits += low <= 3.0 <= high
    assert (
        hits >= 51
    )  # binomial(60, 0.95) falls below with probability 0.3 %; BCa at n = 40 covers about 94 %


def test_equal_values_have_a_point_for_an_interval():
    assert bootstrap([2.0] * 6) == (2.0, 2.0)
