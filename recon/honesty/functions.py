"""Images as a differentiable function of the data, for learned and for variational methods."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from operators import Gaussian
from operators.tensors import real_dtype

from ..fidelity import LIKELIHOODS
from ..problem import Problem
from ..solvers import run
from ..variational.base import Variational

DataMap = Callable[[Tensor], Tensor]


def as_function(method: Callable[[Problem], Tensor], problem: Problem) -> DataMap:
    """y -> method(y), which autograd can go through if the method allows it.

    A variational method is its solver, unrolled, with the λ that it chooses for the data of `problem`: what
    is attacked is the solution, not the choice of λ. Data are those of `problem` otherwise.

    Raises ValueError where raw data are not in the range of A (counts): see `linearised`.
    """
    check_linear(problem)
    if not isinstance(method, Variational):
        return lambda y: method(Problem(problem.A, y, problem.noise))
    weight = method.weight
    if not isinstance(weight, int | float | Tensor):
        weight = method.solve(problem).weight

    def solved(y: Tensor) -> Tensor:
        given = Problem(problem.A, y, problem.noise)
        d, x = LIKELIHOODS[method.likelihood](given), method.initial(given)
        weights = torch.as_tensor(weight, dtype=real_dtype(x), device=x.device).expand(given.batch)
        return run(method.iterates(given, d, weights, x), method.iterations, method.tolerance)

    return solved


def differentiable(f: DataMap, y: Tensor) -> bool:
    """Whether autograd goes through f."""
    with torch.enable_grad():
        return bool(f(y.detach().clone().requires_grad_(True)).requires_grad)


def linearised(problem: Problem) -> Problem:
    """The same problem with data in the range of A (CT: post-log) and Gaussian noise of their mean variance.

    Weights per ray are lost with that.
    """
    ndim = len(problem.A.out_shape)
    variance = problem.variance.flatten(problem.y.ndim - ndim)
    measured = torch.isfinite(variance)
    mean = variance.where(measured, 0.0).sum(-1) / measured.sum(-1)
    sigma = mean.sqrt()
    noise = Gaussian(sigma=sigma if sigma.ndim else float(sigma), data_ndim=ndim)
    return Problem(problem.A, problem.linear, noise)


def check_linear(problem: Problem) -> None:
    """Raise ValueError unless data plus a perturbation are data again."""
    if not torch.equal(problem.linear, problem.y):
        raise ValueError(
            f"data of {problem.noise!r} are not in the range of A, so A r cannot be added to them: attack "
            "recon.honesty.linearised(problem)"
        )
