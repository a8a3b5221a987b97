"""Images for readers who must not know where they come from, and what their scores say.

export_triads(cases, methods, folder, key, seed=1, window=(0, 0.04))
…  readers fill copies of folder/scores.csv  …
evaluate_scores(["anna.csv", "ben.csv"], key)
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import write_bytes
from ..data.dicom_write import new_folder
from ..problem import Problem

TRUTH = "truth"
COLUMNS = ("item", "set", "score", "real")
SHEET, COMMITMENT = "scores.csv", "key.sha256"


@torch.no_grad()
def export_triads(
    cases: Iterable[tuple[Problem, Tensor]],
    methods: Mapping[str, Callable[[Problem], Tensor]],
    folder: str | Path,
    key: str | Path,
    *,
    seed: int,
    window: tuple[float, float],
    spacing: tuple[float, float, float] | None = None,
    hu: Callable[[Tensor], Tensor] | None = None,
) -> Path:
    """One image of each method and the truth of every case, as PNGs in an order that only the key tells.

    Armanious et al., Comput. Med. Imaging Graph. 79 (2020) had 5 readers judge 60 triads: with two methods a
    set is a triad. Cases are mixed, images within a set as well, file names are numbers, and files are
    written in the order of their names. Readers get `folder`:

        001-a.png …      8 bit grey, `window` from black to white; clipped shares are in the key
        scores.csv       item, set, score (1 to 5, 5 best), real (1: looks like a real scan, 0: does not)
        key.sha256       of the key, so that nobody can change it afterwards

    cases : (problem, truth) of single images (ny, nx)
    methods : by name
    folder : to be made
    key : file to be written, kept from the readers; outside `folder`
    seed : of the order; who knows it and this code knows the order, so it is in the key only
    window : [unit of the image] what is black and what is white
    spacing, hu : (dz, dy, dx) [mm] and image -> HU, to write DICOM files besides, each its own series

    Returns the folder.
    """
    folder, key = Path(folder), Path(key)
    if folder.resolve() in key.resolve().parents:
        raise ValueError(f"export_triads key: {key} lies in {folder}, where readers would find it")
    if key.exists():
        raise ValueError(f"export_triads key: {key} is there already; name a new one")
    if not methods or TRUTH in methods:
        raise ValueError(
            f"export_triads methods: expected some, none called {TRUTH!r}, got {sorted(methods)}"
        )
    if not window[1] > window[0]:
        raise ValueError(f"export_triads window: expected black < white, got {window}")
    if (spacing is None) != (hu is None):
        raise ValueError("export_triads: DICOM needs both spacing and hu")
    sets = [_images(number, problem, truth, methods) for number, (problem, truth) in enumerate(cases)]
    if not sets:
        raise ValueError("export_triads cases: expected at least one, got none")
    random = np.random.default_rng(seed)
    items: dict[str, dict[str, Any]] = {}
    with new_folder(folder) as beside:
        for place, number in enumerate(random.permutation(len(sets)).tolist(), start=1):
            images = sets[number]
            for letter, who in zip(_LETTERS, random.permutation(sorted(images)).tolist(), strict=False):
                item, image = f"{place:03d}-{letter}", images[who]
                grey, below, above = _grey(image, window)
                _write_png(beside / f"{item}.png", grey)
                if spacing is not None and hu is not None:
                    _write_dicom(beside / f"{item}", hu(image), spacing)
                items[item] = {"case": number, "method": who, "below": below, "above": above}
        sealed = {
            "format": 1,
            "salt": secrets.token_hex(16),  # else the hash could be tried out
            "seed": seed,
            "window": list(window),
            "methods": [*methods],
            "items": items,
        }
        content = (json.dumps(sealed, indent=2) + "\n").encode()
        rows = [",".join(COLUMNS), *(f"{item},{item.split('-')[0]},," for item in items)]
        (beside / SHEET).write_text("\n".join(rows) + "\n", encoding="utf-8")
        (beside / COMMITMENT).write_text(hashlib.sha256(content).hexdigest() + "\n", encoding="utf-8")
        write_bytes(key, content)
    return folder


@dataclass(frozen=True)
class ReaderScores:
    """What readers gave to the images of one method, or to the truth.

    count : scores of all readers
    mean, sd : of the scores
    mean_interval, real_interval : 95 %, bootstrap over cases
    real : share judged real
    """

    count: int
    mean: float
    sd: float
    mean_interval: tuple[float, float]
    real: float
    real_interval: tuple[float, float]


@dataclass(frozen=True)
class StudyResult:
    """methods : by name, with "truth"; kappa_score, kappa_real : by pair of readers; missing : empty cells.

    Kappa is Cohen's, of scores with quadratic weights; NaN where both readers always said the same one thing.
    """

    methods: Mapping[str, ReaderScores]
    kappa_score: Mapping[tuple[str, str], float]
    kappa_real: Mapping[tuple[str, str], float]
    missing: int


def evaluate_scores(
    sheets: str | Path | Sequence[str | Path],
    key: str | Path,
    *,
    commitment: str | Path | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> StudyResult:
    """Mean, standard deviation and share judged real of every method, and how far readers agree.

    Intervals: cases are drawn with replacement, with all that all readers said of them; readers are fixed.
    They judge what looks real, which says nothing of what is right (Wolterink et al. 2021).

    sheets : one filled sheet a reader, named by its file
    key : as `export_triads` wrote it
    commitment : key.sha256 from the readers' folder: the key must be the one that was sealed
    """
    paths = [Path(p) for p in ([sheets] if isinstance(sheets, str | Path) else sheets)]
    if not paths or len({p.stem for p in paths}) < len(paths):
        raise ValueError(f"evaluate_scores sheets: expected files of different names, got {paths}")
    content = Path(key).read_bytes()
    if commitment is not None:
        sealed = Path(commitment).read_text(encoding="utf-8").strip()
        if hashlib.sha256(content).hexdigest() != sealed:
            raise ValueError(f"{key}: not the key that {commitment} was sealed with")
    items = json.loads(content)["items"]
    readers = {p.stem: _read(p, items) for p in paths}
    values = [
        (item, items[item]["method"], items[item]["case"], score, real)
        for sheet in readers.values()
        for item, (score, real) in sheet.items()
    ]
    random = np.random.default_rng(seed)
    cases = sorted({one["case"] for one in items.values()})
    drawn = random.integers(len(cases), size=(resamples, len(cases)))
    found = {}
    for name in sorted({one["method"] for one in items.values()}):
        mine = [(cases.index(v[2]), v[3], v[4]) for v in values if v[1] == name]
        scores = [(case, score) for case, score, _ in mine if score is not None]
        real = [(case, said) for case, _, said in mine if said is not None]
        every = np.array([v for _, v in scores], dtype=float)
        found[name] = ReaderScores(
            len(every),
            float(every.mean()) if len(every) else math.nan,
            float(every.std(ddof=1)) if len(every) > 1 else math.nan,
            _bootstrap(scores, drawn),
            float(np.mean([v for _, v in real])) if real else math.nan,
            _bootstrap(real, drawn),
        )
    agreement: list[dict[tuple[str, str], float]] = []
    for k, categories in ((0, (1, 2, 3, 4, 5)), (1, (0, 1))):
        pairs = {}
        for a, b in combinations(sorted(readers), 2):
            both = [(readers[a][i][k], readers[b][i][k]) for i in items]
            kept = [(p, q) for p, q in both if p is not None and q is not None]
            pairs[a, b] = cohens_kappa(
                [p for p, _ in kept], [q for _, q in kept], categories, weighted=k == 0
            )
        agreement.append(pairs)
    missing = sum(v is None for one in values for v in one[3:])
    return StudyResult(found, agreement[0], agreement[1], missing)


def cohens_kappa(
    a: Sequence[float], b: Sequence[float], categories: Sequence[float], weighted: bool = False
) -> float:
    """1 − Σ w o / Σ w e: disagreement seen over that expected of independent readers with these habits.

    Cohen, Educ. Psychol. Meas. 20 (1960), w = 1 off the diagonal; weighted w = (i − j)², Psychol. Bull. 70
    (1968). NaN where nothing but agreement can be expected, or without items.
    """
    if len(a) != len(b):
        raise ValueError(f"cohens_kappa: expected as many of either reader, got {len(a)} and {len(b)}")
    places = {value: k for k, value in enumerate(categories)}
    seen = np.zeros((len(places), len(places)))
    for p, q in zip(a, b, strict=True):
        seen[places[p], places[q]] += 1
    if not seen.sum():
        return math.nan
    expected = np.outer(seen.sum(1), seen.sum(0)) / seen.sum()
    values = np.asarray(categories, dtype=float)
    apart = values[:, None] - values[None]
    weight = apart**2 if weighted else (apart != 0).astype(float)
    chance = (weight * expected).sum()
    return float(1 - (weight * seen).sum() / chance) if chance else math.nan


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _images(
    number: int, problem: Problem, truth: Tensor, methods: Mapping[str, Callable[[Problem], Tensor]]
) -> dict[str, Tensor]:
    if problem.batch or truth.ndim != 2 or len(methods) >= len(_LETTERS):
        raise ValueError(
            f"export_triads cases: expected single images (ny, nx), at most {len(_LETTERS) - 1} methods, got "
            f"{tuple(truth.shape)} in a batch {problem.batch}, {len(methods)} methods"
        )
    found = {TRUTH: truth} | {name: method(problem) for name, method in methods.items()}
    for name, image in found.items():
        if image.is_complex():
            found[name] = image.abs()
        if image.shape != truth.shape or not bool(torch.isfinite(image).all()):
            raise ValueError(
                f"export_triads: case {number}, {name}: expected a finite image {tuple(truth.shape)}, got "
                f"{tuple(image.shape)} with {int((~torch.isfinite(image)).sum())} NaN or inf"
            )
    return found


def _grey(image: Tensor, window: tuple[float, float]) -> tuple[np.ndarray[Any, Any], float, float]:
    """0 to 255, and the shares below and above the window."""
    low, high = window
    x = image.double().cpu()
    grey = ((x - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return grey, float((x < low).double().mean()), float((x > high).double().mean())


def _write_png(path: Path, grey: np.ndarray[Any, Any]) -> None:
    from PIL import Image

    Image.fromarray(grey).save(path, optimize=False)


def _write_dicom(folder: Path, hu: Tensor, spacing: tuple[float, float, float]) -> None:
    from ..data.dicom_write import write_dicom

    write_dicom(hu.float(), folder, "reader study", spacing=spacing)


def _read(path: Path, items: Mapping[str, Any]) -> dict[str, tuple[float | None, float | None]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    found = {}
    for row in rows:
        if row["item"] not in items or row["item"] in found:
            raise ValueError(f"{path}: {row['item']!r} is not in the key, or is there twice")
        found[row["item"]] = (
            _cell(path, row, "score", (1, 2, 3, 4, 5)),
            _cell(path, row, "real", (0, 1)),
        )
    absent = sorted(set(items) - set(found))
    if absent:
        raise ValueError(f"{path}: no row for {', '.join(absent[:5])}; leave cells empty, not rows out")
    return found


def _cell(path: Path, row: Mapping[str, str | None], column: str, allowed: Sequence[int]) -> float | None:
    text = (row[column] or "").strip()
    if not text:
        return None
    if text not in map(str, allowed):
        raise ValueError(
            f"{path}: {row['item']}, {column}: expected one of {', '.join(map(str, allowed))}, got {text!r}"
        )
    return float(text)


def _bootstrap(values: Sequence[tuple[int, float]], drawn: np.ndarray[Any, Any]) -> tuple[float, float]:
    """2.5 and 97.5 % of the mean, cases drawn as the rows of `drawn`."""
    sums, counts = np.zeros(drawn.shape[1]), np.zeros(drawn.shape[1])
    for case, value in values:
        sums[case] += value
        counts[case] += 1
    total = counts[drawn].sum(1)
    if not (total > 0).any():
        return math.nan, math.nan
    means = sums[drawn].sum(1)[total > 0] / total[total > 0]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
