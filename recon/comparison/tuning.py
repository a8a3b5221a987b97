"""Tuning: every method gets the same number of trials on the same validation images, for the same score."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .calls import call
from .method import Method
from .scores import better, scores
from .search import Point, Seen, at_bound, edge_of, propose
from .task import Pair, Task


@dataclass(frozen=True)
class Trial:
    """Parameters tried, their mean score over the validation images, and the seconds this took."""

    parameters: dict[str, Any]
    score: float | None
    seconds: float
    failure: str = ""


@dataclass(frozen=True)
class Tuned:
    """What came out.

    parameters, score : the best trial's; trials : all of them, in order
    widened : parameter -> [stated range, value chosen outside it]
    edge : parameters whose chosen value is still the outermost that was tried: more trials may do better
    bound : parameters chosen at the last value that is allowed
    """

    parameters: dict[str, Any]
    score: float
    seconds: float
    trials: tuple[Trial, ...]
    widened: dict[str, Any]
    edge: tuple[str, ...]
    bound: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def tune(
    task: Task,
    method: Method,
    pairs: Sequence[Pair],
    trials: int,
    seed: int = 0,
    timeout: float = math.inf,
) -> Generator[Trial, None, Tuned]:
    """Trials one by one; a generator whose `return` value is the `Tuned` result.

    One parameter is searched on a grid and then ever finer about the best; several by a Sobol sequence and
    then in a shrinking box about the best. Either goes beyond the stated range while its edge is best. A
    method with nothing to search is scored once.
    """
    if trials < 1:
        raise ValueError(f"tune trials: expected at least 1, got {trials}")
    names, space = list(method.space), list(method.space.values())
    seen: list[Seen] = []
    done: list[Trial] = []
    for _ in range(trials if names else 1):
        point = propose(space, seen, trials, seed) if names else ()
        parameters = {name: one.at(u) for name, one, u in zip(names, space, point, strict=True)}
        trial = next((t for t in done if t.parameters == parameters), None)
        trial = _try(task, method, pairs, parameters, timeout) if trial is None else _again(trial)
        seen.append(Seen(point, _loss(task, trial)))
        done.append(trial)
        yield trial
    best = min(range(len(done)), key=lambda k: seen[k].loss)
    chosen = done[best]
    if chosen.score is None:
        raise ValueError(f"{method.title} failed in every trial on {task.name}: {chosen.failure}")
    edges = tuple(
        name
        for i, (name, one) in enumerate(method.space.items())
        if trials > 1 and edge_of(one, seen[best].point[i], [s.point[i] for s in seen])
    )
    return Tuned(
        parameters=chosen.parameters,
        score=chosen.score,
        seconds=sum(trial.seconds for trial in done),
        trials=tuple(done),
        widened=_widened(method, seen[best].point, chosen.parameters),
        edge=edges,
        bound=tuple(
            name
            for (name, one), u in zip(method.space.items(), seen[best].point, strict=True)
            if at_bound(one, u)
        ),
    )


def _try(
    task: Task, method: Method, pairs: Sequence[Pair], parameters: dict[str, Any], timeout: float
) -> Trial:
    start = time.perf_counter()
    values = []
    failure = ""
    try:
        built = method.build(task.name, **parameters).eval()
    except Exception as error:
        return Trial(parameters, None, time.perf_counter() - start, f"{type(error).__name__}: {error}")
    for problem, truth in pairs:
        outcome = call(built, problem, timeout)
        failure = outcome.failure
        if outcome.image is not None:
            found, failure = scores(task, outcome.image, truth)
            values.append(found.get(task.metrics[0], math.nan))
        if failure:
            break
    score = None if failure else sum(values) / len(values)
    return Trial(parameters, score, time.perf_counter() - start, failure)


def _again(trial: Trial) -> Trial:
    """The same settings need no second computation."""
    return Trial(trial.parameters, trial.score, 0.0, trial.failure)


def _loss(task: Task, trial: Trial) -> float:
    return math.inf if trial.score is None else -better(task.metrics[0]) * trial.score


def _widened(method: Method, point: Point, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"stated": [one.at(0.0), one.at(1.0)], "chosen": parameters[name]}
        for (name, one), u in zip(method.space.items(), point, strict=True)
        if not 0 <= u <= 1
    }
