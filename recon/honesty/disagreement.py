"""Members of an ensemble that disagree: a map of where, and a flag for images that should not be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ..base import Reconstructor
from ..data.sets import PairedData
from ..problem import Problem
from ..uncertainty import DeepEnsemble, Prediction
from .rates import conformal_threshold

Body = Callable[[Tensor], Tensor]


class Disagreement:
    """s = mean over the body of the standard deviation between members; flagged above a quantile.

    Van Harten, Wolterink, Verhoeff, Išgum, SPIE Medical Imaging 2020, with an ensemble of CycleGANs: members
    agree on inputs like the training's and part on others. Members that are wrong alike are not found.

    methods : at least 2, trained with different seeds; or a `DeepEnsemble`, or whatever has `predict`
    level : share of good images that may be flagged, see `conformal_threshold`
    body : mean image (*batch, ny, nx) -> bool mask; by default what is above a tenth of its maximum
    """

    def __init__(
        self,
        methods: Sequence[Reconstructor] | Reconstructor,
        level: float = 0.05,
        body: Body | None = None,
    ):
        ensemble = methods if isinstance(methods, Reconstructor) else DeepEnsemble(methods)
        if not hasattr(ensemble, "predict"):
            raise ValueError(
                f"Disagreement methods: expected several methods or one with predict, got {ensemble!r}"
            )
        if not 0 < level < 1:
            raise ValueError(f"Disagreement level: expected a number between 0 and 1, got {level!r}")
        self.ensemble, self.level, self.body = ensemble, level, body or above_a_tenth
        self.threshold = math.nan

    @torch.no_grad()
    def maps(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """The mean image and the standard deviation between members, (*batch, *A.in_shape) each."""
        found = self.ensemble.predict(problem)  # type: ignore[operator]
        assert isinstance(found, Prediction)
        return found.mean, found.spread if found.epistemic is None else found.epistemic

    def score(self, problem: Problem) -> Tensor:
        """Mean of the standard deviation over the body, (*batch,), float64; 0 where there is no body."""
        mean, spread = self.maps(problem)
        ndim = len(problem.A.in_shape)
        mask = self.body(mean).double()
        inside = (mask * spread.double()).flatten(mean.ndim - ndim).sum(-1)
        return inside / mask.flatten(mean.ndim - ndim).sum(-1).clamp(min=1)

    def calibrate(self, problems: PairedData | Iterable[Problem]) -> Disagreement:
        """The threshold from good cases that no member has learned from; returns itself."""
        given = [problems.validation[0]] if isinstance(problems, PairedData) else list(problems)
        scores = torch.cat([self.score(problem).reshape(-1) for problem in given])
        self.threshold = conformal_threshold(scores, self.level)
        return self

    def flag(self, problem: Problem) -> Tensor:
        """Whether the score is not within the threshold, as NaN is not: bool (*batch,)."""
        if math.isnan(self.threshold):
            raise ValueError("Disagreement.flag: no threshold yet; call calibrate with good cases")
        return ~(self.score(problem) <= self.threshold)


def above_a_tenth(image: Tensor) -> Tensor:
    """|x| above a tenth of its maximum, of each image (*batch, ny, nx)."""
    size = image.abs()
    return size > 0.1 * size.amax((-2, -1), keepdim=True)
