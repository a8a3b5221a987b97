"""Inserted dose against true low-dose scans: variance of the rays, noise power of the images; and how far the
first-order variance of post-log data can be trusted.

    python benchmarks/dose_insertion.py            # 1e6 rays a case, 600 images; writes results/
    python benchmarks/dose_insertion.py --quick    # 1e5 rays, 50 images, nothing written
"""

import argparse
import csv
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from operators import (
    FanBeam,
    LowDose,
    XRay,
    fbp,
    insert_dose_into_image,
    insert_into_counts,
    insert_into_log,
    thin_counts,
)
from recon.data import Ellipses
from recon.data.ellipses import disc

RESULTS = Path(__file__).parent / "results"
SHARES = (0.1, 0.25, 0.5)
MU = 0.0206
ROI, CHUNK = 48, 50
Row = dict[str, float | str]


def rays(count: int) -> Iterator[Row]:
    """Post-log variance after insertion over the exact one of the lower dose; the largest standard error."""
    for sigma in (0.0, 5.0):
        for low_counts in (5, 20, 50, 150, 500, 5000):
            for a in SHARES:
                noise = LowDose(1e6, electronic_sigma=sigma)
                low = noise.scaled(a)
                p = torch.full((count // 1000, 1000), math.log(1e6 * a / low_counts), dtype=torch.float64)
                y = noise(p, seed=1)
                inserted = {
                    "scanned": low.linearise(low(p, seed=2)),
                    "counts": low.linearise(insert_into_counts(y, noise, a, seed=3)),
                    "log": insert_into_log(noise.linearise(y), noise, a, seed=4),
                }
                if not sigma:
                    inserted["thinned"] = low.linearise(thin_counts(y, a, seed=5))
                exact = float(low.exact(p[:1, :1]).variance)
                row: Row = {"sigma": sigma, "low_counts": low_counts, "a": a}
                errors = []
                for how in ("scanned", "thinned", "counts", "log"):
                    logs = inserted.get(how)
                    if logs is None:
                        row[how] = "–"
                        continue
                    squares = (logs - logs.mean()).square()
                    row[how] = float(squares.mean()) / exact
                    errors.append(float(squares.std()) / math.sqrt(count) / exact)
                yield row | {"standard_error": max(errors)}


def images(draws: int, size: int) -> Iterator[Row]:
    """Noise power of FBP images of water after insertion, against scans at the lower dose."""
    views, half = 3 * size // 2, 125.0
    scan = FanBeam(
        (size, size), 2 * half / size, [2 * math.pi * k / views for k in range(views)],
        2 * size, 2 * half / size * 1.3, 595.0, 1085.6, "arc",
    )  # fmt: skip
    A = XRay(scan)
    noise = LowDose(2e5, electronic_sigma=3.0)
    p = Ellipses([disc(MU, 100.0)]).line_integrals(scan)

    def hu(logs: Tensor) -> Tensor:
        return fbp(A, logs) * 1000 / MU - 1000

    for a in SHARES:
        low = noise.scaled(a)
        kept: dict[str, list[Tensor]] = {}
        for start in range(0, draws, CHUNK):
            n = min(CHUNK, draws - start)
            clean = p.expand(n, *p.shape)
            seeds = [[kind * 10**7 + start + i for i in range(n)] for kind in range(1, 6)]
            y = noise(clean, seed=seeds[0])
            high = noise.linearise(y)
            for how, image in (
                ("scanned", hu(low.linearise(low(clean, seed=seeds[1])))),
                ("counts", hu(low.linearise(insert_into_counts(y, noise, a, seed=seeds[2])))),
                ("log", hu(insert_into_log(high, noise, a, seed=seeds[3]))),
                ("image", insert_dose_into_image(hu(high), A, noise, a, seed=seeds[4])),
            ):
                kept.setdefault(how, []).append(middle(image, scan.pixel_size))
        power = {how: spectrum(torch.cat(roi)) for how, roi in kept.items()}
        for how in ("counts", "log", "image"):
            yield {"how": how, "a": a, **compared(power[how], power["scanned"], draws)}


def middle(image: Tensor, pixel_size: float) -> Tensor:
    start = (image.shape[-1] - ROI) // 2
    return image[:, start : start + ROI, start : start + ROI] * pixel_size


def spectrum(roi: Tensor) -> Tensor:
    """|DFT|² of every draw's noise, in HU² mm² [draws, ROI, ROI]; a ring of frequencies has many bins."""
    n = len(roi)
    return torch.fft.fft2(roi - roi.mean(0)).abs().square() / ROI**2 * n / (n - 1)


def compared(ours: Tensor, theirs: Tensor, draws: int) -> Row:
    """Bins and rings of the two mean spectra, in standard errors of both; conjugate bins count once."""
    z = difference(ours, theirs, draws)[:, 1 : ROI // 2].flatten()
    f = torch.fft.fftfreq(ROI, dtype=torch.float64)
    ring = (torch.hypot(f[:, None], f[None]) * ROI).round().long()
    rings = [
        torch.stack([s[:, ring == r].mean(-1) for r in range(1, ROI // 2 + 1)], 1) for s in (ours, theirs)
    ]
    radial = difference(*rings, draws)
    total = [s.mean((-2, -1)) for s in (ours, theirs)]
    ratio = float(total[0].mean() / total[1].mean())
    error = math.sqrt(sum(float(t.var()) / draws / float(t.mean()) ** 2 for t in total))
    return {
        "variance_ratio": ratio, "standard_error": error, "rings": len(radial),
        "rings_beyond_3": int((radial.abs() > 3).sum()), "largest_ring": float(radial.abs().max()),
        "bins": len(z), "bins_beyond_3_percent": 100 * float((z.abs() > 3).double().mean()),
        "z_std": float(z.std()),
    }  # fmt: skip


def difference(ours: Tensor, theirs: Tensor, draws: int) -> Tensor:
    return (ours.mean(0) - theirs.mean(0)) / torch.sqrt((ours.var(0) + theirs.var(0)) / draws)


def weights(count: int) -> Iterator[Row]:
    """What −ln of few counts does: exact moments over first-order ones, and one p estimated from 100 rays."""
    for sigma in (0.0, 5.0):
        for counts in (3, 5, 10, 20, 50, 400):
            noise = LowDose(1e5, electronic_sigma=sigma)
            p = torch.full((count // 1000, 1000), math.log(1e5 / counts), dtype=torch.float64)
            exact = noise.exact(p[:1, :1])
            formula = float(noise.variance(noise.expected(p[:1, :1])))
            y = noise(p, seed=1)
            groups = [t.reshape(-1, 100) for t in (y, noise.linearise(y), 1 / noise.variance(y))]
            plain = groups[1].mean(1) - p[0, 0]
            plug_in = (groups[1] * groups[2]).sum(1) / groups[2].sum(1) - p[0, 0]
            likelihood = (1e5 / groups[0].mean(1).clamp(min=0.1)).log() - p[0, 0]
            yield {
                "sigma": sigma, "counts": counts,
                "exact_over_first_order": float(exact.variance) / formula,
                "plug_in_over_exact": float(noise.variance(y).mean() / exact.variance),
                "bias_log": float(exact.mean - p[0, 0]),
                **{f"bias_{k}": float(v.mean()) for k, v in
                   (("equal_weights", plain), ("plug_in_weights", plug_in), ("likelihood", likelihood))},
            }  # fmt: skip


def table(rows: list[Row], columns: list[str]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [v if isinstance(v := row[c], str) else f"{v:.4g}" for c in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    count, draws, size = (100_000, 50, 64) if quick else (1_000_000, 600, 128)

    parts = {"rays": list(rays(count)), "images": list(images(draws, size)), "weights": list(weights(count))}
    texts = {
        "rays": "Variance of post-log data after insertion over the exact one of a scan at dose a, "
        f"{count:.0e} rays a case. σ: electronic noise; low_counts: mean counts at dose a; scanned: a true "
        "scan, the control",
        "images": "Noise power of FBP (Ram-Lak) of 20 cm of water after insertion against true scans: "
        f"{draws} draws each, {size}² pixels, the middle {ROI}²; rings and bins of the spectrum in standard "
        "errors of both",
        "weights": "Post-log data of few counts: exact variance over first order, mean plug-in variance over "
        "exact, bias of −ln, and of one line integral from 100 rays by equal weights, plug-in weights and "
        "likelihood",
    }
    lines = []
    for name, part in parts.items():
        lines += [f"**{texts[name]}**", "", *table(part, list(part[0])), ""]
    print("\n".join(lines))
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        for name, part in parts.items():
            with (RESULTS / f"dose_insertion_{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(part[0]))
                writer.writeheader()
                writer.writerows(part)
        (RESULTS / "dose_insertion.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
