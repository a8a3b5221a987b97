"""A method by its name, trained on a problem and saved with its card; over several seeds, too."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .checkpoints import read_card, write_bytes
from .train_config import as_json
from .train_fabric import Ranks
from .train_log import Progress, TensorBoard
from .train_pictures import Pictures

if TYPE_CHECKING:
    from .data.sets import PairedData
    from .learned import Learned


def train_method(
    name: str,
    problem: str | PairedData,
    out: str | Path,
    minutes: float | None = None,
    *,
    half: bool = True,
    callback: Callable[[Progress], None] | None = None,
    log: str | Path | None = None,
    pictures: str | Path | None = None,
    fabric: Any = None,
    called: str | Sequence[str] | None = None,
    **changes: Any,
) -> Learned:
    """Train the method called `name` and save it as `out`.safetensors with its card `out`.json.

    problem : its name, as "ellipses-small", or pairs
    minutes : wall-time bound; None for the configuration's steps, which is repeatable
    half : store the weights in float16
    callback : given the progress after every step
    log : folder for TensorBoard (the extra `train`)
    pictures : folder that gets one, named as `out`, of what becomes of the first validation images (the extra
        `report`)
    fabric : a launched Lightning Fabric, see `recon.train_fabric`
    called : the problem in the card's command, as a path to its file, or the words that name the data there;
        None: the data's name
    changes : of the configuration: the recipe in `recon.zoo.recipes` for `data.name`, or else the paper's

    `out`.checkpoint.safetensors is written meanwhile, resumed from if it is there, and removed at the end;
    `out`.curve.csv holds steps, seconds, losses and validation scores. If the weights cannot be written
    (disk full), the checkpoint stays: the same call goes on from it.
    """
    data = _data(problem)
    method = configured(name, data, changes)
    ranks = Ranks(fabric)
    out = Path(out)
    checkpoint = out.with_name(f"{out.name}.checkpoint.safetensors")
    callbacks = [callback] if callback else []
    board = TensorBoard(log) if log is not None and ranks.first else None
    if board:
        callbacks.append(board)
    if pictures is not None and ranks.first:
        callbacks.append(Pictures(Path(pictures) / out.name, method, data.of_kind(method.data_kind)))
    latest = [Progress()]

    def told(progress: Progress) -> None:
        latest[0] = progress
        for one in callbacks:
            one(progress)

    method.fabric = fabric
    try:
        method.fit(
            data.of_kind(method.data_kind),
            minutes=minutes,
            checkpoint=checkpoint,
            callback=told,
        )
    finally:
        method.fabric = None
        if board:
            board.close(latest[0])
    method.record["command"] = _command(name, called or data.name, minutes, half, changes)
    method.record["torch"] = torch.__version__
    if ranks.first:
        method.save(out, half=half, scores=method.scores(data))
        checkpoint.unlink(missing_ok=True)
    ranks.wait()
    return method


def train_seeds(
    name: str,
    problem: str | PairedData,
    out: str | Path,
    seeds: Iterable[int],
    minutes: float | None = None,
    *,
    say: Callable[[str], None] | None = None,
    again: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Train `name` once from each seed, as `out`-seed0 …, and sum up in `out`.seeds.json.

    A training that fails is told in `failures` and the next one begun. A seed whose weights are there, of the
    same configuration and data, is not trained again. Returned, and written after every seed:

        scores    by seed: the validation scores of the card
        mean, spread    of each score over the seeds; spread is the standard deviation (n − 1), None for one
        failures  [{"seed": …, "error": …}]

    say : given a line for every seed
    again : train seeds that are there, too
    minutes : of each seed
    options : of `train_method`
    """
    data, out, seeds = _data(problem), Path(out), list(seeds)
    settings = {
        k: v
        for k, v in options.items()
        if k not in ("half", "callback", "log", "pictures", "fabric", "called")
    }
    half, first = options.get("half", True), Ranks(options.get("fabric")).first
    every = _command(name, options.get("called") or data.name, minutes, half, settings)
    if not seeds or len(set(seeds)) < len(seeds) or "seed" in settings:
        raise ValueError(
            f"train_seeds seeds: expected one or more different ones, and no `seed` besides; got {seeds}"
        )
    chosen = [configured(name, data, {**settings, "seed": seed}) for seed in seeds]
    scores: dict[str, dict[str, float]] = {}
    failures: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for seed, method in zip(seeds, chosen, strict=True):
        stem = out.with_name(f"{out.name}-seed{seed}")
        found = None if minutes or again else _done(stem, method, data.name, half)
        try:
            if found is None:
                train_method(name, data, stem, minutes, **options, seed=seed)
                found = dict(read_card(stem.with_suffix(".json"))["scores"])
        except (ValueError, ArithmeticError, RuntimeError) as error:
            # a full disk or a missing package is no seed's fault, and not caught
            failures.append({"seed": seed, "error": f"{type(error).__name__}: {error}"})
            line = f"seed {seed} failed: {error}"
        else:
            scores[str(seed)] = found
            line = f"seed {seed}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items())
        if say:
            say(line)
        command = f"{every} --seeds {','.join(map(str, seeds))}"
        summary = {"command": command, **_summed_up(scores), "failures": failures}
        if first:
            content = json.dumps(summary, indent=2) + "\n"
            write_bytes(out.with_name(f"{out.name}.seeds.json"), content.encode())
    return summary


def _summed_up(scores: dict[str, dict[str, float]]) -> dict[str, Any]:
    values: dict[str, list[float]] = {}
    for one in scores.values():
        for key, value in one.items():
            values.setdefault(key, []).append(value)
    return {
        "scores": scores,
        "mean": {k: statistics.fmean(v) for k, v in values.items()},
        "spread": {k: statistics.stdev(v) if len(v) > 1 else None for k, v in values.items()},
    }


def _done(stem: Path, method: Learned, data: str, half: bool) -> dict[str, float] | None:
    """The scores of the training of just this, if it is there and whole."""
    try:
        there = type(method).load(stem)
        card = read_card(stem.with_suffix(".json"))
    except (ValueError, OSError):
        return None
    same = there.config == method.config and card["training"].get("data") == data
    return dict(card["scores"]) if same and (card["weights"]["dtype"] == "float16") == half else None


def _data(problem: str | PairedData) -> PairedData:
    from .data.small import TRAINING_SETS

    if not isinstance(problem, str):
        return problem
    if problem not in TRAINING_SETS:
        raise ValueError(
            f"train_method problem: expected one of {', '.join(TRAINING_SETS)}, or pairs, got {problem!r}"
        )
    return TRAINING_SETS[problem]()


def configured(name: str, data: PairedData, changes: dict[str, Any]) -> Learned:
    """The method called `name`, by its recipe for these data and by `changes`; nothing is learned yet."""
    from .base import METHODS
    from .learned import Learned
    from .zoo.recipes import recipe

    if name not in METHODS or not issubclass(METHODS[name], Learned):
        learned = ", ".join(k for k, c in METHODS.items() if issubclass(c, Learned))
        raise ValueError(f"train_method name: expected one that learns ({learned}), got {name!r}")
    method = METHODS[name](**{**recipe(data.name, name), **changes})
    assert isinstance(method, Learned)
    return method


def _command(
    name: str, data: str | Sequence[str], minutes: float | None, half: bool, changes: dict[str, Any]
) -> str:
    """The line for a shell that trains so."""
    words = ["recon", "train", name, *(["--problem", data] if isinstance(data, str) else data)]
    words += [] if minutes is None else ["--minutes", f"{minutes:g}"]
    words += [] if half else ["--full"]
    for key, value in changes.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(as_json(value))}"]
    return shlex.join(words)
