"""The synthetic multi-coil distribution as training data."""

import pytest
import torch

from operators import Sense
from recon.data import SmoothField, SyntheticMRI, UnpairedData, coil_fields, mr_ellipses, simulate_mri
from recon.data.mr_simulation import signal
from recon.data.sets import TEST, TRAIN, VALIDATION

SHAPE = (48, 40)
MASK = torch.arange(40) % 3 == 1
SMALL = {"shape": SHAPE, "coils": 3, "validation_size": 3, "test_size": 2}


@pytest.fixture(scope="module")
def data():
    return SyntheticMRI(MASK, **SMALL)


def test_an_image_depends_on_its_seed_only(data):
    problem, truth = data.pairs([5, 9])
    alone, single = data.pairs([9])
    assert problem.y.shape == (2, 3, *SHAPE) and problem.y.dtype == torch.complex64
    assert truth.shape == (2, *SHAPE) and truth.dtype == torch.complex64
    torch.testing.assert_close(problem.y[1], alone.y[0], rtol=0, atol=0)
    torch.testing.assert_close(truth[1], single[0], rtol=0, atol=0)
    assert problem.noise.sigma[1] == alone.noise.sigma[0] != problem.noise.sigma[0]
    assert isinstance(data.A, Sense) and problem.A is alone.A


def test_train_validation_and_test_are_apart(data):
    for part, first, count in ((data.validation, VALIDATION, 3), (data.test, TEST, 2)):
        torch.testing.assert_close(part[1], data.pairs(range(first, first + count))[1], rtol=0, atol=0)
    limited = SyntheticMRI(MASK, train_size=4, **SMALL)
    torch.testing.assert_close(limited.train[1], data.pairs(range(TRAIN, TRAIN + 4))[1], rtol=0, atol=0)
    problem, truth = next(limited.batches(2, torch.Generator().manual_seed(0)))
    assert len(truth) == 2 and problem.batch == (2,) and len(problem.noise.sigma) == 2


def test_batches_are_decided_by_the_generator(data):
    one, two = (next(data.batches(2, torch.Generator().manual_seed(3))) for _ in range(2))
    torch.testing.assert_close(one[0].y, two[0].y, rtol=0, atol=0)
    generator = torch.Generator().manual_seed(3)
    stream = data.batches(2, generator)
    next(stream)
    assert not torch.equal(next(stream)[1], one[1])
    problem, images = next(data.unpaired().batches(2, torch.Generator().manual_seed(0)))
    assert isinstance(data.unpaired(), UnpairedData) and len(problem.y) == len(images) == 2


def test_noise_is_what_the_signal_to_noise_ratio_says(data):
    problem, truth = data.pairs(range(4))
    ratio = signal(truth) / problem.noise.sigma
    assert float(ratio.min()) >= 15 * (1 - 1e-5) and float(ratio.max()) <= 40 * (1 + 1e-5)
    quiet = SyntheticMRI(MASK, snr=(1e7, 1e7), dtype=torch.complex128, **SMALL).pairs(range(4))
    n = (problem.y - quiet[0].y)[..., MASK]
    chi = n.abs().square().mean((1, 2, 3)) / problem.noise.sigma**2
    # |n|² is exponential, of 3 · 48 · 13 data
    assert float((chi - 1).abs().max()) <= 4 / (3 * 48 * 13) ** 0.5
    assert not problem.y[..., ~MASK].any()


def test_it_is_simulate_mri_of_the_same_object():
    fields = coil_fields(3, seed=0)
    data = SyntheticMRI(MASK, phase=0.0, snr=(1e9, 1e9), dtype=torch.complex128, **SMALL)
    problem, truth = data.pairs([7])
    scene = data.objects(7)
    expected, reference = simulate_mri(
        scene, MASK, fields, shape=SHAPE, pixel_size=data.pixel_size, dtype=torch.complex128
    )
    # a phase of strength 0 is one constant phase per image
    turn = (truth[0].flatten().conj() @ reference.flatten()).sgn()
    torch.testing.assert_close(truth[0] * turn, reference, rtol=0, atol=1e-3)
    torch.testing.assert_close(problem.y[0] * turn, expected.y, rtol=0, atol=1e-3)


def test_phase_and_truth_and_objects_can_be_chosen():
    flat = SyntheticMRI(MASK, phase=0.0, truth="pixels", objects=mr_ellipses, **SMALL).pairs([1])[1][0]
    turned = flat * (flat.sum() / flat.sum().abs()).conj()
    # means over pixels of a real object under one constant phase
    assert float(turned.imag.abs().max()) < 1e-3 * float(turned.real.max())
    one = SyntheticMRI(MASK, shape=SHAPE, coils=None, objects=mr_ellipses)
    problem, _ = one.pairs([1])
    assert problem.y.shape == (1, *SHAPE)
    own = SmoothField(torch.ones(2, 1, 1, dtype=torch.complex128))
    assert SyntheticMRI(MASK, shape=SHAPE, coils=own).pairs([1])[0].y.shape == (1, 2, *SHAPE)


def test_random_ellipses_stay_in_the_field():
    for seed in range(20):
        image = mr_ellipses(seed).rasterise((64, 64), 220 / 64, 2)
        border = torch.cat([image[0], image[-1], image[:, 0], image[:, -1]])
        assert float(border.abs().max()) == 0 and float(image.max()) > 0.3


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="truth"):
        SyntheticMRI(MASK, truth="best")
    with pytest.raises(ValueError, match="snr"):
        SyntheticMRI(MASK, snr=(3.0, 2.0))
    with pytest.raises(ValueError, match="mask"):
        SyntheticMRI(MASK.float())
