"""The training loop: everything that is learned is learned here."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from .checkpoints import read_tensors, write_tensors
from .data.sets import PairedData, UnpairedData
from .problem import Problem

if TYPE_CHECKING:
    from .learned import Learned

Loss = Callable[[Problem, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    steps, batch_size : of the optimiser
    reuse : optimiser steps taken on one batch before the next is drawn
    optimizer : "adam" or "rmsprop"
    learning_rate, beta1, beta2 : of the optimiser (RMSProp's decay is beta2)
    schedule : "cosine" to zero over the steps, or "constant"
    clip : bound of the gradient's norm over all weights; None for none
    average : decay of the exponential average of weights which is kept at the end; None for the last weights
    validate_every, checkpoint_every : steps
    seed : of the first weights and of every batch
    """

    steps: int = 100_000
    batch_size: int = 5
    reuse: int = 1
    optimizer: Literal["adam", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float | None = 1.0
    average: float | None = None
    validate_every: int = 1000
    checkpoint_every: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "reuse", "validate_every", "checkpoint_every"):
            within(f"{type(self).__name__} {name}", getattr(self, name), 1, 10**9)
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{type(self).__name__} {name}: expected a positive number, got {value!r}")
        for name in ("beta1", "beta2", "average"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(
                    f"{type(self).__name__} {name}: expected a number from 0 to below 1, got {value!r}"
                )
        if self.optimizer not in ("adam", "rmsprop") or self.schedule not in ("cosine", "constant"):
            raise ValueError(
                f"{type(self).__name__}: expected optimizer adam or rmsprop and schedule cosine or constant, "
                f"got {self.optimizer!r} and {self.schedule!r}"
            )


@dataclass
class Progress:
    """Where a training stands; given to the callback after every step, and kept as its history.

    step, steps : done and in all        seconds : of training, over all sessions
    losses : one per step                scores : (step, validation score), higher is better
    """

    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)


def train(
    network: nn.Module,
    loss: Loss,
    data: PairedData | UnpairedData,
    config: TrainingConfig,
    *,
    score: Callable[[], float] | None = None,
    minutes: float | None = None,
    checkpoint: str | Path | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> Progress:
    """Lower E loss(problem, images) over the weights of `network` by Adam or RMSProp.

        for (problem, images) in data.batches(size, generator):
            w ← w − rate · optimiser(∇_w loss(problem, images, generator))

    Batch k and the draws of step k come from generators seeded by (config.seed, k), so the same call gives
    the same weights, and one resumed from its checkpoint those of an unbroken one (on the same machine and
    number of threads).

    network, data, config : what learns, from what, how
    loss : (problem, images, generator) -> a number; images are truths (paired) or other images (unpaired)
    score : of the network on the validation images, higher is better; called every `validate_every` steps
    minutes : wall-time bound over all sessions; the schedule then ends where time does, and the run, unlike
        one of `steps` steps, is not repeatable
    checkpoint : a .safetensors file, written every `checkpoint_every` steps; there already: resumed from
    callback : given the progress after every step
    """
    run = _Run(network, config)
    path = Path(checkpoint) if checkpoint else None
    progress = run.restore(path) if path and path.exists() else Progress(steps=config.steps)
    network.train().requires_grad_(True)
    started = time.perf_counter() - progress.seconds
    batch: tuple[int, Any] = (-1, None)
    while progress.step < config.steps and not (minutes and progress.seconds >= 60 * minutes):
        number = progress.step // config.reuse
        if batch[0] != number:
            batch = number, next(data.batches(config.batch_size, _generator(config.seed, 2 * number)))
        spent = progress.seconds / (60 * minutes) if minutes else 0.0
        problem, images = batch[1]
        value = loss(problem, images, _generator(config.seed, 2 * progress.step + 1))
        progress.losses.append(run.step(value, max(progress.step / config.steps, spent)))
        progress.step += 1
        progress.seconds = time.perf_counter() - started
        if score and progress.step % config.validate_every == 0:
            progress.scores.append((progress.step, run.evaluate(score)))
        if path and progress.step % config.checkpoint_every == 0:
            run.save(path, progress)
        if callback:
            callback(progress)
    if path:
        run.save(path, progress)
    run.finish()
    if score:
        progress.scores.append((progress.step, score()))
    return progress


class _Run:
    """Weights, their average and the optimiser: what a step changes and a checkpoint holds."""

    def __init__(self, network: nn.Module, config: TrainingConfig):
        self.network, self.config = network, config
        self.named = dict(network.named_parameters())
        weights = list(self.named.values())
        self.optimizer: torch.optim.Optimizer
        if config.optimizer == "adam":
            self.optimizer = torch.optim.Adam(
                weights, lr=config.learning_rate, betas=(config.beta1, config.beta2)
            )
        else:
            self.optimizer = torch.optim.RMSprop(weights, lr=config.learning_rate, alpha=config.beta2)
        self.averaged = {k: p.detach().clone() for k, p in self.named.items()} if config.average else {}

    def step(self, value: Tensor, spent: float) -> float:
        """One step of the optimiser down `value`; `spent` is the part of the training already done."""
        if not bool(torch.isfinite(value)):
            raise ValueError(
                "train: the loss is NaN or inf; lower learning_rate, set clip, or look at the data's scale"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._rate(spent)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        if self.config.clip:
            nn.utils.clip_grad_norm_(self.named.values(), self.config.clip)
        self.optimizer.step()
        for k, average in self.averaged.items():
            average.lerp_(self.named[k].detach(), 1 - (self.config.average or 0.0))
        return float(value.detach())

    def evaluate(self, score: Callable[[], float]) -> float:
        """Score of the (averaged) weights, in evaluation mode; training goes on as if it had not happened."""
        current = {k: p.detach().clone() for k, p in self.named.items()}
        self._assign(self.averaged)
        self.network.eval()
        with torch.no_grad():
            value = score()
        self.network.train()
        self._assign(current)
        return value

    def finish(self) -> None:
        """Keep the averaged weights, if there are any, and turn training off."""
        self._assign(self.averaged)
        self.network.eval().requires_grad_(False)

    def save(self, path: Path, progress: Progress) -> None:
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.averaged.items()}
        for k, p in self.named.items():
            tensors |= {f"optimizer.{key}.{k}": v for key, v in self.optimizer.state[p].items()}
        tensors["losses"] = torch.tensor(progress.losses, dtype=torch.float64)
        header = {
            "config": asdict(self.config),
            "step": progress.step,
            "seconds": progress.seconds,
            "scores": progress.scores,
        }
        write_tensors(path, tensors, header)

    def restore(self, path: Path) -> Progress:
        tensors, header = read_tensors(path)
        mine = json.loads(json.dumps(asdict(self.config)))
        if header.get("config") != mine:
            raise ValueError(
                f"{path}: checkpoint of another configuration, {header.get('config')}, not {mine}; "
                "remove it or give another path"
            )
        try:
            self.network.load_state_dict(_part(tensors, "network."))
            self.averaged = {k: tensors[f"average.{k}"] for k in self.averaged}
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"{path}: checkpoint of another network ({error})") from None
        for key in {k.split(".")[1] for k in tensors if k.startswith("optimizer.")}:
            for k, value in _part(tensors, f"optimizer.{key}.").items():
                self.optimizer.state[self.named[k]][key] = value
        scores = [(int(step), float(value)) for step, value in header["scores"]]
        return Progress(
            header["step"], self.config.steps, header["seconds"], tensors["losses"].tolist(), scores
        )

    def _rate(self, spent: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * min(spent, 1.0))) if self.config.schedule == "cosine" else 1.0

    @torch.no_grad()
    def _assign(self, values: dict[str, Tensor]) -> None:
        for k, value in values.items():
            self.named[k].copy_(value)


def within(name: str, value: object, lowest: int, highest: int) -> None:
    """Raise ValueError unless `value` is a whole number from `lowest` to `highest`."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ValueError(f"{name}: expected a whole number from {lowest} to {highest}, got {value!r}")


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed << 32) + number)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def train_method(
    name: str,
    problem: str | PairedData,
    out: str | Path,
    minutes: float | None = None,
    *,
    half: bool = True,
    callback: Callable[[Progress], None] | None = None,
    **changes: Any,
) -> Learned:
    """Train the method called `name` and save it as `out`.safetensors with its card `out`.json.

    problem : its name, as "ellipses-small", or pairs
    minutes : wall-time bound; None for the configuration's steps, which is repeatable
    half : store the weights in float16
    callback : given the progress after every step
    changes : of the configuration: the recipe in `recon.zoo.recipes` for `data.name`, or else the paper's

    `out`.checkpoint.safetensors is written meanwhile, resumed from if it is there, and removed at the end.
    """
    from .base import METHODS
    from .data.small import TRAINING_SETS
    from .learned import Learned
    from .zoo.recipes import recipe

    if name not in METHODS or not issubclass(METHODS[name], Learned):
        learned = ", ".join(k for k, c in METHODS.items() if issubclass(c, Learned))
        raise ValueError(f"train_method name: expected one that learns ({learned}), got {name!r}")
    if isinstance(problem, str):
        if problem not in TRAINING_SETS:
            raise ValueError(
                f"train_method problem: expected one of {', '.join(TRAINING_SETS)}, or pairs, got {problem!r}"
            )
        problem = TRAINING_SETS[problem]()
    data = problem
    method = METHODS[name](**{**recipe(data.name, name), **changes})
    assert isinstance(method, Learned)
    out = Path(out)
    checkpoint = out.with_name(f"{out.name}.checkpoint.safetensors")
    method.fit(
        data.of_kind(method.data_kind),
        minutes=minutes,
        checkpoint=checkpoint,
        callback=callback,
    )
    bound = "" if minutes is None else f" --minutes {minutes:g}"
    method.record["command"] = f"recon train {name} --problem {data.name}{bound}"
    method.record["torch"] = torch.__version__
    method.save(out, half=half, scores=method.scores(data))
    checkpoint.unlink(missing_ok=True)
    return method
