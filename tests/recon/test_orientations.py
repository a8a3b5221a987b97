"""Eight orientations of a scan: the data of a turned image are the turned data."""

import math

import pytest
import torch

from operators import FanBeam, Gaussian, Identity, LowDose, ParallelBeam, XRay
from recon import Problem
from recon.data import DivalPairs, PairedData, TurnedPairs
from recon.data.dival import dival_geometry
from recon.data.orientations import WAYS, orientations, turned_data, turned_image
from recon.learned import described

HALF = tuple((k + 0.5) * math.pi / 10 for k in range(10))
FULL = tuple(k * math.pi / 6 for k in range(12))
SCANS = {
    "dival": dival_geometry(),
    "half turn": ParallelBeam((9, 9), 1.3, HALF, 17, 1.0),
    "half turn from 0": ParallelBeam((8, 8), 1.3, tuple(k * math.pi / 6 for k in range(6)), 16, 1.0),
    "fan": FanBeam((16, 16), 1.0, FULL, 31, 1.5, source_to_centre=60.0, source_to_detector=100.0),
    "arc": FanBeam(
        (16, 16), 1.0, FULL, 30, 1.5, source_to_centre=60.0, source_to_detector=90.0, detector="arc"
    ),
}


@pytest.mark.parametrize("geometry", SCANS.values(), ids=SCANS)
@pytest.mark.parametrize("way", range(WAYS))
def test_the_data_of_a_turned_image_are_the_turned_data(geometry, way):
    A = XRay(geometry)
    x = torch.rand(
        (2, *geometry.image_shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    clean = A(x)
    turned = turned_data(clean, orientations(geometry)[way])
    torch.testing.assert_close(A(turned_image(x, way)), turned, rtol=0, atol=1e-9 * float(clean.max()))
    assert way == 0 or not torch.allclose(turned, clean)


def test_the_eight_ways_are_different():
    x = torch.arange(9.0).reshape(3, 3)
    assert len({tuple(turned_image(x, way).flatten().tolist()) for way in range(WAYS)}) == WAYS


def test_pairs_keep_their_noise_and_validation():
    upright = DivalPairs(3, validation_size=2)
    pairs = TurnedPairs(upright)
    assert pairs.name == "ellipses-dival-3-turned" and pairs.validation is upright.validation
    told = described(pairs)
    assert told["training"] == 3 and told["orientations"] == 8 and "published" in told["seeds"]
    draw = pairs.batches(2, torch.Generator().manual_seed(1))
    again = pairs.batches(2, torch.Generator().manual_seed(1))
    seen = set()
    for _ in range(6):
        (problem, x), (same, _) = next(draw), next(again)
        assert torch.equal(problem.y, same.y)
        # noise of 2.5 %, and the error of the coarser grid
        error = (problem.y - problem.A(x)).norm() / problem.y.norm()
        assert 0.01 < float(error) < 0.05
        seen |= {tuple(image[:, 64].tolist()) for image in x}
    assert len(seen) > 6  # of three images


def test_image_to_image_turns_both_alike():
    A, x = Identity((5, 5)), torch.rand((3, 5, 5), generator=torch.Generator().manual_seed(0))
    pair = Problem(A, x + 1, Gaussian(sigma=[0.1, 0.2, 0.3])), x
    seen = set()
    draw = TurnedPairs(PairedData(pair, pair)).batches(3, torch.Generator().manual_seed(1))
    for _ in range(5):
        problem, truth = next(draw)
        assert torch.equal(problem.y, truth + 1)
        seen |= {tuple(image.flatten().tolist()) for image in truth}
    assert len(seen) > 8 and all(sorted(t) in [sorted(i.flatten().tolist()) for i in x] for t in seen)


def test_scans_without_the_symmetry_are_refused():
    def pairs(geometry, noise=None):
        A = XRay(geometry)
        x = torch.rand((2, *A.in_shape))
        pair = Problem(A, A(x), noise or Gaussian(sigma=0.1)), x
        return TurnedPairs(PairedData(pair, pair))

    few = tuple(k * math.pi / 5 for k in range(5))  # no quarter turn
    for geometry, why in (
        (ParallelBeam((8, 8), 1.0, few, 12, 1.0), "equal steps"),
        (ParallelBeam((8, 8), 1.0, HALF, 12, 1.0, offset=0.3), "without offset"),
        (ParallelBeam((8, 6), 1.0, HALF, 12, 1.0), "square"),
        (FanBeam((8, 8), 1.0, HALF, 12, 1.0, source_to_centre=30.0, source_to_detector=50.0), "equal steps"),
    ):
        with pytest.raises(ValueError, match=why):
            pairs(geometry)
    good = ParallelBeam((8, 8), 1.0, HALF, 12, 1.0)
    assert pairs(good, LowDose(i0=1e4)).turns
    with pytest.raises(ValueError, match="alike"):
        pairs(good, LowDose(i0=torch.full((12,), 1e4)))
