"""How much dose does a method save at equal detectability? Low-contrast discs, model observer, FBP and TV.

A 200 mm water cylinder, its rim 12 mm soft, with the discs of the CCT189 (3 mm/14 HU, 5/7, 7/5, 10/3) at 40
mm, on a Siemens-like arc fan beam; half of the scans hold two of each disc, half none. Each method
reconstructs the same scans; a channelised Hotelling observer (5 Laguerre–Gauss channels as wide as the disc
+ 4 mm, region mean removed) learns on half of the scans and is tested on the other, ten times. The
background is uniform, and a power-law texture (exponent 3, 4 HU) that is new in every scan: a uniform one
flatters total variation.

λ of `tv` and `pwls-tv` follows the dose by the discrepancy principle, on the rays that pass within 85 mm of
the middle, with the model error of these, known from a noise-free water cylinder, added to the noise; λ of
`pwls-tv-fixed` is one number for all doses, and smaller: in an object this flat the discrepancy hardly feels
how strongly λ smooths. 100 iterations from FBP, not to convergence (residual some 0.03). The rim is soft
because pixels cannot describe a sharp one: with a sharp one χ² of the truth is 11 at 2e7 photons and 161 at
3.2e8, and statistical methods turn that into rings.

    python benchmarks/dose_auc.py               # some 30 min on two cores; writes results/dose_auc.*
    python benchmarks/dose_auc.py --quick       # seconds: two doses, few coarse scans; writes nothing
    python benchmarks/dose_auc.py --images 40   # fewer scans per dose and background

An interrupted run goes on where it was: regions of finished batches lie in --work.
"""

import argparse
import csv
import hashlib
import json
import math
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from operators import FanBeam, LowDose, XRay, to_hu
from recon import FBP, Problem, PWLSTotalVariation, TotalVariation
from recon.data import low_contrast_phantom, power_law_background
from recon.data.low_contrast import CCT189, MU_WATER, ring
from recon.discrepancy import discrepancy
from recon.metrics import channelised_hotelling, cut, d_prime_of, laguerre_gauss

RESULTS = Path(__file__).parent / "results"
FIELD, RIM, ROI, SUB, BATCH = 216.0, 12.0, 15, 4, 8
METHODS = {"fbp": "FBP, Hann", "tv": "TV", "pwls-tv": "PWLS-TV", "pwls-tv-fixed": "PWLS-TV, one λ"}
BACKGROUNDS = ("uniform", "structured")


@dataclass(frozen=True)
class Study:
    """Everything the regions depend on, and `images`, which they do not."""

    size: int = 144
    views: int = 120
    photons: tuple[float, ...] = (2e7, 4e7, 8e7, 1.6e8, 3.2e8)  # per detector bin and rotation
    iterations: int = 100
    fixed_weight: float = 400.0
    texture_hu: float = 4.0
    images: int = 200

    @property
    def key(self) -> str:
        settings = {k: v for k, v in asdict(self).items() if k != "images"}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def pixel(self) -> float:
        return FIELD / self.size

    @property
    def geometry(self) -> FanBeam:
        angles = [2 * math.pi * k / self.views for k in range(self.views)]
        # 2 × 1.2858 mm; the bins that see the field
        return FanBeam((self.size,) * 2, self.pixel, angles, 160, 2.5716, 595.0, 1085.6, "arc")

    @property
    def places(self) -> list[tuple[float, float]]:
        return ring(8, 40.0, self.pixel, even=self.size % 2 == 0)


class Scanner:
    """Scans of the phantom without and with discs, in any background."""

    def __init__(self, study: Study):
        self.study, self.A = study, XRay(study.geometry)
        fine = study.geometry.refined(study.geometry.image_shape, SUB)
        discs = [(*CCT189[k % 4], place) for k, place in enumerate(study.places)]
        # exact line integrals, SUB rays a bin
        self.clean = [low_contrast_phantom(d, rim=RIM).line_integrals(fine).float() for d in ((), discs)]
        self.texture_grid = study.geometry.refined((2 * study.size,) * 2, 2)
        self.fine = XRay(self.texture_grid)

    def noise(self, photons: float) -> LowDose:
        return LowDose(photons / self.study.views, electronic_sigma=3.0)

    def scans(self, background: str, photons: float, batch: int) -> Problem:
        """BATCH scans: the first half without discs."""
        noise = self.noise(photons)
        clean = torch.stack([self.clean[k >= BATCH // 2] for k in range(BATCH)])
        seed = int(hashlib.sha256(f"{background} {photons} {batch}".encode()).hexdigest()[:8], 16)
        if background == "structured":
            clean = clean + self.texture(seed + 1)
        clean = noise.average(clean.unflatten(-1, (-1, SUB)))
        return Problem(self.A, noise(clean, seed=seed), noise)

    def texture(self, seed: int) -> Tensor:
        shape, h = self.texture_grid.image_shape, self.texture_grid.pixel_size
        hu = power_law_background(shape, h, self.study.texture_hu, seed=seed, count=BATCH)
        inside = low_contrast_phantom((), mu_water=1.0, diameter=190.0).rasterise(shape, h)
        sinogram = self.fine((MU_WATER / 1000 * hu * inside).float())
        return sinogram.repeat_interleave(SUB // 2, -1)

    def chi_squared(self, z: Tensor, y: Tensor, variance: Tensor) -> Tensor:
        """Mean of (z − y)²/variance over the rays within 85 mm of the middle, per scan."""
        distance = self.study.geometry.source_to_centre * np.sin(self.study.geometry.fan_angles())
        return ((z - y) ** 2 / variance)[..., torch.from_numpy(np.abs(distance) < 85)].mean((-2, -1))

    def model_error(self, photons: float, variance: Tensor) -> Tensor:
        """χ² of the pixelised water cylinder with exact data."""
        exact = self.noise(photons).average(self.clean[0].unflatten(-1, (-1, SUB)))
        water = low_contrast_phantom((), rim=RIM).rasterise(self.A.in_shape, self.study.pixel).float()
        return self.chi_squared(self.A(water), exact, variance)


def weight(scanner: Scanner, name: str, background: str, photons: float) -> float:
    """λ with χ² = 1 + χ² of the model error, geometric mean over two scans that the study does not use."""
    scans = scanner.scans(background, photons, 10_000)
    problem = Problem(scanner.A, scans.y[[0, BATCH // 2]], scans.noise)
    target = 1 + scanner.model_error(photons, problem.variance)
    method = _method(name, scanner.study, None)
    short = type(method)(weight=1.0, iterations=scanner.study.iterations // 2)

    def solve(value: Tensor, start: Tensor) -> Tensor:
        short.weight = value
        return short(problem)

    def misfit(x: Tensor) -> Tensor:
        return scanner.chi_squared(scanner.A(x), problem.linear, problem.variance) / target

    start = FBP()(problem)
    # the first guess: where total variation pulls at a pixel as noise does
    chosen, _ = discrepancy(solve, misfit, method._guess(problem, start), start, tolerance=0.01, solves=6)
    return float(chosen.log().mean().exp())


def _method(name: str, study: Study, value: float | None) -> TotalVariation | PWLSTotalVariation:
    kind = TotalVariation if name == "tv" else PWLSTotalVariation
    return kind(weight=value, iterations=study.iterations)


def regions(scanner: Scanner, background: str, photons: float, batch: int, weights: dict[str, float]) -> dict:
    """Regions (BATCH, 8, ROI, ROI) in HU of every method."""
    problem, study = scanner.scans(background, photons, batch), scanner.study
    found = {}
    for name in METHODS:
        x = FBP()(problem) if name == "fbp" else _method(name, study, weights[name])(problem)
        found[name] = cut(to_hu(x, MU_WATER), study.places, ROI, study.pixel).float().numpy()
    return found


def measure(study: Study, work: Path) -> tuple[dict, dict]:
    """All regions, computed or read: {(background, photons): {method: (scans, 8, ROI, ROI)}}, and all λ."""
    work.mkdir(parents=True, exist_ok=True)
    scanner, todo = Scanner(study), []
    batches = math.ceil(study.images / BATCH)
    cells = [(b, p, k) for k in range(batches) for b in BACKGROUNDS for p in study.photons]
    paths = {c: work / f"{study.key}-{c[0]}-{c[1]:.1e}-{c[2]}.npz" for c in cells}
    todo = [c for c in cells if not paths[c].exists()]
    weights = _weights(scanner, work / f"{study.key}-weights.json")
    begin = time.perf_counter()
    for done, (background, photons, batch) in enumerate(todo):
        cell = regions(scanner, background, photons, batch, weights[f"{background} {photons:.1e}"])
        _write(paths[background, photons, batch], lambda file, cell=cell: np.savez(file, **cell))
        spent = time.perf_counter() - begin
        if done in (1, 4) or done % 20 == 19:
            left = spent / (done + 1) * (len(todo) - done - 1) / 60
            print(f"{done + 1} of {len(todo)} batches, about {left:.1f} min left", flush=True)
    found: dict = {(b, p): {m: [] for m in METHODS} for b in BACKGROUNDS for p in study.photons}
    for (background, photons, _), path in paths.items():
        with np.load(path) as cell:
            for m in METHODS:
                found[background, photons][m].append(cell[m])
    return {c: {m: np.concatenate(v) for m, v in by.items()} for c, by in found.items()}, weights


def _weights(scanner: Scanner, path: Path) -> dict[str, dict[str, float]]:
    if path.exists():
        return json.loads(path.read_text())
    found = {}
    for background in BACKGROUNDS:
        for photons in scanner.study.photons:
            values = {n: weight(scanner, n, background, photons) for n in ("tv", "pwls-tv")}
            values["pwls-tv-fixed"] = scanner.study.fixed_weight
            found[f"{background} {photons:.1e}"] = values
            print(background, f"{photons:.1e}", {n: f"λ {v:.0f}" for n, v in values.items()}, flush=True)
    _write(path, lambda file: file.write(json.dumps(found).encode()))
    return found


def _write(path: Path, save) -> None:
    """To a temporary file, then renamed."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        save(file)
    Path(file.name).replace(path)


def observe(study: Study, found: dict, weights: dict) -> tuple[list[dict], dict]:
    """A row per background, dose, method and disc; and the order matrices, for the bootstrap."""
    rows, orders = [], {}
    for (background, photons), by_method in found.items():
        for name, images in by_method.items():
            absent, present = (torch.from_numpy(images[k]).double() for k in _classes(len(images)))
            sd = float(absent.std((-2, -1)).mean())
            for k, (diameter, contrast) in enumerate(CCT189):
                channels = laguerre_gauss((ROI, ROI), study.pixel, diameter + 4.0)
                with_disc = present[:, k::4]
                groups = tuple(
                    np.repeat(np.arange(len(v)) + o, v.shape[1]) for v, o in ((absent, 0), (with_disc, 10**6))
                )
                seen = channelised_hotelling(
                    absent.flatten(0, 1), with_disc.flatten(0, 1), channels, remove_mean=True, groups=groups
                )
                orders[background, photons, name, k] = seen.order.numpy()
                rows.append(
                    {
                        "background": background,
                        "photons": photons,
                        "method": name,
                        "diameter_mm": diameter,
                        "contrast_hu": contrast,
                        "auc": round(seen.auc, 5),
                        "auc_se": round(seen.auc_error, 5),
                        "d_prime": round(seen.d_prime, 4),
                        "scans": len(images),
                        "present": with_disc.shape[0] * with_disc.shape[1],
                        "absent": absent.shape[0] * absent.shape[1],
                        "weight": round(weights[f"{background} {photons:.1e}"].get(name, math.nan), 2),
                        "sd_hu": round(sd, 3),
                    }
                )
    return rows, orders


def _classes(scans: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of scans without and with discs."""
    place = np.arange(scans) % BATCH
    return np.flatnonzero(place < BATCH // 2), np.flatnonzero(place >= BATCH // 2)


def equal_auc(study: Study, rows: list[dict], orders: dict, samples: int) -> list[dict]:
    """Dose at which a method has the AUC of FBP at the middle dose, over that dose, with a 95 % interval.

    Least squares of ln d_A = a(disc) + c(method) + β(method) ln(dose/middle) over discs, d_A = √2 Φ⁻¹(AUC),
    weighted by standard errors; cells with AUC outside [0.55, 0.99] are left out. Scans are resampled, the
    same for all methods and discs. A share beyond the doses that were scanned, or of a method whose AUC does
    not rise with dose, is the end of that range: at most, or at least, so much.
    """
    out, middle = [], study.photons[len(study.photons) // 2]
    for background in BACKGROUNDS:
        for discs in ([0, 1, 2, 3], [0], [1], [2], [3]):
            cells = [
                r
                for r in rows
                if r["background"] == background
                and CCT189.index((r["diameter_mm"], r["contrast_hu"])) in discs
                and 0.55 <= r["auc"] <= 0.99
            ]
            which = [CCT189.index((r["diameter_mm"], r["contrast_hu"])) for r in cells]
            design = np.array(
                [
                    [float(k == d) for d in discs]
                    + [float(r["method"] == m) for m in list(METHODS)[1:]]
                    + [(r["method"] == m) * math.log(r["photons"] / middle) for m in METHODS]
                    for r, k in zip(cells, which, strict=True)
                ]
            ).reshape(len(cells), len(discs) + 2 * len(METHODS) - 1)
            if np.linalg.matrix_rank(design) < design.shape[1]:
                continue
            a = np.array([r["auc"] for r in cells])
            d = d_prime_of(torch.from_numpy(a)).numpy()
            # d ln d_A = dA / (d_A φ(d_A/√2)/√2)
            slope = d * np.exp(-(d**2) / 4) / (2 * math.sqrt(math.pi))
            scale = slope / np.maximum([r["auc_se"] for r in cells], 1e-4)
            solve = np.linalg.pinv(design * scale[:, None]) * scale
            draws = np.stack(
                [_resampled(orders, background, r, k, samples) for r, k in zip(cells, which, strict=True)]
            )
            logs = np.stack(
                [np.log(d), *np.log(d_prime_of(torch.from_numpy(draws)).clamp(min=0.05).numpy().T)]
            )
            fits = logs @ solve.T
            for j, name in enumerate(list(METHODS)[1:]):
                offset = fits[:, len(discs) + j]
                slopes = fits[:, len(discs) + len(METHODS) + j]
                ends = study.photons[0] / middle, study.photons[-1] / middle
                with np.errstate(divide="ignore"):
                    share = np.where(slopes > 0, -offset / slopes, -np.sign(offset) * np.inf)
                ratio = np.exp(np.clip(share, *np.log(ends)))
                low, high = np.quantile(ratio[1:], [0.025, 0.975])
                out.append(
                    {
                        "background": background,
                        "disc_mm": "all" if len(discs) > 1 else CCT189[discs[0]][0],
                        "method": name,
                        "dose_ratio": round(float(ratio[0]), 4),
                        "low": round(float(low), 4),
                        "high": round(float(high), 4),
                        "half_width_percent": round(50 * float(high - low) / float(ratio[0]), 1)
                        if ends[0] < low and high < ends[1]
                        else "beyond the doses",
                        "exponent": round(float(slopes[0]), 3),
                    }
                )
    return out


def _resampled(orders: dict, background: str, row: dict, k: int, samples: int) -> np.ndarray:
    """AUC of `samples` bootstraps over scans; the same draws for every method and disc of a dose."""
    order = orders[background, row["photons"], row["method"], k]
    random = np.random.default_rng([BACKGROUNDS.index(background), int(row["photons"])])
    draws = []
    for size, each in ((order.shape[0], 8), (order.shape[1], 2)):
        scans = size // each
        counts = random.multinomial(scans, np.full(scans, 1 / scans), samples)
        draws.append(np.repeat(counts, each, axis=1) / size)
    return np.clip(((draws[0] @ order) * draws[1]).sum(1), 0.5, 1 - 1e-4)


def share(study: Study, row: dict) -> str:
    """The share of the dose with its interval; ≤ and ≥ where the doses that were scanned end."""
    ends = [photons / study.photons[len(study.photons) // 2] for photons in study.photons]

    def shown(value: float) -> str:
        mark = "≤ " if value <= 1.001 * ends[0] else "≥ " if value >= 0.999 * ends[-1] else ""
        return f"{mark}{value:.2f}"

    if row["low"] == row["high"]:
        return shown(row["dose_ratio"])
    return f"{shown(row['dose_ratio'])} [{shown(row['low'])}, {shown(row['high'])}]"


def report(study: Study, rows: list[dict], ratios: list[dict]) -> str:
    first = rows[0]
    lines = [
        f"{first['scans']} scans per dose and background, half with two of each disc ({first['present']}",
        f"regions with, {first['absent']} without), {study.size}² pixels of {study.pixel:.2f} mm,",
        f"{study.views} views; CHO, 5 Laguerre–Gauss channels, half for training, 10 splits; AUC ± its",
        "standard error.",
        "",
        "Dose for the AUC of FBP at the middle dose, as a share of that dose (bootstrap over scans, 95 %):",
        "",
        "| background | method | all discs | 3 mm | 5 mm | 7 mm | 10 mm |",
        "|---|---|---|---|---|---|---|",
    ]
    for background in BACKGROUNDS:
        for name in list(METHODS)[1:]:
            cells = []
            for size in ("all", 3.0, 5.0, 7.0, 10.0):
                r = [
                    x
                    for x in ratios
                    if (x["background"], x["method"], x["disc_mm"]) == (background, name, size)
                ]
                cells.append(share(study, r[0]) if r else "—")
            lines.append(f"| {background} | {METHODS[name]} | {' | '.join(cells)} |")
    lines += [
        "",
        "| background | photons | method | λ | sd [HU] | 3 mm | 5 mm | 7 mm | 10 mm |",
        "|---|--:|---|--:|--:|" + "--:|" * 4,
    ]
    for i in range(0, len(rows), 4):
        r = rows[i]
        aucs = [f"{x['auc']:.3f} ± {x['auc_se']:.3f}" for x in rows[i : i + 4]]
        lam = "" if math.isnan(r["weight"]) else f"{r['weight']:.0f}"
        lines.append(
            f"| {r['background']} | {r['photons']:.1e} | {METHODS[r['method']]} | {lam} | {r['sd_hu']:.1f} | "
            f"{' | '.join(aucs)} |"
        )
    return "\n".join(lines)


def draw(study: Study, rows: list[dict], ratios: list[dict], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(16, 7), layout="constrained", sharex="col")
    for i, background in enumerate(BACKGROUNDS):
        for k, (diameter, contrast) in enumerate(CCT189):
            axis = axes[i, k]
            for j, (name, label) in enumerate(METHODS.items()):
                r = [
                    x
                    for x in rows
                    if (x["background"], x["method"], x["diameter_mm"]) == (background, name, diameter)
                ]
                # side by side, so that error bars can be told apart
                dose = [x["photons"] * 1.03 ** (j - 1.5) for x in r]
                axis.errorbar(
                    dose, [x["auc"] for x in r], [x["auc_se"] for x in r], marker="o", ms=3, label=label
                )
            axis.set(xscale="log", ylim=(0.45, 1.02), title=f"{background}: {diameter:g} mm, {contrast:g} HU")
            axis.grid(alpha=0.3)
        axes[i, 0].set_ylabel("AUC ± SE")
        chosen = [x for x in ratios if x["background"] == background and x["disc_mm"] == "all"]
        for j, x in enumerate(chosen):
            error = [[x["dose_ratio"] - x["low"]], [x["high"] - x["dose_ratio"]]]
            axes[i, 4].errorbar([j], [x["dose_ratio"]], error, marker="o", capsize=4, color=f"C{j + 1}")
        axes[i, 4].axhline(1, color="C0", lw=1)
        axes[i, 4].axhline(study.photons[0] / study.photons[len(study.photons) // 2], color="0.6", ls=":")
        axes[i, 4].set_ylim(0, None)
        axes[i, 4].set(title="dose for FBP's AUC / FBP's dose", xlim=(-0.6, 2.6))
        axes[i, 4].set_xticks(range(3), ["TV", "PWLS-TV", "PWLS-TV,\none λ"])
        axes[i, 4].grid(alpha=0.3)
    for axis in axes[1, :4]:
        axis.set_xlabel("photons per bin and rotation")
        axis.set_xticks(study.photons, [f"{p:.3g}" for p in study.photons], fontsize=7)
        axis.set_xticks([], minor=True)
    axes[0, 0].legend(fontsize=8)
    first = rows[0]
    figure.suptitle(
        f"CHO (5 LG channels, 50:50, 10 splits), {first['scans']} scans per dose and background: "
        f"{first['present']} regions with, {first['absent']} without a disc.\nλ by discrepancy, or one λ = "
        f"{study.fixed_weight:g} for all doses. Right: all discs, middle dose, 95 % bootstrap over scans.",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--images", type=int, default=None, help="scans per dose and background")
    parser.add_argument(
        "--work", type=Path, default=Path("runs") / "dose_auc", help="regions of finished batches"
    )
    parser.add_argument("--out", type=Path, default=None, help="folder of csv, md and png; default results")
    args = parser.parse_args()
    study = Study(images=args.images or 200)
    if args.quick:
        study = Study(size=72, views=36, photons=(2e7, 1.6e8), iterations=10, images=args.images or 16)
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch) if args.quick else args.work
        total = math.ceil(study.images / BATCH) * len(BACKGROUNDS) * len(study.photons)
        print(
            f"{total} batches of {BATCH} scans; the full study takes some 30 min on two quiet cores",
            flush=True,
        )
        found, weights = measure(study, work)
        rows, orders = observe(study, found, weights)
    ratios = equal_auc(study, rows, orders, samples=50 if args.quick else 2000)
    print(report(study, rows, ratios))
    out = args.out or (None if args.quick else RESULTS)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, table in (("dose_auc", rows), ("dose_auc_ratios", ratios)):
            if table:
                with (out / f"{name}.csv").open("w", newline="") as file:
                    writer = csv.DictWriter(file, table[0])
                    writer.writeheader()
                    writer.writerows(table)
        (out / "dose_auc.md").write_text(report(study, rows, ratios) + "\n")
        draw(study, rows, ratios, out / "dose_auc.png")


if __name__ == "__main__":
    main()
