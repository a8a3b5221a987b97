"""Readings of a detector with offsets, gains, dead cells and finite calibration scans, back to counts."""

import math

import pytest
import torch

from operators import LowDose, normalise, photon_gain

I0, GAIN, SIGMA = 2000.0, 3.0, 6.0


def scanner(views=50, bins=40, frames=30, seed=0, gain=GAIN):
    """Readings of p = 1.5 behind 2000 ± 30 % photons, an uneven offset, 6 counts of electronic noise."""
    g = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(99)
    i0 = I0 * (0.7 + 0.6 * torch.rand(bins, generator=fixed, dtype=torch.float64))
    offset = 100 + 20 * torch.rand(bins, generator=fixed, dtype=torch.float64)

    def read(mean, n):
        counts = torch.poisson(mean.expand(n, bins).contiguous(), generator=g)
        return gain * (counts + SIGMA * torch.randn(n, bins, generator=g, dtype=torch.float64)) + offset

    return read(i0 * math.exp(-1.5), views), read(0 * i0, frames), read(i0, frames), i0


def test_counts_have_their_law():
    """Gain, counts, I₀ and electronic noise within the errors of the frames they are made from."""
    raw, dark, flat, i0 = scanner(views=2000, frames=400)
    gain = photon_gain(flat, dark)
    # of var(air) over 400 × 40 readings, of which 3/2 % are electronic
    assert gain == pytest.approx(GAIN, rel=3 * math.sqrt(2 / (400 * 40)) * 1.05)
    found = normalise(raw, dark, flat, gain=GAIN)
    sigma = math.sqrt((1 + 1 / 400) * SIGMA**2)
    assert found.noise.electronic_sigma == pytest.approx(sigma, rel=3 / math.sqrt(2 * 400 * 40))
    z = (found.noise.i0[0] - i0) / ((i0 + 2 * SIGMA**2) / 400).sqrt()
    assert float(z.abs().max()) < 3.6 and 0.7 < float(z.std()) < 1.3
    law = LowDose(i0[None], SIGMA).expected(torch.full((1, 40), 1.5, dtype=torch.float64))
    variance = law + SIGMA**2
    assert abs(float(((found.counts - law).mean(0) / variance.sqrt()).mean())) < 3 / math.sqrt(400 * 40)
    ratio = float(((found.counts - found.counts.mean(0)).square().mean(0) / variance[0]).mean())
    assert ratio == pytest.approx(1, abs=3 * math.sqrt(2 / (2000 * 40)) + 1 / 2000)
    assert found.noise.background == 0 and not bool(found.dead.any())
    torch.testing.assert_close(found.transmission, (raw - dark.mean(0)) / (flat.mean(0) - dark.mean(0)))
    torch.testing.assert_close(found.linear, -found.transmission.log())
    found.noise.check(found.counts)


@pytest.mark.parametrize("frames", [4, 25])
def test_variance_with_that_of_the_calibration(frames):
    """Rings and rays within three standard errors of 1200 scans that are calibrated each by itself."""
    scans = [
        normalise(*scanner(2, 40, frames, seed)[:3], gain=GAIN, electronic_sigma=SIGMA)
        for seed in range(1200)
    ]
    linear = torch.stack([s.linear for s in scans])
    first, second = linear[:, 0], linear[:, 1]
    rings = torch.stack([s.ring_variance for s in scans]).mean((0, 1))
    rays = torch.stack([s.variance for s in scans]).mean((0, 1))
    # two views share the calibration alone
    shared = ((first - first.mean(0)) * (second - second.mean(0))).mean(0)
    n = first.numel()
    error = math.sqrt(2 / n) * float((rays / rings).square().mean()) ** 0.5
    assert abs(float((shared / rings).mean()) - 1) <= 3 * error
    assert abs(float((first.var(0) / rays).mean()) - 1) <= 3 * math.sqrt(2 / n) + 0.01  # the next order, 3/2N̄
    assert float((rings / rays).mean()) > 0.1 / frames


def test_a_counting_detector_keeps_its_counts():
    """PET: whole counts, a Poisson background known from its own scan, which is not subtracted."""
    g = torch.Generator().manual_seed(1)
    raw = torch.poisson(torch.full((30, 12), 14.0), generator=g)
    randoms = torch.full((12,), 4.0)
    blank = torch.full((12,), 104.0)
    found = normalise(raw, randoms, blank, counting=True)
    assert torch.equal(found.counts, raw) and found.noise.electronic_sigma == 0
    assert found.noise.i0.unique().tolist() == [100.0] and found.noise.background.unique().tolist() == [4.0]
    torch.testing.assert_close(found.linear, -((raw - 4).clamp(min=0.1) / 100).log())
    # one scan of 104 and one of 4 counts: their Poisson noise, through −ln((N − d)/(a − d))
    ring = 104 / 100**2 + 4 * (1 / 10 - 1 / 100) ** 2
    assert float(found.ring_variance[raw == 14][0]) == pytest.approx(ring, rel=1e-5)


@pytest.mark.parametrize("shape", [(9,), (5, 6)])
def test_dead_cells(shape):
    """Found where nothing comes, given where known; they take the mean of their nearest live neighbours."""
    flat, dark = torch.full(shape, 1000.0), torch.zeros(3, *shape)
    dark[0], dark[1] = 1.0, -1.0
    raw = torch.rand(2, 7, *shape, generator=torch.Generator().manual_seed(0)) * 500 + 100
    at, neighbours = (((4,), [(3,), (5,)]) if len(shape) == 1 else ((2, 2), [
        (i, j) for i in (1, 2, 3) for j in (1, 2, 3) if (i, j) not in ((2, 2), (1, 1))
    ]))  # fmt: skip
    flat[at], raw[(..., *at)] = 20.0, math.nan
    known = torch.zeros(shape, dtype=torch.bool)
    other = (0,) if len(shape) == 1 else (1, 1)
    known[other] = True
    found = normalise(raw, dark, flat, dead=known, data_ndim=1 + len(shape))
    assert bool(found.dead[at]) and bool(found.dead[other]) and int(found.dead.sum()) == 2
    expected = torch.stack([raw[(..., *n)] for n in neighbours]).mean(0)
    torch.testing.assert_close(found.counts[(..., *at)], expected)
    assert bool(torch.isfinite(found.linear).all()) and found.noise.data_ndim == 1 + len(shape)
    live = ~found.dead
    torch.testing.assert_close(found.counts[..., live], raw[..., live])
    for image, alone in zip(raw, found.counts, strict=True):
        again = normalise(image, dark, flat, dead=known, data_ndim=1 + len(shape))
        assert torch.equal(again.counts, alone)


def test_a_starvation_rule_goes_through():
    raw, dark, flat, _ = scanner()
    found = normalise(raw, dark, flat, gain=GAIN, starvation="neighbour", floor=0.5)
    assert found.noise.starvation == "neighbour" and found.noise.floor == 0.5
    assert normalise(raw.float(), dark, flat, gain=GAIN).counts.dtype == torch.float32
    whole = normalise(raw.round().to(torch.int32), dark, flat, gain=GAIN)
    assert whole.counts.dtype == torch.float64


RAW, DARK, FLAT, _ = scanner(5, 8, 3)
BAD = {
    "another detector": (lambda: normalise(RAW, DARK[:, :7], FLAT), r"dark: expected \(8\) or \(frames, 8\)"),
    "no views": (lambda: normalise(RAW[0], DARK, FLAT, data_ndim=2), "raw: expected|dark: expected"),
    "no gain": (lambda: normalise(RAW, DARK, FLAT, gain=0.0), "gain: expected positive"),
    "exchanged scans": (lambda: normalise(RAW, FLAT, DARK), "brighter than the dark; are they exchanged"),
    "a hole": (lambda: normalise(RAW * torch.tensor(math.nan), DARK, FLAT), "finite readings in live cells"),
    "below the dark": (
        lambda: normalise(RAW, DARK[0] + 3000, FLAT + 3000),
        "lie below the dark, but no electronic noise",
    ),
    "a mask of numbers": (lambda: normalise(RAW, DARK, FLAT, dead=torch.ones(8)), "dead: expected a bool"),
    "nothing alive": (
        lambda: normalise(RAW, DARK, FLAT, dead=torch.ones(8, dtype=torch.bool)),
        "8 dead cells have no live one within 16",
    ),
    "four dimensions": (lambda: normalise(RAW, DARK, FLAT, data_ndim=4), "expected 2 .* or 3"),
    "one frame": (lambda: photon_gain(FLAT[:1], DARK), "photon_gain flat: expected at least two frames"),
    "quiet air": (lambda: photon_gain(FLAT * 0 + FLAT.mean(0), DARK), "brighter and noisier"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        call()
