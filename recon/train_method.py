"""A method by its name, trained on a problem and saved with its card; over several seeds, too."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from .checkpoints import beside, fingerprint, load_method, read_card, write_bytes
from .train_config import as_json
from .train_fabric import OnDevice, Ranks
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
    start: str | Path | None = None,
    **changes: Any,
) -> Learned:
    """Train the method called `name` and save it as `out`.safetensors with its card `out`.json.

    problem : its name, as "ellipses-small", or pairs
    minutes : wall-time bound; None for the configuration's steps, which is repeatable
    half : store the weights in float16
    callback : given the progress after every step
    log : folder for TensorBoard (the extra `train`), which gets one, named as `out`
    pictures : folder that gets one, named as `out`, of what becomes of the first validation images (the extra
        `report`)
    fabric : a launched Lightning Fabric, see `recon.train_fabric`
    called : the problem in the card's command, as a path to its file, or the words that name the data there;
        None: the data's name
    start : weights to go on from, a file or shipped ones as "METHOD-PROBLEM", see `Learned.fine_tune`
    changes : of the configuration: the recipe in `recon.zoo.recipes` for `data.name`, or else the paper's; of
        the one that the weights at the start were trained with

    `out`.checkpoint.safetensors is written meanwhile, resumed from if it is there, and removed at the end;
    `out`.curve.csv holds steps, seconds, losses and validation scores. If the weights cannot be written
    (disk full), the checkpoint stays: the same call goes on from it.
    """
    data = _data(problem)
    method = configured(name, data, changes, start)
    ranks = Ranks(fabric)
    out = Path(out)
    checkpoint = out.with_name(f"{out.name}.checkpoint.safetensors")
    callbacks = [callback] if callback else []
    board = TensorBoard(Path(log) / out.name) if log is not None and ranks.first else None
    if board:
        callbacks.append(board)
    if pictures is not None and ranks.first:
        seen = data.of_kind(method.data_kind)
        there = cast("PairedData", OnDevice(seen, fabric.device)) if fabric else seen
        callbacks.append(Pictures(Path(pictures) / out.name, method, there))
    latest = [Progress()]

    def told(progress: Progress) -> None:
        latest[0] = progress
        for one in callbacks:
            one(progress)

    method.fabric = fabric
    learn = method.fit if start is None else method.fine_tune
    try:
        learn(data.of_kind(method.data_kind), minutes=minutes, checkpoint=checkpoint, callback=told)
    finally:
        method.fabric = None
        if board:
            board.close(latest[0])
    method.record["command"] = _command(name, called or data.name, minutes, half, changes, start)
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
        if k not in ("half", "callback", "log", "pictures", "fabric", "called", "start")
    }
    start = options.get("start")
    half, first = options.get("half", True), Ranks(options.get("fabric")).first
    every = _command(name, options.get("called") or data.name, minutes, half, settings, start)
    if not seeds or len(set(seeds)) < len(seeds) or "seed" in settings:
        raise ValueError(
            f"train_seeds seeds: expected one or more different ones, and no `seed` besides; got {seeds}"
        )
    chosen = [configured(name, data, {**settings, "seed": seed}, start) for seed in seeds]
    scores: dict[str, dict[str, float]] = {}
    failures: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for seed, method in zip(seeds, chosen, strict=True):
        stem = out.with_name(f"{out.name}-seed{seed}")
        found = None if minutes or again else _done(stem, method, data, half)
        try:
            if found is None:
                train_method(name, data, stem, minutes, **options, seed=seed)
                found = dict(read_card(beside(stem, ".json"))["scores"])
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


def _done(stem: Path, method: Learned, data: PairedData, half: bool) -> dict[str, float] | None:
    """The scores of the training of just this, if it is there and whole."""
    from .learned import described
    from .trained_for import words

    try:
        there = type(method).load(stem)
        card = read_card(beside(stem, ".json"))
    except (ValueError, OSError):
        return None
    known = {"data": data.name, "images": as_json(described(data.of_kind(method.data_kind)))}
    same = there.config == method.config and {k: there.record.get(k) for k in known} == known
    same = same and there.trained_for is not None and there.trained_for.hash == fingerprint(words(data.A))
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


def configured(
    name: str, data: PairedData, changes: dict[str, Any], start: str | Path | None = None
) -> Learned:
    """The method called `name`: by its recipe for these data, or as learned at the `start`; changed."""
    from .base import METHODS
    from .learned import Learned
    from .zoo.recipes import recipe

    if name not in METHODS or not issubclass(METHODS[name], Learned):
        learned = ", ".join(k for k, c in METHODS.items() if issubclass(c, Learned))
        raise ValueError(f"train_method name: expected one that learns ({learned}), got {name!r}")
    if start is None:
        method = METHODS[name](**{**recipe(data.name, name), **changes})
        assert isinstance(method, Learned)
        return method
    method = load_method(start)
    if type(method) is not METHODS[name]:
        raise ValueError(f"train_method start: expected weights of {name}, {start} holds {method.name}")
    return method.changed(changes)


def _command(
    name: str,
    data: str | Sequence[str],
    minutes: float | None,
    half: bool,
    changes: dict[str, Any],
    start: str | Path | None,
) -> str:
    """The line for a shell that trains so."""
    line = ["recon", "train", name, *(["--problem", data] if isinstance(data, str) else data)]
    line += [] if start is None else ["--from", str(start)]
    line += [] if minutes is None else ["--minutes", f"{minutes:g}"]
    line += [] if half else ["--full"]
    for key, value in changes.items():
        line += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(as_json(value))}"]
    return shlex.join(line)
