"""NETT: R ≥ 0 and small where there is no artefact, its gradient, its training and its use by any solver."""

import math

import pytest
import torch

from operators import Gaussian, ParallelBeam
from priors import NETTRegulariser, NonNegative
from priors.networks.autoencoder import Decoder, Encoder
from priors.networks.seeds import seeded
from recon import NETT, VariationalReconstruction, nmapg, run
from recon.adversarial import data_term
from recon.data.sets import SimulatedPairs
from recon.solvers import trace

GEOMETRY = ParallelBeam((16, 16), 1.0, [(k + 0.5) * math.pi / 8 for k in range(8)], 23, 1.0)


def boxes(seeds):
    images = torch.zeros(len(seeds), 32, 32)
    for image, seed in zip(images, seeds, strict=True):
        g = torch.Generator().manual_seed(seed)
        top, left = (int(k) for k in torch.randint(4, 16, (2,), generator=g))
        image[top : top + 10, left : left + 12] = 0.5 + 0.5 * torch.rand((), generator=g)
    return images


PAIRS = SimulatedPairs(GEOMETRY, Gaussian(relative=0.1), boxes, 8, train_size=32, name="boxes")


@pytest.fixture(scope="module")
def trained():
    method = NETT(
        channels=(12, 12, 12), steps=120, batch_size=8, learning_rate=5e-3, filter="ram-lak", iterations=60
    )
    return method.fit(PAIRS)


def test_it_learns_what_artefacts_are_and_helps(trained):
    problem, truth = PAIRS.validation
    scale = trained.trained_for.image_scale
    start = trained.start(problem.A, problem.linear / scale)
    # unseen images: every FBP has more than its truth, by much
    assert bool((trained.prior(start) > 2 * trained.prior(truth / scale)).all())
    before, after = ((x - truth).square().mean() for x in (scale * start, trained(problem)))
    assert after < 0.7 * before
    # what the network takes away is a part of what is wrong
    left = start - trained.prior.artefacts(start) - truth / scale
    assert left.square().mean() < 0.7 * (start - truth / scale).square().mean()
    assert trained.record["weight"] == float(trained.weight) > 0


def test_objective_never_goes_above_its_start_and_ends_critical(trained):
    problem, _ = PAIRS.validation
    y = problem.linear[:2].double() / trained.trained_for.image_scale
    prior = trained.prior.double()
    objective = data_term(problem.A, y, trained.trained_for.norm) + float(trained.weight) * prior
    found = trace(nmapg(objective, NonNegative(), trained.start(problem.A, y)), 400, 1e-6)
    values = torch.stack([v for _, v, _ in found.history]).detach()
    assert bool((values <= values[0] + 1e-12).all()) and bool((found.last.residual < 1e-3).all())
    # critical: the projected gradient step goes nowhere
    x = found.last.x
    moved = (x - 0.1 * objective.grad(x)).clamp(min=0) - x
    assert float(moved.norm() / x.norm()) < 1e-3
    trained.prior.float()


def test_any_solver_takes_it(trained):
    problem, truth = PAIRS.validation
    scale = trained.trained_for.image_scale
    prior = NETTRegulariser(trained.prior.encoder, trained.prior.decoder, scale, trained.prior.sparsity)
    # its λ is of ‖A‖ = 1 and σ = 1
    weight = float(trained.weight) * trained.trained_for.norm**2 / problem.variance.flatten(1).mean(1)
    method = VariationalReconstruction([prior], weight=weight, iterations=40)
    assert method.solver == "nmapg"
    naive = trained.start(problem.A, problem.linear)
    assert (method(problem) - truth).square().mean() < (naive - truth).square().mean()


def test_value_is_its_formula():
    f, shape = NETTRegulariser.examples()[0]
    f = f.double()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h = f.encoder(x[:, None])
    rounded = (h.square() + f.rounding**2).sqrt() - f.rounding
    torch.testing.assert_close(f(x), (h.square() / 2 + f.sparsity * rounded).sum((1, 2, 3)) / h.shape[1])
    # in another unit: R(s x) = s² R(x), with the scale s
    with seeded(0):
        bright = NETTRegulariser(f.encoder, f.decoder, 3.0, f.sparsity, f.rounding)
    torch.testing.assert_close(bright(3 * x), 9 * f(x))
    zero = torch.zeros(1, 4, *f.encoder.shape(shape), dtype=torch.float64)
    assert float(f.decoder(zero, shape).detach().abs().max()) == 0


@pytest.mark.parametrize("strides", [None, (2, 1, 2), (3, 2, 1)])
def test_encoder_and_decoder_keep_the_size(strides):
    channels = (3, 4, 5)
    E, D = Encoder(channels, strides), Decoder(channels, strides)
    for shape in ((16, 16), (7, 9), (1, 5)):
        h = E(torch.zeros(2, 1, *shape))
        assert h.shape == (2, 5, *E.shape(shape))
        assert D(h, shape).shape == (2, 1, *shape)


def test_saved_and_loaded(tmp_path):
    method = NETT.examples()[0].fit(PAIRS)
    again = NETT.load(method.save(tmp_path / "weights"))
    torch.testing.assert_close(again(PAIRS.validation[0]), method(PAIRS.validation[0]))


def test_tried_weight_is_best_of_those_tried(trained):
    problem, images = next(PAIRS.batches(16, torch.Generator().manual_seed(0)))
    scale = trained.trained_for.image_scale
    y, c = problem.linear / scale, trained.config

    def error(weight):
        x = run(trained.iterates(problem.A, y, weight), c.iterations, c.tolerance)
        return float((x - images / scale).square().mean())

    best = error(float(trained.weight))
    assert best <= error(4 * float(trained.weight)) and best <= error(float(trained.weight) / 4)


def test_bad_input():
    plain = ((2,), None)
    for make, text in (
        (lambda: NETTRegulariser(Encoder(*plain), Decoder(*plain), scale=0.0), "scale"),
        (lambda: NETTRegulariser(Encoder(*plain), Decoder(*plain), sparsity=-1.0), "sparsity"),
        (lambda: NETTRegulariser.examples()[0][0](torch.zeros(4, 4, dtype=torch.complex64)), "real"),
        (lambda: Encoder((2, 3), (1,)), "strides"),
        (lambda: NETT(weight=-1.0), "weight"),
        (lambda: NETT(degraded=0.0), "degraded"),
        (lambda: NETT(channels=()), "channels"),
        (lambda: NETT.examples()[0].fit(PAIRS.unpaired()), "PairedData"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
