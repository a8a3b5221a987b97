"""How far learned methods can be trusted on `ellipses-small`: details, worst cases, unsuitable data, leaks.

    python benchmarks/honesty.py            # about 30 minutes on one core; writes results/honesty.*
    python benchmarks/honesty.py --quick    # every part at its smallest, a few steps, nothing written
    python benchmarks/honesty.py --parts details,cohen   # some parts; the others stay as they were written

Shipped weights of learned primal–dual, FBP + U-Net, AUTOMAP (rank 128) and adversarial regularisation, and
total variation with the λ tuned for the comparison. Nothing is trained for these but what Cohen's experiment,
the ensemble and the positive control of the membership attack need: small FBP + U-Nets, and pix2pix and
CycleGAN where this version has them. A training that fails is a row.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from operators import Gaussian
from recon import (
    AUTOMAP,
    FBP,
    METHODS,
    AdversarialRegularisation,
    FBPUNet,
    LearnedPrimalDual,
    Problem,
    Reconstructor,
    TotalVariation,
)
from recon.checkpoints import write_bytes
from recon.data import simulate
from recon.data.ellipses import Ellipse, Ellipses
from recon.data.sets import TEST, TRAIN, SimulatedPairs
from recon.data.small import ellipses_small, ellipses_small_geometry
from recon.honesty import (
    Disagreement,
    Discs,
    Letters,
    OutOfDistribution,
    Rate,
    TwoDomains,
    check_row,
    harmed,
    layer_features,
    lesion_cases,
    lesion_data,
    lesion_scores,
    membership_gap,
    more_samples,
    rate,
    stability_curve,
    vary_lesion_share,
)
from recon.metrics import auc

RESULTS = Path(__file__).parent / "results"
NAME = "ellipses-small"
TV_WEIGHT = 7.278  # recon/comparison/parameters/ellipses-small.json
THRESHOLD = 0.5
COHEN_NOISE = 0.1  # of the mean of |A x|: in the data a lesion is plain to see
LESIONS = {
    "bright": Discs(0.5, radius=0.15, reach=0.03),  # brighter than all truths of a training without lesions
    "dark": Discs(-0.4, radius=0.15, reach=0.03),  # values that every training has
}


def shipped() -> dict[str, Reconstructor]:
    return {
        "total variation": TotalVariation(TV_WEIGHT),
        "learned primal–dual": LearnedPrimalDual.pretrained(NAME),
        "FBP + U-Net": FBPUNet.pretrained(NAME),
        "AUTOMAP, rank 128": AUTOMAP.pretrained(NAME),
        "adversarial reg.": AdversarialRegularisation.pretrained(NAME),
    }


def said(r: Rate) -> dict[str, Any]:
    return {"share": r.share, "interval": r.interval(), "of": r.of}


def details(quick: bool) -> list[dict[str, Any]]:
    """Letters of several contrasts: how many are kept, how many appear that nobody wrote."""
    rows, seeds = [], range(TEST, TEST + (4 if quick else 40))
    for contrast in (0.15,) if quick else (0.05, 0.1, 0.15, 0.3):
        cases = lesion_cases(ellipses_small(), Letters(contrast, size=0.3), seeds)
        for name, method in shipped().items():
            with torch.no_grad():
                kept, invented = (lesion_scores(method(p), cases) for p in (cases.present, cases.absent))
            rows.append({"contrast": contrast, "method": name, "response": float((kept - invented).mean()),
                         "survival": said(rate(kept >= THRESHOLD)),
                         "insertion": said(rate(invented >= THRESHOLD))})  # fmt: skip
    return rows


def worst(quick: bool) -> list[dict[str, Any]]:
    """Curves under one norm, on images of the test set; TV attacked through 50 iterations of its solver."""
    data = ellipses_small()
    problem, truth = data.pairs(range(TEST, TEST + (1 if quick else 4)))
    methods = shipped() | {"total variation": TotalVariation(TV_WEIGHT, iterations=5 if quick else 50)}
    radii = (0.02,) if quick else (0.005, 0.01, 0.02, 0.04)
    return stability_curve(methods, problem, truth, radii, iterations=2 if quick else 12)


def views(quick: bool) -> list[dict[str, Any]]:
    """The same images, scanned from fewer and from more views than trained for."""
    data, seeds = ellipses_small(), list(range(TEST, TEST + (2 if quick else 16)))
    fine = data.images(seeds)

    def scan(count: int) -> tuple[Problem, torch.Tensor]:
        return simulate(fine, ellipses_small_geometry(views=count), data.noise, seeds)

    counts, rows = ((15, 30) if quick else (15, 20, 30, 45, 60, 90)), []
    for name, method in shipped().items():
        found = more_samples(method, scan, counts)
        rows.append({"method": name, "harmed": harmed(found),
                     "nrmse": {r.samples: r.error or r.nrmse for r in found}})  # fmt: skip
    return rows


def data_residual(quick: bool) -> list[dict[str, Any]]:
    """Reduced χ² and the error's parts; the truth's own χ² says what the discretisation costs."""
    problem, truth = ellipses_small().pairs(range(TEST, TEST + (2 if quick else 20)))
    methods = {"the truth": lambda p: truth} | shipped()
    return [check_row(n, m, problem, truth, 20 if quick else 200) for n, m in methods.items()]


def unsuitable(quick: bool) -> list[dict[str, Any]]:
    """Data with more noise, with letters, and of letters alone, by two kinds of features."""
    data, n = ellipses_small(), (40 if quick else 200)
    seeds = range(TRAIN, TRAIN + n)
    train, calibration, own = (data.pairs([s + k * n for s in seeds])[0] for k in range(3))
    noisier = [data.noise.__class__(relative=r) for r in (0.06, 0.1)]
    fine = data.images([s + 3 * n for s in seeds][: n // 2])

    def scanned(images: torch.Tensor, noise: Any) -> Problem:
        problem, _ = simulate(images, data.geometry, noise, list(range(len(images))))
        return Problem(data.A, problem.y, problem.noise)

    letters = Letters(0.3, size=0.3).draw(range(len(fine)), (fine.shape[-2], fine.shape[-1]))
    shifted = {
        "noise 6 % for 5": scanned(fine, noisier[0]),
        "noise 10 % for 5": scanned(fine, noisier[1]),
        "letters": scanned(fine + letters, data.noise),
        "only a letter": scanned(letters / 0.3, data.noise),
    }
    unet, rows = FBPUNet.pretrained(NAME), []
    layers = [name for name, m in unet.named_modules() if isinstance(m, torch.nn.Conv2d)]
    chosen = [layers[len(layers) // 4], layers[len(layers) // 2]]
    kinds = {"statistics of the data": None, "layers of the U-Net": layer_features(unet, chosen)}
    for name, features in kinds.items():
        detector = OutOfDistribution(features).fit([train]).calibrate([calibration])
        usual = detector.score(own)
        row: dict[str, Any] = {"features": name, "false_alarms": said(rate(detector.flag(own)))}
        for what, problem in shifted.items():
            area, error = auc(usual, detector.score(problem))
            row[what] = {"auc": area, "error": error, "flagged": said(rate(detector.flag(problem)))}
        rows.append(row)
    return rows


def small(seed: int, quick: bool) -> FBPUNet:
    steps = 2 if quick else 1000
    size = {"base": 12, "depth": 3, "batch_size": 4}
    return FBPUNet(**size, steps=steps, seed=seed, validate_every=10**6, average=0.99)


def membership(quick: bool) -> list[dict[str, Any]]:
    """Shipped weights saw each image once; a network of 16 images, again and again, is the control."""
    data, n = ellipses_small(), 8 if quick else 64
    seen = data.pairs(range(TRAIN, TRAIN + n))
    fresh = data.pairs(range(TEST, TEST + n))
    rows = []
    for name, method in shipped().items():
        gap = membership_gap(method, seen, fresh)
        rows.append({"method": name, "images": "drawn like its training", **vars(gap)})
    few = ellipses_small(train_size=16)
    control = small(0, quick).fit(few)
    problem, truth = few.train
    gap = membership_gap(control, (problem, truth), fresh)
    rows.append({"method": "small FBP + U-Net, 16 images", "images": "its training", **vars(gap)})
    return rows


def ensemble(quick: bool) -> list[dict[str, Any]]:
    """Three small networks: flags at 5 % false alarms."""
    data = ellipses_small()
    members = [small(seed, quick).fit(data) for seed in range(3)]
    n = 24 if quick else 100
    calibration, own = (data.pairs(range(TEST + k * n, TEST + (k + 1) * n)) for k in range(2))
    tool = Disagreement(members, level=0.05).calibrate([calibration[0]])
    fine = data.images(list(range(TEST + 2 * n, TEST + 3 * n)))
    rows = [{"data": "like the training's", "flagged": said(rate(tool.flag(own[0])))}]
    for relative in (0.06, 0.1):
        noise = data.noise.__class__(relative=relative)
        problem, _ = simulate(fine, data.geometry, noise, list(range(n)))
        flagged = tool.flag(Problem(data.A, problem.y, problem.noise))
        rows.append({"data": f"noise {relative:.0%} for 5 %", "flagged": said(rate(flagged))})
    with torch.no_grad():
        error = (tool.ensemble(own[0]) - own[1]).square().mean((-2, -1)).sqrt()
    score = tool.score(own[0])
    order = torch.stack([score.argsort().argsort(), error.argsort().argsort()]).double()
    rows.append({"rank_correlation_with_error": float(torch.corrcoef(order)[0, 1])})
    return rows


def bodies(relative: float) -> SimulatedPairs:
    """A body with two organs that differ from image to image; a network can tell where their middle is."""

    def images(seeds: Sequence[int]) -> torch.Tensor:
        drawn = []
        for seed in seeds:
            random = np.random.default_rng((seed, 5))
            tilt = random.uniform(-0.3, 0.3)
            body = Ellipse(0.5, tuple(random.uniform(22, 29, 2)), (0.0, 0.0), tilt)
            organs = [
                Ellipse(random.uniform(-0.3, 0.3), tuple(random.uniform(4, 8, 2)), (side, 0.0), tilt)
                for side in (-12, 12)
            ]
            drawn.append(Ellipses([body, *organs]).rasterise((128, 128), 0.5).float())
        return torch.stack(drawn)

    noise = Gaussian(relative=relative)
    return SimulatedPairs(ellipses_small_geometry(), noise, images, 4, 4, name="bodies")


def wider(options: dict[str, Any], base: int) -> dict[str, Any]:
    """The small form of a preset with networks of `base` channels."""
    inner = {k: wider(v, base) if isinstance(v, dict) else v for k, v in options.items()}
    return inner | ({"base": base} if "base" in inner else {})


def cohen(quick: bool) -> list[dict[str, Any]]:
    """Lesion shares 0, ½ and 1 among the truths; paired networks, and CycleGAN if it is there.

    Lesions that FBP shows, always in the middle of the body: whoever loses or invents one did not look.
    """
    kinds = list(LESIONS.items())[: 1 if quick else None]
    return [{"lesion": kind} | row for kind, lesions in kinds for row in shares(lesions, quick)]


def shares(lesions: Discs, quick: bool) -> list[dict[str, Any]]:
    """Every method at every share of these lesions."""
    data = bodies(COHEN_NOISE)
    cases = lesion_cases(data, lesions, range(TEST, TEST + (4 if quick else 60)))
    steps = {"steps": 2 if quick else 500, "validate_every": 10**6}
    made: dict[str, tuple[Callable[[int], Any], Callable[[float], Any]]] = {
        "FBP + U-Net": (lambda seed: small(seed, quick), lambda p: lesion_data(data, lesions, p))
    }
    for name in ("pix2pix", "cycle-gan"):
        if name not in METHODS:
            continue
        cls: Any = METHODS[name]
        changes = {**wider(getattr(cls, "small", {}), 4 if quick else 16), **steps, "batch_size": 2}
        changes["learning_rate"] = 5e-4

        def make(seed: int, cls: Any = cls, changes: dict[str, Any] = changes) -> Any:
            return cls(**changes, seed=seed)

        if cls.data_kind == "unpaired":
            made[name] = (
                make,
                lambda p: TwoDomains(lesion_data(data, lesions, 0.5), lesion_data(data, lesions, p)),
            )
        else:
            made[name] = make, lambda p: lesion_data(data, lesions, p)
    rows = []
    for name, (make_method, pairs) in made.items():
        for r in vary_lesion_share(make_method, (0.0, 0.5, 1.0), pairs, cases, say=lambda s: print(" ", s)):
            rows.append({"method": name, "share": r.share, "seed": r.seed, "kept": r.kept,
                         "inserted": r.inserted, "error": r.error,
                         "survival": r.survival and said(r.survival),
                         "insertion": r.insertion and said(r.insertion)})  # fmt: skip
    for name, method in {"FBP": FBP(), "total variation": TotalVariation(TV_WEIGHT)}.items():
        kept, inserted = (lesion_scores(method(p), cases) for p in (cases.present, cases.absent))
        rows.append({"method": name, "share": None, "seed": None, "kept": float(kept.mean()),
                     "inserted": float(inserted.mean()), "error": "",
                     "survival": said(rate(kept >= THRESHOLD)),
                     "insertion": said(rate(inserted >= THRESHOLD))})  # fmt: skip
    return rows


PARTS: dict[str, Callable[[bool], list[dict[str, Any]]]] = {
    "details": details,
    "worst": worst,
    "views": views,
    "data": data_residual,
    "unsuitable": unsuitable,
    "membership": membership,
    "ensemble": ensemble,
    "cohen": cohen,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", default=",".join(PARTS), help="of " + ",".join(PARTS))
    options = parser.parse_args()
    wanted = options.parts.split(",")
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    path = RESULTS / "honesty.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() and not options.quick else {}
    for name in wanted:
        start = time.perf_counter()
        found[name] = json.loads(json.dumps(PARTS[name](options.quick)))
        found.setdefault("seconds", {})[name] = round(time.perf_counter() - start, 1)
        print(f"{name}: {found['seconds'][name]:.0f} s", flush=True)
        if not options.quick:  # a part is kept when the next one fails
            write_bytes(path, (json.dumps(found, indent=1) + "\n").encode())
    text = report(found)
    print(text)
    if not options.quick:
        write_bytes(RESULTS / "honesty.md", text.encode())
        figure(found, RESULTS / "honesty.png")


if __name__ == "__main__":
    from parts.honesty_report import figure, report

    main()
