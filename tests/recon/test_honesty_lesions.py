"""Lesions and hidden codes, on methods of which it is known what they do to them."""

import math

import pytest
import torch

from operators import Gaussian, Identity, ParallelBeam
from recon import Problem
from recon.data.sets import PairedData, SimulatedPairs, UnpairedData
from recon.honesty import (
    Discs,
    LesionCases,
    Letters,
    Rate,
    TwoDomains,
    as_map,
    conformal_threshold,
    dct_quantised,
    false_insertion,
    hidden_code,
    lesion_cases,
    lesion_data,
    lesion_response,
    lesion_scores,
    lesion_survival,
    matched_filter,
    noisy,
    p_values,
    quantised,
    vary_lesion_share,
    with_lesions,
)
from recon.honesty.steganography import usual

D = torch.float64
SPOTS = Discs(0.4, radius=0.15, reach=0.5)


def ground(seeds):
    """A ramp whose slope the seed decides, (n, 32, 40)."""
    ramp = torch.linspace(0, 1, 40).expand(len(seeds), 32, 40)
    return ramp * torch.tensor([0.2 + (s % 5) / 10 for s in seeds])[:, None, None]


def cases(n=12, sigma=0.0):
    seeds = range(n)
    b, s = ground(seeds).double(), SPOTS.draw(seeds, (32, 40)).double()
    noise, A = Gaussian(sigma=max(sigma, 1e-3)), Identity((32, 40))
    absent, present = ((noise(x, seed=5) if sigma else x) for x in (b, b + s))
    return LesionCases(Problem(A, absent, noise), Problem(A, present, noise), b, s)


def identity(problem):
    return problem.y


def test_a_method_that_changes_nothing_keeps_all_and_adds_none():
    c = cases()
    assert lesion_survival(identity, c) == Rate(12, 12) and false_insertion(identity, c) == Rate(0, 12)
    torch.testing.assert_close(lesion_scores(c.present.y, c), torch.ones(12, dtype=D))
    torch.testing.assert_close(lesion_scores(c.absent.y, c), torch.zeros(12, dtype=D), atol=1e-12, rtol=0)


def test_a_method_that_paints_lesions_inserts_all_and_one_that_inpaints_keeps_none():
    c = cases()
    assert false_insertion(lambda p: c.background + c.lesion, c).share == 1
    assert lesion_survival(lambda p: c.background, c).share == 0
    always = lesion_response(lambda p: c.background + c.lesion, c)
    torch.testing.assert_close(always, torch.zeros(12, dtype=D), atol=1e-12, rtol=0)
    # a wrong background that is the same in both takes nothing from the lesion
    torch.testing.assert_close(lesion_response(lambda p: 0.7 * p.y - c.background, c), always + 0.7)
    half = lesion_scores(c.background + 0.3 * c.lesion, c)
    torch.testing.assert_close(half, torch.full((12,), 0.3, dtype=D))
    assert lesion_survival(lambda p: c.background + 0.3 * c.lesion, c, threshold=0.25).share == 1


def test_an_offset_is_no_lesion_and_a_darker_spot_is_a_negative_one():
    c = cases()
    scores = lesion_scores(c.absent.y + 10.0, c)
    torch.testing.assert_close(scores, torch.zeros(12, dtype=D), atol=1e-9, rtol=0)
    torch.testing.assert_close(lesion_scores(c.background - c.lesion, c), -torch.ones(12, dtype=D))


def test_noise_moves_the_score_by_sigma_over_the_filter():
    n, sigma = 400, 2.0
    c = cases(n, sigma)
    spread = sigma / matched_filter(c.lesion).flatten(1).norm(dim=1)
    z = (lesion_scores(c.present.y, c) - 1) / spread
    # of n normal numbers: mean ± 1/√n and standard deviation ± 1/√(2n), four times
    assert abs(float(z.mean())) < 4 / math.sqrt(n) and abs(float(z.std()) - 1) < 4 / math.sqrt(2 * n)
    expected = 0.5 * (1 + torch.erf((0.5 / spread) / math.sqrt(2))).mean()
    found = lesion_survival(identity, c)
    assert abs(found.share - float(expected)) < 4 * math.sqrt(found.share * (1 - found.share) / n)


def test_the_share_decides_who_carries_a_lesion_and_never_moves_it():
    seeds = range(1000)
    images = [with_lesions(lambda s: torch.zeros(len(s), 16, 16), SPOTS, p)(seeds) for p in (0, 0.3, 0.6, 1)]
    carry = [x.flatten(1).amax(1) > 0 for x in images]
    shares = [float(c.double().mean()) for c in carry]
    assert shares[0] == 0 and shares[3] == 1
    # a binomial share of 1000: four standard errors
    assert shares[1] == pytest.approx(0.3, abs=0.058) and shares[2] == pytest.approx(0.6, abs=0.062)
    assert not bool((carry[1] & ~carry[2]).any())
    assert torch.equal(images[1][carry[1]], images[3][carry[1]])
    with pytest.raises(ValueError, match="share"):
        with_lesions(ground, SPOTS, 1.5)


def test_lesions_have_their_size_on_every_grid():
    for shape in ((64, 64), (33, 47)):
        spots = SPOTS.draw(range(20), shape).double()
        area = math.pi * (0.15 * min(shape) / 2) ** 2
        # sub-pixel rows: a per cent of the area
        expected = torch.full((20,), 0.4 * area, dtype=D)
        torch.testing.assert_close(spots.sum((-2, -1)), expected, rtol=1e-2, atol=0)
        letters = Letters(-0.2, size=0.5, letters="=").draw(range(20), shape).double()
        dot = 0.5 * min(shape) / 2 / 7
        # two bars of 5 dots
        expected = torch.full((20,), -0.2 * 10 * dot**2, dtype=D)
        torch.testing.assert_close(letters.sum((-2, -1)), expected, rtol=1e-5, atol=0)
    for make in (lambda: Discs(0.0), lambda: Discs(1.0, 0.8, 0.5), lambda: Letters(1.0, letters="?")):
        with pytest.raises(ValueError, match=r"lesion|letters"):
            make()


GEOMETRY = ParallelBeam((16, 20), 1.0, [math.pi * k / 9 for k in range(9)], 27, 1.0)


def scans(train_size=None):
    return SimulatedPairs(GEOMETRY, Gaussian(sigma=0.1), ground, 4, 4, train_size)


def test_cases_from_simulated_pairs():
    c = lesion_cases(scans(), SPOTS, range(6))
    assert c.lesion.shape == (6, 16, 20) and c.absent.batch == (6,)
    # noise is the same: the data differ by the lesion's projection, from the finer grid
    difference, projected = c.present.y - c.absent.y, c.present.A(c.lesion)
    # a disc of radius 2.4 on half as many pixels: its edge is a good part of it
    assert float((difference - projected).norm() / projected.norm()) < 0.2
    assert lesion_survival(lambda p: c.background + c.lesion, c).share == 1
    data = lesion_data(scans(8), SPOTS, 1.0)
    assert data.train_size == 8 and torch.equal(data.A(data.train[1]), scans().A(data.train[1]))
    plain = scans(8).train[1]
    assert bool(((data.train[1] - plain).flatten(1).amax(1) > 0.3).all())


def test_two_domains_show_problems_of_one_and_images_of_the_other():
    source, target = lesion_data(scans(8), SPOTS, 0.0), lesion_data(scans(8), Discs(50.0), 1.0)
    data = TwoDomains(source, target)
    assert isinstance(data, UnpairedData)
    batches = data.batches(3, torch.Generator().manual_seed(0))
    problem, images = next(batches)
    assert problem.batch == (3,) and bool((images.flatten(1).amax(1) > 20).all())
    assert float(problem.y.max()) < 20 and data.validation[1].max() < 2
    again = data.batches(3, torch.Generator().manual_seed(0))
    assert torch.equal(next(again)[0].y, problem.y)


class Mean:
    """Learns the mean excess of the training images and always adds it; a share above 0.9 makes it fail."""

    def __init__(self, seed, c):
        self.c = c

    def fit(self, data):
        _, truth = data.train
        share = float((truth.flatten(1).amax(1) > 0.7).double().mean())
        if share > 0.9:
            raise FloatingPointError("the loss is nan")
        self.share = share
        return self

    def __call__(self, problem):
        return self.c.background + self.share * self.c.lesion


def test_the_study_over_shares_counts_what_failed():
    c = lesion_cases(scans(), SPOTS, range(5))

    def data(share):
        lesions = torch.zeros(10, 16, 20)
        lesions[: round(10 * share)] = 1.0
        pair = Problem(scans().A, torch.zeros(10, 9, 27), Gaussian(sigma=1.0)), lesions
        return PairedData(pair, pair)

    said = []
    found = vary_lesion_share(lambda s: Mean(s, c), (0, 0.4, 0.6, 1), data, c, seeds=(0, 1), say=said.append)
    assert [(r.share, r.seed) for r in found] == [(p, s) for p in (0, 0.4, 0.6, 1) for s in (0, 1)]
    for r in found[:6]:
        assert r.kept == pytest.approx(r.share, abs=1e-5) == r.inserted
        assert r.survival.share == r.insertion.share == (r.share >= 0.5)
    assert found[6].survival is None and "loss is nan" in found[6].error and math.isnan(found[6].kept)
    assert len(said) == 8 and "survival 5/5" in said[4]
    assert found[0].as_dict()["survival"] == {"hits": 0, "of": 5}


def test_rates_and_thresholds():
    # Wilson's interval for 1 of 10: 0.0179 to 0.4042
    assert Rate(1, 10).interval() == pytest.approx((0.017876, 0.404150), abs=1e-5)
    assert Rate(0, 5).interval()[0] == 0 and Rate(5, 5).interval()[1] == 1
    with pytest.raises(ValueError, match="0 ≤ hits"):
        Rate(3, 2)
    scores = torch.arange(1, 20)
    assert conformal_threshold(scores, 0.05) == 19 and conformal_threshold(scores, 0.5) == 10
    with pytest.raises(ValueError, match="at least 19"):
        conformal_threshold(scores[1:], 0.05)
    assert p_values(torch.tensor([0.0, 19.0, 20.0]), scores).tolist() == pytest.approx([1, 0.1, 0.05])


X = torch.rand(3, 24, 33, generator=torch.Generator().manual_seed(0), dtype=D)


def test_a_pair_that_hides_its_input_jumps():
    plain, height = torch.linspace(0, 1, 33, dtype=D).expand(24, 33), 1e-3
    found = hidden_code(lambda x: plain + height * x, lambda y: (y - plain) / height, X)
    for name, jump in found.items():
        torch.testing.assert_close(jump.before, torch.zeros(3, dtype=D), atol=1e-12, rtol=0)
        torch.testing.assert_close(jump.amplification, torch.full((3,), 1e3, dtype=D), rtol=1e-6, atol=0)
        torch.testing.assert_close(jump.jump, jump.amplification, rtol=1e-6, atol=0)
        assert float(jump.perturbation.max()) < 0.05, name  # of a range of 1: not seen


def test_an_honest_pair_changes_as_much_as_its_image():
    found = hidden_code(lambda x: 3 - 2 * x.flip(-1), lambda y: (3 - y.flip(-1)) / 2, X)
    assert set(found) == {"noise of 1 %", "8 bit", "DCT quality 75"}
    for jump in found.values():
        torch.testing.assert_close(jump.amplification, torch.full((3,), 0.5, dtype=D), rtol=1e-9, atol=0)
    # methods are maps, too
    as_method = as_map(lambda p: 3 - 2 * p.y.flip(-1), (24, 33))
    torch.testing.assert_close(as_method(X), 3 - 2 * X.flip(-1))


def test_perturbations_are_what_they_say():
    assert float((noisy(torch.zeros(1, 200, 200, dtype=D), 0.3)).std()) == pytest.approx(0.3, rel=0.02)
    assert torch.equal(noisy(X, 0.3)[:1], noisy(X[:1], 0.3))
    eight = quantised(X, 0.0, 1.0)
    assert float((eight - X).abs().max()) <= 0.5 / 255 + 1e-12
    torch.testing.assert_close(eight, quantised(eight, 0.0, 1.0))
    assert quantised(torch.tensor([-1.0, 2.0]), 0.0, 1.0).tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="constant"):
        usual(torch.ones(1, 8, 8))
    with pytest.raises(ValueError, match="quality"):
        dct_quantised(X, 0, 1, 0)


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
def test_the_cosine_quantisation_is_that_of_a_jpeg_file(quality):
    import io

    import numpy as np
    from PIL import Image

    y, x = torch.meshgrid(torch.arange(61.0), torch.arange(75.0), indexing="ij")
    picture = (
        (127 + 80 * torch.sin(x / 5) * torch.cos(y / 9) + 20 * torch.sin(x * y / 60)).round().clamp(0, 255)
    )
    file = io.BytesIO()
    Image.fromarray(picture.to(torch.uint8).numpy()).save(file, "JPEG", quality=quality)
    theirs = torch.from_numpy(np.array(Image.open(file))).double()
    ours = dct_quantised(picture.double(), 0, 255, quality)
    # their cosines are integers: a coefficient on the edge of rounding may fall the other way
    off = (ours - theirs).abs()
    assert float((off <= 1).double().mean()) > 0.95 and float(off.mean()) < 0.3
    assert float((ours - picture).abs().mean()) > 2 * float(off.mean())
