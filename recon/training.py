"""The training loop: everything that is learned is learned here."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .data.sets import PairedData, UnpairedData
from .problem import Problem
from .train_config import TrainingConfig as TrainingConfig
from .train_config import within as within
from .train_fabric import Ranks
from .train_log import Progress as Progress
from .train_log import curve_path, write_curve
from .train_method import train_method as train_method
from .train_method import train_seeds as train_seeds
from .train_players import MOST, Loss
from .train_players import Player as Player
from .train_state import DivergedError as DivergedError
from .train_state import State, named_terms


def train(
    network: nn.Module,
    loss: Loss | Sequence[Player],
    data: PairedData | UnpairedData,
    config: TrainingConfig,
    *,
    score: Callable[[], float] | None = None,
    minutes: float | None = None,
    checkpoint: str | Path | None = None,
    callback: Callable[[Progress], None] | None = None,
    fabric: Any = None,
    about: Mapping[str, Any] | None = None,
) -> Progress:
    """Lower E loss(problem, images) over the weights of `network`.

        for (problem, images) in data.batches(size, generator):
            w ← w − rate · optimiser(∇_w loss(problem, images, generator))

    Batch k and the draws of step k come from generators seeded by (config.seed, k), so the same call gives
    the same weights, and one resumed from its checkpoint those of an unbroken one (on the same machine and
    number of threads).

    network, data, config : what learns, from what, how
    loss : (problem, images, generator) -> a number, or numbers by name whose sum is lowered; images are
        truths (paired) or other images (unpaired). Or players who take turns: then a step is a cycle in
        which each of them, in order, makes its steps down its own loss over its own part of the network
    score : of the network on the validation images, higher is better; called every `validate_every` steps
    minutes : wall-time bound over all sessions; the schedule then ends where time does, and the run, unlike
        one of `steps` steps, is not repeatable
    checkpoint : a .safetensors file, written every `checkpoint_every` steps; there already: resumed from.
        The curve (steps, seconds, losses, scores) is written beside it, as .curve.csv
    callback : given the progress after every step
    fabric : a launched Lightning Fabric, to share every batch among processes (see `recon.train_fabric`);
        network and data are on its device already, files are those of its first process
    about : what is learned from, in words and numbers; a checkpoint about something else is refused

    With a checkpoint, SIGINT (Ctrl-C) and SIGTERM let the step end, write it, and then leave by
    KeyboardInterrupt or SystemExit; a second SIGINT leaves at once. However it is left, the network then has
    its latest (averaged) weights, in evaluation mode. A folder that cannot be written to is an
    error at the start; a checkpoint that cannot be written later (disk full) leaves the one before whole, is
    a RuntimeWarning, and training goes on.

    Raises DivergedError, a ValueError, where a loss or its gradient becomes NaN or inf: it names the term,
    step and seed. The network then has its last finite (averaged) weights, and the checkpoint is of that
    step.
    """
    if minutes is not None and not minutes > 0:
        raise ValueError(f"train minutes: expected a positive number or None, got {minutes}")
    ranks, state = Ranks(fabric), State(network, config, Ranks(fabric), loss, about)
    progress = Progress(steps=config.steps)
    files = _Files(Path(checkpoint) if checkpoint else None, state, ranks)
    progress = files.begin(progress)
    network.train().requires_grad_(True)
    alone = len(state.turns) == 1 and state.turns[0].player.steps == 1
    batches = _Batches(data, config, ranks, 1 if alone else MOST)
    started = time.perf_counter() - progress.seconds
    with _asked_to_stop(checkpoint is not None) as asked, state.finished_if_broken_off():
        while progress.step < config.steps and not (minutes and progress.seconds >= 60 * minutes):
            spent = progress.seconds / (60 * minutes) if minutes else 0.0
            position = max(progress.step, spent * config.steps)
            try:
                values = state.cycle(progress.step, position, batches.losses)
            except DivergedError as error:
                raise DivergedError(_told(error, progress, config, files.diverged(progress))) from None
            progress.add(values)
            progress.seconds, stop = ranks.agree(time.perf_counter() - started, bool(asked))
            if progress.step % config.validate_every == 0:
                progress.mark(state.evaluate(score, progress.step) if score else None)
            if progress.step % config.checkpoint_every == 0:
                files.write(progress)
            if callback and ranks.first:
                try:
                    callback(progress)
                except KeyboardInterrupt:
                    files.write(progress)
                    raise
            if stop:
                files.write(progress)
                raise SystemExit(128 + signal.SIGTERM) if signal.SIGTERM in asked else KeyboardInterrupt
    if score and config.choose == "best" and progress.step % config.validate_every:
        state.evaluate(score, progress.step)
    files.write(progress)
    state.finish()
    progress.kept = state.best_at[1] if state.best else None
    with torch.no_grad():
        progress.mark(score() if score else None)
    files.write_curve(progress)
    return progress


class _Batches:
    """The batches of every step, and this rank's share of them."""

    def __init__(self, data: PairedData | UnpairedData, config: TrainingConfig, ranks: Ranks, most: int = 1):
        self.data, self.config, self.ranks, self.most = data, config, ranks, most
        self.number, self.held = -1, list[tuple[Problem, Tensor]]()

    def losses(
        self, step: int, taken: int, player: Player
    ) -> tuple[list[Callable[[], Mapping[str, Tensor]]], float]:
        """For every batch of a player's step a function that computes its loss; and the share of them.

        taken : steps made before in this cycle, by all players
        """
        c, share = self.config, 1.0
        number = step // c.reuse * self.most + (taken if player.fresh else 0)
        if number != self.number:
            self.number, self.held = number, []
            for i in range(c.accumulate):
                generator = _generator(c.seed, 2 * (number * c.accumulate + i))
                self.held.append(next(self.data.batches(c.batch_size, generator)))
        parts = []
        for i, (problem, images) in enumerate(self.held):
            problem, images, share = self.ranks.share(problem, images)
            draw = 2 * ((step * self.most + taken) * c.accumulate + i) + 1
            parts.append(self._loss(player.loss, problem, images, draw))
        return parts, share

    def _loss(
        self, loss: Loss, problem: Problem, images: Tensor, draw: int
    ) -> Callable[[], Mapping[str, Tensor]]:
        seed, rank = self.config.seed, self.ranks.rank
        return lambda: named_terms(loss(problem, images, _generator(seed, draw, rank)))


class _Files:
    """The checkpoint and the curve of a training, if it has any; only the first rank writes."""

    def __init__(self, path: Path | None, state: State, ranks: Ranks):
        self.path, self.state, self.ranks = path, state, ranks

    def begin(self, progress: Progress) -> Progress:
        """What the checkpoint holds, if there is one."""
        if self.path is None:
            return progress
        if self.ranks.first:
            from .comparison.files import check_writable

            check_writable(self.path.parent)
            for left in self.path.parent.glob(f".{self.path.name}.*"):
                left.unlink(missing_ok=True)  # of a session killed while it wrote
        if self.path.exists():
            progress = self.state.restore(self.path)
        self.ranks.wait()
        return progress

    def write(self, progress: Progress) -> bool:
        """Write checkpoint and curve; False, with a warning, where the disk will not take them."""
        if self.path is None or not self.ranks.first:
            return self.path is not None
        if not self.state.finite():
            warnings.warn(
                f"train: no checkpoint of step {progress.step}: the network is not finite; the one "
                "before stays",
                RuntimeWarning,
                stacklevel=3,
            )
            return False
        try:
            self.state.save(self.path, progress)
        except OSError as error:
            warnings.warn(
                f"train: no checkpoint of step {progress.step}: {error}; training goes on",
                RuntimeWarning,
                stacklevel=3,
            )
            return False
        self.write_curve(progress)
        return True

    def write_curve(self, progress: Progress) -> None:
        """Write the curve; a warning where the disk will not take it."""
        if self.path is None or not self.ranks.first:
            return
        try:
            write_curve(curve_path(self.path), progress)
        except OSError as error:
            warnings.warn(f"train: no curve: {error}; training goes on", RuntimeWarning, stacklevel=3)

    def diverged(self, progress: Progress) -> str:
        """Leave the last good weights in the network and on disk; says where they are."""
        good = self.state.finite() and self.state.between
        if not good and self.path and self.path.exists():
            progress = self.state.restore(self.path)
        elif not good:
            finite = self.state.finite()
            self.state.finish(best=False)
            if finite:
                return "the weights in the network are from the middle of that step; there is no checkpoint"
            return "the weights are not finite either, and there is no checkpoint"
        kept = progress.step > 0 and self.write(progress)
        self.state.finish(best=False)
        where = f" and in {self.path}" if kept else ""
        return f"the weights of step {progress.step} are in the network{where}"


def _told(error: DivergedError, progress: Progress, config: TrainingConfig, kept: str) -> str:
    return (
        f"train: {error} at step {progress.step + 1} of {config.steps}, seed {config.seed}; {kept}; "
        "lower learning_rate, set clip, or look at the data's scale"
    )


@contextmanager
def _asked_to_stop(active: bool) -> Iterator[list[int]]:
    """The signals that asked to stop, to be looked at between steps."""
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and asked:
            raise KeyboardInterrupt
        asked.append(number)

    # handlers belong to the main thread, and who ignores a signal goes on ignoring it
    main = active and threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    old = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for n in old:
        signal.signal(n, note)
    try:
        yield asked
    finally:
        for n, handler in old.items():
            signal.signal(n, handler or signal.SIG_DFL)


def _generator(seed: int, number: int, rank: int = 0) -> torch.Generator:
    # torch's generator on the CPU reads the lowest 32 bits only: seeds and ranks start far apart in these
    return torch.Generator().manual_seed((number + seed * 0x9E3779B1 + rank * 0x85EBCA6B) % 2**32)
