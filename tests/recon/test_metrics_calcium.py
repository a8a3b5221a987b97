"""Calcium scores of phantoms that can be added up by hand, and errors around metal."""

import math

import pytest
import torch

from operators import ParallelBeam
from operators.beam import Beam
from recon import FBP
from recon.data.ellipses import Ellipses, disc
from recon.honesty import metal_scan
from recon.metrics import METRICS, calcium_score, metal_band_hu, metal_mask, metal_rmse_hu

WATER = 0.02
KEYS = {"mu_water": WATER, "pixel_size": 0.5}


def attenuation(hu):
    return WATER * (1 + torch.as_tensor(hu, dtype=torch.float64) / 1000)


def plaque(hu, rows, columns, ground=0.0):
    image = torch.full((32, 40), ground, dtype=torch.float64)
    image[5 : 5 + rows, 7 : 7 + columns] = hu
    return attenuation(image)


@pytest.mark.parametrize(
    "hu, factor", [(131, 1), (199, 1), (200, 2), (299, 2), (300, 3), (399, 3), (400, 4), (1500, 4)]
)
def test_a_square_of_one_density(hu, factor):
    # 4 × 6 pixels of 0.25 mm² in a slice of 3 mm
    found = calcium_score(plaque(hu, 4, 6), **KEYS)
    assert float(found.agatston) == pytest.approx(6.0 * factor)
    assert float(found.volume_mm3) == pytest.approx(18.0)
    assert float(found.regions) == 1


def test_thin_slices_count_for_less_and_add_up():
    volume = plaque(250, 4, 6).expand(4, -1, -1)
    thick = calcium_score(plaque(250, 4, 6)[None], **KEYS, ndim=3)
    thin = calcium_score(volume, **KEYS, slice_thickness=0.75, ndim=3)
    for name in ("agatston", "volume_mm3"):
        torch.testing.assert_close(getattr(thick, name), getattr(thin, name))
    assert float(thin.regions) == 4
    each = calcium_score(volume, **KEYS, slice_thickness=0.75)
    torch.testing.assert_close(each.agatston.sum(), thin.agatston)


def test_the_threshold_is_above_130_and_small_regions_are_noise():
    assert float(calcium_score(plaque(130, 4, 6), **KEYS).agatston) == 0
    image = plaque(500, 1, 3)  # 0.75 mm²
    assert float(calcium_score(image, **KEYS).volume_mm3) == 0
    assert float(calcium_score(image, **KEYS, minimum_area=0.75).volume_mm3) == pytest.approx(2.25)
    assert float(calcium_score(plaque(500, 1, 4), **KEYS).agatston) == pytest.approx(4.0)


def test_the_brightest_pixel_of_a_region_weighs_all_of_it_and_corners_connect():
    image = plaque(150, 4, 4)
    image[5, 7] = attenuation(450)
    assert float(calcium_score(image, **KEYS).agatston) == pytest.approx(4 * 16 * 0.25)
    image[9:13, 11:15] = attenuation(150)  # touches at a corner
    found = calcium_score(image, **KEYS)
    assert float(found.regions) == 1 and float(found.agatston) == pytest.approx(4 * 32 * 0.25)
    image[20:22, 30:32] = attenuation(150)
    assert float(calcium_score(image, **KEYS).agatston) == pytest.approx(32 + 1.0)


def test_a_disc_has_the_area_of_a_disc():
    pixel = 0.2
    image = attenuation(1000 * Ellipses([disc(0.6, 8.0)]).rasterise((128, 128), pixel))
    found = calcium_score(image, mu_water=WATER, pixel_size=pixel)
    # pixels of the edge count from 130/600 on: the outline is moved outwards by less than half a pixel
    assert float(found.volume_mm3) == pytest.approx(3 * math.pi * 64, rel=2 * 0.5 * pixel / 8)
    assert float(found.agatston) == pytest.approx(4 * float(found.volume_mm3) / 3)


def test_the_mask_keeps_bone_out_and_a_batch_is_its_images():
    image = torch.stack([plaque(300, 4, 6), plaque(0, 4, 6)])
    image[:, 20:30] = attenuation(800)
    mask = torch.ones(32, 40, dtype=torch.bool)
    mask[20:30] = False
    found = calcium_score(image, **KEYS, mask=mask)
    assert found.agatston.tolist() == pytest.approx([18.0, 0.0])
    errors = METRICS["agatston_error"](image, image[:1].expand(2, -1, -1), mask=mask, **KEYS)
    assert errors.tolist() == pytest.approx([0.0, 18.0])
    volumes = METRICS["calcium_error_mm3"](image, image[:1].expand(2, -1, -1), mask=mask, **KEYS)
    assert volumes.tolist() == pytest.approx([0.0, 18.0])


def test_what_is_missing_is_said():
    image = plaque(300, 4, 6)
    for change, message in (
        ({"mu_water": None}, "mu_water"),
        ({"pixel_size": None}, "pixel_size"),
        ({"slice_thickness": 0.0}, "slice_thickness"),
        ({"ndim": 4}, "ndim"),
    ):
        with pytest.raises(ValueError, match=message):
            calcium_score(image, **{**KEYS, **change})
    with pytest.raises(ValueError, match="agatston_error: expected real"):
        METRICS["agatston_error"](image + 0j, image, **KEYS)


def test_only_what_is_near_metal_counts():
    truth = attenuation(torch.zeros(2, 48, 64))
    truth[0, 20:24, 20:24] = attenuation(8000)
    image = truth.clone()
    image[:, 20:24, 20:24] = 0.0  # inside metal
    image[:, 19, 20] = 0.0  # its edge
    image[:, 0, 60] = 0.0  # far away
    assert float(metal_rmse_hu(image, truth, mu_water=WATER, reach=16)[0]) == 0
    image[0, 24 + 4, 20] += WATER * 0.1  # 100 HU
    near = metal_mask(truth, mu_water=WATER, margin=16) & ~metal_mask(truth, mu_water=WATER, margin=2)
    found = metal_rmse_hu(image, truth, mu_water=WATER, reach=16)
    assert float(found[0]) == pytest.approx(100 / math.sqrt(int(near[0].sum())))
    assert math.isnan(float(found[1]))


def test_the_band_between_two_metals():
    truth = attenuation(torch.zeros(40, 60))
    truth[18:22, 10:14] = truth[18:22, 40:44] = attenuation(9000)
    image = truth.clone()
    image[18:22, 14:40] -= WATER * 0.2
    assert float(metal_band_hu(image, truth, mu_water=WATER)) == pytest.approx(-200)
    assert math.isnan(float(metal_band_hu(image[:, :30], truth[:, :30], mu_water=WATER)))


BEAM = Beam(  # made up: water and something as heavy as iron
    energies=(40.0, 60.0, 80.0, 110.0),
    quanta=(0.2, 0.4, 0.3, 0.1),
    gain=(40.0, 60.0, 80.0, 110.0),
    mu=((0.027, 0.021, 0.018, 0.016), (2.8, 0.95, 0.47, 0.25)),
    mu_reference=(0.02, 0.8),
    reference=64.0,
    materials=("water", "metal"),
)
GEOMETRY = ParallelBeam((48, 48), 2.0, [math.pi * k / 90 for k in range(90)], 75, 2.0)


def test_metal_makes_a_dark_band_and_none_makes_none():
    fine = Ellipses([disc(0.02, 40.0)]).rasterise((96, 96), 1.0).float()
    discs = [disc(1.0, 3.0, (-18.0, 0.0)), disc(1.0, 3.0, (18.0, 0.0))]
    problem, truth = metal_scan(fine, Ellipses(discs), GEOMETRY, BEAM, i0=1e6, seed=0)
    assert truth.shape == (48, 48) and float(truth.max()) == pytest.approx(0.8, rel=1e-5)
    assert float(truth[24, 24]) == pytest.approx(0.02, rel=1e-6)
    image = FBP(filter="ram-lak", positive=False)(problem)
    assert float(metal_band_hu(image, truth, mu_water=0.02)) < -100
    clean, body = metal_scan(fine, Ellipses([]), GEOMETRY, BEAM, i0=1e6, seed=0)
    plain = FBP(filter="ram-lak", positive=False)(clean)
    inside = metal_mask(truth, mu_water=0.02, margin=14) & ~metal_mask(truth, mu_water=0.02, margin=2)
    off = 1000 * ((plain - body) / 0.02)[inside]
    worse = 1000 * ((image - truth) / 0.02)[inside]
    assert abs(float(off.mean())) < 10 and float(worse.std()) > 3 * float(off.std())


def test_few_photons_starve_behind_metal():
    fine = Ellipses([disc(0.02, 40.0)]).rasterise((96, 96), 1.0).float()
    rod = Ellipses([disc(1.0, 6.0)])
    errors = []
    for i0 in (1e7, 1e3):
        problem, truth = metal_scan(fine, rod, GEOMETRY, BEAM, i0=i0, electronic_sigma=3.0, seed=0)
        image = FBP(positive=False)(problem)
        errors.append(float(metal_rmse_hu(image, truth, mu_water=0.02, reach=8)))
        again, _ = metal_scan(fine, rod, GEOMETRY, BEAM, i0=i0, electronic_sigma=3.0, seed=0)
        assert torch.equal(problem.y, again.y)
    assert errors[1] > 1.5 * errors[0]


def test_a_scan_of_metal_needs_a_beam_that_knows_it():
    fine = torch.zeros(96, 96)
    water = Beam((60.0,), (1.0,), (1.0,), ((0.02,),), (0.02,), 60.0, ("water",))
    with pytest.raises(ValueError, match="2 materials"):
        metal_scan(fine, Ellipses([]), GEOMETRY, water, i0=1e5)
    with pytest.raises(ValueError, match="fine"):
        metal_scan(torch.zeros(48, 48), Ellipses([]), GEOMETRY, BEAM, i0=1e5)
