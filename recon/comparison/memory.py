"""Peak memory of one call, in a process of its own: `python -m recon.comparison.memory REQUEST`.

The peak is VmHWM where Linux gives it: `ru_maxrss` of a child never lies below the size of its parent.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ..problem import Problem
from .calls import reason
from .method import load_methods
from .runner import Run
from .task import problem as load_task

TIMEOUT = 600.0
AT_ONCE = 2  # processes; memory, unlike time, does not depend on the neighbour

Peak = float | str


def peaks(
    runs: Sequence[Run],
    problem: Problem,
    task_spec: str,
    method_specs: Sequence[str],
    folder: Path,
    scans: Path | None = None,
) -> Iterator[tuple[Run, Peak]]:
    """Peak of a process that builds the method and calls it once, minus one that only has the problem [MiB].

    All runs are of one task. A peak that cannot be measured is a reason in words.
    """
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(AT_ONCE) as pool:
        data = Path(temporary) / "problem.pickle"
        try:
            data.write_bytes(pickle.dumps(problem))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            yield from ((run, reason(error)) for run in runs)
            return
        request = {
            "task": task_spec,
            "methods": list(method_specs),
            "problem": str(data),
            "folder": str(folder),
            "scans": None if scans is None else str(scans),
        }
        request["threads"] = torch.get_num_threads()  # type: ignore[assignment]
        empty = pool.submit(_measure, request)
        waiting = [(run, pool.submit(_measure, request | _asked(run))) for run in runs]
        for run, future in waiting:
            base, peak = empty.result(), future.result()
            words = next((value for value in (base, peak) if isinstance(value, str)), None)
            yield run, words or round(max(0.0, float(peak) - float(base)), 1)


def _asked(run: Run) -> dict[str, Any]:
    weights = None if run.weights is None else str(run.weights)
    return {
        "name": run.name,
        "parameters": dict(run.parameters),
        "weights": weights,
        "minutes": run.minutes,
    }


def _measure(request: dict[str, Any]) -> Peak:
    """The child's peak in MiB, or why there is none."""
    command = [sys.executable, "-m", "recon.comparison.memory", json.dumps(request)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, cwd=Path.cwd(), env=_environment()
        )
    except (OSError, subprocess.SubprocessError) as error:
        return reason(error)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
    return float(done.stdout)


def _environment() -> dict[str, str]:
    """The child must find the same packages, installed or not."""
    import os

    root = str(Path(__file__).parents[2])
    path = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


def _child(request: dict[str, Any]) -> float:
    torch.set_num_threads(request["threads"])
    scans = request["scans"] and Path(request["scans"])
    task = load_task(request["task"], scans)  # before unpickling: the problem may use classes of its file
    methods = load_methods(request["methods"])
    problem = pickle.loads(Path(request["problem"]).read_bytes())
    if "name" in request:
        name = request["name"]
        weights = request["weights"] and Path(request["weights"])
        chosen = {"weights": weights, "minutes": request["minutes"]}
        run = Run(task, name, methods[name], request["parameters"], **chosen)
        run.prepared(Path(request["folder"]))[0](problem)
    return _high_water()


def _high_water() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 2**20 if sys.platform == "darwin" else size / 1024


if __name__ == "__main__":
    sys.stdout.write(str(_child(json.loads(sys.argv[1]))))
