"""Whether data are like those a method was trained for: a distance of features, with a promised threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from ..data.sets import PairedData
from ..problem import Problem
from .rates import conformal_threshold, p_values

Features = Callable[[Problem], Tensor | Sequence[Tensor]]
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class OutOfDistribution:
    """d² = (φ − μ)ᵀ C⁻¹ (φ − μ): how far the features of a problem lie from those of the training.

    Lee et al., NeurIPS 2018, for one class. C is shrunk towards its diagonal, C + ε diag C, so that few
    images suffice. The threshold is conformal: on new cases like the calibration ones at most `level` of them
    are flagged in the mean over draws. That a case is not flagged does not make the image right.

    features : problem -> (n, d), or a list of feature maps (n, channels, …), which are pooled to their means
        and standard deviations; `input_statistics`, `on_data(F)` or `layer_features(method, …)`
    level : share of false alarms
    shrinkage : ε
    """

    def __init__(self, features: Features | None = None, level: float = 0.05, shrinkage: float = 1e-3):
        if not 0 < level < 1 or not shrinkage >= 0:
            raise ValueError(
                f"OutOfDistribution: expected level in (0, 1) and shrinkage ≥ 0, got {level!r}, {shrinkage!r}"
            )
        self.features, self.level, self.shrinkage = features or input_statistics, level, shrinkage
        self.mean: Tensor | None = None
        self.factor = torch.zeros(0)
        self.calibration = torch.zeros(0, dtype=torch.float64)
        self.threshold = math.nan

    def fit(self, problems: PairedData | Iterable[Problem]) -> OutOfDistribution:
        """Learn mean and covariance from training problems; returns itself."""
        found = self._features(problems.train[0] if isinstance(problems, PairedData) else problems)
        if len(found) < 2:
            raise ValueError(f"OutOfDistribution.fit: expected at least 2 images, got {len(found)}")
        self.mean = found.mean(0)
        covariance = torch.cov(found.T).reshape(found.shape[1], -1)
        diagonal = covariance.diagonal()
        # features that never change are allowed next to nothing
        least = 1e-12 * (self.mean.square() + 1)
        shrunk = covariance + torch.diag(self.shrinkage * diagonal + least)
        self.factor = torch.linalg.cholesky(shrunk)
        self.threshold = math.nan
        return self

    def calibrate(self, problems: PairedData | Iterable[Problem]) -> OutOfDistribution:
        """The threshold, from problems that `fit` has not seen; returns itself."""
        given = problems.validation[0] if isinstance(problems, PairedData) else problems
        self.calibration = self._distances(self._features(given))
        self.threshold = conformal_threshold(self.calibration, self.level)
        return self

    def score(self, problem: Problem) -> Tensor:
        """d² of every image, (*batch,), float64."""
        return self._distances(self._features(problem)).reshape(problem.batch)

    def flag(self, problem: Problem) -> Tensor:
        """Whether d² is not within the threshold, as NaN is not: bool (*batch,)."""
        if math.isnan(self.threshold):
            raise ValueError("OutOfDistribution.flag: no threshold yet; call fit, then calibrate")
        return ~(self.score(problem) <= self.threshold)

    def p_value(self, problem: Problem) -> Tensor:
        """The share of calibration cases at least as far, with one added, (*batch,)."""
        if not len(self.calibration):
            raise ValueError("OutOfDistribution.p_value: nothing to compare with; call calibrate")
        return p_values(self.score(problem), self.calibration)

    @torch.no_grad()
    def _features(self, problems: Problem | Iterable[Problem]) -> Tensor:
        given = [problems] if isinstance(problems, Problem) else list(problems)
        found = [pooled(self.features(problem)) for problem in given]
        if not found:
            raise ValueError("OutOfDistribution: expected at least one problem, got none")
        return torch.cat(found)

    def _distances(self, found: Tensor) -> Tensor:
        if self.mean is None:
            raise ValueError("OutOfDistribution: not fitted: call fit(problems) first")
        if found.shape[-1] != len(self.mean):
            raise ValueError(
                f"OutOfDistribution features: expected {len(self.mean)} of an image, got {found.shape[-1]}"
            )
        white = torch.linalg.solve_triangular(self.factor, (found - self.mean).T, upper=False)
        return white.square().sum(0)


def pooled(features: Tensor | Sequence[Tensor]) -> Tensor:
    """Features (n, d) as they are; of maps (n, channels, …) mean and standard deviation: (n, d), float64."""
    if isinstance(features, Tensor) and features.ndim == 2:
        return features.double()
    maps = [features] if isinstance(features, Tensor) else list(features)
    parts = []
    for h in maps:
        flat = (h.abs() if h.is_complex() else h).double().flatten(2)
        parts += [flat.mean(2), flat.std(2, correction=0)]
    return torch.cat(parts, 1)


def input_statistics(problem: Problem) -> Tensor:
    """Of linearised data (magnitudes): mean, standard deviation, quantiles, and of neighbours' differences.

    The last, the median of |yᵢ₊₂ − 2 yᵢ₊₁ + yᵢ| along rows, measures noise. (n, 10), float64.
    """
    y = problem.linear
    y = (y.abs() if y.is_complex() else y).double().reshape(-1, *problem.A.out_shape)
    flat = y.flatten(1)
    # torch.quantile takes 16 million numbers at most
    ordered, last = flat.sort(1).values, flat.shape[1] - 1
    levels = [
        ordered[:, math.floor(q * last)].lerp(ordered[:, math.ceil(q * last)], q * last % 1)
        for q in QUANTILES
    ]
    parts = [flat.mean(1), flat.std(1), *levels]
    if y.shape[-1] > 2:
        parts.append(y.diff(n=2, dim=-1).abs().flatten(1).median(1).values)
    return torch.stack(parts, 1)


def on_data(network: Callable[[Tensor], Tensor | Sequence[Tensor]]) -> Features:
    """Features of a network x -> list of maps that is shown the data as images (n, 1, *A.out_shape)."""

    def features(problem: Problem) -> Tensor | Sequence[Tensor]:
        y = problem.linear.reshape(-1, 1, *problem.A.out_shape)
        return network(y)

    return features


def on_image(
    method: Callable[[Problem], Tensor], network: Callable[[Tensor], Tensor | Sequence[Tensor]]
) -> Features:
    """Features of a network that is shown an image of `method`, as FBP: (n, 1, *A.in_shape)."""

    def features(problem: Problem) -> Tensor | Sequence[Tensor]:
        return network(method(problem).reshape(-1, 1, *problem.A.in_shape))

    return features


def layer_features(method: nn.Module, layers: Sequence[str]) -> Features:
    """What comes out of these layers of a method while it reconstructs, by the names of `named_modules`.

    Of a layer that is called several times the last call counts.
    """
    known = dict(method.named_modules())
    unknown = [name for name in layers if name not in known]
    if unknown or not layers:
        raise ValueError(
            f"layer_features layers: expected names of {type(method).__name__}.named_modules(), as "
            f"{', '.join(list(known)[1:6])}, got {unknown or layers!r}"
        )

    def features(problem: Problem) -> list[Tensor]:
        seen: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            return lambda module, inputs, output: seen.__setitem__(name, output)

        hooks = [known[name].register_forward_hook(keep(name)) for name in layers]
        try:
            method(problem)
        finally:
            for hook in hooks:
                hook.remove()
        missing = [name for name in layers if name not in seen]
        if missing:
            raise ValueError(f"layer_features: not called while reconstructing: {', '.join(missing)}")
        return [seen[name] for name in layers]

    return features
