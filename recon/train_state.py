"""What a step of training changes and a checkpoint holds: weights, their average, the optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import torch
from torch import Tensor, nn

from .checkpoints import read_tensors, write_tensors
from .train_config import TrainingConfig, as_json, differences, rate
from .train_fabric import Ranks
from .train_log import Progress
from .train_players import MOST, Loss, Player, Turn, turns

Terms = Mapping[str, Tensor]


class DivergedError(ValueError):
    """The loss or its gradient is NaN or inf."""


class State:
    """Weights of a network, their running averages, and the optimiser of every player."""

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        ranks: Ranks,
        loss: Loss | Sequence[Player],
        about: Mapping[str, Any] | None = None,
    ):
        self.network, self.config, self.ranks = network, config, ranks
        self.about = as_json(dict(about or {}))
        self.named, self.turns = turns(network, loss, config)
        self.decay = {k: t.config.average for t in self.turns if t.config.average for k in t.named}
        self.averaged = {k: self.named[k].detach().clone() for k in self.decay}
        self.between = True
        self.best: dict[str, Tensor] = {}
        self.best_at = -math.inf, 0  # score and step

    def cycle(
        self,
        step: int,
        position: float,
        losses: Callable[[int, int, Player], tuple[Sequence[Callable[[], Terms]], float]],
    ) -> dict[str, float]:
        """The steps of every player in turn; returns their terms, each the mean over its player's steps.

        position : in the schedules [steps]
        losses : (step, number of the player's step in it, player) -> the losses of batches, and their share
        """
        found, taken = dict[str, float](), 0
        counts = [turn.player.times(step) for turn in self.turns]
        if sum(counts) > MOST:
            raise ValueError(f"train players: expected at most {MOST} steps in a cycle, got {sum(counts)}")
        for turn, times in zip(self.turns, counts, strict=True):
            self._alone(turn)
            for _ in range(times):
                values = self.step(turn, *losses(step, taken, turn.player), rate(turn.config, position, step))
                # what a later step meets is no longer the state after a cycle
                self.between, taken = False, taken + 1
                for name, value in values.items():
                    found[name] = found.get(name, 0.0) + value / times
        self.between = True
        return found

    def _alone(self, turn: Turn) -> None:
        """Gradients for nobody but this player."""
        if len(turn.named) < len(self.named):
            for k, p in self.named.items():
                p.requires_grad_(k in turn.named)

    def step(
        self, turn: Turn, parts: Sequence[Callable[[], Terms]], share: float, rate: float
    ) -> dict[str, float]:
        """One step of a player down the mean of `parts`, its losses of batches; returns their terms.

        share : of these batches in those of all ranks
        DivergedError where a term or the gradient is NaN or inf; the weights are then as before the step
        """
        turn.optimizer.zero_grad(set_to_none=True)
        weight, values = share / len(parts), dict[str, Tensor]()
        for part in parts:
            with self.precision():
                terms = turn.named_terms(part())
            (weight * cast(Tensor, sum(terms.values()))).backward()
            for name, term in terms.items():
                part_of = weight * term.detach().double()
                values[name] = values[name] + part_of if name in values else part_of
        found = self.ranks.sum(values)
        for name, value in found.items():
            if not math.isfinite(value):
                raise DivergedError(f"{_named(name)} is NaN or inf ({value})")
        weights = [p for p in turn.named.values() if p.grad is not None]
        self.ranks.sum_gradients(weights)
        if turn.config.clip:
            length = nn.utils.clip_grad_norm_(weights, turn.config.clip)
        else:
            length = nn.utils.get_total_norm([cast(Tensor, p.grad) for p in weights])
        if not bool(torch.isfinite(length)):
            raise DivergedError(f"the gradient of {self._culprit(turn, parts)} is NaN or inf")
        for group in turn.optimizer.param_groups:
            group["lr"] = rate
        turn.optimizer.step()
        turn.bound()
        for k, decay in self.decay.items():
            if k in turn.named:
                self.averaged[k].lerp_(self.named[k].detach(), 1 - decay)
        return found

    def precision(self) -> Any:
        """The context in which networks compute in the configuration's precision."""
        if self.config.precision == "float32":
            return nullcontext()
        device = next(iter(self.named.values())).device.type
        return torch.autocast(device, torch.bfloat16)

    def _culprit(self, turn: Turn, parts: Sequence[Callable[[], Terms]]) -> str:
        """The term whose gradient is not finite, computed once more; of several ranks, this one's."""
        weights = list(turn.named.values())
        for part in parts:
            with self.precision():
                terms = turn.named_terms(part())
            for name, term in terms.items():
                if not term.requires_grad:
                    continue
                gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
                if any(g is not None and not bool(torch.isfinite(g).all()) for g in gradients):
                    return _named(name)
        return "the loss"

    def evaluate(self, score: Callable[[], float], step: int) -> float:
        """Score of the (averaged) weights, in evaluation mode; training goes on as if it had not happened.

        With `choose` "best" they are kept in mind if none had a higher one.
        """
        current = {k: p.detach().clone() for k, p in self.named.items()}
        self._assign(self.averaged)
        self.network.eval()
        with torch.no_grad():
            value = score()
        if self.config.choose == "best" and value > self.best_at[0]:
            self.best_at = value, step
            self.best = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.network.train()
        self._assign(current)
        return value

    def finish(self, best: bool = True) -> None:
        """Keep the best or the averaged weights, if there are any, and turn training off."""
        for turn in self.turns:
            turn.optimizer.zero_grad(set_to_none=True)
        self._assign(self.averaged)
        if best and self.best:
            self.network.load_state_dict(self.best)
        self.network.eval().requires_grad_(False)

    @contextmanager
    def finished_if_broken_off(self) -> Iterator[None]:
        """Within, any way out but the end leaves the network as `finish` does, ready to be used."""
        try:
            yield
        except BaseException:
            self.finish(best=False)
            raise

    def finite(self) -> bool:
        """Whether everything the network holds is: a bad batch spoils running statistics, too."""
        held = (v for v in self.network.state_dict().values() if v.is_floating_point() or v.is_complex())
        return all(bool(torch.isfinite(v).all()) for v in held)

    def save(self, path: Path, progress: Progress) -> None:
        """Write everything that the next step depends on."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.averaged.items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for turn in self.turns:
            for k, p in turn.named.items():
                held = turn.optimizer.state[p].items() if p in turn.optimizer.state else ()
                tensors |= {f"optimizer.{key}.{k}": v for key, v in held if isinstance(v, Tensor)}
        for name, values in {"losses": progress.losses, **_prefixed(progress.terms)}.items():
            tensors[name] = torch.tensor(values, dtype=torch.float64)
        header = {
            "config": asdict(self.config),
            "step": progress.step,
            "seconds": progress.seconds,
            "scores": progress.scores,
            "curve": progress.curve,
            "about": self.about,
        }
        if self.best:
            header["best"] = self.best_at
        write_tensors(path, tensors, header)

    def restore(self, path: Path) -> Progress:
        """Everything as it was at the last `save`; ValueError if the file is not of this training."""
        tensors, header = read_tensors(path)
        told = differences(self.config, header.get("config"))
        if told:
            raise ValueError(
                f"{path}: checkpoint of another configuration ({'; '.join(told[:5])}); remove it, give "
                "another path, or go on from its weights with fine_tune"
            )
        # checkpoints from before this was kept say nothing
        told = _unlike(self.about, header["about"]) if header.get("about") and self.about else []
        if told:
            raise ValueError(
                f"{path}: checkpoint of a training on something else ({'; '.join(told[:5])}); "
                "remove it or give another path"
            )
        try:
            self.network.load_state_dict(_part(tensors, "network."))
            for k, held in self.averaged.items():
                held.copy_(_of_shape(held, f"average.{k}", tensors[f"average.{k}"]))
            if header.get("best"):
                value, step = header["best"]
                self.best, self.best_at = _part(tensors, "best."), (float(value), int(step))
            for turn in self.turns:
                turn.optimizer.state.clear()  # a player may have made its first step since
            for key in {k.split(".")[1] for k in tensors if k.startswith("optimizer.")}:
                for k, value in _part(tensors, f"optimizer.{key}.").items():
                    owner = next(t for t in self.turns if k in t.named)
                    owner.optimizer.state[self.named[k]][key] = _beside(self.named[k], key, value)
            for turn in self.turns:
                _same_keys(turn.optimizer)
        except (RuntimeError, KeyError, TypeError, ValueError, StopIteration) as error:
            raise ValueError(f"{path}: checkpoint of another network ({error})") from None
        try:
            return _progress(tensors, header, self.config.steps)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: not a whole checkpoint of a training ({error!r})") from None

    @torch.no_grad()
    def _assign(self, values: dict[str, Tensor]) -> None:
        for k, value in values.items():
            self.named[k].copy_(value)


def named_terms(value: Tensor | Terms) -> Terms:
    """The parts of a loss by name; a loss that is one number is the part ""."""
    if isinstance(value, Tensor):
        return {"": value}
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"train loss: expected a number or numbers by name, got {value!r}")
    return value


def _named(name: str) -> str:
    return f"the loss term {name!r}" if name else "the loss"


def _unlike(mine: Any, other: Any, where: str = "") -> list[str]:
    """Where two descriptions differ; numbers may by a thousandth, which processors and threads do to them."""
    if isinstance(mine, dict) and isinstance(other, dict):
        keys = sorted({*mine, *other})
        return [t for k in keys for t in _unlike(mine.get(k), other.get(k), f"{where} {k}".strip())]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (mine, other))
    same = math.isclose(mine, other, rel_tol=1e-3) if numbers else mine == other
    return [] if same else [f"{where} {shorten(str(other), 60)}, not {shorten(str(mine), 60)}"]


def _of_shape(wanted: Tensor, name: str, value: Tensor) -> Tensor:
    if value.shape != wanted.shape:
        raise KeyError(f"{name} of shape {tuple(value.shape)} for {tuple(wanted.shape)}")
    return value


def _same_keys(optimizer: torch.optim.Optimizer) -> None:
    """KeyError unless the optimiser knows the same of every weight that it knows."""
    kinds = [set(state) for state in optimizer.state.values()]
    if odd := [kind ^ kinds[0] for kind in kinds if kind != kinds[0]]:
        raise KeyError(f"optimiser state {', '.join(map(str, sorted(odd[0])))} of some weights only")


def _beside(weight: Tensor, key: str, value: Tensor) -> Tensor:
    """A part of the optimiser's state where it belongs: steps on the CPU, the rest by the weight."""
    if key == "step":
        return value
    if value.shape != weight.shape:
        raise KeyError(f"optimiser state {key} of shape {tuple(value.shape)} for {tuple(weight.shape)}")
    return value.to(weight.device)


def _progress(tensors: Mapping[str, Tensor], header: Mapping[str, Any], steps: int) -> Progress:
    step, seconds = header["step"], float(header["seconds"])
    losses, curve = tensors["losses"].tolist(), header.get("curve", [])
    if (
        isinstance(step, bool)
        or not isinstance(step, int)
        or step != len(losses)
        or not 0 <= seconds < math.inf
    ):
        raise ValueError(f"step {step!r} with {len(losses)} losses after {seconds} s")
    scores = [(int(s), float(value)) for s, value in header["scores"]]
    # checkpoints from before there was a curve have scores alone
    rows = [{str(k): v for k, v in row.items()} for row in curve]
    rows = rows or [{"step": s, "score": value} for s, value in scores]
    terms = {k: v.tolist() for k, v in _part(dict(tensors), "losses.").items()}
    return Progress(step, steps, seconds, losses, scores, terms, rows)


def _prefixed(terms: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {f"losses.{k}": v for k, v in terms.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
