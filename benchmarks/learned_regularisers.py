"""Learned regularisers compared: which prior, trained on denoising or on the problem itself, beside TV?

In the manner of Hertrich et al., arXiv 2510.01755, on `ellipses-small` (64², 30 views, 5 % noise), with
priors small enough for two cores: min_x ½‖Ax − y‖²/σ² + λ s² E(x/s), x ≥ 0, by nmAPG to a relative residual
of 1e-4, at most 1000 iterations. Every training has the same wall time. "denoising": on clean images and
noise of 0.1, after which λ and s are fitted on five training pairs; TV's λ is tuned on the same five.
"bilevel": on pairs, through the minimiser. Scores are means over 32 test images, range max − min of each.

    python benchmarks/learned_regularisers.py --minutes 20 --out runs   # resumes what `runs` has begun
    python benchmarks/learned_regularisers.py --minutes 20 --out runs --priors tdv   # only these rows
    python benchmarks/learned_regularisers.py --quick                   # seconds, smaller; nothing written

Writes benchmarks/results/learned_regularisers.md and .csv of the rows that are in `runs`.
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from operators import Gaussian
from recon import LearnedPriorReconstruction, TotalVariation
from recon.bilevel import Tally
from recon.data.sets import SimulatedPairs, selected
from recon.data.small import dival_images, ellipses_small, ellipses_small_geometry
from recon.metrics import psnr, ssim

RESULTS = Path(__file__).parent / "results"
PRIORS: dict[str, dict[str, Any]] = {
    "crr": {"layers": (1, 4, 16), "learning_rate": 5e-3},
    "wcrr": {"layers": (1, 4, 16), "learning_rate": 5e-3},
    "tdv": {"layers": (8, 3, 1), "learning_rate": 1e-3},
    "convex": {"layers": (4, 16), "learning_rate": 1e-3},
}
TRAININGS = ("denoising", "bilevel")
FIT_IMAGES = 5


def scores(x: Tensor, truth: Tensor) -> dict[str, float]:
    span = truth.amax((-2, -1)) - truth.amin((-2, -1))
    return {
        "psnr_db": round(float(psnr(x, truth, data_range=span).mean()), 2),
        "ssim": round(float(ssim(x, truth, data_range=span).mean()), 4),
    }


def tuned_tv(pairs: SimulatedPairs, iterations: int) -> float:
    """λ of the highest PSNR on the fitting pairs, on a grid of √2 that grows where an edge is best."""
    problem, truth = pairs.train
    index = torch.arange(FIT_IMAGES)
    problem, truth = selected(problem, index), truth[index]
    found: dict[int, float] = {}

    def quality(k: int) -> float:
        if k not in found:
            x = TotalVariation(2 ** (k / 2), iterations, 1e-4)(problem)
            found[k] = scores(x, truth)["psnr_db"]
        return found[k]

    best = 2
    while (better := max((best - 1, best, best + 1), key=quality)) != best:
        best = better
    return 2 ** (best / 2)


def tv_row(pairs: SimulatedPairs, iterations: int) -> dict[str, Any]:
    problem, truth = pairs.test
    weight = tuned_tv(pairs, iterations)
    method = TotalVariation(weight, iterations, 1e-4)
    started = time.perf_counter()
    found = method.solve(problem)
    return {
        "prior": "TV",
        "training": "λ on five pairs",
        "parameters": 1,
        **scores(found.x, truth),
        "seconds": round(time.perf_counter() - started, 1),
        "iterations": round(float(found.iterations.float().mean())),
        "not_converged": int((found.residual > 1e-4).sum()),
        "weight": round(weight, 3),
        "scale": 1.0,
        "training_minutes": 0.0,
        "training_steps": 0,
        "training_not_converged": 0.0,
    }


def learned_row(
    pairs: SimulatedPairs, name: str, training: str, minutes: float | None, out: Path, options: dict[str, Any]
) -> dict[str, Any]:
    """Trained, or taken up where `out` has it, and scored."""
    stem = out / f"{name}-{training}"
    if stem.with_suffix(".safetensors").exists():
        method = LearnedPriorReconstruction.load(stem)
    else:
        method = LearnedPriorReconstruction(
            prior=name, training=training, fit_images=FIT_IMAGES, **(PRIORS[name] | options)
        )
        method.fit(pairs, minutes=minutes, checkpoint=out / f"{stem.name}.checkpoint.safetensors")
        method.save(stem)
    problem, truth = pairs.test
    tally, started = Tally(), time.perf_counter()
    found = method.solve(problem, tally)
    seconds, scale = time.perf_counter() - started, method.trained_for.image_scale
    lower = method.record["lower_level"]
    return {
        "prior": name,
        "training": training,
        "parameters": sum(p.numel() for p in method.parameters()),
        **scores(found.last.x * scale, truth),
        "seconds": round(seconds, 1),
        "iterations": round(tally.iterations / tally.solves),
        "not_converged": tally.unconverged,
        "weight": float(f"{method.record['weight']:.3g}"),
        "scale": float(f"{method.record['scale']:.3g}"),
        "training_minutes": round(method.record["seconds"] / 60, 1),
        "training_steps": method.record["steps"],
        "training_not_converged": round(lower["unconverged"] / max(lower["solves"], 1), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=20.0, help="of each of the eight trainings")
    parser.add_argument("--out", type=Path, help="folder of checkpoints, weights and rows")
    parser.add_argument("--priors", default=",".join(PRIORS), help="some of: " + ", ".join(PRIORS))
    args = parser.parse_args()
    if unknown := set(args.priors.split(",")) - set(PRIORS):
        parser.error(f"--priors: expected some of {', '.join(PRIORS)}, got {', '.join(sorted(unknown))}")
    if args.quick:
        geometry, images = ellipses_small_geometry(24, 12), dival_images(48)
        pairs = SimulatedPairs(geometry, Gaussian(relative=0.05), images, 2, 2, FIT_IMAGES, name="tiny")
        options = {"steps": 2, "batch_size": 2, "iterations": 15, "fit_solves": 2, "linear_iterations": 5}
        minutes, tv_iterations = None, 20
    elif args.out is None:
        raise SystemExit("--out: name a folder for checkpoints, which an interrupted run resumes from")
    else:
        pairs, minutes, tv_iterations = ellipses_small(), args.minutes, 1000
        # time ends the training, not the steps
        options = {"steps": 10**6, "batch_size": 4, "validate_every": 10**6, "checkpoint_every": 5}
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        rows = []
        for name, training in [("tv", ""), *((p, t) for p in PRIORS for t in TRAININGS)]:
            file = out / f"row-{name}-{training or 'tuned'}.json"
            if not file.exists() and name in PRIORS and name not in args.priors.split(","):
                continue
            if file.exists():
                row = json.loads(file.read_text())
            elif name == "tv":
                row = tv_row(pairs, tv_iterations)
            else:
                row = learned_row(pairs, name, training, minutes, out, options)
            file.write_text(json.dumps(row))
            rows.append(row)
            print(row, flush=True)
    lines = table(rows, pairs, minutes)
    print("\n".join(lines))
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / "learned_regularisers.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (RESULTS / "learned_regularisers.md").write_text("\n".join(lines) + "\n")


def table(rows: list[dict[str, Any]], pairs: SimulatedPairs, minutes: float | None) -> list[str]:
    count = len(pairs.test[1])
    budget = "a few steps" if minutes is None else f"{minutes:g} minutes"
    lines = [
        f"`{pairs.name}`: mean of {count} test images; {budget} of training each, "
        f"{torch.get_num_threads()} thread(s). Iterations are means; "
        "a minimisation has not converged at a residual above 1e-4.",
        "",
        f"| prior | training | parameters | PSNR [dB] | SSIM | iterations | not converged of {count} | "
        "seconds | steps | not converged in training |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        lines.append(
            f"| {r['prior']} | {r['training']} | {r['parameters']} | {r['psnr_db']:.2f} | {r['ssim']:.4f} | "
            f"{r['iterations']} | {r['not_converged']} | {r['seconds']} | {r['training_steps']} | "
            f"{100 * r['training_not_converged']:.0f} % |"
        )
    if missing := [name for name in PRIORS if name not in {r["prior"] for r in rows}]:
        lines += ["", f"Not trained here yet: {', '.join(missing)}."]
    return lines


if __name__ == "__main__":
    main()
