"""Kaji's scheme: plain penalised likelihood as its special case, subsets, the discriminator, bad input."""

import math

import pytest
import torch

from operators import Gaussian, LowDose, ParallelBeam, XRay
from priors import HuberTV, NonNegative
from priors.networks.critic import ImagePatchDiscriminator
from priors.networks.seeds import seeded
from recon import JointReconstruction, Problem, nmapg, run
from recon.discriminator import Discrimination, least_squares, pieces
from recon.fidelity import matching
from recon.joint_parts import subset_terms

A = XRay(ParallelBeam((12, 12), 1.0, [(k + 0.5) * math.pi / 8 for k in range(8)], 17, 1.0))


def boxes(n, seed=0, size=12):
    g = torch.Generator().manual_seed(seed)
    images = torch.zeros(n, size, size, dtype=torch.float64)
    for image in images:
        top, left = (int(k) for k in torch.randint(1, size // 2, (2,), generator=g))
        image[top : top + size // 3, left : left + size // 2] = 1
    return images


def gaussian(sigma=0.1, seed=0):
    noise = Gaussian(sigma=sigma)
    return Problem(A, noise(A(boxes(1, 9)[0]), seed=seed), noise)


def counts(seed=0):
    noise = LowDose(i0=300.0)
    return Problem(A, noise(A(0.1 * boxes(1, 9)[0]), seed=seed), noise)


@pytest.mark.parametrize("make", [gaussian, counts])
def test_without_networks_it_is_penalised_likelihood(make):
    """The minimiser of d(A x) + λ TV(x), x ≥ 0, as nmapg finds it."""
    problem, weight = make(), 2.0
    method = JointReconstruction(tv_seed=weight, iterations=500, beta1=0.9, seed_rate=0.03)
    found = method.solve(problem)
    objective = matching(problem) @ A + weight * HuberTV((12, 12), delta=1e-3 * found.scale)
    exact = run(nmapg(objective, NonNegative(), found.x), 2000, 1e-7)
    # Adam ends where its rate does; the objective is curved by some 1 to 1e3 per unit² here
    assert float((found.x - exact).norm() / exact.norm()) < 1e-4
    # and is not just where it began
    assert objective(found.x) < objective(JointReconstruction(tv_seed=weight, iterations=1)(problem)) - 0.1
    assert (
        found.network is None
        and found.discriminator is None
        and set(found.history[0])
        == {
            "data_seed",
            "tv_seed",
        }
    )


@pytest.mark.parametrize("make", [gaussian, counts])
def test_gradients_of_subsets_sum_to_the_full_one(make):
    problem = make()
    d, x = matching(problem), 0.1 * boxes(1, 3)[0]
    full = (d @ A).grad(x)
    for subsets in (1, 3, 8):
        parts = subset_terms(d, A, subsets)
        assert len(parts) == subsets
        torch.testing.assert_close(sum(part.grad(x) for part in parts), full)


def test_subsets_take_turns():
    """Eight subsets reach the same minimum as all views, near enough, in as many iterations."""
    problem = gaussian()
    options = {"tv_seed": 2.0, "iterations": 400, "beta1": 0.9, "seed_rate": 0.03}
    whole, parts = (JointReconstruction(subsets=s, **options)(problem) for s in (1, 4))
    # steps of subsets end where their rate does, in the noise of the last subset
    assert 0 < float((whole - parts).norm() / whole.norm()) < 0.02


def test_discriminator_learns_to_tell_and_ranks():
    """Against iterates of a reconstruction it does not act on: its loss falls below ¼, good images above."""
    with seeded(0):
        network = ImagePatchDiscriminator((8, 16)).double()
    good = boxes(12)
    critic = Discrimination(network, good, rate=3e-3, beta1=0.5, pool=20)
    g = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(60):
        iterate = (boxes(1, 40)[0] + 0.3 * torch.randn(12, 12, generator=g, dtype=torch.float64)).clamp(min=0)
        losses.append(critic.learn([iterate])[0])
    # D = ½ everywhere has a loss of ¼
    assert sum(losses[:5]) / 5 > 0.2 and sum(losses[-10:]) / 10 < 0.1
    noisy = (boxes(8, 50) + 0.3 * torch.randn(8, 12, 12, generator=g, dtype=torch.float64)).clamp(min=0)
    unseen = network(boxes(8, 60)).mean((1, 2))
    assert bool((unseen[:, None] > network(noisy).mean((1, 2))[None]).double().mean() > 0.95)
    assert not any(p.requires_grad for p in network.parameters())


def test_its_gradient_reaches_the_image_and_not_the_discriminator():
    with seeded(0):
        network = ImagePatchDiscriminator((4,)).double()
    x = boxes(1).requires_grad_()
    Discrimination(network, boxes(2))
    value = least_squares(network(x), 1.0)
    (slope,) = torch.autograd.grad(value, x)
    h = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    step = lambda t: least_squares(network(x.detach() + t * h), 1.0)  # noqa: E731
    difference = (step(1e-6) - step(-1e-6)) / 2e-6
    torch.testing.assert_close((slope * h).sum(), difference, rtol=1e-5, atol=1e-8)


def test_pieces_are_of_the_images_each_once():
    images = torch.arange(3 * 6 * 5.0).reshape(3, 6, 5)
    g = torch.Generator().manual_seed(0)
    whole = pieces(images, 3, None, False, g)
    torch.testing.assert_close(whole.sort(0).values, images)
    for piece in pieces(images, 7, 4, False, g):
        torch.testing.assert_close(piece - piece[0, 0], images[0, :4, :4])
    mirrored = pieces(images, 40, 4, True, g)
    corners = {float(piece[1, 0] - piece[0, 0]) for piece in mirrored}
    assert mirrored.shape == (40, 4, 4) and corners == {5.0, -5.0}


TINY = {
    "channels": (4, 4),
    "strides": (2, 1),
    "critic_channels": (4,),
    "batch": 2,
    "critic_rate": 1e-3,
    "network_rate": 3e-3,
}


@pytest.mark.parametrize("image", ["free", "encoder", "decoder"])
def test_every_term_together_repeats_itself_and_images_are_alone(image):
    problem = gaussian()
    both = Problem(A, torch.stack([problem.y, 2 * problem.y]), problem.noise)
    weights = {
        name: 0.1
        for name in (
            "adversarial_seed", "adversarial_network", "random_latent", "autoencode", "autoencode_latent",
            "latent", "tv_seed", "tv_network",
        )
    }  # fmt: skip
    method = JointReconstruction(
        0.5 * boxes(3, size=14), image=image, patch=8, iterations=8, subsets=2, warm_up=2, critic_noise=0.1,
        jitter=0.1, pool=2, **weights, **TINY,
    )  # fmt: skip
    x = method(both)
    assert torch.equal(x, method(both)) and torch.equal(x[0], method(problem)) and float(x.min()) >= 0
    assert x.dtype == torch.float64 and x.shape == (2, 12, 12)
    found = method.solve(problem)
    assert set(method.config.active) <= set(found.history[-1])
    assert (found.seed is None) == (image == "decoder") and (found.network is None) == (image == "free")
    assert len(found.history) == 8 and all("gap" in values for values in found.history)


def test_every_image_of_a_nested_batch_has_its_own_noise():
    y = torch.stack([gaussian(seed=k).y for k in range(4)]).unflatten(0, (2, 2))
    sigma = torch.tensor([[0.01, 0.1], [1.0, 10.0]], dtype=torch.float64)
    method = JointReconstruction(tv_seed=1.0, iterations=5)
    x = method(Problem(A, y, Gaussian(sigma=sigma)))
    for at in ((0, 0), (0, 1), (1, 0), (1, 1)):
        alone = method(Problem(A, y[at], Gaussian(sigma=float(sigma[at]))))
        assert torch.equal(x[at], alone)


def test_network_alone_is_a_deep_image_prior():
    """data_seed = 0 and a fixed seed: x = dec(enc(start)), whose misfit falls."""
    problem = gaussian()
    method = JointReconstruction(
        image="encoder", data_seed=0.0, seed_rate=0.0, iterations=60, beta1=0.9,
        **TINY | {"channels": (8, 8), "network_rate": 1e-2},
    )  # fmt: skip
    found = method.solve(problem)
    misfit = [values["data_network"] for values in found.history]
    assert misfit[-1] < 0.2 * misfit[0] and found.discriminator is None
    torch.testing.assert_close(found.x, found.network.clamp(min=0))


def test_autoencoder_learns_the_planning_images():
    method = JointReconstruction(
        boxes(6), image="decoder", autoencode=1.0, data_network=1e-6, iterations=80, beta1=0.9,
        **TINY | {"channels": (8, 8), "network_rate": 1e-2, "batch": 6},
    )  # fmt: skip
    errors = [values["autoencode"] for values in method.solve(gaussian()).history]
    assert sum(errors[-5:]) < 0.4 * sum(errors[:5])


def test_adversarial_term_moves_the_image_towards_what_the_discriminator_likes():
    """The same run with and without: in the end D says better of the first."""
    problem = gaussian(0.3)
    options = {"tv_seed": 0.5, "iterations": 60, "critic_start": 20, "pool": 0}
    options |= TINY | {"critic_channels": (8, 8), "critic_rate": 3e-3, "batch": 4}
    strong = JointReconstruction(boxes(10), adversarial_seed=2.0, **options).solve(problem)
    weak = JointReconstruction(boxes(10), adversarial_seed=1e-9, **options).solve(problem)
    # the critic of the weak run was never fooled: before a judge who has only seen, it does worse
    judge = lambda x: float(least_squares(weak.discriminator(x[None] / weak.scale), 1.0))  # noqa: E731
    assert judge(strong.x) < judge(weak.x)
    assert weak.history[-1]["gap"] > 0.1


def test_nothing_moves_until_the_critic_counts():
    """Without any other term the first iterations only teach the critic."""
    method = JointReconstruction(
        boxes(3), data_seed=0.0, adversarial_seed=1.0, critic_start=2, iterations=3, **TINY
    )  # fmt: skip
    found = method.solve(gaussian())
    assert [set(values) for values in found.history[:2]] == [{"critic", "gap"}] * 2
    assert "adversarial_seed" in found.history[2]
    frozen = JointReconstruction(
        boxes(3), image="encoder", data_network=0.0, seed_rate=0.0, adversarial_network=1.0, critic_start=2,
        iterations=3, **TINY,
    )  # fmt: skip
    assert bool(frozen(gaussian()).isfinite().all())


def test_every_iterate_is_shown_in_its_turn(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "recon.discriminator.pieces", lambda images, *_: (shown.append(images[:, 0, 0].tolist()), images)[1]
    )
    with seeded(0):
        D = Discrimination(ImagePatchDiscriminator((3,), 0.1), torch.ones(1, 8, 8), batch=1, pool=0)
    for _ in range(3):
        D.learn([torch.full((8, 8), v) for v in (1.0, 2.0, 3.0)])
    assert shown[1::2] == [[1.0], [2.0], [3.0]]


def test_bad_input():
    bad = boxes(2)
    bad[1, 0, 0] = math.nan
    for make, text in (
        (lambda: JointReconstruction(adversarial_seed=1.0), "planning: adversarial_seed need"),
        (lambda: JointReconstruction(boxes(0), adversarial_seed=1.0), "need images"),
        (lambda: JointReconstruction(bad), "finite"),
        (lambda: JointReconstruction(boxes(2)[0]), r"\(n, ny, nx\)"),
        (lambda: JointReconstruction(boxes(2, size=14), adversarial_seed=1.0)(gaussian()), r"\(14, 14\)"),
        (lambda: JointReconstruction(boxes(2), patch=13), "patch"),
        (lambda: JointReconstruction(boxes(2, size=14), patch=13)(gaussian()), "patch"),
        (lambda: JointReconstruction(data_seed=0.0), "weight 0"),
        (lambda: JointReconstruction(seed_rate=0.0)(gaussian()), "seed_rate"),
        (
            lambda: JointReconstruction(image="encoder", data_network=0.0, seed_rate=0.0),
            "nothing could learn",
        ),
        (lambda: JointReconstruction(tv=1.0), "no such setting tv"),
        (lambda: JointReconstruction(image="net"), "image"),
        (lambda: JointReconstruction(latent=-1.0), "latent"),
        (lambda: JointReconstruction(start=torch.zeros(3, 3))(gaussian()), "start"),
        (lambda: JointReconstruction(likelihood="poisson")(gaussian()), "poisson"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
    with pytest.raises(FloatingPointError, match="iteration"):
        JointReconstruction(tv_seed=1e308, data_seed=1e308, iterations=5, seed_rate=1e300)(gaussian())


def test_counts_of_a_seed_that_leaves_the_range_are_still_finite():
    x = JointReconstruction(tv_seed=0.1, iterations=5, seed_rate=1.0, nonnegative=False)(counts())
    assert bool(x.isfinite().all())
