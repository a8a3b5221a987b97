"""The scanner that a method has learned for, and how another one is told from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from operators import LinearOperator

from .checkpoints import digest, fingerprint
from .problem import Problem
from .train_config import within


@dataclass(frozen=True)
class TrainedFor:
    """The scanner and scale a method has learned; part of its card.

    in_shape, out_shape : of the operator
    operator, hash : its geometry in words (else the operator), and their fingerprint
    norm : ‖A‖, by which operator and data are divided
    image_scale : size of an image [its unit], by which images and data are divided
    complex : whether images and data are
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    operator: str
    hash: str
    norm: float
    image_scale: float
    complex: bool = False

    def __post_init__(self) -> None:
        for name in ("in_shape", "out_shape"):
            shape = getattr(self, name)
            if not isinstance(shape, tuple) or not shape:
                raise ValueError(f"TrainedFor {name}: expected a shape, got {shape!r}")
            for n in shape:
                within(f"TrainedFor {name}", n, 1, 10**6)
        for name in ("norm", "image_scale"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise ValueError(f"TrainedFor {name}: expected a positive number, got {value!r}")
        if not isinstance(self.operator, str) or not isinstance(self.hash, str):
            raise ValueError("TrainedFor operator, hash: expected text")
        if not isinstance(self.complex, bool):
            raise ValueError(f"TrainedFor complex: expected true or false, got {self.complex!r}")


def scanner_of(problem: Problem, images: Tensor) -> TrainedFor:
    """The scanner of a first batch, and the size of its images."""
    A = problem.A
    told = words(A)
    scale = float(images.flatten(1).abs().amax(1).mean())
    if not scale > 0:
        raise ValueError("fit data: the training images are zero everywhere")
    is_complex = images.is_complex() or problem.linear.is_complex()
    return TrainedFor(A.in_shape, A.out_shape, told, fingerprint(told), A.norm(), scale, is_complex)


def words(A: LinearOperator) -> str:
    """The geometry, or else the operator and the trajectories in it."""
    told = repr(getattr(A, "geometry", A))
    paths = [p for m in A.modules() if isinstance(p := getattr(m, "trajectory", None), Tensor)]
    return f"{told}, trajectory {digest({str(i): k for i, k in enumerate(paths)})}" if paths else told
