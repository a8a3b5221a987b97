"""A tiny problem and tiny methods, written as files, as a user would."""

from pathlib import Path

import pytest

PROBLEM = '''
"""Blobs on 12 × 16 pixels, seen through noise."""
import torch
from operators import Gaussian, Identity
from recon import Problem
from recon.comparison import Task, Window

A, NOISE = Identity((12, 16)), Gaussian(sigma=0.1)
IMAGES = {"test": TEST, "validation": 3}


def pairs(split):
    for k in range(IMAGES[split]):
        generator = torch.Generator().manual_seed(k % DISTINCT + 1000 * (split == "test"))
        x = torch.rand(A.in_shape, generator=generator)
        yield Problem(A, NOISE(x, seed=k), NOISE), x


def task():
    return Task(
        name="blobs", title="Blobs", pairs=pairs, metrics=("psnr_db", "ssim"), data_range=1.0,
        windows=(Window("full", 0, 1),), configuration={"A": A, "noise": NOISE, "images": IMAGES},
        methods=("damp", "copy"), counts={"slow": 2}, notes={"dose": "none"},
    )
'''

METHODS = '''
"""Methods that work, fail, break and take their time."""
import time
import torch
from recon import Reconstructor
from recon.comparison import Choice, Integer, Linear, Log, Method


class Damp(Reconstructor):
    """x = s y."""
    def __init__(self, scale=1.0, power=1, kind="plain"):
        super().__init__()
        self.scale, self.power, self.kind = scale, power, kind
    def forward(self, problem):
        return self.scale * problem.A.adjoint(problem.y)


class Fails(Reconstructor):
    def forward(self, problem):
        raise RuntimeError("no luck\\nat all")


class NotANumber(Reconstructor):
    def forward(self, problem):
        return problem.y * float("nan")


class WrongShape(Reconstructor):
    def forward(self, problem):
        return problem.y[1:]


class Slow(Reconstructor):
    def __init__(self, seconds=0.25):
        super().__init__()
        self.seconds = seconds
    def forward(self, problem):
        time.sleep(self.seconds)
        return problem.A(problem.y) / 2


class Learns(Reconstructor):
    data_kind = "paired"
    def forward(self, problem):
        return problem.y


METHODS = {
    "damp": Method(Damp, space={"scale": Log(1e-3, 1e-2)}),
    "copy": Method(Damp, fixed={"scale": 1.0}),
    "two": Method(Damp, space={"scale": Linear(0.1, 0.4), "kind": Choice("plain", "other")}),
    "fails": Method(Fails),
    "nan": Method(NotANumber),
    "shape": Method(WrongShape),
    "slow": Method(Slow),
    "learns": Method(Learns),
}
'''


@pytest.fixture
def write_problem(tmp_path: Path):
    def write(test: int = 6, distinct: int = 6, noise: float = 0.1) -> Path:
        text = PROBLEM.replace("TEST,", f"{test},").replace("DISTINCT", str(distinct))
        path = tmp_path / f"blobs_{test}_{distinct}_{str(noise).replace('.', '_')}.py"
        path.write_text(text.replace("sigma=0.1", f"sigma={noise}"))
        return path

    return write


@pytest.fixture
def problem_file(write_problem) -> Path:
    return write_problem()


@pytest.fixture
def method_file(tmp_path: Path) -> Path:
    path = tmp_path / "fakes.py"
    path.write_text(METHODS)
    return path
