"""Where a training stands and has been: the progress, its curve beside the weights, TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checkpoints import write_bytes


@dataclass
class Progress:
    """Where a training stands; given to the callback after every step, and kept as its history.

    step, steps : done and in all        seconds : of training, over all sessions
    losses : one per step                scores : (step, validation score), higher is better
    terms : the parts of a loss that names them, one number per step each
    kept : step of the weights that are kept; None: the last, or where it stands
    curve : a row every `validate_every` steps and at the end: step, seconds, the mean since the row before of
        the loss and of each term, and the score, if any
    """

    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    kept: int | None = None

    def add(self, terms: Mapping[str, float]) -> None:
        """One step more, with the loss's parts; a loss without names has the single part ""."""
        self.losses.append(sum(terms.values()))
        for name, value in terms.items():
            if name:
                self.terms.setdefault(name, []).append(value)
        self.step += 1

    def mark(self, score: float | None) -> None:
        """A row of the curve, here and now; a row of this very step is replaced."""
        if score is not None:
            self.scores.append((self.step, score))
        if self.curve and self.curve[-1]["step"] == self.step:
            self.curve.pop()
        before = int(self.curve[-1]["step"]) if self.curve else 0
        row: dict[str, float] = {"step": self.step, "seconds": round(self.seconds, 3)}
        parts = {"loss": self.losses} | {f"loss/{k}": v for k, v in self.terms.items()}
        for name, values in parts.items():
            since = values[before - self.step :] if self.step > before else []
            if since:
                row[name] = sum(since) / len(since)
        self.curve.append(row if score is None else row | {"score": score})


def curve_path(checkpoint: Path) -> Path:
    """Where the curve of a training lies: `out`.curve.csv for `out`.checkpoint.safetensors."""
    stem = checkpoint.name.removesuffix(".safetensors").removesuffix(".checkpoint")
    return checkpoint.with_name(f"{stem}.curve.csv")


def write_curve(path: Path, progress: Progress) -> None:
    """The curve as CSV, whole or not at all: step, seconds, loss, loss/term …, score."""
    columns = ["step", "seconds", "loss", *(f"loss/{k}" for k in progress.terms), "score"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(progress.curve)
    write_bytes(path, text.getvalue().encode())


def read_curve(path: str | Path) -> list[dict[str, float]]:
    """The rows that `write_curve` wrote."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: int(v) if k == "step" else float(v) for k, v in row.items() if v} for row in rows]


class TensorBoard:
    """A callback that writes loss, its terms and validation scores for TensorBoard.

    folder : of the event files; a training that goes on continues there
    """

    def __init__(self, folder: str | Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard is not installed: pip install 'hybrid-recon[train]', or train without a log"
            ) from error
        self.folder, self._make, self._told = str(folder), SummaryWriter, 0
        self._writer: Any = None

    def __call__(self, progress: Progress) -> None:
        """Write what the last step brought."""
        if self._writer is None:
            # steps of a session that was killed after its last checkpoint are done again
            self._writer = self._make(self.folder, purge_step=progress.step)
            self._told = len([step for step, _ in progress.scores if step < progress.step])
        self._writer.add_scalar("loss", progress.losses[-1], progress.step)
        for name, values in progress.terms.items():
            self._writer.add_scalar(f"loss/{name}", values[-1], progress.step)
        self._scores(progress)

    def close(self, progress: Progress | None = None) -> None:
        """Write the last score, and end the file."""
        if self._writer is not None:
            if progress is not None:
                self._scores(progress)
            self._writer.close()

    def _scores(self, progress: Progress) -> None:
        for step, score in progress.scores[self._told :]:
            self._writer.add_scalar("validation", score, step)
        self._told = len(progress.scores)
