"""Linear systems inside a network: solved by conjugate gradients, differentiated without their iterations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from operators import LinearOperator
from operators.tensors import inner, spread

from ..solvers import cg, run


def cg_solve(
    gram: LinearOperator, b: Tensor, weight: Tensor, iterations: int = 10, tolerance: float = 1e-6
) -> Tensor:
    """x = (G + λ I)⁻¹ b, G self-adjoint and non-negative: conjugate gradients, with an implicit gradient.

    Aggarwal, Mani, Jacob, IEEE Trans. Med. Imaging 38 (2019), eq. 13: u = (G + λ I)⁻¹ ∂L/∂x is the gradient
    with respect to b, and −Re⟨u, x⟩ with respect to λ. Memory does not grow with the iterations, and both are
    as exact as the two solutions are; second derivatives work the same way. Every image by itself.

    Parameters
    ----------
    gram : G, as A.gram; must not itself be learned (its gradient is not propagated)
    b : (n, *gram.in_shape), real or complex
    weight : λ > 0, a number of shape () or one per image, (n,)
    iterations, tolerance : of both solutions; they end at ‖r‖ ≤ tolerance·‖b‖
    """
    if any(t.requires_grad for t in (*gram.parameters(), *gram.buffers())):
        raise ValueError("cg_solve gram: it is learned, and its gradient would be lost; unroll `cg` instead")
    return _Solve.apply(b, weight, gram, iterations, tolerance)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(b: Tensor, weight: Tensor, gram: LinearOperator, iterations: int, tolerance: float) -> Tensor:
        n = len(gram.in_shape)

        def apply(x: Tensor) -> Tensor:
            return gram(x) + spread(weight, n) * x

        return run(cg(apply, b, torch.zeros_like(b), n), iterations, tolerance)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, weight, *ctx.settings = inputs
        ctx.save_for_backward(weight, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        weight, x = ctx.saved_tensors
        gram, iterations, tolerance = ctx.settings
        u = _Solve.apply(grad, weight, gram, iterations, tolerance)
        slope = -inner(u, x, len(gram.in_shape))
        return u, slope if weight.ndim else slope.sum(), None, None, None


def fixed_point(
    step: Any, x: Tensor, iterations: int = 50, tolerance: float = 1e-4, memory: int = 5, damping: float = 1.0
) -> tuple[Tensor, Tensor]:
    """x = step(x), by Anderson acceleration, every image by itself: (x, relative residual).

    Walker and Ni, SIAM J. Numer. Anal. 49 (2011); Bai, Kolter, Koltun, NeurIPS 2019. The next iterate is the
    mixture of the last `memory` ones whose residuals cancel best. Without convergence the iterate of the
    smallest residual comes back, with that residual: nothing is assumed.

    step : (n, *shape) -> (n, *shape), real or complex
    tolerance : on ‖step(x) − x‖ / ‖step(x)‖, for every image
    damping : part of step(x) in the mixture, the rest is x
    """
    shape, count = x.shape, len(x)
    images: list[Tensor] = []
    steps: list[Tensor] = []
    best, best_residual = x, torch.full((count,), math.inf, dtype=x.real.dtype, device=x.device)
    for _ in range(iterations):
        f = step(x)
        a, b = _vector(x), _vector(f)
        residual = (b - a).norm(dim=1) / b.norm(dim=1).clamp_min(torch.finfo(b.dtype).tiny)
        # an image that stands still stays, whatever the others do
        better = (residual < best_residual) & (best_residual > tolerance)
        keep = spread(better, x.ndim - 1)
        best = torch.where(torch.as_tensor(keep), f, best)
        best_residual = torch.where(better, residual, best_residual)
        if bool((best_residual <= tolerance).all()):
            break
        images, steps = [*images, a][-memory:], [*steps, b][-memory:]
        mixed = _mixture(images, steps, damping)
        x = torch.view_as_complex(mixed.reshape(*shape, 2)) if x.is_complex() else mixed.reshape(shape)
    return best, best_residual


def _vector(x: Tensor) -> Tensor:
    return (torch.view_as_real(x) if x.is_complex() else x).flatten(1)


def _mixture(images: list[Tensor], steps: list[Tensor], damping: float) -> Tensor:
    """Σ αₖ(β fₖ + (1 − β) xₖ), Σ αₖ = 1, of the smallest ‖Σ αₖ(fₖ − xₖ)‖; per image."""
    a, b = torch.stack(images, 1), torch.stack(steps, 1)
    r = b - a
    gram = r @ r.mT
    size = gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(r.dtype).tiny)
    ridge = 1e-8 if r.dtype == torch.float64 else 1e-5
    gram = gram / size[:, None, None] + ridge * torch.eye(len(images), dtype=r.dtype, device=r.device)
    alpha = torch.linalg.solve(gram, torch.ones_like(gram[..., :1]))
    alpha = (alpha / alpha.sum(1, keepdim=True)).mT
    return (damping * (alpha @ b) + (1 - damping) * (alpha @ a)).squeeze(1)
