"""Does the command on a card give the card's score again? Shipped trainings of a small problem, three seeds.

    python benchmarks/zoo_seeds.py --work WORK    # about ten minutes a method on one core; resumable
    python benchmarks/zoo_seeds.py --quick        # seconds: a few steps, nothing written

Every method is trained by its recipe (`recon.zoo.recipes`) from seeds 0, 1 and 2 and validated as its card
says. Seed 0 is that of the shipped weights, which an earlier version may have trained: what should come again
is the score, not every bit. The shipped score should lie within the spread of the seeds.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from recon.checkpoints import ZOO, read_card, write_bytes
from recon.train_method import train_seeds

RESULTS = Path(__file__).parent / "results"
PROBLEM, METHODS, SEEDS = "ellipses-small", ("fbp-unet", "adversarial-regularisation"), (0, 1, 2)
SCORE = "psnr_db_range_truth"


def row(name: str, work: Path, **changes: Any) -> dict[str, Any]:
    """Train the seeds that `work` has not, and put them beside the card."""
    summary = train_seeds(name, PROBLEM, work / f"{name}-{PROBLEM}", SEEDS, say=print, **changes)
    card = read_card(ZOO / f"{name}-{PROBLEM}.json")
    return {
        "method": name,
        "command": summary["command"],
        "shipped": card["scores"][SCORE],
        "seeds": {seed: scores[SCORE] for seed, scores in summary["scores"].items()},
        "mean": summary["mean"].get(SCORE),
        "spread": summary["spread"].get(SCORE),
        "failures": summary["failures"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """One line a method."""
    lines = [
        f"Validation PSNR [dB] on `{PROBLEM}`, trained by the recipe of the zoo from seeds "
        f"{', '.join(map(str, SEEDS))}. Made by `python benchmarks/zoo_seeds.py`.\n",
        "| method | shipped | each seed | mean ± deviation | failed | shipped − mean, in deviations |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for r in rows:
        each = ", ".join(f"{v:.2f}" for v in r["seeds"].values())
        away = (r["shipped"] - r["mean"]) / r["spread"] if r["spread"] else float("nan")
        lines.append(
            f"| {r['method']} | {r['shipped']:.2f} | {each} | {r['mean']:.2f} ± {r['spread']:.2f} "
            f"| {len(r['failures'])} | {away:+.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/zoo_seeds"), help="where trainings are kept")
    parser.add_argument("--methods", default=",".join(METHODS), help="shipped for this problem")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            print(table([row("fbp-unet", Path(folder), steps=2, base=4, depth=2)]))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    rows = [row(name, options.work) for name in options.methods.split(",")]
    write_bytes(RESULTS / "zoo_seeds.json", (json.dumps(rows, indent=1) + "\n").encode())
    write_bytes(RESULTS / "zoo_seeds.md", table(rows).encode())
    print(table(rows))


if __name__ == "__main__":
    main()
