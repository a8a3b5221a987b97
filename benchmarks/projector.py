"""Our projector on the CPU against ASTRA, ODL, deepinv and cached sparse matrices, in one run, as ratios.

    python benchmarks/projector.py            # all, ten minutes; writes results/projector.*
    python benchmarks/projector.py --quick    # a small case, a few seconds, nothing written

Candidates take turns of some 10 ms, so that a busy spell slows all of them; the numbers are medians over
turns, and a ratio is ASTRA's median, one image after another, over the candidate's. Data are float32. Fans
differ in discretisation: ASTRA's CPU has only intersection lengths there. deepinv chooses its own number of
bins for parallel beams; ODL and deepinv have other axes, the same work on a turned image.
"""

import argparse
import csv
import math
import os
import platform
import statistics
import sys
import time
import timeit
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba
import numpy as np
import torch

from operators import FanBeam, ParallelBeam, XRay
from operators.backends import sparse

RESULTS = Path(__file__).parent / "results"
SIZES = ((128, 60), (256, 180), (512, 360))
SCATTERED = "parallel, random angles,"  # no two views are turned or mirrored copies
TURN = 0.01  # [s] a turn lasts at least
Call = Callable[[], object]


@dataclass(frozen=True)
class Row:
    kind: str
    size: int
    views: int
    batch: int
    threads: int
    direction: str
    candidate: str
    rounds: int
    median_ms: float
    min_ms: float
    ratio_to_astra: float


def scanner(kind: str, n: int, views: int):
    bins, turn = 3 * n // 2, (2 if kind == "fan" else 1) * math.pi
    angles = [turn * k / views for k in range(views)]
    if kind == SCATTERED:
        angles = sorted(np.random.default_rng(0).uniform(0, math.pi, views).tolist())
    if kind != "fan":
        return ParallelBeam((n, n), 1.0, angles, bins, 1.0)
    return FanBeam((n, n), 1.0, angles, bins, 2.0, 2.0 * n, 4.0 * n)


def ours(backend: str):
    def make(geometry, x, y):
        A = XRay(geometry, backend)
        return (lambda: A(x)), (lambda: A.adjoint(y))

    return make


def astra_one_by_one(geometry, x, y):
    import astra

    n, detector = geometry.image_shape[0], (geometry.bin_size, geometry.n_bins, np.array(geometry.angles))
    fan = isinstance(geometry, FanBeam)
    if fan:
        to_detector = geometry.source_to_detector - geometry.source_to_centre
        projections = astra.create_proj_geom("fanflat", *detector, geometry.source_to_centre, to_detector)
    else:
        projections = astra.create_proj_geom("parallel", *detector)
    number = astra.create_projector(
        "line_fanflat" if fan else "linear", projections, astra.create_vol_geom(n, n)
    )
    sinograms, images = torch.empty_like(y), torch.empty_like(x)

    def forward():
        for k in range(len(x)):
            astra.projector.direct_FP(number, x[k], out=sinograms[k])
        return sinograms

    def back():
        for k in range(len(y)):
            astra.projector.direct_BP(number, y[k], out=images[k])
        return images

    return forward, back


def odl_astra_cpu(geometry, x, y):
    import odl
    from odl.applications import tomo

    n = geometry.image_shape[0]
    half, far = n / 2, geometry.n_bins * geometry.bin_size / 2
    space = odl.uniform_discr([-half, -half], [half, half], (n, n), dtype="float32")
    angles = odl.nonuniform_partition(np.array(geometry.angles), min_pt=0, max_pt=2 * math.pi)
    detector = odl.uniform_partition(-far, far, geometry.n_bins)
    if isinstance(geometry, FanBeam):
        to_detector = geometry.source_to_detector - geometry.source_to_centre
        scan = tomo.FanBeamGeometry(angles, detector, geometry.source_to_centre, to_detector)
    else:
        scan = tomo.Parallel2dGeometry(angles, detector)
    A = tomo.RayTransform(space, scan, impl="astra_cpu")
    images, sinograms = x.numpy(), y.numpy()
    return (
        lambda: [A(A.domain.element(image)) for image in images],
        lambda: [A.adjoint(A.range.element(sinogram)) for sinogram in sinograms],
    )


def deepinv_tomography(geometry, x, y):
    from deepinv.physics import Tomography

    fan = None
    if isinstance(geometry, FanBeam):
        fan = {
            "pixel_spacing": geometry.pixel_size,
            "source_radius": geometry.source_to_centre,
            "detector_radius": geometry.source_to_detector - geometry.source_to_centre,
            "n_detector_pixels": geometry.n_bins,
            "detector_spacing": geometry.bin_size,
        }
    degrees = torch.rad2deg(torch.tensor(geometry.angles))
    physics = Tomography(
        degrees, geometry.image_shape[0], normalize=False, fan_beam=fan is not None, fan_parameters=fan
    )
    images = x[:, None]
    data = torch.rand_like(physics.A(images))
    return (lambda: physics.A(images)), (lambda: physics.A_adjoint(data))


def scipy_csr(geometry, x, y):
    A = sparse.matrix(geometry, np.float32)
    back = A.T.tocsr()
    image, sinogram = x.flatten(1).numpy(), y.flatten(1).numpy()
    if len(image) == 1:
        return (lambda: A @ image[0]), (lambda: back @ sinogram[0])
    return (
        lambda: np.ascontiguousarray((A @ np.ascontiguousarray(image.T)).T),
        lambda: np.ascontiguousarray((back @ np.ascontiguousarray(sinogram.T)).T),
    )


def torch_csr(geometry, x, y):
    A = sparse.matrix(geometry, np.float32)
    matrices = [
        torch.sparse_csr_tensor(*(torch.from_numpy(part) for part in (M.indptr, M.indices, M.data)), M.shape)
        for M in (A, A.T.tocsr())
    ]
    image, sinogram = x.flatten(1), y.flatten(1)
    return (
        lambda: (matrices[0] @ image.T.contiguous()).T.contiguous(),
        lambda: (matrices[1] @ sinogram.T.contiguous()).T.contiguous(),
    )


ASTRA = "ASTRA"
CANDIDATES = {
    ASTRA: astra_one_by_one,
    "ours, auto": ours("auto"),
    "ours, numba": ours("numba"),
    "ASTRA, threads": ours("astra"),
    "ODL astra_cpu": odl_astra_cpu,
    "deepinv": deepinv_tomography,
    "scipy CSR": scipy_csr,
    "torch CSR": torch_csr,
}
QUICK = (ASTRA, "ours, auto", "ours, numba", "ASTRA, threads", "scipy CSR")


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(count)
    numba.set_num_threads(min(count, before[1]))
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def contest(calls: dict[str, Call], budget: float, rounds: int) -> dict[str, list[float]]:
    """Seconds of every call: turn by turn, until `budget` seconds or `rounds` rounds, but three at least."""
    repeats = {name: max(1, math.ceil(TURN / timeit.timeit(call, number=1))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for k in range(rounds):
        if k >= 3 and time.perf_counter() - begin > budget:
            break
        for name, call in calls.items():
            if k >= 1 and name != ASTRA and max(times[name]) > budget / 3:
                continue  # one measurement of what takes so long has to do
            if repeats[name] > 1:
                call()  # what is called again and again finds its own data in the cache
            times[name].append(timeit.timeit(call, number=repeats[name]) / repeats[name])
    return times


def measure(kind, n, views, batch, count, names, budget, rounds) -> list[Row]:
    geometry = scanner(kind, n, views)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, *geometry.image_shape, generator=generator)
    y = torch.rand(batch, *geometry.sinogram_shape, generator=generator)
    directions: dict[str, dict[str, Call]] = {"A": {}, "A*": {}}
    rows = []
    with threads(count), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if "CSR" in name and sparse.nbytes(geometry, torch.float32) > sparse.LIMIT:
                continue
            try:
                forward, back = CANDIDATES[name](geometry, x, y)
                forward(), back()
            except ImportError as error:
                print(f"without {name}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            directions["A"][name], directions["A*"][name] = forward, back
        for direction, calls in directions.items():
            times = contest(calls, budget, rounds)
            reference = statistics.median(times[ASTRA]) if ASTRA in times else math.nan
            for name, seconds in times.items():
                median = statistics.median(seconds)
                numbers = (1e3 * median, 1e3 * min(seconds), reference / median)
                case = (kind, n, views, batch, count, direction, name, len(seconds))
                rows.append(Row(*case, *(round(number, 4) for number in numbers)))
    return rows


def table(rows: list[Row]) -> str:
    """Ratios to ASTRA, a line for every case and a column for every candidate."""
    names = [name for name in CANDIDATES if any(row.candidate == name for row in rows)]
    cases: dict[tuple[object, ...], dict[str, Row]] = {}
    for row in rows:
        case = (row.kind, row.size, row.views, row.batch, row.threads, row.direction)
        cases.setdefault(case, {})[row.candidate] = row
    lines = [
        f"| scan | batch | threads | | ASTRA [ms] | {' | '.join(names[1:])} |",
        f"|---|---|---|---|---|{'---|' * (len(names) - 1)}",
    ]
    for (kind, n, views, batch, count, direction), found in cases.items():
        ratios = [f"{found[name].ratio_to_astra:.1f}×" if name in found else "–" for name in names[1:]]
        reference = f"{found[ASTRA].median_ms:.1f}" if ASTRA in found else "–"
        scan = f"{kind} {n}² × {views}"
        lines.append(f"| {scan} | {batch} | {count} | {direction} | {reference} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def machine() -> str:
    def of(package: str) -> str:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"no {package}"

    packages = ", ".join(of(p) for p in ("torch", "numba", "scipy", "astra-toolbox", "odl", "deepinv"))
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    cpu = names[0].split(":")[1].strip() if names else platform.processor()
    return f"{os.cpu_count()} cores, {cpu}; Python {platform.python_version()}, {packages}."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one small case, nothing written")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each group of candidates")
    quick, budget = (options := parser.parse_args()).quick, options.budget
    sizes, batches = (((64, 30),), (1, 8)) if quick else (SIZES, (1, 8))
    counts = sorted({1, min(2, os.cpu_count() or 1)})
    rows = []
    for n, views in sizes:
        for kind in ("parallel", "fan", SCATTERED) if n == 256 else ("parallel", "fan"):
            for batch in batches if n < 512 else (1,):  # ASTRA alone takes minutes there
                for count in counts:
                    names = QUICK if quick or kind == SCATTERED else tuple(CANDIDATES)
                    limits = (0.5, 5) if quick else (budget, 15)
                    rows += measure(kind, n, views, batch, count, names, *limits)
                    print(table(rows[-1:]).splitlines()[-1].split("|")[1], f"batch {batch}, {count} threads")
    print(page(rows))
    if not quick:
        write(rows)


def page(rows: list[Row]) -> str:
    return f"{machine()} Columns: how many times as fast as ASTRA, image after image.\n\n{table(rows)}"


def write(rows: list[Row]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "projector.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows(astuple(row) for row in rows)
    (RESULTS / "projector.md").write_text(page(rows) + "\n")
    short = [row for row in rows if row.size >= 256 and row.threads > 1]  # for the README
    (RESULTS / "projector-short.md").write_text(page(short) + "\n")


if __name__ == "__main__":
    main()
