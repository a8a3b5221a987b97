"""What does a back projection cost that is not the adjoint? CGLS, TV by primal–dual, learned primal–dual.

    python benchmarks/adjoint_mismatch.py --work WORK    # minutes; writes results/adjoint_mismatch.*
    python benchmarks/adjoint_mismatch.py --quick        # seconds, toy sizes, nothing written

The projection A is always Joseph's (`XRay`). It is paired with its transpose; with the back projection that
interpolates between bins at every pixel, which is what GPU code and ours for FBP do; and, if astra-toolbox is
there, with the transposes of two other discretisations of the same rays, strips and lines. Every B has the
scale that brings it closest to A* on white noise. Gradients of networks go through B as well.

CGLS: noise-free data and data with 1 % noise, error to the truth. TV: distance to the minimiser, which the
matched pair finds to a small gap, and what the true objective is worse by. Learned primal–dual: PSNR of
validation images after the same training, several seeds. A killed training goes on from its last checkpoint
in WORK, and what is finished there is not repeated.
"""

import argparse
import csv
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from operators import LinearOperator, ParallelBeam, XRay
from operators.backprojection import PixelBackprojection
from operators.testing import mismatch
from priors import TV, NonNegative
from recon import LearnedPrimalDual
from recon.data.random_ellipses import dival_ellipses
from recon.data.small import ellipses_small, ellipses_small_geometry
from recon.fidelity import LeastSquares
from recon.metrics import psnr
from recon.solvers import cgls, pdhg

RESULTS = Path(__file__).parent / "results"
MATCHED, PIXEL, STRIP, LINE = "transpose", "pixels, interpolating", "strips' transpose", "lines' transpose"
WEIGHT = 0.3  # of TV against ½ ‖Ax − y‖² [mm]


@dataclass(frozen=True)
class Plan:
    size: int
    views: int
    cgls: int
    minimiser: int
    tv: int
    steps: int
    seeds: int
    net: dict


FULL = Plan(
    size=64,
    views=90,
    cgls=400,
    minimiser=20_000,
    tv=3000,
    steps=600,
    seeds=3,
    net={"iterations": 6, "hidden": 16, "batch_size": 4, "reuse": 1},
)
QUICK = Plan(
    size=32,
    views=24,
    cgls=40,
    minimiser=400,
    tv=100,
    steps=4,
    seeds=1,
    net={"iterations": 2, "hidden": 4, "batch_size": 2, "reuse": 1},
)


class Mismatched(LinearOperator):
    """A, with c·B where its adjoint is called for."""

    def __init__(self, A: XRay, B: LinearOperator, c: float = 1.0):
        super().__init__()
        self.A, self.B, self.c, self.geometry = A, B, c, A.geometry
        self.in_shape, self.out_shape = A.in_shape, A.out_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self.A(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.c * self.B(y)


class Transposed(LinearOperator):
    """Sinogram to image by the transpose of a matrix."""

    def __init__(self, matrix: object, A: XRay):
        super().__init__()
        self.matrix = matrix
        self.in_shape, self.out_shape = A.out_shape, A.in_shape

    def _times(self, M: object, v: Tensor, shape: tuple[int, ...]) -> Tensor:
        product = (M @ v.detach().double().flatten(1).numpy().T).T  # type: ignore[operator]
        return torch.from_numpy(np.ascontiguousarray(product)).reshape(-1, *shape).to(v)

    def _forward(self, x: Tensor) -> Tensor:
        return self._times(self.matrix.T, x, self.out_shape)  # type: ignore[attr-defined]

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._times(self.matrix, y, self.in_shape)


def astra_matrix(geometry: ParallelBeam, kind: str) -> object:
    """ASTRA's matrix of a projector, rows views × bins."""
    import astra

    h = geometry.pixel_size
    scan = astra.create_proj_geom(
        "parallel", geometry.bin_size / h, geometry.n_bins, np.array(geometry.angles)
    )
    number = astra.create_projector(kind, scan, astra.create_vol_geom(*geometry.image_shape))
    return astra.matrix.get(astra.projector.matrix(number)).astype(np.float64)


def pairs(geometry: ParallelBeam) -> dict[str, LinearOperator]:
    """A with every back projection there is."""
    A = XRay(geometry)
    backs: dict[str, LinearOperator] = {PIXEL: PixelBackprojection(geometry)}
    try:
        backs[STRIP] = Transposed(astra_matrix(geometry, "strip"), A)
        backs[LINE] = Transposed(astra_matrix(geometry, "line"), A)
    except ImportError:
        print("astra-toolbox is not installed: without strips and lines")
    found: dict[str, LinearOperator] = {MATCHED: A}
    y = white(A)
    right = A.adjoint(y)
    for name, B in backs.items():
        back = B(y)
        found[name] = Mismatched(A, B, float((right * back).sum() / back.square().sum()))
    return found


def white(A: LinearOperator, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((count, *A.out_shape), generator=generator, dtype=torch.float64)


def defects(A: XRay, pair: LinearOperator, truth: Tensor) -> dict[str, float]:
    """|⟨Ax, y⟩ − ⟨x, By⟩| / ‖Ax‖‖y‖, and ‖(B − A*)y‖/‖A*y‖ for noise and for a sinogram."""

    def relative(y: Tensor) -> float:
        right = A.adjoint(y)
        return float((pair.adjoint(y) - right).norm() / right.norm())

    return {
        "scalar": mismatch(pair, dtype=torch.float64),
        "white": relative(white(A)),
        "sinogram": relative(A(truth)),
    }


def phantom(size: int) -> Tensor:
    return next(dival_ellipses("validation", size, seed=3, stop=1)).double()


def cgls_errors(pair: LinearOperator, y: Tensor, truth: Tensor, iterations: int) -> list[float]:
    """‖xₖ − x‖/‖x‖ after every iteration, until it is no number any more."""
    errors = []
    for iterate, _ in zip(cgls(pair, y, torch.zeros_like(truth)), range(iterations + 1), strict=False):
        error = float((iterate.x - truth).norm() / truth.norm())
        if not math.isfinite(error):
            break
        errors.append(error)
    return errors


def tv_problem(A: LinearOperator, y: Tensor) -> tuple[list, Callable[[Tensor], float]]:
    data, tv = LeastSquares(y) @ A, WEIGHT * TV(A.in_shape)
    return [data, tv], lambda x: float(data(x) + tv(x))


def tv_minimiser(A: LinearOperator, y: Tensor, iterations: int) -> tuple[Tensor, float]:
    """The minimiser and its gap over the objective, by the matched pair; ends at a gap of 1e-9."""
    terms, _ = tv_problem(A, y)
    start = torch.zeros(A.in_shape, dtype=y.dtype)
    x, gap = start, math.inf
    for iterate in islice(pdhg(terms, NonNegative(), start, circulant=True, every=50), 1, iterations + 1):
        if iterate.gap is not None and iterate.objective is not None:
            x, gap = iterate.x, float(iterate.gap / iterate.objective)
            if gap <= 1e-9:
                break
    return x, gap


def tv_path(
    pair: LinearOperator, A: LinearOperator, y: Tensor, best: Tensor, iterations: int
) -> list[tuple[int, float, float]]:
    """(iteration, distance to the minimiser, excess of the true objective), relative, at some iterations."""
    terms, _ = tv_problem(pair, y)
    _, objective = tv_problem(A, y)
    least, path = objective(best), []
    kept = {round(10 ** (k / 8)) for k in range(1 + round(8 * math.log10(iterations)))} | {iterations}
    iterates = pdhg(terms, NonNegative(), torch.zeros(A.in_shape, dtype=y.dtype))
    for k, iterate in zip(range(iterations + 1), iterates, strict=False):
        if k in kept:
            far = float((iterate.x - best).norm() / best.norm())
            path.append((k, far, objective(iterate.x) / least - 1))
    return path


def trained(name: str, seed: int, plan: Plan, work: Path) -> list[tuple[int, float]]:
    """(step, validation PSNR) of a learned primal–dual network that learns with one pair; kept in WORK."""
    word = "-".join("".join(c if c.isalnum() else " " for c in name).split())
    path = work / f"{word}-{seed}-{plan.steps}.json"
    if path.exists():
        return [(int(k), float(v)) for k, v in json.loads(path.read_text())]
    data = ellipses_small()
    data.operator = pairs(data.geometry)[name]
    method = LearnedPrimalDual(
        **plan.net,
        steps=plan.steps,
        seed=seed,
        validate_every=max(plan.steps // 6, 1),
        checkpoint_every=max(plan.steps // 6, 1),
    )
    last: list[list[tuple[int, float]]] = [[]]

    def watch(progress) -> None:
        last[0] = progress.scores

    checkpoint = path.with_suffix(".checkpoint.safetensors")
    method.fit(data, checkpoint=checkpoint, callback=watch)
    checkpoint.unlink(missing_ok=True)
    curve = sorted({int(k): v for k, v in last[0]}.items())
    write(path, json.dumps(curve))
    return curve


def classical(plan: Plan) -> dict[str, dict]:
    """Defects, CGLS and TV of every pair, by its name."""
    geometry = ellipses_small_geometry(plan.size, plan.views)
    few = ellipses_small_geometry(plan.size, 30)
    truth, A, sparse = phantom(plan.size), XRay(geometry), XRay(few)
    noise = torch.Generator().manual_seed(1)
    clean = A(truth)
    noisy = clean + 0.01 * clean.abs().mean() * torch.randn(clean.shape, generator=noise, dtype=clean.dtype)
    y = sparse(truth)
    y = y + 0.025 * y.abs().mean() * torch.randn(y.shape, generator=noise, dtype=y.dtype)
    best, gap = tv_minimiser(sparse, y, plan.minimiser)
    print(f"TV's minimiser to a relative gap of {gap:.1e}", flush=True)
    found: dict[str, dict] = {}
    sparse_pairs = pairs(few)
    for name, pair in pairs(geometry).items():
        found[name] = {
            "defects": defects(A, pair, truth),
            "cgls": cgls_errors(pair, clean, truth, plan.cgls),
            "cgls_noisy": cgls_errors(pair, noisy, truth, plan.cgls),
            "tv": tv_path(sparse_pairs[name], sparse, y, best, plan.tv),
            "tv_gap": gap,
            "tv_psnr_db": float(psnr(best, truth, data_range=1.0)),
        }
        print(f"{name}: CGLS and TV done", flush=True)
    return found


def studied(plan: Plan, work: Path) -> dict[str, dict]:
    """Everything about every pair, by its name."""
    path = work / "classical.json"
    if not path.exists():
        write(path, json.dumps(classical(plan)))
    found = json.loads(path.read_text())
    for seed in range(plan.seeds):
        for name in found:
            curve = trained(name, seed, plan, work)
            found[name].setdefault("lpd", []).append(curve)
            print(f"{name}, seed {seed}: {curve[-1][1]:.2f} dB", flush=True)
    return found


def write(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text)
    unfinished.replace(path)


def table(found: dict[str, dict], plan: Plan) -> list[str]:
    """One line a pair."""
    matched = [curve[-1][1] for curve in found[MATCHED]["lpd"]]
    gap = found[MATCHED]["tv_gap"]
    lines = [
        f"{plan.size}² pixels. CGLS: {plan.views} views, {plan.cgls} iterations, ‖x − truth‖/‖truth‖. TV: 30 "
        f"views, 2.5 % noise, {plan.tv} iterations, against the minimiser (relative gap {gap:.0e}). Learned "
        f"primal–dual: 64², 30 views, {plan.net['iterations']} iterations, {plan.steps} steps of "
        f"{plan.net['batch_size']}, {plan.seeds} seed(s), validation PSNR (± spread over seeds). Defect: "
        "|⟨Ax, y⟩ − ⟨x, By⟩|/‖Ax‖‖y‖ of noise, and ‖(B − A*)y‖/‖A*y‖ of noise and of a sinogram.",
        "",
        "| back projection | defect | of noise | of a sinogram | CGLS, exact data: least (at), last | "
        "CGLS, 1 % noise: least (at), last | TV: distance, excess of objective | learned [dB] | loses [dB] |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, entry in found.items():
        d, (_, far, excess) = entry["defects"], entry["tv"][-1]
        final = [curve[-1][1] for curve in entry["lpd"]]
        loss = np.mean(matched) - np.mean(final)
        lines.append(
            f"| {name} | {d['scalar']:.0e} | {d['white']:.1e} | {d['sinogram']:.1e} | "
            f"{least(entry['cgls'])} | {least(entry['cgls_noisy'])} | {far:.1e}, {excess:.1e} | "
            f"{np.mean(final):.2f} ± {np.std(final):.2f} | {loss:+.2f} |"
        )
    return lines


def least(errors: list[float]) -> str:
    k = int(np.argmin(errors))
    return f"{errors[k]:.3g} ({k}), {errors[-1]:.3g}"


def draw(found: dict[str, dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for name, entry in found.items():
        (line,) = left.loglog(range(1, len(entry["cgls"])), entry["cgls"][1:], label=name)
        left.loglog(range(1, len(entry["cgls_noisy"])), entry["cgls_noisy"][1:], ":", color=line.get_color())
        middle.loglog(*zip(*[(k, far) for k, far, _ in entry["tv"]], strict=True), color=line.get_color())
        steps = [k for k, _ in entry["lpd"][0]]
        mean = np.mean([[v for _, v in curve] for curve in entry["lpd"]], 0)
        right.plot(steps, mean, color=line.get_color())
    left.set(title="CGLS (dotted: 1 % noise)", xlabel="iteration", ylabel="relative error to the truth")
    middle.set(title="TV by PDHG", xlabel="iteration", ylabel="relative distance to the minimiser")
    right.set(title="learned primal–dual", xlabel="training step", ylabel="validation PSNR [dB]")
    left.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", type=Path, help="where finished trainings are kept")
    args = parser.parse_args()
    plan = QUICK if args.quick else FULL
    with tempfile.TemporaryDirectory() as passing:
        work = args.work if args.work and not args.quick else Path(passing)
        work.mkdir(parents=True, exist_ok=True)
        found = studied(plan, work)
    lines = table(found, plan)
    print("\n".join(lines))
    if args.quick:
        return
    RESULTS.mkdir(exist_ok=True)
    assert __doc__ is not None
    about = "\n\n".join(__doc__.split("\n\n")[2:])
    (RESULTS / "adjoint_mismatch.md").write_text(about + "\n" + "\n".join(lines) + "\n")
    (RESULTS / "adjoint_mismatch.json").write_text(json.dumps(found) + "\n")
    with (RESULTS / "adjoint_mismatch.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["back projection", "what", "seed", "step", "value"])
        for name, entry in found.items():
            for what in ("cgls", "cgls_noisy"):
                writer.writerows([name, what, "", k, f"{v:.6g}"] for k, v in enumerate(entry[what]))
            writer.writerows([name, "tv_distance", "", k, f"{v:.6g}"] for k, v, _ in entry["tv"])
            for seed, curve in enumerate(entry["lpd"]):
                writer.writerows([name, "lpd_psnr_db", seed, k, f"{v:.4f}"] for k, v in curve)
    draw(found, RESULTS / "adjoint_mismatch.png")


if __name__ == "__main__":
    main()
