"""Rows: one per problem, method and image; failures are rows; a killed run goes on."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recon.comparison import Run, compare, write_tables
from recon.comparison import problem as load
from recon.comparison.method import load_methods
from recon.comparison.rows import RowStore

ROOT = Path(__file__).parents[3]
TIMES = {"seconds"}


def runs_of(problem_file: Path, method_file: Path, *names: str) -> list[Run]:
    task, methods = load(str(problem_file)), load_methods([str(method_file)])
    return [Run(task, name, methods[name]) for name in names or methods]


def without_times(row: object) -> dict:
    return {k: v for k, v in vars(row).items() if k not in TIMES}


def test_one_row_per_method_and_image(problem_file, method_file, tmp_path):
    rows = list(compare(runs_of(problem_file, method_file, "copy", "damp", "slow"), tmp_path / "out"))
    assert [(r.method, r.image) for r in rows] == [
        *(("copy", k) for k in range(6)),
        *(("damp", k) for k in range(6)),
        *(("slow", k) for k in range(2)),  # the problem gives it two images only
    ]
    assert all(set(r.scores) == {"psnr_db", "ssim"} and not r.failure for r in rows)
    assert {(r.forward, r.adjoint) for r in rows if r.method == "copy"} == {(0, 1)}
    assert {(r.forward, r.adjoint) for r in rows if r.method == "slow"} == {(1, 0)}
    assert len({r.truth for r in rows}) == 6


def test_scores_are_those_of_the_metric(problem_file, method_file, tmp_path):
    (run,) = runs_of(problem_file, method_file, "copy")
    rows = list(compare([run], tmp_path / "out"))
    for row, (problem, truth) in zip(rows, run.task.images("test"), strict=True):
        mse = (problem.y.double() - truth.double()).square().mean()
        assert row.scores["psnr_db"] == pytest.approx(float(-10 * mse.log10()), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fails", "RuntimeError: no luck at all"),
        ("nan", "192 of 192 values are NaN or inf"),
        ("shape", "returned shape (11, 16), expected (12, 16)"),
        ("learns", "no training data"),
    ],
)
def test_a_failure_is_a_row(name, words, problem_file, method_file, tmp_path):
    rows = list(compare(runs_of(problem_file, method_file, name), tmp_path / "out"))
    assert len(rows) == 6
    assert all(words in r.failure and not r.scores for r in rows)
    write_tables(tmp_path / "out")
    with (tmp_path / "out" / "rows.csv").open() as file:
        assert [words in line["failure"] for line in csv.DictReader(file)] == [True] * 6


def test_a_call_that_takes_too_long_is_a_row(problem_file, method_file, tmp_path):
    rows = list(compare(runs_of(problem_file, method_file, "slow"), tmp_path / "out", timeout=0.05))
    assert [r.failure for r in rows] == ["TooLongError: stopped after 0.05 s"] * 2


def test_finished_rows_are_kept_and_failures_tried_again(problem_file, method_file, tmp_path):
    out = tmp_path / "out"
    first = list(compare(runs_of(problem_file, method_file, "copy", "slow"), out, timeout=0.05))
    second = list(compare(runs_of(problem_file, method_file, "copy", "slow"), out))
    assert [vars(r) for r in second[:6]] == [vars(r) for r in first[:6]], "kept, times and all"
    assert all(r.failure for r in first[6:]) and not any(r.failure for r in second[6:])
    assert len(RowStore(out).rows) == 8


def test_rows_of_other_parameters_are_computed_anew(problem_file, method_file, tmp_path):
    (run,) = runs_of(problem_file, method_file, "damp")
    half = Run(run.task, run.name, run.method, {"scale": 0.5})
    a = list(compare([run], tmp_path / "out"))
    b = list(compare([half], tmp_path / "out"))
    assert all(x.scores["psnr_db"] != y.scores["psnr_db"] for x, y in zip(a, b, strict=True))
    assert len(RowStore(tmp_path / "out").rows) == 6


def test_rows_of_another_problem_of_that_name_are_forgotten(write_problem, method_file, tmp_path):
    list(compare(runs_of(write_problem(), method_file, "copy", "damp"), tmp_path / "out"))
    noisier = list(compare(runs_of(write_problem(noise=0.2), method_file, "copy"), tmp_path / "out"))
    assert [key(r) for r in RowStore(tmp_path / "out").rows] == [key(r) for r in noisier]


def test_fewer_images_leave_the_other_rows(problem_file, method_file, tmp_path):
    from recon.comparison.digestion import Results

    out = tmp_path / "out"
    list(compare(runs_of(problem_file, method_file, "copy"), out))
    assert len(list(compare(runs_of(problem_file, method_file, "copy"), out, images=2))) == 2
    results = Results.read(out)
    assert len(results.rows) == 6
    assert all(results.truth("blobs", image).shape == (12, 16) for _, image in results.shown("blobs"))


def test_an_edited_method_is_computed_anew(problem_file, method_file, tmp_path):
    (run,) = runs_of(problem_file, method_file, "copy")
    before = run.key
    method_file.write_text(method_file.read_text() + "\n# edited\n")
    assert run.key != before


def test_a_killed_run_goes_on_where_it_was(problem_file, method_file, tmp_path):
    command = [sys.executable, "-c", "from recon.cli import main; main()", "compare", "--no-memory"]
    command += ["--problem", str(problem_file), "--methods", str(method_file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = subprocess.Popen(
        [*command, "--out", str(out)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    rows = out / "rows.jsonl"
    deadline = time.monotonic() + 60
    while not (rows.exists() and len(rows.read_text().splitlines()) >= 9) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = rows.read_text().splitlines()
    assert 9 <= len(killed) < 44, "killed in the middle"
    rows.write_text("\n".join(killed) + '\n{"problem": "blobs", "meth')  # a row half written
    for folder in (out, whole):
        done = subprocess.run(
            [*command, "--out", str(folder)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 1, done.stderr  # some of these methods fail
    resumed, unbroken = (sorted(map(key, RowStore(f).rows)) for f in (out, whole))
    assert resumed == unbroken
    assert len(resumed) == 44


def key(row: object) -> str:
    return json.dumps(without_times(row), sort_keys=True)


def test_peak_memory_in_a_fresh_process(problem_file, method_file, tmp_path):
    from recon.comparison.memory import peaks

    big = tmp_path / "big.py"
    big.write_text(
        "import torch\nfrom recon import Reconstructor\nfrom recon.comparison import Method\n"
        "class Big(Reconstructor):\n"
        "    def forward(self, problem):\n"
        "        return problem.y + 0 * torch.ones(64 * 2**18).sum()\n"
        'METHODS = {"big": Method(Big)}\n'
    )
    (run,) = runs_of(problem_file, big, "big")
    problem = run.task.images("test")[0][0]
    ((_, peak),) = peaks([run], problem, str(problem_file), [str(big)], tmp_path)
    assert isinstance(peak, float), peak
    assert 60 < peak < 140  # 64 MiB and what a first call of torch brings along


def test_minutes_of_training_are_for_those_who_learn_by_steps(problem_file, method_file):
    """Rows of the others keep their key; a closed form learns, too, and takes as long as it takes."""
    task, methods = load(str(problem_file)), load_methods([str(method_file), "fbp", "cnn-10"])
    for name, same in (("fbp", True), ("copy", True), ("cnn-10", False)):
        keys = {Run(task, name, methods[name], minutes=minutes).key for minutes in (None, 1.0)}
        assert (len(keys) == 1) == same, name


def test_patch_regression_learns_within_a_comparison(tmp_path):
    task, methods = load("ellipses-small"), load_methods(["anchored-regression"])
    few = {"images": 2, "samples": 300, "neighbours": 50, "anchors": 4}
    run = Run(task, "anchored-regression", methods["anchored-regression"], few, minutes=1.0)
    learned, seconds = run.prepared(tmp_path)
    again, same = run.prepared(tmp_path)
    assert seconds == same > 0
    problem, truth = task.images("test", 1)[0]
    x = learned(problem)
    assert x.shape == truth.shape and (x == again(problem)).all()
