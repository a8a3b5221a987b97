"""`recon list`: problems and methods there are."""

from __future__ import annotations

import click


@click.command("list")
def listing() -> None:
    """Problems and methods that can be named."""
    from ..comparison.method import load_methods, method_names
    from ..comparison.parameters import parameter_file
    from ..comparison.task import problem as load_task
    from ..comparison.task import task_names

    click.echo("problems")
    for name in task_names():
        task = load_task(name)
        tuned = "tuned" if parameter_file(name).exists() else "not tuned"
        click.echo(f"  {name:<28}{task.title or ''} ({tuned})")
    click.echo("\nmethods")
    names = list(method_names())
    for name, method in load_methods(names).items():
        facts = ["weights shipped" if method.pretrained else "", *(f"tunes {key}" for key in method.space)]
        said = ", ".join(filter(None, facts))
        click.echo(f"  {name:<28}{method.title}{f' ({said})' if said else ''}")
