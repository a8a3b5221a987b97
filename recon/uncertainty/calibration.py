"""Whether a spread is worth its name: coverage, and spread against error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Prediction


def coverage(
    lower: Tensor, upper: Tensor, truth: Tensor, mask: Tensor | None = None, ndim: int = 2
) -> Tensor:
    """Part of the pixels of each image with lower ≤ truth ≤ upper, (*batch,).

    mask  pixels that count, bool, broadcasts to the images; None: all
    """
    inside = ((lower <= truth) & (truth <= upper)).to(torch.float64)
    counted = torch.ones_like(inside) if mask is None else mask.to(inside).expand(inside.shape)
    axes = tuple(range(-ndim, 0))
    return (inside * counted).sum(axes) / counted.sum(axes)


@dataclass(frozen=True)
class CalibrationCurve:
    """Pixels in groups of like spread, from the least to the greatest; (groups,) each.

    spread  root mean square of the spread in a group, unit of the image
    error   root mean square of |mean − truth| there; equal to the spread if that is a standard deviation
    count   pixels
    """

    spread: Tensor
    error: Tensor
    count: Tensor

    @property
    def mismatch(self) -> float:
        """Mean of |spread − error| over that of the error, weighted by the pixels; 0 is right."""
        gap = (self.spread - self.error).abs()
        return float((self.count * gap).sum() / (self.count * self.error).sum())


def calibration_curve(prediction: Prediction, truth: Tensor, groups: int = 10) -> CalibrationCurve:
    """Spread against error over all pixels of all images, in `groups` of as many pixels each.

    As the reliability diagram of Guo et al., ICML 2017, for regression (Levi et al., Sensors 22 (2022)).
    """
    if groups < 1:
        raise ValueError(f"calibration_curve groups: expected at least 1, got {groups}")
    if prediction.mean.shape != truth.shape:
        raise ValueError(
            f"calibration_curve truth: expected {tuple(prediction.mean.shape)} as the prediction, got "
            f"{tuple(truth.shape)}"
        )
    said = prediction.spread.flatten().double()
    off = (prediction.mean - truth).abs().flatten().double()
    if said.numel() < groups:
        raise ValueError(f"calibration_curve truth: expected at least {groups} pixels, got {said.numel()}")
    order = said.argsort(stable=True)
    parts = [(said[i], off[i]) for i in order.tensor_split(groups)]
    return CalibrationCurve(
        torch.stack([s.square().mean().sqrt() for s, _ in parts]),
        torch.stack([e.square().mean().sqrt() for _, e in parts]),
        torch.tensor([len(s) for s, _ in parts]),
    )
