"""The rows DIP and DIP + TV of the published table on DIVal's `ellipses`, image by image.

    python benchmarks/dival_dip.py --images 10             # the first 10 of the 100; go on at any time
    python benchmarks/dival_dip.py --images 10 --precision bfloat16   # faster; not compared with float32 here
    python benchmarks/dival_dip.py --images 100 --device cuda
    python benchmarks/dival_dip.py --methods dip-tv --first 50 --images 50    # another process, same folder
    python benchmarks/dival_dip.py --methods lpd-dip --start weights          # from a learned primal–dual
    python benchmarks/dival_dip.py --table                 # only the table of what is there
    python benchmarks/dival_dip.py --quick                 # a small network, seconds, nothing kept

Baguer, Leuschner & Schmidt, Inverse Problems 36 (2020) 094004: the hourglass of five scales × 128 channels,
DIP 5000 iterations, DIP + TV 10 000 with γ = 10^−3.5 of the mean square; the settings are
`DeepImagePrior.preset("baguer-bare")`, ("baguer") and ("baguer-start"). Every image's scores are one file,
written whole or not at all, in --work; an image that is there is not done again, nor is one of other settings
taken for it. Mean PSNR and SSIM are of the n images that are there; the published numbers are of 100.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from recon import DeepImagePrior, LearnedPrimalDual, Problem
from recon.checkpoints import digest
from recon.data import dival_problem
from recon.metrics import psnr, ssim

RESULTS = Path(__file__).parent / "results"
WORK = Path("runs") / "dival_dip"
PRESET = {"dip": "baguer-bare", "dip-tv": "baguer", "lpd-dip": "baguer-start"}
PUBLISHED = {"dip": (28.24, 0.8619), "dip-tv": (28.94, 0.8855), "lpd-dip": (29.23, 0.8915)}
QUICK: dict[str, Any] = {"channels": (8, 8), "skips": (0,), "iterations": 12}


def method_of(name: str, changes: dict[str, Any], start: LearnedPrimalDual | None) -> DeepImagePrior:
    extra = {"start": start} if name == "lpd-dip" else {}
    return DeepImagePrior.preset(PRESET[name], **extra, **changes)


def settings_of(method: DeepImagePrior) -> dict[str, Any]:
    """What a stored score must have been made with."""
    s = method.settings
    return {
        "iterations": s.iterations, "learning_rate": s.learning_rate, "seed": s.seed,
        "channels": list(method.channels or ()), "weight": method.weight, "start": weights_of(method.start),
        "precision": method.precision,
    }  # fmt: skip


def weights_of(start: Any) -> str | None:
    """What tells one training of the initial reconstruction from another."""
    return None if start is None else digest(start.state_dict())


def one(method: DeepImagePrior, index: int, device: str) -> dict[str, Any]:
    """Scores of test image `index`."""
    problem, truth = dival_problem(index, "test")
    moved = Problem(problem.A.to(device), problem.y.to(device), problem.noise.to(device))
    start = time.perf_counter()
    x = method(moved).detach().cpu()
    seconds = time.perf_counter() - start
    span = truth.max() - truth.min()
    scores = {
        "psnr_db": float(psnr(x, truth, data_range=span)),
        "ssim": float(ssim(x, truth, data_range=span)),
    }
    if method.start is not None:
        scores["start_psnr_db"] = float(psnr(method.start(moved).cpu(), truth, data_range=span))
    return {"index": index, **scores, "seconds": seconds, "device": device, **settings_of(method)}


def stored(path: Path, method: DeepImagePrior) -> dict[str, Any] | None:
    """The scores in a file, if it is there; ends the program if they are of other settings."""
    if not path.exists():
        return None
    row = json.loads(path.read_text())
    wanted = settings_of(method)
    if {k: row.get(k) for k in wanted} != wanted:
        raise SystemExit(f"{path}: made with other settings; give another --work, or remove it")
    return row


def write(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(row, file)
    os.replace(file.name, path)  # noqa: PTH105 - one step, so that a killed run leaves no half of a file


def rows_of(work: Path, name: str) -> list[dict[str, Any]]:
    rows = [json.loads(path.read_text()) for path in work.glob(f"{name}-[0-9]*.json")]
    return sorted(rows, key=lambda row: row["index"])


def total_variation() -> dict[int, float]:
    """PSNR of converged TV by image, as `ellipses_dival.py` left it: the same images may be easy ones."""
    with (RESULTS / "ellipses_dival.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["method"].startswith("TV, converged")]
    return {int(r["image"]): float(r["psnr_db"]) for r in rows}


def table(work: Path) -> list[str]:
    lines = [
        "| method | n | PSNR [dB] | its start | TV of these, converged | SSIM | published (100 images) | "
        "iterations | precision | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    converged = total_variation()
    for name, (there, ssim_there) in PUBLISHED.items():
        rows = rows_of(work, name)
        if not rows:
            continue
        n = len(rows)
        mean = {k: sum(row[k] for row in rows) / n for k in ("psnr_db", "ssim", "seconds")}
        begun = [row["start_psnr_db"] for row in rows if "start_psnr_db" in row]
        note = " (LPD of 32)" if name == "lpd-dip" else ""
        lines.append(
            f"| {name} | {n} | {mean['psnr_db']:.2f} | {f'{sum(begun) / n:.2f}' if len(begun) == n else '–'} "
            f"| {sum(converged[row['index']] for row in rows) / n:.2f} | {mean['ssim']:.4f} "
            f"| {there:.2f} / {ssim_there:.4f}{note} | {rows[0]['iterations']} | {rows[0]['precision']} "
            f"| {mean['seconds']:.0f} on {rows[0]['device']} |"
        )
    return lines


def report(work: Path, keep: bool) -> None:
    lines = table(work)
    print("\n".join(lines))
    if keep and len(lines) > 2:
        RESULTS.mkdir(exist_ok=True)
        head = "n: the first images, done so far; seconds an image. Made by `python benchmarks/dival_dip.py`."
        (RESULTS / "dival_dip.md").write_text("\n".join([head, "", *lines]) + "\n")
        every = {name: rows_of(work, name) for name in PUBLISHED}
        (RESULTS / "dival_dip.json").write_text(json.dumps(every, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--methods", default="dip,dip-tv", help="some of: " + ",".join(PRESET))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--start", help="path of a trained learned primal–dual method, for lpd-dip")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    names = args.methods.split(",")
    if "lpd-dip" in names and not args.start:
        parser.error("lpd-dip: give --start, the path of a trained learned primal–dual method")
    start = LearnedPrimalDual.load(args.start).to(args.device) if args.start else None
    if args.table:
        return report(args.work, keep=True)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch) if args.quick else args.work
        for name in names:
            changes = (QUICK if args.quick else {}) | {"precision": args.precision}
            method = method_of(name, changes, start)
            for index in range(args.first, args.first + args.images):
                path = work / f"{name}-{index:04d}.json"
                row = stored(path, method)
                if row is None:
                    row = one(method, index, args.device)
                    write(path, row)
                print(f"{name} image {index}: {row['psnr_db']:.2f} dB, {row['seconds']:.0f} s", flush=True)
        report(work, keep=not args.quick)
    return None


if __name__ == "__main__":
    main()
