"""What low counts do to the mean: HU bias in the middle of a water cylinder, over 100 noise seeds, by dose.

A 200 mm water cylinder in an arc fan beam, electronic noise of 3 counts, starved rays at 0.1 counts, exact
line integrals. FBP of the logarithm; PWLS, whose weights are taken from the noisy data themselves
("plug-in"); and the likelihood of the counts (shifted Poisson), both by ordered subsets with the same weak
Huber total variation and x ≥ 0. The mean over a disc of 20 mm in the middle, minus that of the same method
on noise-free data, so that what the pixels cannot say is not counted as bias.

    python benchmarks/hu_bias.py            # 100 seeds, six doses, minutes; writes results/hu_bias.*
    python benchmarks/hu_bias.py --quick    # 4 seeds, two doses, seconds; writes nothing
"""

import argparse
import csv
import math
import time
from pathlib import Path

import torch

from operators import FanBeam, LowDose, XRay
from recon import FBP, OSSQS, Problem
from recon.data import low_contrast_phantom
from recon.data.low_contrast import MU_WATER
from recon.metrics.rois import distances

RESULTS = Path(__file__).parent / "results"
BATCH = 20
FIELD, ELECTRONIC, ROI_RADIUS = 210.0, 3.0, 10.0
METHODS = {"fbp": "FBP", "pwls": "PWLS, plug-in weights", "likelihood": "likelihood"}


def method(name: str, weight: float, iterations: int) -> torch.nn.Module:
    if name == "fbp":
        # no positivity, which would be a bias of its own
        return FBP(positive=False)
    likelihood = "weighted" if name == "pwls" else "matching"
    return OSSQS(weight=weight, iterations=iterations, tolerance=1e-5, likelihood=likelihood)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    size, views, seeds, iterations = (32, 24, 4, 40) if args.quick else (64, 64, 100, 100)
    counts = (3.0, 50.0) if args.quick else (3.0, 5.0, 10.0, 20.0, 50.0, 400.0)
    torch.set_grad_enabled(False)

    angles = [2 * math.pi * k / views for k in range(views)]
    geometry = FanBeam((size, size), FIELD / size, angles, 2 * size, 404 / (2 * size), 595.0, 1085.6, "arc")
    A = XRay(geometry)
    clean = low_contrast_phantom(()).line_integrals(geometry).float()
    middle = distances(A.in_shape, geometry.pixel_size) < ROI_RADIUS
    thickest = float(clean.max())

    rows, begin = [], time.perf_counter()
    for mean_counts in counts:
        noise = LowDose(mean_counts * math.exp(thickest), ELECTRONIC)
        weight = 30 * math.sqrt(mean_counts / 50)
        for name in METHODS:
            solve = method(name, weight, iterations)
            exact = Problem(A, noise.expected(clean), noise)
            reference = solve(exact)[middle].double().mean()
            found = []
            for first in range(0, seeds, BATCH):
                n = min(BATCH, seeds - first)
                y = noise(clean.expand(n, -1, -1).contiguous(), seed=range(first, first + n))
                found.append(solve(Problem(A, y, noise))[:, middle].double().mean(-1) - reference)
            bias = 1000 * torch.cat(found) / MU_WATER
            rows.append(
                {
                    "counts": mean_counts,
                    "i0": round(noise.i0, 1),
                    "method": name,
                    "bias_hu": round(float(bias.mean()), 2),
                    "se_hu": round(float(bias.std() / math.sqrt(seeds)), 2),
                    "sd_hu": round(float(bias.std()), 2),
                    "seeds": seeds,
                }
            )
            print(rows[-1], flush=True)
        if mean_counts == counts[0]:
            left = (time.perf_counter() - begin) * (len(counts) - 1) / 60
            print(f"about {left:.1f} min left", flush=True)

    lines = [
        f"HU bias over the middle 20 mm of 200 mm of water, mean ± standard error of {seeds} noise seeds, by",
        f"mean counts of the ray through the middle; {views} views, electronic noise {ELECTRONIC:g} counts.",
        "",
        f"| counts | {' | '.join(METHODS.values())} |",
        f"|--:|{'--:|' * len(METHODS)}",
    ]
    for mean_counts in counts:
        cells = [f"{r['bias_hu']:.1f} ± {r['se_hu']:.1f}" for r in rows if r["counts"] == mean_counts]
        lines.append(f"| {mean_counts:g} | {' | '.join(cells)} |")
    print("\n".join(lines))
    if not args.quick:
        with (RESULTS / "hu_bias.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (RESULTS / "hu_bias.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
