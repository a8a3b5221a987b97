"""AUTOMAP beside a linear reconstruction learned from the same images, and beside learned primal–dual.

    python benchmarks/automap.py             # about an hour of one core, resumable; writes results/automap.*
    python benchmarks/automap.py --only automap --images 100    # one training alone
    python benchmarks/automap.py --report    # from what is trained
    python benchmarks/automap.py --quick     # seconds: a few steps, nothing written

`ellipses-small`, 64² from 30 views with 5 % noise; the first N training images for every method, the weights
of the best of 16 validation images, 32 test images, range max − min of each truth.

automap              full layers of full rank, 2790 → 4096 → 4096, as Zhu et al. 2018; Adam, fewer steps and
                     fewer features of the convolutions than theirs, for it is to be done on a CPU
automap-128          the same with full layers of rank 128, whose steps cost a fifth: twice as many
linear               x̂ = x̄ + C_xy (C_yy + λ)⁻¹ (y − ȳ): the best linear reconstruction of the N pairs, in
                     closed form, λ of the highest PSNR of the validation images. Knows no geometry either
learned-primal-dual  sees the operator in every iteration
below                methods that learn nothing: FBP, Tikhonov and total variation, by their own rules

A call that is broken off is gone on with by the next. Zoo weights are not used: they saw more images.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon import FBP, METHODS, Tikhonov, TotalVariation
from recon.checkpoints import read_card, write_bytes
from recon.data import SimulatedPairs
from recon.data.small import ellipses_small
from recon.learned import Learned
from recon.metrics import psnr, ssim
from recon.train_method import train_method
from recon.training import Progress

HERE = Path(__file__).parent
RESULTS = HERE / "results"
COUNTS = (10, 100, 1000, 4000)
KEPT = {"validate_every": 50, "checkpoint_every": 50, "choose": "best"}
AUTOMAP: dict[str, Any] = {"features": 16, "optimizer": "adam", "beta2": 0.99, "batch_size": 32, **KEPT}
TRAINED: dict[str, dict[str, Any]] = {
    "automap": {**AUTOMAP, "rank": None, "learning_rate": 1e-3, "steps": 800},
    "automap-128": {**AUTOMAP, "rank": 128, "learning_rate": 1e-4, "steps": 1500},
    "learned-primal-dual": {
        "hidden": 32,
        "batch_size": 2,
        "reuse": 1,
        "steps": 1500,
        "learning_rate": 2e-3,
        "average": 0.99,
        **KEPT,
    },
}
QUICK: dict[str, dict[str, Any]] = {
    "automap": {"features": 2, "hidden": 32, "batch_size": 2, "steps": 2},
    "learned-primal-dual": {"hidden": 4, "iterations": 1, "batch_size": 1, "steps": 2, "reuse": 1},
}
MARKS = {"automap": "o", "automap-128": "v", "linear": "s", "learned-primal-dual": "^"}
METHOD = {"automap-128": "automap"}
WITHOUT = {"fbp": FBP, "tikhonov": Tikhonov, "total-variation": TotalVariation}
LINEAR = "linear"


def scored(x: Tensor, truth: Tensor) -> dict[str, float]:
    """Means over the images, and the standard deviation of PSNR."""
    span = truth.amax((-2, -1)) - truth.amin((-2, -1))
    ratio = psnr(x, truth, data_range=span)
    similarity = ssim(x, truth, data_range=span)
    return {
        "psnr_db": float(ratio.mean()),
        "psnr_db_std": float(ratio.std()),
        "ssim": float(similarity.mean()),
    }


class Linear:
    """x̂ = x̄ + (y − ȳ) V s/(s² + λ) Uᵀ(X − x̄), with Y − ȳ = U s Vᵀ the data of N images as rows.

    That is C_xy (C_yy + λ)⁻¹, the linear estimate of least mean squared error for the sample's covariances; λ
    is that of the highest PSNR of the validation images, in factors of √10.
    """

    def __init__(self, data: SimulatedPairs):
        problem, truth = data.train
        Y, X = problem.y.flatten(1).double(), truth.flatten(1).double()
        self.y, self.x = Y.mean(0), X.mean(0)
        Y, X = Y - self.y, X - self.x
        # of the smaller Gram matrix
        if len(Y) <= Y.shape[1]:
            power, U = torch.linalg.eigh(Y @ Y.T)
            kept = power > 1e-10 * power[-1]
            s = power[kept].sqrt()
            V = Y.T @ U[:, kept] / s
            back = s[:, None] * (U[:, kept].T @ X)
        else:
            power, V = torch.linalg.eigh(Y.T @ Y)
            kept = power > 1e-10 * power[-1]
            s, V = power[kept].sqrt(), V[:, kept]
            back = (Y @ V).T @ X  # s Uᵀ X
        self.V, self.power, self.back = V, s.square(), back
        problem, truth = data.validation
        span = truth.amax((-2, -1)) - truth.amin((-2, -1))
        tried = self.power[-1] * torch.logspace(-8, 1, 19, dtype=torch.float64)
        found = [
            float(psnr(self.at(problem.y, float(w)), truth.double(), data_range=span).mean()) for w in tried
        ]
        self.weight = float(tried[max(range(len(found)), key=found.__getitem__)])

    def at(self, y: Tensor, weight: float) -> Tensor:
        """The images (n, 64, 64) of data (n, views, bins)."""
        coefficients = (y.flatten(1).double() - self.y) @ self.V / (self.power + weight)
        x = self.x + coefficients @ self.back
        return x.unflatten(1, (64, 64))

    def __call__(self, y: Tensor) -> Tensor:
        return self.at(y, self.weight)


def trained(work: Path, name: str, images: int, settings: dict[str, Any]) -> Path:
    """The weights of `name` from so many images, trained if they are not there."""
    out = work / f"{name}-{images}"
    if out.with_suffix(".safetensors").exists():
        return out

    def show(progress: Progress) -> None:
        if progress.step % 50 == 0:
            last = f", {progress.scores[-1][1]:.2f} dB" if progress.scores else ""
            print(f"{out.name}: step {progress.step} of {progress.steps}, {progress.seconds:.0f} s{last}")

    train_method(METHOD.get(name, name), ellipses_small(images), out, callback=show, half=False, **settings)
    return out


def rows(work: Path, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Every method on the test images; those that are not trained are left out."""
    problem, truth = ellipses_small().test
    found: list[dict[str, Any]] = []
    for name, cls in WITHOUT.items():
        found.append({"method": name, "images": 0, **scored(cls()(problem), truth)})
    for count in counts:
        data, start = ellipses_small(count), time.perf_counter()
        linear = Linear(data)
        row = {"method": LINEAR, "images": count, **scored(linear(problem.y).float(), truth)}
        found.append(
            {**row, "seconds": time.perf_counter() - start, "weights": linear.x.numel() * len(linear.y)}
        )
        for name in TRAINED:
            file = work / f"{name}-{count}"
            if not file.with_suffix(".safetensors").exists():
                continue
            method = METHODS[METHOD.get(name, name)].load(file)
            assert isinstance(method, Learned)
            record = read_card(file.with_suffix(".json"))["training"]
            row = {"method": name, "images": count, **scored(method(problem), truth)}
            size = sum(p.numel() for p in method.parameters())
            steps = {"steps": record["steps"], "batch_size": method.config.batch_size}
            # how well it does on what it has seen tells memory from understanding
            seen, known = data.pairs(range(2**31, 2**31 + min(32, count)))
            steps |= {"psnr_db_training": scored(method(seen), known)["psnr_db"]}
            found.append({**row, **steps, "seconds": record["seconds"], "weights": size})
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Methods by images, and how they were trained."""
    lines = [
        "| method | images | PSNR [dB] | SSIM | PSNR in training | weights | steps × batch | min |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in found:
        seen = f"{row['psnr_db_training']:.2f}" if "psnr_db_training" in row else ""
        steps = f"{row['steps']} × {row['batch_size']}" if "steps" in row else ""
        minutes = f"{row['seconds'] / 60:.1f}" if "seconds" in row else ""
        weights = f"{row['weights']:,}" if "weights" in row else ""
        lines.append(
            f"| {row['method']} | {row['images'] or '–'} | {row['psnr_db']:.2f} ± {row['psnr_db_std']:.2f} "
            f"| {row['ssim']:.3f} | {seen} | {weights} | {steps} | {minutes} |"
        )
    return "\n".join(lines) + "\n"


def figure(found: list[dict[str, Any]], path: Path) -> None:
    """PSNR against the number of training images."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, mark in MARKS.items():
        mine = [row for row in found if row["method"] == name]
        if mine:
            ax.plot([r["images"] for r in mine], [r["psnr_db"] for r in mine], f"{mark}-", label=name)
    for row in found:
        if not row["images"]:
            ax.axhline(row["psnr_db"], linestyle=":", color="grey")
            place = {"xycoords": ("axes fraction", "data"), "ha": "center", "va": "bottom", "fontsize": 8}
            ax.annotate(row["method"], (0.5, row["psnr_db"]), **place)
    ax.set(xscale="log", xlabel="training images", ylabel="PSNR [dB], 32 test images")
    ax.legend(loc="lower right", fontsize=8)
    plt.savefig(path, dpi=150)
    plt.close()


def report(work: Path, results: Path, counts: Sequence[int]) -> str:
    """Write json, md and png; the table."""
    found = rows(work, counts)
    about, rest = (__doc__ or "").split("\n\n", 2)[2].split("\n\n", 1)
    names = rest.split("\n\nA call")[0]
    text = (
        f"Made by `python benchmarks/automap.py`.\n{about}\n\n```\n{names}\n```\n\n{table(found)}\n"
        "![automap](automap.png)\n"
    )
    write_bytes(results / "automap.json", (json.dumps(found, indent=1) + "\n").encode())
    write_bytes(results / "automap.md", text.encode())
    figure(found, results / "automap.png")
    return table(found)


def main() -> None:
    """Train what is missing, then report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=sorted(TRAINED))
    parser.add_argument("--images", type=int, choices=COUNTS)
    parser.add_argument("--steps", type=int, help="instead of those above")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "automap", help="folder of weights")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            for name, settings in QUICK.items():
                trained(Path(folder), name, 8, settings)
            print(report(Path(folder), Path(folder), [8]))
        return
    counts = [options.images] if options.images else COUNTS
    if not options.report:
        for count in counts:
            for name in [options.only] if options.only else TRAINED:
                steps = {} if options.steps is None else {"steps": options.steps}
                trained(options.work, name, count, {**TRAINED[name], **steps})
    if not (options.only or options.images):
        print(report(options.work, RESULTS, COUNTS))


if __name__ == "__main__":
    main()
