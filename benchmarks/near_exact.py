"""Does a network solve the inverse problem? Noise-free sparse fan-beam data, beside TV solved to its end.

    python benchmarks/near_exact.py --work WORK                   # writes results/near_exact.*
    python benchmarks/near_exact.py --work WORK --steps 100000    # a longer training, which begins anew
    python benchmarks/near_exact.py --quick                       # toy sizes, nothing written

Each network takes --steps optimiser steps with a rate that falls to zero over them, a quarter of an hour on
one core for the default. Everything in WORK is kept: a killed training goes on from its last checkpoint, one
that has ended is not done again, nor are TV's rows.

Phantoms: an ellipse of 0.4 that fills most of the field, in it 3 to 8 ellipses of −0.3 to 0.5, cut to [0, 1]
and sampled at the pixels' centres, so that images are piecewise constant on the grid; 64², 24 views of a flat
detector of 96 bins over the full turn: 2304 data for 4096 pixels. Data come from the very operator that
reconstructs. That is the criterion of Sidky, Lorente, Brankov, Pan (IEEE Trans. Biomed. Eng. 68 (2021)): what
inverts must be near exact here.

TV without noise: min Σ|∇x|, Ax = y, 0 ≤ x ≤ 1, in float64, to a duality gap of 1e-8. With noise (Gaussian,
relative to ‖y‖): min ½‖Ax − y‖² + λ Σ|∇x| in the same box, λ chosen on validation phantoms at every level.
Networks: ItNet from FBP, trained without noise and with noise of random size; and the first with conjugate
gradients to the data after it. Errors are ‖x − truth‖/‖truth‖.
"""

import argparse
import csv
import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from parts.tv_equality import least_tv
from torch import Tensor

from operators import FanBeam, Gaussian, XRay
from operators.tensors import norm, spread
from priors import TV, Box
from recon import ItNet, Problem
from recon.data.sets import TEST, Pair, SimulatedPairs
from recon.fidelity import LeastSquares
from recon.solvers import cgls, pdhg, run
from recon.train_log import read_curve
from recon.training import Progress

RESULTS = Path(__file__).parent / "results"
GOAL, GAP = 1e-3, 1e-8
PLAIN, JITTERED, CONSISTENT = "ItNet", "ItNet, trained with noise", "ItNet, then CGLS"


@dataclass(frozen=True)
class Plan:
    size: int
    views: int
    bins: int
    exact_iterations: int
    images: int
    iterations: int
    tuned_on: int
    consistent: int
    levels: tuple[float, ...]
    net: dict


FULL = Plan(
    size=64,
    views=24,
    bins=96,
    exact_iterations=20_000,
    images=16,
    iterations=1500,
    tuned_on=6,
    consistent=200,
    levels=(0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 2e-2, 5e-2),
    net={
        "base": 24,
        "depth": 4,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "precision": "bfloat16",
        "average": 0.99,
        "validate_every": 250,
        "checkpoint_every": 250,
    },
)
QUICK = Plan(
    size=32,
    views=12,
    bins=48,
    exact_iterations=200,
    images=2,
    iterations=60,
    tuned_on=1,
    consistent=10,
    levels=(0.0, 1e-2),
    net={"base": 4, "depth": 2, "batch_size": 2, "validate_every": 2, "data_steps": (1.0, 0.5)},
)


def phantom(seed: int, size: int) -> Tensor:
    """One image of the class, (size, size) in [0, 1], float64."""
    random = np.random.default_rng(seed)
    at = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(at, -at)

    def ellipse(cx: float, cy: float, a: float, b: float, turn: float) -> np.ndarray:
        u = (x - cx) * math.cos(turn) + (y - cy) * math.sin(turn)
        v = (y - cy) * math.cos(turn) - (x - cx) * math.sin(turn)
        return (u / a) ** 2 + (v / b) ** 2 <= 1

    image = 0.4 * ellipse(0, 0, *random.uniform(0.75, 0.92, 2), random.uniform(0, math.pi))
    for _ in range(random.integers(3, 9)):
        r, angle = 0.55 * math.sqrt(random.uniform()), random.uniform(0, 2 * math.pi)
        axes, turn = random.uniform(0.05, 0.3, 2), random.uniform(0, math.pi)
        value = random.uniform(-0.3, 0.5)
        image += value * ellipse(r * math.cos(angle), r * math.sin(angle), *axes, turn)
    return torch.from_numpy(image.clip(0, 1))


def fan(plan: Plan) -> FanBeam:
    """Source at twice the image's side, everything in view."""
    n = plan.size
    angles = [2 * math.pi * k / plan.views for k in range(plan.views)]
    bin_size = 2 * 1.5 * n / plan.bins * 0.9
    return FanBeam((n, n), 1.0, angles, plan.bins, bin_size, 2.0 * n, 4.0 * n, detector="flat", offset=0.0)


class Phantoms(SimulatedPairs):
    """Exact pairs: y = A x with the A that reconstructs, an inverse crime on purpose."""

    def __init__(self, plan: Plan):
        super().__init__(
            fan(plan),
            Gaussian(sigma=1.0),
            lambda seeds: torch.stack([phantom(s, plan.size) for s in seeds]),
            validation_size=plan.images,
            test_size=plan.images,
            name="near-exact phantoms",
        )

    @torch.no_grad()
    def pairs(self, seeds: Sequence[int]) -> Pair:
        truth = self.images(list(seeds)).float()
        return Problem(self.A, self.A(truth), self.noise), truth


class Network(ItNet):
    """ItNet, judged by its mean relative error [dB below 1]."""

    def score(self, data: Phantoms) -> float:  # type: ignore[override]
        problem, truth = data.validation
        return -20 * math.log10(float(errors(self(problem), truth).mean()))

    @classmethod
    def examples(cls) -> list:
        return []


def errors(x: Tensor, truth: Tensor) -> Tensor:
    return norm(x.double() - truth, 2) / norm(truth.double(), 2)


def noisy(y: Tensor, level: float, seed: int) -> Tensor:
    """Y + n with E‖n‖ = level · ‖y‖, per image."""
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
    return y + spread(level * norm(y, 2) / math.sqrt(y[0].numel()), 2) * noise


def tv(A: XRay, y: Tensor, weight: float, iterations: int, gap: float) -> tuple[Tensor, Tensor, int]:
    """Images, gap over objective, iterations; ends when every gap is at most `gap`."""
    terms = [LeastSquares(y) @ A, weight * TV(A.in_shape)]
    solver = pdhg(terms, Box(0.0, 1.0), torch.zeros(len(y), *A.in_shape, dtype=y.dtype), every=25)
    x, relative, k = y, torch.full((len(y),), math.inf), 0
    for iterate in islice(solver, 1, iterations + 1):
        k += 1
        if iterate.gap is not None and iterate.objective is not None:
            x, relative = iterate.x, iterate.gap / iterate.objective
            if bool((relative <= gap).all()):
                break
    return x, relative, k


def exact_tv(data: Phantoms, plan: Plan) -> dict:
    """TV without noise, to the gap."""
    truth = data.images(range(TEST, TEST + plan.images)).double()
    found = least_tv(data.A, data.A(truth), plan.exact_iterations, GAP)
    return {
        "errors": errors(found.x, truth).tolist(),
        "gap": float(found.gap.max()),
        "misfit": float(found.misfit.max()),
        "outside": float(found.outside.max()),
        "iterations": found.iterations,
        "weight": 0.0,
    }


def tuned_tv(data: Phantoms, level: float, plan: Plan) -> dict:
    """TV at one level, λ from validation phantoms; a chosen edge widens the grid."""
    parts = {"validation": range(plan.tuned_on), "test": range(TEST, TEST + plan.images)}
    sets = {}
    for seed, (part, numbers) in enumerate(parts.items()):
        truth = data.images(numbers).double()
        sets[part] = noisy(data.A(truth), level, seed), truth
    guess = 100 * level  # found once for this class
    found: dict[float, float] = {}
    grid = [guess / 3, guess, guess * 3]
    while True:
        for weight in grid:
            if weight not in found:
                y, truth = sets["validation"]
                found[weight] = float(errors(tv(data.A, y, weight, plan.iterations, 1e-6)[0], truth).mean())
        best = min(found, key=lambda w: found[w])
        if best not in (min(grid), max(grid)) or len(found) > 9:
            break
        grid.append(best / 3 if best == min(grid) else best * 3)
    y, truth = sets["test"]
    x, gap, iterations = tv(data.A, y, best, plan.iterations, 1e-6)
    return {
        "errors": errors(x, truth).tolist(),
        "gap": float(gap.max()),
        "iterations": iterations,
        "weight": best,
    }


def trained(name: str, jitter: float, data: Phantoms, plan: Plan, work: Path, steps: int) -> tuple:
    """The network, what it cost, and (step, mean relative error on validation)."""
    path = work / f"itnet{'-jittered' if jitter else ''}-{steps}"
    if path.with_suffix(".safetensors").exists():
        method = Network.load(path)
    else:
        method = Network(**plan.net, steps=steps, jitter=jitter)

        def watch(progress: Progress) -> None:
            if progress.scores and progress.step % method.config.validate_every == 0:
                error, spent = relative(progress.scores[-1][1]), progress.seconds / 60
                print(f"    {name}: step {progress.step}, {spent:.0f} min, {error:.2e}", flush=True)

        method.fit(data, checkpoint=work / f"{path.name}.checkpoint.safetensors", callback=watch)
        method.save(path)
    record = method.record
    weights = sum(p.numel() for p in method.parameters())
    how = (
        f"{weights / 1000:.0f} k weights, {record['steps']} steps of {method.config.batch_size} in "
        f"{record['seconds'] / 60:.0f} min on {record['threads']} thread(s)"
    )
    rows = read_curve(work / f"{path.name}.curve.csv")
    return method, how, [(int(r["step"]), relative(r["score"])) for r in rows if "score" in r]


def relative(score: float) -> float:
    """The error whose decibels below 1 the score is."""
    return 10 ** (-score / 20)


@torch.no_grad()
def network_errors(method: Network, data: Phantoms, level: float, consistent: int = 0) -> list[float]:
    """On the test phantoms; with `consistent` iterations of CGLS from the network's image, in float64."""
    truth = data.images(range(TEST, TEST + data.test_size)).double()
    y = noisy(data.A(truth), level, 1)
    x = method(Problem(data.A, y.float(), data.noise)).double()
    if consistent:
        x = run(cgls(data.A, y, x), consistent, 1e-10)
    return errors(x, truth).tolist()


def write(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text)
    unfinished.replace(path)


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def studied(plan: Plan, work: Path, steps: int) -> dict:
    data = Phantoms(plan)
    found: dict = {"rows": {}, "curves": {}, "how": {}}
    for name, jitter in ((PLAIN, 0.0), (JITTERED, max(plan.levels))):
        method, found["how"][name], found["curves"][name] = trained(name, jitter, data, plan, work, steps)
        found["rows"][name] = {f"{v:g}": network_errors(method, data, v) for v in plan.levels}
        if name == PLAIN:
            found["rows"][CONSISTENT] = {
                f"{v:g}": network_errors(method, data, v, plan.consistent) for v in plan.levels
            }
    found["how"][CONSISTENT] = f"{plan.consistent} iterations of CGLS from ItNet's image"
    found["tv"] = {}
    for level in plan.levels:
        path = work / f"tv-{level:g}.json"
        if not path.exists():
            row = tuned_tv(data, level, plan) if level else exact_tv(data, plan)
            write(path, json.dumps(row))
        found["tv"][f"{level:g}"] = json.loads(path.read_text())
        print(f"TV at {level:g}: {mean(found['tv'][f'{level:g}']['errors']):.2e}", flush=True)
    return found


def table(found: dict, plan: Plan) -> list[str]:
    exact, names = found["tv"]["0"], list(found["rows"])
    verdict = "reached" if exact["gap"] <= GAP else "not reached"
    lines = [
        f"Without noise, box-constrained TV: relative gap {exact['gap']:.1e} (1e-8 {verdict}, "
        f"{exact['iterations']} iterations), ‖Ax − y‖/‖y‖ {exact['misfit']:.0e}, at most "
        f"{exact['outside']:.0e} outside the box; relative error {mean(exact['errors']):.1e}, at worst "
        f"{max(exact['errors']):.1e} of {len(exact['errors'])} phantoms.",
        "",
        f"Mean relative error of {plan.images} test phantoms by relative noise; the best of a row in bold.",
        "",
        f"| noise | TV (λ, gap) | {' | '.join(names)} |",
        f"|--:|--:|{'--:|' * len(names)}",
    ]
    wins: dict[str, list[str]] = {name: [] for name in names}
    for level, row in found["tv"].items():
        values = {"TV": mean(row["errors"])} | {name: mean(found["rows"][name][level]) for name in names}
        least = min(values.values())
        shown = {n: f"**{v:.2e}**" if v == least else f"{v:.2e}" for n, v in values.items()}
        for name in names:
            if values[name] < values["TV"]:
                wins[name].append(level)
        cells = " | ".join(shown[name] for name in names)
        lines.append(f"| {level} | {shown['TV']} ({row['weight']:.2g}, {row['gap']:.0e}) | {cells} |")
    lines.append("")
    for name in names:
        clean = mean(found["rows"][name]["0"])
        verdict = "reached" if clean <= GOAL else "not reached"
        where = f"wins over TV at {', '.join(wins[name])}" if wins[name] else "wins over TV at none of them"
        lines.append(
            f"{name} ({found['how'][name]}): {clean:.2e} without noise, 0.1 % {verdict}; of these levels it "
            f"{where}."
        )
    return lines


def draw(found: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, curve in found["curves"].items():
        left.semilogy(*zip(*curve, strict=True), label=name)
    left.axhline(GOAL, color="grey", lw=0.8)
    left.set(xlabel="training step", ylabel="relative error, validation", title="training")
    left.legend(fontsize="small")
    rows = {"TV": {v: row["errors"] for v, row in found["tv"].items()}} | found["rows"]
    for name, row in rows.items():
        levels = [max(float(v), 3e-5) for v in row]  # no noise, at the left edge
        right.loglog(levels, [mean(v) for v in row.values()], ".-", label=name)
    right.set(xlabel="relative noise (left end: none)", ylabel="relative error, test", title="noise")
    right.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="where checkpoints and rows are kept")
    parser.add_argument("--steps", type=int, default=6000, help="of each network")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if not (args.quick or args.work):
        parser.error("give --work, or --quick")
    plan = QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory() as passing:
        work = Path(passing) if args.quick else args.work
        work.mkdir(parents=True, exist_ok=True)
        found = studied(plan, work, 4 if args.quick else args.steps)
    lines = table(found, plan)
    print("\n".join(lines))
    if args.quick:
        return
    RESULTS.mkdir(exist_ok=True)
    assert __doc__ is not None
    about = "\n\n".join(__doc__.split("\n\n")[3:])
    (RESULTS / "near_exact.md").write_text(about + "\n## Errors\n\n" + "\n".join(lines) + "\n")
    (RESULTS / "near_exact.json").write_text(json.dumps(found) + "\n")
    with (RESULTS / "near_exact_curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["network", "step", "relative_error"])
        for name, curve in found["curves"].items():
            writer.writerows([name, step, f"{value:.4e}"] for step, value in curve)
    draw(found, RESULTS / "near_exact.png")


if __name__ == "__main__":
    main()
