"""One row per problem, method and image, on disk as soon as it is known."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import replaced, write_text

FIELDS = ("problem", "method", "image", "truth")
COSTS = ("seconds", "forward", "adjoint", "iterations")


@dataclass(frozen=True)
class Row:
    """What one method made of one image.

    image : index in the test split; truth : digest of the true image, so that draws of one image are seen
    scores : metric -> value; empty after a failure
    seconds : of one call; forward, adjoint : calls of A and A*; iterations, found : where the method
        says (chosen weight, objective, gap, residual)
    parameters : what was set, other than defaults; failure : why there is no image, or ""
    key : digest of problem, method and parameters: a row is reused only under the same one
    """

    problem: str
    method: str
    image: int
    truth: str
    scores: Mapping[str, float]
    parameters: Mapping[str, Any]
    key: str
    seconds: float | None = None
    forward: int | None = None
    adjoint: int | None = None
    iterations: int | None = None
    found: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""

    def flat(self, metrics: Sequence[str]) -> dict[str, Any]:
        """The row of a table: "" where there is nothing to say."""
        values: dict[str, Any] = {name: getattr(self, name) for name in (*FIELDS, *COSTS)}
        values |= {metric: self.scores.get(metric) for metric in metrics}
        values |= {name: json.dumps(getattr(self, name), sort_keys=True) for name in ("parameters", "found")}
        values["failure"] = self.failure
        return {name: "" if values[name] is None else values[name] for name in columns(metrics)}


def columns(metrics: Sequence[str]) -> list[str]:
    """Names of the columns of a table of rows."""
    return [*FIELDS, *metrics, *COSTS, "parameters", "found", "failure"]


def metrics_of(rows: Iterable[Row]) -> list[str]:
    """Every metric of the rows, in order of appearance."""
    return list(dict.fromkeys(metric for row in rows for metric in row.scores))


class RowStore:
    """`rows.jsonl`, appended to row by row; a half-written last line of a killed run is dropped."""

    def __init__(self, folder: Path):
        self.path = folder / "rows.jsonl"
        self.rows = self._read()

    def _read(self) -> list[Row]:
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(Row(**json.loads(line)))
            except (json.JSONDecodeError, TypeError):
                continue
        return rows

    def forget(self, problem: str) -> None:
        """Drop every row of a problem: it is another one now."""
        self.rows = [row for row in self.rows if row.problem != problem]
        write_text(self.path, "".join(_line(row) for row in self.rows))

    def keep(self, problem: str, method: str, key: str) -> dict[int, Row]:
        """Rows of this problem and method by image; those of another key, and failures, are forgotten."""
        ours = [row for row in self.rows if (row.problem, row.method) == (problem, method)]
        good = {row.image: row for row in ours if row.key == key and not row.failure}
        others = [row for row in self.rows if (row.problem, row.method) != (problem, method)]
        self.rows = [*others, *good.values()]
        if len(good) != len(ours) or self._broken():
            write_text(self.path, "".join(_line(row) for row in self.rows))
        return good

    def _broken(self) -> bool:
        return self.path.exists() and len(self.path.read_text(encoding="utf-8").splitlines()) != len(
            self.rows
        )

    def add(self, row: Row) -> None:
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())


def _line(row: Row) -> str:
    return json.dumps(dataclasses.asdict(row), ensure_ascii=False, allow_nan=False) + "\n"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line per row, with the union of their metrics."""
    metrics = metrics_of(rows)
    with replaced(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns(metrics))
        table.writeheader()
        table.writerows(row.flat(metrics) for row in rows)
