"""How far methods come that learn without truth: FBP, TV, three self-supervised ones, a supervised U-Net.

    python benchmarks/self_supervised.py            # 1000 steps each, some ten minutes of one core; resumable
    python benchmarks/self_supervised.py --quick    # two steps each, seconds, nothing kept

`ellipses-small`: 64², 30 views, 5 % noise, 32 test images. All networks are the same U-Net behind the same
filtered back projection, take the same number of optimiser steps on the same 256 noisy sinograms, and but
for the supervised one see no image. Nothing is chosen by a truth: λ of TV by the discrepancy, α of
equivariant imaging by the held-out score on validation data. That score, which the table gives for all, is
10 log₁₀ of Σ|y|² over the squared error with which every fourth view is predicted from the others.
PSNR and SSIM are the oracle's; range max − min of each truth. What --work has is not computed again.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import torch

from operators import Gaussian
from recon import (
    FBP,
    EquivariantImaging,
    FBPUNet,
    Noise2Inverse,
    Problem,
    Reconstructor,
    SURETraining,
    TotalVariation,
    psnr,
    ssim,
)
from recon.data.small import ellipses_small
from recon.learned import Learned
from recon.selfsupervised.base import SelfSupervised, parts

RESULTS = Path(__file__).parent / "results"
NETWORK = {"base": 16, "depth": 3}
ALPHAS = (0.01, 1.0, 100.0)


def held_out(method: Reconstructor, problem: Problem) -> float:
    """[dB], of views predicted from the others."""
    y = problem.linear
    if isinstance(method, SelfSupervised):
        size, error = method.held_out(problem)
        return float(10 * torch.log10(size.sum() / error.sum()))
    error = torch.zeros(())
    for part in parts(problem.A, 4):
        seen = y[:, part.other_views]
        if isinstance(method, Learned):
            x = method.apply_to(part.others, seen / method.scale(problem)) * method.scale(problem)
        else:
            x = method(Problem(part.others, seen, Gaussian(sigma=problem.noise.sigma)))
        error = error + (part.A(x) - y[:, part.views]).square().sum()
    return float(10 * torch.log10(y.square().sum() / error))


@torch.no_grad()
def row(method: Reconstructor, problem: Problem, truth: torch.Tensor, seconds: float) -> dict[str, float]:
    x = method(problem)
    span = truth.flatten(1).amax(1) - truth.flatten(1).amin(1)
    quality = psnr(x, truth, data_range=span)
    return {
        "psnr_db": float(quality.mean()),
        "psnr_std": float(quality.std()),
        "ssim": float(ssim(x, truth, data_range=span).mean()),
        "held_out_db": held_out(method, problem),
        "training_s": seconds,
    }


def learners(steps: int, alphas: tuple[float, ...]) -> dict[str, Learned]:
    budget = {"steps": steps, "batch_size": 4, "learning_rate": 1e-3, "average": 0.995, "validate_every": 500}
    budget["checkpoint_every"] = 100
    own = {"settings": NETWORK, **budget}
    found: dict[str, Learned] = {
        "Noise2Inverse": Noise2Inverse(**own),
        "Noise2Inverse, rays": Noise2Inverse(**own, domain="data"),
        "SURE": SURETraining(**own),
    }
    for alpha in alphas:
        one = {**own, "weight": alpha, "transforms": 1, "robust": True}
        found[f"robust equivariant imaging, α = {alpha:g}"] = EquivariantImaging(**one)
    found["supervised U-Net"] = FBPUNet(**NETWORK, **budget)
    return found


def trained(name: str, method: Learned, data: object, work: Path | None) -> Learned:
    """`method`, fitted; with a folder it goes on from where it was."""
    print(f"{name}: training")
    pairs = data.of_kind(method.data_kind)  # type: ignore[attr-defined]
    slug = "".join(c if c.isalnum() else "-" for c in name.lower())
    return method.fit(pairs, checkpoint=work / f"{slug}.safetensors" if work else None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--work", type=Path, default=Path("runs/self_supervised"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    steps, work = (2, None) if options.quick else (options.steps, options.work)
    data = ellipses_small(train_size=8 if options.quick else 256)
    problem, truth = data.pairs(range(2**30, 2**30 + (2 if options.quick else 32)))

    file = None if work is None else work / f"rows-{steps}.json"
    rows: dict[str, dict[str, float]] = json.loads(file.read_text()) if file and file.exists() else {}

    def keep(name: str, value: dict[str, float]) -> None:
        rows[name] = value
        print(f"{name:40s} " + "  ".join(f"{k} {v:.4g}" for k, v in value.items()), flush=True)
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(rows, indent=1))

    for name, method in {"FBP (Hann)": FBP(filter="hann"), "TV, discrepancy": TotalVariation()}.items():
        if name not in rows:
            keep(name, row(method, problem, truth, 0.0))
    folder = None if work is None else work / str(steps)
    for name, learner in learners(steps, ALPHAS[:1] if options.quick else ALPHAS).items():
        if name not in rows:
            started = time.perf_counter()
            learner = trained(name, learner, data, folder)
            seconds = float(learner.record["seconds"]) if folder else time.perf_counter() - started
            with torch.no_grad():
                validation = held_out(learner, data.validation[0])
            keep(name, row(learner, problem, truth, seconds) | {"validation_db": validation})

    imaging = [k for k in rows if k.startswith("robust")]
    chosen = max(imaging, key=lambda k: rows[k]["validation_db"])
    lines = [
        f"`ellipses-small` (64², 30 views, 5 % noise), {len(truth)} test images, {steps} steps of batches",
        f"of 4 on {len(data.train[1])} noisy sinograms, U-Net of {NETWORK['base']} channels and",
        f"{NETWORK['depth']} scales. By held-out views of the validation data: {chosen.split(', ')[1]}.",
        "",
        "| method | PSNR [dB] | ± | SSIM | held-out views [dB] | training [s] |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {r['psnr_db']:.2f} | {r['psnr_std']:.2f} | {r['ssim']:.3f} | {r['held_out_db']:.2f} "
        f"| {r['training_s']:.0f} |"
        for name, r in rows.items()
    ]
    print("\n".join(lines))
    if not options.quick:
        options.out.mkdir(parents=True, exist_ok=True)
        with (options.out / "self_supervised.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["method", *rows["supervised U-Net"]])
            writer.writeheader()
            writer.writerows({"method": name, **r} for name, r in rows.items())
        (options.out / "self_supervised.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
