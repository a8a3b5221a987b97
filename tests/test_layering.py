"""Imports only run downwards, operators ← priors ← recon, and are relative inside a package."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {"operators": set(), "priors": {"operators"}, "recon": {"operators", "priors"}}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def violations(path: Path, text: str) -> list[str]:
    package, *inner = path.parts
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.ImportFrom):
            if node.level > len(inner):
                found.append(f"line {node.lineno}: relative import out of the package")
            continue
        else:
            continue
        for name in names:
            top = name.split(".")[0]
            if top == package:
                found.append(f"line {node.lineno}: imports {name} from inside {package}; write it relative")
            elif top in MAY_IMPORT and top not in MAY_IMPORT[package]:
                found.append(f"line {node.lineno}: {package} must not import {top}")
            elif top in ("tests", "examples", "benchmarks"):
                found.append(f"line {node.lineno}: a package must not import {top}")
    return found


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_run_downwards(path):
    assert violations(path.relative_to(ROOT), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_all_packages_were_found():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(MAY_IMPORT)
    assert all((ROOT / package / "py.typed").exists() for package in MAY_IMPORT)


@pytest.mark.parametrize("folder", ["tests", "examples", "benchmarks"])
def test_folders_that_are_not_packages(folder):
    """An editable install puts the root on sys.path, where a package `tests` would hide other people's."""
    assert list((ROOT / folder).rglob("__init__.py")) == []


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("operators/a.py", "from priors import TV", "operators must not import priors"),
        ("operators/a.py", "def f():\n    import recon.solvers", "operators must not import recon"),
        ("priors/a.py", "if TYPE_CHECKING:\n    from recon import Problem", "priors must not import recon"),
        ("recon/b/a.py", "from recon.base import Reconstructor", "write it relative"),
        ("recon/b/a.py", "from ...operators import XRay", "out of the package"),
        ("recon/a.py", "import tests.helpers", "must not import tests"),
    ],
)
def test_a_violation_is_seen(path, text, words):
    assert words in violations(Path(path), text)[0]


def test_what_is_allowed_is_allowed():
    text = (
        "import torch\nfrom operators import XRay\nfrom priors.tv import TV\nfrom ..base import Reconstructor"
    )
    assert violations(Path("recon/b/a.py"), text) == []
