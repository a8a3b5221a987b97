"""`recon train`: a learned method on the training data of a problem."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .errors import say, usage

if TYPE_CHECKING:
    from ..training import Progress


@click.command()
@click.argument("method")
@click.option("--problem", metavar="NAME|FILE.py", help="The problem whose training data it learns from.")
@click.option(
    "--paired",
    nargs=2,
    metavar="A B",
    type=click.Path(path_type=Path),
    help="Instead: folders of input and target images with equal names.",
)
@click.option(
    "--unpaired",
    nargs=2,
    metavar="A B",
    type=click.Path(path_type=Path),
    help="Instead: folders of images of two kinds that do not belong together.",
)
@click.option(
    "--listed",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Instead: a text file with an input and a target in every row, separated by tabs or commas.",
)
@click.option(
    "--data",
    "about",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of images in files: window=-1000,2000 crop=[64,64] stack=3 validation=0.2 rotate=10 …",
)
@click.option(
    "--from",
    "start",
    metavar="WEIGHTS",
    help="Go on from these, a file or shipped ones as METHOD-PROBLEM, instead of from the first weights.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("weights"),
    show_default=True,
    help="Folder of the weights and their card.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Of the optimiser; short for --set steps=N.")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after so long; else after its steps."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the method's configuration, value as in JSON; may be repeated.",
)
@click.option(
    "--seeds", metavar="0,1,2", help="Train from each of these; failed ones are told, and summed up."
)
@click.option(
    "--half/--full", default=True, show_default=True, help="Store weights in float16 or in float32."
)
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Go on from the checkpoint in --out, if any, and leave out seeds that are there.",
)
@click.option(
    "--pictures",
    type=click.Path(path_type=Path),
    help="Folder of what becomes of the first validation images, at every validation (extra `report`).",
)
@click.option("--tensorboard", type=click.Path(path_type=Path), help="Folder of its events (extra `train`).")
@click.option(
    "--fabric",
    "devices",
    is_flag=True,
    help="On the GPU, or all that torchrun or SLURM gives, by Lightning Fabric (extra `train`).",
)
def train(
    method: str,
    problem: str | None,
    paired: tuple[Path, Path] | None,
    unpaired: tuple[Path, Path] | None,
    listed: Path | None,
    about: tuple[str, ...],
    start: str | None,
    out: Path,
    steps: int | None,
    minutes: float | None,
    settings: tuple[str, ...],
    seeds: str | None,
    half: bool,
    resume: bool,
    pictures: Path | None,
    tensorboard: Path | None,
    devices: bool,
) -> None:
    """Train METHOD and write OUT/METHOD-PROBLEM.safetensors with its JSON card and its .curve.csv.

    An interrupted training goes on from its checkpoint; `recon compare --weights OUT` uses the result. On
    several GPUs: torchrun --nproc-per-node 4 --no-python recon train METHOD --problem P --fabric

    Of --paired or --unpaired images PROBLEM is "a-to-b", by the names of the folders, of --listed ones the
    name of the file; `recon translate` uses the result.
    """
    from ..base import METHODS
    from ..comparison.discovery import unknown
    from ..comparison.files import check_writable
    from ..train_fabric import Ranks, launched
    from ..train_method import configured, train_method, train_seeds

    with usage():
        if method not in METHODS:
            raise unknown("method", method, METHODS)
        if METHODS[method].data_kind is None:
            raise ValueError(f"{method} has nothing to learn")
        changes = _settings(settings, steps)
        numbers = _numbers(seeds)
        check_writable(out)
        data, name, called = _data(problem, paired, unpaired, listed, about)
        data.of_kind(METHODS[method].data_kind)  # images that are no pairs are an error now
        configured(method, data, changes, start)
    fabric = launched() if devices else None
    first = Ranks(fabric).first
    stem = out / f"{method}-{name}"
    if not resume and first:
        # of this training, and not of a problem whose name only begins so
        ours = re.compile(rf"{re.escape(stem.name)}(-seed\d+)?\.checkpoint\.safetensors")
        for old in out.glob("*.checkpoint.safetensors"):
            if ours.fullmatch(old.name):
                old.unlink()
    Ranks(fabric).wait()
    bar = _Bar(stem.name)
    options = {
        "half": half,
        "callback": bar,
        "fabric": fabric,
        "log": tensorboard,
        "pictures": pictures,
        "called": called,
        "start": start,
        **changes,
    }
    try:
        if numbers is None:
            train_method(method, data, stem, minutes, **options)
        else:
            summary = train_seeds(method, data, stem, numbers, minutes, say=say, again=not resume, **options)
    finally:
        bar.close()
    if not first:
        return
    if numbers is None:
        say(f"trained {stem.name}")
        click.echo(f"weights: {stem}.safetensors")
        return
    for key, mean in summary["mean"].items():
        spread = summary["spread"][key]
        click.echo(f"{key}: {mean:.4g}" + ("" if spread is None else f" ± {spread:.2g}"))
    click.echo(f"summary: {stem}.seeds.json")
    failed = len(summary["failures"])
    if failed:
        raise click.ClickException(f"{failed} of {len(numbers)} seeds failed; the summary says why")


def _data(
    problem: str | None,
    paired: tuple[Path, Path] | None,
    unpaired: tuple[Path, Path] | None,
    listed: Path | None,
    about: tuple[str, ...],
) -> tuple[Any, str, str | tuple[str, ...]]:
    """What is learned from, its name, and the words of the command that say so."""
    if sum(bool(way) for way in (problem, paired, unpaired, listed)) != 1:
        raise ValueError("expected exactly one of --problem, --paired, --unpaired and --listed")
    if problem is None:
        from ..data.translation.options import images_from, images_listed

        given = _pieces(about, "--data")
        options = [word for text in about for word in ("--data", text)]
        if listed:
            pairs = images_listed(listed, given)
            return pairs, pairs.name, ("--listed", str(listed), *options)
        kind: Literal["paired", "unpaired"] = "paired" if paired else "unpaired"
        folders = paired or unpaired
        assert folders
        images = images_from(kind, *folders, given)
        return images, images.name, (f"--{kind}", *map(str, folders), *options)
    from ..comparison.task import problem as load_task

    if about:
        raise ValueError("--data is of images in files; a problem has its own")
    task = load_task(problem)
    if task.data is None:
        raise ValueError(f"problem {task.name} has no training data (its Task has no `data`)")
    return task.data("paired"), task.name, problem


PYTHON = {"True": "true", "False": "false", "None": "null"}


class _Bar:
    """A bar of steps, made anew for every training."""

    def __init__(self, name: str):
        self.name = name
        self.bar: Any = None

    def __call__(self, progress: Progress) -> None:
        from tqdm import tqdm

        if self.bar is None or progress.step < self.bar.n:
            self.close()
            self.bar = tqdm(desc=self.name, unit="step", disable=None, total=progress.steps)
        self.bar.update(progress.step - self.bar.n)
        self.bar.set_postfix_str(f"loss {progress.losses[-1]:.4g}", refresh=False)

    def close(self) -> None:
        """End the bar, if there is one."""
        if self.bar is not None:
            self.bar.close()


def _settings(given: tuple[str, ...], steps: int | None) -> dict[str, Any]:
    """Settings from KEY=VALUE; lists become tuples."""
    settings: dict[str, Any] = {} if steps is None else {"steps": steps}
    found = _pieces(given, "--set")
    if both := set(settings) & set(found):
        raise ValueError(f"--set {both.pop()}=…: steps is set twice")
    return settings | {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}


def _pieces(given: tuple[str, ...], option: str) -> dict[str, Any]:
    """Values by key from KEY=VALUE: JSON where it is JSON, or a Python constant, else text."""
    pieces: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            example = "--set hidden=32" if option == "--set" else "--data stack=3"
            raise ValueError(f"{option} {text}: expected KEY=VALUE, as in {example}")
        if key in pieces:
            raise ValueError(f"{option} {text}: {key} is set twice")
        try:
            pieces[key] = json.loads(PYTHON.get(value, value))
        except json.JSONDecodeError:
            pieces[key] = value
    return pieces


def _numbers(seeds: str | None) -> list[int] | None:
    if seeds is None:
        return None
    words = [word.strip() for word in seeds.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words) or len(set(words)) < len(words):
        raise ValueError(f"--seeds {seeds}: expected different whole numbers, as in 0,1,2")
    return [int(word) for word in words]
