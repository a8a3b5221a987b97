"""Our projectors on a CUDA device against ASTRA's, in one run: medians, ratios, and who has the transpose.

    python benchmarks/cuda.py            # 2-D 512² batch 1, 8, 64 and cone 256³; writes results/cuda.*
    python benchmarks/cuda.py --quick    # small sizes, nothing written

Without a CUDA device it says so and ends with 0. Without ASTRA only ours are timed.
"""

import argparse
import csv
import importlib.util
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from operators import ConeBeam, FanBeam, ParallelBeam, XRay
from operators.geometry import Geometry
from operators.testing import mismatch

RESULTS = Path(__file__).parent / "results"


def cases(quick: bool) -> list[tuple[str, Geometry, int]]:
    """Name, geometry, batch."""
    n, views = (64, 24) if quick else (512, 360)
    half, turn = ([a * math.pi * k / views for k in range(views)] for a in (1, 2))
    bins = 2 * math.ceil(0.72 * n)
    flat = ParallelBeam((n, n), 1.0, half, bins, 1.0)
    fan = FanBeam((n, n), 1.0, turn, bins, 2.0, 1.6 * n, 3.2 * n)
    m = 32 if quick else 256
    cone = ConeBeam((m, m, m), 1.0, turn, (m * 3 // 2, m * 3 // 2), 2.0, 2.0 * m, 4.0 * m)
    arc = ConeBeam((m, m, m), 1.0, turn, (m * 3 // 2, m * 3 // 2), 2.0, 2.0 * m, 4.0 * m, "arc")
    planar = [
        (f"{name} {n}² × {views}, batch {batch}", g, batch)
        for name, g in (("parallel", flat), ("fan", fan))
        for batch in (1, 8, 64)
    ]
    return [*planar, (f"cone {m}³ × {views}", cone, 1), (f"cone on an arc {m}³ × {views}", arc, 1)]


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Median time of `work` on the device, after two unmeasured calls."""
    work(), work()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    if not torch.cuda.is_available():
        print("no CUDA device: nothing to measure")
        return
    backends = ["triton"] + (["astra"] if importlib.util.find_spec("astra") else [])
    rows = []
    for name, geometry, batch in cases(quick):
        for backend in backends:
            A = XRay(geometry, backend)
            x, y = (torch.rand(batch, *shape, device="cuda") for shape in (A.in_shape, A.out_shape))
            rows.append(
                {
                    "case": name,
                    "backend": backend,
                    "A_ms": 1e3 * seconds(lambda A=A, x=x: A(x), 3 if quick else 9),
                    "adjoint_ms": 1e3 * seconds(lambda A=A, y=y: A.adjoint(y), 3 if quick else 9),
                    "mismatch": mismatch(A, device="cuda"),
                    "peak_MiB": torch.cuda.max_memory_allocated() / 2**20,
                }
            )
            print(rows[-1], flush=True)
            torch.cuda.reset_peak_memory_stats()
    lines = [
        f"{torch.cuda.get_device_name()}, float32, ASTRA's time over ours.",
        "",
        "| scan | A, ours [ms] | A, ratio | A*, ours [ms] | A*, ratio | mismatch, ours | ASTRA |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, _, _ in cases(quick):
        found = {r["backend"]: r for r in rows if r["case"] == name}
        ours, theirs = found["triton"], found.get("astra")
        ratios = [f"{theirs[k] / ours[k]:.2f}" if theirs else "–" for k in ("A_ms", "adjoint_ms")]
        gap = f"{theirs['mismatch']:.1e}" if theirs else "–"
        lines.append(
            f"| {name} | {ours['A_ms']:.2f} | {ratios[0]} | {ours['adjoint_ms']:.2f} | {ratios[1]} "
            f"| {ours['mismatch']:.1e} | {gap} |"
        )
    print("\n".join(lines))
    if not quick:
        with (RESULTS / "cuda.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (RESULTS / "cuda.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
