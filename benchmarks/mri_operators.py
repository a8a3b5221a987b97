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

# part, the cases it is about, the promise, who it is measured against, the least of their time over ours
TARGETS: tuple[tuple[str, str, str, Callable[[str], bool], float], ...] = (
    ("mri_sense", "15 × 320²", "faster than every peer", lambda who: _kind(who) == "peer", 1.4),
    ("mri_sense", "15 × 320²", "near the bare FFT", lambda who: _kind(who) == "bare", 1 / 2.5),
    ("mri_nufft", "256²", "near a bare finufft plan", lambda who: _kind(who) == "bare", 1 / 1.2),
    ("mri_nufft", "256²", "faster than torchkbnufft", lambda who: who.startswith("torchkbnufft"), 10.0),
    ("mri_prox", "", "faster than the plain torch form", lambda who: _kind(who) == "plain", 5.0),
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


def verdicts(rows: list[Row], quick: bool) -> list[dict[str, Any]]:
    """Their time over ours for every target and group, and whether it is enough; quick: on all cases."""
    found = []
    for part, about, promise, against, bound in TARGETS:
        for (name, section, case, what), members in groups(rows).items():
            if name != part or not (quick or case.startswith(about)):
                continue
            for ours, theirs in matches(members, against):
                ratio = theirs["ms"] / ours["ms"]
                found.append(
                    {
                        "promise": f"{promise} (≥ {bound:.2f}×)",
                        "where": f"{section}, {case}, {what}",
                        "ours": ours["who"],
                        "against": theirs["who"],
                        "ratio": ratio,
                        "met": ratio >= bound,
                    }
                )
    return found


def matches(rows: list[Row], against: Callable[[str], bool]) -> list[tuple[Row, Row]]:
    """Our fastest row and the fastest of theirs; where both name tolerances, one match for each of these."""
    tolerances = [_tolerance(row["who"]) for row in rows if against(row["who"])]
    found = []
    for tolerance in dict.fromkeys(tolerances):
        # a name without a number is of the tolerance that the case states
        same = rows if tolerance is None else [r for r in rows if _tolerance(r["who"]) in (tolerance, None)]
        ours, theirs = fastest(same, lambda who: _kind(who) == "ours"), fastest(same, against)
        if ours is not None and theirs is not None:
            found.append((ours, theirs))
    return found


def _tolerance(who: str) -> float | None:
    """The number that a name ends in."""
    try:
        return float(who.split()[-1])
    except ValueError:
        return None


def report(rows: list[Row], quick: bool) -> str:
    """Markdown: a table per section, then what was promised and whether it holds."""
    lines = [f"# MRI operators\n\n{_machine()}\n"]
    for section in dict.fromkeys(row["section"] for row in rows):
        lines += [
            f"## {section}\n",
            "| case | step | who | ms | × bare | peer ÷ this | error |",
            "|" + "---|" * 7,
        ]
        for (_, _, case, what), members in groups([r for r in rows if r["section"] == section]).items():
            bare = fastest(members, lambda who: _kind(who) == "bare")
            peer = fastest(members, lambda who: _kind(who) == "peer")
            for row in members:
                over = _ratio(row, bare) if bare is not row else "1"
                under = _ratio(peer, row) if _kind(row["who"]) == "ours" else ""
                ms = "–" if row["ms"] is None else f"{row['ms']:.3g}"
                error = "" if row["error"] is None else f"{row['error']:.1e}"
                lines.append(f"| {case} | {what} | {row['who']} | {ms} | {over} | {under} | {error} |")
        lines.append("")
    lines.append("## Targets" + (", set for the full cases, not for these" if quick else "") + "\n")
    lines += ["| target | where | who | against | theirs ÷ ours | |", "|" + "---|" * 6]
    for v in verdicts(rows, quick):
        met = "met" if v["met"] else "**missed**"
        cells = (v["promise"], v["where"], v["ours"], v["against"], f"{v['ratio']:.2f}", met)
        lines.append("| " + " | ".join(cells) + " |")
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
    text = report(rows, arguments.quick)
    print(text)
    if not arguments.quick:
        (RESULTS / "mri_operators.md").write_text(text)
        written = {"machine": _machine(), "rows": rows, "verdicts": verdicts(rows, False)}
        (RESULTS / "mri_operators.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
