"""Whether a method does better on the images it was trained on, so that these can be told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.tensors import squared_norm

from ..metrics.observers import auc
from ..problem import Problem

Pair = tuple[Problem, Tensor]


@dataclass(frozen=True)
class MembershipGap:
    """How well training images are told from fresh ones by their loss.

    auc : P(the loss of a training image is below that of a fresh one): 0.5 nothing leaks, 1 everything
    auc_error : its standard error (DeLong)
    interval : auc ± 1.96 errors, within [0, 1]; 1 ± 0 says that the two did not overlap in so many images
    chance : standard error of the AUC where nothing leaks, √((m + n + 1)/12 m n) (Mann and Whitney)
    advantage : max over thresholds of true − false positive share, chosen on these very images: too large
    train_loss, fresh_loss : means
    """

    auc: float
    auc_error: float
    interval: tuple[float, float]
    advantage: float
    train_loss: float
    fresh_loss: float
    chance: float

    @property
    def leaks(self) -> bool:
        """Whether 0.5 is below the interval, and the AUC beyond what chance gives so few images."""
        return self.interval[0] > 0.5 and self.auc > 0.5 + 1.96 * self.chance


@torch.no_grad()
def membership_gap(
    method: Callable[[Problem], Tensor],
    train_pairs: Pair,
    fresh_pairs: Pair,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> MembershipGap:
    """The attack by a threshold on the loss: Yeom, Giacomelli, Fredrikson, Jha, CSF 2018.

    A lower bound of what leaks: attacks with reference models (Carlini et al., IEEE S&P 2022), or on the
    weights themselves, find more. See PRIVACY.md beside this file.

    method : any
    train_pairs : (problem, truth), batched, that it was trained on
    fresh_pairs : the like that it never saw, from the same population and scanner
    loss : (image, truth) -> one value per image; by default the relative squared error ‖x − t‖²/‖t‖²
    """
    measure = loss or _relative
    sides = []
    for name, (problem, truth) in (("train", train_pairs), ("fresh", fresh_pairs)):
        if len(problem.batch) != 1 or problem.batch[0] < 2:
            raise ValueError(
                f"membership_gap {name}_pairs: expected a batch of 2 or more, got {problem.batch}"
            )
        values = measure(method(problem), truth).double()
        if values.shape != problem.batch or not bool(torch.isfinite(values).all()):
            raise ValueError(
                f"membership_gap {name}_pairs: expected one finite loss per image, got {tuple(values.shape)}"
            )
        sides.append(values)
    train, fresh = sides
    area, error = auc(-fresh, -train)
    cuts = torch.cat([train, fresh]).unique()
    advantages = [(train <= c).double().mean() - (fresh <= c).double().mean() for c in cuts]
    interval = max(0.0, area - 1.96 * error), min(1.0, area + 1.96 * error)
    return MembershipGap(
        area,
        error,
        interval,
        max(0.0, float(torch.stack(advantages).max())),
        float(train.mean()),
        float(fresh.mean()),
        math.sqrt((len(train) + len(fresh) + 1) / (12 * len(train) * len(fresh))),
    )


def _relative(image: Tensor, truth: Tensor) -> Tensor:
    ndim = truth.ndim - 1
    return squared_norm(image - truth, ndim) / squared_norm(truth, ndim)
