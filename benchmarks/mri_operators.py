"""MRI operators and proximal steps against their peers, in one run: SENSE, non-uniform FFT, TV and wavelets.

    python benchmarks/mri_operators.py            # minutes; writes results/mri_operators.md and .json
    python benchmarks/mri_operators.py --quick    # small cases, seconds, nothing written
    python benchmarks/mri_operators.py --parts mri_sense,mri_prox

Every part in parts/ has `rows(quick) -> list[dict]` with the keys

    section, case, what   the table, the problem ("15 × 320²"), the step ("A", "A*")
    who                   "ours …", "bare …" (the library call none can beat), "plain …" (unfused), or a peer
    ms                    median, None where the peer is not installed
    error                 relative, against the reference that the part states; None where there is none
"""

import argparse
import importlib
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
PARTS = ("mri_sense", "mri_nufft", "mri_prox")
PACKAGES = ("torch", "numpy", "sigpy", "mrpro", "deepinv", "finufft", "torchkbnufft", "mri-nufft")
Row = dict[str, Any]

# part, what is promised, who it is measured against, the least that their time over ours must be
TARGETS: tuple[tuple[str, str, Callable[[str], bool], float], ...] = (
    ("mri_sense", "faster than every peer", lambda who: _kind(who) == "peer", 1.4),
    ("mri_sense", "near the bare FFT", lambda who: who.startswith("bare"), 1 / 2.5),
    ("mri_nufft", "near a bare finufft plan", lambda who: who.startswith("bare"), 1 / 1.2),
    ("mri_nufft", "faster than torchkbnufft", lambda who: who.startswith("torchkbnufft"), 10.0),
    ("mri_prox", "faster than the plain torch form", lambda who: who.startswith("plain"), 5.0),
)


def _kind(who: str) -> str:
    return next((kind for kind in ("ours", "bare", "plain") if who.startswith(kind)), "peer")


def collect(names: list[str], quick: bool) -> list[Row]:
    """The rows of every part that is there, each with the name of its part."""
    rows: list[Row] = []
    for name in names:
        if not (Path(__file__).parent / "parts" / f"{name}.py").is_file():
            print(f"{name}: not there, left out")
            continue
        part = importlib.import_module(f"parts.{name}")
        rows += [{"part": name, **row} for row in part.rows(quick)]
    return rows


def groups(rows: list[Row]) -> dict[tuple[str, str, str, str], list[Row]]:
    """Rows that did the same work: same part, section, case and step."""
    found: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["part"], row["section"], row["case"], row["what"]), []).append(row)
    return found


def fastest(rows: list[Row], wanted: Callable[[str], bool]) -> Row | None:
    """The fastest row by somebody who is `wanted`."""
    timed = [row for row in rows if row["ms"] is not None and wanted(row["who"])]
    return min(timed, key=lambda row: row["ms"], default=None)


def verdicts(rows: list[Row]) -> list[dict[str, Any]]:
    """For every target and group: their time over that of our fastest row, and whether it is enough."""
    found = []
    for part, promise, against, bound in TARGETS:
        for (name, section, case, what), members in groups(rows).items():
            ours = fastest(members, lambda who: who.startswith("ours"))
            theirs = fastest(members, against)
            if name != part or ours is None or theirs is None:
                continue
            ratio = theirs["ms"] / ours["ms"]
            found.append(
                {
                    "promise": f"{promise} (≥ {bound:.2f}×)",
                    "where": f"{section}, {case}, {what}",
                    "against": theirs["who"],
                    "ratio": ratio,
                    "met": ratio >= bound,
                }
            )
    return found


def report(rows: list[Row]) -> str:
    """Markdown: a table per section, then what was promised and whether it holds."""
    lines = [f"# MRI operators\n\n{_machine()}\n"]
    for section in dict.fromkeys(row["section"] for row in rows):
        lines += [
            f"## {section}\n",
            "| case | step | who | ms | × bare | peer ÷ this | error |",
            "|" + "---|" * 7,
        ]
        for (_, _, case, what), members in groups([r for r in rows if r["section"] == section]).items():
            bare = fastest(members, lambda who: who.startswith("bare"))
            peer = fastest(members, lambda who: _kind(who) == "peer")
            for row in members:
                over = _ratio(row, bare) if bare is not row else "1"
                under = _ratio(peer, row) if _kind(row["who"]) == "ours" else ""
                ms = "–" if row["ms"] is None else f"{row['ms']:.3g}"
                error = "" if row["error"] is None else f"{row['error']:.1e}"
                lines.append(f"| {case} | {what} | {row['who']} | {ms} | {over} | {under} | {error} |")
        lines.append("")
    lines += ["## Targets\n", "| target | where | against | theirs ÷ ours | |", "|" + "---|" * 5]
    for v in verdicts(rows):
        met = "met" if v["met"] else "**missed**"
        lines.append(f"| {v['promise']} | {v['where']} | {v['against']} | {v['ratio']:.2f} | {met} |")
    return "\n".join(lines) + "\n"


def _ratio(above: Row | None, below: Row | None) -> str:
    if above is None or below is None or above["ms"] is None or below["ms"] is None:
        return ""
    return f"{above['ms'] / below['ms']:.2f}"


def _machine() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} –")
    cores = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    return f"{platform.machine()}, {cores}, Python {platform.python_version()}, {', '.join(found)}."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    arguments = parser.parse_args()
    names = arguments.parts.split(",")
    unknown = set(names) - set(PARTS)
    if unknown:
        parser.error(f"--parts: expected some of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")

    rows = collect(names, arguments.quick)
    text = report(rows)
    print(text)
    if not arguments.quick:
        (RESULTS / "mri_operators.md").write_text(text)
        written = {"machine": _machine(), "rows": rows, "verdicts": verdicts(rows)}
        (RESULTS / "mri_operators.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
