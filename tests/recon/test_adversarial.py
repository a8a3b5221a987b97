import math

import pytest
import torch

from operators import Gaussian, ParallelBeam
from priors import AdversarialRegulariser
from priors.networks.critic import Critic
from priors.networks.seeds import seeded
from recon import AdversarialRegularisation
from recon.adversarial import critic_loss
from recon.data import SimulatedPairs


def data():
    def boxes(seeds):
        images = torch.zeros(len(seeds), 32, 32)
        for image, seed in zip(images, seeds, strict=True):
            g = torch.Generator().manual_seed(seed)
            top, left = (int(k) for k in torch.randint(4, 16, (2,), generator=g))
            image[top : top + 10, left : left + 12] = 0.5 + 0.5 * torch.rand((), generator=g)
        return images

    geometry = ParallelBeam((16, 16), 1.0, [(k + 0.5) * math.pi / 8 for k in range(8)], 23, 1.0)
    return SimulatedPairs(geometry, Gaussian(relative=0.1), boxes, validation_size=8, name="boxes")


@pytest.fixture(scope="module")
def trained():
    pairs = data()
    method = AdversarialRegularisation(
        channels=(8, 8), strides=(2, 2), width=16, optimizer="adam", learning_rate=2e-3, beta2=0.9,
        steps=120, batch_size=8, validate_every=60,
    )  # fmt: skip
    return method.fit(pairs.unpaired()), pairs


def test_critic_tells_truths_from_naive_reconstructions(trained):
    method, _ = trained
    assert method.record["validation"] >= 0.95


def test_the_prior_improves_on_its_start(trained):
    method, pairs = trained
    problem, truth = pairs.validation
    scale = method.trained_for.image_scale
    start = scale * method.start(problem.A, problem.linear / scale)
    error = [(x - truth).square().mean() for x in (method(problem), start)]
    assert error[0] < 0.8 * error[1]


def test_estimated_weight_is_the_noise_pushed_back(trained):
    method, pairs = trained
    problem, _ = pairs.validation
    s, a = method.trained_for.image_scale, method.trained_for.norm
    sigma = problem.variance.sqrt()
    noise = sigma * torch.randn(sigma.shape, generator=torch.Generator().manual_seed(4))
    # 8 other images: the mean of their norms varies by about a tenth
    expected = pairs.A.adjoint(noise).flatten(1).square().sum(1).sqrt().mean() / (a**2 * s)
    assert float(method.weight) == pytest.approx(float(expected), rel=0.25)
    assert AdversarialRegularisation(
        channels=(4,), strides=(2,), steps=1, weight=0.7
    ).fit(pairs.unpaired()).weight == pytest.approx(0.7)  # fmt: skip


def test_penalty_is_per_image_and_one_sided():
    generator = torch.Generator().manual_seed(0)
    true, naive = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)

    def linear(slope):
        direction = torch.full((6, 6), slope / 6, dtype=torch.float64)  # of norm `slope`
        return lambda x: (direction * x).sum((-2, -1))

    for slope, excess in ((0.5, 0.0), (1.0, 0.0), (3.0, 4.0)):
        f = linear(slope)
        expected = f(true).mean() - f(naive).mean() + 20 * excess
        torch.testing.assert_close(critic_loss(f, true, naive, 20.0, generator), expected)

    # slopes ½, 2 and 4 of three images: mean of 0, 1 and 9, not the excess of a mean or of all at once
    slopes = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64)
    f = lambda x: slopes / 6 * x.sum((-2, -1))  # noqa: E731
    expected = f(true).mean() - f(naive).mean() + 20 * 10 / 3
    torch.testing.assert_close(critic_loss(f, true, naive, 20.0, generator), expected)


def test_critic_loss_of_complex_images_is_that_of_their_two_parts():
    g = torch.Generator().manual_seed(0)
    true, naive = torch.randn(2, 3, 6, 6, generator=g, dtype=torch.complex128)

    def parts(x):
        return torch.cat([x.real, x.imag], 2)

    # real images on which the complex ones are laid side by side; its slopes lie on both sides of 1
    def critic(v):
        return (0.2 * v.square() + 0.1 * v).sum((-2, -1))

    both = [critic_loss(f, x, y, 5.0, torch.Generator().manual_seed(1)) for f, x, y in (
        (lambda z: critic(parts(z)), true, naive), (critic, parts(true), parts(naive)),
    )]  # fmt: skip
    torch.testing.assert_close(*both)


def test_penalty_trains_the_critic():
    with seeded(0):
        prior = AdversarialRegulariser(Critic((8, 8), (4,), (2,), 4)).double()
    images = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for p in prior.parameters():
        p.data *= 30
    loss = critic_loss(prior, images, images, 1.0, torch.Generator().manual_seed(2))
    gradients = torch.autograd.grad(loss, list(prior.parameters()), allow_unused=True)
    assert float(loss.detach()) > 0 and float(gradients[0].abs().max()) > 0


def test_descent_takes_the_stated_steps_and_stays_non_negative(trained):
    method, pairs = trained
    problem = pairs.validation[0]
    before = problem.A.calls["forward"]
    x = method(problem)
    # fixed: one for each start step, iteration and the first value; nothing depends on a truth
    assert problem.A.calls["forward"] - before <= 2 * (10 + 50 + 2)
    assert float(x.min()) >= 0


def test_wrong_configurations_are_refused():
    with pytest.raises(ValueError, match="strides"):
        AdversarialRegularisation(channels=(4, 4), strides=(2,))
