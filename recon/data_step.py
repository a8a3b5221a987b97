"""The data's half of a splitting: an image near another that explains the data."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from operators import Fourier, Gaussian, LinearOperator, Sense
from operators.tensors import norm, spread
from priors import Functional, SquaredL2
from priors.base import Composed, Step

from .problem import Problem
from .solvers import cg, run
from .solvers.splitting import one_weight
from .variational.base import is_gaussian, quadratic, start


class DataProx(Functional):
    """d(A x), Gaussian, with prox(v, t) = (t A*WA + 1)⁻¹ (t A*W y + v).

    By conjugate gradients on A*A (with the form of its own that A may have), or, for `Sense` of one coil
    whose samples weigh the same, in closed form by two Fourier transforms.

    d           a Gaussian likelihood of problem
    iterations  of CG at most
    tolerance   its relative residual; None: near rounding, for what is left of it adds up over a splitting
    """

    def __init__(self, problem: Problem, d: Functional, iterations: int = 10, tolerance: float | None = None):
        super().__init__()
        if not is_gaussian(d):
            raise ValueError(
                f"data step: expected a Gaussian likelihood, 'unweighted' or 'weighted', got {d!r}"
            )
        self.q = quadratic(d, problem)
        self.ndim, self.iterations = len(problem.A.in_shape), iterations
        double = problem.linear.real.dtype == torch.float64
        self.tolerance = (1e-11 if double else 1e-6) if tolerance is None else tolerance
        f, A = cast(SquaredL2, self.q.f), problem.A
        self.alone = one_weight(f, len(A.out_shape), self.ndim)
        self.gram: LinearOperator | None = None if self.alone is None else A.gram
        self.back = -A.adjoint(f.grad(torch.zeros_like(problem.linear)))
        self.coil = A if isinstance(A, Sense) and A.maps is None and self.alone is not None else None

    def forward(self, x: Tensor) -> Tensor:
        return self.q(x)

    def grad(self, x: Tensor) -> Tensor:
        return self.q.grad(x)

    def prox(self, x: Tensor, step: Step) -> Tensor:
        return self.near(x, torch.as_tensor(1 / step, dtype=x.real.dtype, device=x.device), x)

    def near(self, v: Tensor, rho: Tensor, x: Tensor) -> Tensor:
        """argmin d(A x) + ρ/2‖x − v‖², CG from x; ρ one number or one per image."""
        r = torch.as_tensor(spread(rho, self.ndim))
        b = self.back + r * v
        # at ρ = 0 the data alone decide in closed form, and say nothing of what they did not sample
        if self.coil is not None and bool((r > 0).all()):
            F = Fourier(self.coil.in_shape, self.coil.ndim)
            assert self.alone is not None
            power = self.coil.mask.to(v.real).square()
            return F.adjoint(F(b) / (self.alone * power + r))
        return run(cg(lambda z: self._bend(z) + r * z, b, x, self.ndim), self.iterations, self.tolerance)

    def _bend(self, x: Tensor) -> Tensor:
        if self.gram is not None:
            assert self.alone is not None
            return self.alone * self.gram(x)
        f = cast(SquaredL2, self.q.f)
        return self.q.A.adjoint(f.weight * self.q.A(x))

    def __repr__(self) -> str:
        return f"DataProx({cast(Composed, self.q)!r})"


def noise_in_start(problem: Problem) -> Tensor:
    """σ of every real number of the noise in `start(problem)`, per image: that of one draw of pure noise."""
    n, variance = len(problem.A.in_shape), problem.variance
    generator = torch.Generator().manual_seed(0)
    complex_data = problem.linear.is_complex()
    kind = torch.complex128 if complex_data else torch.float64
    e = torch.randn(problem.A.out_shape, generator=generator, dtype=kind).to(problem.linear)
    e = e * torch.where(variance.isfinite(), variance, 0).sqrt()
    pure = start(Problem(problem.A, e, Gaussian(sigma=1.0, data_ndim=len(problem.A.out_shape))))
    numbers = math.prod(problem.A.in_shape) * (2 if pure.is_complex() else 1)
    return norm(pure, n) / math.sqrt(numbers)


def peak(x: Tensor, ndim: int) -> Tensor:
    """Size of images: the 99th percentile of |x|, per image; 1 for an image of zeros."""
    flat = x.abs().flatten(x.ndim - ndim)
    count = flat.shape[-1]
    value = flat.kthvalue(max(1, math.ceil(0.99 * count)), -1).values
    value = torch.where(value > 0, value, flat.amax(-1))
    return torch.where(value > 0, value, 1.0)
