"""Files that are whole or not there: written beside, then moved."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path to write to; moved onto `path` in one step if the block ends well, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


def write_text(path: Path, text: str) -> None:
    """Text, in UTF-8."""
    with replaced(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """JSON, indented; NaN is an error."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_image(path: Path, image: NDArray[Any]) -> None:
    """One array, compressed, without pickles."""
    with replaced(path) as beside:
        np.savez_compressed(beside, image=image)


def read_image(path: Path) -> NDArray[Any]:
    """What `write_image` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        return archive["image"]


def check_writable(folder: Path) -> None:
    """ValueError unless files can be made in `folder` (made if missing)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"cannot write to the output folder {folder}: {error.strerror or error}; choose another"
        ) from error
