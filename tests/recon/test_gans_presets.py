"""Presets: trained end to end in small, killed and resumed, saved and loaded; their losses and values."""

import pytest
import torch
from torch import nn

from operators import Downsample, Fourier, Gaussian, Identity, Mask, ParallelBeam, XRay
from priors.networks.seeds import seeded
from priors.networks.vgg import VGG
from recon import METHODS, Problem
from recon.baselines.gans import low_dose, modes, mri, pix2pix, super_resolution
from recon.baselines.gans.base import GAN
from recon.baselines.gans.low_dose import REDWGAN, SAGAN, SMGAN, WGANVGG, Wolterink2017
from recon.baselines.gans.mri import DAGAN, RefineGAN
from recon.baselines.gans.pix2pix import PAN, MedGAN, Pix2Pix
from recon.baselines.gans.super_resolution import SRGAN
from recon.data import PairedData

SIDE = 16
ACCEPTANCE = [Pix2Pix, MedGAN, WGANVGG, REDWGAN, DAGAN, SRGAN, SAGAN]
ALL = [
    cls
    for module in (pix2pix, low_dose, mri, super_resolution, modes)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, GAN) and cls.__module__ == module.__name__
]


class Killed(Exception):
    pass


def features():
    """A small VGG of all the layers that presets ask for, of fixed weights."""
    network = VGG(((2, 2), (3,)), ("conv1_2", "conv2_1"), 1, (0.5,), (0.5,))
    g = torch.Generator().manual_seed(3)
    for weight in network.parameters():
        weight.data.copy_(0.5 * torch.randn(weight.shape, generator=g))
    network.name = "small, for tests"
    return network


def squares(n, seed, shape=(SIDE, SIDE)):
    g = torch.Generator().manual_seed(seed)
    images = torch.zeros(n, *shape)
    for image in images:
        top, left = (int(torch.randint(1, 8, (), generator=g)) for _ in range(2))
        image[..., top : top + 6, left : left + 7] = 0.5 + 0.5 * float(torch.rand((), generator=g))
    return images


def scans(A, phase=False):
    """Pairs of a scanner, with little noise."""
    noise = Gaussian(sigma=0.02, data_ndim=len(A.out_shape))

    def some(n, seed):
        x = squares(n, seed, A.in_shape)
        x = x * torch.exp(1j * torch.linspace(0, 1, SIDE)) if phase else x
        y = A(x)
        dirty = 0.02 * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
        return Problem(A, y + dirty, noise), x

    return PairedData(some(8, 1), some(3, 2), "squares")


def ct():
    angles = [k * torch.pi / 8 for k in range(8)]
    return scans(XRay(ParallelBeam((SIDE, SIDE), 1.0, angles, 23, 1.0)))


def mr():
    kept = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    kept[:, ::2] = kept[:, 6:10] = True
    return scans(Mask(kept, (SIDE, SIDE)) @ Fourier((SIDE, SIDE)), phase=True)


def data_of(cls):
    if cls is SRGAN:
        return scans(Downsample((SIDE, SIDE), 2))
    return mr() if cls in (DAGAN, RefineGAN) else ct()


def example(cls, **changes):
    small = {**cls.small, "steps": 5, "batch_size": 2, "checkpoint_every": 2, "learning_rate": 1e-3}
    return cls(**{**small, **changes}).inject(features=features())


def states(method):
    return {**method.state_dict(), **{f"opponent.{k}": v for k, v in method.retired.state_dict().items()}}


@pytest.mark.parametrize("cls", ACCEPTANCE, ids=lambda c: c.name)
def test_trains_resumes_and_is_saved_to_the_bit(cls, tmp_path):
    data, path, seen = data_of(cls), tmp_path / "run.checkpoint.safetensors", []

    def kill(progress):
        if progress.step == 3:
            raise Killed

    method = example(cls).fit(data, callback=seen.append)
    # finite losses of both players, named
    terms = seen[-1].terms
    assert {k.split("/")[0] for k in terms} == {"discriminator", "generator"}
    assert all(bool(torch.isfinite(torch.tensor(v)).all()) for v in terms.values())
    # both have moved from where they began
    first = example(cls)
    problem, images = next(data.batches(32, torch.Generator().manual_seed(first.config.seed)))
    first.build(first.scanner_of(problem, images))
    first.prepare()
    for mine, began in ((method.network, first.network), (method.retired, first.opponent)):
        weights = list(zip(mine.parameters(), began.parameters(), strict=True))
        assert weights and sum(not torch.equal(a, b) for a, b in weights) > len(weights) / 2
    # killed and resumed
    with pytest.raises(Killed):
        example(cls).fit(data, checkpoint=path, callback=kill)
    again = example(cls).fit(data, checkpoint=path)
    mine, theirs = states(method), states(again)
    assert mine.keys() == theirs.keys() and any(k.startswith("opponent.discriminator") for k in mine)
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    # saved and loaded; the opponent stays at home
    problem, truth = data.validation
    method.save(tmp_path / "weights")
    loaded = cls.load(tmp_path / "weights")
    assert loaded.config == method.config and loaded.record == method.record
    x = method(problem)
    assert x.shape == truth.shape and x.dtype == truth.dtype and torch.equal(loaded(problem), x)
    assert not any("opponent" in k for k in loaded.state_dict())


@pytest.mark.parametrize("cls", [c for c in ALL if c not in ACCEPTANCE], ids=lambda c: c.name)
def test_every_preset_trains_and_gives_an_image(cls):
    data, seen = data_of(cls), []
    method = example(cls, steps=2).fit(data, callback=seen.append)
    problem, truth = data.validation
    assert method(problem).shape == truth.shape
    names = {k.removeprefix("generator/") for k in seen[-1].terms if k.startswith("generator/")}
    own = {"adversarial"} | {loss[0] for loss in method.config.losses}
    assert names - {"final", "before", "frequencies"} == own
    assert method.record["tier"] == "B" and METHODS[cls.name] is cls
    if any(n in names for n in ("style", "content", "vgg")):
        assert method.record["features"] == "small, for tests"


def test_presets_have_the_papers_values():
    c = Pix2Pix().config
    assert (c.generator, c.discriminator, c.losses) == (
        "UNetGenerator",
        "PatchDiscriminator",
        (("l1", 100.0),),
    )
    assert (c.learning_rate, c.beta1, c.beta2, c.batch_size, c.schedule) == (2e-4, 0.5, 0.999, 1, "linear")
    c = MedGAN().config
    assert (c.generator, c.d_steps, c.g_steps) == ("CasNet", 1, 3)
    assert dict(c.discriminator_options) == {"layers": 1, "spectral": True}
    assert [(name, weight) for name, weight, *_ in c.losses] == [
        ("discriminator-features", 20.0), ("style", 1e-4), ("content", 1e-4),
    ]  # fmt: skip
    c = WGANVGG().config
    assert (c.mode, c.penalty, c.d_steps, c.losses, c.patch) == ("wgan", 10.0, 4, (("vgg", 0.1),), 64)
    assert (c.learning_rate, c.beta1, c.beta2, c.batch_size, c.span) == (1e-5, 0.5, 0.9, 128, (0.0, 1.0))
    c = REDWGAN().config
    assert (c.losses, c.adversarial, c.d_steps) == ((("l2", 1.0), ("vgg", 0.1)), 1e-3, 5)
    assert (c.learning_rate, c.beta1, c.beta2, c.batch_size, c.dim) == (5e-6, 0.5, 0.9, 110, 3)
    c = DAGAN().config
    assert {loss[0]: loss[1] for loss in c.losses} == {"nmse": 15.0, "k-space": 0.1, "content": 0.0025}
    assert (c.complex, c.learning_rate, c.beta1, c.batch_size) == ("magnitude", 1e-4, 0.5, 25)


def test_the_losses_of_medgan():
    """20 (mean |x̂ − x| + Σ_i mean |D_i(x̂, y) − D_i(x, y)|) and the cGAN's −log D."""
    data, g = ct(), torch.Generator()
    method = example(MedGAN)
    problem, truth = next(data.batches(2, g.manual_seed(0)))
    method.build(method.scanner_of(problem, truth))
    _, player = method.players()
    terms = player.loss(problem, truth, g.manual_seed(0))
    u, x = method.pair(problem, truth, g)
    fake, judge = method.network(u), method.opponent["discriminator"].eval()
    mine, theirs = (judge.features(torch.cat([a, u], 1)) for a in (fake, x))
    distance = (fake - x).abs().mean() + sum((a - b).abs().mean() for a, b in zip(mine, theirs, strict=True))
    # the power iteration of the spectral norm has gone on a little: it began near its end
    torch.testing.assert_close(terms["discriminator-features"], 20 * distance, rtol=1e-2, atol=0)
    log = nn.functional.softplus(-judge(torch.cat([fake, u], 1))).mean()
    torch.testing.assert_close(terms["adversarial"], log, rtol=1e-2, atol=0)


def test_the_margin_of_pan_is_the_discriminators():
    data, g = ct(), torch.Generator()
    method = example(PAN)
    problem, truth = next(data.batches(2, g.manual_seed(0)))
    method.build(method.scanner_of(problem, truth))
    judge, player = method.players()
    distance = float(player.loss(problem, truth, g)["feature-margin"].detach())
    terms = judge.loss(problem, truth, g)
    assert 0 < distance < 1
    assert float(terms["feature-margin"].detach()) == pytest.approx(1 - distance, rel=1e-5)


def test_sagan_compares_sharpness_by_the_network_it_is_given():
    class Slope(nn.Module):
        def forward(self, x):
            return 3 * x

    data, g = ct(), torch.Generator()
    method = example(SAGAN).inject(sharpness=Slope())
    problem, truth = next(data.batches(2, g.manual_seed(0)))
    method.build(method.scanner_of(problem, truth))
    _, player = method.players()
    u, x = method.pair(problem, truth, g)
    expected = 1e-3 * 9 * (method.network(u) - x).square().mean()
    torch.testing.assert_close(player.loss(problem, truth, g)["sharpness"], expected)


def test_srgan_makes_as_many_pixels_as_the_scanner_left_out():
    for factor, shape in ((2, (SIDE, SIDE)), (4, (SIDE, SIDE)), (2, (15, SIDE))):
        data = scans(Downsample(shape, factor))
        method = example(SRGAN, steps=2, patch=4).fit(data)
        assert method._factor == factor
        assert method(data.validation[0]).shape == (3, *shape)
    # the generator alone first, by the squared error
    seen = []
    example(SRGAN, steps=2, pretrain=1).fit(data, callback=seen.append)
    assert len(seen[-1].terms["generator/pretraining l2"]) == 1
    assert len(seen[-1].terms["discriminator/real"]) == 1


def test_the_rectified_generator_begins_awake():
    """For every seed, at the paper's size: a last ReLU that is 0 everywhere would stay so."""
    for seed in range(4):
        method = WGANVGG(seed=seed)
        with seeded(seed):
            network = method.make(1, 1)
        assert float((network(torch.rand(1, 1, 24, 24)) > 0).float().mean()) == 1.0


@pytest.mark.parametrize("cls", [REDWGAN, SMGAN, Wolterink2017])
def test_networks_of_volumes(cls):
    data = scans(Identity((8, SIDE, SIDE)))
    small = {"weights": (0.5, 0.5), "window": (1, 3, 3), "data_range": 1.0}
    losses = {"losses": (("structural", 1.0, small),)} if cls is SMGAN else {}
    method = example(cls, steps=1, dim=3, patch=8, **losses).fit(data)
    assert method(data.validation[0]).shape == (3, 8, SIDE, SIDE)
    assert method.network.parameters().__next__().ndim == 5


def test_wolterinks_three_trainings():
    data = ct()
    for changes, names in (
        ({"discriminator": None}, {"generator/l2"}),
        ({}, {"generator/l2", "generator/adversarial", "discriminator/real", "discriminator/fake"}),
        ({"losses": ()}, {"generator/adversarial", "discriminator/real", "discriminator/fake"}),
    ):
        seen = []
        example(Wolterink2017, steps=1, **changes).fit(data, callback=seen.append)
        assert set(seen[-1].terms) == names


def test_pools_and_jittered_labels_resume_to_the_bit(tmp_path):
    def kill(progress):
        if progress.step == 4:
            raise Killed

    data, path = scans(Identity((SIDE, SIDE))), tmp_path / "run.safetensors"
    options = {"label_jitter": 0.1, "mode": "lsgan", "pool": 3, "losses": (("l1", 1.0),), "average": 0.9}
    options |= {"steps": 7, "checkpoint_every": 3, "batch_size": 2, "d_learning_rate": 1e-3, **GAN.small}
    whole = GAN(**options).fit(data)
    with pytest.raises(Killed):
        GAN(**options).fit(data, checkpoint=path, callback=kill)
    again = GAN(**options).fit(data, checkpoint=path)
    mine, theirs = states(whole), states(again)
    assert int(mine["opponent.pool.filled"]) == 3 and float(mine["opponent.pool.images"].abs().max()) > 0
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
