"""`recon report`: tables and report of a results folder, written anew."""

from __future__ import annotations

from pathlib import Path

import click

from .compare import finish
from .errors import usage


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> None:
    """Write rows.csv, summary.json, panels and report.html of FOLDER anew, from its rows and images."""
    from ..comparison.files import check_writable

    with usage():
        check_writable(folder)
    finish(folder)
