"""What samplers of the posterior share: levels, draws, many samples at once, mean and spread."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from operators.tensors import spread
from priors import Functional, SquaredL2
from priors.base import Step
from priors.denoiser import Denoiser, as_denoiser

from ..data_step import DataProx, peak
from ..fidelity import LIKELIHOODS, Likelihood
from ..problem import Problem
from ..uncertainty.base import Moments, Prediction, Probabilistic
from ..variational.base import start
from .noise import Draws, Levels, Seed, towards

Plug = Denoiser | Functional | Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Target:
    """What the samples are drawn for, (samples, *batch) images of `ndim` dimensions.

    denoise  x, σ -> D(x, σ) at the size of the images, σ one per image
    data     d(A x), Gaussian, and its prox
    size     of an image, one per image; norm ‖A‖
    bound    the projection onto x ≥ 0, or nothing
    """

    problem: Problem
    denoise: Callable[[Tensor, Tensor], Tensor]
    data: DataProx
    size: Tensor
    norm: float
    ndim: int
    bound: Callable[[Tensor], Tensor]

    def residual(self, x: Tensor) -> Tensor:
        """W^½(y − A x), of variance 1 in every real number where x is the truth, 0 if unmeasured."""
        return self.root * (cast(SquaredL2, self.data.q.f).target - self.problem.A(x))

    @property
    def root(self) -> Tensor:
        """W^½, one over the standard deviation of every datum."""
        f = cast(SquaredL2, self.data.q.f)
        return torch.as_tensor(f.weight, dtype=self.size.dtype, device=self.size.device).sqrt()


class PosteriorSampler(Probabilistic):
    """Images drawn from p(x | y) ∝ exp(−d(A x)) p(x), where p is known by a denoiser; called: their mean.

    A subclass writes `step`, from one noise level to the next. Deterministic by `seed`; image i and sample s
    have draws of their own, so that neither the batch nor the number of samples changes them.

        method.sample(problem, n)   (n, *batch, *A.in_shape), each as likely as the posterior says
        method.predict(problem)     mean and standard deviation of `samples` of them
        method.evaluations          calls of D for one sample; method.gradients, passes back through it

    denoiser    D(x, σ), good over all σ of `levels`: a `DiffusionPrior`, or what `priors.as_denoiser` takes
    steps       noise levels
    samples     how many the mean and the spread are of
    levels      see `Levels`
    positive    x ≥ 0, for real images; complex ones are free
    likelihood  d, "weighted" or "unweighted": Gaussian, see `recon.fidelity`
    scale       size of an image, of which the levels are parts, and to which a D of images of size 1 is
                brought (its `unit` says so); None: the start image's 99th percentile for such a D, else its
                own `width`
    seed        a number, or one per image
    at_once     samples worked on together: memory, not the result
    """

    evaluations: int
    gradients: int = 0

    def __init__(
        self,
        denoiser: Plug,
        steps: int = 100,
        samples: int = 8,
        levels: Levels | None = None,
        positive: bool = True,
        likelihood: Likelihood = "weighted",
        scale: Step | None = None,
        seed: Seed = 0,
        at_once: int = 16,
    ):
        super().__init__()
        name = type(self).__name__
        for what, value in (("steps", steps), ("samples", samples), ("at_once", at_once)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} {what}: expected a whole number, at least 1, got {value!r}")
        if likelihood not in ("weighted", "unweighted"):
            raise ValueError(
                f"{name} likelihood: expected 'weighted' or 'unweighted' (Gaussian), got {likelihood!r}"
            )
        if scale is not None and not bool((torch.as_tensor(scale) > 0).all()):
            raise ValueError(f"{name} scale: expected a positive number or None, got {scale}")
        self.denoiser = as_denoiser(denoiser)
        self.steps, self.samples, self.levels = steps, samples, levels or Levels()
        self.positive, self.likelihood, self.scale = positive, likelihood, scale
        self.seed, self.at_once = seed, at_once
        self.evaluations = steps

    @abstractmethod
    def step(self, target: Target, x: Tensor, now: Tensor, after: Tensor, draw: Tensor) -> Tensor:
        """x at noise `after` from x at noise `now`, both one per image; `draw` is white noise."""

    def sample(self, problem: Problem, n: int | None = None) -> Tensor:
        """n images, (n, *batch, *A.in_shape); n None: `samples`."""
        count = self._count(n)
        return torch.cat([self._draw(problem, part) for part in self._parts(count)])

    def predict(self, problem: Problem) -> Prediction:
        if self.samples < 2:
            raise ValueError(f"{type(self).__name__} samples: a spread takes at least 2, got {self.samples}")
        moments = Moments()
        for part in self._parts(self.samples):
            for x in self._draw(problem, part):
                moments.add(x)
        return Prediction(moments.mean, moments.spread)

    def forward(self, problem: Problem) -> Tensor:
        return self.sample(problem).mean(0) if self.samples == 1 else self.predict(problem).mean

    @torch.inference_mode(False)  # which turns gradients on
    @torch.no_grad()
    def _draw(self, problem: Problem, which: Sequence[int]) -> Tensor:
        shape = (len(which), *problem.batch, *problem.A.in_shape)
        if problem.y.numel() == 0:
            return problem.linear.new_zeros(shape)
        target = self._target(problem, len(which))
        draws = Draws(self.seed, which, problem.batch, problem.A.in_shape)
        like = problem.A.adjoint(problem.linear)
        levels = self.levels(self.steps)
        x = spread(levels[0][0] * target.size, target.ndim) * draws.like(like)
        for now, after in levels:
            x = self.step(target, x, now * target.size, after * target.size, draws.like(like))
        return target.bound(x)

    def _target(self, problem: Problem, count: int) -> Target:
        ndim = len(problem.A.in_shape)
        if self.denoiser.ndim != ndim:
            raise ValueError(
                f"{type(self).__name__} denoiser: {self.denoiser!r} takes {self.denoiser.ndim}-D images, "
                f"those of the problem are {problem.A.in_shape}"
            )
        d = LIKELIHOODS[self.likelihood](problem)
        size = self.size(problem).expand(count, *problem.batch)
        D = self.denoiser.at_scale(size) if self.denoiser.unit else self.denoiser
        bounded = self.positive and not problem.linear.is_complex()
        return Target(
            problem,
            D,
            DataProx(problem, d, self.inner_iterations, tolerance=1e-4),
            size,
            float(problem.A.norm()),
            ndim,
            (lambda x: x.clamp(min=0)) if bounded else (lambda x: x),
        )

    inner_iterations: int = 10

    def size(self, problem: Problem) -> Tensor:
        """Size of an image, (*batch,)."""
        like = problem.variance
        if self.scale is None and self.denoiser.unit:
            return peak(start(problem), len(problem.A.in_shape)).to(like)
        given = torch.as_tensor(self.denoiser.width if self.scale is None else self.scale)
        return given.to(like).expand(problem.batch)

    def _count(self, n: int | None) -> int:
        count = self.samples if n is None else n
        if count < 1:
            raise ValueError(f"{type(self).__name__}.sample n: expected at least 1, got {n}")
        return count

    def _parts(self, count: int) -> list[range]:
        return [range(k, min(k + self.at_once, count)) for k in range(0, count, self.at_once)]


def move(
    target: Target, x: Tensor, clean: Tensor, now: Tensor, after: Tensor, fresh: float, draw: Tensor
) -> Tensor:
    """`towards` from x, whose clean image is `clean`."""
    t, s = (torch.as_tensor(spread(v, target.ndim)) for v in (now, after))
    return towards(clean, (x - clean) / t, t, s, fresh, draw)
