"""Bilevel training: the minimiser of a variational problem, differentiated with respect to its prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from operators.tensors import norm, spread
from priors import Functional, NonNegative, SquaredL2
from priors.tuned import Tuned

from .data.sets import UnpairedData
from .denoising import CleanImages, DenoisingConfig, Source, noisy
from .solvers import Trace, cg, minres, nmapg, trace
from .solvers.iterate import relative
from .training import Progress, train, within

Slope = Literal["implicit", "jfb"]


@dataclass
class Tally:
    """How lower levels ended, of every image of every solve since the count began.

    solves, iterations : minimisations (one an image), and their iterations in all
    unconverged : minimisations that ended above the tolerance; worst the largest residual of all
    linear_solves, linear_iterations, linear_unconverged, linear_worst : of the equations for the gradient
    """

    solves: int = 0
    iterations: int = 0
    unconverged: int = 0
    worst: float = 0.0
    linear_solves: int = 0
    linear_iterations: int = 0
    linear_unconverged: int = 0
    linear_worst: float = 0.0

    def add(self, found: Trace, tolerance: float, linear: bool = False) -> None:
        part, residual = "linear_" if linear else "", found.last.residual
        values = {
            "solves": residual.numel(),
            "iterations": int(found.iterations.sum()),
            "unconverged": int((~(residual <= tolerance)).sum()),
        }
        for name, value in values.items():
            setattr(self, part + name, getattr(self, part + name) + value)
        if residual.numel():
            setattr(self, part + "worst", max(getattr(self, part + "worst"), float(residual.max())))

    def summary(self) -> dict[str, float]:
        """All of it as numbers, for a method's record."""
        return asdict(self)


@dataclass(frozen=True)
class LowerLevel:
    """x* = argmin_x f(x) + R_θ(x) (x ≥ 0 if wanted), and dx*/dθ without going back through the iterations.

    Hertrich et al., arXiv 2510.01755: by `nmapg`, 1000 iterations to a relative residual of 1e-4. With
    H = ∇²(f + R) at x* and v = ∂L/∂x*,

        dL/dθ = −⟨u, ∂_θ ∇R_θ(x*)⟩,   "implicit": H u = v by MINRES or CG;   "jfb": u = v / Lip(∇f)

    (Samuel and Tappen, CVPR 2009; Jacobian-free: Fung et al., AAAI 2022.) Where x ≥ 0 holds a pixel at 0 it
    does not move: H, u and v are those of the others. "implicit" is exact up to the two tolerances at a
    minimiser whose H is invertible, for R that is twice differentiable there; "jfb" is a direction, of other
    length.

    iterations, tolerance : of nmAPG; its residual is that of `nmapg`
    gradient : as said
    solver : "minres", for any R, or "cg", for convex ones
    linear_iterations, linear_tolerance : of that, on ‖v − H u‖ / ‖v‖
    nonnegative : x ≥ 0
    """

    iterations: int = 1000
    tolerance: float = 1e-4
    gradient: Slope = "implicit"
    solver: Literal["minres", "cg"] = "minres"
    linear_iterations: int = 100
    linear_tolerance: float = 1e-3
    nonnegative: bool = False

    def __post_init__(self) -> None:
        within("LowerLevel iterations", self.iterations, 1, 10**9)
        within("LowerLevel linear_iterations", self.linear_iterations, 1, 10**9)
        for name in ("tolerance", "linear_tolerance"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"LowerLevel {name}: expected from 0 to below 1, got {getattr(self, name)}")
        if self.gradient not in ("implicit", "jfb") or self.solver not in ("minres", "cg"):
            raise ValueError(
                "LowerLevel gradient, solver: expected 'implicit' or 'jfb', and 'minres' or 'cg', got "
                f"{self.gradient!r} and {self.solver!r}"
            )

    @torch.no_grad()
    def minimise(self, f: Functional, R: Functional, x: Tensor, tally: Tally | None = None) -> Trace:
        """nmAPG from x; how it ended is in the result, and added to `tally`."""
        found = trace(nmapg(f + R, self._bound(x), x), self.iterations, self.tolerance)
        if tally is not None:
            tally.add(found, self.tolerance)
        return found

    def solve(self, f: Functional, R: Functional, x: Tensor, tally: Tally | None = None) -> Tensor:
        """x* from the start x, (*batch, *shape), with a gradient to all that R and f depend on.

        f : data term of images; its own parameters and data get their gradient too
        R : the prior, with its weight
        tally : where it is written down how the two solutions ended; nothing is raised for those that did
            not converge
        """
        found = self.minimise(f, R, x, tally)
        best = found.last.x
        learned = (*f.parameters(), *f.buffers(), *R.parameters(), *R.buffers())
        if not torch.is_grad_enabled() or not any(t.requires_grad for t in learned):
            return best
        at = best.detach().requires_grad_()
        slope = (f + R).grad(at)
        # of a pixel at its bound that would go below
        free = torch.ones_like(slope, dtype=torch.bool)
        if self._bound(x) is not None:
            free = (at.detach() > 0) | (slope.detach() < 0)
        result = best.detach() - (slope - slope.detach())

        def weighed(v: Tensor) -> Tensor:
            v = torch.where(free, v, 0.0)
            if self.gradient == "jfb":
                return v / spread(_curvature(f, v), f.ndim)

            def bend(u: Tensor) -> Tensor:
                back = torch.autograd.grad(slope, at, u, retain_graph=True)[0]
                return torch.where(free, back, 0.0)

            method = minres if self.solver == "minres" else cg
            solved = trace(
                method(bend, v, torch.zeros_like(v), f.ndim), self.linear_iterations, self.linear_tolerance
            )
            u = solved.last.x
            if tally is not None:
                # as it is, not as the recurrence has it
                left = relative(norm(v - bend(u), f.ndim), norm(v, f.ndim))
                ended = replace(solved, last=replace(solved.last, residual=left))
                # which rounding may put a little above
                tally.add(ended, 1.1 * self.linear_tolerance, linear=True)
            return u

        result.register_hook(weighed)
        return result

    def _bound(self, x: Tensor) -> Functional | None:
        return NonNegative(2) if self.nonnegative and not x.is_complex() else None


def _curvature(f: Functional, v: Tensor) -> Tensor:
    """Lip(∇f), 1 where nobody knows; per image where f weighs images differently."""
    slope = torch.as_tensor(f.lipschitz, dtype=v.real.dtype, device=v.device)
    return torch.where(slope.isfinite(), slope, 1.0)


@dataclass(frozen=True)
class BilevelConfig(DenoisingConfig):
    """Training on denoising at one noise level, 0.1 as Hertrich et al.; the rate suits ridges, not networks.

    lowest, highest : σ of the training noise; one prior and weight serve all
    lower : how the lower level is solved and differentiated
    score_matching : no lower level; one step, x ≈ y − σ²∇R(y), is trained instead (denoising score
        matching, Vincent, Neural Comput. 23 (2011)): cheap, and exact where R = −log p of noisy images
    """

    steps: int = 2000
    batch_size: int = 8
    learning_rate: float = 5e-3
    lowest: float = 0.1
    highest: float = 0.1
    lower: LowerLevel = LowerLevel()
    score_matching: bool = False


def denoised(
    prior: Functional, y: Tensor, sigma: Tensor, lower: LowerLevel | None, tally: Tally | None = None
) -> Tensor:
    """argmin_x ½‖x − y‖²/σ² + R(x) from x = y, or, without a lower level, y − σ²∇R(y); for one σ an image."""
    if lower is None:
        with torch.enable_grad():
            at = y.detach().requires_grad_()  # so that ∇R keeps its graph
            return at - spread(sigma.square(), prior.ndim) * prior.grad(at)
    weight = spread(sigma**-2, prior.ndim)
    return lower.solve(SquaredL2(y, weight, prior.ndim), prior, y, tally)


def train_bilevel(
    prior: Tuned,
    images: Source | CleanImages,
    config: BilevelConfig | None = None,
    *,
    tally: Tally | None = None,
    checkpoint: str | Path | None = None,
    minutes: float | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Progress:
    """Lower E mean |x* − x|², x* = argmin ½‖x* − y‖²/σ² + R(x*), y = x + σn, over the weights of `prior`.

    prior    any differentiable functional in `Tuned`, whose weight and scale are learned too
    images   see `recon.denoising.CleanImages`
    config   how; the score is the PSNR [dB] at a range of 1 and the middle σ
    tally    counts the lower levels that did not converge; since a resumed training began, if it was
    and the keywords of `recon.training.train`
    """
    chosen = config or BilevelConfig()
    clean = images if isinstance(images, CleanImages) else CleanImages(images)
    lower = None if chosen.score_matching else chosen.lower

    def loss(_: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        y, sigma = noisy(x, chosen.lowest, chosen.highest, generator)
        return (denoised(prior, y, sigma, lower, tally) - x).abs().square().mean()

    def score() -> float:
        middle, x = (chosen.lowest + chosen.highest) / 2, clean.validation
        y, sigma = noisy(x, middle, middle, torch.Generator().manual_seed(chosen.seed))
        error = (denoised(prior, y, sigma, lower) - x).abs().square().mean()
        return float(-10 * error.detach().log10())

    # a training set of images only: the loop asks for batches and nothing else
    return train(
        prior, loss, cast(UnpairedData, clean), chosen,
        score=score, minutes=minutes, checkpoint=checkpoint, callback=callback,
    )  # fmt: skip


@torch.no_grad()
def starting_weight(prior: Functional, clean: Tensor, data_slope: Tensor) -> float:
    """λ at which the prior pulls at clean images as strongly as the noise in their data, on average.

    data_slope : ∇(f ∘ A) at the clean images, (n, *shape)
    """
    n = prior.ndim
    pull, noise = norm(prior.grad(clean), n).mean(), norm(data_slope, n).mean()
    weight = float(noise / pull)
    return weight if 0 < weight < math.inf else 1.0
