"""The brain slices of RefineGAN: its zero-filled scores to three decimals, and total variation beside them.

Quan, Nguyen-Duc, Jeong, IEEE Trans. Med. Imaging 37 (2018) publish 100 magnitude slices of 256², masks, code;
scores are PSNR of |x| clipped to [0, 1] with peak 1, averaged over the 100 validation images. The data of a
slice are the FFT of a magnitude image without noise, so this checks mask, FFT and PSNR and compares at that
protocol; it is no evidence about a scanner ("data crime", Shimron et al. 2022). Every validation slice is the
neighbour of a training slice of the same subject, which the published network profits from.

    git clone https://github.com/tmquan/RefineGAN
    python benchmarks/refinegan_brain.py --data RefineGAN/data    # writes results/refinegan_brain.*
    python benchmarks/refinegan_brain.py --quick                  # no data: the same code on one image

λ of the total variation is tuned on the first training slices for each mask; no network is run here.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from operators import Gaussian, Sense
from recon import Problem, TotalVariation, psnr
from recon.data import example_head

RESULTS = Path(__file__).parent / "results"
MASKS = {
    "radial 10 %": "mask/radial/mask_1/mask_10.png",
    "radial 20 %": "mask/radial/mask_2/mask_20.png",
    "radial 30 %": "mask/radial/mask_3/mask_30.png",
    "radial 40 %": "mask/radial/mask_4/mask_40.png",
}
# validation PSNR [dB] that the port github.com/hellopipu/RefineGAN states: zero-filled and RefineGAN
PUBLISHED = {
    "radial 10 %": (22.296, 32.705),
    "radial 20 %": (25.806, 36.734),
    "radial 30 %": (28.997, 39.961),
    "radial 40 %": (31.699, 42.903),
}
WEIGHTS = tuple(10**p for p in (-3.5, -3.0, -2.5, -2.0, -1.5, -1.0))
TUNED_ON, TV_ON, AT_ONCE = 2, 20, 4


def images(folder: Path) -> Tensor:
    """Magnitude slices in [0, 1], (slices, 256, 256)."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise SystemExit(f"{folder}: expected PNG slices there; see the head of this script")
    return torch.from_numpy(np.stack([np.asarray(Image.open(f)) for f in files])).float() / 255


def mask_of(path: Path) -> Tensor:
    """Their masks keep the middle of k-space in the corner."""
    return torch.fft.fftshift(torch.from_numpy(np.asarray(Image.open(path)) > 0.9 * 255))


def problem(x: Tensor, mask: Tensor) -> Problem:
    """Noise-free k-space; σ = 1 only fixes the unit of λ."""
    A = Sense(mask)
    return Problem(A, A(x), Gaussian(sigma=1.0, mask=A.sampled))


def score(image: Tensor, truth: Tensor) -> Tensor:
    return psnr(image.abs().clamp(0, 1), truth, data_range=1.0)


def solver(weight: float, iterations: int) -> TotalVariation:
    """Periodic edges, where each step of ADMM is two FFTs; the brain does not touch the border."""
    return TotalVariation(weight, iterations, 5e-3, algorithm="admm", boundary="periodic")


def total_variation(mask: Tensor, train: Tensor, test: Tensor, iterations: int) -> tuple[float, Tensor]:
    """λ that is best on the training slices, and the scores of the others."""
    tuning = problem(train, mask)
    scores = {w: float(score(solver(w, iterations)(tuning), train).mean()) for w in WEIGHTS}
    best = max(scores, key=lambda w: scores[w])
    parts = [score(solver(best, iterations)(problem(x, mask)), x) for x in test.split(AT_ONCE)]
    return best, torch.cat(parts)


def table(masks: dict[str, Tensor], train: Tensor, test: Tensor, iterations: int) -> list[dict]:
    rows = []
    for name, mask in masks.items():
        seen = problem(test, mask)
        zero_filled = score(seen.A.adjoint(seen.y), test)
        weight, tv = total_variation(mask, train, test[:TV_ON], iterations)
        theirs = PUBLISHED.get(name, (None, None))
        rows.append(
            {
                "mask": name,
                "sampled": float(mask.double().mean()),
                "n": len(test),
                "zero_filled_db": float(zero_filled.mean()),
                "zero_filled_published_db": theirs[0],
                "tv_db": float(tv.mean()),
                "tv_sd_db": float(tv.std()) if len(tv) > 1 else math.nan,
                "tv_weight": weight,
                "refinegan_published_db": theirs[1],
            }
        )
        print(rows[-1])
    return rows


def written(rows: list[dict]) -> str:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    lines = [
        f"PSNR [dB] of {rows[0]['n']} validation slices, of TV of the first {TV_ON}. Total variation to a",
        f"residual of 5e-3 or the cap of iterations, λ tuned on {TUNED_ON} training slices; RefineGAN and",
        "the column beside it as published.",
        "",
        "| mask | sampled | zero-filled | published | TV | RefineGAN, published |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        tv = f"{r['tv_db']:.2f} ± {r['tv_sd_db']:.2f}"
        cells = (
            f"{100 * r['sampled']:.1f} %",
            number(r["zero_filled_db"]),
            number(r["zero_filled_published_db"]),
        )
        lines.append(f"| {r['mask']} | {' | '.join(cells)} | {tv} | {number(r['refinegan_published_db'])} |")
    known = [r for r in rows if r["zero_filled_published_db"]]
    worst = max(abs(r["zero_filled_db"] - r["zero_filled_published_db"]) for r in known)
    lines += ["", f"Largest difference of the zero-filled scores from the published ones: {worst:.4f} dB."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder `data` of a checkout of tmquan/RefineGAN")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--iterations", type=int, default=60)
    options = parser.parse_args()
    if options.data is None:
        head = example_head()
        x = torch.nn.functional.avg_pool2d((head / head.max())[None], 8)
        lines = torch.rand(64, generator=torch.Generator().manual_seed(0)) < 0.4
        table({"random lines of a head": lines.expand(64, 64)}, x, x, 50)
        if not options.quick:
            raise SystemExit("without --data there is nothing to compare with; see the head of this script")
        return
    brain = options.data / "brain"
    masks = {name: mask_of(options.data / path) for name, path in MASKS.items()}
    train, test = images(brain / "db_train")[:TUNED_ON], images(brain / "db_valid")
    if options.quick:
        test, options.iterations = test[:AT_ONCE], 50
    rows = table(masks, train, test, options.iterations)
    print(text := written(rows))
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "refinegan_brain.md").write_text(text)
        with (RESULTS / "refinegan_brain.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
