"""Conformal intervals: as wide as they must be, learned from images whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..base import Reconstructor
from ..checkpoints import read_tensors, write_tensors
from ..data.sets import PairedData
from ..problem import Problem
from .base import Prediction, Probabilistic, check_level, prediction

Rule = Literal["risk", "pixel", "pooled"]
Pairs = PairedData | Iterable[tuple[Problem, Tensor]]


class Conformal(Probabilistic):
    """μ ± q·(s + c), q from the scores |x − μ|/(s + c) of n images with a known truth.

    Split conformal prediction (Papadopoulos et al., ECML 2002; Lei et al., J. Am. Stat. Assoc. 113 (2018)). s
    is the spread of `method`, 1 where it tells none. What is promised holds over the draw of the calibration
    images and of a new one, exchangeable with them (same scanner, dose, kind of patient; not trained on), and
    for nothing else: not for a given image, nor within its edges or its lesions alone.

        "risk"    E[part of the pixels of the new image inside] ≥ level, and at most 2/(n + 1) above for
                  scores without ties: one q; conformal risk control (Angelopoulos et al., ICLR 2024), which
                  counts the new image as missed. n ≥ 1/(1 − level) − 1 images. Marginal over pixels and
                  images
        "pixel"   P(inside) ≥ level at every pixel, at most 1/(n + 1) above: a q for every pixel, the
                  ⌈(n + 1)·level⌉-th score there. Marginal over images. As many images
        "pooled"  one q, the quantile of all scores of all images: what "risk" becomes with many images; with
                  few no promise, for pixels of one image go together

    method  any
    level   promised, as 0.9
    rule    see above
    floor   c over the mean spread of the calibration images: keeps pixels in the game whose s is 0

    After `calibrate`: `quantile`, q; `images`, n; kept by `save_calibration`, without the method. Called: the
    image of `method`; its spread is that of a normal law with these intervals: `predict(problem)
    .interval(level)` gives them again.
    """

    def __init__(self, method: Reconstructor, level: float = 0.9, rule: Rule = "risk", floor: float = 0.05):
        super().__init__()
        check_level("Conformal", level)
        if not isinstance(method, Reconstructor):
            raise ValueError(f"Conformal method: expected a method, got {method!r}")
        if rule not in ("risk", "pixel", "pooled"):
            raise ValueError(f"Conformal rule: expected 'risk', 'pixel' or 'pooled', got {rule!r}")
        if not 0 <= floor < math.inf:
            raise ValueError(f"Conformal floor: expected a number ≥ 0, got {floor}")
        self.method, self.level, self.rule, self.floor = method, level, rule, floor
        self.images = 0
        self.quantile: Tensor | None = None
        self.least = 0.0

    def calibrate(self, pairs: Pairs) -> Conformal:
        """Learn q from (problem, truth) pairs, or the validation pair of `PairedData`; returns itself."""
        if isinstance(pairs, PairedData):
            pairs = [pairs.validation]
        found = [(self._told(problem), truth, len(problem.A.in_shape)) for problem, truth in pairs]
        if not found:
            raise ValueError("Conformal.calibrate pairs: expected at least one (problem, truth), got none")
        for p, truth, _ in found:
            if p.mean.shape != truth.shape:
                raise ValueError(
                    f"Conformal.calibrate pairs: truth {tuple(truth.shape)} for images {tuple(p.mean.shape)}"
                )
        shapes = {tuple(truth.shape[truth.ndim - n :]) for _, truth, n in found}
        if len(shapes) > 1:
            raise ValueError(f"Conformal.calibrate pairs: expected images of one shape, got {sorted(shapes)}")
        spreads = torch.cat([p.spread.flatten() for p, _, _ in found])
        self.least = self.floor * float(spreads.double().mean())
        if not bool((spreads + self.least > 0).all()):
            raise ValueError("Conformal.calibrate: the method's spread is 0 somewhere; give a floor above 0")
        scores = torch.cat(
            [
                ((p.mean - truth).abs() / (p.spread + self.least)).reshape(-1, *truth.shape[truth.ndim - n :])
                for p, truth, n in found
            ]
        )
        self.images = len(scores)
        self.quantile = _QUANTILES[self.rule](scores, self.level)
        return self

    def save_calibration(self, path: str | Path) -> Path:
        """Write q, c and the rule to one safetensors file; returns its path."""
        if self.quantile is None:
            raise ValueError("Conformal.save_calibration: nothing to save: call calibrate(pairs) first")
        path = Path(path)
        least = torch.tensor(self.least, dtype=torch.float64)
        write_tensors(path, {"quantile": self.quantile, "least": least}, self._made | {"images": self.images})
        return path

    def load_calibration(self, path: str | Path) -> Conformal:
        """Take q and c from a file that an instance of this method, level, rule and floor has saved."""
        tensors, header = read_tensors(Path(path))
        if set(tensors) != {"quantile", "least"} or not isinstance(header.get("images"), int):
            raise ValueError(f"{path}: expected a calibration by Conformal.save_calibration")
        for key, mine in self._made.items():
            if header.get(key) != mine:
                raise ValueError(
                    f"Conformal.load_calibration {path}: made with {key} {header.get(key)!r}, not {mine!r}"
                )
        self.quantile, self.least = tensors["quantile"], float(tensors["least"])
        self.images = header["images"]
        return self

    @property
    def _made(self) -> dict[str, Any]:
        kind = type(self.method).__name__
        return {"method": kind, "level": self.level, "rule": self.rule, "floor": self.floor}

    def radius(self, problem: Problem) -> Tensor:
        """q·(s + c), half the width of the intervals; of complex images the radius of a disc."""
        return self._half(self._told(problem))

    def interval(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """(lower, upper), (*batch, *A.in_shape) each."""
        p = self._told(problem)
        if p.mean.is_complex():
            raise ValueError("Conformal.interval: order needs real numbers, the image is complex; use radius")
        half = self._half(p)
        return p.mean - half, p.mean + half

    def predict(self, problem: Problem) -> Prediction:
        p = self._told(problem)
        z = math.sqrt(2) * float(torch.erfinv(torch.tensor(self.level, dtype=torch.float64)))
        return Prediction(p.mean, self._half(p) / z)

    def forward(self, problem: Problem) -> Tensor:
        return self.method(problem)

    def _half(self, p: Prediction) -> Tensor:
        if self.quantile is None:
            raise ValueError(
                "Conformal: not calibrated yet: call calibrate(pairs) with images it has not seen"
            )
        made, size = tuple(self.quantile.shape), tuple(p.spread.shape)
        if made != size[len(size) - len(made) :]:
            raise ValueError(
                f"Conformal: calibrated pixel by pixel for images {made}, got images {size}; rule='risk' "
                "serves all sizes"
            )
        return self.quantile.to(p.spread) * (p.spread + self.least)

    @torch.no_grad()
    def _told(self, problem: Problem) -> Prediction:
        p = prediction(self.method, problem)
        tells = getattr(self.method, "predict", None) is not None
        return p if tells else Prediction(p.mean, torch.ones_like(p.spread))

    @classmethod
    def examples(cls) -> list[Conformal]:
        from ..direct import FBP

        return [cls(FBP())]


def _enough(n: int, level: float) -> None:
    least = math.ceil(1 / (1 - level) - 1 - 1e-9)
    if n < least:
        raise ValueError(
            f"Conformal.calibrate pairs: a level of {level} takes at least {least} images, got {n}; "
            "rule='pooled' takes any number and promises nothing"
        )


def _by_risk(scores: Tensor, level: float) -> Tensor:
    """The least q with Σᵢ missedᵢ(q) + 1 ≤ (n + 1)(1 − level)."""
    n = len(scores)
    _enough(n, level)
    # images have as many pixels each, so the sum over images is a count over pixels
    flat = scores.double().flatten()
    allowed = ((n + 1) * (1 - level) - 1) / n * len(flat)
    kept = len(flat) - math.floor(allowed + 1e-9)
    return flat.kthvalue(max(kept, 1)).values


def _by_pixel(scores: Tensor, level: float) -> Tensor:
    n = len(scores)
    _enough(n, level)
    return scores.double().kthvalue(min(math.ceil((n + 1) * level - 1e-9), n), 0).values


def _pooled(scores: Tensor, level: float) -> Tensor:
    flat = scores.double().flatten()
    return flat.kthvalue(min(math.ceil((len(flat) + 1) * level - 1e-9), len(flat))).values


_QUANTILES = {"risk": _by_risk, "pixel": _by_pixel, "pooled": _pooled}
