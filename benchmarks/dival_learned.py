"""The learned rows of the published table of DIVal's `ellipses`, and what few training images do to them.

    python benchmarks/dival_learned.py --train learned-primal-dual --images 32   # go on training; resumable
    python benchmarks/dival_learned.py --train learned-primal-dual --images 32 --turned   # in 8 orientations
    python benchmarks/dival_learned.py --train fbp-unet                          # ever new images
    python benchmarks/dival_learned.py --report        # score what is trained; writes results/dival_learned.*
    python benchmarks/dival_learned.py --quick         # seconds: a few steps, nothing written

Baguer, Leuschner & Schmidt, Inverse Problems 36 (2020) 094004: the first 100 test images, range max − min of
each truth. Training with N images takes the first N published ones; without N every image is new; `--turned`
shows them and their data turned and mirrored too, which the published rows did not. A call that is broken off
(Ctrl-C, SIGTERM) is gone on with by the next; one that has come to its end, by steps or by `--minutes`, is
done, and called again begins anew. Weights of the zoo are scored beside, by their cards.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from recon.base import METHODS
from recon.checkpoints import write_bytes
from recon.data import DivalPairs, PairedData, TurnedPairs
from recon.learned import Learned
from recon.metrics import psnr, ssim
from recon.train_log import read_curve
from recon.train_method import train_method
from recon.training import Progress
from recon.zoo.recipes import recipe

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CHUNK, EVERY = 20, 20
FEW: dict[str, dict[str, Any]] = {
    "learned-primal-dual": {"steps": 5000},
    "learned-gradient": {"steps": 5000},
    "fbp-unet": {"steps": 1500, "warmup": 200},
}
"""With N images: shorter, and of all weights on the way those best in validation, for more steps overfit.

The U-Net has a warm-up, as its first training with 320 images was unstable without."""
HEAD = (
    "Mean ± standard deviation of the first 100 test images, range max − min of each truth; `min`: of "
    "training, on one core. Made by `python benchmarks/dival_learned.py --report`.\n\n"
)
PUBLISHED: dict[tuple[str, int | None], tuple[float, float | None]] = {
    ("fbp-unet", None): (29.36, 0.8987),
    ("learned-gradient", None): (30.30, 0.9162),
    ("learned-primal-dual", None): (32.27, 0.9403),
    ("fbp-unet", 32): (26.33, None),
    ("learned-gradient", 32): (27.81, None),
    ("learned-primal-dual", 32): (28.09, 0.862),
    ("fbp-unet", 320): (27.12, None),
    ("learned-gradient", 320): (29.55, None),
    ("learned-primal-dual", 320): (30.11, 0.912),
}


def pairs(images: int | None, turned: bool) -> PairedData:
    data = DivalPairs(images)
    return TurnedPairs(data) if turned else data


def trained(
    work: Path, name: str, images: int | None, turned: bool, minutes: float | None, **changes: Any
) -> Path:
    """Train on; the curve of validation PSNR against steps lies beside the weights."""
    data = pairs(images, turned)
    out = work / f"{name}-{data.name}"
    work.mkdir(parents=True, exist_ok=True)

    def show(progress: Progress) -> None:
        if progress.step % EVERY == 0:
            last = f", {progress.scores[-1][1]:.2f} dB" if progress.scores else ""
            print(f"{out.name}: step {progress.step} of {progress.steps}, {progress.seconds:.0f} s{last}")

    few = {**FEW[name], "choose": "best"} if images else {}
    settings = {**recipe("ellipses-dival", name), **few, **changes}
    train_method(name, data, out, minutes, callback=show, **settings)
    return out


def scored(method: Learned, data: DivalPairs) -> dict[str, float]:
    """Mean and standard deviation over the test images."""
    problem, truth = data.test
    x = torch.cat(
        [method(type(problem)(problem.A, y, problem.noise.select(slice(i, i + CHUNK))))
         for i in range(0, len(truth), CHUNK) for y in [problem.y[i : i + CHUNK]]]
    )  # fmt: skip
    span = truth.amax((-2, -1)) - truth.amin((-2, -1))
    ratio, similarity = psnr(x, truth, data_range=span), ssim(x, truth, data_range=span)
    return {
        "psnr_db": float(ratio.mean()),
        "psnr_db_std": float(ratio.std()),
        "ssim": float(similarity.mean()),
        "images": len(truth),
    }


def rows(folders: list[Path]) -> list[dict[str, Any]]:
    """Every trained method in the folders, scored, beside what was published."""
    found, data = [], DivalPairs()
    for (name, images), (published, similarity) in PUBLISHED.items():
        for turned in (False, True):
            stem = f"{name}-{pairs(images, turned).name}"
            file = next((f for d in folders if (f := d / f"{stem}.safetensors").exists()), None)
            if file is None:
                continue
            method = METHODS[name].load(file)
            assert isinstance(method, Learned)
            row = {
                "method": name,
                "training images": images,
                "turned": turned,
                **scored(method, data),
                "published psnr_db": published,
                "published ssim": similarity,
                "training": method.record,
                "batch_size": method.config.batch_size,
                "weights": sum(p.numel() for p in method.parameters()),
            }
            curve = file.with_suffix(".curve.csv")
            if curve.exists():
                row["curve"] = [(r["step"], r["score"]) for r in read_curve(curve) if "score" in r]
            found.append(row)
            print(f"{name}, {images or 'new'} images: {row['psnr_db']:.2f} dB, published {published}")
    return found


def table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| method | trained on | PSNR [dB] | published | SSIM | published | steps × batch | min | weights |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in found:
        made = row["training"]
        count = row["training images"]
        similarity = "" if row["published ssim"] is None else f"{row['published ssim']:.3f}"
        lines.append(
            f"| {row['method']} | {'never repeated' if count is None else f'{count} published'}"
            f"{', 8 orientations' if row['turned'] else ''} "
            f"| {row['psnr_db']:.2f} ± {row['psnr_db_std']:.2f} | {row['published psnr_db']:.2f} "
            f"| {row['ssim']:.4f} | {similarity} | {made['steps']} × {row['batch_size']} "
            f"| {made['seconds'] / 60:.0f} | {row['weights']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", choices=sorted({name for name, _ in PUBLISHED}))
    parser.add_argument("--images", type=int, help="of the published training images; all are new without it")
    parser.add_argument("--turned", action="store_true", help="images and data in eight orientations")
    parser.add_argument(
        "--minutes", type=float, help="of this and all broken-off calls, after which training ends"
    )
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "dival", help="folder of weights")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            small = {"hidden": 4, "iterations": 2, "batch_size": 1, "steps": 2, "validate_every": 2}
            trained(Path(folder), "learned-primal-dual", 32, True, None, **small)
            print(table(rows([Path(folder)])))
        return
    if options.train:
        changes = {} if options.steps is None else {"steps": options.steps}
        trained(options.work, options.train, options.images, options.turned, options.minutes, **changes)
    if options.report:
        found = rows([options.work, HERE.parent / "recon" / "zoo"])
        write_bytes(RESULTS / "dival_learned.json", (json.dumps(found, indent=1) + "\n").encode())
        write_bytes(RESULTS / "dival_learned.md", (HEAD + table(found)).encode())


if __name__ == "__main__":
    main()
