"""A real undersampled brain of 8 coils: which method predicts the k-space it has not seen?

    python benchmarks/mri_brain.py --data /work/shared/data    # writes results/mri_brain.*, a few minutes
    python benchmarks/mri_brain.py --quick                     # a simulated scan, seconds, nothing written

There is no reference image, so evidence comes from the data: of the samples outside the fully sampled middle
10 % are held out for the score and 10 % for the choice of λ. Every method gets the others, prewhitened by the
covariance of the corners of k-space, and the same ESPIRiT maps, which come from the middle. The score is the
mean |A x − y|² of held-out samples in units of the noise variance, 1 for a perfect image, and ‖A x − y‖/‖y‖.
The images drawn are reconstructed from all samples, with the λ found. λ is relative to the size of the image
(`recon.scaling.CentreScaled`). The file is mri_kspace_brain8ch_undersampled.npz, (8, 230, 180).
"""

import argparse
import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from operators import (
    Prewhitening,
    acceleration,
    espirit,
    noise_covariance,
    noise_from_corners,
    poisson_disc,
)
from operators.coils import to_images
from recon import (
    CGSENSE,
    CentreScaled,
    Problem,
    Reconstructor,
    TotalVariation,
    WaveletReconstruction,
    ZeroFilled,
)
from recon.data import coil_fields, mri_problem, random_brain, random_phase, simulate_mri

RESULTS = Path(__file__).parent / "results"
FILE = "mri_kspace_brain8ch_undersampled.npz"
CENTRE = 24  # side of the fully sampled middle
STEP = 2.0  # between the λ that are tried


@dataclass
class Scan:
    """Prewhitened k-space (coils, ny, nx), where it was measured, and the maps of the coils."""

    name: str
    kspace: Tensor
    mask: Tensor
    maps: Tensor

    def problem(self, where: Tensor) -> Problem:
        """With these samples only; the noise is 1 after prewhitening."""
        return mri_problem(self.kspace * where, where, self.maps, sigma=1.0)

    def misfit(self, x: Tensor, where: Tensor) -> tuple[float, float]:
        """Mean |A x − y|² and ‖A x − y‖/‖y‖ of these samples."""
        A = self.problem(self.mask).A
        error, y = (A(x) - self.kspace)[:, where], self.kspace[:, where]
        return float(error.abs().square().mean()), float(error.norm() / y.norm())


def real(folder: Path, quick: bool = False) -> Scan:
    """The scan; quickly, the middle half of its k-space along each side."""
    with np.load(folder / FILE, allow_pickle=False) as file:
        kspace, mask = torch.from_numpy(file["kspace"]), torch.from_numpy(file["mask"])
    if quick:
        ny, nx = mask.shape
        part = slice(ny // 4, ny // 4 + ny // 2), slice(nx // 4, nx // 4 + nx // 2)
        kspace, mask = kspace[:, *part], mask[part]
    return prepared("real brain", kspace, mask)


def simulated() -> Scan:
    mask = poisson_disc((100, 90), 5, CENTRE)
    coils, shape = coil_fields(8, seed=0), (100, 90)
    phase = random_phase(0)
    seen, _ = simulate_mri(random_brain(0), mask, coils, shape=shape, pixel_size=2.2, phase=phase, snr=20.0)
    return prepared("simulated brain", seen.y, mask)


def prepared(name: str, kspace: Tensor, mask: Tensor) -> Scan:
    """Prewhitened by the corners of k-space; maps by ESPIRiT from its middle."""
    whiten = Prewhitening(noise_covariance(noise_from_corners(kspace)))
    white = whiten(kspace)
    return Scan(name, white, mask, espirit(white, calibration=CENTRE).maps)


def parts(mask: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Samples to fit, to choose λ and to score, as masks; the middle is always fitted."""
    ny, nx = mask.shape
    outer = mask.clone()
    outer[ny // 2 - CENTRE // 2 :, nx // 2 - CENTRE // 2 :][:CENTRE, :CENTRE] = False
    where = outer.nonzero()
    where = where[torch.randperm(len(where), generator=torch.Generator().manual_seed(seed))]
    tenth = len(where) // 10
    choose, score = torch.zeros_like(mask), torch.zeros_like(mask)
    choose[tuple(where[:tenth].T)] = True
    score[tuple(where[tenth : 2 * tenth].T)] = True
    return mask & ~choose & ~score, choose, score


METHODS: dict[str, tuple[Callable[[float], Reconstructor], float]] = {
    "zero-filled": (lambda _: ZeroFilled(), 0.0),
    "CG-SENSE": (lambda value: CGSENSE(CentreScaled(value)), 0.05),
    "wavelet L1": (lambda value: WaveletReconstruction(CentreScaled(value)), 0.004),
    "total variation": (lambda value: TotalVariation(CentreScaled(value), algorithm="admm"), 0.004),
}


@dataclass
class Found:
    """A method's image from the fitted samples, with the loss of the samples that choose λ."""

    value: float
    loss: float
    image: Tensor
    seconds: float


def best(scan: Scan, make: Callable[[float], Reconstructor], value: float) -> Found:
    """The λ of the least loss, on a grid that grows until the least is inside; value 0: nothing to choose."""
    fit, choose, _ = parts(scan.mask)
    problem = scan.problem(fit)

    def found(step: int) -> Found:
        began = time.perf_counter()
        x = make(value * STEP**step)(problem)
        return Found(value * STEP**step, scan.misfit(x, choose)[0], x, time.perf_counter() - began)

    tried = {k: found(k) for k in ((-1, 0, 1) if value else (0,))}
    while 1 < len(tried) < 12:
        least = min(tried, key=lambda k: tried[k].loss)
        if min(tried) < least < max(tried):
            break
        k = least - 1 if least == min(tried) else least + 1
        tried[k] = found(k)
    return min(tried.values(), key=lambda one: one.loss)


def compared(scan: Scan) -> tuple[list[dict], dict[str, Tensor]]:
    """Rows of the table, and images from all samples."""
    score = parts(scan.mask)[2]
    rows, images = [], {"root sum of squares": zero_filled_coils(scan)}
    for name, (make, start) in METHODS.items():
        found = best(scan, make, start)
        error, relative = scan.misfit(found.image, score)
        images[name] = make(found.value)(scan.problem(scan.mask)).abs()
        rows.append({"method": name, "value": found.value, "held_out": error, "relative": relative})
        print(rows[-1], f"{found.seconds:.1f} s", flush=True)
    nothing = float(scan.kspace[:, score].abs().square().mean())
    return [*rows, {"method": "nothing, x = 0", "value": 0.0, "held_out": nothing, "relative": 1.0}], images


def zero_filled_coils(scan: Scan) -> Tensor:
    """Combined without phase, where the maps are; the whole picture, maps or not."""
    return torch.linalg.vector_norm(to_images(scan.kspace, (-2, -1)), dim=0)


def table(scan: Scan, rows: list[dict]) -> str:
    fit, _, score = parts(scan.mask)
    coils, ny, nx = scan.kspace.shape
    lines = [
        f"{scan.name}: {coils} coils, {ny} × {nx}, acceleration {acceleration(scan.mask):.2f}, reconstructed "
        f"from {int(fit.sum())} samples a coil, scored on {int(score.sum())} others.",
        "",
        "| method | λ / size of the image | mean abs² of the error, in noise variances | error / data |",
        "|---|--:|--:|--:|",
    ]
    for r in rows:
        value = f"{r['value']:.4g}" if r["value"] else "–"
        lines.append(f"| {r['method']} | {value} | {r['held_out']:.3f} | {r['relative']:.4f} |")
    return "\n".join(lines) + "\n"


def draw(scan: Scan, rows: list[dict], images: dict[str, Tensor], path: Path) -> None:
    """Images in one grey window, and their middle enlarged."""
    import matplotlib.pyplot as plt

    scores = {r["method"]: r["held_out"] for r in rows}
    ny, nx = scan.mask.shape
    figure, axes = plt.subplots(2, len(images), figsize=(3.1 * len(images), 6.6), layout="constrained")
    high = float(torch.quantile(images["total variation"].flatten(), 0.995))
    for j, (name, image) in enumerate(images.items()):
        title = f"{name}\nheld-out error {scores[name]:.2f}" if name in scores else f"{name}\nzero-filled"
        axes[0, j].set_title(title, fontsize=10)
        axes[0, j].imshow(image, cmap="gray", vmin=0, vmax=high)
        part = image[ny // 3 : 2 * ny // 3, nx // 3 : 2 * nx // 3]
        axes[1, j].imshow(part, cmap="gray", vmin=0, vmax=high)
        for axis in axes[:, j]:
            axis.axis("off")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help=f"folder that holds {FILE}; without it a simulated scan")
    parser.add_argument(
        "--quick", action="store_true", help="write nothing; with --data the middle of k-space"
    )
    options = parser.parse_args()
    scan = simulated() if options.data is None else real(options.data, options.quick)
    rows, images = compared(scan)
    print(text := table(scan, rows))
    if options.quick or options.data is None:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "mri_brain.md").write_text(text)
    with (RESULTS / "mri_brain.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    draw(scan, rows, images, RESULTS / "mri_brain.png")


if __name__ == "__main__":
    main()
