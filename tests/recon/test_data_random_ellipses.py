"""Random ellipses: ODL draws the same, the published hash, and the published statistics."""

import hashlib
import importlib.util
import os

import numpy as np
import pytest
import torch

from recon.data import dival_ellipses, dival_problem, random_ellipses_2017, random_ellipses_2018
from recon.data.dival import dival_geometry, upsampled

# of the first 8 images of each part, float32, as this library makes them and ODL 1.0 does
SHA256 = {
    "train": "f0984b8f2dfcf3fa49104665353953840fe66405743ad3bd0e20ec7f2a4cb688",
    "validation": "e081b3a9945c87666345d62a14292d695a5c26194211e2b38049271e409a7e07",
    "test": "ee98c90773f381acfabe914c9a73be024525adcdb2e134399d5f3b26899f7781",
}


def images(part, n, **options):
    return torch.stack(list(dival_ellipses(part, stop=n, **options)))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_dival_images_are_the_committed_ones(part):
    assert hashlib.sha256(images(part, 8).numpy().tobytes()).hexdigest() == SHA256[part]


@pytest.mark.parametrize("size", [128, 33])
def test_dival_images_are_odl_s_to_the_last_bit(size):
    if importlib.util.find_spec("odl") is None:
        pytest.skip("odl is not installed: pip install hybrid-recon[odl]")
    # odl changes numpy's print options and the environment when imported
    environment = dict(os.environ)
    with np.printoptions():
        import odl
        from odl.core.phantom.geometric import ellipsoid_phantom
    os.environ.clear()
    os.environ.update(environment)
    space = odl.uniform_discr([-size / 2] * 2, [size / 2] * 2, (size, size), dtype="float32")
    random = np.random.RandomState(1)
    for ours in dival_ellipses("test", size, stop=6):
        table = np.stack(
            [
                random.uniform(-0.4, 1.0, (70,)),
                0.2 * random.exponential(1.0, (70,)),
                0.2 * random.exponential(1.0, (70,)),
                random.uniform(-0.9, 0.9, (70,)),
                random.uniform(-0.9, 0.9, (70,)),
                random.uniform(0, 2 * np.pi, (70,)),
            ],
            axis=1,
        )
        table[min(random.poisson(40), 70) :, 0] = 0
        image = np.array(ellipsoid_phantom(space, table).asarray())
        image[image != 0] -= image.min()
        image /= image.max()
        np.testing.assert_array_equal(np.rot90(image), ours.numpy())


def test_dival_images_can_be_entered_anywhere():
    some = torch.stack(list(dival_ellipses("test", start=3, stop=6)))
    assert torch.equal(some, images("test", 6)[3:])
    assert not torch.equal(images("test", 1), images("validation", 1))
    assert torch.equal(images("test", 2, seed=7), images("train", 2, seed=7))


def test_dival_images_are_normalised():
    x = images("train", 20)
    assert x.dtype == torch.float32 and x.shape == (20, 128, 128)
    assert torch.equal(x.amin((1, 2)), torch.zeros(20)) and torch.equal(x.amax((1, 2)), torch.ones(20))


@pytest.mark.parametrize("draw", [random_ellipses_2017, random_ellipses_2018])
def test_images_depend_on_seed_and_number_only(draw):
    x = draw(5, seed=3, size=32)
    assert x.shape == (5, 32, 32) and x.dtype == torch.float32
    assert torch.equal(draw(2, seed=3, size=32, start=2), x[2:4])
    assert not torch.equal(draw(5, seed=4, size=32), x)
    assert draw(0, seed=3, size=32).shape == (0, 32, 32)


def moments(value_mean, value_square, count, reach):
    """E x and var x at the middle of the image for a Poisson number of independent ellipses (Campbell)."""
    random = np.random.default_rng(0)
    n = 200_000
    a, b = 0.2 * random.exponential(size=(2, n))
    x, y = random.uniform(-reach, reach, (2, n))
    angle = random.uniform(0, 2 * np.pi, n)
    c, s = np.cos(angle), np.sin(angle)
    share = np.mean(((c * x + s * y) / a) ** 2 + ((c * y - s * x) / b) ** 2 <= 1)
    return count * share * value_mean, count * share * value_square


@pytest.mark.parametrize(
    "draw, value_mean, value_square, count, reach",
    [
        # E (U − 0.3) = 0.2, E (U − 0.3)² = 1/12 + 0.04; Exp(s): E = s, E square = 2 s²
        (random_ellipses_2017, 0.2 * 0.3, (1 / 12 + 0.04) * 2 * 0.3**2, 100, 0.5),
        (random_ellipses_2018, 0.0, (1 / 12) * 2 * 0.4**2, 50, 1.0),
    ],
)
def test_the_middle_of_the_image_has_the_mean_and_variance_of_the_law(
    draw, value_mean, value_square, count, reach
):
    n = 4000
    middle = draw(n, seed=0, size=9)[:, 4, 4].double()
    mean, variance = moments(value_mean, value_square, count, reach)
    # four standard errors, and 2 % for the share found by sampling
    assert abs(float(middle.mean()) - mean) <= 4 * (variance / n) ** 0.5 + 0.02 * mean
    fourth = float(((middle - middle.mean()) ** 4).mean())
    assert abs(float(middle.var()) - variance) <= 4 * ((fourth - variance**2) / n) ** 0.5 + 0.02 * variance


def test_upsampling_is_scikit_image_s():
    from skimage.transform import resize

    x = images("test", 1)[0].double()
    np.testing.assert_allclose(upsampled(x, 400).numpy(), resize(x.numpy(), (400, 400), order=1), atol=1e-13)


def test_the_geometry_is_odl_s_default():
    geometry = dival_geometry()
    assert geometry.sinogram_shape == (30, 183) and geometry.extent == (128, 128)
    assert geometry.angles[0] == pytest.approx(np.radians(3)) and geometry.bin_size == pytest.approx(
        0.98917, abs=1e-5
    )
    assert geometry.bins()[-1] + geometry.bin_size / 2 == pytest.approx(64 * 2**0.5)


def test_dival_noise_is_that_of_its_random_state():
    problem, truth = dival_problem(range(2, 4), "validation", dtype=torch.float64)
    random = np.random.RandomState(2)
    white = [random.normal(0, 1, (30, 183)) for _ in range(4)][2:]
    sigma = problem.noise.sigma
    clean = problem.y - sigma[:, None, None] * torch.from_numpy(np.stack(white))
    torch.testing.assert_close(sigma, 0.025 * clean.abs().mean((1, 2)), rtol=1e-12, atol=0)
    # the other grid costs 1 to 2 %, the noise would be 2.5 %
    model = problem.A(truth)
    assert bool(((clean - model).flatten(1).norm(dim=1) / model.flatten(1).norm(dim=1) < 0.02).all())


def test_one_dival_problem_is_the_same_alone_and_in_a_batch():
    one, truth = dival_problem(2)
    many, truths = dival_problem(range(1, 4))
    assert one.y.shape == (30, 183) and torch.equal(truth, truths[1])
    torch.testing.assert_close(one.y, many.y[1], rtol=1e-6, atol=1e-5)
    assert one.noise.sigma == pytest.approx(float(many.noise.sigma[1]), rel=1e-6)


def test_unknown_parts_and_ranges_are_refused():
    with pytest.raises(ValueError, match="part"):
        dival_ellipses("testing")
    with pytest.raises(ValueError, match="index"):
        dival_problem(range(0, 4, 2))
    with pytest.raises(ValueError, match="size"):
        random_ellipses_2018(1, seed=0, size=1)
