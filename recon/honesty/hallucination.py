"""Lesions that vanish and lesions that nobody had: measured on cases with and without one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.sets import PairedData, SimulatedPairs, UnpairedData
from ..data.simulation import simulate
from ..problem import Problem
from .lesions import Lesions
from .rates import Rate, rate

Translator = Callable[[Problem], Tensor]
THRESHOLD = 0.5  # half of the lesion's contrast: as far from "all of it" as from "nothing"
MARGIN = 3  # pixels around a lesion that tell what its background is


@dataclass(frozen=True, eq=False)
class LesionCases:
    """The same images without and with a lesion, as data, and what should come out of either.

    absent, present : problems, batched (n,); of a translator those of `Identity`
    background : what should come out without the lesion, (n, ny, nx)
    lesion : what it should add to that, (n, ny, nx), zero elsewhere
    """

    absent: Problem
    present: Problem
    background: Tensor
    lesion: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.lesion.shape)
        if len(shape) != 3 or tuple(self.background.shape) != shape:
            raise ValueError(
                f"LesionCases: expected background and lesion (n, ny, nx) of one shape, got "
                f"{tuple(self.background.shape)} and {shape}"
            )
        for name, problem in (("absent", self.absent), ("present", self.present)):
            if problem.batch != shape[:1]:
                raise ValueError(
                    f"LesionCases {name}: expected {shape[0]} problems in a batch, got {problem.batch}"
                )
        if not bool(self.lesion.flatten(1).abs().amax(1).gt(0).all()):
            raise ValueError("LesionCases lesion: expected one in every image, got an image of zeros")


def lesion_cases(data: SimulatedPairs, lesions: Lesions, seeds: Sequence[int]) -> LesionCases:
    """Images of these seeds of `data`, scanned without and with a lesion under the same draw of the noise."""
    seeds = list(seeds)
    fine = data.images(seeds)
    spots = lesions.draw(seeds, (fine.shape[-2], fine.shape[-1])).to(fine)
    found = []
    for image in (fine, fine + spots):
        problem, truth = simulate(image, data.geometry, data.noise, seeds, data.oversampling)
        found.append((Problem(data.A, problem.y, problem.noise), truth))
    (absent, background), (present, truth) = found
    added = truth - background
    # a difference of float32 means is not exactly 0 elsewhere
    added = added.where(added.abs() > 1e-5 * added.abs().amax((-2, -1), keepdim=True), 0.0)
    return LesionCases(absent, present, background, added)


def lesion_scores(image: Tensor, cases: LesionCases, margin: int = MARGIN) -> Tensor:
    """t = ⟨x − b, h⟩ / ⟨s, h⟩: how much of the lesion s stands on the background b, 1 all, 0 none.

    h is s without its mean over where s is not zero and `margin` pixels around it, so that an offset of the
    whole neighbourhood is no lesion: a matched filter for a contrast. White noise of σ adds σ/‖h‖ of it.

    image : (n, ny, nx)
    Returns (n,), float64.
    """
    if image.shape != cases.lesion.shape:
        raise ValueError(
            f"lesion_scores image: expected {tuple(cases.lesion.shape)}, got {tuple(image.shape)}"
        )
    h = matched_filter(cases.lesion, margin)
    excess = image.detach().double() - cases.background.double()
    return (excess * h).sum((-2, -1)) / (cases.lesion.double() * h).sum((-2, -1))


def matched_filter(lesion: Tensor, margin: int = MARGIN) -> Tensor:
    """The lesion minus its mean over its neighbourhood, 0 outside: (n, ny, nx), float64."""
    s = lesion.double()
    near = (s != 0).double()
    if margin:
        near = F.max_pool2d(near[:, None], 2 * margin + 1, stride=1, padding=margin)[:, 0]
    mean = (s * near).sum((-2, -1), keepdim=True) / near.sum((-2, -1), keepdim=True)
    return (s - mean) * near


@torch.no_grad()
def lesion_response(method: Translator, cases: LesionCases, margin: int = MARGIN) -> Tensor:
    """Score with the lesion minus score without: what the lesion itself does to the image, (n,), float64.

    A method whose background is wrong scores at random, with lesions and without; the difference does not.
    """
    kept, inserted = (lesion_scores(method(p), cases, margin) for p in (cases.present, cases.absent))
    return kept - inserted


@torch.no_grad()
def lesion_survival(method: Translator, cases: LesionCases, threshold: float = THRESHOLD) -> Rate:
    """The share of lesions of which at least `threshold` of the contrast is left: score ≥ threshold."""
    return rate(lesion_scores(method(cases.present), cases) >= threshold)


@torch.no_grad()
def false_insertion(method: Translator, cases: LesionCases, threshold: float = THRESHOLD) -> Rate:
    """The share of images without a lesion that get one at the place where the other has it.

    What is inserted elsewhere is not seen by this test; the data check and the error map show it. Where a
    method is wrong about the background by as much as a lesion, that counts; see `lesion_response`.
    """
    return rate(lesion_scores(method(cases.absent), cases) >= threshold)


@dataclass(frozen=True)
class ShareResult:
    """What a method trained with one share of lesions does; survival and insertion None if it failed.

    share : of the training images with a lesion
    seed : of the training
    kept, inserted : mean score on cases with, and without, a lesion
    error : why there is nothing, or ""
    """

    share: float
    seed: int
    survival: Rate | None
    insertion: Rate | None
    kept: float
    inserted: float
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@torch.no_grad()
def measure(
    method: Translator, cases: LesionCases, share: float, seed: int, threshold: float = THRESHOLD
) -> ShareResult:
    """Survival, insertion and mean scores of one trained method."""
    kept, inserted = (lesion_scores(method(p), cases) for p in (cases.present, cases.absent))
    for name, scores in (("with", kept), ("without", inserted)):
        if not bool(torch.isfinite(scores).all()):
            raise FloatingPointError(
                f"NaN or inf in {int((~scores.isfinite()).sum())} images {name} a lesion"
            )
    return ShareResult(
        share,
        seed,
        rate(kept >= threshold),
        rate(inserted >= threshold),
        float(kept.mean()),
        float(inserted.mean()),
    )


def vary_lesion_share(
    make_method: Callable[[int], Any],
    shares: Iterable[float],
    data: Callable[[float], PairedData | UnpairedData],
    cases: LesionCases,
    seeds: Iterable[int] = (0,),
    threshold: float = THRESHOLD,
    say: Callable[[str], None] | None = None,
) -> list[ShareResult]:
    """Train at every share of lesions and measure what becomes of them: Cohen, Luck, Honari, MICCAI 2018.

    There, a CycleGAN from FLAIR to T1 removed tumours when the T1 images it learned from had none, and put
    them in when all had. A method that only looks at its data gives the same numbers for every share.

    make_method : seed -> a method to be fitted, as `lambda seed: FBPUNet(seed=seed)`
    shares : of training images with a lesion, 0 to 1
    data : share -> what to learn from, as `lambda p: lesion_data(pairs, lesions, p)`, or `TwoDomains`
    cases : not learned from
    seeds : of the trainings, each share with each
    say : given a line for each training

    A training that fails is a result with its error, and the next one begins.
    """
    seeds, results = list(seeds), []
    for share in shares:
        for seed in seeds:
            try:
                method = make_method(seed).fit(data(share))
                result = measure(method, cases, share, seed, threshold)
            except (ValueError, ArithmeticError, RuntimeError) as error:
                told = f"{type(error).__name__}: {error}"
                result = ShareResult(share, seed, None, None, math.nan, math.nan, told)
            results.append(result)
            if say:
                say(
                    f"share {share:g}, seed {seed}: "
                    + (result.error or f"survival {result.survival}, insertion {result.insertion}")
                )
    return results
