"""How long 200 iterations of TV by primal–dual take with our projector and with ASTRA's, and how near the
fused TV step comes to memory bandwidth.

    python benchmarks/pdhg_tv.py            # 256² × 180 views, 200 iterations; writes results/pdhg_tv.*
    python benchmarks/pdhg_tv.py --quick    # the same at 64², a few seconds, nothing written
"""

import argparse
import csv
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import torch

from operators import ParallelBeam, XRay
from priors import TV, NonNegative
from recon.data import shepp_logan
from recon.fidelity import LeastSquares
from recon.solvers import pdhg, run

RESULTS = Path(__file__).parent / "results"


@numba.njit(parallel=True, fastmath=True)
def triad(a, b, c, s):
    for i in numba.prange(a.size):
        a[i] = b[i] + s * c[i]


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Median over `rounds`, after one unmeasured call."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def bandwidth(n: int) -> float:
    """Bytes per second of a = b + s c over arrays far larger than the cache."""
    a, b, c = (np.ones(n, np.float32) for _ in range(3))
    return 3 * a.nbytes / seconds(lambda: triad(a, b, c, np.float32(0.5)), 7)


def solve(backend: str, size: int, views: int, iterations: int) -> tuple[float, float]:
    """Seconds for the whole solve, and the objective it ends at."""
    angles = [math.pi * (k + 0.5) / views for k in range(views)]
    bins = 2 * math.ceil(0.75 * size)
    geometry = ParallelBeam((size, size), 1.0, angles, bins, 1.0)
    A = XRay(geometry, backend=backend)
    truth = shepp_logan((size, size)).float()
    y = A(truth)
    generator = torch.Generator().manual_seed(0)
    y = y + 0.02 * float(y.mean()) * torch.randn(y.shape, generator=generator)
    data, tv = LeastSquares(y) @ A, 2.0 * TV((size, size))
    A.norm()
    x = torch.zeros_like(truth)
    run(pdhg([data, tv], NonNegative(), x), 3)  # compile
    start = time.perf_counter()
    x = run(pdhg([data, tv], NonNegative(), x), iterations)
    return time.perf_counter() - start, float(data(x) + tv(x))


def fused_step(size: int, batch: int) -> dict[str, float]:
    """The fused dual step against its least memory traffic."""
    tv = 0.05 * TV((size, size))
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(batch, 2, size, size, generator=generator)
    x = torch.randn(batch, size, size, generator=generator)

    fused_s = seconds(lambda: tv.dual_step(p, x, 0.25), 15)
    ideal_s = 5 * x.numel() * 4 / bandwidth(30_000_000)  # read p (2) and x, write p (2)
    return {"ms": 1e3 * fused_s, "times_ideal": fused_s / ideal_s}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    size, views, iterations = (64, 30, 50) if quick else (256, 180, 200)

    rows = []
    for round_ in range(1 if quick else 3):
        for backend in ("numba", "astra"):
            elapsed, objective = solve(backend, size, views, iterations)
            rows.append({"round": round_, "backend": backend, "seconds": elapsed, "objective": objective})
            print(f"{backend:6s} {elapsed:7.2f} s  objective {objective:.6g}")
    median = {
        b: statistics.median(r["seconds"] for r in rows if r["backend"] == b) for b in ("numba", "astra")
    }
    ratio = median["astra"] / median["numba"]
    step = fused_step(128 if quick else 512, 8)
    last = {r["backend"]: r["objective"] for r in rows}
    assert math.isclose(last["numba"], last["astra"], rel_tol=1e-3), last

    lines = [
        f"{iterations} PDHG-TV iterations, parallel {size}² × {views} views, two threads: with ASTRA's CPU",
        f"projector {median['astra']:.2f} s, with ours {median['numba']:.2f} s: **{ratio:.1f}×** faster.",
        f"Fused TV dual step, {128 if quick else 512}² × 8: {step['ms']:.2f} ms, "
        f"{step['times_ideal']:.2f}× the time that its memory traffic needs.",
    ]
    print("\n".join(lines))
    if not quick:
        with (RESULTS / "pdhg_tv.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (RESULTS / "pdhg_tv.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
