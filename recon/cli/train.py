"""`recon train`: a learned method on the training data of a problem."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import say, usage

if TYPE_CHECKING:
    from ..training import Progress


@click.command()
@click.argument("method")
@click.option(
    "--problem", required=True, metavar="NAME|FILE.py", help="The problem whose training data it learns from."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("weights"),
    show_default=True,
    help="Folder of the weights and their card.",
)
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after so long; else after its steps."
)
@click.option(
    "--resume/--fresh", default=True, show_default=True, help="Go on from the checkpoint in --out, if any."
)
def train(method: str, problem: str, out: Path, minutes: float | None, resume: bool) -> None:
    """Train METHOD and write OUT/METHOD-PROBLEM.safetensors with its JSON card.

    An interrupted training goes on from its checkpoint; `recon compare --weights OUT` uses the result.
    """
    from tqdm import tqdm

    from ..base import METHODS
    from ..comparison.discovery import unknown
    from ..comparison.files import check_writable
    from ..comparison.task import problem as load_task
    from ..training import train_method

    with usage():
        if method not in METHODS:
            raise unknown("method", method, METHODS)
        task, kind = load_task(problem), METHODS[method].data_kind
        if kind is None:
            raise ValueError(f"{method} has nothing to learn")
        if task.data is None:
            raise ValueError(f"problem {task.name} has no training data (its Task has no `data`)")
        check_writable(out)
    stem = out / f"{method}-{task.name}"
    checkpoint = out / f"{stem.name}.checkpoint.safetensors"
    if not resume:
        checkpoint.unlink(missing_ok=True)
    with tqdm(desc=stem.name, unit="step", disable=None) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.steps
            bar.update(progress.step - bar.n)
            if progress.losses:
                bar.set_postfix_str(f"loss {progress.losses[-1]:.4g}", refresh=False)

        train_method(method, task.data("paired"), stem, minutes, callback=show)
    say(f"trained {stem.name}")
    click.echo(f"weights: {stem}.safetensors")
