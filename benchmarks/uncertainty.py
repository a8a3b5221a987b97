"""How much of the truth the intervals of each method hold, before and after conformal calibration.

    python benchmarks/uncertainty.py                    # trains first; writes results/uncertainty.*
    python benchmarks/uncertainty.py --kinds networks   # only these rows: networks, samplers
    python benchmarks/uncertainty.py --quick            # a few steps of everything, seconds, nothing written

Images of `ellipses-small` (64², 30 views, 5 % noise), truths the fine image averaged. Half of the test images
calibrate ("risk": one number, marginal over pixels and images), the other half are measured. All networks are
small FBP + U-Nets, alike but for what makes them know their spread. A method's raw interval is mean ± 1.645
spreads; λ of TV is the median of what the discrepancy chooses for the calibration images. Trained networks,
checkpoints and rows lie in --work; a row that is there is not made again.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from priors import DiffusionPrior
from recon import (
    DDS,
    DPS,
    FBP,
    Conformal,
    DeepEnsemble,
    DiffPIR,
    HeteroscedasticUNet,
    MCDropout,
    MomentMatching,
    ParametricBootstrap,
    Problem,
    Reconstructor,
    TotalVariation,
    psnr,
)
from recon.baselines.postprocess import FBPUNet
from recon.checkpoints import write_bytes
from recon.data.sets import selected
from recon.data.small import dival_images, ellipses_small
from recon.denoising import load_prior, save_prior
from recon.diffusion import DiffusionConfig, train_diffusion
from recon.learned import Learned
from recon.uncertainty import Prediction, calibration_curve, coverage, prediction

RESULTS = Path(__file__).parent / "results"
LEVEL = 0.9
MEMBERS = 4
KINDS = ["networks", "samplers"]


class Said(Reconstructor):
    """Predictions that were made already, by the data they are of: nothing is computed twice."""

    def __init__(self, known: list[tuple[Problem, Prediction]], spread: bool):
        super().__init__()
        self.known = {problem.y.data_ptr(): p for problem, p in known}
        if not spread:
            self.predict = None

    def forward(self, problem: Problem) -> torch.Tensor:
        return self.known[problem.y.data_ptr()].mean

    def predict(self, problem: Problem) -> Prediction:
        return self.known[problem.y.data_ptr()]


def trained(method: Learned, data, path: Path) -> Learned:
    """The method from `path`, trained there first if need be; resumed if it was broken off."""
    if path.with_suffix(".safetensors").exists():
        there = type(method).load(path)
        if there.config != method.config:
            raise SystemExit(f"{path} was trained with other settings; give another --work, or remove it")
        return there
    start = time.perf_counter()
    method.fit(data, checkpoint=path.with_name(f"{path.name}.checkpoint.safetensors"))
    method.save(path)
    print(f"{path.name}: {method.config.steps} steps, {time.perf_counter() - start:.0f} s", flush=True)
    return method


def diffusion_prior(steps: int, path: Path, quick: bool) -> DiffusionPrior:
    prior = DiffusionPrior(0.32, (8, 16) if quick else (24, 48, 72))
    if path.with_suffix(".safetensors").exists():
        return load_prior(prior, path)
    start = time.perf_counter()
    config = DiffusionConfig(
        steps=steps, batch_size=8, validate_every=500, checkpoint_every=100, precision="bfloat16"
    )
    checkpoint = path.with_name(f"{path.name}.checkpoint.safetensors")
    train_diffusion(prior, dival_images(64), config, checkpoint=checkpoint)
    save_prior(prior, path, data="dival ellipses, 64²", steps=steps, seed=config.seed)
    print(f"{path.name}: {steps} steps, {time.perf_counter() - start:.0f} s", flush=True)
    return prior


def total_variation(calibration: list, quick: bool) -> TotalVariation:
    if quick:
        return TotalVariation(5.0, iterations=20)
    weights = [TotalVariation().solve(problem).weight for problem, _ in calibration]
    return TotalVariation(float(torch.cat(weights).median()))


Make = Callable[[], Reconstructor]


def methods(work: Path, calibration: list, quick: bool, kinds: list[str]) -> Iterator[tuple[str, Make]]:
    """Every method of these kinds by name, and how to make it, trained."""
    data = ellipses_small()
    steps, samples = (2, 2) if quick else (2000, 16)
    size = {"base": 4, "depth": 2, "batch_size": 2} if quick else {"base": 12, "depth": 4, "batch_size": 4}
    size |= {"steps": steps, "validate_every": 10**6, "checkpoint_every": 100, "average": 0.99}
    size |= {"precision": "bfloat16"}

    def unet(seed: int, dropout: float = 0.0) -> Learned:
        name = f"unet-{seed}" if dropout == 0 else f"dropout-{seed}"
        return trained(FBPUNet(**size, seed=seed, dropout=dropout), data, work / name)

    def heteroscedastic(seed: int) -> Learned:
        return trained(HeteroscedasticUNet(**size, seed=seed), data, work / f"heteroscedastic-{seed}")

    if "networks" in kinds:
        yield "FBP", FBP
        yield "U-Net, one", lambda: unet(0)
        yield f"deep ensemble of {MEMBERS}", lambda: DeepEnsemble([unet(seed) for seed in range(MEMBERS)])
        yield f"MC dropout, {samples}", lambda: MCDropout(unet(0, 0.1), samples)
        yield "heteroscedastic", lambda: heteroscedastic(0)
        pair = "ensemble of 2 heteroscedastic"
        yield pair, lambda: DeepEnsemble([heteroscedastic(seed) for seed in range(2)])
        bootstrap = f"bootstrap of TV, {samples}"
        yield bootstrap, lambda: ParametricBootstrap(total_variation(calibration, quick), samples)
    if "samplers" in kinds:
        few: dict[str, Any] = {"samples": 2 if quick else 8, "scale": 1.0}

        def prior() -> DiffusionPrior:
            return diffusion_prior(2 if quick else 3000, work / "diffusion", quick)

        yield "DPS, 100 steps", lambda: DPS(prior(), 2 if quick else 100, **few)
        yield "DDS, 50 steps", lambda: DDS(prior(), 2 if quick else 50, **few)
        yield "DiffPIR, λ 1, 100 steps", lambda: DiffPIR(prior(), 2 if quick else 100, 1.0, **few)
        yield "DiffPIR, λ 7, 100 steps", lambda: DiffPIR(prior(), 2 if quick else 100, **few)
        yield "moment matching, 25 steps", lambda: MomentMatching(prior(), 2 if quick else 25, **few)


def split(images: int) -> tuple[list[tuple[Problem, torch.Tensor]], list[tuple[Problem, torch.Tensor]]]:
    """Calibration and test pairs, four images each."""
    data = ellipses_small()
    data.test_size = images
    problem, truth = data.test
    parts = [(selected(problem, i), truth[i]) for i in torch.arange(images).split(4)]
    return parts[: len(parts) // 2], parts[len(parts) // 2 :]


def measure(name: str, method: Reconstructor, calibration: list, test: list) -> dict[str, float | str]:
    start = time.perf_counter()
    with torch.no_grad():
        known = [(p, prediction(method, p)) for p, _ in [*calibration, *test]]
    seconds = (time.perf_counter() - start) / sum(len(p.y) for p, _ in known)
    tells = getattr(method, "predict", None) is not None
    told = Said(known, tells)
    conformal = Conformal(told, LEVEL).calibrate(calibration)
    truth = torch.cat([x for _, x in test])
    found = [told.known[p.y.data_ptr()] for p, _ in test]
    whole = Prediction(torch.cat([p.mean for p in found]), torch.cat([p.spread for p in found]))
    lower, upper = (torch.cat(side) for side in zip(*(conformal.interval(p) for p, _ in test), strict=True))
    held = coverage(lower, upper, truth)
    row: dict[str, float | str] = {
        "method": name,
        "psnr_db": float(psnr(whole.mean, truth, data_range=1.0).mean()),
        "raw_coverage": float(coverage(*whole.interval(LEVEL), truth).mean()) if tells else "",
        "raw_width": float(2 * 1.6449 * whole.spread.mean()) if tells else "",
        "mismatch": calibration_curve(whole, truth).mismatch if tells else "",
        "coverage": float(held.mean()),
        "coverage_worst_image": float(held.min()),
        "width": float((upper - lower).mean()),
        "seconds_per_image": seconds,
    }
    print("  ".join(f"{k} {v:.3f}" if isinstance(v, float) else str(v) for k, v in row.items()), flush=True)
    return row


def table(rows: Iterable[dict[str, float | str]], calibrated: int, tested: int) -> str:
    def cell(value: float | str, digits: int = 3) -> str:
        return f"{value:.{digits}f}" if isinstance(value, float) else "–"

    lines = [
        f"Intervals of 90 % on `ellipses-small`, calibrated on {calibrated} images, measured on {tested}",
        "others. Widths in units of the image (truths in [0, 1]); mismatch: mean |spread − error| over the",
        "mean error, in ten groups of like spread, 0 is right. Coverage is the mean over pixels and images.",
        "",
        "| method | PSNR [dB] | raw coverage | raw width | mismatch | conformal coverage | its worst image "
        "| conformal width | s per image |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = [
            str(r["method"]), cell(r["psnr_db"], 2), cell(r["raw_coverage"]), cell(r["raw_width"]),
            cell(r["mismatch"], 2), cell(r["coverage"]), cell(r["coverage_worst_image"]), cell(r["width"]),
            cell(r["seconds_per_image"], 2),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("uncertainty-work"))
    parser.add_argument("--images", type=int, default=120, help="half calibrate, half are measured")
    parser.add_argument("--kinds", default="networks,samplers", help="some of: networks, samplers")
    options = parser.parse_args()
    if unknown := set(options.kinds.split(",")) - set(KINDS):
        parser.error(f"--kinds: expected networks, samplers or both, got {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as passing:
        work, images = (Path(passing), 24) if options.quick else (options.work, options.images)
        work.mkdir(parents=True, exist_ok=True)
        calibration, test = split(images)
        file = work / f"rows-{images}.json"
        rows = json.loads(file.read_text()) if file.exists() else {}
        for name, make in methods(work, calibration, options.quick, options.kinds.split(",")):
            if name not in rows:
                rows[name] = measure(name, make(), calibration, test)
                write_bytes(file, json.dumps(rows, indent=1).encode())
        every = methods(work, calibration, options.quick, KINDS)
    found = [rows[name] for name, _ in every if name in rows]
    text = table(found, images // 2, images - images // 2)
    print(text)
    if options.quick:
        return
    with (RESULTS / "uncertainty.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, found[0])
        writer.writeheader()
        writer.writerows(found)
    (RESULTS / "uncertainty.md").write_text(text)


if __name__ == "__main__":
    main()
