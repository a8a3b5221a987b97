"""From a results folder to tables (CSV, JSON), figures (PNG) and one self-contained page (HTML)."""

from __future__ import annotations

import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .digestion import Results, summary_of
from .files import write_json, write_text
from .markdown import markdown_of
from .rows import write_csv
from .runner import WARM_UP_LIMIT
from .sections import problem_section

TEMPLATES = Path(__file__).parent / "templates"


class MissingExtraError(RuntimeError):
    """The packages that draw the report are not installed."""


def write_tables(folder: Path) -> list[Path]:
    """rows.csv, summary.json and summary.md, from rows.jsonl, problems/ and groups/."""
    results = Results.read(folder)
    write_csv(folder / "rows.csv", results.rows)
    write_json(folder / "summary.json", summary_of(results))
    write_text(folder / "summary.md", markdown_of(results))
    return [folder / name for name in ("rows.csv", "summary.json", "summary.md")]


def write_report(folder: Path) -> Path:
    """report.html and panels/*.png; MissingExtraError without matplotlib and jinja2."""
    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{' and '.join(missing)} not installed, so no report.html: pip install 'hybrid-recon[report]', "
            f"then `recon report {folder}`; rows.csv and summary.json are written"
        )
    import jinja2

    results = Results.read(folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "rows": len(results.rows),
        "failures": [row for row in results.rows if row.failure],
        "problems": [problem_section(results, name) for name in results.problems],
        "environments": results.environments(),
        "warm_up_limit": f"{WARM_UP_LIMIT:g}",
    }
    page = environment.get_template("report.html").render(context)
    write_text(folder / "report.html", page)
    return folder / "report.html"
