"""Methods one after the other."""

import math

import pytest
import torch

from operators import Gaussian, Identity, ParallelBeam, XRay
from recon import FBP, METHODS, Chain, FBPUNet, Problem, TotalVariation
from recon.chain import ChainedPairs
from recon.data import TurnedPairs
from recon.data.sets import PairedData, SimulatedPairs

N = 12
GEOMETRY = ParallelBeam((N, N), 1.0, [math.pi * k / 10 for k in range(10)], 17, 1.0)
A = XRay(GEOMETRY, backend="sparse")
SMALL = {"base": 4, "depth": 2, "batch_size": 4, "learning_rate": 5e-3}
TV = TotalVariation(4.0, iterations=30)  # too much of it


def scans(n, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(n, N, N)
    x[:, 3:9, 3:9] = 0.5 + torch.rand((n, 1, 1), generator=generator)
    noise = Gaussian(sigma=[0.2] * n)
    return Problem(A, noise(A(x), seed=list(range(seed, seed + n))), noise), x


DATA = PairedData(scans(24, 0), scans(6, 100), "squares")


def test_the_second_learns_from_what_the_first_makes():
    data = ChainedPairs(DATA, TV)
    problem, truth = data.train
    assert isinstance(data.A, Identity) and data.name == "squares after total-variation"
    assert torch.equal(truth, DATA.train[1]) and torch.equal(problem.y[:8], TV(_first(DATA.train[0], 8)))
    assert data.train[0] is problem, "computed once"
    chain = Chain([TV, FBPUNet(steps=60, **SMALL)]).fit(DATA)
    apart = FBPUNet(steps=60, **SMALL).fit(data)
    problem, truth = DATA.validation
    torch.testing.assert_close(chain(problem), apart(ChainedPairs(DATA, TV).validation[0]))
    error, before = ((x - truth).square().mean() for x in (chain(problem), TV(problem)))
    assert float(error) < 0.9 * float(before)
    single = Problem(A, problem.y[0], Gaussian(sigma=0.2))
    torch.testing.assert_close(chain(single), chain(problem)[0], rtol=1e-4, atol=1e-5)


def _first(problem, n):
    return Problem(problem.A, problem.y[:n], problem.noise.select(slice(n)))


def test_who_has_learned_stays_as_it_is():
    first = FBPUNet(steps=4, **SMALL).fit(DATA)
    kept = [p.clone() for p in first.parameters()]
    chain = Chain([first, FBPUNet(steps=4, seed=1, **SMALL)]).fit(DATA)
    assert all(torch.equal(a, b) for a, b in zip(kept, first.parameters(), strict=True))
    assert chain.methods[1].trained_for is not None
    three = Chain([FBP(), *(FBPUNet(steps=2, seed=s, **SMALL) for s in (2, 3))]).fit(DATA)
    assert three(DATA.validation[0]).shape == (6, N, N)


def test_endless_pairs_go_through_batch_by_batch():
    def images(seeds):
        return torch.stack([torch.full((2 * N, 2 * N), 0.01 * (s % 97)) for s in seeds])

    endless = SimulatedPairs(GEOMETRY, Gaussian(sigma=0.1), images, 2, 2)
    draw = ChainedPairs(endless, FBP()).batches(3, torch.Generator().manual_seed(0))
    same = endless.batches(3, torch.Generator().manual_seed(0))
    for _ in range(2):
        (problem, truth), (raw, x) = next(draw), next(same)
        assert torch.equal(problem.y, FBP()(raw)) and torch.equal(truth, x) and not problem.y.requires_grad
    # without partners they are ever new as well, not the first 64 again and again
    for pairs in (ChainedPairs(endless, FBP()), TurnedPairs(endless)):
        draw = pairs.unpaired().batches(40, torch.Generator().manual_seed(0))
        assert len({float(t[0, 0]) for _ in range(4) for t in next(draw)[1]}) > 64


def test_what_cannot_be_chained(tmp_path):
    assert METHODS["chain"] is Chain
    for methods in ([], [TV], [TV, "fbp"]):
        with pytest.raises(ValueError, match="at least 2"):
            Chain(methods)
    with pytest.raises(ValueError, match="twice"):
        Chain([TV, TV])
    two = Chain([FBPUNet(**SMALL), FBPUNet(**SMALL)])
    with pytest.raises(ValueError, match="2 methods have to learn"):
        two.fit(DATA, checkpoint=tmp_path / "c")
    with pytest.raises(ValueError, match="save each"):
        two.save(tmp_path / "x")
    with pytest.raises(ValueError, match="expected PairedData"):
        ChainedPairs(DATA.unpaired(), TV)
