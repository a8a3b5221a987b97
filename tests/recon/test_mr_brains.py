"""Synthetic brains, sequences and registered modalities."""

import math

import numpy as np
import pytest
import torch

from recon.data import (
    Brain,
    Ellipses,
    GradientEcho,
    InversionRecovery,
    SpinEcho,
    mr_pairs,
    random_anatomy,
    random_brain,
    typical_sequence,
)
from recon.data.brains import FIELD, _level, _outline
from recon.data.modalities import UPTAKE
from recon.data.mr_contrast import CONTRASTS, TISSUES, Tissue, nulling_time, random_sequence

SIZE = 128


def raster(ellipses):
    return ellipses.rasterise((SIZE, SIZE), FIELD / SIZE, 4)


def test_a_spin_echo_is_bloch_in_steps():
    """90°, recovery to TE/2, 180°, on to TE, then to TR, until it repeats: the signal after many pulses."""
    te, tr, tissue = 20.0, 600.0, TISSUES["white"]
    longitudinal = 1.0
    for _ in range(50):
        echo = longitudinal * math.exp(-te / tissue.t2)
        longitudinal = 0.0
        for time, flip in ((te / 2, -1), (tr - te / 2, 1)):
            longitudinal = flip * (1 - (1 - longitudinal) * math.exp(-time / tissue.t1))
    assert SpinEcho(te, tr).signal(tissue) == pytest.approx(tissue.pd * echo, rel=1e-12)


def test_a_gradient_echo_is_bloch_in_steps():
    te, tr, flip, tissue = 5.0, 30.0, 0.4, TISSUES["grey"]
    longitudinal = 1.0
    for _ in range(2000):
        echo = longitudinal * math.sin(flip) * math.exp(-te / tissue.t2_star)
        longitudinal = 1 - (1 - longitudinal * math.cos(flip)) * math.exp(-tr / tissue.t1)
    assert GradientEcho(te, tr, flip).signal(tissue) == pytest.approx(tissue.pd * echo, rel=1e-10)


def test_inversion_recovery_is_bloch_in_steps_and_nulls():
    tr, ti, tissue = 3000.0, 700.0, TISSUES["grey"]
    longitudinal = 1.0
    for _ in range(50):
        recovered = 1 - (1 + longitudinal) * math.exp(-ti / tissue.t1)
        # the 90° pulse leaves nothing along z; TE is short against TR
        longitudinal = 1 - math.exp(-(tr - ti) / tissue.t1)
    found = InversionRecovery(0.0, tr, ti).signal(tissue)
    assert found == pytest.approx(tissue.pd * recovered, rel=1e-12)
    null = InversionRecovery(80.0, tr, nulling_time(tissue.t1, tr))
    assert null.signal(tissue) == pytest.approx(0, abs=1e-15)


def test_contrasts_are_those_of_their_names():
    def signal(contrast, tissue):
        return typical_sequence(contrast).signal(TISSUES[tissue])

    assert signal("t1", "fat") > signal("t1", "white") > signal("t1", "grey") > signal("t1", "csf")
    assert signal("t2", "csf") > signal("t2", "lesion") > signal("t2", "grey") > signal("t2", "white")
    assert abs(signal("flair", "csf")) < 1e-12
    assert signal("flair", "lesion") > signal("flair", "grey") > signal("flair", "white")
    assert signal("pd", "grey") > signal("pd", "white")
    for contrast in CONTRASTS:
        assert signal(contrast, "bone") == signal(contrast, "air") == 0
        random_sequence(contrast, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(8))
def test_every_point_has_one_tissue(seed):
    brain = random_anatomy(seed)
    assert isinstance(brain, Brain)
    for i, region in enumerate(brain.regions):
        outline = _outline(region.shape, margin=0.0)
        if region.within >= 0:
            assert region.within < i
            assert float(_level(brain.regions[region.within].shape, outline).max()) < 1
        for j, other in enumerate(brain.regions):
            if j != i and other.within == region.within:
                assert float(_level(other.shape, outline).min()) > 1
    names = [name for name in TISSUES if name != "air"]
    shares = {name: raster(brain.painted({t: float(t == name) for t in TISSUES})) for name in names}
    inside = sum(shares.values())
    assert float(inside.max()) <= 1 + 1e-12 and float(min(p.min() for p in shares.values())) >= -1e-12
    border = torch.cat([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    assert float(border.abs().max()) == 0
    # the tissues' shares are the image: painting is linear
    values = {name: 0.1 * (i + 1) for i, name in enumerate(t for t in TISSUES if t != "air")} | {"air": 0.0}
    image = raster(brain.painted(values))
    expected = sum(values[name] * part for name, part in shares.items())
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-12)
    assert 35 <= len(brain.regions) <= 75


def test_folds_ventricles_and_lesions_are_drawn():
    found = [random_anatomy(seed) for seed in range(20)]
    tissues = [[r.tissue for r in brain.regions] for brain in found]
    assert all(t.count("white") == 2 for t in tissues)
    # the two ventricles beside the layer around the brain
    assert sum(t.count("csf") >= 3 for t in tissues) >= 18
    assert any("lesion" in t for t in tissues) and not all("lesion" in t for t in tissues)
    assert sum(t.count("grey") >= 10 for t in tissues) >= 18


def test_brains_differ_by_seed_only():
    assert repr(random_brain(3)) == repr(random_brain(3)) != repr(random_brain(4))
    assert repr(random_brain(3, "t1")) != repr(random_brain(3, "t2"))
    assert isinstance(random_brain(0), Ellipses)
    with pytest.raises(ValueError, match="contrast"):
        random_brain(0, "ct")


def test_modalities_are_functions_of_the_tissue():
    images = mr_pairs(5, SIZE, ("t1", "t2", "pet"))
    share = {name[7:]: image for name, image in images.items() if name.startswith("tissue/")}
    for name, part in share.items():
        pure = part > 1 - 1e-6
        if int(pure.sum()) < 5:
            continue
        for contrast in ("t1", "t2"):
            value = typical_sequence(contrast).signal(TISSUES[name])
            # float32
            assert float((images[contrast][pure] - value).abs().max()) <= 2e-6
    assert images["pet"].dtype == torch.float32
    # blurring keeps the sum
    uptake = sum(UPTAKE[name] * part.double().sum() for name, part in share.items())
    assert float(images["pet"].double().sum()) == pytest.approx(float(uptake), rel=1e-5)


def test_modalities_vary_when_asked_and_name_what_they_know():
    fixed, varied = mr_pairs(5, 64, ("t1",)), mr_pairs(5, 64, ("t1",), vary=True)
    assert torch.equal(fixed["tissue/white"], varied["tissue/white"])
    assert not torch.equal(fixed["t1"], varied["t1"])
    assert torch.equal(varied["t1"], mr_pairs(5, 64, ("t1",), vary=True)["t1"])
    with pytest.raises(ValueError, match="ct"):
        mr_pairs(0, 64, ("t1", "ct"))


def test_impossible_sequences_are_refused():
    for make in (
        lambda: SpinEcho(50, 40),
        lambda: GradientEcho(1, 10, 0.0),
        lambda: InversionRecovery(1, 10, 20),
    ):
        with pytest.raises(ValueError, match="expected 0 ≤ te < tr"):
            make()


def test_a_varied_tissue_stays_near():
    tissue, random = TISSUES["grey"], np.random.default_rng(0)
    for _ in range(50):
        other = tissue.varied(random, 0.06)
        assert isinstance(other, Tissue) and abs(other.t1 / tissue.t1 - 1) <= 0.06
        assert abs(other.pd / tissue.pd - 1) <= 0.02 + 1e-12
