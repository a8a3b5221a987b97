"""How to train: the configuration, the rate at every step, the optimisers there are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]
Schedule = Literal["cosine", "constant", "step", "inverse", "linear"]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    steps, batch_size : of the optimiser
    accumulate : batches whose mean gradient makes one step; memory is that of one of them
    reuse : optimiser steps taken on one batch (or `accumulate` of them) before the next is drawn
    optimizer : "adam", "adamw", "rmsprop" or "sgd"
    learning_rate, beta1, beta2 : of the optimiser (RMSProp's decay is beta2, the momentum of SGD is beta1)
    weight_decay : apart from the gradient with "adamw", added to it with the others
    schedule : "cosine" to zero over the steps; "constant"; "step", times `decay` at every one of
        `milestones`; "inverse", over 1 + step / `inverse_steps`; "linear", constant for the first half of the
        steps, then in a line to zero
    warmup : steps over which the rate rises linearly to its schedule
    milestones, decay, inverse_steps : of the schedules
    clip : bound of the gradient's norm over all weights; None for none
    average : decay of the exponential average of weights which is kept at the end; None for the last weights
    choose : "last", or "best", the weights (or their average) of the highest validation score, which is taken
        every `validate_every` steps
    precision : "bfloat16" computes networks in it (weights, operators and losses of float32 data stay
        float32); float64 data are not touched
    validate_every, checkpoint_every : steps
    seed : of the first weights and of every batch
    """

    steps: int = 100_000
    batch_size: int = 5
    reuse: int = 1
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    schedule: Schedule = "cosine"
    clip: float | None = 1.0
    average: float | None = None
    validate_every: int = 1000
    checkpoint_every: int = 1000
    seed: int = 0
    accumulate: int = 1
    weight_decay: float = 0.0
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    inverse_steps: int = 500
    precision: Literal["float32", "bfloat16"] = "float32"
    choose: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        name = type(self).__name__
        for key in ("steps", "batch_size", "reuse", "validate_every", "checkpoint_every", "accumulate"):
            within(f"{name} {key}", getattr(self, key), 1, 10**9)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool) and not isinstance(value, bool):
                raise ValueError(f"{name} {field.name}: expected True or False, got {value!r}")
        within(f"{name} inverse_steps", self.inverse_steps, 1, 10**9)
        within(f"{name} warmup", self.warmup, 0, 10**9)
        within(f"{name} seed", self.seed, 0, 2**31 - 1)
        if not isinstance(self.milestones, tuple) or list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"{name} milestones: expected rising steps, got {self.milestones!r}")
        for milestone in self.milestones:
            within(f"{name} milestones", milestone, 1, 10**9)
        if self.schedule == "step" and not self.milestones:
            raise ValueError(f"{name} milestones: expected at least one with schedule 'step', got none")
        if not _number(self.learning_rate) or not self.learning_rate > 0:
            raise ValueError(f"{name} learning_rate: expected a positive number, got {self.learning_rate!r}")
        if self.clip is not None and not (_number(self.clip) and self.clip > 0):
            raise ValueError(f"{name} clip: expected a positive number or None, got {self.clip!r}")
        if not _number(self.weight_decay) or self.weight_decay < 0:
            raise ValueError(f"{name} weight_decay: expected a number from 0, got {self.weight_decay!r}")
        if not _number(self.decay) or not 0 < self.decay <= 1:
            raise ValueError(f"{name} decay: expected a number above 0 to 1, got {self.decay!r}")
        for key in ("beta1", "beta2", "average"):
            value = getattr(self, key)
            if value is not None and not (_number(value) and 0 <= value < 1):
                raise ValueError(f"{name} {key}: expected a number from 0 to below 1, got {value!r}")
        allowed = {
            "optimizer": tuple(OPTIMIZERS),
            "schedule": tuple(SCHEDULES),
            "precision": ("float32", "bfloat16"),
            "choose": ("last", "best"),
        }
        for key, names in allowed.items():
            if getattr(self, key) not in names:
                raise ValueError(
                    f"{name} {key}: expected one of {', '.join(names)}, got {getattr(self, key)!r}"
                )


def rate(config: TrainingConfig, position: float, step: int) -> float:
    """min(1, (step + 1) / warmup) · schedule(position) · learning_rate.

    `position` is that of `step`, or further on where time runs out before the steps do.
    """
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.learning_rate * rise * SCHEDULES[config.schedule](config, position)


def optimiser(config: TrainingConfig, weights: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimiser of the configuration, for these weights."""
    return OPTIMIZERS[config.optimizer](config, list(weights))


def _cosine(c: TrainingConfig, position: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(position / c.steps, 1.0)))


SCHEDULES: dict[str, Callable[[TrainingConfig, float], float]] = {
    "cosine": _cosine,
    "constant": lambda c, position: 1.0,
    "step": lambda c, position: c.decay ** sum(m <= position for m in c.milestones),
    "inverse": lambda c, position: 1 / (1 + position / c.inverse_steps),
    "linear": lambda c, position: min(1.0, max(0.0, 2 - 2 * position / c.steps)),
}

OPTIMIZERS: dict[str, Callable[[TrainingConfig, list[Tensor]], torch.optim.Optimizer]] = {
    "adam": lambda c, w: torch.optim.Adam(
        w, lr=c.learning_rate, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay
    ),
    "adamw": lambda c, w: torch.optim.AdamW(
        w, lr=c.learning_rate, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay
    ),
    "rmsprop": lambda c, w: torch.optim.RMSprop(
        w, lr=c.learning_rate, alpha=c.beta2, weight_decay=c.weight_decay
    ),
    "sgd": lambda c, w: torch.optim.SGD(w, lr=c.learning_rate, momentum=c.beta1, weight_decay=c.weight_decay),
}


def differences(config: TrainingConfig, stored: Any) -> list[str]:
    """In which settings a stored configuration is another one; what it lacks is taken to be the default."""
    if not isinstance(stored, dict):
        return [f"no configuration but {stored!r}"]
    mine = as_json(asdict(config))
    # a setting that came later had no choice before: what was stored without it used its default
    older = as_json({f.name: f.default for f in fields(config) if f.default is not MISSING})
    told = [f"no setting {key}" for key in stored if key not in mine]
    for key, value in mine.items():
        other = stored[key] if key in stored else older.get(key)
        if other != value:
            told.append(f"{key} {other!r}, not {value!r}")
    return told


def as_json(value: Any) -> Any:
    """What JSON makes of it: lists of tuples."""
    return json.loads(json.dumps(value))


def within(name: str, value: object, lowest: int, highest: int) -> None:
    """Raise ValueError unless `value` is a whole number from `lowest` to `highest`."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ValueError(f"{name}: expected a whole number from {lowest} to {highest}, got {value!r}")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
