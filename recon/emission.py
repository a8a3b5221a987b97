"""Emission tomography: expectation maximisation, and filtered back projection of corrected counts."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from operators import Poisson, fbp
from operators.emission import Emission
from operators.tensors import spread, total

from .base import Reconstructor
from .counts import KullbackLeibler
from .fidelity import poisson
from .problem import Problem
from .solvers import Iterate, mlem, osem, run
from .subsets import interleaved, subset_of, views_of


class _ExpectationMaximisation(Reconstructor):
    """Maximum likelihood of counts of emission, stopped early, then smoothed.

    iterations  so many from a uniform image, or None: per image until the mean square of the Pearson residual
                (y − m)/√m is 1, its expectation at the truth at any count
    most        at most so many when `iterations` is None
    fwhm        full width at half maximum of a Gaussian filter of the result [mm]
    """

    def __init__(self, iterations: int | None, most: int, fwhm: float):
        super().__init__()
        name = type(self).__name__
        if iterations is not None and iterations < 1:
            raise ValueError(f"{name} iterations: expected at least 1 or None, got {iterations}")
        if not 0 <= fwhm < math.inf:
            raise ValueError(f"{name} fwhm: expected a length ≥ 0, got {fwhm}")
        self.iterations, self.most, self.fwhm = iterations, most, fwhm

    @abstractmethod
    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        """The solver from x."""

    @torch.no_grad()
    def forward(self, problem: Problem) -> Tensor:
        d = poisson(problem)
        if not isinstance(d, KullbackLeibler):
            raise ValueError(
                f"{type(self).__name__} expects counts of emission, Poisson noise: {problem.noise!r}"
            )
        A = problem.A
        iterates = self.iterates(problem, _uniform(problem, d))
        if self.iterations is not None:
            x = run(iterates, self.iterations)
        else:
            x = _until(iterates, lambda image: _misfit(d, A(image)), self.most)
        if self.fwhm == 0:
            return x
        h = getattr(getattr(A, "geometry", None), "spacing", (1.0,) * len(A.in_shape))
        return smoothed(x, [self.fwhm / side for side in h], len(A.in_shape))


class MLEM(_ExpectationMaximisation):
    """x⁺ = x / (A*s) · A*(s y / (s A x + b)): `mlem`, from a uniform image.

    iterations, most, fwhm  iterations, or None to stop at the noise; at most; Gaussian filter [mm]
    """

    def __init__(self, iterations: int | None = None, most: int = 200, fwhm: float = 0.0):
        super().__init__(iterations, most, fwhm)

    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        noise = _noise(problem)
        return mlem(problem.A, problem.y, x, _like(noise.background, x), _like(noise.scale, x))

    @classmethod
    def examples(cls) -> list[MLEM]:
        """Stopped by the noise; a few iterations and a filter."""
        return [cls(most=30), cls(iterations=8, fwhm=1.5)]


class OSEM(_ExpectationMaximisation):
    """`osem` over subsets of views, interleaved and taken in golden-ratio order, from a uniform image.

    iterations, most, fwhm  passes over all views, or None to stop at the noise; at most; Gaussian filter [mm]
    subsets                 how many; each has every `subsets`-th view
    """

    def __init__(self, iterations: int | None = None, subsets: int = 10, most: int = 40, fwhm: float = 0.0):
        super().__init__(iterations, most, fwhm)
        if subsets < 1:
            raise ValueError(f"OSEM subsets: expected at least 1, got {subsets}")
        self.subsets = subsets

    def iterates(self, problem: Problem, x: Tensor) -> Iterator[Iterate]:
        noise, n = _noise(problem), len(problem.A.out_shape)
        chosen = interleaved(problem.A.out_shape[0], self.subsets)
        return osem(
            [subset_of(problem.A, views) for views in chosen],
            [views_of(problem.y, views, n) for views in chosen],
            x,
            [views_of(_like(noise.background, x), views, n) for views in chosen],
            [views_of(_like(noise.scale, x), views, n) for views in chosen],
        )

    @classmethod
    def examples(cls) -> list[OSEM]:
        """Stopped by the noise; a few passes and a filter."""
        return [cls(subsets=3, most=10), cls(iterations=2, subsets=2, fwhm=1.5)]


class EmissionFBP(Reconstructor):
    """x = max(0, fbp((y − b) / (s n e^(−∫μ)))): filtered back projection of precorrected counts of PET.

    filter, frequency_scaling  as in `operators.fbp`
    positive                   set negative activity to zero
    """

    name = "emission-fbp"

    def __init__(self, filter: str = "hann", frequency_scaling: float = 1.0, positive: bool = True):
        super().__init__()
        self.filter, self.frequency_scaling, self.positive = filter, frequency_scaling, positive

    def forward(self, problem: Problem) -> Tensor:
        A = problem.A
        if not isinstance(A, Emission):
            raise ValueError(f"EmissionFBP expects a problem of operators.Emission, got {A!r}: use FBP")
        x = fbp(A.xray, A.corrected(problem.linear), self.filter, self.frequency_scaling)
        return x.clamp_min(0) if self.positive else x

    @classmethod
    def examples(cls) -> list[EmissionFBP]:
        """Smooth, and sharp with negative values kept."""
        return [cls(), cls("ram-lak", positive=False)]


def smoothed(x: Tensor, fwhm: float | Sequence[float], ndim: int) -> Tensor:
    """x ∗ Gaussian over the last `ndim` dimensions, its borders repeated.

    fwhm  full width at half maximum [pixels], one for each of them or for all
    """
    widths = fwhm if isinstance(fwhm, Sequence) else [fwhm] * ndim
    for axis, width in zip(range(-ndim, 0), widths, strict=True):
        sigma = width / math.sqrt(8 * math.log(2))
        reach = min(math.ceil(4 * sigma), x.shape[axis] - 1)
        if reach == 0:
            continue
        offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        kernel = (-0.5 * (offsets / sigma) ** 2).exp()
        rows = x.movedim(axis, -1)
        flat = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="replicate")
        flat = F.conv1d(flat, (kernel / kernel.sum())[None, None])
        x = flat.reshape(rows.shape).movedim(-1, axis)
    return x


def _uniform(problem: Problem, d: KullbackLeibler) -> Tensor:
    """The flat image that explains the counts of each image, less the background; never zero."""
    A, m = problem.A, len(problem.A.out_shape)
    flat = torch.ones(A.in_shape, dtype=problem.y.dtype, device=problem.y.device)
    seen = total((d.s * A(flat)).expand(problem.y.shape), m)
    net = total(problem.y - d.b, m)
    level = torch.maximum(net, 0.01 * total(problem.y, m)).clamp(min=1e-6) / seen
    return (spread(level, flat.ndim) * flat).expand(*problem.batch, *A.in_shape)


def _noise(problem: Problem) -> Poisson:
    if not isinstance(problem.noise, Poisson):
        raise ValueError(f"expected counts of emission, Poisson noise, got {problem.noise!r}")
    return problem.noise


def _misfit(d: KullbackLeibler, z: Tensor) -> Tensor:
    return d.pearson(z).square().flatten(-d.ndim).mean(-1)


def _until(iterates: Iterator[Iterate], misfit: Callable[[Tensor], Tensor], most: int) -> Tensor:
    """Per image the first iterate whose misfit is at most 1."""
    x = next(iterates).x
    done = misfit(x) <= 1
    for _ in range(most):
        if bool(done.all()):
            break
        new = next(iterates).x
        x = torch.where(torch.as_tensor(spread(done, x.ndim - done.ndim)), x, new)
        done = done | (misfit(x) <= 1)
    return x


def _like(value: Tensor | float, y: Tensor) -> Any:
    return value.to(y.device, y.dtype) if isinstance(value, Tensor) else value
