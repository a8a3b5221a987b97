"""A deep image prior left alone fits the noise: PSNR against iterations, and where each rule stops.

    python benchmarks/dip_stopping.py            # 5 images of ellipses-small; writes results/dip_stopping.*
    python benchmarks/dip_stopping.py --quick    # one small image, seconds, nothing written

Three priors without TV, so that nothing but the stop holds back the noise. Rules see the data and the
outputs, never the truth; the oracle, for comparison, is the highest PSNR of the run. Held-out data are taken
out of the fit, so that rule has a run of its own. Rules that choose nothing get the last iteration.
"""

import argparse
import csv
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from operators import Gaussian, ParallelBeam, XRay
from priors import Functional
from recon import DeepImagePrior, Problem, psnr
from recon.data.small import ellipses_small
from recon.dip_stopping import Discrepancy, HeldOut, Stopping, Watch, WindowedVariance

RESULTS = Path(__file__).parent / "results"
PRIORS = {
    "U-Net on a rough image": {"channels": (32, 64, 64), "learning_rate": 2e-3},
    "hourglass on noise": {"network": "hourglass", "channels": (32,) * 4, "learning_rate": 5e-3},
    "decoder on noise": {"network": "conv-decoder", "channels": (64,) * 6, "learning_rate": 5e-3},
}
SMALL = {"unet": (16, 16), "hourglass": (16,) * 3, "conv-decoder": (32,) * 5}


@dataclass(frozen=True)
class Record(Stopping):
    """Lets a fit run to its end; notes the PSNR of every output and what each rule would return."""

    truth: Tensor
    rules: dict[str, Stopping]
    curve: list[float] = field(default_factory=list)
    stops: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, int] = field(default_factory=dict)

    def begin(self, problem: Problem, d: Functional) -> Watch:
        return _Recording(self, {name: rule.begin(problem, d) for name, rule in self.rules.items()})


class _Recording(Watch):
    def __init__(self, record: Record, watches: dict[str, Watch]):
        self.record, self.watches = record, watches
        kept = [w.keep for w in watches.values() if w.keep is not None]
        self.keep = kept[0] if kept else None

    def done(self, k: int, x: Tensor, z: Tensor) -> bool:
        record = self.record
        record.curve.append(float(psnr(x, record.truth, data_range=float(record.truth.max()))))
        for name, watch in self.watches.items():
            if name in record.stops:
                continue
            if watch.done(k, x, z):
                record.stops[name] = k
            if watch.at is not None:
                record.chosen[name] = watch.at
        return False


def one(prior: dict, problem: Problem, truth: Tensor, iterations: int, seed: int) -> list[dict]:
    """Rows of one image and prior: where every rule stopped and the PSNR of what it returns."""
    window, patience = max(iterations // 50, 5), iterations // 4
    whole = Record(truth, {"variance": WindowedVariance(window, patience), "discrepancy": Discrepancy()})
    part = Record(truth, {"held-out": HeldOut(0.1, patience)})
    settings = {"weight": 0.0, "iterations": iterations, "schedule": "constant", "seed": seed, **prior}
    for record in (whole, part):
        DeepImagePrior(**settings, stop=record)(problem)
    rows = [
        {"rule": "none: the last iteration", "stop": iterations - 1, "at": iterations - 1},
        {"rule": "oracle", "stop": -1, "at": max(range(iterations), key=lambda k: whole.curve[k])},
    ]
    for record in (whole, part):
        for name in record.rules:
            at = record.chosen.get(name, iterations - 1)
            rows.append({"rule": name, "stop": record.stops.get(name, iterations - 1), "at": at})
    for row in rows:
        curve = part.curve if row["rule"] == "held-out" else whole.curve
        row |= {"psnr_db": curve[row["at"]], "curve": whole.curve, "part_curve": part.curve}
    return rows


def scans(quick: bool) -> tuple[Problem, Tensor]:
    """Test images of ellipses-small, or one of boxes in much noise."""
    if not quick:
        return ellipses_small().test
    truth = torch.zeros(1, 24, 24)
    truth[0, 6:18, 5:12], truth[0, 8:12, 12:19] = 1.0, 0.6
    A = XRay(ParallelBeam((24, 24), 1.0, [(k + 0.5) * math.pi / 24 for k in range(24)], 35, 1.0))
    noise = Gaussian(relative=0.4).at(A(truth))
    return Problem(A, noise(A(truth), seed=0), noise), truth


def figure(rows: list[dict], path: Path) -> None:
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        1, len(PRIORS), figsize=(5 * len(PRIORS), 4.2), sharey=True, layout="constrained"
    )
    for axis, prior in zip(axes, PRIORS, strict=True):
        mine = [r for r in rows if r["prior"] == prior and r["image"] == 0]
        axis.plot(mine[0]["curve"], color="0.3", label="all data")
        axis.plot(mine[0]["part_curve"], color="0.7", label="without those held out")
        marks = {"oracle": "k*", "variance": "C0o", "discrepancy": "C1s", "held-out": "C2^"}
        for row in mine:
            if row["rule"] in marks:
                name = "oracle (sees the truth)" if row["rule"] == "oracle" else f"stop: {row['rule']}"
                axis.plot(row["at"], row["psnr_db"], marks[row["rule"]], ms=9, label=name)
        axis.set(title=prior, xlabel="iteration", xscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("PSNR [dB], range of the truth")
    axes[-1].legend()
    fig.suptitle("Deep image prior without TV, one image: what is returned by each rule")
    fig.savefig(path, dpi=120)
    plt.close(fig)


def table(rows: list[dict]) -> list[str]:
    lines = ["| prior | rule | mean PSNR [dB] | below the oracle | above the last | chosen at | stopped at |"]
    lines.append("|---|---|---|---|---|---|---|")
    for prior in PRIORS:
        mine = [r for r in rows if r["prior"] == prior]

        def mean(rule: str, key: str, rows: list[dict] = mine) -> float:
            values = [r[key] for r in rows if r["rule"] == rule]
            return sum(values) / len(values)

        for rule in dict.fromkeys(r["rule"] for r in mine):
            value = mean(rule, "psnr_db")
            below, above = (
                mean("oracle", "psnr_db") - value,
                value - mean("none: the last iteration", "psnr_db"),
            )
            stop = "–" if rule == "oracle" else f"{mean(rule, 'stop'):.0f}"
            lines.append(
                f"| {prior} | {rule} | {value:.2f} | {below:.2f} | {above:.2f} | {mean(rule, 'at'):.0f} "
                f"| {stop} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=3000)
    args = parser.parse_args()
    iterations = 180 if args.quick else args.iterations
    problem, truth = scans(args.quick)
    count = min(1 if args.quick else args.images, len(truth))
    rows: list[dict] = []
    start = time.perf_counter()
    for name, prior in PRIORS.items():
        small = {**prior, "channels": SMALL[prior.get("network", "unet")]} if args.quick else prior
        for i in range(count):
            scan = Problem(problem.A, problem.y[i], problem.noise.select(i))
            rows += [{"prior": name, "image": i, **row} for row in one(small, scan, truth[i], iterations, i)]
            print(f"{name}, image {i}: {time.perf_counter() - start:.0f} s", flush=True)
    lines = table(rows)
    print("\n".join(lines))
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        head = (
            f"{count} test image(s) of ellipses-small, seed = number of the image, {iterations} iterations."
        )
        command = f"python benchmarks/dip_stopping.py --images {count} --iterations {iterations}"
        made = f"Made by `{command}`. The oracle sees the truth, the rules do not."
        (RESULTS / "dip_stopping.md").write_text("\n".join([head, made, "", *lines]) + "\n")
        with (RESULTS / "dip_stopping.csv").open("w", newline="") as file:
            writer = csv.DictWriter(
                file, ["prior", "image", "rule", "at", "stop", "psnr_db"], extrasaction="ignore"
            )
            writer.writeheader()
            writer.writerows(rows)
        figure(rows, RESULTS / "dip_stopping.png")


if __name__ == "__main__":
    main()
