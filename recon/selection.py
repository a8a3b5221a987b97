"""The weight of a prior without the truth: discrepancy, GCV, SURE, whiteness of the residual.

All look at the residual r of A x_λ over its standard deviation, m real numbers an image:

    discrepancy   ‖r‖²/m = 1
    robust        median(r²) = 0.455, as of a normal law
    GCV           (‖r‖²/m) / (1 − f/m)²       least, f the effective degrees of freedom
    SURE          (‖r‖² + 2 f)/m − 1          least, an unbiased estimate of the error of A x_λ
    whiteness     m Σ|R|⁴ / (Σ|R|²)²          least, R the Fourier transform of r; 2 for white noise
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from operators.tensors import inner, spread, squared_norm
from priors import Functional, SquaredL2

from .discrepancy import discrepancy
from .fidelity import count, counted, standardised


@dataclass(frozen=True)
class Trial:
    """What a criterion may try: reconstruct with another weight, or from other data.

    d          the likelihood
    predict    A
    solve      (likelihood, weight, start) -> x, weight and x per image
    shape      of the data of one image
    degree     p with E(c x) = |c|^p E(x), or None
    unit       E over what it is in units of pixels
    """

    d: Functional
    predict: Callable[[Tensor], Tensor]
    solve: Callable[[Functional, Tensor, Tensor], Tensor]
    shape: tuple[int, ...]
    degree: int | None = None
    unit: float = 1.0

    def residual(self, x: Tensor) -> Tensor:
        return standardised(self.d, self.predict(x))

    def misfit(self, x: Tensor) -> Tensor:
        """‖r‖²/m, per image."""
        r = self.residual(x)
        return squared_norm(r, len(self.shape)) / self.count(r)

    def count(self, r: Tensor) -> Tensor:
        """m, real numbers of data of each image."""
        return count(self.d, r)


class Criterion(ABC):
    """How λ is chosen; `name` is what a method's weight="…" says."""

    name: ClassVar[str]

    @abstractmethod
    def choose(self, trial: Trial, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """λ, x_λ from a short run, and the criterion there, per image; from a first guess and a start."""


@dataclass(frozen=True)
class Discrepancy(Criterion):
    """‖r‖²/m = target (Morozov, Soviet Math. Dokl. 7 (1966)).

    The residual also holds what the discrete model cannot say (edges in pixels as large as the bins, a
    wrong spectrum). At a high dose the target is then out of reach, and λ is where ‖r‖² is a tenth above the
    least there is, which the solution's score tells; or it is reached by fitting noise, with λ too small.
    A target above 1 leaves room for it; `RobustDiscrepancy` and `Whiteness` mostly suffer less
    (benchmarks/parameter_choice.py).

    target  of ‖r‖²/m; 1 if the model is exact
    solves  at most so many
    """

    name: ClassVar[str] = "discrepancy"
    target: float = 1.0
    solves: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.target < math.inf:
            raise ValueError(f"Discrepancy target: expected a positive number, got {self.target}")

    def choose(self, trial: Trial, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def solve(w: Tensor, start: Tensor) -> Tensor:
            return trial.solve(trial.d, w, start)

        def misfit(image: Tensor) -> Tensor:
            return self.misfit(trial, image) / self.target

        found, x = discrepancy(solve, misfit, weight, x, solves=self.solves)
        return found, x, self.misfit(trial, x)

    def misfit(self, trial: Trial, x: Tensor) -> Tensor:
        """What should be `target`, per image."""
        return trial.misfit(x)


@dataclass(frozen=True)
class RobustDiscrepancy(Discrepancy):
    """median(r²) = target · that of a normal law: the discrepancy of most rays, whatever a few of them say.

    Errors of the model sit at edges, in fewer than half of the rays, and hardly move the median; λ is still
    too small where they are everywhere. It wants the variance of every ray ("weighted", or counts): with one
    σ for all λ is too large. Below some ten counts the median is not that of a normal law.

    target, solves  as in `Discrepancy`
    """

    name: ClassVar[str] = "robust-discrepancy"

    def misfit(self, trial: Trial, x: Tensor) -> Tensor:
        r = trial.residual(x)
        normal = 2 * math.log(2) if r.is_complex() else 0.454936
        square = torch.where(counted(trial.d, r), r.abs().square(), math.nan)
        return square.flatten(-len(trial.shape)).nanmedian(-1).values / normal


@dataclass(frozen=True)
class _Least(Criterion):
    """λ where a score is least.

    solves  weights tried at most
    """

    solves: int = 9

    @abstractmethod
    def score(self, trial: Trial, weight: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """Per image, of x = x_λ that was found from `start`."""

    def choose(self, trial: Trial, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def evaluate(w: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
            image = trial.solve(trial.d, w, start)
            return self.score(trial, w, image, start), image

        return least(evaluate, weight, x, self.solves)


@dataclass(frozen=True)
class Whiteness(_Least):
    """Residuals like white noise: the energy of their autocorrelation beside lag zero is least.

    Almeida and Figueiredo, IEEE Trans. Image Process. 22 (2013); Lanza, Pragliola, Sgallari, Inverse Problems
    Imaging 2020. Knows nothing of σ, only that noise is independent from ray to ray.
    """

    name: ClassVar[str] = "whiteness"

    def score(self, trial: Trial, weight: Tensor, x: Tensor, start: Tensor) -> Tensor:
        r = trial.residual(x)
        axes = tuple(range(-len(trial.shape), 0))
        power = torch.fft.fftn(r, dim=axes).abs().square()
        total = power.sum(axes)
        return power.square().sum(axes) / torch.where(total > 0, total, 1.0) ** 2 * math.prod(trial.shape)


@dataclass(frozen=True)
class _ByDivergence(_Least):
    """Scores that need the degrees of freedom f = Σ ∂(A x_λ)ᵢ/∂yᵢ, by random differences.

    f ≈ ⟨b, A x_λ(y + ε σ b) − A x_λ(y)⟩ / (ε σ), b = ±1: Ramani, Blu, Unser, IEEE Trans. Image Process. 17
    (2008). Each probe is a second reconstruction. The likelihood is a Gaussian one.

    probes   vectors b
    epsilon  ε, a fraction of σ
    """

    probes: int = 1
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if self.probes < 1 or not 0 < self.epsilon < math.inf:
            raise ValueError(f"{self}: expected at least one probe and a positive epsilon")

    def freedom(self, trial: Trial, weight: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """f per image, between 0 and m."""
        d = trial.d
        if not isinstance(d, SquaredL2):
            raise ValueError(
                f"weight={self.name!r} needs a Gaussian likelihood ('weighted', 'unweighted'), got {d!r}; "
                "for counts there are 'discrepancy' and 'whiteness'"
            )
        n, clean = len(trial.shape), trial.predict(x)
        root = torch.as_tensor(d.weight, dtype=clean.real.dtype, device=clean.device).sqrt()
        target = torch.as_tensor(d.target, dtype=clean.dtype, device=clean.device).expand(clean.shape)
        generator = torch.Generator().manual_seed(0)
        found = []
        for _ in range(self.probes):
            b = _signs(trial.shape, clean, generator)
            step = torch.where(root > 0, self.epsilon / root, 0.0) * b
            moved = trial.solve(SquaredL2(target + step, d.weight, d.ndim), weight, start)
            found.append(inner(b, root * (trial.predict(moved) - clean), n) / self.epsilon)
        return torch.stack(found).mean(0).clamp(min=0).minimum(trial.count(clean).to(root))


@dataclass(frozen=True)
class GCV(_ByDivergence):
    """(‖r‖²/m) / (1 − f/m)², generalised cross-validation.

    Golub, Heath, Wahba, Technometrics 21 (1979); with a random estimate of f, Girard, Numer. Math. 56 (1989).
    Needs no σ but the ratios of those of different rays.
    """

    name: ClassVar[str] = "gcv"

    def score(self, trial: Trial, weight: Tensor, x: Tensor, start: Tensor) -> Tensor:
        free = 1 - self.freedom(trial, weight, x, start) / trial.count(trial.predict(x))
        return trial.misfit(x) / free.clamp(min=1e-3) ** 2


@dataclass(frozen=True)
class SURE(_ByDivergence):
    """(‖r‖² + 2f)/m − 1, Stein's unbiased estimate of E‖(A x_λ − A x)/σ‖²/m.

    Stein, Ann. Stat. 9 (1981). It judges the data that an image predicts: errors that A damps count little.
    """

    name: ClassVar[str] = "sure"

    def score(self, trial: Trial, weight: Tensor, x: Tensor, start: Tensor) -> Tensor:
        free = self.freedom(trial, weight, x, start) / trial.count(trial.predict(x))
        return trial.misfit(x) + 2 * free - 1


CRITERIA: dict[str, type[Criterion]] = {
    c.name: c for c in (Discrepancy, RobustDiscrepancy, GCV, SURE, Whiteness)
}


def criterion(weight: str | Criterion | None) -> Criterion:
    """By name, and `Discrepancy` for None."""
    if isinstance(weight, Criterion):
        return weight
    if weight is None:
        return Discrepancy()
    if weight not in CRITERIA:
        raise ValueError(f"weight: expected a number, None or one of {list(CRITERIA)}, got {weight!r}")
    return CRITERIA[weight]()


def least(
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    weight: Tensor,
    x: Tensor,
    solves: int = 9,
    factor: float = 4.0,
    reach: float = 1e4,
) -> tuple[Tensor, Tensor, Tensor]:
    """The λ of each image where its score is least, the image there, and the score.

    Walks by `factor` down the score until it rises on both sides, then by parabolas over log λ. What is tried
    for one image follows from its own scores alone.

    evaluate   (weight, start) -> (score, x), each per image
    weight, x  first guess (*batch,), and start (*batch, *shape)
    solves     weights tried
    reach      λ stays within this factor of the guess
    """
    centre, stride = weight.log(), math.log(factor)
    log_w, best_w, best_x = centre, centre, x
    best = torch.full_like(centre, math.inf)
    seen: list[Tensor] = []
    scores: list[Tensor] = []
    for _ in range(solves):
        score, image = evaluate(log_w.exp(), best_x)
        seen.append(log_w)
        scores.append(score.nan_to_num(math.inf, math.inf, math.inf))
        better = scores[-1] < best
        best, best_w = torch.where(better, scores[-1], best), torch.where(better, log_w, best_w)
        best_x = torch.where(torch.as_tensor(spread(better, x.ndim - better.ndim)), image, best_x)
        log_w = _next(torch.stack(seen), torch.stack(scores), stride)
        log_w = log_w.clamp(min=centre - math.log(reach), max=centre + math.log(reach))
    return best_w.exp(), best_x, best


def _next(seen: Tensor, scores: Tensor, stride: float) -> Tensor:
    """Where to look next, (*batch,), after log λ and scores (tries, *batch)."""
    order = seen.argsort(0)
    seen, scores = seen.gather(0, order), scores.gather(0, order)
    # repeats of a bound are one point
    scores = torch.cat([scores[:1], torch.where(seen.diff(dim=0) == 0, math.inf, scores[1:])])
    k = scores.argmin(0, keepdim=True)
    last = len(seen) - 1
    b, fb = seen.gather(0, k)[0], scores.gather(0, k)[0]
    a, fa = (v.gather(0, (k - 1).clamp(min=0))[0] for v in (seen, scores))
    c, fc = (v.gather(0, (k + 1).clamp(max=last))[0] for v in (seen, scores))
    left, right = (k == 0)[0], (k == last)[0]
    p, q = (b - a) * (fb - fc), (b - c) * (fb - fa)
    vertex = b - 0.5 * ((b - a) * p - (b - c) * q) / (p - q)
    middle = torch.where(c - b > b - a, (b + c) / 2, (a + b) / 2)
    near = 0.1 * (c - a)
    sound = vertex.isfinite() & (vertex > a) & (vertex < c)
    aside = torch.where(c - b > b - a, b + near, b - near)
    inside = torch.where(sound, torch.where((vertex - b).abs() < near, aside, vertex), middle)
    return torch.where(left, b - stride, torch.where(right, b + stride, inside))


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """±1, in both parts of complex data."""

    def draw() -> Tensor:
        return torch.randint(0, 2, shape, generator=generator).to(like.device, like.real.dtype) * 2 - 1

    return torch.complex(draw(), draw()) if like.is_complex() else draw()
