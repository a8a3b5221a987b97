"""Adversarial modes and gradient penalties, against numpy and closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from recon.losses import (
    ADVERSARIAL,
    GAN,
    LOSSES,
    LSGAN,
    WGAN,
    Energy,
    Hinge,
    adversarial_mode,
    clip_weights,
    gradient_penalty,
    mispaired,
)

random = np.random.default_rng(0)
REAL, FAKE = random.normal(0.7, 2, (2, 4, 1, 3, 5))


def sigmoid(s):
    return 1 / (1 + np.exp(-s))


FORMULAS = {
    "gan": (
        GAN(),
        lambda r, f: -np.log(sigmoid(r)).mean() - np.log(1 - sigmoid(f)).mean(),
        lambda f: -np.log(sigmoid(f)).mean(),
    ),
    "gan, saturating, smooth labels": (
        GAN(0.5, saturating=True, label=0.9),
        lambda r, f: (
            -0.5
            * (
                (0.9 * np.log(sigmoid(r)) + 0.1 * np.log(1 - sigmoid(r))).mean()
                + np.log(1 - sigmoid(f)).mean()
            )
        ),
        lambda f: np.log(1 - sigmoid(f)).mean(),
    ),
    "lsgan": (
        LSGAN(),
        lambda r, f: ((r - 1) ** 2).mean() + (f**2).mean(),
        lambda f: ((f - 1) ** 2).mean(),
    ),
    "wgan": (WGAN(), lambda r, f: f.mean() - r.mean(), lambda f: -f.mean()),
    "wgan, drift": (
        WGAN(2.0, drift=0.1),
        lambda r, f: 2 * (f.mean() - r.mean() + 0.1 * (r**2).mean()),
        lambda f: -f.mean(),
    ),
    "hinge": (
        Hinge(),
        lambda r, f: np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(),
        lambda f: -f.mean(),
    ),
    "energy": (
        Energy(margin=1.5),
        lambda r, f: r.mean() + np.maximum(0, 1.5 - f).mean(),
        lambda f: f.mean(),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_modes_are_their_formulas(name):
    mode, discriminator, generator = FORMULAS[name]
    real, fake = (torch.tensor(s, requires_grad=True) for s in (REAL, FAKE))
    assert mode.discriminator(real, fake).item() == pytest.approx(discriminator(REAL, FAKE), rel=1e-12)
    assert mode.generator(fake).item() == pytest.approx(generator(FAKE), rel=1e-12)
    assert torch.autograd.gradcheck(mode.discriminator, (real, fake))
    assert torch.autograd.gradcheck(mode.generator, (fake,))


def test_every_mode_by_name():
    assert {name.split(",")[0] for name in FORMULAS} == set(ADVERSARIAL)
    for name, cls in ADVERSARIAL.items():
        assert type(adversarial_mode(name, scale=0.5)) is cls and cls.name == name


@pytest.mark.parametrize("mode", [GAN(), LSGAN(), WGAN(), Hinge(), Energy(margin=9.0)])
def test_both_players_pull_the_scores_apart(mode):
    score = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    real, fake = (torch.zeros(1, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    up, down = torch.autograd.grad(mode.discriminator(real, fake), (real, fake))
    (fooling,) = torch.autograd.grad(mode.generator(score), score)
    # an energy is low where another score is high
    sign = -1 if isinstance(mode, Energy) else 1
    assert (sign * float(up) < 0 and sign * float(down) > 0) or isinstance(mode, LSGAN)
    assert sign * float(fooling) < 0
    if isinstance(mode, LSGAN):  # a fake at 0 is where its discriminator wants it
        assert float(up) < 0 and float(down) == 0


def test_large_scores_do_not_overflow():
    scores = torch.tensor([[1e4], [-1e4]])
    for mode in (GAN(), GAN(saturating=True)):
        assert bool(torch.isfinite(mode.discriminator(scores, scores)))
        assert bool(torch.isfinite(mode.generator(scores)))


def test_jitter_is_drawn_from_the_generator():
    mode, real, fake = LSGAN(jitter=0.2), torch.zeros(200, 1, 10, 10), torch.zeros(200, 1, 10, 10)
    first = mode.discriminator(real, fake, torch.Generator().manual_seed(1))
    assert first == mode.discriminator(real, fake, torch.Generator().manual_seed(1))
    assert first != mode.discriminator(real, fake, torch.Generator().manual_seed(2))
    # E (1 + σξ)² + E (σξ)² = 1 + 2σ²; 20 000 labels leave a standard error of 0.003
    assert float(first) == pytest.approx(1.08, abs=0.015)
    assert float(mode.generator(fake)) == 1.0
    with pytest.raises(ValueError, match="jitter"):
        mode.discriminator(real, fake)


def linear(slope):
    return lambda x: (slope * x).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("length", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("at", ["mix", "real", "fake"])
def test_the_penalty_of_a_linear_critic_is_that_of_its_slope(length, at):
    slope = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope *= length / slope.square().sum().sqrt()
    real, fake = torch.randn(2, 5, 2, 3, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    found = gradient_penalty(linear(slope), real, fake, generator, 7.0, at=at)
    # over the whole sample: over its two channels alone the length would be another
    assert float(found) == pytest.approx(7 * (length - 1) ** 2, abs=1e-12)
    found = gradient_penalty(linear(slope), real, fake, generator, 7.0, at=at, one_sided=True)
    assert float(found) == pytest.approx(7 * max(length - 1, 0) ** 2, abs=1e-12)
    found = gradient_penalty(linear(slope), real, fake, generator, 7.0, at=at, target=0.0)
    assert float(found) == pytest.approx(7 * length**2, rel=1e-12)


def test_the_penalty_mixes_every_sample_by_its_own_share():
    real, fake = torch.zeros(4000, 1, 2, 2), torch.ones(4000, 1, 2, 2)
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.square().flatten(1).sum(1)

    found = gradient_penalty(critic, real, fake, torch.Generator().manual_seed(0), 1.0)
    share = seen[0][:, 0, 0, 0]
    # one share for all pixels of a sample, uniform over samples (standard errors 0.005 and 0.004)
    assert bool((seen[0] == share[:, None, None, None]).all())
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(share.square().mean()) == pytest.approx(1 / 3, abs=0.02)
    # ∇ = 2x, ‖∇‖ = 4 share
    expected = (4 * share - 1).square().mean()
    torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=0)


def test_the_penalty_of_a_map_is_that_of_its_mean():
    slope = torch.full((1, 2, 2), 0.8, dtype=torch.float64)

    def critic(x):
        return (slope * x).flatten(1).sum(1)[:, None, None].expand(-1, 6, 7)

    real = torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    found = gradient_penalty(critic, real, real, torch.Generator(), 1.0)
    assert float(found) == pytest.approx((1.6 - 1) ** 2)


def test_the_penalty_teaches_the_critic_and_sees_the_condition():
    critic = nn.Conv2d(2, 1, 3).double()
    real, fake, condition = torch.rand(3, 4, 1, 5, 5, dtype=torch.float64)

    def value(weight):
        def run(x):
            return nn.functional.conv2d(x, weight)

        return gradient_penalty(run, real, fake, torch.Generator().manual_seed(0), condition=condition)

    assert torch.autograd.gradcheck(value, (critic.weight,))
    with torch.no_grad():
        before = value(critic.weight).item()
        assert before > 0
        critic.weight[:, 1] += 1.0  # the condition's part of a linear critic has no slope by the image
        assert value(critic.weight).item() == pytest.approx(before)


def test_a_flat_critic_has_a_finite_penalty():
    weight = torch.zeros(1, 1, 2, 2, requires_grad=True)
    real = torch.rand(2, 1, 2, 2)
    found = gradient_penalty(lambda x: nn.functional.conv2d(x, weight), real, real, torch.Generator(), 10.0)
    assert float(found.detach()) == pytest.approx(10.0)
    (slope,) = torch.autograd.grad(found, weight)
    assert bool(torch.isfinite(slope).all())


def test_clipped_weights():
    critic = nn.Conv2d(1, 2, 3)
    clip_weights(critic, 0.05)
    assert all(bool((p.abs() <= 0.05).all()) for p in critic.parameters())
    assert critic.weight.requires_grad and bool((critic.weight.abs() == 0.05).any())


def test_mispairs():
    images = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 2)
    other = mispaired(images)
    assert bool((other[:, 0, 0, 0] != images[:, 0, 0, 0]).all())
    assert sorted(other[:, 0, 0, 0].tolist()) == [0.0, 1.0, 2.0]
    scores = torch.tensor(FAKE)
    for name, mode in ADVERSARIAL.items():
        expected = mode().fake(scores).mean()
        torch.testing.assert_close(LOSSES["mispair"](name)(scores), expected, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="at least two"):
        mispaired(images[:1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: adversarial_mode("gans"), "one of gan, lsgan, wgan, hinge, energy"),
        (lambda: GAN(scale=0.0), "scale"),
        (lambda: GAN(label=1.5), "label"),
        (lambda: LSGAN(jitter=-1.0), "jitter"),
        (lambda: WGAN(drift=-1.0), "drift"),
        (lambda: Energy(margin=0.0), "margin"),
        (lambda: GAN().generator(torch.ones(2, 1, dtype=torch.int64)), "floating-point"),
        (lambda: clip_weights(nn.Conv2d(1, 1, 1), 0.0), "bound"),
        (lambda: gradient_penalty(linear(1), torch.ones(1, 2), torch.ones(2, 2), torch.Generator()), "equal"),
        (
            lambda: gradient_penalty(linear(1), REAL, REAL, torch.Generator(), at="x"),
            "'mix', 'real' or 'fake'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
