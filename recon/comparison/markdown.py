"""The tables of a results folder in Markdown, to paste into a page."""

from __future__ import annotations

from .digestion import Results
from .scores import decimals, label


def markdown_of(results: Results) -> str:
    """One table per problem: mean ± standard deviation, n, seconds."""
    return "\n".join(_table(results, problem) for problem in results.problems)


def _table(results: Results, problem: str) -> str:
    about = results.problems[problem]
    metrics, methods = about["metrics"], results.methods(problem)
    lines = [
        f"**{about['title']}** (`{problem}`)",
        "",
        f"| method | n | {' | '.join(label(m) for m in metrics)} | seconds |",
        f"|---|--:|{'--:|' * len(metrics)}--:|",
    ]
    for method in methods:
        found = {metric: results.summary(problem, method, metric) for metric in metrics}
        cells = []
        for metric, s in found.items():
            digits = decimals(metric)
            spread = "" if s.sd is None else f" ± {s.sd:.{digits}f}"
            cells.append("–" if s.mean is None else f"{s.mean:.{digits}f}{spread}")
        seconds = results.costs(problem, method)["seconds"]
        time = "–" if seconds is None else f"{seconds:.3g}"
        lines.append(f"| {method} | {found[metrics[0]].n} | {' | '.join(cells)} | {time} |")
    notes = sorted({results.summary(problem, method, metrics[0]).note for method in methods})
    over = results.summary(problem, methods[0], metrics[0]).over
    return "\n".join([*lines, "", f"Mean ± standard deviation over {over}; {'; '.join(notes)}.", ""])
