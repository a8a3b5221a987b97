"""What must training images have in common with the test? One network, learned from four kinds of heads.

    python benchmarks/head_domains.py --work W              # twenty minutes of one core; resumable
    python benchmarks/head_domains.py --work W --steps 300  # shorter, and in another W
    python benchmarks/head_domains.py --quick               # seconds: a step of each, nothing written

FBP + U-Net for the scanner of `head-lowdose`, always the same seed, recipe and number of steps, learned from
random heads as they are drawn, with sharp edges; from these with clutter strewn over them; from these blurred
and grainy like a scanner's images; and from those with both, which is what the shipped weights learned from.
Measured on images of each kind that nobody learned from and on the real head of `make demo`: mean RMSE over
the body [HU]. FBP and weighted TV stand beside with the parameters of `recon compare`, tuned on images with
both.
"""

import argparse
import csv
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recon import FBPUNet, Reconstructor
from recon.checkpoints import write_bytes
from recon.comparison import problem as load
from recon.comparison.method import load_methods
from recon.comparison.parameters import Parameters, parameter_file
from recon.comparison.problems.head_lowdose import GEOMETRY, MU_WATER, NOISE
from recon.data import SimulatedPairs, head_slices
from recon.metrics import body_mask, rmse_hu
from recon.problem import Problem
from recon.train_method import train_method
from recon.training import Progress
from recon.zoo.recipes import recipe

RESULTS = Path(__file__).parent / "results"
SHARP = {"kernel": (0.0, 0.0), "grain": (0.0, 0.0)}
KINDS: dict[str, dict[str, Any]] = {
    "as drawn": {"clutter": False, **SHARP},
    "with clutter": SHARP,
    "blurred, grainy": {"clutter": False},
    "both": {},
}
HEAD = "the real head"


def heads(kind: str, images: int) -> SimulatedPairs:
    slices = partial(head_slices, field=GEOMETRY.extent[1], mu_water=MU_WATER, **KINDS[kind])
    return SimulatedPairs(GEOMETRY, NOISE, slices, 4, images, name=f"head-lowdose, {kind}")


def learned(kind: str, work: Path, steps: int) -> Reconstructor:
    """The network of one kind of images, from `work` if it is there."""
    path = work / kind.replace(", ", "-").replace(" ", "-")
    if path.with_suffix(".safetensors").exists():
        method = FBPUNet.load(path)
        if method.config.steps != steps:
            raise SystemExit(f"{path} was trained with other steps; give another --work, or remove it")
        return method

    def show(progress: Progress) -> None:
        if progress.step % 100 == 0:
            print(f"{kind}: step {progress.step} of {steps}, {progress.seconds:.0f} s", flush=True)

    settings = {**recipe("head-lowdose", "fbp-unet"), "steps": steps}
    return train_method("fbp-unet", heads(kind, 1), path, half=False, callback=show, **settings)


def tuned(name: str) -> Reconstructor:
    method = load_methods([name])[name]
    parameters, _ = Parameters(load("head-lowdose"), parameter_file("head-lowdose")).of(name, method)
    return method.build("head-lowdose", **parameters)


def error(method: Reconstructor, pairs: list[tuple[Problem, torch.Tensor]]) -> float:
    """Mean RMSE over the body [HU]."""
    with torch.no_grad():
        found = [rmse_hu(method(p), x, mu_water=MU_WATER, mask=body_mask(x, MU_WATER)) for p, x in pairs]
    return float(torch.stack(found).mean())


def table(rows: list[dict[str, Any]], images: int, steps: int) -> str:
    lines = [
        f"Mean RMSE over the body [HU], {images} images of each kind and one draw of noise of the real head; "
        f"{steps} steps of one image each. Made by `python benchmarks/head_domains.py --steps {steps}`.",
        "",
        f"| method | learned from | {' | '.join([*KINDS, HEAD])} |",
        f"|---|---|{'--:|' * (len(KINDS) + 1)}",
    ]
    best = {k: min(row[k] for row in rows) for k in (*KINDS, HEAD)}
    for row in rows:
        cells = [f"**{row[k]:.1f}**" if row[k] == best[k] else f"{row[k]:.1f}" for k in best]
        lines.append(f"| {row['method']} | {row['learned from']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("runs/head_domains"), help="folder of the weights")
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    images, steps = (1, 1) if options.quick else (8, options.steps)
    tests = {}
    for kind in KINDS:
        problem, truth = heads(kind, images).test
        tests[kind] = [(Problem(problem.A, problem.y[i], problem.noise), truth[i]) for i in range(images)]
    tests[HEAD] = load("head-lowdose").images("test", 1)
    with tempfile.TemporaryDirectory() as passing:
        work = Path(passing) if options.quick else options.work
        work.mkdir(parents=True, exist_ok=True)
        methods = [("FBP", "–", tuned("fbp")), ("TV, weighted", "–", tuned("pwls-total-variation"))]
        methods += [("FBP + U-Net", kind, learned(kind, work, steps)) for kind in KINDS]
    rows: list[dict[str, Any]] = [
        {"method": name, "learned from": kind, **{k: error(method, pairs) for k, pairs in tests.items()}}
        for name, kind, method in methods
    ]
    text = table(rows, images, steps)
    print(text)
    if options.quick:
        return
    write_bytes(RESULTS / "head_domains.md", text.encode())
    with (RESULTS / "head_domains.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
