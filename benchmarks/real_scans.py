"""Real raw scans: which likelihood predicts the rays it has not seen?

    python benchmarks/real_scans.py --data /work/shared/data    # tooth, PET transmission, HTC fan beam
    python benchmarks/real_scans.py --data … --only tooth       # one of them; the others keep their results
    python benchmarks/real_scans.py --quick                     # a simulated scan, seconds, nothing written

Of every scan 10 % of the rays, drawn at random, are kept for the score and 10 % for the choice of λ. TV is
fitted to the other 80 % by least squares (one σ), by weighted least squares and by the Poisson likelihood.
The score is the deviance 2 Σ m − y + y ln(y/m) per ray of the counts y under the predicted mean m, in quanta;
it is 1 for a perfect model of Poisson counts. FBP sees the held-out rays interpolated along the detector.
Writes results/real_scans*
"""

import argparse
import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from operators import FanBeam, LowDose, ParallelBeam, Select, XRay, fbp
from operators.base import Composition
from priors import TV, Functional
from recon import Problem, TotalVariation
from recon.data import shepp_logan
from recon.fidelity import TransmissionPoisson
from recon.solvers import Iterate, pdhg

RESULTS = Path(__file__).parent / "results"
Found = tuple[str, float | None, Tensor, float, float]
LIKELIHOODS = {"least squares": "unweighted", "PWLS": "weighted", "Poisson": "matching"}


@dataclass(frozen=True)
class Scan:
    """Counts in quanta behind A, I₀ of every ray, and what a reader must know of them."""

    name: str
    A: XRay
    counts: Tensor
    i0: Tensor
    unit: str
    note: str


def tooth(data: Path) -> Scan:
    """Synchrotron scan of a tooth; its gain, counts a quantum, is the variance of the flats over the mean."""
    raw = np.load(data / "raw_tooth_parallel.npz")
    dark = raw["dark"][0].mean(0)
    flat = raw["flat"][0] - dark
    gain = float(np.median(flat.var(0, ddof=1) / flat.mean(0)))
    counts = torch.from_numpy((raw["counts"][0] - dark) / gain)
    i0 = torch.from_numpy(flat.mean(0) / gain).expand_as(counts)
    bins = counts.shape[1]
    offset = (bins - 1) / 2 - float(raw["rotation_centre_px"])
    geometry = ParallelBeam((320, 320), 1.0, np.deg2rad(raw["theta_deg"]), bins, 1.0, offset=offset)
    note = f"gain {gain:.3f} counts a quantum from {len(flat)} flats, I₀ ≈ {float(i0.mean()):.3g}"
    return Scan("tooth", XRay(geometry), counts.float(), i0.float(), "1/bin", note)


def pet(data: Path) -> Scan:
    """PET transmission scan of a thorax phantom: integer counts, the blank scan as I₀."""
    raw = np.load(data / "raw_pet_transmission_parallel.npz")
    counts, blank = (torch.from_numpy(raw[key].astype(np.float32)) for key in ("trans", "blank"))
    views, bins = counts.shape
    angles = math.pi * np.arange(views) / views
    geometry = ParallelBeam((128, 128), bins / 128, angles, bins, 1.0)
    note = f"median {float(counts.median()):.0f} counts, {int((counts == 0).sum())} rays of none"
    return Scan("PET transmission", XRay(geometry), counts, blank, "1/bin", note)


def htc(data: Path) -> Scan:
    """Helsinki tomography challenge, 90° of a fan: published after the logarithm, so quanta are effective."""
    raw = np.load(data / "raw_htc2022_fan_ta_tb.npz")
    line = torch.from_numpy(raw["sino_tb_90deg"].astype(np.float32))
    air = line[:, :15]
    i0 = 1 / float((air[:, 1:] - air[:, :-1]).var() / 2)
    angles = np.deg2rad(raw["angles_deg_tb_90deg"])
    geometry = FanBeam(
        (256, 256),
        80 / 256,
        angles,
        int(raw["n_detectors"]),
        float(raw["detector_pixel_mm"]),
        float(raw["source_origin_mm"]),
        float(raw["source_detector_mm"]),
    )
    counts = i0 * (-line).exp()
    note = f"effective I₀ {i0:.3g} from the noise of rays through air; 90° of the circle, angles as ASTRA's"
    return Scan("HTC fan beam", XRay(geometry), counts, torch.full_like(counts, i0), "1/mm", note)


def simulated() -> Scan:
    """A Shepp–Logan head at few counts, for --quick."""
    angles = [math.pi * k / 24 for k in range(24)]
    A = XRay(ParallelBeam((32, 32), 1.0, angles, 47, 1.0))
    noise = LowDose(i0=60.0)
    counts = noise(A(0.1 * shepp_logan((32, 32)).float()), seed=0)
    return Scan("simulated", A, counts, torch.full_like(counts, 60.0), "1/mm", "I₀ = 60")


READERS: dict[str, Callable[[Path], Scan]] = {"pet": pet, "htc": htc, "tooth": tooth}


def parts(scan: Scan, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rays to fit, to choose λ by, and to score by: 80, 10 and 10 %."""
    order = torch.randperm(scan.counts.numel(), generator=torch.Generator().manual_seed(seed))
    tenth = len(order) // 10
    return order[2 * tenth :], order[tenth : 2 * tenth], order[:tenth]


def problem(scan: Scan, rays: Tensor) -> Problem:
    """The scan with only these rays."""
    A = Composition(Select(rays, scan.A.out_shape), scan.A)
    noise = LowDose(scan.i0.flatten()[rays], floor=0.5, data_ndim=1)
    return Problem(A, scan.counts.flatten()[rays].clamp(min=0), noise)


def deviance(scan: Scan, x: Tensor, rays: Tensor) -> float:
    """2 Σ m − y + y ln(y/m) / n of these rays, m = I₀ exp(−A x)."""
    y, i0 = scan.counts.flatten()[rays].clamp(min=0), scan.i0.flatten()[rays]
    z = scan.A(x).flatten()[rays]
    return 2 * float(TransmissionPoisson(y.double(), i0.double(), ndim=1)(z.double())) / len(rays)


def filtered(scan: Scan, fit: Tensor) -> Tensor:
    """FBP (Hann, half the Nyquist frequency), with the unseen rays interpolated along the detector."""
    line = LowDose(scan.i0, floor=0.5).linearise(scan.counts)
    seen = torch.zeros(line.numel(), dtype=torch.bool)
    seen[fit] = True
    filled = line.clone().numpy()
    position = np.arange(line.shape[1])
    for row, known in zip(filled, seen.reshape(line.shape).numpy(), strict=True):
        row[~known] = np.interp(position[~known], position[known], row[known])
    return fbp(scan.A, torch.from_numpy(filled), "hann", 0.5).clamp(min=0)


class Fitted(TotalVariation):
    """Total variation from a given start, with the filter of a whole scan for its steps."""

    def __init__(self, start: Tensor, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self.start = start

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        geometry = problem.A.B.geometry
        prior = TV(problem.A.in_shape, geometry.pixel_size, weight=weight)
        return pdhg([d @ problem.A, prior], self.constraint(problem, x), self.start, circulant=True)


def fitted(scan: Scan, quick: bool) -> Iterator[Found]:
    """Method, λ, image, deviance of the rays λ was chosen by, and of those held out."""
    fit, choose, score = parts(scan)
    x = filtered(scan, fit)
    yield "FBP", None, x, deviance(scan, x, choose), deviance(scan, x, score)
    train, start = problem(scan, fit), x
    iterations = 40 if quick else 150
    for label, likelihood in LIKELIHOODS.items():
        centre = float(Fitted(start, likelihood=likelihood, iterations=60).solve(train).weight)
        tried = []
        for factor in (0.5, 2) if quick else (0.3, 1, 3, 10):
            weight = torch.tensor(factor * centre)
            found = Fitted(start, weight, iterations, likelihood=likelihood, tolerance=1e-4).solve(train)
            tried.append((deviance(scan, found.x, choose), float(weight), found.x))
            gap = "" if found.gap is None else f", gap {float(found.gap / found.objective):.1e}"
            print(f"{scan.name}: {label} λ {float(weight):.3g}, deviance {tried[-1][0]:.4f}{gap}", flush=True)
        best, weight, x = min(tried, key=lambda t: t[0])
        yield f"TV, {label}", weight, x, best, deviance(scan, x, score)


def draw(scan: Scan, found: list[Found], path: Path) -> None:
    """A row of images on one grey scale."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(13, 3.5), layout="constrained")
    high = float(torch.quantile(found[-1][2].flatten(), 0.999))
    for ax, (label, _, x, _, score) in zip(axes, found, strict=True):
        shown = ax.imshow(x, cmap="gray", vmin=0, vmax=high)
        ax.set_title(f"{label}: deviance {score:.3f}", fontsize=10)
        ax.axis("off")
    axes[0].text(-0.08, 0.5, scan.name, transform=axes[0].transAxes, rotation=90, va="center", fontsize=11)
    figure.colorbar(shown, ax=axes[-1], label=f"[{scan.unit}]", fraction=0.046)
    figure.savefig(path, dpi=100)


def table(rows: list[dict]) -> str:
    lines = ["| scan | method | λ | deviance of held-out rays |", "|---|---|--:|--:|"]
    for row in rows:
        lines.append(f"| {row['scan']} | {row['method']} | {row['weight']} | {float(row['deviance']):.4f} |")
    notes = {row["scan"]: f"{row['scan']}: {row['note']}." for row in rows}
    return "\n".join([*lines, "", " ".join(notes.values())])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, help="folder of raw_*.npz; without it a simulated scan")
    parser.add_argument("--only", choices=READERS, help="one scan instead of all")
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(READERS)
    scans = (
        {"simulated": simulated()} if options.data is None else {k: READERS[k](options.data) for k in chosen}
    )
    stored = RESULTS / "real_scans.csv"
    for key, scan in scans.items():
        found = list(fitted(scan, options.quick))
        rows = [
            {
                "scan": scan.name,
                "method": label,
                "weight": "" if weight is None else f"{weight:.3g}",
                "deviance": score,
                "note": scan.note,
            }
            for label, weight, _, _, score in found
        ]
        print(table(rows))
        if options.data is None or options.quick:
            continue
        before = list(csv.DictReader(stored.open(newline=""))) if stored.exists() else []
        rows = sorted([r for r in before if r["scan"] != scan.name] + rows, key=lambda r: r["scan"])
        with stored.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        (RESULTS / "real_scans.md").write_text(table(rows) + "\n")
        draw(scan, found, RESULTS / f"real_scans_{key}.png")


if __name__ == "__main__":
    main()
