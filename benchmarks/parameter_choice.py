"""Who chooses λ? Discrepancy, GCV, SURE and whiteness of the residual against the λ of the highest PSNR.

Total variation with one variance, with that of every ray (PWLS), and PWLS-Huber, on the Shepp–Logan head
(piecewise constant) and a random head of ellipses, at three doses, on pixels as fine as the bins and twice as
coarse, where the residual holds what the pixels cannot say. Data are exact line integrals averaged over bins.
Every λ is followed by a full run; the oracle is searched as finely as the criteria search.

    python benchmarks/parameter_choice.py            # writes benchmarks/results/parameter_choice.*
    python benchmarks/parameter_choice.py --quick    # one object, one dose, small; nothing written
"""

import argparse
import csv
import math
from collections import defaultdict
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from operators import LowDose, ParallelBeam
from recon import Problem, PWLSHuber, PWLSTotalVariation, TotalVariation, psnr
from recon.data import random_head, shepp_logan_ellipses
from recon.data.simulation import simulate_ellipses
from recon.selection import CRITERIA, least
from recon.variational import Variational

RESULTS = Path(__file__).parent / "results"
FIELD = 220.16  # [mm]
METHODS = {"tv": TotalVariation, "pwls-tv": PWLSTotalVariation, "pwls-huber": PWLSHuber}


def geometry(size: int, bins: int, views: int) -> ParallelBeam:
    """Pixels of FIELD / size and `bins` bins over the diagonal."""
    angles = [math.pi * (k + 0.5) / views for k in range(views)]
    return ParallelBeam((size, size), FIELD / size, angles, bins, math.sqrt(2) * FIELD / bins)


def oracle(method: type[Variational], problem: Problem, guess: Tensor, score: object) -> tuple[float, float]:
    """λ of the highest PSNR, and that PSNR."""

    def evaluate(weight: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        x = method(weight=weight)(problem)
        return -score(x), x  # type: ignore[operator]

    weight, _, lowest = least(evaluate, guess, torch.zeros_like(problem.A.adjoint(problem.y)), solves=10)
    return float(weight), -float(lowest)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    objects = {"shepp-logan": shepp_logan_ellipses(field=FIELD, scale=0.03)}
    if not args.quick:
        objects["head"] = random_head(seed=0)
    doses = (1e4,) if args.quick else (2e3, 2e4, 2e5)
    bins, views = (64, 40) if args.quick else (128, 90)
    fine = round(bins / math.sqrt(2))

    rows = []
    for name, ellipses in objects.items():
        for pixels, size in (("as fine as bins", fine), ("twice as coarse", fine // 2)):
            for i0 in doses:
                noise = LowDose(i0=i0, electronic_sigma=3.0)
                problem, truth = simulate_ellipses(ellipses, geometry(size, bins, views), noise, seed=0)

                def score(x: Tensor, truth: Tensor = truth) -> Tensor:
                    return psnr(x, truth, data_range=float(truth.max()))

                for label, method in METHODS.items():
                    found = {c: method(weight=c).solve(problem) for c in CRITERIA}
                    best, most = oracle(method, problem, found["whiteness"].weight, score)
                    for rule, solution in found.items():
                        row = {
                            "object": name,
                            "pixels": pixels,
                            "i0": i0,
                            "method": label,
                            "criterion": rule,
                            "weight": round(float(solution.weight), 3),
                            "oracle_weight": round(best, 3),
                            "psnr_db": round(float(score(solution.x)), 2),
                            "oracle_psnr_db": round(most, 2),
                        }
                        rows.append(row)
                        print(row, flush=True)

    lines = table(rows)
    print("\n".join(lines))
    if not args.quick:
        with (RESULTS / "parameter_choice.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (RESULTS / "parameter_choice.md").write_text("\n".join(lines) + "\n")


def table(rows: list[dict]) -> list[str]:
    """dB lost against the oracle, mean and worst, and the geometric mean of λ / λ of the oracle."""
    cells = defaultdict(list)
    for r in rows:
        cells[r["method"], r["pixels"], r["i0"], r["criterion"]].append(r)
    heads = sorted({key[:3] for key in cells})
    rules = list(CRITERIA)
    lines = [
        "PSNR lost against the λ of the highest PSNR, mean (worst) over objects [dB], and λ over that λ",
        "(geometric mean); no criterion sees the truth.",
        "",
        f"| method | pixels | I₀ | {' | '.join(rules)} |",
        f"|:--|:--|--:|{'--:|' * len(rules)}",
    ]
    for method, pixels, i0 in heads:
        shown = []
        for rule in rules:
            group = cells[method, pixels, i0, rule]
            lost = [r["oracle_psnr_db"] - r["psnr_db"] for r in group]
            ratio = math.exp(mean(math.log(r["weight"] / r["oracle_weight"]) for r in group))
            shown.append(f"{mean(lost):.2f} ({max(lost):.2f}), ×{ratio:.2g}")
        lines.append(f"| {method} | {pixels} | {i0:g} | {' | '.join(shown)} |")
    return lines


if __name__ == "__main__":
    main()
