"""Plug and play: any denoiser in the place of a prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from operators.tensors import norm
from priors import Functional
from priors.base import Step
from priors.denoiser import Denoiser, as_denoiser
from priors.gradient_step import GradientStepDenoiser

from .data_step import DataProx, noise_in_start, peak
from .fidelity import Likelihood
from .problem import Problem
from .solvers import Iterate, gradient_descent
from .solvers.plug import (
    plug_admm,
    plug_drs,
    plug_gradient,
    plug_hqs,
    red_admm,
    red_fixed_point,
    red_gradient,
)
from .solvers.terms import MARGIN
from .variational.base import Variational, Weight, bend, is_gaussian

Plug = Denoiser | Functional | Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Schedule:
    """σ from `start` to `end`, evenly in its logarithm over the iterations, then `end`.

    start, end  in parts of the image's size (`relative`), or in its unit; end None: the noise in the start
                image. A start below the end is the end
    """

    start: float = 49 / 255
    end: float | None = None
    relative: bool = True

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"Schedule {name}: expected a positive number, got {value}")

    def levels(self, iterations: int, size: Tensor, noise: Tensor) -> Callable[[int], Tensor]:
        """iteration -> σ per image."""
        unit = size if self.relative else torch.ones_like(size)
        last = noise if self.end is None else self.end * unit
        first = torch.maximum(self.start * unit, last)

        def level(k: int) -> Tensor:
            share = min(k / max(iterations - 1, 1), 1.0)
            return first ** (1 - share) * last**share

        return level


class _Plugged(Variational):
    """What methods with a denoiser share: its scale and noise level, bounds, a guess of λ."""

    def __init__(
        self,
        denoiser: Plug,
        weight: Weight,
        iterations: int,
        tolerance: float,
        positive: bool,
        likelihood: Likelihood | None,
        upper: float | None,
        sigma: Step | Schedule | None,
        scale: Step | None,
        inner_iterations: int,
    ):
        super().__init__(weight, iterations, tolerance, positive, likelihood, upper)
        name = type(self).__name__
        for what, value in (("sigma", sigma), ("scale", scale)):
            if isinstance(value, int | float | Tensor) and not bool((torch.as_tensor(value) > 0).all()):
                raise ValueError(f"{name} {what}: expected a positive number or None, got {value}")
        if inner_iterations < 1:
            raise ValueError(f"{name} inner_iterations: expected at least 1, got {inner_iterations}")
        self.denoiser = as_denoiser(denoiser)
        if scale is not None and not self.denoiser.unit:
            raise ValueError(
                f"{name} scale: {self.denoiser!r} takes images as they are, expected None, got {scale}; "
                "denoiser.at_scale(…) makes it one for another size"
            )
        self.sigma, self.scale, self.inner_iterations = sigma, scale, inner_iterations

    def size(self, problem: Problem) -> Tensor:
        """Size of an image, at which D works, (*batch,); 1 where D takes images as they are."""
        x = self.initial(problem)
        if self.scale is None and self.denoiser.unit:
            return peak(x, len(problem.A.in_shape))
        given = torch.as_tensor(1.0 if self.scale is None else self.scale)
        return given.to(x.real).expand(problem.batch)

    def levels(self, problem: Problem) -> Callable[[int], Tensor]:
        """iteration -> σ per image, in the unit of the image."""
        chosen = Schedule(1e-12, None) if self.sigma is None else self.sigma
        if isinstance(chosen, Schedule):
            noise = noise_in_start(problem) if chosen.end is None else torch.ones(problem.batch)
            noise = noise.to(problem.variance)
            size = peak(self.initial(problem), len(problem.A.in_shape))
            # data without noise: a hundredth of the image, else D has nothing to do
            return chosen.levels(self.iterations, size, torch.where(noise > 0, noise, 0.01 * size))
        fixed = torch.as_tensor(chosen).to(problem.variance).expand(problem.batch)
        return lambda k: fixed

    def plugged(self, problem: Problem, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """D at the scale of the problem, then the projection onto the bounds."""
        if self.denoiser.ndim != len(problem.A.in_shape):
            raise ValueError(
                f"{type(self).__name__} denoiser: {self.denoiser!r} takes {self.denoiser.ndim}-D images, "
                f"those of the problem are {problem.A.in_shape}"
            )
        D = self.denoiser.at_scale(self.size(problem)) if self.denoiser.unit else self.denoiser
        lower, upper = self.bounds(x)

        def denoise(z: Tensor, sigma: Tensor) -> Tensor:
            z = D(z, sigma)
            return z if lower is None and upper is None else z.clamp(lower, upper)

        return denoise

    def slope_bound(self, problem: Problem, d: Functional) -> Tensor:
        """L of ∇(d @ A), per image."""
        if not is_gaussian(d):
            raise ValueError(
                f"{type(self).__name__} likelihood: expected 'unweighted' or 'weighted', which have a "
                f"Lipschitz constant and a data step, got {d!r}"
            )
        return bend(d, problem) * (MARGIN * problem.A.norm()) ** 2

    def pull(self, problem: Problem, x: Tensor) -> Tensor:
        sigma, n = self.levels(problem)(self.iterations), len(problem.A.in_shape)
        moved = norm(x - self.plugged(problem, x)(x, sigma), n) / sigma.square()
        slope = moved / math.sqrt(math.prod(problem.A.in_shape))
        return torch.where(slope > 0, slope, 1.0)


class PlugAndPlay(_Plugged):
    """min_x d(A x) + λR(x), where all that is known of R is a denoiser: D(x, σ) in the place of prox_{σ²R}.

    Venkatakrishnan, Bouman, Wohlberg, GlobalSIP 2013. d is a likelihood, so with D the most probable (or
    mean) clean image λ = 1 is Bayes' rule, whatever dose and unit; DPIR takes 0.23 (`PlugAndPlay.dpir`).

    denoiser   a `Denoiser`, a functional with a prox, a network or a function: see `priors.as_denoiser`
    weight     λ, as in `Variational`; None chooses it without the truth
    algorithm  "admm", "drs" (the same fixed points), "hqs": ρ = λ/σ², a data step each, in closed form or by
               `inner_iterations` of CG; "pgd", "fista": steps t = σ²/λ on the data term, at most 1/L, where
               σ = √(λt), one A and one A* each
    sigma      noise level of D, unit of the image: a number, one per image, a `Schedule`, which is gone
               through to its end before the tolerance counts, or None: that of the noise in the start image
    scale      size of an image, for denoisers of images of size 1, as their `unit` says; None: the start
               image's 99th percentile
    positive, upper   D is followed by the projection onto the bounds
    and the parameters of `Variational`; likelihood "unweighted" or "weighted"
    """

    def __init__(
        self,
        denoiser: Plug,
        weight: Weight = 1.0,
        iterations: int = 50,
        tolerance: float = 1e-4,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        upper: float | None = None,
        algorithm: Literal["admm", "drs", "hqs", "pgd", "fista"] = "admm",
        sigma: Step | Schedule | None = None,
        scale: Step | None = None,
        inner_iterations: int = 10,
    ):
        if algorithm not in ("admm", "drs", "hqs", "pgd", "fista"):
            raise ValueError(
                f"PlugAndPlay algorithm: expected 'admm', 'drs', 'hqs', 'pgd' or 'fista', got {algorithm!r}"
            )
        if isinstance(sigma, Schedule) and algorithm in ("pgd", "fista"):
            raise ValueError(f"PlugAndPlay sigma: {algorithm!r} has one σ, use a number, or 'hqs' or 'admm'")
        options = (positive, likelihood, upper, sigma, scale, inner_iterations)
        super().__init__(denoiser, weight, iterations, tolerance, *options)
        self.algorithm = algorithm

    @classmethod
    def dpir(cls, denoiser: Plug, iterations: int = 8, weight: float = 0.23, positive: bool = True) -> Self:
        """Half-quadratic splitting with σ falling from 49/255 to the noise of the start image.

        Zhang et al., IEEE TPAMI 44 (2022), for deblurring and the like; ρ = 0.23/σ².
        """
        return cls(denoiser, weight, iterations, 0.0, positive, algorithm="hqs", sigma=Schedule())

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        denoise, n = self.plugged(problem, x), len(problem.A.in_shape)
        if self.algorithm in ("pgd", "fista"):
            step = torch.minimum(1 / self.slope_bound(problem, d), self.levels(problem)(0).square() / weight)
            sigma = (weight * step).sqrt()
            return plug_gradient(d @ problem.A, denoise, x, step, sigma, self.algorithm == "fista")
        near = DataProx(problem, d, self.inner_iterations).near
        solver = {"admm": plug_admm, "drs": plug_drs, "hqs": plug_hqs}[self.algorithm]
        return solver(near, denoise, x, weight, self.levels(problem), n)

    @classmethod
    def examples(cls) -> list[PlugAndPlay]:
        """Non-local means, in each family."""
        from priors.denoiser import NonLocalMeansDenoiser

        nlm = NonLocalMeansDenoiser(1.0, 1, 2)
        return [
            cls(nlm, iterations=5),
            cls(nlm, None, iterations=5, algorithm="fista", upper=1.0),
            cls.dpir(nlm, iterations=4),
        ]


class RED(_Plugged):
    """x with ∇d(A x) + λ(x − D(x, σ))/σ² = 0: regularisation by denoising.

    Romano, Elad, Milanfar, SIAM J. Imaging Sci. 10 (2017), whose λ is λ/σ² here. The stationary point of
    d(A x) + λ⟨x, x − D(x)⟩/2σ² where D has a symmetric Jacobian, else an equilibrium: see
    `priors.RegularisationByDenoising`. All algorithms have the same fixed points.

    algorithm  "fixed-point", "admm": a data step each; "gradient": one A and one A* each, many steps
    positive, upper   D is followed by the projection onto the bounds; so is the result, not the data step
    and the parameters of `PlugAndPlay`; sigma a number, one per image, or None
    """

    name = "red"

    def __init__(
        self,
        denoiser: Plug,
        weight: Weight = 1.0,
        iterations: int = 50,
        tolerance: float = 1e-4,
        positive: bool = True,
        likelihood: Likelihood | None = None,
        upper: float | None = None,
        algorithm: Literal["gradient", "fixed-point", "admm"] = "fixed-point",
        sigma: Step | None = None,
        scale: Step | None = None,
        inner_iterations: int = 10,
    ):
        if algorithm not in ("gradient", "fixed-point", "admm"):
            raise ValueError(
                f"RED algorithm: expected 'gradient', 'fixed-point' or 'admm', got {algorithm!r}"
            )
        if isinstance(sigma, Schedule):
            raise ValueError("RED sigma: expected a number, one per image, or None: RED has one σ")
        options = (positive, likelihood, upper, sigma, scale, inner_iterations)
        super().__init__(denoiser, weight, iterations, tolerance, *options)
        self.algorithm = algorithm

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        denoise, n = self.plugged(problem, x), len(problem.A.in_shape)
        sigma = self.levels(problem)(self.iterations)
        pull = weight / sigma.square()
        if self.algorithm == "gradient":
            bound = self.slope_bound(problem, d)
            return self._bounded(red_gradient(d @ problem.A, denoise, x, bound, pull, sigma), x)
        near = DataProx(problem, d, self.inner_iterations).near
        solver = red_admm if self.algorithm == "admm" else red_fixed_point
        return self._bounded(solver(near, denoise, x, pull, sigma, n), x)

    def _bounded(self, iterates: Iterator[Iterate], x: Tensor) -> Iterator[Iterate]:
        """The iterates, clamped where they come out."""
        lower, upper = self.bounds(x)
        for iterate in iterates:
            free = lower is None and upper is None
            yield iterate if free else replace(iterate, x=iterate.x.clamp(lower, upper))

    @classmethod
    def examples(cls) -> list[RED]:
        """Non-local means, by each algorithm."""
        from priors.denoiser import NonLocalMeansDenoiser

        nlm = NonLocalMeansDenoiser(1.0, 1, 2)
        return [
            cls(nlm, iterations=5, algorithm=name)
            for name in ("gradient", "fixed-point", "admm")  # type: ignore[arg-type]
        ]


class GradientStepPlugAndPlay(_Plugged):
    """min_x d(A x) + λ/σ² g_σ(x), g the potential of a `GradientStepDenoiser`: plug-and-play that descends.

    Hurault, Leclaire, Papadakis, ICLR 2022: x⁺ = prox_{td∘A}(x − tλ/σ²∇g(x)), by CG from x, the steps t by
    backtracking: the objective falls in every iteration, however few steps of CG. With bounds the data term
    joins the gradient, and the projection is the prox.

    denoiser   a `GradientStepDenoiser`
    sigma      a number, one per image, or None: the noise in the start image
    and the parameters of `PlugAndPlay`
    """

    name = "gradient-step-plug-and-play"

    def __init__(
        self,
        denoiser: GradientStepDenoiser,
        weight: Weight = 1.0,
        iterations: int = 100,
        tolerance: float = 1e-4,
        positive: bool = False,
        likelihood: Likelihood | None = None,
        upper: float | None = None,
        sigma: Step | None = None,
        scale: Step | None = None,
        inner_iterations: int = 10,
    ):
        if not isinstance(denoiser, GradientStepDenoiser):
            raise ValueError(
                f"GradientStepPlugAndPlay denoiser: expected a GradientStepDenoiser, got {denoiser!r}; "
                "others have no objective, PlugAndPlay takes them"
            )
        options = (positive, likelihood, upper, sigma, scale, inner_iterations)
        super().__init__(denoiser, weight, iterations, tolerance, *options)

    def potential(self, problem: Problem) -> Functional:
        """g_σ/σ² of this problem."""
        sigma = self.levels(problem)(self.iterations)
        assert isinstance(self.denoiser, GradientStepDenoiser)
        return self.denoiser.potential(sigma, sigma**-2, self.size(problem))

    def iterates(self, problem: Problem, d: Functional, weight: Tensor, x: Tensor) -> Iterator[Iterate]:
        energy, bounds = weight * self.potential(problem), self.constraint(problem, x)
        if bounds is not None:
            return gradient_descent(d @ problem.A + energy, bounds.prox(x, 1.0), None, bounds)
        return gradient_descent(energy, x, None, DataProx(problem, d, self.inner_iterations))

    @classmethod
    def examples(cls) -> list[GradientStepPlugAndPlay]:
        """A small network that has learned nothing."""
        from priors.networks.drunet import DRUNet
        from priors.networks.seeds import seeded

        with seeded(0):
            denoiser = GradientStepDenoiser(DRUNet(1, (4, 6), 1, "softplus")).eval()
        return [cls(denoiser, iterations=5), cls(denoiser, iterations=5, positive=True, sigma=0.1)]
