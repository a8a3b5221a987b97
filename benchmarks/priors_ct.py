"""Which prior for a low-dose head? RMSE [HU] and PSNR at two doses, each λ tuned on another slice.

Fan beam, 541 / 949 mm, arc detector, 128² pixels over the whole field, 180 views, electronic noise of
3 counts. λ is that of the least RMSE on the tuning slice at the same dose; everything else is the method's
default. The dictionary is learned from two further slices. PICCS alone knows an earlier scan, the scored
slice at ten times the dose, reconstructed by q-GGMRF with λ tuned in the same way.

    python benchmarks/priors_ct.py --data /path/to/ct_head_ge.npz   # hu (slices, ny, nx), pixel_spacing_mm
    python benchmarks/priors_ct.py            # pydicom's head, tuned on random heads
    python benchmarks/priors_ct.py --quick    # small, one dose; nothing written

Writes benchmarks/results/priors_ct.md and .csv.
"""

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from operators import FanBeam, LowDose
from priors.dictionary import learn_dictionary
from recon import (
    FBP,
    PICCS,
    PWLSQGGMRF,
    DictionaryReconstruction,
    FBPNonLocalMeans,
    HuberTotalVariation,
    Problem,
    PWLSFair,
    PWLSHuber,
    PWLSNonLocalMeans,
    PWLSTotalVariation,
    Reconstructor,
    TotalGeneralisedVariation,
    TotalVariation,
    WaveletReconstruction,
    psnr,
    rmse_hu,
)
from recon.data import example_head, random_head, simulate
from recon.selection import least

RESULTS = Path(__file__).parent / "results"
MU_WATER = 0.02
FIELD = 250.0  # [mm]
Make = Callable[[float], Reconstructor]


def slices(path: str | None, fine: int) -> tuple[Tensor, Tensor, list[Tensor], float]:
    """The slice that is scored, that of tuning, those of the dictionary, [1/mm], and the field [mm]."""
    if path:
        with np.load(path) as file:
            hu, spacing = file["hu"].astype(np.float32), float(file["pixel_spacing_mm"])
        mu = (MU_WATER * (1 + torch.from_numpy(hu) / 1000)).clamp(min=0)
        middle = len(mu) // 2 - 1  # defaults were set by looking at the one after
        return mu[middle], mu[middle + 4], [mu[middle - 4], mu[middle - 2]], spacing * hu.shape[-1]
    other = [random_head(seed=s).rasterise((fine, fine), FIELD / fine).float() for s in range(3)]
    return example_head(MU_WATER), other[0], other[1:], FIELD


def methods(dictionary: Tensor, earlier: Tensor, iterations: float) -> dict[str, tuple[Make, float]]:
    """By name: the method of a weight, and a first guess of it."""

    def passes(n: int) -> int:
        return max(2, round(n * iterations))

    return {
        "TV, one variance": (lambda w: TotalVariation(w, passes(200)), 300.0),
        "TV": (lambda w: PWLSTotalVariation(w, passes(200)), 300.0),
        "TGV": (lambda w: TotalGeneralisedVariation(w, passes(300), likelihood="weighted"), 300.0),
        "wavelets": (lambda w: WaveletReconstruction(w, passes(200), likelihood="weighted"), 300.0),
        "Huber TV, FISTA": (lambda w: HuberTotalVariation(w, passes(200), likelihood="weighted"), 300.0),
        "Huber TV, OS-SQS": (lambda w: PWLSHuber(w, passes(40)), 300.0),
        "Fair": (lambda w: PWLSFair(w, passes(40)), 300.0),
        "q-GGMRF": (lambda w: PWLSQGGMRF(w, passes(40)), 500.0),
        "similar patches": (lambda w: PWLSNonLocalMeans(w, passes(40)), 1e6),
        "dictionary": (lambda w: DictionaryReconstruction(dictionary, w, passes(20)), 1e6),
        "PICCS, knows ten times the dose": (lambda w: PICCS(earlier, w, passes(200)), 500.0),
    }


def tuned(make: Make, guess: float, problem: Problem, truth: Tensor, solves: int) -> float:
    """λ of the least RMSE."""

    def evaluate(weight: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        x = make(float(weight))(problem)
        return rmse_hu(x, truth, mu_water=MU_WATER).to(truth), x

    return float(least(evaluate, torch.tensor(guess, dtype=truth.dtype), truth, solves)[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a file of slices: hu, pixel_spacing_mm")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    n, views, solves, share = (48, 40, 2, 0.1) if args.quick else (128, 180, 6, 1.0)
    scored, tuning, further, field = slices(args.data, 2 * n)
    angles = [2 * math.pi * k / views for k in range(views)]
    h = field / n
    geometry = FanBeam((n, n), h, angles, round(1.45 * n), 1.754 * h, 541.0, 949.075, detector="arc")
    pictures = torch.stack([coarse(image, n) for image in further])
    dictionary = learn_dictionary(pictures, *((32, 4, 3, 3, 1000) if args.quick else (256, 8)))

    rows = []
    for i0 in (4e4,) if args.quick else (2e4, 1e5):
        sets, weight_before = {}, math.nan
        noise, before = (LowDose(i0=dose, electronic_sigma=3.0) for dose in (i0, 10 * i0))
        for name, image, seed in (("tuning", tuning, 1), ("scored", scored, 0)):
            problem, truth = simulate(image, geometry, noise, seed=seed)
            scan = simulate(image, geometry, before, seed=seed + 2)[0]
            if name == "tuning":
                weight_before = tuned(lambda w: PWLSQGGMRF(w, 20), 3000.0, scan, truth, solves)
            earlier = PWLSQGGMRF(weight_before, 20)(scan)
            sets[name] = problem, truth, methods(dictionary, earlier, share)
        problem, truth, available = sets["scored"]
        plain: Iterable[tuple[str, Make, float]] = (
            ("FBP, Ram-Lak", lambda _: FBP("ram-lak"), math.nan),
            ("FBP, Hann", lambda _: FBP("hann"), math.nan),
            ("FBP, non-local means", lambda _: FBPNonLocalMeans(), math.nan),
        )
        for name, make, weight in (*plain, *((k, m, g) for k, (m, g) in available.items())):
            if not math.isnan(weight):
                on, guess = sets["tuning"][2][name]
                weight = tuned(on, guess, *sets["tuning"][:2], solves)
            start = time.process_time()
            x = make(weight)(problem)
            row = {
                "prior": name,
                "i0": i0,
                "weight": "" if math.isnan(weight) else f"{weight:.3g}",
                "rmse_hu": round(float(rmse_hu(x, truth, mu_water=MU_WATER)), 2),
                "psnr_db": round(float(psnr(x, truth, data_range=float(truth.max()))), 2),
                "cpu_s": round(time.process_time() - start, 1),
            }
            rows.append(row)
            print(row, flush=True)

    lines = table(
        rows, f"{n}² pixels, {views} views; " + (Path(args.data).name if args.data else "pydicom's head")
    )
    print("\n".join(lines))
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / "priors_ct.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (RESULTS / "priors_ct.md").write_text("\n".join(lines) + "\n")


def coarse(image: Tensor, n: int) -> Tensor:
    """Averaged to n² pixels."""
    return torch.nn.functional.adaptive_avg_pool2d(image[None], n)[0]


def table(rows: list[dict], what: str) -> list[str]:
    """One line a prior, RMSE / PSNR (λ) by dose."""
    doses = sorted({r["i0"] for r in rows})
    lines = [
        f"RMSE [HU] and PSNR [dB], λ tuned on another slice. {what}.",
        "",
        f"| prior | {' | '.join(f'I₀ = {i0:g}: RMSE | PSNR | λ | CPU s' for i0 in doses)} |",
        f"|:--|{'--:|' * 4 * len(doses)}",
    ]
    for name in dict.fromkeys(r["prior"] for r in rows):
        cells = [r for i0 in doses for r in rows if (r["prior"], r["i0"]) == (name, i0)]
        shown = " | ".join(f"{r['rmse_hu']} | {r['psnr_db']} | {r['weight']} | {r['cpu_s']}" for r in cells)
        lines.append(f"| {name} | {shown} |")
    return lines


if __name__ == "__main__":
    main()
