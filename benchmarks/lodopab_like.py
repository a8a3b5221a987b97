"""A second protocol, in the manner of LoDoPaB-CT: by how much does TV win over FBP, and learning over TV?

    python benchmarks/lodopab_like.py --data /work/shared/data --work WORK     # half an hour on a core
    python benchmarks/lodopab_like.py --data … --work WORK --methods learned-primal-dual --steps 50000
    python benchmarks/lodopab_like.py --quick      # half a minute, toy sizes, nothing written

--steps is of each learned method, with a rate that falls to zero over them. Everything in WORK is kept: a
killed training goes on from its last checkpoint, one of as many steps that has ended is not done again, and
the tables are made of all the methods that WORK has rows of. Writes results/lodopab_like.*.

LoDoPaB's transform, 4096 photons a bin, Poisson counts, 0 counts read as 0.1, parallel beam, projected from
finer images (`recon.data.lodopab`); FBP is not clipped at 0, TV is. What is different: 181² pixels (2 × 2
means of LoDoPaB's 362²) with 250 views of 257 bins, which leaves the noise of a pixel as published; slices of
two patients to train on, of one to tune on and of one to score on, instead of 632, 60 and 60; learned
primal–dual of six iterations, not ten; training slices in all eight orientations and with new counts at every
draw. Patients: LIDC-IDRI-0314 and ACRIN-FLT-Breast-001 (training), TotalSegmentator's abdomen (validation,
five slices), LIDC-IDRI-0001 (test); a head, of which training had none, stands apart.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recon import FBP, METHODS, Problem, PWLSTotalVariation, Reconstructor, TotalVariation
from recon.data import LoDoPaBPairs, example_head, lodopab_attenuation, lodopab_images, random_head
from recon.data.lodopab import MU_MAX
from recon.data.simulation import averaged
from recon.metrics import psnr, ssim
from recon.train_log import read_curve
from recon.training import Progress

RESULTS = Path(__file__).parent / "results"
SIZE = 181
PUBLISHED = {"TV − FBP": 2.58, "LPD − TV": 2.78}
"""dB on LoDoPaB's first 100 test slices, Baguer, Leuschner, Schmidt 2020: 30.37, 32.95 and 35.73."""
METRICS = ("psnr_db", "psnr_fr_db", "ssim", "ssim_fr")
TITLES = {
    "fbp": "FBP",
    "total-variation": "TV, one variance",
    "pwls-total-variation": "TV, weighted",
    "fbp-unet": "FBP + U-Net",
    "learned-primal-dual": "learned primal–dual",
}
LEARNED = {
    "fbp-unet": {"base": 24, "depth": 4, "batch_size": 2},
    "learned-primal-dual": {"iterations": 6, "batch_size": 1, "reuse": 1},
}
TRAINING = {"precision": "bfloat16", "average": 0.99, "validate_every": 250, "checkpoint_every": 100}
QUICK = {
    "fbp-unet": {"base": 4, "depth": 3, "batch_size": 2},
    "learned-primal-dual": {"iterations": 3, "hidden": 8, "batch_size": 2, "reuse": 1},
}
Make = Callable[[float], Reconstructor]


def stored(path: Path, size: int, seed: int) -> Tensor:
    with np.load(path, allow_pickle=False) as file:
        return lodopab_images(torch.from_numpy(file["hu"].astype(np.float32)), size, seed)


def patients(folder: Path) -> tuple[LoDoPaBPairs, dict[str, Tensor]]:
    """Pairs of the shared slices, and the images of every set that is scored."""
    train = stored(folder / "ct_train256.npz", SIZE, 0)
    validation = stored(folder / "ct_abdomen_totalseg.npz", SIZE, 1)[::4]
    chest = stored(folder / "ct_chest_lidc0001.npz", SIZE, 2)
    head = stored(folder / "ct_head_ge.npz", SIZE, 3)
    data = LoDoPaBPairs(train, validation, torch.cat([chest, head]), turned=True)
    return data, {"LIDC-IDRI-0001, chest": chest, "another part of the body, head": head}


def toys(size: int = 46) -> tuple[LoDoPaBPairs, dict[str, Tensor]]:
    """Heads made of ellipses to learn and tune on, the middle of pydicom's head to score on."""
    fine = 4 * size
    heads = [random_head(seed, 0.02).rasterise((fine, fine), 260 / fine) for seed in range(10)]
    images = torch.stack([averaged(image.float(), (size, size)) for image in heads])
    hu = 1000 * (example_head(0.02) / 0.02 - 1)
    head = averaged(lodopab_attenuation(hu), (size, size))[None]
    return LoDoPaBPairs(images[:8], images[8:], head, turned=True), {"pydicom's head": head}


def scores(x: Tensor, truth: Tensor) -> dict[str, list[float]]:
    """LoDoPaB's four: the range is max − min of the truth, or that of all images, 0 … 3071 HU."""
    own = truth.amax((-2, -1)) - truth.amin((-2, -1))
    values = {
        "psnr_db": psnr(x, truth, data_range=own),
        "psnr_fr_db": psnr(x, truth, data_range=MU_MAX),
        "ssim": ssim(x, truth, data_range=own),
        "ssim_fr": ssim(x, truth, data_range=MU_MAX),
    }
    return {name: [round(v, 5) for v in value.tolist()] for name, value in values.items()}


def several(method: Callable[[Problem], Tensor], problem: Problem, at_once: int = 4) -> Tensor:
    """Images of a batch, a few at a time, for memory."""
    parts = [slice(i, i + at_once) for i in range(0, len(problem.y), at_once)]
    with torch.no_grad():
        return torch.cat([method(Problem(problem.A, problem.y[p], problem.noise.select(p))) for p in parts])


def tuned(make: Make, grid: list[float], data: LoDoPaBPairs, widen: bool) -> tuple[float, float]:
    """The value of the highest mean PSNR on the validation patient; a chosen edge widens the grid."""
    problem, truth = data.validation
    found: dict[float, float] = {}
    while True:
        for value in grid:
            if value not in found:
                found[value] = float(np.mean(scores(several(make(value), problem), truth)["psnr_db"]))
                print(f"    {value:.3g}: {found[value]:.2f} dB", flush=True)
        best = max(found, key=lambda v: found[v])
        if not widen or best not in (min(grid), max(grid)) or len(found) > 12:
            return best, found[best]
        grid = [*grid, best / 2 if best == min(grid) else best * 2]


def classical(name: str, data: LoDoPaBPairs, quick: bool) -> tuple[Reconstructor, dict]:
    """FBP or TV with the parameter of the validation patient, and how it was found."""
    iterations = 40 if quick else 300
    if name == "fbp":
        grid = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
        value, best = tuned(lambda v: FBP("hann", v, positive=False), grid, data, widen=False)
        return FBP("hann", value, positive=False), {"how": f"Hann, cut off at {value:g}", "validation": best}
    kind = TotalVariation if name == "total-variation" else PWLSTotalVariation
    grid = [30.0, 60.0, 120.0]  # [mm]

    def make(weight: float) -> Reconstructor:
        return kind(weight=weight, iterations=iterations, tolerance=1e-4)

    value, best = tuned(make, grid, data, widen=True)
    return make(value), {"how": f"λ = {value:g} mm, at most {iterations} iterations", "validation": best}


def trained(name: str, data: LoDoPaBPairs, work: Path, steps: int, quick: bool) -> tuple[Reconstructor, dict]:
    """A learned method, from WORK or trained now, and its budget."""
    kind, path = METHODS[name], work / f"{name}-{steps}"
    if path.with_suffix(".safetensors").exists():
        method = kind.load(path)
    else:
        settings = QUICK[name] if quick else LEARNED[name] | TRAINING
        method = kind(**settings, steps=steps)

        def watch(progress: Progress) -> None:
            if progress.scores and progress.step % method.config.validate_every == 0:
                spent, score = progress.seconds / 60, progress.scores[-1][1]
                print(f"    step {progress.step}, {spent:.0f} min, {score:.2f} dB", flush=True)

        method.fit(data, checkpoint=work / f"{path.name}.checkpoint.safetensors", callback=watch)
        method.save(path)
    record = method.record
    numbers = sum(p.numel() for p in method.parameters())
    how = (
        f"{numbers / 1000:.0f} k weights, {record['steps']} steps of {method.config.batch_size} "
        f"in {record['seconds'] / 60:.0f} min on {record['threads']} thread(s)"
    )
    return method, {"how": how, "validation": record["validation"]}


def row(name: str, data: LoDoPaBPairs, sets: dict[str, Tensor], work: Path, args: argparse.Namespace) -> dict:
    """Scores of one method on every set, image by image; kept in WORK."""
    print(f"{TITLES[name]}:", flush=True)
    path = work / f"{name}.row.json"
    if name in LEARNED:
        method, about = trained(name, data, work, 20 if args.quick else args.steps, args.quick)
    elif path.exists() and not args.again:
        return json.loads(path.read_text())
    else:
        method, about = classical(name, data, args.quick)
    problem, truth = data.test
    started = time.perf_counter()
    x = several(method, problem)
    about["seconds"] = (time.perf_counter() - started) / len(x)
    first = 0
    for title, images in sets.items():
        part = slice(first, first + len(images))
        about.setdefault("sets", {})[title] = scores(x[part], truth[part])
        first += len(images)
    if name in LEARNED and not args.quick:
        curve = read_curve(work / f"{name}-{args.steps}.curve.csv")
        about["curve"] = [(r["step"], r["score"]) for r in curve if "score" in r]
    write(path, json.dumps({"method": name, **about}, indent=1))
    return json.loads(path.read_text())


def write(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text)
    unfinished.replace(path)


def mean(entry: dict, title: str, metric: str = "psnr_db") -> float:
    return float(np.mean(entry["sets"][title][metric]))


def gaps(rows: dict[str, dict], title: str) -> list[str]:
    """TV − FBP and LPD − TV beside the published ones; TV is that which the validation patient prefers."""
    tvs = [n for n in ("total-variation", "pwls-total-variation") if n in rows]
    if not tvs or "fbp" not in rows:
        return []
    tv = max(tvs, key=lambda n: rows[n]["validation"])
    found = {"TV − FBP": mean(rows[tv], title) - mean(rows["fbp"], title)}
    if "learned-primal-dual" in rows:
        found["LPD − TV"] = mean(rows["learned-primal-dual"], title) - mean(rows[tv], title)
    return [
        f"{name}: {value:+.2f} dB (published, other patients: {PUBLISHED[name]:+.2f}); TV is “{TITLES[tv]}”."
        for name, value in found.items()
    ]


def tables(rows: dict[str, dict], sets: dict[str, Tensor]) -> list[str]:
    lines = []
    for title, images in sets.items():
        lines += [
            f"Test: {title}, {len(images)} slices, mean (spread over slices of PSNR).",
            "",
            "| method | PSNR [dB] | PSNR-FR [dB] | SSIM | SSIM-FR | on validation [dB] | s a slice | how |",
            "|:--|--:|--:|--:|--:|--:|--:|:--|",
        ]
        for name, entry in rows.items():
            values = [mean(entry, title, metric) for metric in METRICS]
            spread = float(np.std(entry["sets"][title]["psnr_db"]))
            lines.append(
                f"| {TITLES[name]} | {values[0]:.2f} ± {spread:.2f} | {values[1]:.2f} | {values[2]:.3f} | "
                f"{values[3]:.3f} | {entry['validation']:.2f} | {entry['seconds']:.2g} | {entry['how']} |"
            )
        lines += ["", *gaps(rows, title), ""]
    return lines


def save(lines: list[str], rows: dict[str, dict]) -> None:
    RESULTS.mkdir(exist_ok=True)
    assert __doc__ is not None
    protocol = __doc__.split("\n\n")[-1]
    write(RESULTS / "lodopab_like.md", "\n".join([protocol, "## Scores\n", *lines]).rstrip() + "\n")
    with (RESULTS / "lodopab_like.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "set", "slice", *METRICS])
        for name, entry in rows.items():
            for title, values in entry["sets"].items():
                for k, numbers in enumerate(zip(*(values[m] for m in METRICS), strict=True)):
                    writer.writerow([name, title, k, *numbers])
    with (RESULTS / "lodopab_like_curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "step", "validation_psnr_db"])
        for name, entry in rows.items():
            writer.writerows([name, int(step), f"{value:.3f}"] for step, value in entry.get("curve", []))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the shared slices")
    parser.add_argument("--work", type=Path, help="where checkpoints, weights and rows are kept")
    parser.add_argument("--steps", type=int, default=2000, help="of the training of each learned method")
    parser.add_argument("--methods", default=",".join(TITLES), help="some of: " + ",".join(TITLES))
    parser.add_argument("--again", action="store_true", help="tune and score FBP and TV again")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    names = args.methods.split(",")
    if unknown := set(names) - set(TITLES):
        parser.error(f"--methods: no {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    if not args.quick and not (args.data and args.work):
        parser.error("give --data and --work, or --quick")
    if args.steps < 1:
        parser.error(f"--steps: expected a positive number, got {args.steps}")
    with tempfile.TemporaryDirectory() as passing:
        work = Path(passing) if args.quick else args.work
        work.mkdir(parents=True, exist_ok=True)
        data, sets = toys() if args.quick else patients(args.data)
        for name in names:
            row(name, data, sets, work, args)
        paths = {name: work / f"{name}.row.json" for name in TITLES}
        rows = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
        lines = tables(rows, sets)
        print("\n".join(lines))
        if not args.quick:
            save(lines, rows)


if __name__ == "__main__":
    main()
