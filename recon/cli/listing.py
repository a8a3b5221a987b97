"""`recon list`: problems and methods there are."""

from __future__ import annotations

import click


@click.command("list")
def listing() -> None:
    """Problems and methods that can be named."""
    from ..checkpoints import shipped
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
    width = max(map(len, names)) + 2
    for name, method in load_methods(names).items():
        facts = [f"tunes {key}" for key in method.space]
        if method.pretrained:
            there = ", ".join(shipped(getattr(method.make, "name", "")))
            facts.insert(0, f"weights for {there}" if there else "to be trained")
        said = f" ({', '.join(facts)})" if facts else ""
        click.echo(f"  {name:<{width}}{method.title}{said}")
