"""The published table of DIVal's `ellipses`: FBP, TV as published, and TV solved to its end.

    python benchmarks/ellipses_dival.py            # 100 test images; writes results/ellipses_dival.*
    python benchmarks/ellipses_dival.py --quick    # 10 images against the stored values, ± 0.02 dB
    python benchmarks/ellipses_dival.py --store    # writes those values

Baguer, Leuschner & Schmidt, Inverse Problems 36 (2020) 094004. 128² pixels, 30 parallel views, 2.5 % noise;
mean PSNR and SSIM of the first 100 test images, both with the range max − min of each truth.
"""

import argparse
import csv
import hashlib
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor

from operators import LinearOperator, fbp
from priors import L1, Box, SquaredL2
from recon import Problem, TotalVariation
from recon.data import dival_ellipses, dival_problem
from recon.metrics import psnr, ssim
from recon.solvers import douglas_rachford, run

RESULTS = Path(__file__).parent / "results"
SHA256 = {
    "test": "46283d2bc232a30bea8439435906d3fa79208dba6db089dcd71f01943ea4443c",
    "validation": "a7c4bf049e1e994d11fe73053bb2a4b6766670b7ca3aabf2db41e62b7797df7b",
}
PUBLISHED = {"FBP": (24.18, 0.5939), "TV, as published": (27.96, 0.8616)}
METHODS = {"fbp": "FBP", "published-tv": "TV, as published", "tv": "TV, converged"}
QUICK, TUNED_ON, CHUNK = 10, 10, 25
WEIGHTS = [
    1.0,
    1.4,
    2.0,
    2.8,
    4.0,
]  # of TV against ½ ‖Ax − y‖²/σ² [mm]; an edge that is chosen widens the grid
ITERATIONS = 600


class ZeroPaddedGradient(LinearOperator):
    """x[i + e_d] − x[i] with zeros beyond the far edge, as ODL's gradient has by default."""

    def __init__(self, shape: tuple[int, int]):
        super().__init__()
        self.in_shape, self.out_shape = shape, (2, *shape)

    def _forward(self, x: Tensor) -> Tensor:
        down, right = (torch.nn.functional.pad(x, p) for p in ((0, 0, 0, 1), (0, 1)))
        return torch.stack([down.diff(dim=1), right.diff(dim=2)], 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        down, right = (torch.nn.functional.pad(y[:, d], p) for d, p in ((0, (0, 0, 1, 0)), (1, (1, 0))))
        return -down.diff(dim=1) - right.diff(dim=2)


def filtered(problem: Problem) -> Tensor:
    """Hann, cut off at 0.705 of the Nyquist frequency: the published choice."""
    return fbp(problem.A, problem.linear, filter="hann", frequency_scaling=0.705)


def published_tv(problem: Problem, iterations: int = 200) -> Tensor:
    """min w ‖Ax − y‖² + 0.1438 Σ|∂₁x| + |∂₂x|, 0 ≤ x ≤ 1, after 200 steps of Douglas–Rachford from 0.

    ODL's norm of the data carries w = Δθ Δu, its adjoint too; in plain norms the published steps
    τ = 1, σ = 1/‖A‖²_w, 1/‖∇‖² are 1, 1/‖A‖², 1/‖∇‖².
    """
    A, D = problem.A, ZeroPaddedGradient(problem.A.in_shape)
    w = math.pi / 30 * problem.A.geometry.bin_size
    terms = [(SquaredL2(problem.linear, 2 * w), A), (0.1438 * L1(ndim=3), D)]
    x = problem.linear.new_zeros(*problem.batch, *A.in_shape)
    steps = [1 / A.norm() ** 2, 1 / D.norm() ** 2]
    return run(douglas_rachford(terms, Box(0.0, 1.0), x, 1.0, steps), iterations)


def converged_tv(problem: Problem, weight: float) -> tuple[Tensor, Tensor, int]:
    """argmin ½ ‖Ax − y‖²/σ² + weight · ∫|∇x|, x ≥ 0 (isotropic): images, gap/objective, iterations."""
    # no tolerance: every image runs as long, so that the gap is known at the end
    found = TotalVariation(weight=weight, iterations=ITERATIONS, tolerance=0.0).solve(problem)
    return found.x, found.gap / found.objective, int(found.iterations.max())


def images(part: str, count: int) -> tuple[Problem, Tensor]:
    """The first `count`, after comparing the first ten with their committed hash."""
    first = torch.stack(list(dival_ellipses(part, stop=10)))
    found = hashlib.sha256(first.numpy().tobytes()).hexdigest()
    if found != SHA256[part]:
        raise SystemExit(f"the {part} images are not those of the published table: SHA-256 {found}")
    return dival_problem(range(count), part)


def chunks(problem: Problem) -> list[Problem]:
    """The same images in smaller batches, for memory."""
    starts = range(0, len(problem.y), CHUNK)
    return [
        Problem(problem.A, problem.y[i : i + CHUNK], problem.noise.select(slice(i, i + CHUNK)))
        for i in starts
    ]


def scores(x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """PSNR [dB] and SSIM of every image, range max − min of its truth."""
    spread = truth.amax((-2, -1)) - truth.amin((-2, -1))
    return psnr(x, truth, data_range=spread), ssim(x, truth, data_range=spread)


def tuned_weight() -> float:
    """The weight of the highest mean PSNR on validation images; a chosen edge widens the grid."""
    problem, truth = images("validation", TUNED_ON)
    found: dict[float, float] = {}
    grid = list(WEIGHTS)
    while True:
        for weight in grid:
            if weight in found:
                continue
            x, gap, iterations = converged_tv(problem, weight)
            found[weight] = float(scores(x, truth)[0].mean())
            print(
                f"  weight {weight:g}: {found[weight]:.2f} dB, gap {gap.max():.1e}, {iterations} iterations"
            )
        best = max(found, key=lambda w: found[w])
        if best not in (min(grid), max(grid)):
            return best
        grid += [best / math.sqrt(2) if best == min(grid) else best * math.sqrt(2)]


def measured(methods: list[str], count: int) -> list[dict[str, object]]:
    """One row a method: mean and per-image scores of the first `count` test images."""
    problem, truth = images("test", count)
    rows: list[dict[str, object]] = []
    for method in methods:
        start = time.perf_counter()
        row: dict[str, object] = {"method": method}
        if method == "FBP":
            x = torch.cat([filtered(p) for p in chunks(problem)])
            row["kind"] = "Hann, frequency scaling 0.705"
        elif method == "TV, as published":
            x = torch.cat([published_tv(p) for p in chunks(problem)])
            row["kind"] = "anisotropic, box [0, 1], γ = 0.1438, 200 iterations of Douglas–Rachford"
        else:
            weight = tuned_weight()
            start = time.perf_counter()
            found = [converged_tv(p, weight) for p in chunks(problem)]
            x, gap = torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])
            row["kind"] = (
                f"isotropic, x ≥ 0, λ = {weight:g} from {TUNED_ON} validation images, at most "
                f"{max(f[2] for f in found)} iterations of PDHG, gap/objective ≤ {float(gap.max()):.1e}"
            )
        row["seconds"] = time.perf_counter() - start
        row["psnr_db"], row["ssim"] = scores(x, truth)
        rows.append(row)
    return rows


def table(rows: list[dict[str, object]]) -> str:
    lines = ["| method | PSNR [dB] | SSIM | published | how |", "|---|---|---|---|---|"]
    for row in rows:
        published = PUBLISHED.get(str(row["method"]))
        there = f"{published[0]:.2f} / {published[1]:.4f}" if published else "–"
        mean_psnr, mean_ssim = float(row["psnr_db"].mean()), float(row["ssim"].mean())
        lines.append(f"| {row['method']} | {mean_psnr:.2f} | {mean_ssim:.4f} | {there} | {row['kind']} |")
    return "\n".join(lines)


def write(rows: list[dict[str, object]], count: int) -> None:
    RESULTS.mkdir(exist_ok=True)
    head = (
        f"Mean of the first {count} test images; range of PSNR and SSIM: max − min of "
        f"each truth. Made by `python benchmarks/ellipses_dival.py`.\n\n"
    )
    (RESULTS / "ellipses_dival.md").write_text(head + table(rows) + "\n")
    with (RESULTS / "ellipses_dival.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "image", "psnr_db", "ssim"])
        for row in rows:
            for i, (p, s) in enumerate(zip(row["psnr_db"].tolist(), row["ssim"].tolist(), strict=True)):
                writer.writerow([row["method"], i, f"{p:.4f}", f"{s:.5f}"])


def compare(rows: list[dict[str, object]], path: Path) -> bool:
    """Every image within 0.02 dB of what is stored."""
    stored = json.loads(path.read_text())
    worst = 0.0
    for row in rows:
        expected = torch.tensor(stored["psnr_db"][row["method"]], dtype=torch.float64)
        worst = max(worst, float((row["psnr_db"] - expected).abs().max()))
    print(f"largest difference from the stored values: {worst:.4f} dB (allowed 0.02)")
    return worst <= 0.02


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="compare 10 images with the stored values")
    parser.add_argument("--store", action="store_true", help="store the values of 10 images")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--methods", default=",".join(METHODS), help="some of: " + ",".join(METHODS))
    args = parser.parse_args()
    quick = RESULTS / "ellipses_dival_quick.json"
    if args.quick or args.store:
        rows = measured([METHODS["fbp"], METHODS["published-tv"]], QUICK)
    else:
        rows = measured([METHODS[name] for name in args.methods.split(",")], args.images)
    print(table(rows))
    if args.store:
        RESULTS.mkdir(exist_ok=True)
        values = {str(row["method"]): [round(v, 4) for v in row["psnr_db"].tolist()] for row in rows}
        quick.write_text(json.dumps({"sha256": SHA256["test"], "psnr_db": values}, indent=1) + "\n")
    elif args.quick:
        raise SystemExit(0 if compare(rows, quick) else 1)
    else:
        write(rows, args.images)


if __name__ == "__main__":
    main()
