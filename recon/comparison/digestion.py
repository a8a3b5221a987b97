"""What lies in a results folder, read back and summarised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import read_image, read_json
from .rows import Row, RowStore
from .runner import image_path, truth_path
from .scores import better
from .statistics import Difference, Summary, difference, summarise


@dataclass(frozen=True)
class Results:
    """A results folder: every row, what is known of each problem, and of each method on it."""

    folder: Path
    rows: list[Row]
    problems: dict[str, dict[str, Any]]
    groups: dict[tuple[str, str], dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Results:
        """ValueError unless `recon compare` wrote there."""
        rows = RowStore(folder).rows
        if not rows:
            raise ValueError(f"{folder}: no results here; expected a folder written by `recon compare --out`")
        found = [read_json(path) for path in sorted((folder / "problems").glob("*.json"))]
        order = list(dict.fromkeys(row.problem for row in rows))
        problems = {
            p["name"]: p for p in sorted(found, key=lambda p: order.index(p["name"])) if p["name"] in order
        }
        groups = {
            (group["problem"], group["method"]): group
            for group in (read_json(path) for path in sorted((folder / "groups").glob("*.json")))
        }
        seen = list(dict.fromkeys(row.method for row in rows))
        rows.sort(
            key=lambda row: (
                order.index(row.problem),
                _place(problems[row.problem]["methods"], seen, row.method),
                row.image,
            )
        )
        return cls(folder, rows, problems, groups)

    def of(self, problem: str, method: str | None = None) -> list[Row]:
        return [r for r in self.rows if r.problem == problem and method in (None, r.method)]

    def methods(self, problem: str) -> list[str]:
        return list(dict.fromkeys(row.method for row in self.of(problem)))

    def reference(self, problem: str) -> str:
        """The method others are compared to: the first one."""
        return self.methods(problem)[0]

    def summary(self, problem: str, method: str, metric: str) -> Summary:
        return summarise(self.of(problem, method), metric)

    def difference(self, problem: str, method: str, metric: str) -> Difference:
        return difference(self.of(problem, method), self.of(problem, self.reference(problem)), metric)

    def image(self, problem: str, method: str, image: int) -> NDArray[Any] | None:
        path = image_path(self.folder, problem, method, image)
        row = next((r for r in self.of(problem, method) if r.image == image and not r.failure), None)
        return read_image(path) if row and path.exists() else None

    def truth(self, problem: str, image: int) -> NDArray[Any]:
        digest = next(row.truth for row in self.of(problem) if row.image == image)
        return read_image(truth_path(self.folder, problem, digest))

    def costs(self, problem: str, method: str) -> dict[str, Any]:
        """Medians over the rows that came to an end, and the peak memory."""
        rows = [row for row in self.of(problem, method) if not row.failure]
        costs: dict[str, Any] = {}
        for name in ("seconds", "forward", "adjoint", "iterations"):
            values = [value for row in rows if (value := getattr(row, name)) is not None]
            costs[name] = median(values) if values else None
        costs["peak_mib"] = self.groups.get((problem, method), {}).get("peak_mib")
        return costs

    def shown(self, problem: str) -> list[tuple[str, int]]:
        """The median and the worst image, by the first metric averaged over methods, of those all have."""
        metric = self.problems[problem]["metrics"][0]
        tables = [
            {row.image: row.scores[metric] for row in self.of(problem, method) if metric in row.scores}
            for method in self.methods(problem)
        ]
        tables = [table for table in tables if table]
        if not tables:
            return []
        shared = set.intersection(*(set(table) for table in tables))
        if not shared:
            return []
        score = {
            image: np.mean([table[image] for table in tables]) * better(metric) for image in sorted(shared)
        }
        ranked = sorted(score, key=lambda image: (score[image], image))
        if len(ranked) == 1:
            return [("the only one all methods have", ranked[0])]
        middle, worst = ranked[len(ranked) // 2], ranked[0]
        noun = self.noun(problem)
        return [(f"the median {noun}", middle), (f"the worst {noun}", worst)]

    def noun(self, problem: str) -> str:
        """What one row is: an image, or a draw of noise on the only image."""
        return "draw" if len({row.truth for row in self.of(problem)}) == 1 else "image"

    def environments(self) -> list[dict[str, Any]]:
        """Machines and versions the rows come from; one, unless the folder was continued elsewhere."""
        found: list[dict[str, Any]] = []
        for group in self.groups.values():
            environment = group["environment"]
            if environment not in found:
                found.append(environment)
        return found


def summary_of(results: Results) -> dict[str, Any]:
    """Everything the tables of the report say, as JSON."""
    return {
        problem: {
            "hash": about["hash"],
            "images": about["images"],
            "methods": {
                method: {
                    "metrics": {
                        metric: {
                            **asdict(summary := results.summary(problem, method, metric)),
                            "note": summary.note,
                            f"difference_to_{results.reference(problem)}": asdict(
                                results.difference(problem, method, metric)
                            ),
                        }
                        for metric in about["metrics"]
                    },
                    **results.costs(problem, method),
                    "parameters": group.get("parameters", {}),
                    "parameters_from": group.get("parameters_from", ""),
                }
                for method in results.methods(problem)
                for group in [results.groups.get((problem, method), {})]
            },
        }
        for problem, about in results.problems.items()
    }


def _place(listed: Sequence[str], seen: Sequence[str], method: str) -> int:
    """The order in which a problem lists its methods, others after them as they came."""
    return listed.index(method) if method in listed else len(listed) + seen.index(method)
