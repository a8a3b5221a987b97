"""Our projectors of volumes on the CPU: error, speed, how time grows, memory; in one run.

    python benchmarks/cone_beam.py                     # 128³, some minutes; writes results/cone_beam.md
    python benchmarks/cone_beam.py --quick             # 32³, some seconds, nothing written
    python benchmarks/cone_beam.py --prototype cone.c  # also a C prototype with cone_fwd and cone_adj

Nothing else projects cones on a CPU that pip installs: ASTRA, tomosipo and TIGRE need CUDA there, ODL wraps
ASTRA, deepinv and scikit-image have two dimensions only; LEAP is not on PyPI, torchtomo's licence is
non-commercial. What is left is a cached sparse matrix, made here from our own operator, where it fits. Data
are float32; candidates take turns, and the numbers are medians.
"""

import argparse
import ctypes
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from projector import machine

from operators import ConeBeam, ConeVectors, ParallelBeam3D, XRay
from operators.volume import VolumeGeometry
from recon.data.ellipsoids import off_centre_solids, shepp_logan_ellipsoids

RESULTS = Path(__file__).parent / "results"
Call = Callable[[], object]


def scan(kind: str, n: int, views: int, columns: int) -> VolumeGeometry:
    """n³ voxels of 1 mm, seen twice as large by columns² pixels of 2 mm."""
    angles = [2 * math.pi * k / views for k in range(views)]
    grid, far = ((n, n, n), (1.0, 1.0, 1.0)), (2.0 * n, 4.0 * n)
    cone = ConeBeam(*grid, tuple(angles), (columns, columns), (2.0, 2.0), *far)
    if kind == "circle":
        return cone
    if kind == "arc":
        return ConeBeam(*grid, tuple(angles), (columns, columns), (2.0, 2.0), *far, detector="arc")
    if kind == "parallel":
        return ParallelBeam3D(*grid, tuple(angles), (columns, columns), (1.0, 1.0))
    if kind == "helix":
        turns = tuple(2 * a for a in angles)
        pitch, start = n / 4, -n / 4
        return ConeBeam(*grid, turns, (columns, columns), (2.0, 2.0), *far, pitch=pitch, start=start)
    if kind == "scattered":
        scattered = tuple(np.random.default_rng(0).uniform(0, 2 * math.pi, views).tolist())
        return ConeBeam(*grid, scattered, (columns, columns), (2.0, 2.0), *far)
    f = cone.frames()  # "tilted": every detector turned by 0.02 rad in its plane
    c, s = math.cos(0.02), math.sin(0.02)
    turned = [
        tuple(map(tuple, a.tolist())) for a in (f.source, f.centre, c * f.u + s * f.v, c * f.v - s * f.u)
    ]
    return ConeVectors(*grid, (columns, columns), *turned)


KINDS = ("circle", "arc", "helix", "parallel", "scattered", "tilted")


def errors(n: int) -> list[str]:
    """Relative L2 error of projections of voxels against line integrals of the solids."""
    lines = [
        f"Relative L2 error of projections, {n}³, 24 views.",
        "",
        "| scan | two solids | Shepp–Logan |",
        "|---|---|---|",
    ]
    for kind in KINDS:
        geometry, found = scan(kind, n, 24, 3 * n // 2), []
        for solids in (off_centre_solids(n / 2), shepp_logan_ellipsoids(field=n)):
            truth = solids.line_integrals(geometry)
            y = XRay(geometry)(solids.rasterise(geometry.volume_shape).float())
            found.append(float((y - truth).norm() / truth.norm()))
        lines.append(f"| {kind} | {found[0]:.4f} | {found[1]:.4f} |")
    return lines


def ours(geometry: VolumeGeometry, x: torch.Tensor, y: torch.Tensor) -> tuple[Call, Call]:
    A = XRay(geometry)
    return (lambda: A(x)), (lambda: A.adjoint(y))


def scipy_csr(geometry: VolumeGeometry, x: torch.Tensor, y: torch.Tensor) -> tuple[Call, Call]:
    A, n = XRay(geometry), x.numel()
    parts = []
    for k in range(0, n, 512):
        units = torch.zeros(min(512, n - k), n)
        units[torch.arange(len(units)), k + torch.arange(len(units))] = 1
        parts.append(scipy.sparse.csr_array(A(units.reshape(-1, *A.in_shape)).flatten(1).numpy()))
    back = scipy.sparse.vstack(parts).tocsr()
    forward = back.T.tocsr()
    volume, data = x.flatten().numpy(), y.flatten().numpy()
    return (lambda: forward @ volume), (lambda: back @ data)


def prototype(library: ctypes.CDLL) -> Callable[..., tuple[Call, Call]]:
    """The C prototype, for circles with flat detectors; data are (rows, views, columns) there."""

    def make(geometry: VolumeGeometry, x: torch.Tensor, y: torch.Tensor) -> tuple[Call, Call]:
        assert isinstance(geometry, ConeBeam)
        n, (rows, columns) = geometry.volume_shape[0], geometry.detector_shape
        volume, data = x.numpy().copy(), np.ascontiguousarray(y.numpy().swapaxes(0, 1))
        angles, work = np.array(geometry.angles), np.zeros(2 * n * (n + 2) * (n + 8) + 64, np.float32)
        again = np.zeros_like(data)
        far = geometry.source_to_centre, geometry.source_to_detector - geometry.source_to_centre
        numbers = [ctypes.c_int(columns), ctypes.c_int(rows)]
        numbers += [ctypes.c_double(v) for v in (*geometry.detector_pixel_size[::-1], *far)]
        start = [ctypes.c_int(n), ctypes.c_int(len(angles)), ctypes.c_void_p(angles.ctypes.data)]

        def call(function: str, *arrays: np.ndarray) -> None:
            pointers = [ctypes.c_void_p(a.ctypes.data) for a in arrays]
            library[function](*pointers[:2], *start, *numbers, *pointers[2:])

        return (lambda: call("cone_fwd", volume, data, work)), (
            lambda: call("cone_adj", data, volume, work, again)
        )

    return make


def contest(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Median seconds of every call, turn by turn, after one unmeasured call each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def measure(geometry: VolumeGeometry, makers: dict[str, Callable[..., tuple[Call, Call]]], rounds: int):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(geometry.in_shape, generator=generator)
    y = torch.rand(geometry.out_shape, generator=generator)
    pairs = {name: make(geometry, x, y) for name, make in makers.items()}
    return [contest({name: pair[k] for name, pair in pairs.items()}, rounds) for k in (0, 1)]


def speeds(n: int, views: int, library: ctypes.CDLL | None, rounds: int) -> list[str]:
    lines = [
        f"Milliseconds, {n}³ voxels, {views} views of {3 * n // 2}² pixels.",
        "",
        "| scan | threads | candidate | A | A* |",
        "|---|---|---|---|---|",
    ]
    for threads in sorted({1, min(2, os.cpu_count() or 1)}):
        torch.set_num_threads(threads)
        for kind in KINDS:
            makers = {"ours": ours}
            if library is not None and kind == "circle":
                library.omp_set_num_threads(threads)
                makers["C prototype"] = prototype(library)
            forward, back = measure(scan(kind, n, views, 3 * n // 2), makers, rounds)
            lines += [
                f"| {kind} | {threads} | {name} | {1e3 * forward[name]:.1f} | {1e3 * back[name]:.1f} |"
                for name in makers
            ]
    return lines


def tiny(n: int, views: int, rounds: int) -> list[str]:
    """Where a matrix fits: our operator against scipy's product."""
    geometry = scan("circle", n, views, 3 * n // 2)
    forward, back = measure(geometry, {"ours": ours, "scipy CSR": scipy_csr}, rounds)
    lines = [f"Milliseconds, circle, {n}³ voxels, {views} views of {3 * n // 2}² pixels.", ""]
    lines += ["| candidate | A | A* |", "|---|---|---|"]
    return lines + [f"| {name} | {1e3 * forward[name]:.2f} | {1e3 * back[name]:.2f} |" for name in forward]


def growth(n: int, views: int, rounds: int) -> list[str]:
    """Nanoseconds for a voxel and a view, over views and voxels; the detector grows with the voxels."""
    lines = [
        "Nanoseconds for a voxel and a view, circle; constant where time is linear in both.",
        "",
        "| voxels | views | A | A* |",
        "|---|---|---|---|",
    ]
    for size, count in ((n, views // 2), (n, views), (n, 2 * views), (n // 2, views), (3 * n // 4, views)):
        forward, back = measure(scan("circle", size, count, 3 * size // 2), {"ours": ours}, rounds)
        each = [1e9 * found["ours"] / size**3 / count for found in (forward, back)]
        lines.append(f"| {size}³ | {count} | {each[0]:.3f} | {each[1]:.3f} |")
    return lines


def memory(n: int, views: int) -> list[str]:
    """Peak memory of a process that makes x or y and projects it, in multiples of volume plus data."""
    lines = [f"Peak anonymous memory, {n}³ voxels, {views} views, as a multiple of volume plus data.", ""]
    lines += ["| scan | A | A* |", "|---|---|---|"]
    for kind in KINDS:
        found = []
        for direction in ("A", "A*"):
            command = [sys.executable, __file__, "--peak", kind, str(n), str(views), direction]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(float(done.stdout))
        lines.append(f"| {kind} | {found[0]:.2f} | {found[1]:.2f} |")
    return lines


def peak(kind: str, n: int, views: int, direction: str) -> float:
    """What `memory` measures, in this process."""

    def anonymous() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("RssAnon:")[1].split()[0])

    small = XRay(scan(kind, 16, views, 24))
    small.adjoint(small(torch.zeros(small.in_shape)))  # compiled
    A = XRay(scan(kind, n, views, 3 * n // 2))
    before, most, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.002):
            most = max(most, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    given = torch.ones(A.in_shape if direction == "A" else A.out_shape)
    result = A(given) if direction == "A" else A.adjoint(given)
    done.set()
    watcher.join()
    return (max(most, anonymous()) - before) / (given.nbytes + result.nbytes)


def compiled(source: str, folder: str) -> ctypes.CDLL:
    library = Path(folder) / "prototype.so"
    options = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]
    subprocess.run(["cc", *options, source, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="32³ voxels, nothing written")
    parser.add_argument("--prototype", help="C file with cone_fwd and cone_adj")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        kind, n, views, direction = options.peak
        sys.stdout.write(f"{peak(kind, int(n), int(views), direction)}\n")
        return
    n, views, rounds = (32, 24, 3) if options.quick else (128, 120, 7)
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(options.prototype, folder) if options.prototype else None
        parts = [errors(n)] if options.quick else [errors(64), errors(128)]
        parts += [speeds(n, views, library, rounds), growth(n, views, rounds)]
        parts += [
            tiny(16, 24, 5 * rounds),
            memory(2 * n, max(views, 60)),
        ]
    page = "\n\n".join("\n".join(part) for part in ([machine()], *parts))
    sys.stdout.write(page + "\n")
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "cone_beam.md").write_text(page + "\n")


if __name__ == "__main__":
    main()
