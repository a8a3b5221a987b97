"""Problems and methods are files in a folder: found by scanning it, or named by a path."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def python_files(folder: Path) -> list[Path]:
    """The files of a folder that hold a problem or methods; those with a leading _ are left alone."""
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def load_module(path: Path) -> ModuleType:
    """Run a file as a module of its own, once; importable again by `pickle` under the same name."""
    package = Path(__file__).parent
    if path.parent.parent == package:
        return importlib.import_module(f"{__package__}.{path.parent.name}.{path.stem}")
    path = path.resolve()
    name = f"recon_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def is_path(name: str) -> bool:
    """Whether a name on the command line means a file."""
    return name.endswith(".py") or "/" in name


def existing_file(kind: str, name: str) -> Path:
    """The file, or ValueError."""
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"{kind} {name}: there is no such file")
    return path


def check_name(kind: str, name: str) -> str:
    """The name, or ValueError if it could not be typed as one."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{kind} name {name!r}: expected lower-case letters, digits and single hyphens, as in 'my-{kind}'"
        )
    return name


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """An error that suggests the nearest name."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}, or a path to a .py file"
    return ValueError(f"no {kind} {name!r}: {hint}")
