"""Errors of the user's making are one line, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


class Group(click.Group):
    """Turns ValueError, OSError and the like into one line, unless --debug is given."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, FloatingPointError, ImportError) as error:
            if ctx.params.get("debug"):
                raise
            text = " ".join(str(error).split())
            raise click.ClickException(text or type(error).__name__) from error


@contextmanager
def usage() -> Iterator[None]:
    """What is wrong here was asked for wrongly: exit code 2."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def say(text: str) -> None:
    """A line on stderr, where progress goes."""
    click.echo(text, err=True)
