"""Every method on every image of every problem: one row each, written as it goes."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..base import Reconstructor
from ..problem import Problem
from .calls import Outcome, call, reason
from .describe import describe, digest, environment, fingerprint, source_digest
from .files import check_writable, read_json, write_image, write_json
from .method import Method
from .rows import Row, RowStore
from .scores import scores
from .task import Pair, Task

WARM_UP_LIMIT = 5.0  # [s] a first call longer than this is not repeated: it is the measurement


@dataclass(frozen=True)
class Run:
    """One method on one problem: what is set, and how many images it gets.

    weights : to be used instead of those shipped
    minutes : of training for a method that has none; None: as its configuration says, or what is shipped
    """

    task: Task
    name: str
    method: Method
    parameters: Mapping[str, Any] = field(default_factory=dict)
    parameters_from: str = ""
    tuning: Mapping[str, Any] | None = None
    weights: Path | None = None
    minutes: float | None = None

    @property
    def learns(self) -> bool:
        """Whether the weights, if it has any, are learned here: none are given, none shipped or wanted."""
        if self.weights is not None:
            return False
        return not self.method.pretrained or (bool(self.minutes) and not self.method.shipped(self.task.name))

    @property
    def key(self) -> str:
        what: dict[str, Any] = {
            "task": self.task.hash,
            "method": self.method.describe(),
            "source": self.method.source(),
        }
        # rows of methods with nothing to learn stay as they are
        if self.minutes and self.learns and getattr(self.method.make, "data_kind", "") is not None:
            what["minutes"] = self.minutes
        weights = None if self.weights is None else source_digest(self.weights)
        return fingerprint(what | {"parameters": self.parameters, "weights": weights})

    @property
    def file(self) -> str:
        return f"{self.task.name}--{self.name}"

    def prepared(self, folder: Path) -> tuple[Reconstructor, float]:
        """The method with its weights, and the seconds `fit` took; fitted weights are kept in `folder`."""
        method = self.method.build(self.task.name, self.weights, self.learns, **self.parameters)
        if method.data_kind is None or not self.learns:
            return method.eval(), 0.0
        weights = folder / "weights" / f"{self.file}-{self.key}"
        took = weights.with_name(f"{weights.name}.seconds.json")
        if took.exists():
            return type(method).load(weights).eval(), float(read_json(took))  # type: ignore[attr-defined]
        if self.task.data is None:
            raise ValueError(
                f"{self.name} must learn first, and problem {self.task.name} has no training data"
            )
        start = time.perf_counter()
        limit = {"minutes": self.minutes} if self.minutes and _takes_minutes(method) else {}
        method.fit(self.task.data(method.data_kind), **limit)
        seconds = time.perf_counter() - start
        method.save(weights)  # type: ignore[operator]
        write_json(took, seconds)
        return method.eval(), seconds


def _takes_minutes(method: Reconstructor) -> bool:
    """Whether its training can be bounded; what is learned in closed form takes as long as it takes."""
    asked = inspect.signature(method.fit).parameters
    return "minutes" in asked or any(p.kind is p.VAR_KEYWORD for p in asked.values())


def compare(
    runs: Sequence[Run], folder: Path, *, images: int | None = None, timeout: float = 600.0
) -> Iterator[Row]:
    """Rows of every run, as they are finished; those that `folder` has already come first and at once.

    folder : rows.jsonl, problems/, groups/ (one file per problem and method), images/
    images : at most so many test images of each problem
    timeout : seconds that one call may take (where the system has SIGALRM)
    """
    check_writable(folder)
    store = RowStore(folder)
    for task in dict.fromkeys(run.task for run in runs):
        pairs = task.images("test", images)
        if known_hash(folder, task) not in (None, task.hash):
            store.forget(task.name)
        save_task(task, pairs, folder)
        _warm_up(pairs[0][0])
        for run in (run for run in runs if run.task is task):
            count = min(len(pairs), task.counts.get(run.name, len(pairs)))
            yield from _group(run, pairs[:count], store, folder, timeout)


def known_hash(folder: Path, task: Task) -> str | None:
    """Hash of the problem of this name that the folder has rows of, or None."""
    path = folder / "problems" / f"{task.name}.json"
    return read_json(path)["hash"] if path.exists() else None


def save_task(task: Task, pairs: Sequence[Pair], folder: Path) -> None:
    """What the report must know of a problem, and its true images."""
    for truth in {digest(truth): truth for _, truth in pairs}.values():
        write_image(truth_path(folder, task.name, digest(truth)), task.seen(truth).numpy())
    problem = pairs[0][0]
    write_json(
        folder / "problems" / f"{task.name}.json",
        {
            "name": task.name,
            "title": task.title or task.name,
            "hash": task.hash,
            "metrics": list(task.metrics),
            "data_range": task.data_range,
            "mu_water": task.mu_water,
            "pixel_size": task.pixel_size,
            "masked": task.mask is not None,
            "windows": [vars(window) for window in task.windows],
            "zoom": task.zoom,
            "notes": {key: note if isinstance(note, str) else note() for key, note in task.notes.items()},
            "configuration": describe(task.configuration),
            "operator": repr(problem.A),
            "images": len(pairs),
            "methods": list(task.methods),
        },
    )


def _group(run: Run, pairs: Sequence[Pair], store: RowStore, folder: Path, timeout: float) -> Iterator[Row]:
    done = store.keep(run.task.name, run.name, run.key)
    yield from (row for image, row in sorted(done.items()) if image < len(pairs))
    todo = [image for image in range(len(pairs)) if image not in done]
    if not todo:
        return
    group: dict[str, Any] = {
        "problem": run.task.name,
        "method": run.name,
        "key": run.key,
        "settings": run.method.describe(),
        "parameters": dict(run.parameters),
        "parameters_from": run.parameters_from,
        "tuning": run.tuning,
        "weights": None if run.weights is None else str(run.weights),
        "environment": environment(),
        **dict.fromkeys(("method_repr", "trainable", "fit_seconds", "warm_up_seconds")),
    }
    method: Reconstructor | None = None
    try:
        method, group["fit_seconds"] = run.prepared(folder)
        group |= {"method_repr": _shown(method), "trainable": _count(method)}
    except Exception as error:
        outcome = Outcome(failure=reason(error))
    else:
        outcome = call(method, pairs[0][0], timeout)
        group |= {"warm_up_seconds": outcome.seconds, "history": outcome.history}
    write_json(group_path(folder, run), group)
    for image in todo:
        problem, truth = pairs[image]
        if method is not None and not (image == 0 and (outcome.seconds or 0) > WARM_UP_LIMIT):
            outcome = call(method, problem, timeout)
        row = _row(run, image, truth, outcome)
        if outcome.image is not None:
            seen = run.task.seen(outcome.image)
            write_image(image_path(folder, run.task.name, run.name, image), seen.numpy())
        store.add(row)
        yield row


def _row(run: Run, image: int, truth: Tensor, outcome: Outcome) -> Row:
    values: dict[str, float] = {}
    failure = outcome.failure
    if outcome.image is not None:
        values, failure = scores(run.task, outcome.image, truth)
    return Row(
        problem=run.task.name,
        method=run.name,
        image=image,
        truth=digest(truth),
        scores=values,
        parameters=dict(run.parameters),
        key=run.key,
        seconds=outcome.seconds,
        forward=outcome.forward,
        adjoint=outcome.adjoint,
        iterations=outcome.iterations,
        found=outcome.found,
        failure=failure,
    )


def truth_path(folder: Path, problem: str, truth: str) -> Path:
    """Where a true image is kept."""
    return folder / "images" / problem / f"truth-{truth}.npz"


def group_path(folder: Path, run: Run) -> Path:
    """Where it is kept what one method was on one problem."""
    return folder / "groups" / f"{run.file}.json"


def peak_of(folder: Path, run: Run) -> float | str | None:
    """The peak memory measured for this very run, or None."""
    path = group_path(folder, run)
    group = read_json(path) if path.exists() else {}
    return group.get("peak_mib") if group.get("key") == run.key else None


def record_peak(folder: Path, run: Run, peak: float | str) -> None:
    """Add the peak memory [MiB], or why there is none, to what is known of this method on this problem."""
    path = group_path(folder, run)
    write_json(path, read_json(path) | {"peak_mib": peak})


def image_path(folder: Path, problem: str, method: str, image: int) -> Path:
    """Where a reconstructed image is kept."""
    return folder / "images" / problem / f"{method}-{image:03d}.npz"


def _warm_up(problem: Problem) -> None:
    """Compile and cache the operator itself, so that no method pays for it."""
    problem.A(problem.A.adjoint(problem.linear))


def _count(method: Reconstructor) -> int:
    return sum(weight.numel() for weight in method.parameters())


def _shown(method: Reconstructor) -> str:
    """Class and simple settings, on one line."""
    simple = (bool, int, float, str, type(None))
    state = {k: v for k, v in vars(method).items() if not k.startswith("_") and isinstance(v, simple)}
    state.pop("training", None)
    return f"{type(method).__name__}({', '.join(f'{k}={v!r}' for k, v in state.items())})"
