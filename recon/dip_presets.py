"""What the papers on the deep image prior used, as keywords of ours, and their weight in our terms."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .fidelity import unweighted
from .problem import Problem
from .variational.base import spacing

_BAGUER: dict[str, Any] = {
    "network": "hourglass",
    "channels": (128,) * 5,
    "skips": (0,) * 4,
    "z": "noise",
    "objective": "mean-square",
    "tv": "anisotropic",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "clip": 1.0,
    "bounds": (0.0, 1.0),
    "seed": 10,
}

PRESETS: dict[str, dict[str, Any]] = {
    "ulyanov": {
        "network": "hourglass",
        "channels": (128,) * 5,
        "skips": (4,) * 4,
        "padding": "reflect",
        "z": "uniform",
        "z_channels": 32,
        "objective": "mean-square",
        "weight": 0.0,
        "iterations": 3000,
        "learning_rate": 1e-2,
        "schedule": "constant",
        "clip": None,
        "jitter": 1 / 30,
        "smooth": 0.99,
        "backtrack": True,
        "bounds": (0.0, 1.0),
    },
    "baguer": {**_BAGUER, "weight": 10**-3.5, "iterations": 10_000},
    "baguer-bare": {**_BAGUER, "weight": 0.0, "iterations": 5000},
    "baguer-start": {
        **_BAGUER,
        "weight": 10**-3.5,
        "iterations": 1000,
        "learning_rate": 1e-5,
        "amsgrad": True,
        "start_iterations": 5000,
        "start_tolerance": 0.0,
        "seed": 1,
    },
}
"""ulyanov       denoising as in CVPR 2018: jittered noise in, averaged images out, backtracking
baguer        DIP + TV of Inverse Problems 36 (2020) on its ellipses; baguer-bare: their DIP without TV
baguer-start  their DIP + TV from an initial reconstruction (the `start` that is to be given), as for learned
              primal–dual trained on 32 images

Images are in [0, 1] in all of them: give `bounds` for others, or None.
"""


def likelihood_weight(gamma: float, problem: Problem) -> Tensor:
    """λ = γ m / (2 σ² h^(n−1)), per image: γ of "mean-square" is this λ of the objective "likelihood".

    mean (A x − y)² + γ Σ |∂x|, times m/(2σ²), is ½ ‖(A x − y)/σ‖² + λ ∫ |∂x|; h the pixel [mm], n dimensions.

    gamma : of the sum of absolute differences of neighbouring pixels, against the mean square over m data
    """
    d = unweighted(problem)
    weight = torch.as_tensor(d.weight).expand(problem.linear.shape).flatten(-len(problem.A.out_shape))  # type: ignore[arg-type]
    sides = spacing(problem)
    if not all(math.isclose(h, sides[0]) for h in sides):
        raise ValueError(f"likelihood_weight: expected pixels of equal sides, got {sides}")
    m = (weight > 0).sum(-1).to(weight.dtype)
    # of complex data σ² is that of both parts, which `unweighted` halves
    return gamma * m * weight.amax(-1) / 2 / sides[0] ** (len(sides) - 1)
