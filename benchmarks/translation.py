"""Image to image: low-dose CT by filters and networks; CycleGAN; MedGAN's losses one by one.

    python benchmarks/translation.py --quick                            # seconds, toys, nothing written
    python benchmarks/translation.py --data DATA --out runs             # one core: 1 h 20, small networks
    python benchmarks/translation.py --data DATA --out runs --device cuda --size paper --pixels 256

Every training of a table has the same wall time (--minutes, --ablation-minutes, or --steps for one that is
repeatable) in which its rate falls to 0 by a cosine, and the last weights are kept. Otherwise settings are
the papers', but for --size small: networks in bfloat16, fewer channels, smaller batches, and larger rates and
a start without the critic where theirs are for days of training (benchmarks/parts/translation_methods.py).
These, the draws and the orientations of (a) were settled after scores of earlier runs on the same test images
had been seen, alike for all methods of a kind; nothing else is chosen on them. `runs` keeps every row: the
same call goes on. Methods that are not installed are dashes; a training that fails, or an image that is not
finite, is counted.

(a) Low-dose CT of real slices: FBP (Ram-Lak) of a fan-beam scan of so many photons that 20 cm of water have
    30 HU of noise, back to the slice. Two patients to learn from, in pairs every slice with three draws of
    noise and in eight orientations, one patient for validation, one to score on. The truth is itself a
    reconstruction with noise of its own, which is what "texture" means here: noise power of the flattest
    soft-tissue tiles of 8 × 8 pixels, against that of the truth in the same tiles.
    Without --data: random heads, and pydicom's head among the test images.
(b) CycleGAN, which learns from images and truths that do not belong together, against its own input.
(c) The terms of MedGAN, in the form of its Table 1, on a simulated PET-like to CT-like translation with a
    known floor (`recon.data.tasks.ContrastPairs`). HaarPSI stands where the paper has LPIPS, whose networks
    are not shipped. Synthetic heads: the numbers are not to be compared with the paper's, the order may be.

Writes results/translation.md, .json, translation_ct.png and translation_ablation.png.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parts import translation_methods as methods
from parts import translation_scores as scoring
from parts import translation_tables as tables
from torch import Tensor

from operators import LinearOperator
from recon import Problem
from recon.comparison.dose import dose_note
from recon.comparison.files import write_json, write_text
from recon.data import TurnedPairs
from recon.data.heads import MU_WATER
from recon.data.sets import TEST, PairedData, selected
from recon.data.tasks import ContrastPairs, LowDosePairs, TaskPairs, stored_slices

RESULTS = Path(__file__).parent / "results"
RANGE = 2.5 * MU_WATER  # −1000 to 1500 HU
SOFT = (MU_WATER * 0.84, MU_WATER * 1.24)  # grey window of the figures, −160 to 240 HU
FIELD = 500.0  # [mm] of real slices
AT_ONCE = 8
DRAWS = 3  # of the noise of every training slice

CT_COLUMNS = {
    "psnr_db": ("PSNR [dB]", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "rmse_hu": ("RMSE [HU]", "{:.1f}"),
    "bias_hu_body": ("bias [HU]", "{:+.1f}"),
    "bias_hu_soft": ("bias, soft tissue [HU]", "{:+.1f}"),
    "nps_distance_db": ("NPS distance [dB]", "{:.1f}"),
    "nps_mean_frequency": ("NPS mean frequency [1/mm]", "{:.3f}"),
    "texture_sigma_hu": ("σ of tiles [HU]", "{:.1f}"),
    "images_per_second": ("images a second", "{:.3g}"),
    "parameters": ("weights", "{:.0f}"),
    "steps": ("steps", "{:.0f}"),
}
ABLATION_COLUMNS = {
    "ssim": ("SSIM", "{:.4f}"),
    "psnr_db": ("PSNR [dB]", "{:.2f}"),
    "mse_8bit": ("MSE [8 bit]", "{:.1f}"),
    "vif": ("VIF", "{:.4f}"),
    "uqi": ("UQI", "{:.4f}"),
    "one_minus_haarpsi": ("1 − HaarPSI (for LPIPS)", "{:.4f}"),
    "parameters": ("weights", "{:.0f}"),
    "steps": ("steps", "{:.0f}"),
}


@dataclass(frozen=True, eq=False)
class Part:
    """One table: its data on the device, what is scored, and which methods.

    alone : pairs for those who learn from images without their partners: of every slice only one
    """

    name: str
    data: PairedData
    alone: PairedData
    test: tuple[Problem, Tensor]
    rows: tuple[methods.Row, ...]
    score: Callable[[Tensor, Tensor], dict[str, float]]
    seeds: range
    source: TaskPairs


def low_dose(args: argparse.Namespace) -> LowDosePairs:
    if args.quick:
        return LowDosePairs(size=48, views=60, validation_size=2, test_size=5, train_size=6)
    if args.data is None:
        return LowDosePairs(size=args.pixels, validation_size=16, test_size=32, train_size=256)
    slices = stored_slices(args.data, args.pixels, FIELD)
    sizes = slices.sizes | {"train_size": DRAWS * slices.sizes["train_size"]}
    return LowDosePairs(slices, args.pixels, FIELD, views=360, **sizes)


def ct_part(args: argparse.Namespace) -> Part:
    source = low_dose(args)

    def score(x: Tensor, truth: Tensor) -> dict[str, float]:
        return scoring.ct_scores(x, truth, data_range=RANGE, mu_water=MU_WATER, pixel_size=source.pixel_size)

    rows = (methods.Row("FBP (input)", ("zerofilled",), "input"), *methods.CT)
    data, test = held(source, args.device)
    problem, truth = data.train
    first = torch.arange(len(truth) // (DRAWS if args.data and not args.quick else 1))
    alone = PairedData((selected(problem, first), truth[first]), data.validation, data.name)
    return Part("ct", TurnedPairs(data), alone, test, rows, score, range(args.ct_seeds), source)


def ablation_part(args: argparse.Namespace) -> Part:
    size, counts = (48, (2, 3, 6)) if args.quick else (args.ablation_pixels, (16, 64, 512))
    validation, test, train = counts
    source = ContrastPairs("pet", "ct", size, validation_size=validation, test_size=test, train_size=train)

    def score(x: Tensor, truth: Tensor) -> dict[str, float]:
        return scoring.table_scores(x, truth, data_range=RANGE)

    data, test = held(source, args.device)
    return Part("ablation", data, data, test, methods.ABLATION, score, range(args.seeds), source)


def held(source: TaskPairs, device: str) -> tuple[PairedData, tuple[Problem, Tensor]]:
    """The finite sets of a task on the device, and the test images, which no training is given."""
    A = source.A.to(device)
    train, validation, test = (
        moved(part, A, device) for part in (source.train, source.validation, source.test)
    )
    return PairedData(train, validation, source.name), test


def moved(pair: tuple[Problem, Tensor], A: LinearOperator, device: str) -> tuple[Problem, Tensor]:
    problem, truth = pair
    return Problem(A, problem.y.to(device), problem.noise.to(device)), truth.to(device)


def run(part: Part, row: methods.Row, seed: int, args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """The row of one method and seed, from `out` if it is there; its first image beside it."""
    stem = out / f"{part.name}-{re.sub(r'[^a-z0-9]+', '-', row.title.lower())}-seed{seed}"
    budget = {
        key: str(getattr(args, key))
        for key in ("steps", "size", "device", "quick", "pixels", "ablation_pixels", "data")
    }
    minutes = None if args.steps else {"ct": args.minutes, "ablation": args.ablation_minutes}[part.name]
    budget["minutes"] = str(minutes or "")
    head = {"title": row.title, "kind": row.kind, "seed": seed, "budget": budget}
    path = stem.with_suffix(".json")
    if path.exists():
        there = json.loads(path.read_text())
        if there["budget"] == budget:
            return there
    if methods.found(row) is None:
        return head | {"missing": True}
    try:
        about, image = trained_and_scored(part, row, seed, args, stem, minutes)
        np.save(stem.with_suffix(".npy"), image.cpu().numpy())
        line = head | about
    except (ImportError, FileNotFoundError) as error:
        # weights of features or a package that are not here: no fault of the method, and not kept
        return head | {"missing": True, "why": f"{type(error).__name__}: {error}"}
    except (ValueError, ArithmeticError, RuntimeError) as error:
        # a full disk is no method's fault either, and not caught
        line = head | {"error": f"{type(error).__name__}: {error}"}
    line = finite(line)
    write_json(path, line)
    return line


def trained_and_scored(
    part: Part, row: methods.Row, seed: int, args: argparse.Namespace, stem: Path, minutes: float | None
) -> tuple[dict[str, Any], Tensor]:
    # time ends the training where no steps are given
    training = {
        "seed": seed, "steps": args.steps or 10**6, "schedule": "cosine", "validate_every": 10**6,
        "checkpoint_every": 200,
    }  # fmt: skip
    method = methods.made(row, args.size, training)
    checkpoint = stem.with_suffix(".checkpoint.safetensors")
    if method.data_kind is not None:
        data = part.alone if method.data_kind == "unpaired" else part.data
        method.fit(data.of_kind(method.data_kind), minutes=minutes, checkpoint=checkpoint)
    problem, truth = part.test
    x = several(method, problem)
    if not bool(torch.isfinite(x).all()):
        raise ArithmeticError(f"{int((~torch.isfinite(x)).sum())} values are not finite")
    record = getattr(method, "record", {})
    about = {
        "method": methods.found(row),
        "scores": part.score(x, truth),
        "images_per_second": None if row.kind == "input" else 1 / seconds(method, problem),
        "parameters": methods.weights(method),
        "minutes": record.get("seconds", 0.0) / 60,
        "steps": record.get("steps", 0),
        "record": {k: v for k, v in record.items() if isinstance(v, int | float | str | bool)},
    }
    checkpoint.unlink(missing_ok=True)
    return about, x[0]


@torch.no_grad()
def several(method: torch.nn.Module, problem: Problem) -> Tensor:
    """Images of a batch, a few at a time, for memory."""
    parts = torch.arange(len(problem.y)).split(AT_ONCE)
    return torch.cat([method(Problem(problem.A, problem.y[p], problem.noise.select(p))) for p in parts])


@torch.no_grad()
def seconds(method: torch.nn.Module, problem: Problem, rounds: int = 3) -> float:
    """The least time of one image on the processor, alone."""
    method, one = method.cpu(), Problem(problem.A.cpu(), problem.y[0].cpu(), problem.noise.select(0).cpu())
    times: list[float] = []
    # the first round warms up, unless it is long enough not to need to
    while len(times) <= rounds and sum(times) < 2:
        started = time.perf_counter()
        method(one)
        times.append(time.perf_counter() - started)
    return min(times)


def references(part: Part) -> list[dict[str, Any]]:
    """What the mapping of PET to CT allows: the floor, and the best that pixels can do one by one."""
    assert isinstance(part.source, ContrastPairs)
    problem, truth = part.source.test
    best = torch.stack([part.source.best(TEST + k) for k in range(len(truth))])
    y, x = part.source.train[0].y, part.source.train[1]
    edges = torch.quantile(y.flatten()[:: max(1, y.numel() // 100_000)], torch.linspace(0, 1, 65)[1:-1])
    where = torch.bucketize(y, edges)
    means = torch.zeros(64).index_add(0, where.flatten(), x.flatten()) / where.flatten().bincount(
        minlength=64
    )
    images = {
        "floor: all but the texture no PET shows": best,
        "mean CT of each PET value": means[torch.bucketize(problem.y, edges)],
    }
    empty = {"images_per_second": float("nan"), "parameters": 0, "minutes": 0.0, "steps": 0}
    return [
        {"title": t, "kind": "reference", "seed": 0, "scores": part.score(image, truth)} | empty
        for t, image in images.items()
    ]


def main() -> None:
    args = arguments()
    lines, results, figures = [], {}, {}
    with tempfile.TemporaryDirectory() as passing:
        out = Path(passing) if args.quick else args.out
        out.mkdir(parents=True, exist_ok=True)
        for name in args.parts.split(","):
            part = {"ct": ct_part, "ablation": ablation_part}[name](args)
            rows, images = [], {}
            for row in part.rows:
                # what does not learn is the same for every seed
                for seed in part.seeds if row.kind in ("pixel", "adversarial") else range(1):
                    rows.append(run(part, row, seed, args, out))
                    print(brief(rows[-1]), flush=True)
                    stored = sorted(
                        out.glob(f"{name}-{re.sub(r'[^a-z0-9]+', '-', row.title.lower())}-seed*.npy")
                    )
                    if stored:
                        images[row.title] = torch.from_numpy(np.load(stored[0]))
            rows += references(part) if name == "ablation" else []
            lines += told(part, rows, args)
            results[name] = {"rows": rows, "summary": tables.by_method(rows)}
            figures[name] = images, part.test[1][0].cpu()
    print("\n".join(lines))
    if args.quick:
        return
    assert __doc__ is not None
    protocol = "\n\n".join(__doc__.split("\n\n")[2:-1])
    write_text(RESULTS / "translation.md", "\n".join([protocol, "", *lines]).rstrip() + "\n")
    write_json(RESULTS / "translation.json", finite(results))
    for name, (images, truth) in figures.items():
        tables.figure(
            RESULTS / f"translation_{name}.png", images, truth, SOFT if name == "ct" else (0, RANGE)
        )


def told(part: Part, rows: list[dict[str, Any]], args: argparse.Namespace) -> list[str]:
    """The section of a part: data, budget, table, what it says."""
    minutes = args.minutes if part.name == "ct" else args.ablation_minutes
    budget = f"{args.steps} steps" if args.steps else f"{minutes:g} minutes"
    truth = part.test[1]
    lines = [
        f"## {'(a) Low-dose CT' if part.name == 'ct' else '(c) Losses of MedGAN, PET-like to CT-like'}",
        "",
        f"{truth.shape[-1]}² pixels of {part.source.pixel_size:.2f} mm, {len(part.alone.train[1])} images to "
        f"learn from, {len(truth)} to score on; {budget} of training each, networks of size “{args.size}”, "
        f"on {args.device} ({torch.get_num_threads()} threads), {len(part.seeds)} seed(s). Mean ± "
        "standard deviation over seeds; images a second one at a time on the processor.",
        "",
    ]
    if isinstance(part.source, LowDosePairs):
        lines += [f"{dose_note(part.source.geometry, part.source.noise, MU_WATER)}.", ""]
        said = [
            *tables.expectation(rows),
            "",
            "## (b) CycleGAN against its input",
            "",
            *tables.unpaired(rows),
        ]
        return [*lines, *tables.table(rows, CT_COLUMNS), "", *said, ""]
    return [*lines, *tables.table(rows, ABLATION_COLUMNS), ""]


def brief(row: dict[str, Any]) -> str:
    if row.get("missing"):
        return f"{row['title']}: {row.get('why', 'not installed')}"
    if "error" in row:
        return f"{row['title']}, seed {row['seed']}: {row['error'][:200]}"
    return f"{row['title']}, seed {row['seed']}: {row['scores']['psnr_db']:.2f} dB after {row['steps']} steps"


def finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, help="folder of the shared slices; without it, random heads")
    parser.add_argument("--out", type=Path, help="folder of rows and checkpoints")
    parser.add_argument("--parts", default="ct,ablation", help="of ct, ablation")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each training on low-dose CT")
    parser.add_argument("--ablation-minutes", type=float, default=2.0, help="of each training of MedGAN")
    parser.add_argument("--steps", type=int, help="of each training, in the place of minutes")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every row of the ablation")
    parser.add_argument("--ct-seeds", type=int, default=1, help="trainings of every row of low-dose CT")
    parser.add_argument("--size", choices=methods.SIZES, default="small", help="of the networks")
    parser.add_argument("--pixels", type=int, default=128, help="a side, of low-dose CT")
    parser.add_argument("--ablation-pixels", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if unknown := set(args.parts.split(",")) - {"ct", "ablation"}:
        parser.error(f"--parts: expected ct or ablation, got {', '.join(sorted(unknown))}")
    if (
        min(args.seeds, args.ct_seeds, args.steps or 1) < 1
        or not min(args.minutes, args.ablation_minutes) > 0
    ):
        parser.error("--seeds, --ct-seeds, --steps and both minutes must be positive")
    if args.quick:
        args.size, args.steps, args.seeds, args.ct_seeds, args.device = "tiny", args.steps or 2, 1, 1, "cpu"
    elif args.out is None:
        parser.error("--out: name a folder for rows and checkpoints, which an interrupted run goes on from")
    return args


if __name__ == "__main__":
    main()
