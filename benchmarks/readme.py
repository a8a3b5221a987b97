"""Writes what the benchmarks measured into README.md, between its markers; no number there is typed by hand.

    python benchmarks/readme.py                   # rewrite README.md
    python benchmarks/readme.py --demo results    # take the table of a `make demo` first
    python benchmarks/readme.py --mri results     # take the tables of `recon compare --problem mri-4x …`
    python benchmarks/readme.py --check           # exit 1 if it is out of date

A marker pair `<!-- begin NAME -->` … `<!-- end NAME -->` takes benchmarks/results/NAME.md; `<!-- begin NAME
"words" -->` only the paragraph that begins with these words, and the table after it; or, where the words are
a heading with its ##, what stands under it.
"""

import argparse
import re
import sys
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def filled(text: str) -> str:
    """`text` with every block replaced by its result file."""

    def block(match: re.Match[str]) -> str:
        name, words = match["name"], match["words"]
        found = (RESULTS / f"{name}.md").read_text().strip()
        if words:
            paragraphs = found[found.index(words) :].split("\n\n")
            if words.startswith("##"):
                paragraphs = list(takewhile(lambda p: not p.startswith("#"), paragraphs[1:]))
            else:
                paragraphs = paragraphs[:2]
            found = "\n\n".join(paragraphs).strip()
        return f"{match['begin']}\n{found}\n<!-- end {name} -->"

    pattern = r'(?P<begin><!-- begin (?P<name>[\w-]+)(?: "(?P<words>[^"]+)")? -->).*?<!-- end (?P=name) -->'
    return re.sub(pattern, block, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--demo", type=Path, help="results folder of `make demo`")
    parser.add_argument("--mri", type=Path, help="results folder of the problems mri-4x, mri-8x, mri-radial")
    parser.add_argument("--mri-scans", type=Path, help="the same with --data: of real slices")
    options = parser.parse_args()
    folders = {"demo": options.demo, "mri": options.mri, "mri_scans": options.mri_scans}
    for name, folder in folders.items():
        if folder:
            (RESULTS / f"{name}.md").write_text((folder / "summary.md").read_text())
    readme = ROOT / "README.md"
    old = readme.read_text()
    new = filled(old)
    if options.check:
        sys.exit(new != old and "README.md is out of date: run python benchmarks/readme.py")
    readme.write_text(new)


if __name__ == "__main__":
    main()
