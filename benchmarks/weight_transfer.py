"""Does λ keep its meaning? One head, one weight, three pixel sizes, three numbers of views at a fixed dose.

The objective is the negative log-likelihood plus λ ∫|∇x| with lengths in mm, so that one λ should serve all
of them. RMSE in HU is taken on the coarsest grid inside the body, where all of them can be compared.

    python benchmarks/weight_transfer.py            # writes benchmarks/results/weight_transfer.*
    python benchmarks/weight_transfer.py --quick    # two pixel sizes, fewer bins, nothing written
"""

import argparse
import csv
import math
from pathlib import Path

import torch
import torch.nn.functional as F

from operators import FanBeam, LowDose
from recon import PWLSTotalVariation, rmse_hu
from recon.data import random_head, simulate
from recon.metrics import body_mask

RESULTS = Path(__file__).parent / "results"
FIELD, MU_WATER, PHOTONS = 220.16, 0.0206, 1e8


def geometry(size: int, views: int, bins: int) -> FanBeam:
    """The clinical arc fan beam of the demo on a grid of size² over the same field."""
    angles = [2 * math.pi * k / views for k in range(views)]
    return FanBeam((size, size), FIELD / size, angles, bins, 368 * 2.5716 / bins, 595.0, 1085.6, "arc")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--weight", type=float, default=None, help="λ; default: chosen once, by discrepancy")
    args = parser.parse_args()
    sizes, all_views, bins = (
        ((64, 128), (90, 180), 184) if args.quick else ((128, 256, 512), (180, 360, 720), 736)
    )
    fine = random_head(seed=3).rasterise((512, 512), FIELD / 512).float()
    coarse = min(sizes)

    rows, weight = [], args.weight
    for views in all_views:
        for size in sizes:
            noise = LowDose(i0=PHOTONS / views, electronic_sigma=3.0)
            problem, truth = simulate(fine, geometry(size, views, bins), noise, seed=0)
            if weight is None:
                weight = float(PWLSTotalVariation().solve(problem).weight)
            x = PWLSTotalVariation(weight=weight)(problem)
            x, truth = (F.avg_pool2d(image[None], size // coarse)[0] for image in (x, truth))
            error = float(rmse_hu(x, truth, mask=body_mask(truth, MU_WATER), mu_water=MU_WATER))
            rows.append(
                {"pixel_mm": round(FIELD / size, 3), "views": views, "weight": weight, "rmse_hu": error}
            )
            print(rows[-1])

    errors = torch.tensor([row["rmse_hu"] for row in rows])
    worst = float(((errors - errors.mean()).abs() / errors.mean()).max())
    pixels = ", ".join(f"{FIELD / size:.2f}" for size in sizes)
    line = (
        f"PWLSTotalVariation at one λ = {weight:.3g}, pixels {pixels} mm, views "
        f"{', '.join(map(str, all_views))}, {PHOTONS:g} photons per bin and rotation: RMSE "
        f"{float(errors.mean()):.1f} HU, none further than {100 * worst:.1f} % from the mean."
    )
    print(line)
    if not args.quick:
        with (RESULTS / "weight_transfer.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (RESULTS / "weight_transfer.md").write_text(line + "\n")


if __name__ == "__main__":
    main()
