"""Unconditional synthesis and adversarial segmentation, small."""

import pytest
import torch

from operators import Gaussian, Identity
from recon import METHODS, Problem
from recon.baselines.gans.segmentation import SegAN
from recon.baselines.gans.unconditional import DCGAN, ProgressiveGAN
from recon.data.sets import PairedData

SIZES = {
    DCGAN: {"size": 8, "latent": 5, "base": 2, "norm": "instance"},
    ProgressiveGAN: {"size": 8, "latent": 5, "widest": 4, "product": 32, "fade": 2, "keep_scale": 2},
}


def images(n, seed, side=8):
    g = torch.Generator().manual_seed(seed)
    x = torch.zeros(n, side, side)
    for image in x:
        top, left = (int(k) for k in torch.randint(1, side // 2, (2,), generator=g))
        image[top : top + 3, left : left + 3] = 2 + torch.rand((), generator=g)
    return x


def pairs(truth_of, side=8):
    def one(n, seed):
        y = images(n, seed, side)
        return Problem(Identity((side, side)), y, Gaussian(sigma=0.01)), truth_of(y)

    return PairedData(one(6, 0), one(3, 1))


def small(cls, **changes):
    return cls(**{**SIZES[cls], "steps": 7, "batch_size": 4, "checkpoint_every": 2, **changes})


@pytest.mark.parametrize("cls", SIZES, ids=lambda c: c.__name__)
def test_synthesis_learns_resumes_saves_and_samples(cls, tmp_path):
    data, start = pairs(lambda y: y), small(cls)
    steps = []
    whole = small(cls).fit(data, callback=lambda p: steps.append(dict(p.terms)))
    assert len(steps) == 7
    assert all(torch.isfinite(torch.tensor(v)).all() for v in steps[-1].values())
    for mine, first in ((whole.network, start.network), (whole.retired["judge"], start.retired["judge"])):
        # a bias before a normalisation has no effect
        moved = [
            not torch.equal(p, q)
            for p, q in zip(mine.parameters(), first.parameters(), strict=True)
            if p.ndim > 1
        ]
        assert all(moved)

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 5:
            raise Killed

    with pytest.raises(Killed):
        small(cls).fit(data, checkpoint=tmp_path / "c.safetensors", callback=kill)
    resumed = small(cls).fit(data, checkpoint=tmp_path / "c.safetensors")
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in resumed.state_dict().items())
    (low, high), truth = whole.record["window"], data.validation[1]
    outside = float(((truth < low) | (truth > high)).float().mean())
    assert whole.record["truths outside the window"] == pytest.approx(outside)
    x = whole.sample(3, seed=4)
    assert x.shape == (3, 8, 8) and torch.equal(x, whole.sample(3, seed=4))
    assert not torch.equal(x, whole.sample(3, seed=5))
    loaded = cls.load(whole.save(tmp_path / "m"))
    assert torch.equal(loaded.sample(3, seed=4), x) and loaded.config == whole.config
    with pytest.raises(ValueError, match="nothing learned"):
        small(cls).sample(1)
    with pytest.raises(ValueError, match="8 × 8"):
        small(cls).fit(pairs(lambda y: y, side=16))
    with pytest.raises(ValueError, match="no such setting"):
        cls(colour=3)
    other = next(c for c in SIZES if c is not cls)
    with pytest.raises(ValueError, match="expected weights of"):
        other.load(tmp_path / "m")


def test_progressive_growing_keeps_its_schedule():
    method = ProgressiveGAN(**{**SIZES[ProgressiveGAN], "size": 16, "fade": 4, "keep_scale": 2})
    stages = [method.stage(k) for k in range(16)]
    grown = [(1, 0.25), (1, 0.5), (1, 0.75), (1, 1.0), (1, 1.0), (1, 1.0)]
    assert stages[:8] == [(0, 1.0)] * 2 + grown
    assert stages[8:14] == [(2, alpha) for _, alpha in grown] and stages[14:] == [(2, 1.0)] * 2
    # what is real at a scale is the mean of its pixels, and begins as the scale before
    method.window = torch.tensor([-1.0, 1.0])
    method.judge = method.retired["judge"]
    x = torch.rand(2, 16, 16)
    for level in range(3):
        method.judge.grown(level)
        seen = method.real(x)
        assert seen.shape[-1] == 4 << level
        torch.testing.assert_close(seen.mean((1, 2, 3)), x.mean((1, 2)))
    method.judge.grown(2, alpha=0.0)
    faint = method.real(x)[:, 0]
    assert torch.equal(faint[:, ::2, ::2], faint[:, 1::2, 1::2])


def test_segan_finds_boxes_and_its_critic_stays_bounded(tmp_path):
    masks = pairs(lambda y: (y > 0).float())
    method = SegAN(**SegAN.small, steps=60, batch_size=6, learning_rate=1e-2).fit(masks)
    problem, truth = masks.validation
    mask = method(problem)
    assert mask.shape == truth.shape and bool(((mask >= 0) & (mask <= 1)).all())
    # boxes stand out by themselves; chance (all ones) has 2·9 / (64 + 9) = 0.25
    assert method.scores(masks)["dice"] > 0.8
    assert SegAN().config.schedule == "step" and SegAN().config.decay == 0.5
    # 0.05 in float32
    assert all(float(p.abs().max()) <= 0.05 + 1e-8 for p in method.retired.parameters())
    method.save(tmp_path / "s")
    assert torch.equal(SegAN.load(tmp_path / "s")(problem), mask) and METHODS["segan"] is SegAN
    with pytest.raises(ValueError, match="masks of 0 and 1"):
        SegAN(**SegAN.small, steps=1).fit(pairs(lambda y: y))
    with pytest.raises(ValueError, match="masked images"):
        SegAN(penalty=1.0)


def test_segan_players_pull_the_same_distance():
    masks = pairs(lambda y: (y > 0).float())
    method = SegAN(**SegAN.small, losses=(("dice", 1.0, {"probabilities": True}),))
    problem, truth = next(masks.batches(2, torch.Generator().manual_seed(0)))
    method.build(method.scanner_of(problem, truth))
    critic, segmentor = method.players()
    g = torch.Generator()
    up, down = critic.loss(problem, truth, g), segmentor.loss(problem, truth, g)
    torch.testing.assert_close(up["distance"], -down["distance"])
    u, t = method.pair(problem, truth, g)
    torch.testing.assert_close(t[:, 0], truth)  # window and span keep masks as they are
    D, m = method.opponent["discriminator"], method.network(u)
    layers = [(u * m, u * t), *zip(D.features(u * m), D.features(u * t), strict=True)]
    torch.testing.assert_close(down["distance"], sum((a - b).abs().mean() for a, b in layers))
    overlap = 2 * (m * t).sum((1, 2, 3)), (m + t).sum((1, 2, 3))
    inverse = 2 * ((1 - m) * (1 - t)).sum((1, 2, 3)), (2 - m - t).sum((1, 2, 3))
    dice = 1 - 0.5 * (overlap[0] / overlap[1] + inverse[0] / inverse[1])
    torch.testing.assert_close(down["dice"], dice.mean(), rtol=1e-4, atol=1e-5)  # ε = 1e-5 pixels
