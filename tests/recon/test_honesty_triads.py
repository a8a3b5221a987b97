"""Blinded export: nothing that readers get says what is what, and scores find their way back."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from operators import Gaussian, Identity
from recon import Problem
from recon.honesty import cohens_kappa, evaluate_scores, export_triads

METHODS = {"half": lambda p: 0.5 * p.y, "same": lambda p: p.y.clone()}


def cases(n=6):
    for k in range(n):
        truth = torch.full((20, 24), 0.1 * (k + 1))
        truth[0, 0] = 2.0
        yield Problem(Identity((20, 24)), truth + 0.05, Gaussian(sigma=0.1)), truth


def export(tmp_path, seed=3, n=6, **more):
    return export_triads(
        cases(n), METHODS, tmp_path / "study", tmp_path / "key.json", seed=seed, window=(0.0, 1.0), **more
    )


def test_files_say_nothing_and_the_key_everything(tmp_path):
    folder = export(tmp_path)
    names = sorted(p.name for p in folder.iterdir())
    items = [f"{k:03d}-{c}" for k in range(1, 7) for c in "abc"]
    assert names == sorted([*(f"{i}.png" for i in items), "key.sha256", "scores.csv"])
    text = (folder / "scores.csv").read_text()
    assert not any(word in text for word in ("half", "same", "truth"))
    rows = list(csv.DictReader(text.splitlines()))
    assert [r["item"] for r in rows] == items and rows[0]["set"] == "001" and rows[0]["score"] == ""
    key = json.loads((tmp_path / "key.json").read_text())
    orders, seen = set(), set()
    for item, told in key["items"].items():
        with Image.open(folder / f"{item}.png") as file:
            picture, info = np.array(file), file.info
        truth = 0.1 * (told["case"] + 1)
        value = {"truth": truth, "half": 0.5 * (truth + 0.05), "same": truth + 0.05}[told["method"]]
        # float32 may fall on the other side of a half
        assert picture.dtype == np.uint8 and abs(int(picture[5, 5]) - 255 * value) < 0.51
        assert not info
        assert told["above"] == pytest.approx(1 / 480) and told["below"] == 0
        seen.add((told["case"], told["method"]))
    assert seen == {(k, m) for k in range(6) for m in ("truth", "half", "same")}
    for k in range(1, 7):
        orders.add(tuple(key["items"][f"{k:03d}-{c}"]["method"] for c in "abc"))
    assert len(orders) > 1 and [key["items"][f"{k:03d}-a"]["case"] for k in range(1, 7)] != list(range(6))


def test_the_seed_decides_the_order(tmp_path):
    keys = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        export(tmp_path / name, seed)
        keys.append(json.loads((tmp_path / name / "key.json").read_text())["items"])
    assert keys[0] == keys[1] != keys[2]


def filled(path, folder, key, give):
    items = json.loads(key.read_text())["items"]
    rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["item", "set", "score", "real"])
        writer.writeheader()
        for row in rows:
            score, real = give(items[row["item"]])
            writer.writerow(row | {"score": score, "real": real})
    return path


def test_scores_find_their_way_back(tmp_path):
    folder, key = export(tmp_path), tmp_path / "key.json"
    worth = {"truth": 5, "same": 4, "half": 1}

    def anna(told):
        return worth[told["method"]], int(told["method"] != "half")

    def ben(told):
        return max(1, worth[told["method"]] - (told["case"] % 2)), int(told["method"] == "truth")

    sheets = [filled(tmp_path / f"{n}.csv", folder, key, f) for n, f in (("anna", anna), ("ben", ben))]
    found = evaluate_scores(sheets, key, commitment=folder / "key.sha256")
    same, truth = found.methods["same"], found.methods["truth"]
    assert (same.count, same.mean, same.real) == (12, 3.75, 0.5) and truth.mean == 4.75
    assert same.sd == pytest.approx(np.std([4] * 9 + [3] * 3, ddof=1))
    low, high = same.mean_interval
    # cases differ by 0.5 where their number is odd: the mean of 6 is 3.75 ± 0.25/√6, 95 % are two of them
    assert 3.5 <= low < 3.75 < high <= 4.0 and high - low == pytest.approx(4 * 0.25 / math.sqrt(6), rel=0.35)
    assert truth.real_interval == (1.0, 1.0) and found.methods["half"].real == 0 and found.missing == 0
    assert found.kappa_real["anna", "ben"] == pytest.approx(0.4)  # 12/18 agree, 4/9 expected
    assert 0.9 < found.kappa_score["anna", "ben"] < 1
    alone = evaluate_scores(sheets[0], key)
    assert alone.kappa_real == {} and alone.methods["half"].sd == 0


def test_kappa_of_tables_from_the_books():
    # 20 both yes, 15 both no, 5 and 10 apart: observed 0.7, expected 0.5
    a, b = [1] * 20 + [1] * 5 + [0] * 10 + [0] * 15, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohens_kappa(a, b, (0, 1)) == pytest.approx(0.4)
    assert cohens_kappa(a, b, (0, 1), weighted=True) == pytest.approx(0.4)
    assert cohens_kappa([1, 2, 3], [1, 2, 3], (1, 2, 3)) == 1
    # one step apart costs 1, two cost 4: 1 − (1/3) / (4/3)
    assert cohens_kappa([1, 2, 3], [1, 2, 2], (1, 2, 3), weighted=True) == pytest.approx(1 - 3 / 9)
    assert math.isnan(cohens_kappa([1, 1], [1, 1], (0, 1))) and math.isnan(cohens_kappa([], [], (0, 1)))
    independent = np.random.default_rng(0).integers(1, 6, (2, 4000))
    assert abs(cohens_kappa(*independent.tolist(), (1, 2, 3, 4, 5), weighted=True)) < 0.06


def test_what_is_missing_or_wrong_is_said(tmp_path):
    folder, key = export(tmp_path), tmp_path / "key.json"
    gaps = filled(tmp_path / "gaps.csv", folder, key, lambda t: ("" if t["case"] == 0 else 3, 1))
    found = evaluate_scores(gaps, key)
    assert found.missing == 3 and found.methods["same"].count == 5
    wrong = filled(tmp_path / "wrong.csv", folder, key, lambda t: (6, 1))
    with pytest.raises(ValueError, match="expected one of 1, 2, 3, 4, 5, got '6'"):
        evaluate_scores(wrong, key)
    (tmp_path / "short.csv").write_text("item,set,score,real\n001-a,001,3,1\n")
    with pytest.raises(ValueError, match="no row for"):
        evaluate_scores(tmp_path / "short.csv", key)
    key.write_text(key.read_text().replace('"half"', '"same"'))
    with pytest.raises(ValueError, match="sealed"):
        evaluate_scores(gaps, key, commitment=folder / "key.sha256")
    with pytest.raises(ValueError, match="already"):
        export(tmp_path)
    with pytest.raises(ValueError, match="where readers"):
        export_triads(cases(), METHODS, tmp_path / "s", tmp_path / "s" / "key.json", seed=0, window=(0, 1))
    nan = {"nan": lambda p: p.y / 0}
    with pytest.raises(ValueError, match="case 0, nan"):
        export_triads(cases(), nan, tmp_path / "n", tmp_path / "n.json", seed=0, window=(0, 1))
    assert not (tmp_path / "n").exists()


def test_dicom_besides(tmp_path):
    import pydicom

    folder = export(tmp_path, n=1, spacing=(3.0, 0.5, 0.5), hu=lambda x: 1000 * (x / 0.5 - 1))
    key = json.loads((tmp_path / "key.json").read_text())["items"]
    for item, told in key.items():
        (file,) = (folder / item).iterdir()
        data = pydicom.dcmread(file)
        value = {"truth": 0.1, "half": 0.075, "same": 0.15}[told["method"]]
        assert data.pixel_array[5, 5] == pytest.approx(1000 * (value / 0.5 - 1), abs=0.51)
        assert told["method"] not in str(data)
