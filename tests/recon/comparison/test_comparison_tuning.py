"""Tuning: equal trials, wider ranges where the edge is best, files that know their problem."""

import math

import pytest

from recon.comparison import Choice, Integer, Linear, Log, tune
from recon.comparison import problem as load
from recon.comparison.method import load_methods
from recon.comparison.parameters import Parameters, parameter_file
from recon.comparison.search import Seen, propose


def finish(search):
    trials = []
    while True:
        try:
            trials.append(next(search))
        except StopIteration as end:
            return trials, end.value


def minimise(space, f, trials, seed=0):
    seen = []
    for _ in range(trials):
        point = propose(space, seen, trials, seed)
        seen.append(Seen(point, f(*(one.at(u) for one, u in zip(space, point, strict=True)))))
    best = min(seen, key=lambda s: s.loss)
    return tuple(one.at(u) for one, u in zip(space, best.point, strict=True))


def test_one_parameter_inside_its_range():
    (found,) = minimise([Log(1e-3, 1e3)], lambda w: (math.log10(w) - 0.37) ** 2, 20)
    assert math.log10(found) == pytest.approx(0.37, abs=0.05)


@pytest.mark.parametrize("target", [1e-5, 3e4])
def test_one_parameter_beyond_its_range(target):
    (found,) = minimise([Log(1e-2, 1e2)], lambda w: (math.log(w / target)) ** 2, 24)
    assert found == pytest.approx(target, rel=0.5)


def test_bounds_are_never_left():
    (found,) = minimise([Integer(2, 50)], float, 12)
    assert found == 1
    (found,) = minimise([Linear(0.3, 1.0, limits=(0.05, 1.0))], lambda v: -v, 12)
    assert found == 1.0


def test_several_parameters():
    def f(w, s, kind):
        return (math.log10(w) - 0.6) ** 2 + (s - 0.2) ** 2 + (kind != "b")

    w, s, kind = minimise([Log(1e-2, 1e2), Linear(0, 1), Choice("a", "b", "c")], f, 60)
    assert kind == "b"
    assert math.log10(w) == pytest.approx(0.6, abs=0.3)
    assert s == pytest.approx(0.2, abs=0.15)


def test_several_parameters_leave_their_range():
    w, _ = minimise([Log(1, 10), Linear(0, 1)], lambda w, s: math.log10(w / 300) ** 2 + (s - 0.5) ** 2, 40)
    assert w == pytest.approx(300, rel=0.6)


def test_search_is_deterministic():
    space = [Log(1e-2, 1e2), Linear(0, 1)]
    f = lambda w, s: math.sin(w) + s  # noqa: E731
    assert minimise(space, f, 20, seed=3) == minimise(space, f, 20, seed=3)
    assert minimise(space, f, 20, seed=3) != minimise(space, f, 20, seed=4)


def test_equal_trials_and_a_wider_range(problem_file, method_file):
    task, methods = load(str(problem_file)), load_methods([str(method_file)])
    pairs = task.images("validation")
    found = {name: finish(tune(task, methods[name], pairs, trials=20)) for name in ("damp", "two")}
    assert [len(trials) for trials, _ in found.values()] == [20, 20]
    damp = found["damp"][1]
    assert damp.widened["scale"]["stated"] == [1e-3, 1e-2]
    # E‖s y − x‖² is smallest at s = E x² / (E x² + σ²) = (1/3) / (1/3 + 0.01)
    assert damp.parameters["scale"] == pytest.approx(0.971, abs=0.15)
    assert damp.score == max(t.score for t in damp.trials)
    assert all(t.seconds >= 0 for t in damp.trials)


def test_a_method_without_parameters_is_scored_once(problem_file, method_file):
    task, methods = load(str(problem_file)), load_methods([str(method_file)])
    trials, tuned = finish(tune(task, methods["copy"], task.images("validation"), trials=12))
    assert len(trials) == 1 and tuned.parameters == {}


def test_a_method_that_always_fails_cannot_be_tuned(problem_file, method_file):
    task, methods = load(str(problem_file)), load_methods([str(method_file)])
    with pytest.raises(ValueError, match=r"failed in every trial on blobs: RuntimeError: no luck"):
        finish(tune(task, methods["fails"], task.images("validation"), trials=3))


def test_parameters_belong_to_their_problem(write_problem, method_file, tmp_path):
    first, other = write_problem(), write_problem(noise=0.2)
    method = load_methods([str(method_file)])["damp"]
    task = load(str(first))
    assert load(str(other)).hash != task.hash
    path = parameter_file(str(first))
    assert Parameters(task, path).of("damp", method) == ({}, "not tuned: the method's own defaults")
    _, tuned = finish(tune(task, method, task.images("validation"), trials=4))
    Parameters(task, path).put("damp", method, tuned, 3, 0)
    assert Parameters(task, path).of("damp", method) == (tuned.parameters, "tuned in 4 trials")
    stale = Parameters(load(str(other)), path)
    with pytest.raises(ValueError, match=r"another version of problem blobs .*run `recon compare --tune`"):
        stale.of("damp", method)


def test_parameters_belong_to_their_settings(problem_file, method_file):
    from dataclasses import replace

    task, method = load(str(problem_file)), load_methods([str(method_file)])["damp"]
    _, tuned = finish(tune(task, method, task.images("validation"), trials=2))
    store = Parameters(task, parameter_file(str(problem_file)))
    store.put("damp", method, tuned, 3, 0)
    with pytest.raises(ValueError, match=r"damp was tuned with other settings"):
        store.of("damp", replace(method, fixed={"power": 2}))
