"""FDK on the CPU: time, accuracy on analytic balls, and the memory of a volume written slab by slab.

    python benchmarks/fdk.py            # three minutes on two cores; writes results/fdk.md
    python benchmarks/fdk.py --quick    # a small case, seconds, nothing written

There is hardly anything to compare with: ASTRA's FDK, and ODL's, deepinv's and TIGRE's with it, need a CUDA
device, LEAP is not on PyPI. `torch` is our own back projection in plain torch, what other devices run.
"""

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numba
import numpy as np
import torch

from operators import ConeBeam, ConeVectors, fdk, fdk_by_slab
from operators.backends import voxel
from operators.feldkamp import Feldkamp, VoxelBackprojection
from operators.orbit import circular
from recon.data.ellipsoids import Ellipsoids, ball

RESULTS = Path(__file__).parent / "results"


def scanner(n: int, views: int, detector: str = "flat", arc: float = 2 * math.pi, **other) -> ConeBeam:
    """A cube of n mm, 250/64 n from the source, twice magnified, the detector 1.7 n pixels wide."""
    angles = [arc * k / views for k in range(views)]
    pixels = (3 * n // 2, 7 * n // 4)
    return ConeBeam((n, n, n), 1.0, angles, pixels, 2.0, 4.0 * n, 8.0 * n, detector, **other)


def median_time(call, rounds: int) -> float:
    call()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def speed(n: int, views: int, detector: str, rounds: int) -> str:
    geometry = scanner(n, views, detector)
    y, x = torch.randn(geometry.out_shape), torch.randn(geometry.in_shape)
    B, plan, few = VoxelBackprojection(geometry), Feldkamp(geometry, "hann"), 4
    some, orbit = y[None, :few], circular(geometry).subset(slice(0, few))
    whole = median_time(lambda: plan(y), rounds)
    back = median_time(lambda: B(y), rounds)
    forth = median_time(lambda: B.adjoint(x), rounds)
    plain = (
        views / few * median_time(lambda: voxel._backproject_torch(some, orbit, torch.zeros_like(x[None])), 1)
    )
    rows, columns = geometry.detector_shape
    return (
        f"| {n}³ | {views} | {detector}, {rows} × {columns} | {1e3 * whole:.0f} | {1e3 * back:.0f} | "
        f"{1e9 * back / n**3 / views:.2f} | {1e3 * forth:.0f} | {1e3 * plain:.0f} |"
    )


def accuracy(n: int, views: int) -> list[str]:
    """Mean of a ball, its edge left out, in the middle plane and at three quarters of its radius above."""
    centre, radius = (5 / 64 * n, -n / 16, 0.0), 20 / 64 * n
    phantom = Ellipsoids([ball(1.0, radius, centre)])
    circle = scanner(n, views)
    fan = 2 * math.atan(7 * n / 4 / (8 * n))
    f = circle.frames()
    turned = ConeVectors(
        circle.volume_shape, circle.voxel_size, circle.detector_shape, f.source, f.centre,
        math.cos(0.02) * f.u + math.sin(0.02) * f.v, math.cos(0.02) * f.v - math.sin(0.02) * f.u,
    )  # fmt: skip
    scans = {
        "flat": circle,
        "arc": scanner(n, views, "arc"),
        "short scan": scanner(n, views * 5 // 8, arc=math.pi + fan + 0.1),
        "detector 0.6 n off centre": scanner(n, 2 * views, offset=(0.0, 0.6 * n)),
        "detector turned by 0.02 rad": turned,
    }
    lines = [
        f"| {n}³, {views} views | middle plane | at ¾ r | error outside |",
        "|---|---|---|---|",
    ]
    z, y, x = (np.arange(n) - (n - 1) / 2 for _ in range(3))
    apart = np.sqrt(
        (x - centre[0]) ** 2 + (-y[:, None] - centre[1]) ** 2 + (z[:, None, None] - centre[2]) ** 2
    )
    inside, outside = torch.from_numpy(apart < 0.9 * radius), torch.from_numpy(apart > 1.1 * radius)
    for name, geometry in scans.items():
        image = fdk(geometry, phantom.line_integrals(geometry).float())
        middle, high = n // 2, n // 2 + int(0.75 * radius)
        values = [float(image[k][inside[k]].mean()) - 1 for k in (middle, high)]
        values.append(float(image[middle][outside[middle]].mean()))
        lines.append(f"| {name} | " + " | ".join(f"{1e3 * v:+.2f} ‰" for v in values) + " |")
    return lines


def private() -> float:
    """Memory of this process that belongs to no file, now [MiB]."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 2**10


def out_of_core(n: int, views: int, memory: int) -> None:
    """Run in a process of its own: print by how many MiB it grew, and the seconds."""
    geometry, small = scanner(n, views), scanner(16, 8)
    fdk_by_slab(small, np.zeros(small.out_shape, np.float32), np.zeros(small.in_shape, np.float32))
    with tempfile.TemporaryDirectory() as folder:
        y = np.memmap(Path(folder) / "y", np.float32, "w+", shape=geometry.out_shape)
        x = np.memmap(Path(folder) / "x", np.float32, "w+", shape=geometry.in_shape)
        before, seen, done = private(), [], threading.Event()

        def watch() -> None:
            while not done.wait(0.002):
                seen.append(private())

        watcher = threading.Thread(target=watch)
        watcher.start()
        begin = time.perf_counter()
        fdk_by_slab(geometry, y, x, memory=memory)
        seconds = time.perf_counter() - begin
        done.set()
        watcher.join()
    print(f"{max(seen, default=before) - before:.0f} {seconds:.1f}")


def memory_lines(n: int, views: int) -> list[str]:
    if not Path("/proc/self/status").exists():
        return ["Memory: measured on Linux only."]
    geometry = scanner(n, views)
    sizes = [4 * math.prod(s) / 2**20 for s in (geometry.in_shape, geometry.out_shape)]
    lines = [
        f"Volume {n}³, {sizes[0]:.1f} MiB, from {views} views, {sizes[1]:.1f} MiB, both np.memmap:",
        "",
        "| `memory` of fdk_by_slab [MiB] | growth of the process, files apart [MiB] | [s] |",
        "|---|---|---|",
    ]
    for memory in (2**23, 2**25, 2**27):
        command = [sys.executable, __file__, "--out-of-core", str(n), str(views), str(memory)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        grown, seconds = done.stdout.split()
        lines.append(f"| {memory / 2**20:.0f} | {grown} | {seconds} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small case, nothing written")
    parser.add_argument("--out-of-core", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.out_of_core:
        out_of_core(*options.out_of_core)
        return
    quick = options.quick
    sizes = [(32, 20, "flat")] if quick else [
        (64, 90, "flat"), (128, 120, "flat"), (128, 240, "flat"), (128, 120, "arc"), (256, 240, "flat"),
    ]  # fmt: skip
    lines = [
        "# FDK on the CPU",
        "",
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, float32, torch "
        f"{torch.__version__}, numba {numba.__version__}. Written by `python benchmarks/fdk.py`.",
        "",
        "| volume | views | detector | fdk [ms] | back projection [ms] | [ns per voxel and view] | "
        "its transpose [ms] | torch [ms] |",
        "|---|---|---|---|---|---|---|---|",
        *(speed(*size, rounds=1 if quick else 5) for size in sizes),
        "",
        "Error of the mean of a ball of 1, its outer tenth left out, from analytic projections (Ram-Lak):",
        "",
        *accuracy(32 if quick else 64, 60 if quick else 180),
        "",
        *([] if quick else [*accuracy(128, 360), ""]),
        *memory_lines(48 if quick else 256, 20 if quick else 120),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        temporary = RESULTS / "fdk.md.part"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(RESULTS / "fdk.md")


if __name__ == "__main__":
    main()
