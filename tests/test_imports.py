"""Importing the three packages is cheap, and says so when somebody else's file hides one of them."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "numba",
    "numpy",
    "scipy",
    "pydicom",
    "matplotlib",
    "astra",
    "odl",
    "deepinv",
    "jinja2",
    "click",
)


def python(*arguments, cwd=None):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_importing_loads_nothing_heavy():
    code = "import operators, priors, recon, sys, json; print(json.dumps(list(sys.modules)))"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)).isdisjoint(HEAVY)


def test_importing_costs_less_than_a_second():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert python("-c", "import operators, priors, recon").returncode == 0
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1


@pytest.mark.parametrize(
    "package",
    ["operators", "operators.interop", "priors", "priors.interop", "recon", "recon.metrics", "recon.data"],
)
def test_every_exported_name_is_there(package):
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'"):
        module.nothing


@pytest.mark.parametrize("name", ["operators", "priors"])
def test_a_file_that_hides_a_package_is_named(tmp_path, name):
    foreign = tmp_path / f"{name}.py"
    foreign.write_text("x = 1\n")
    script = tmp_path / "script.py"
    script.write_text("import recon\n")
    done = python(str(script), cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError") and str(foreign) in last
    assert "rename yours, or run `python -P`" in last


def test_python_minus_p_cures_it(tmp_path):
    (tmp_path / "operators.py").write_text("x = 1\n")
    script = tmp_path / "script.py"
    script.write_text("import recon, operators\nassert operators.Gradient((3, 3)).norm() > 0\n")
    done = python("-P", str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_foreign_module_already_imported_is_named(tmp_path):
    (tmp_path / "operators.py").write_text("x = 1\n")
    script = tmp_path / "script.py"
    script.write_text("import operators\nimport recon\n")
    done = python(str(script), cwd=tmp_path)
    assert done.returncode == 1 and str(tmp_path / "operators.py") in done.stderr.splitlines()[-1]
