"""`recon compare`: every method on every problem."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .errors import say, usage

if TYPE_CHECKING:
    from ..comparison.method import Method
    from ..comparison.runner import Run
    from ..comparison.task import Task

DEMO = ("head-lowdose", "ellipses-small")


@click.command()
@click.option(
    "--problem",
    "problems",
    multiple=True,
    metavar="NAME|FILE.py",
    help=f"A problem; may be repeated. Default: {', '.join(DEMO)}.",
)
@click.option(
    "--methods", metavar="NAME,FILE.py,…", help="Methods, by name or file. Default: those of the problem."
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of scans, for problems that take one (mri-4x, …); they come without as well.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder of rows, images and report.",
)
@click.option(
    "--tune", is_flag=True, help="Search parameters on the validation images first, and store them."
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Trials of --tune, the same for every method.",
)
@click.option("--images", type=click.IntRange(min=1), help="At most so many test images of each problem.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the search of --tune.")
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds one call may take.")
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Keep the rows that --out has already, or compute all anew.",
)
@click.option(
    "--memory/--no-memory",
    default=True,
    show_default=True,
    help="Measure peak memory, each method in a fresh process.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of `recon train`: its weights, of several seeds the first, instead of those shipped.",
)
@click.option(
    "--train-minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Train methods that have no weights, each so long, and keep them in --out.",
)
def compare(
    problems: Sequence[str],
    methods: str | None,
    data: Path | None,
    out: Path,
    tune: bool,
    trials: int,
    images: int | None,
    seed: int,
    timeout: float,
    resume: bool,
    memory: bool,
    weights: Path | None,
    train_minutes: float | None,
) -> None:
    """Every method on every test image of every problem, and a report.

    Writes one row per problem, method and image to OUT/rows.jsonl as it goes; started again after an
    interruption, it goes on where it was. At the end rows.csv, summary.json, panels/*.png, report.html.
    """
    from ..comparison.files import check_writable
    from ..comparison.method import load_methods
    from ..comparison.task import problem as load_task

    with usage():
        tasks = {spec: load_task(spec, data) for spec in problems or DEMO}
        chosen = [name.strip() for name in methods.split(",") if name.strip()] if methods else None
        plans = [(spec, task, load_methods(chosen or task.methods)) for spec, task in tasks.items()]
        for spec, _, found in plans:
            if not found:
                raise ValueError(f"problem {spec}: no methods; say --methods, or list some in task().methods")
        check_writable(out)
    if not resume:
        _clear(out)
    failures = 0
    for spec, task, found in plans:
        if tune:
            _tune(_parameter_file(spec, task, data), task, found, trials, seed, timeout)
        runs = _runs(_parameter_file(spec, task, data), task, found, weights, train_minutes)
        failed, worked = _rows(runs, out, images, timeout)
        failures += failed
        if memory:
            _memory(
                spec, chosen or list(task.methods), [run for run in runs if run.name in worked], out, data
            )
    finish(out)
    if failures:
        say(f"{failures} failed: see the reasons in the report and in {out / 'rows.csv'}")
        raise click.exceptions.Exit(1)


def finish(out: Path) -> None:
    """Tables, and the report if what draws it is installed; its path is the last line of stdout."""
    from ..comparison.report import MissingExtraError, write_report, write_tables

    tables = write_tables(out)
    click.echo((out / "summary.md").read_text(encoding="utf-8"))
    try:
        click.echo(f"report: {write_report(out)}")
    except MissingExtraError as error:
        say(str(error))
        click.echo(f"rows: {tables[0]}")


def _parameter_file(spec: str, task: Task, data: Path | None) -> Path:
    from ..comparison.parameters import parameter_file

    return parameter_file(spec, None if data is None else task.name)


def _runs(
    path: Path, task: Task, methods: dict[str, Method], weights: Path | None, minutes: float | None
) -> list[Run]:
    from ..comparison.parameters import Parameters
    from ..comparison.runner import Run

    tuned = Parameters(task, path)
    runs = []
    for name, method in methods.items():
        parameters, origin = tuned.of(name, method)
        trained = _trained(weights, f"{name}-{task.name}") if weights and method.pretrained else None
        runs.append(Run(task, name, method, parameters, origin, tuned.methods.get(name), trained, minutes))
    return runs


def _trained(folder: Path, stem: str) -> Path | None:
    """Weights of `recon train` in a folder: the one training, or the first of several seeds, if any."""
    seeds = [f for f in folder.glob(f"{stem}-seed*.safetensors") if f.stem.rpartition("-seed")[2].isdigit()]
    seeds.sort(key=lambda f: int(f.stem.rpartition("-seed")[2]))
    return next((f for f in (folder / f"{stem}.safetensors", *seeds) if f.exists()), None)


def _tune(path: Path, task: Task, methods: dict[str, Method], trials: int, seed: int, timeout: float) -> None:
    from tqdm import tqdm

    from ..comparison.files import check_writable
    from ..comparison.parameters import Parameters
    from ..comparison.tuning import tune

    check_writable(path.parent)
    pairs = task.images("validation")
    store = Parameters(task, path)
    for name, method in methods.items():
        if not method.space:
            continue
        if method.pretrained and not method.shipped(task.name):
            say(f"not tuned {task.name} {name}: no weights are shipped to be tuned with")
            continue
        few = pairs[: task.counts.get(name)]
        search = tune(task, method, few, trials, seed, timeout)
        with tqdm(total=trials, desc=f"tune {task.name} {name}", disable=None, leave=False) as bar:
            while True:
                try:
                    trial = next(search)
                except StopIteration as end:
                    tuned = end.value
                    break
                bar.update()
                bar.set_postfix_str(f"{task.metrics[0]} {trial.score}")
        store.put(name, method, tuned, len(few), seed)
        remarks = [f"{key} beyond the stated range" for key in tuned.widened]
        remarks += [f"{key} at the last value allowed" for key in tuned.bound]
        remarks += [f"{key} still at the edge of what was tried" for key in tuned.edge]
        said = "; ".join([f"{task.metrics[0]} {tuned.score:.4g}", f"{tuned.seconds:.0f} s", *remarks])
        say(f"tuned {task.name} {name}: {tuned.parameters} ({said})")
    say(f"parameters: {path}")


def _rows(runs: Sequence[Run], out: Path, images: int | None, timeout: float) -> tuple[int, set[str]]:
    """Compute, with a bar on a terminal, else a line per method; failures, and methods that worked."""
    from tqdm import tqdm

    from ..comparison.runner import compare as rows_of

    task = runs[0].task
    available = len(task.images("test", images))
    total = sum(min(available, task.counts.get(run.name, available)) for run in runs)
    failed: dict[str, int] = {}
    seen: list[str] = []
    worked: set[str] = set()
    with tqdm(total=total, desc=task.name, unit="image", disable=None) as bar:
        for row in rows_of(runs, out, images=images, timeout=timeout):
            if row.method not in seen:
                seen.append(row.method)
                if bar.disable:
                    say(f"{task.name}: {row.method}")
            bar.update()
            bar.set_postfix_str(row.method)
            if not row.failure:
                worked.add(row.method)
            else:
                failed[row.method] = failed.get(row.method, 0) + 1
                if failed[row.method] == 1:
                    bar.write(f"{task.name} {row.method}, image {row.image}: {row.failure}", file=_stderr())
    return sum(failed.values()), worked


def _memory(
    spec: str, method_specs: Sequence[str], runs: Sequence[Run], out: Path, data: Path | None
) -> None:
    from tqdm import tqdm

    from ..comparison.memory import peaks
    from ..comparison.runner import peak_of, record_peak

    todo = [run for run in runs if peak_of(out, run) is None]
    if not todo:
        return
    problem = runs[0].task.images("test", 1)[0][0]
    found = peaks(todo, problem, spec, method_specs, out, data)
    for run, peak in tqdm(found, total=len(todo), desc="peak memory", unit="method", disable=None):
        record_peak(out, run, peak)


def _clear(out: Path) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    for name in ("rows.jsonl", "rows.csv", "summary.json", "summary.md", "report.html"):
        (out / name).unlink(missing_ok=True)
    for name in ("problems", "groups", "images", "panels", "weights"):
        shutil.rmtree(out / name, ignore_errors=True)


def _stderr() -> object:
    import sys

    return sys.stderr
