"""What benchmarks/translation.py says of its numbers, and the distance of textures it scores by."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from recon.data.heads import MU_WATER

PARTS = Path(__file__).parents[2] / "benchmarks" / "parts"


def load(name):
    spec = importlib.util.spec_from_file_location(name, PARTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scores, tables = load("translation_scores"), load("translation_tables")


def row(title, kind, psnr, distance, seed=0, **more):
    found = {"psnr_db": psnr, "nps_distance_db": distance, "ssim": 0.5, "bias_hu_body": 1.0}
    about = {"parameters": 5, "images_per_second": 2.0, "minutes": 1.0, "steps": 7}
    return {"title": title, "kind": kind, "seed": seed, "scores": found, **about, **more}


def noisy(gain, generator):
    """Soft tissue with white noise of `gain` · 20 HU."""
    return MU_WATER * (1 + 0.02 * gain * torch.randn(2, 64, 64, generator=generator, dtype=torch.float64))


def test_distance_of_textures():
    generator = torch.Generator().manual_seed(0)
    truth = noisy(1.0, generator)
    corners = scores.tiles(truth, MU_WATER)
    same = scores.texture_scores(truth, truth, corners, 1.0, MU_WATER)
    assert same["nps_distance_db"] == 0
    # a quadratic takes 6 of 64 degrees of freedom, and the flattest tiles were chosen
    assert 14 < same["texture_sigma_hu"] < 20
    # half and twice the amplitude are both 20 log₁₀ 2 away
    mean = MU_WATER
    for factor in (0.5, 2.0):
        other = scores.texture_scores(mean + factor * (truth - mean), truth, corners, 1.0, MU_WATER)
        assert other["nps_distance_db"] == pytest.approx(20 * math.log10(2), rel=1e-6)
    # independent noise of the same law is near, smoothed noise is far
    again = scores.texture_scores(noisy(1.0, generator), truth, corners, 1.0, MU_WATER)
    smooth = torch.nn.functional.avg_pool2d(truth[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    far = scores.texture_scores(smooth, truth, corners, 1.0, MU_WATER)
    assert again["nps_distance_db"] < 3 < far["nps_distance_db"]
    assert far["nps_mean_frequency"] < 0.8 * same["nps_mean_frequency"]


def test_tiles_are_soft_tissue_and_apart():
    image = torch.full((1, 40, 40), MU_WATER)
    image[:, :, 20:] = 2 * MU_WATER
    corners = scores.tiles(image, MU_WATER)
    assert len(corners) == 10 and int(corners[:, 2].max()) <= 12
    covered = torch.zeros(40, 40)
    for _, r, c in corners.tolist():
        covered[r : r + 8, c : c + 8] += 1
    assert float(covered.max()) == 1
    assert scores.tiles(2 * image, MU_WATER).shape == (0, 3)
    assert math.isnan(scores.texture_scores(image, image, corners[:2], 1.0, MU_WATER)["nps_distance_db"])


def test_expectations_are_told_as_they_are():
    rows = [row("RED-CNN", "pixel", 40.0, 9.0), row("CNN-10", "pixel", 39.0, 8.0)]
    against = [row("WGAN-VGG", "adversarial", 38.0, 3.0), row("pix2pix", "adversarial", 37.0, 8.5)]
    first, second = tables.expectation([*rows, *against])
    assert "PSNR: holds" in first and "number 1 of 4" in first
    assert "texture: holds" in second and "1 of 2 are nearer" in second
    rows[1]["scores"]["psnr_db"], against[0]["scores"]["nps_distance_db"] = 41.0, 12.0
    first, second = tables.expectation([*rows, *against])
    assert "does not hold: CNN-10 is 1.00 dB ahead" in first and "texture: does not hold" in second
    assert all("cannot be said" in line for line in tables.expectation(rows[1:]))


def test_failures_are_counted_and_what_is_missing_is_a_dash():
    failed = {"title": "SAGAN", "kind": "adversarial", "seed": 1, "error": "DivergedError: NaN"}
    missing = {"title": "SMGAN", "kind": "adversarial", "seed": 0, "missing": True}
    rows = [
        row("SAGAN", "adversarial", 30.0, 1.0),
        failed,
        row("SAGAN", "adversarial", 32.0, 1.0, 2),
        missing,
    ]
    columns = {"psnr_db": ("PSNR [dB]", "{:.2f}"), "steps": ("steps", "{:.0f}")}
    head, _, sagan, smgan = tables.table(rows, columns)
    assert head == "| method | PSNR [dB] | steps | failed |"
    assert sagan == "| SAGAN | 31.00 ± 1.41 | 7 | 1 of 3 |"
    assert smgan == "| SMGAN | – | – | – |"
    summary = tables.by_method(rows)["SAGAN"]
    assert summary["failures"] == [{"seed": 1, "error": "DivergedError: NaN"}]


def test_unpaired_is_compared_with_its_input():
    rows = [row("FBP (input)", "input", 30.0, 10.0), row("CycleGAN, unpaired", "adversarial", 31.5, 4.0)]
    assert tables.unpaired(rows) == [
        "CycleGAN, unpaired, against its input (FBP): +1.50 dB PSNR, +0.0000 SSIM, +0.0 HU bias, -6.0 dB NPS "
        "distance."
    ]
    assert "cannot be said" in tables.unpaired(rows[:1])[0]


def test_columns_of_table_1():
    truth = torch.rand(2, 48, 48, generator=torch.Generator().manual_seed(0))
    found = scores.table_scores(truth + 0.1, truth, data_range=1.0)
    # 0.1 of 255 grey values, squared
    assert found["mse_8bit"] == pytest.approx(25.5**2, rel=1e-4) and found["psnr_db"] == pytest.approx(
        20, rel=1e-4
    )
    same = scores.table_scores(truth, truth, data_range=1.0)
    assert same["mse_8bit"] == 0 and same["ssim"] == pytest.approx(1)
    assert same["one_minus_haarpsi"] == pytest.approx(0, abs=1e-9)
