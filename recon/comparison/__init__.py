"""Every method on every problem: tasks, methods, runner, tuning, statistics, report."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .method import Choice as Choice
    from .method import Integer as Integer
    from .method import Linear as Linear
    from .method import Log as Log
    from .method import Method as Method
    from .report import write_report as write_report
    from .report import write_tables as write_tables
    from .runner import Run as Run
    from .runner import compare as compare
    from .side_by_side import table as table
    from .task import Task as Task
    from .task import Window as Window
    from .task import problem as problem
    from .tuning import tune as tune

_EXPORTS = {
    "Choice": "method",
    "Integer": "method",
    "Linear": "method",
    "Log": "method",
    "Method": "method",
    "Run": "runner",
    "Task": "task",
    "Window": "task",
    "compare": "runner",
    "problem": "task",
    "table": "side_by_side",
    "tune": "tuning",
    "write_report": "report",
    "write_tables": "report",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
