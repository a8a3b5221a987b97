"""What a run was: plain descriptions of objects, their hash, the versions and the machine."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PACKAGES = ("hybrid-recon", "torch", "numpy", "scipy", "numba", "astra-toolbox", "pydicom")


def describe(value: Any) -> Any:
    """`value` as JSON: dataclasses and modules by name and settings, tensors by shape and digest."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, Tensor | np.ndarray):
        return {"shape": list(value.shape), "sha256": digest(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, nn.Module):
        state = {
            k: v for k, v in vars(value).items() if not k.startswith("_") and k not in ("training", "calls")
        }
        buffers = {k: v for k, v in value._buffers.items() if v is not None}
        parts = {**state, **buffers, **value._parameters, **value._modules}
        return {"is": type(value).__name__, **{k: describe(parts[k]) for k in sorted(parts)}}
    return getattr(value, "__qualname__", None) or repr(value)


def fingerprint(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the description of `value`."""
    text = json.dumps(describe(value), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(array: Tensor | np.ndarray) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the values."""
    values = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def source_digest(*things: Any) -> str:
    """Digest of the files in which `things` are written, so that an edited method is computed anew."""
    paths = set()
    for thing in things:
        try:
            path = thing if isinstance(thing, Path) else Path(inspect.getsourcefile(thing) or "")
        except TypeError:
            continue
        if path.is_file():
            paths.add(path)
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:16]


def environment() -> dict[str, Any]:
    """Versions, machine and threads."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "commit": _commit(),
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "torch threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        },
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
