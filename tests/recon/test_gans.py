"""The adversarial method: what its players lower, what its networks see, what it records."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from operators import Fourier, Gaussian, Identity, Mask
from recon import Problem
from recon.baselines.gans.base import GAN
from recon.baselines.gans.mri import DAGAN, RefineGAN
from recon.baselines.gans.pix2pix import ConditionalGAN, Pix2Pix
from recon.baselines.gans.pool import Pool, Watch
from recon.data import PairedData

TINY = {**GAN.small, "steps": 3, "batch_size": 2}


def squares(n, shape=(12, 12), seed=0):
    """One square an image, of height ½ to 1, in a unit of its own."""
    g = torch.Generator().manual_seed(seed)
    images = torch.zeros(n, *shape)
    for image in images:
        top, left = (int(torch.randint(1, 6, (), generator=g)) for _ in range(2))
        image[..., top : top + 5, left : left + 6] = 0.02 * (0.5 + 0.5 * float(torch.rand((), generator=g)))
    return images


def pairs(shape=(12, 12), change=lambda x: x, unit=1.0, n=8):
    """Truths, and the same with noise, changed."""
    A, noise = Identity(shape), Gaussian(sigma=0.002 * unit, data_ndim=len(shape))

    def some(n, seed):
        x = unit * squares(n, shape, seed)
        dirty = x + 0.002 * unit * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        return Problem(A, change(dirty), noise), x

    return PairedData(some(n, 1), some(4, 2), "squares")


def complex_pairs():
    """Masked single-coil k-space of squares with a phase."""
    kept = torch.zeros(12, 12, dtype=torch.bool)
    kept[:, ::2] = kept[:, 5:8] = True
    A = Mask(kept, (12, 12)) @ Fourier((12, 12))

    def some(n, seed):
        x = squares(n, seed=seed) * torch.exp(1j * torch.linspace(0, 2, 12))
        return Problem(A, A(x), Gaussian(sigma=1e-3)), x

    return PairedData(some(8, 1), some(4, 2), "k-space")


def fitted(cls, data, **changes):
    return cls(**{**cls.small, "steps": 3, "batch_size": 2, **changes}).fit(data)


def ready(cls, data, **changes):
    """A method with first weights and an opponent, and one batch."""
    method = cls(**{**cls.small, "steps": 3, "batch_size": 2, **changes})
    problem, images = next(data.batches(8, torch.Generator().manual_seed(0)))
    method.build(method.scanner_of(problem, images))
    players = {p.name: p for p in method.players()}
    return method, players, next(data.batches(2, torch.Generator().manual_seed(1)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_what_pix2pix_lowers():
    """½[BCE(D(x, x₀), 1) + BCE(D(G, x₀), 0)], and BCE(D(G, x₀), 1) + 100 mean |G − x|, in [−1, 1]."""
    method, players, (problem, truth) = ready(Pix2Pix, pairs())
    d_terms = players["discriminator"].loss(problem, truth, generator())
    g_terms = players["generator"].loss(problem, truth, generator())
    scale = method.trained_for.image_scale
    low, high = method.windows[1].tolist()
    inward = lambda v: 2 * (v / scale - low)[:, None] / (high - low) - 1  # noqa: E731
    u, x = inward(problem.y), inward(truth)
    fake, judge = method.network(u), method.opponent["discriminator"]
    real, unreal = judge(torch.cat([x, u], 1)), judge(torch.cat([fake, u], 1))
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    assert set(d_terms) == {"real", "fake"} and set(g_terms) == {"adversarial", "l1"}
    torch.testing.assert_close(d_terms["real"], 0.5 * bce(real, one))
    torch.testing.assert_close(d_terms["fake"], 0.5 * bce(unreal, zero))
    torch.testing.assert_close(g_terms["adversarial"], bce(unreal, one))
    torch.testing.assert_close(g_terms["l1"], 100 * (fake - x).abs().mean())


def test_an_unconditional_critic_its_penalty_and_wrong_pairs():
    critic = {"mode": "wgan", "penalty": 10.0, "conditional": False}
    method, players, (problem, truth) = ready(GAN, pairs(), losses=(("l2", 1.0),), **critic)
    terms = players["discriminator"].loss(problem, truth, generator())
    assert set(terms) == {"real", "fake", "penalty"}
    u, x = method.pair(problem, truth, generator())
    fake, judge = method.network(u).detach(), method.opponent["discriminator"]
    torch.testing.assert_close(terms["real"], -judge(x).mean())
    torch.testing.assert_close(terms["fake"], judge(fake).mean())
    e = torch.rand(2, 1, 1, 1, generator=generator())
    mix = (e * x + (1 - e) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(judge(mix).flatten(1).mean(1).sum(), mix)
    expected = 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(terms["penalty"], expected)
    method, players, _ = ready(GAN, pairs(), mispair=0.5, losses=(("l1", 1.0),))
    terms = players["discriminator"].loss(problem, truth, generator())
    u, x = method.pair(problem, truth, generator())
    wrong = method.opponent["discriminator"](torch.cat([x.flip(0), u], 1))
    torch.testing.assert_close(terms["mispair"], 0.5 * bce(wrong, torch.zeros_like(wrong)))


def test_an_energy_is_what_an_autoencoder_misses():
    from recon.baselines.gans.modes import EnergyGAN

    method, players, (problem, truth) = ready(EnergyGAN, pairs())
    u, x = method.pair(problem, truth, generator())
    seen, judge = torch.cat([x, u], 1), method.opponent["discriminator"]
    terms = players["discriminator"].loss(problem, truth, generator())
    torch.testing.assert_close(terms["real"], (judge(seen) - seen).square().mean())


def test_who_steps_when_and_on_what():
    """Three of the discriminator and one of the generator a cycle; warm-up; learning alone before."""
    seen = []

    class Counted(GAN):
        def d_loss(self, problem, images, generator):
            seen.append(("d", problem.y))
            return super().d_loss(problem, images, generator)

        def loss(self, problem, images, generator):
            terms = super().loss(problem, images, generator)
            seen.append(("g", problem.y, set(terms)))
            return terms

    losses = (("l1", 1.0),)
    fitted(Counted, pairs(), d_steps=3, fresh=True, steps=4, pretrain=1, d_warmup=1, losses=losses)
    assert "".join(s[0] for s in seen) == "g" + "ddd" + "dddg" * 2
    assert seen[0][2] == {"pretraining l2"} and seen[-1][2] == {"adversarial", "l1"}
    a, b, c = (s[1] for s in seen[4:7])
    assert not torch.equal(a, b) and not torch.equal(b, c)
    seen.clear()
    fitted(Counted, pairs(), g_steps=3, steps=1, losses=losses)
    assert "".join(s[0] for s in seen) == "dggg"
    assert all(torch.equal(s[1], seen[0][1]) for s in seen)


def test_a_generator_alone():
    method = fitted(GAN, pairs(), discriminator=None, losses=(("l2", 1.0),))
    assert list(method.retired) == [] and "accuracy of discriminator" not in method.record


# what the networks see


def test_windows_to_the_span_and_back():
    method, _, (_, truth) = ready(GAN, pairs(), span=(0.0, 1.0), window=(-0.01, 0.03))
    x = truth / method.trained_for.image_scale
    u = method.inward(x)
    torch.testing.assert_close(u, (truth[:, None] + 0.01) / 0.04)
    torch.testing.assert_close(method.outward(u, x), x)
    # both windows are one where x₀ is in the unit of the truths
    torch.testing.assert_close(method.windows[0], method.windows[1])


def test_a_translation_has_two_windows():
    method = fitted(GAN, pairs(change=lambda y: 5000 - 1e5 * y), losses=(("l1", 1.0),))
    low, high = method.record["window of x₀"]
    assert 1000 < low < 5000 < high < 7000
    # a tenth more than the largest of the training images
    largest = float(pairs().train[1].max())
    assert method.record["window"] == pytest.approx([0.0, 1.1 * largest], rel=1e-6)
    assert method.record["truths outside the window"] == 0


def test_what_the_window_cannot_give_is_on_record():
    method = fitted(GAN, pairs(), losses=(("l1", 1.0),), window=(0.0, 0.001))
    _, truth = pairs().validation
    share = float((truth > 0.001).float().mean())
    assert share > 0 and method.record["truths outside the window"] == pytest.approx(share, rel=1e-6)
    assert method.record["window"] == pytest.approx([0.0, 0.001], rel=1e-6)


def test_the_unit_of_the_image_does_not_matter():
    a, b = (fitted(GAN, pairs(unit=u), losses=(("l1", 1.0),)) for u in (1.0, 1000.0))
    x, z = a(pairs().validation[0]), b(pairs(unit=1000.0).validation[0])
    torch.testing.assert_close(1000 * x, z, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("changes", [{}, {"noise_at_test": True}])
def test_an_image_does_not_depend_on_its_neighbours(changes):
    options = {"base": 4, "depth": 6, "norm": "instance", "dropout": 0.5}
    method = fitted(GAN, pairs(), generator_options=options, losses=(("l1", 1.0),), **changes)
    problem, _ = pairs().validation
    x = method(problem)
    y = problem.y.clone()
    y[1:] *= 100
    torch.testing.assert_close(method(Problem(problem.A, y, problem.noise))[0], x[0], rtol=1e-5, atol=1e-7)
    alone = Problem(problem.A, problem.y[3], problem.noise)
    torch.testing.assert_close(method(alone), x[3], rtol=1e-5, atol=1e-7)


def test_dropout_is_kept_when_reconstructing_only_where_it_is_wanted():
    options = {"base": 4, "depth": 6, "norm": "instance", "dropout": 0.5}
    data, results = pairs(), []
    for changes in ({}, {"noise_at_test": True}):
        method = fitted(GAN, data, generator_options=options, losses=(("l1", 1.0),), **changes)
        results.append(method(data.validation[0]))
        assert torch.equal(method(data.validation[0]), results[-1])
    assert not torch.equal(*results)


def test_pieces_volumes_and_stacks_of_slices():
    data = pairs((8, 12, 12))
    for changes in ({"dim": 3, "patch": 6}, {"stack": 3, "patch": 8}, {"patch": 9}):
        method = fitted(GAN, data, losses=(("l1", 1.0),), **changes)
        assert method(data.validation[0]).shape == (4, 8, 12, 12)
    with pytest.raises(ValueError, match="dim=3, stack=1 needs images of 3 axes"):
        fitted(GAN, pairs(), losses=(("l1", 1.0),), dim=3)


def test_complex_images_are_two_channels_or_magnitudes_with_a_phase():
    data = complex_pairs()
    problem, truth = data.validation
    method = fitted(GAN, data, losses=(("l1", 1.0),))
    assert method.network.down[0][0].in_channels == 2 and method(problem).is_complex()
    low, high = method.record["window"]
    assert low == -high and high >= float(torch.view_as_real(truth).abs().max())
    sized = fitted(DAGAN, data, losses=(("nmse", 1.0), ("k-space", 0.1)))
    assert sized.network.down[0][0].in_channels == 1
    x, zero_filled = sized(problem), problem.A.adjoint(problem.y)
    same = torch.cos(x.angle() - zero_filled.angle())[(x.abs() > 1e-6) & (zero_filled.abs() > 1e-6)]
    torch.testing.assert_close(same.abs(), torch.ones_like(same))


def test_refinegan_keeps_what_was_measured():
    data = complex_pairs()
    problem, _ = data.validation
    method = fitted(RefineGAN, data, losses=(("tv", 1e-4),))
    # single-coil Cartesian: A A* = 1, so A x = y; float32
    torch.testing.assert_close(problem.A(method(problem)), problem.y, rtol=1e-4, atol=1e-6)
    assert len(method.network) == 2


# what is remembered and recorded


def test_the_pool_shows_every_image_once_more_and_half_of_them_late():
    pool, g = Pool(3, (1,)), generator()
    first = torch.arange(3.0)[:, None]
    assert torch.equal(pool(first, g), first)
    shown, past = [], 0
    for k in range(3, 2003):
        out = float(pool(torch.tensor([[float(k)]]), g))
        past += out != k
        shown.append(out)
    # an image is shown at once or later, never twice
    assert len(set(shown)) == len(shown)
    # 2000 draws of probability ½: within 4 standard deviations, √(2000/4)
    assert abs(past - 1000) < 4 * 500**0.5
    assert set(shown) | set(pool.images.flatten().tolist()) == set(map(float, range(2003)))
    assert torch.equal(Pool(0, (1,))(first, g), first)


@pytest.mark.parametrize(
    ("mode", "real", "fake", "accuracy"),
    [
        ("gan", [1.0, 2.0, -1.0, 1.0], [-1.0, 1.0], 0.5 * (0.75 + 0.5)),
        ("hinge", [0.5, -0.5], [-3.0, -3.0], 0.75),
        ("lsgan", [0.6, 0.4], [0.4, 0.1], 0.75),
        ("energy", [0.1, 0.7], [0.9, 0.8], 0.75),
        ("wgan", [3.0, 1.0], [2.0, 0.0], 0.5),
    ],
)
def test_how_often_a_discriminator_is_right(mode, real, fake, accuracy):
    watch = Watch(mode, recent=2)
    assert watch.accuracy is None
    for _ in range(3):
        watch.see(torch.tensor(real), torch.tensor(fake))
    assert watch.accuracy == pytest.approx(accuracy)
    watch.see(torch.tensor(real), torch.tensor(fake) * float("inf"))
    assert int(watch.seen) == 4


def test_a_discriminator_that_wins_is_on_record():
    """Ten fast steps of the discriminator against one of a generator that hardly moves."""
    changes = {"learning_rate": 1e-9, "d_learning_rate": 0.01, "d_steps": 10, "steps": 20, "beta1": 0.5}
    options = {"base": 8, "layers": 1, "norm": "none"}
    won = fitted(GAN, pairs(), **changes, discriminator_options=options, conditional=False)
    assert won.record["accuracy of discriminator"] > 0.99
    assert "the discriminator won" in won.record["warning"]
    # and all its results are alike
    assert "collapsed" in won.record["warning"]
    fair = fitted(GAN, pairs(), losses=(("l1", 1.0),), steps=40, learning_rate=5e-3, d_learning_rate=1e-6)
    assert fair.record["accuracy of discriminator"] < 0.99 and "warning" not in fair.record


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generator": "Nothing"}, "expected a network of priors.networks"),
        ({"generator": "count"}, "expected a network of priors.networks"),
        ({"mode": "best"}, "mode: expected one of gan, lsgan"),
        ({"losses": (("l3", 1.0),)}, "there is no 'l3'"),
        ({"losses": (("l1", -1.0),)}, "weight of l1: expected a number from 0"),
        ({"losses": ("l1",)}, r"expected \(name, weight\)"),
        ({"discriminator": None}, "nothing to lower"),
        ({"label_jitter": 0.1}, "labels are numbers with mode 'lsgan'"),
        ({"bound": 0.0}, "bound: expected a positive number"),
        ({"window": (1.0, 0.0)}, "window: expected"),
        ({"mispair": 1.0, "batch_size": 1}, "mispair: needs batch_size"),
        ({"d_steps": 0}, "d_steps: expected a whole number"),
        ({"complex": "phase"}, "complex: expected"),
        ({"pretrain_loss": "l9"}, "there is no 'l9'"),
    ],
)
def test_what_cannot_be_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        GAN(**{**TINY, **changes})


def test_what_does_not_fit_is_told_when_it_is_made():
    with pytest.raises(ValueError, match=r"PatchDiscriminator cannot judge pieces of \(4, 4\)"):
        fitted(GAN, pairs(), losses=(("l1", 1.0),), patch=4)
    with pytest.raises(ValueError, match="expected features or sharpness, got colour"):
        GAN(**TINY).inject(colour=torch.nn.Identity())
    with pytest.raises(ValueError, match="UNetGenerator has no colour; there are in_channels"):
        fitted(GAN, pairs(), generator_options={"colour": 1})
    with pytest.raises(ValueError, match="compares z and"):
        fitted(GAN, pairs(), losses=(("latent-l2", 1.0),))
    with pytest.raises(ValueError, match="looks into a discriminator, and there is none"):
        fitted(GAN, pairs(), discriminator=None, losses=(("discriminator-features", 1.0),))


def test_nan_names_the_player(tmp_path):
    data = pairs()

    class Poisoned(ConditionalGAN):
        def loss(self, problem, images, generator):
            terms = super().loss(problem, images, generator)
            return {k: v + torch.nan for k, v in terms.items()}

    method = Poisoned(**TINY)
    with pytest.raises(ValueError, match="loss term 'generator/adversarial' is NaN"):
        method.fit(data)
    # the generator is left as it was, without its opponent
    assert "opponent" not in dict(method.named_children()) and not method.training
