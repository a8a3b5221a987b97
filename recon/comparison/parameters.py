"""Tuned parameters, in files that belong to one problem and say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .describe import describe, environment
from .discovery import is_path
from .files import read_json, write_json
from .method import Method
from .task import Task
from .tuning import Tuned

FOLDER = Path(__file__).parent / "parameters"


def parameter_file(spec: str, name: str | None = None) -> Path:
    """Of a built-in problem beside the package's own, of a problem in a file beside that file.

    name : of the task, where a folder of scans made it another one
    """
    if is_path(spec):
        path = Path(spec)
        return (
            path.with_suffix(".parameters.json")
            if name is None
            else path.with_name(f"{name}.parameters.json")
        )
    return FOLDER / f"{name or spec}.json"


class Parameters:
    """The tuned parameters of one problem: {"problem", "hash", "objective", "methods": {name: …}}."""

    def __init__(self, task: Task, path: Path):
        self.task, self.path = task, path
        self.methods: dict[str, Any] = {}
        if not path.exists():
            return
        content = read_json(path)
        self.stale = content.get("hash") != task.hash
        self.methods = content["methods"]

    stale = False

    def of(self, name: str, method: Method) -> tuple[dict[str, Any], str]:
        """Parameters to use and where they come from; ValueError if they were tuned for something else."""
        if not method.space:
            return {}, "nothing to tune"
        if name not in self.methods:
            return {}, "not tuned: the method's own defaults"
        entry = self.methods[name]
        if self.stale:
            raise ValueError(
                f"{self.path} was tuned for another version of problem {self.task.name} (its geometry, "
                "noise, images or scores changed since): run `recon compare --tune` to tune anew"
            )
        if entry["fixed"] != describe(method.fixed) or set(entry["parameters"]) != set(method.space):
            raise ValueError(
                f"{self.path}: {name} was tuned with other settings ({entry['fixed']}, searched "
                f"{', '.join(entry['parameters'])}): run `recon compare --tune --methods {name}`"
            )
        return dict(entry["parameters"]), f"tuned in {len(entry['trials'])} trials"

    def put(self, name: str, method: Method, tuned: Tuned, images: int, seed: int) -> None:
        """Store one method's result at once, so that a killed tuning keeps what it has."""
        if self.stale:
            self.methods, self.stale = {}, False
        machine = environment()
        self.methods[name] = {
            "space": describe(method.space),
            "fixed": describe(method.fixed),
            "images": images,
            "seed": seed,
            "versions": machine["versions"],
            "threads": machine["machine"]["torch threads"],
            **tuned.as_json(),
        }
        write_json(
            self.path,
            {
                "problem": self.task.name,
                "hash": self.task.hash,
                "objective": f"mean {self.task.metrics[0]} over the validation images",
                "methods": self.methods,
            },
        )
