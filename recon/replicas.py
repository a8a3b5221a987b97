"""Noise of an image, pixel by pixel, from replicas of its data."""

from __future__ import annotations

import torch
from torch import Tensor

from operators import Gaussian

from .base import Reconstructor
from .problem import Problem


@torch.no_grad()
def pseudo_replica(method: Reconstructor, problem: Problem, replicas: int = 64, seed: int = 0) -> Tensor:
    """σ(r) = (Σ_k |x_k(r) − x̄(r)|² / (K − 1))^½, x_k = method(y + n_k), n_k new noise of the problem's law.

    Robson et al., Magn. Reson. Med. 60 (2008). For any method; exact in the mean for linear ones, and for
    others the noise around this y. The relative error of σ is (4 K)^−½ for complex images, (2 K)^−½ for real.
    The g-factor is σ over that of the fully sampled problem, over √R.

    replicas  K ≥ 2
    seed      of the noise; replica k uses seed + k

    Returns (*batch, *A.in_shape), real. Raises ValueError for noise that is not `Gaussian` with known σ.
    """
    if replicas < 2:
        raise ValueError(f"pseudo_replica replicas: expected at least 2, got {replicas}")
    if not isinstance(problem.noise, Gaussian) or problem.noise.sigma is None:
        raise ValueError(
            f"pseudo_replica problem: expected Gaussian noise of known sigma, got {problem.noise!r}"
        )
    mean: Tensor | None = None
    squares = torch.zeros(())
    for k in range(replicas):
        x = method(Problem(problem.A, problem.noise(problem.y, seed=seed + k), problem.noise))
        if mean is None:
            mean, squares = x, torch.zeros_like(x.abs())
            continue
        step = x - mean
        mean = mean + step / (k + 1)
        squares = squares + step.abs().square() * (k / (k + 1))
    return (squares / (replicas - 1)).sqrt()
